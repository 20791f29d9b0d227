//! Flights: the computations that run in this process. The first thread that misses a key leads its
//! flight, and later threads wait for the leader.
//!
//! Invariants:
//!
//! 1. A flight ends when its leader's guard is dropped. A panic in a computation drops the guard,
//!    so it leaves no thread waiting.
//! 2. No thread waits for itself, directly or through other threads. A computation may ask for its
//!    own key, and two computations may ask for each other's keys.

use std::collections::HashMap;
use std::time::Duration;

use crate::clock::Patience;
use crate::sync::Instant;
use crate::sync::thread::{self, ThreadId};
use crate::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, process_static};

/// The flights of a handle, by the name of their value.
#[derive(Default)]
pub(super) struct Flights {
    by_name: Mutex<HashMap<Box<[u8]>, Arc<Flight>>>,
}

struct Flight {
    /// `None` while the thread that is to lead the flight has not started yet.
    leader: Mutex<Option<ThreadId>>,
    end: Mutex<Option<Landing>>,
    landed: Condvar,
}

/// The end of a flight, with the bytes of an entry if the waiting threads cannot find it in the
/// store.
#[derive(Debug, Clone, Default)]
pub(super) struct Landing {
    pub(super) entry: Option<Arc<[u8]>>,
}

/// The role of a thread that misses a value.
pub(super) enum Boarding {
    /// The thread leads the computation.
    Lead(Leader),
    /// The thread waits for the leader.
    Wait(Waiting),
    /// The thread leads this flight already, and must compute without waiting (invariant 2).
    Nested,
}

/// The guard of the thread that leads a flight. Dropping it ends the flight (invariant 1).
pub(super) struct Leader {
    flights: Arc<Flights>,
    name: Box<[u8]>,
    landing: Landing,
}

/// The right to wait for the end of a flight.
pub(super) struct Waiting(Arc<Flight>);

/// The end of a wait.
#[derive(Debug)]
pub(super) enum Waited {
    Landed(Landing),
    TimedOut,
    /// The wait would never end: the leader waits for this thread (invariant 2).
    Deadlock,
}

process_static! {
    /// For each waiting thread, the flight that it waits for. It spans all handles of the process.
    static WAITING: Mutex<HashMap<ThreadId, Arc<Flight>>> = Mutex::default();
}

/// The entry of this thread in [`WAITING`].
struct Entered;

impl Entered {
    /// Enters this thread as waiting. Returns `None` if the wait for this flight would never end.
    fn new(flight: &Arc<Flight>) -> Option<Entered> {
        let this = thread::current().id();
        let mut waiting = lock(&WAITING);
        let mut next = Some(flight);
        while let Some(flight) = next.filter(|flight| lock(&flight.end).is_none()) {
            let leader = *lock(&flight.leader);
            if leader == Some(this) {
                return None;
            }
            next = leader.and_then(|leader| waiting.get(&leader));
        }
        waiting.insert(this, Arc::clone(flight));
        Some(Entered)
    }
}

impl Drop for Entered {
    fn drop(&mut self) {
        lock(&WAITING).remove(&thread::current().id());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No change under these locks can be left half done, so a poisoned lock is still consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Flights {
    /// Begins a flight, or joins the flight that exists.
    pub(super) fn board(self: &Arc<Self>, name: &[u8]) -> Boarding {
        self.board_as(name, Some(thread::current().id()))
    }

    /// Begins a flight that another thread will lead. Returns `None` if a flight exists.
    pub(super) fn prepare(self: &Arc<Self>, name: &[u8]) -> Option<Leader> {
        match self.board_as(name, None) {
            Boarding::Lead(leader) => Some(leader),
            _ => None,
        }
    }

    fn board_as(self: &Arc<Self>, name: &[u8], leader: Option<ThreadId>) -> Boarding {
        let mut flights = lock(&self.by_name);
        if let Some(flight) = flights.get(name) {
            if *lock(&flight.leader) == Some(thread::current().id()) {
                return Boarding::Nested;
            }
            return Boarding::Wait(Waiting(Arc::clone(flight)));
        }
        let flight = Flight {
            leader: Mutex::new(leader),
            end: Mutex::new(None),
            landed: Condvar::new(),
        };
        flights.insert(name.into(), Arc::new(flight));
        Boarding::Lead(Leader {
            flights: Arc::clone(self),
            name: name.into(),
            landing: Landing::default(),
        })
    }
}

impl Leader {
    /// Makes this thread the leader.
    pub(super) fn take_charge(&self) {
        if let Some(flight) = lock(&self.flights.by_name).get(&self.name) {
            *lock(&flight.leader) = Some(thread::current().id());
        }
    }

    /// Ends the flight with an entry for the waiting threads, which will not find it in the store.
    pub(super) fn land(mut self, entry: &[u8]) {
        self.landing.entry = Some(entry.into());
    }
}

impl Drop for Leader {
    fn drop(&mut self) {
        let flight = lock(&self.flights.by_name).remove(&self.name);
        if let Some(flight) = flight {
            *lock(&flight.end) = Some(std::mem::take(&mut self.landing));
            flight.landed.notify_all();
        }
    }
}

impl Waiting {
    /// Waits until the flight has ended. With `is_limited` the wait ends at the timeout of
    /// `patience`. The time spent waiting is counted in `patience` in both cases.
    pub(super) fn wait(&self, patience: &mut Patience, is_limited: bool) -> Waited {
        /// Short, so that time for which the process is stopped does not count as waiting.
        const STEP: Duration = Duration::from_millis(100);
        let Some(_entered) = Entered::new(&self.0) else {
            return Waited::Deadlock;
        };
        let mut end = lock(&self.0.end);
        loop {
            if let Some(landing) = &*end {
                return Waited::Landed(landing.clone());
            }
            if is_limited && patience.is_over() {
                return Waited::TimedOut;
            }
            let step = match is_limited {
                true => patience.left().min(STEP),
                false => STEP,
            };
            let begun = Instant::now();
            let waited = self.0.landed.wait_timeout(end, step);
            end = waited.unwrap_or_else(PoisonError::into_inner).0;
            patience.count(step, begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn landed(waiting: &Waiting) -> Landing {
        match waiting.wait(&mut Patience::new(Duration::MAX), false) {
            Waited::Landed(landing) => landing,
            other => unreachable!("{other:?}"),
        }
    }

    fn leader(flights: &Arc<Flights>, name: &[u8]) -> Leader {
        match flights.board(name) {
            Boarding::Lead(leader) => leader,
            _ => unreachable!("another thread leads"),
        }
    }

    #[test]
    fn waiting_thread_gets_the_entry_of_the_leader() {
        let flights = Arc::new(Flights::default());
        let first = leader(&flights, b"k");
        thread::scope(|scope| {
            let (ready, is_ready) = crate::sync::mpsc::channel();
            let second = scope.spawn({
                let flights = &flights;
                move || match flights.board(b"k") {
                    Boarding::Wait(waiting) => {
                        ready.send(()).unwrap();
                        landed(&waiting).entry
                    }
                    _ => unreachable!("there is a leader"),
                }
            });
            is_ready.recv().unwrap();
            first.land(b"entry");
            assert_eq!(second.join().unwrap().as_deref(), Some(&b"entry"[..]));
        });
        drop(leader(&flights, b"k"));
    }

    #[test]
    fn leader_that_panics_ends_its_flight() {
        let flights = Arc::new(Flights::default());
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _leader = leader(&flights, b"k");
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(panicked.is_err());
        drop(leader(&flights, b"k"));
    }

    #[test]
    fn thread_waits_neither_for_itself_nor_beyond_its_timeout() {
        let flights = Arc::new(Flights::default());
        let _first = leader(&flights, b"k");
        assert!(matches!(flights.board(b"k"), Boarding::Nested));
        thread::scope(|scope| {
            scope.spawn(|| match flights.board(b"k") {
                Boarding::Wait(waiting) => {
                    assert!(matches!(
                        waiting.wait(&mut Patience::new(Duration::ZERO), true),
                        Waited::TimedOut
                    ));
                }
                _ => unreachable!("there is a leader"),
            });
        });
    }

    /// Each of three threads leads one flight and waits for the flight of the next thread, on three
    /// handles.
    #[test]
    fn last_of_the_threads_that_wait_for_each_other_gets_a_deadlock() {
        let flights = [(); 3].map(|()| Arc::new(Flights::default()));
        let all_lead = crate::sync::Barrier::new(3);
        let run = |number: usize| {
            let leader = leader(&flights[number], b"k");
            all_lead.wait();
            let Boarding::Wait(waiting) = flights[(number + 1) % 3].board(b"k") else {
                unreachable!("there is a leader")
            };
            let is_deadlock = matches!(
                waiting.wait(&mut Patience::new(Duration::MAX), false),
                Waited::Deadlock
            );
            drop(leader);
            is_deadlock
        };
        let run = &run;
        let deadlocks = thread::scope(|scope| {
            let threads = [0, 1, 2].map(|number| scope.spawn(move || run(number)));
            let is_deadlock = threads.map(|thread| thread.join().unwrap());
            is_deadlock.into_iter().filter(|is| *is).count()
        });
        assert_eq!(deadlocks, 1, "the last thread");
    }
}
