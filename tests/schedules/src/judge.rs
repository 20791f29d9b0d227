//! The judges: whether the answers of a history can be those of one process that made the calls one
//! after another, and whether a state after a power loss is one of its prefixes.
//!
//! The search is that of Wing and Gong (1993) with the memory of Lowe (2017).

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::model::{Answer, Contents, Elements, State, elements};
use crate::pairs::Kind;
use crate::program::Op;

/// A call that was made.
#[derive(Debug, Clone)]
pub struct Call {
    pub process: usize,
    pub kind: Kind,
    pub op: Op,
    /// When it was made and when it returned, in events of the history.
    pub begun: u64,
    pub ended: u64,
    /// The times that the clock showed meanwhile, and the latest one until then.
    pub times_ms: Vec<u64>,
    pub latest_ms: u64,
    /// `None` if it failed, or if its process was killed: then it may have taken effect or not.
    pub answer: Option<Answer>,
    /// Whether it must survive a power loss.
    pub is_durable: bool,
}

/// Contents that were read after a power loss.
pub struct Recovered {
    pub contents: Contents,
    pub now_ms: u64,
    pub latest_ms: u64,
}

/// How many states of one search are tried before it is given up. Nearly all need a few hundred.
const MAX_STATES: usize = 300_000;

/// How many of the calls that may have taken effect or not are taken, at first and later.
const UNSURE_TAKEN: [u32; 5] = [0, 1, 2, 4, 64];

/// How many searches were given up. Their histories count as right.
pub static GIVEN_UP: AtomicU64 = AtomicU64::new(0);

struct Search<'a> {
    calls: &'a [&'a Call],
    recovered: Option<&'a Recovered>,
    /// Whether any key may be evicted at any time.
    evicts: bool,
    seen: HashSet<(u64, State, bool)>,
    /// The calls that may have taken effect or not, and how many of them are taken.
    unsure: u64,
    unsure_taken: u32,
}

/// Returns whether the history is linearizable. With `recovered`: in such an order that these are
/// the contents after a prefix of it, and no durable call after the prefix changes anything.
pub fn is_linearizable(calls: &[Call], recovered: Option<&Recovered>, evicts: bool) -> bool {
    // Calls that read and change no key stand in every order.
    let calls: Vec<&Call> = calls.iter().filter(|call| call.op.has_keys()).collect();
    assert!(calls.len() <= 64, "the set of calls is a word");
    let numbered = calls.iter().enumerate();
    let unsure = numbered.filter(|(_, call)| call.answer.is_none());
    let mut search = Search {
        calls: &calls,
        recovered,
        evicts,
        seen: HashSet::new(),
        unsure: unsure.fold(0, |set, (number, _)| set | 1 << number),
        unsure_taken: 0,
    };
    for unsure_taken in UNSURE_TAKEN {
        search.unsure_taken = unsure_taken;
        search.seen.clear();
        if search.is_possible(0, &State::default(), false) {
            return true;
        }
        if search.seen.len() >= MAX_STATES {
            GIVEN_UP.fetch_add(1, Ordering::Relaxed);
            return true;
        }
        if unsure_taken >= search.unsure.count_ones() {
            break;
        }
    }
    false
}

impl Search<'_> {
    /// Whether the calls that are not in `done` can follow. `is_lost`: whether the power loss took
    /// what they change.
    fn is_possible(&mut self, done: u64, state: &State, is_lost: bool) -> bool {
        let takes_unsure = (done & self.unsure).count_ones() < self.unsure_taken;
        let out = done | if takes_unsure { 0 } else { self.unsure };
        let left = |number: &usize| out & (1 << number) == 0;
        let numbers: Vec<usize> = (0..self.calls.len()).filter(left).collect();
        let must = |number: &usize| self.calls[*number].answer.is_some();
        if (is_lost || self.recovered.is_none()) && !numbers.iter().any(must) {
            return true;
        }
        let is_seen =
            self.seen.len() >= MAX_STATES || !self.seen.insert((done, state.clone(), is_lost));
        if is_seen {
            return false;
        }
        if !is_lost && self.is_recovered(state) && self.is_possible(done, state, true) {
            return true;
        }
        // A call may be next if no other had returned before it was made.
        let first_end = numbers
            .iter()
            .filter(|number| must(number))
            .map(|number| self.calls[*number].ended)
            .min()
            .unwrap_or(u64::MAX);
        let next: Vec<usize> = numbers
            .into_iter()
            .filter(|number| self.calls[*number].begun <= first_end)
            .collect();
        // A call whose answer says that it changed nothing can come as soon as the answer is right:
        // in an order that has it later it can be moved to here.
        let harmless = next.iter().find(|number| self.is_harmless(**number, state));
        if let Some(number) = harmless {
            return self.is_possible(done | 1 << number, state, is_lost);
        }
        next.into_iter()
            .any(|number| self.can_be_next(number, done | 1 << number, state, is_lost))
    }

    fn is_harmless(&self, number: usize, state: &State) -> bool {
        let call = self.calls[number];
        let changes_nothing = match (&call.op, &call.answer) {
            (_, Some(Answer::Refused)) => return true,
            (_, None) => false,
            (op, Some(Answer::Bool(false))) => !matches!(op, Op::HSet(..)),
            (Op::HExpire(..), Some(answer)) => *answer == Answer::Expiry("Absent"),
            (Op::HPersist(_), Some(answer)) => *answer != Answer::Persisted(Some(true)),
            (op, Some(_)) => !op.is_write(),
        };
        changes_nothing
            && call
                .times_ms
                .iter()
                .any(|now_ms| call.answer == Some(state.clone().apply(&call.op, *now_ms)))
    }

    /// Whether a call can come now, and the rest after it.
    fn can_be_next(&mut self, number: usize, done: u64, state: &State, is_lost: bool) -> bool {
        let call = self.calls[number];
        for now_ms in &call.times_ms {
            let losable = state.losable(*now_ms, call.latest_ms, self.evicts);
            for gone in subsets(losable & elements(&call.op)) {
                let mut before = state.clone();
                before.lose(gone);
                let mut after = before.clone();
                let answer = after.apply(&call.op, *now_ms);
                let is_right = call.answer.as_ref().is_none_or(|told| *told == answer);
                let survives = !(is_lost && call.is_durable && after != before);
                if is_right && survives && self.is_possible(done, &after, is_lost) {
                    return true;
                }
            }
        }
        false
    }

    /// Whether the contents after the power loss can be those of a state.
    fn is_recovered(&self, state: &State) -> bool {
        let Some(recovered) = self.recovered else {
            return false;
        };
        let (now_ms, latest_ms) = (recovered.now_ms, recovered.latest_ms);
        subsets(state.losable(now_ms, latest_ms, self.evicts)).any(|gone| {
            let mut state = state.clone();
            state.lose(gone);
            state.contents(now_ms) == recovered.contents
        })
    }
}

/// Every subset of a set, the empty one first.
fn subsets(set: Elements) -> impl Iterator<Item = Elements> {
    (0..=set).filter(move |subset| subset & !set == 0)
}
