//! Runs a scenario in every order in which its processes can take their steps.
//!
//! Each process is a thread, each operation on the simulated disk a step, and one thread goes at a time. A run is given by the choices
//! that were made where there was one; the explorer goes through them depth first, as CHESS does (Musuvathi and Qadeer, PLDI 2007): a thread
//! goes on unless it is interrupted, and so many interruptions are tried as the bound allows, at every step; and a kill of one
//! process, at every step too. A killed process does nothing any more, and its locks are gone.

use std::cell::Cell;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use brasa::simulation::{Schedule, SimulatedDisk, Step};

/// How much to try.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub interruptions: usize,
    pub kills: usize,
    /// Orders at most.
    pub orders: u64,
}

thread_local! {
    /// Which process this thread is; none for who looks on.
    static PROCESS: Cell<Option<usize>> = const { Cell::new(None) };
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    /// Waits for a lock.
    Blocked,
    Done,
    Killed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Choice {
    /// Whoever goes on.
    Run(usize),
    /// Whoever has come to this step never takes it.
    Kill,
}

/// Where there was a choice: how many there were, and which was made.
#[derive(Debug, Clone, Copy)]
pub struct Decision {
    count: usize,
    chosen: usize,
}

pub struct Explorer {
    /// The disk holds the explorer, too: the run ends the cycle by [`Explorer::release`].
    disk: Mutex<Option<SimulatedDisk>>,
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    threads: Vec<Option<ThreadId>>,
    status: Vec<Status>,
    running: Option<usize>,
    prefix: Vec<usize>,
    decisions: Vec<Decision>,
    interruptions_left: usize,
    kills_left: usize,
}

impl Explorer {
    /// A run on a disk whose first choices are given.
    pub fn new(
        disk: &SimulatedDisk,
        processes: usize,
        bounds: Bounds,
        prefix: Vec<usize>,
    ) -> Arc<Explorer> {
        let explorer = Arc::new(Explorer {
            disk: Mutex::new(Some(disk.clone())),
            state: Mutex::new(State {
                threads: vec![None; processes],
                status: vec![Status::Ready; processes],
                running: None,
                prefix,
                decisions: Vec::new(),
                interruptions_left: bounds.interruptions,
                kills_left: bounds.kills,
            }),
            changed: Condvar::new(),
        });
        disk.schedule(Arc::clone(&explorer) as Arc<dyn Schedule>);
        explorer
    }

    /// Waits until all processes have come here, and then for this one's turn.
    pub fn begin(&self, process: usize) {
        PROCESS.set(Some(process));
        let mut state = self.lock();
        state.threads[process] = Some(std::thread::current().id());
        if state.threads.iter().all(Option::is_some) {
            self.go_on(&mut state, None);
        }
        drop(self.wait_for_turn(state, process));
    }

    pub fn is_killed(&self, process: usize) -> bool {
        self.lock().status[process] == Status::Killed
    }

    /// Says that the process has nothing more to do.
    pub fn end(&self, process: usize) {
        let mut state = self.lock();
        if state.status[process] != Status::Killed {
            state.status[process] = Status::Done;
            self.go_on(&mut state, None);
        }
        PROCESS.set(None);
    }

    /// Drops the disk. Without this the explorer and the disk keep each other alive for ever.
    pub fn release(&self) {
        *self.disk.lock().unwrap() = None;
    }

    pub fn decisions(&self) -> Vec<Decision> {
        self.lock().decisions.clone()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_for_turn<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        process: usize,
    ) -> MutexGuard<'a, State> {
        let waits = |state: &mut State| {
            state.running != Some(process) && state.status[process] != Status::Killed
        };
        self.changed
            .wait_while(state, waits)
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Chooses who goes on; `at_step` is who has come to a step and could.
    fn go_on(&self, state: &mut State, at_step: Option<usize>) {
        let ready = |state: &State| -> Vec<usize> {
            let processes = 0..state.status.len();
            processes
                .filter(|process| state.status[*process] == Status::Ready)
                .collect()
        };
        if ready(state).is_empty() {
            // Everybody waits: whoever waits long enough is let try again, and runs into his timeout.
            for status in &mut state.status {
                if *status == Status::Blocked {
                    *status = Status::Ready;
                }
            }
        }
        let others = ready(state)
            .into_iter()
            .filter(|other| Some(*other) != at_step);
        let mut choices: Vec<Choice> = at_step.into_iter().map(Choice::Run).collect();
        if at_step.is_none() || state.interruptions_left > 0 {
            choices.extend(others.map(Choice::Run));
        }
        if at_step.is_some() && state.kills_left > 0 {
            choices.push(Choice::Kill);
        }
        let Some(chosen) = state.choose(choices.len()) else {
            state.running = None;
            return;
        };
        match (choices[chosen], at_step) {
            (Choice::Run(next), _) => {
                if at_step.is_some_and(|process| process != next) {
                    state.interruptions_left -= 1;
                }
                state.running = Some(next);
            }
            (Choice::Kill, Some(process)) => {
                state.kills_left -= 1;
                state.status[process] = Status::Killed;
                if let Some(thread) = state.threads[process]
                    && let Some(disk) = &*self.disk.lock().unwrap()
                {
                    disk.release_locks_of(thread);
                }
                state.unblock();
                self.go_on(state, None);
            }
            (Choice::Kill, None) => unreachable!("only who has come to a step is killed"),
        }
        self.changed.notify_all();
    }
}

impl State {
    fn choose(&mut self, count: usize) -> Option<usize> {
        match count {
            0 => None,
            1 => Some(0),
            _ => {
                let chosen = self.prefix.get(self.decisions.len()).copied().unwrap_or(0);
                assert!(chosen < count, "the same choices lead elsewhere");
                self.decisions.push(Decision { count, chosen });
                Some(chosen)
            }
        }
    }

    fn unblock(&mut self) {
        for status in &mut self.status {
            if *status == Status::Blocked {
                *status = Status::Ready;
            }
        }
    }
}

impl Schedule for Explorer {
    fn step(&self, step: Step) -> io::Result<()> {
        let Some(process) = PROCESS.get() else {
            return Ok(());
        };
        let mut state = self.lock();
        if state.status[process] != Status::Killed {
            match step {
                // The next step of the thread comes before anything that others could notice.
                Step::Synced => return Ok(()),
                Step::Released => {
                    state.unblock();
                    return Ok(());
                }
                Step::Refused => {
                    state.status[process] = Status::Blocked;
                    self.go_on(&mut state, None);
                }
                _ => self.go_on(&mut state, Some(process)),
            }
            state = self.wait_for_turn(state, process);
        }
        match state.status[process] {
            Status::Killed => Err(io::Error::other("the process was killed")),
            _ => Ok(()),
        }
    }
}

/// The choices of the next run; `None` behind the last.
pub fn next_prefix(decisions: &[Decision]) -> Option<Vec<usize>> {
    let last = decisions
        .iter()
        .rposition(|decision| decision.chosen + 1 < decision.count)?;
    let mut prefix: Vec<usize> = decisions[..=last]
        .iter()
        .map(|decision| decision.chosen)
        .collect();
    prefix[last] += 1;
    Some(prefix)
}
