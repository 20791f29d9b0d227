//! The sequential model: what each call answers, and what it leaves, at one time.

use crate::program::{FIELDS, HASH, KEYS, Op};

/// The answer of a call, in a form that can be compared.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Answer {
    Unit,
    Bool(bool),
    Value(Option<Vec<u8>>),
    Count(u64),
    Expiry(&'static str),
    Persisted(Option<bool>),
    Contents(Contents),
    Many(Vec<Answer>),
    /// An error that promises that nothing was changed.
    Refused,
}

/// The strings in the order of [`KEYS`], and the fields of the hash.
pub type Contents = (Vec<Option<Vec<u8>>>, Vec<Option<Vec<u8>>>);

/// A set of elements of a [`State`]: a bit for each string, for each field, and for the whole hash.
pub type Elements = u8;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Timed {
    value: Vec<u8>,
    deadline_ms: Option<u64>,
}

impl Timed {
    fn is_alive(&self, now_ms: u64) -> bool {
        self.deadline_ms.is_none_or(|deadline| deadline > now_ms)
    }
}

/// The contents of the file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct State {
    strings: [Option<Timed>; HASH],
    fields: [Option<Timed>; FIELDS.len()],
    hash_deadline_ms: Option<u64>,
}

impl State {
    /// Removes what has expired. An expired key and a missing one cannot be told apart.
    fn expire(&mut self, now_ms: u64) {
        for value in self.strings.iter_mut().chain(&mut self.fields) {
            value.take_if(|value| !value.is_alive(now_ms));
        }
        let is_over = self
            .hash_deadline_ms
            .is_some_and(|deadline| deadline <= now_ms);
        if is_over {
            self.fields = Default::default();
        }
        if self.fields.iter().all(Option::is_none) {
            self.hash_deadline_ms = None;
        }
    }

    /// The elements that may be gone although they are alive now: each was expired at the latest time
    /// that the clock has shown, or, with `evicts`, any of them.
    pub fn losable(&self, now_ms: u64, latest_ms: u64, evicts: bool) -> Elements {
        let is_over = |deadline_ms: u64| deadline_ms > now_ms && deadline_ms <= latest_ms;
        let mut losable = 0;
        for (number, value) in self.strings.iter().chain(&self.fields).enumerate() {
            let is_string = number < HASH;
            if let Some(value) = value
                && (evicts && is_string || value.deadline_ms.is_some_and(is_over))
            {
                losable |= 1 << number;
            }
        }
        if self.has(HASH) && (evicts || self.hash_deadline_ms.is_some_and(is_over)) {
            losable |= 1 << (HASH + FIELDS.len());
        }
        losable
    }

    /// Removes elements.
    pub fn lose(&mut self, elements: Elements) {
        let all = self.strings.iter_mut().chain(&mut self.fields);
        for (number, value) in all.enumerate() {
            if elements & 1 << number != 0 {
                *value = None;
            }
        }
        if elements & 1 << (HASH + FIELDS.len()) != 0 {
            self.fields = Default::default();
        }
        if self.fields.iter().all(Option::is_none) {
            self.hash_deadline_ms = None;
        }
    }

    fn value(timed: &Option<Timed>) -> Option<Vec<u8>> {
        timed.as_ref().map(|timed| timed.value.clone())
    }

    pub fn contents(&self, now_ms: u64) -> Contents {
        let mut now = self.clone();
        now.expire(now_ms);
        (
            now.strings.iter().map(State::value).collect(),
            now.fields.iter().map(State::value).collect(),
        )
    }

    fn has(&self, key: usize) -> bool {
        match key {
            HASH => self.fields.iter().any(Option::is_some),
            key => self.strings[key].is_some(),
        }
    }

    /// The deadline of a live key.
    fn deadline(&mut self, key: usize) -> Option<&mut Option<u64>> {
        match key {
            HASH if self.has(HASH) => Some(&mut self.hash_deadline_ms),
            HASH => None,
            key => self.strings[key]
                .as_mut()
                .map(|value| &mut value.deadline_ms),
        }
    }

    /// Carries out a call at one time. A call may take its time before another one does and take
    /// effect after it. So it removes nothing but what it writes to: the other call, with the
    /// earlier time, still finds alive what this one found expired. A call that changes nothing
    /// writes nothing.
    pub fn apply(&mut self, op: &Op, now_ms: u64) -> Answer {
        let mut before = self.clone();
        before.expire(now_ms);
        let mut after = before.clone();
        let answer = after.apply_alive(op, now_ms);
        for (key, value) in self.strings.iter_mut().enumerate() {
            if before.strings[key] != after.strings[key] {
                value.clone_from(&after.strings[key]);
            }
        }
        let hash = (&before.fields, before.hash_deadline_ms);
        if hash != (&after.fields, after.hash_deadline_ms) {
            if !before.has(HASH) {
                self.fields = Default::default();
            }
            for (field, value) in self.fields.iter_mut().enumerate() {
                if before.fields[field] != after.fields[field] {
                    value.clone_from(&after.fields[field]);
                }
            }
            self.hash_deadline_ms = after.hash_deadline_ms;
            if self.fields.iter().all(Option::is_none) {
                self.hash_deadline_ms = None;
            }
        }
        answer
    }

    fn apply_alive(&mut self, op: &Op, now_ms: u64) -> Answer {
        match *op {
            Op::Get(key) => Answer::Value(State::value(&self.strings[key])),
            Op::Set(key, value) => {
                self.set(key, vec![value], None);
                Answer::Unit
            }
            Op::SetEx(key, value, ttl_ms) => {
                self.set(key, vec![value], Some(now_ms + ttl_ms));
                Answer::Unit
            }
            Op::Del(key) => {
                let had = self.has(key);
                match key {
                    HASH => self.fields = Default::default(),
                    key => self.strings[key] = None,
                }
                Answer::Bool(had)
            }
            Op::Expire(key, ttl_ms) => match self.deadline(key) {
                None => Answer::Bool(false),
                Some(deadline) => {
                    *deadline = Some(now_ms + ttl_ms);
                    Answer::Bool(true)
                }
            },
            Op::Persist(key) => {
                let deadline = self.deadline(key);
                Answer::Bool(deadline.is_some_and(|deadline| deadline.take().is_some()))
            }
            Op::Append(key, value) => {
                let new = self.extended(key, value);
                Answer::Count(new.len() as u64)
            }
            Op::Update(key, value) => Answer::Value(Some(self.extended(key, value))),
            Op::HGet(field) => Answer::Value(State::value(&self.fields[field])),
            Op::HSet(field, value) => {
                let new = Timed {
                    value: vec![value],
                    deadline_ms: None,
                };
                Answer::Bool(self.fields[field].replace(new).is_none())
            }
            Op::HDel(field) => Answer::Bool(self.fields[field].take().is_some()),
            Op::HExpire(field, ttl_ms) => match &mut self.fields[field] {
                None => Answer::Expiry("Absent"),
                Some(value) => {
                    value.deadline_ms = Some(now_ms + ttl_ms);
                    Answer::Expiry("Set")
                }
            },
            Op::HPersist(field) => {
                let value = self.fields[field].as_mut();
                Answer::Persisted(value.map(|value| value.deadline_ms.take().is_some()))
            }
            Op::HLen => Answer::Count(self.fields.iter().flatten().count() as u64),
            Op::Scan | Op::Backup => Answer::Contents(self.contents(now_ms)),
            Op::Batch(ref ops) => {
                for op in ops {
                    self.apply_alive(op, now_ms);
                    self.expire(now_ms);
                }
                Answer::Unit
            }
            Op::Transaction(ref ops) => {
                let answers = ops.iter().map(|op| {
                    let answer = self.apply_alive(op, now_ms);
                    self.expire(now_ms);
                    answer
                });
                Answer::Many(answers.collect())
            }
            Op::Nested(ref op) => match **op {
                Op::Get(_) | Op::HLen => self.apply_alive(op, now_ms),
                _ => Answer::Refused,
            },
            Op::Compact | Op::Checkpoint | Op::Sync | Op::Watch => Answer::Unit,
            // Judged by their own rule.
            Op::Cached(..) | Op::Invalidate(_) => Answer::Unit,
            Op::Reopen(_) | Op::Advance(_) | Op::TurnBack(_) => Answer::Unit,
        }
    }

    fn set(&mut self, key: usize, value: Vec<u8>, deadline_ms: Option<u64>) {
        self.strings[key] = Some(Timed { value, deadline_ms });
    }

    /// Appends a byte to a string and keeps its deadline.
    fn extended(&mut self, key: usize, value: u8) -> Vec<u8> {
        let old = self.strings[key].take();
        let (mut new, deadline_ms) =
            old.map_or_else(|| (Vec::new(), None), |old| (old.value, old.deadline_ms));
        new.push(value);
        self.set(key, new.clone(), deadline_ms);
        new
    }
}

const HASH_ELEMENTS: Elements = (1 << (HASH + FIELDS.len() + 1)) - (1 << HASH);

/// The elements that a call reads or changes.
pub fn elements(op: &Op) -> Elements {
    match *op {
        Op::Get(key) | Op::Set(key, _) | Op::SetEx(key, ..) => 1 << key,
        Op::Append(key, _) | Op::Update(key, _) => 1 << key,
        Op::Del(key) | Op::Expire(key, _) | Op::Persist(key) if key != HASH => 1 << key,
        Op::Del(_) | Op::Expire(..) | Op::Persist(_) | Op::HLen => HASH_ELEMENTS,
        Op::HGet(_) | Op::HSet(..) | Op::HDel(_) => HASH_ELEMENTS,
        Op::HExpire(..) | Op::HPersist(_) => HASH_ELEMENTS,
        Op::Batch(ref ops) | Op::Transaction(ref ops) => {
            ops.iter().fold(0, |all, op| all | elements(op))
        }
        Op::Nested(ref op) => elements(op),
        Op::Scan | Op::Backup => Elements::MAX,
        _ => 0,
    }
}

const _: () = assert!(KEYS.len() == HASH + 1);
