//! The number of clients that the operating system allows: each takes a file descriptor, and the
//! process has a limited number.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors that are kept from the clients: for the file, and a second one while it is compacted, listeners, the runtime, clients that
/// are being refused, and what a program around the server has open.
pub(super) const RESERVED: u64 = 64;

/// What there is room for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) clients: usize,
    /// How many descriptors the process may have.
    pub(super) limit: u64,
}

/// Makes room for so many clients, as far as the operating system allows it.
pub(super) fn room_for(clients: usize) -> Room {
    let clients_wanted = u64::try_from(clients).unwrap_or(u64::MAX);
    room_within(raised_to(clients_wanted.saturating_add(RESERVED)), clients)
}

fn room_within(limit: u64, wanted: usize) -> Room {
    let most = usize::try_from(limit.saturating_sub(RESERVED)).unwrap_or(usize::MAX);
    Room {
        clients: wanted.min(most),
        limit,
    }
}

/// Raises the limit to what is wanted, or to the most that may be had; gives back what it is then. It is never lowered.
fn raised_to(wanted: u64) -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let now = current.unwrap_or(u64::MAX);
    if now >= wanted {
        return now;
    }
    let most = wanted.min(maximum.unwrap_or(u64::MAX));
    let raised = Rlimit {
        current: Some(most),
        maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => most,
        Err(_) => now,
    }
}

#[cfg(test)]
mod tests {
    use super::{RESERVED, room_within};

    #[test]
    fn the_reserve_is_no_room_for_clients() {
        assert_eq!(room_within(RESERVED - 1, 10).clients, 0);
        assert_eq!(room_within(RESERVED, 10).clients, 0);
        assert_eq!(room_within(RESERVED + 9, 10).clients, 9);
        assert_eq!(room_within(u64::MAX, 10).clients, 10);
    }
}
