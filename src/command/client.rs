//! The session's data about the client at its other end.

use std::collections::BTreeSet;

use super::host::{Host, Subscription};
use crate::limits::MAX_SUBSCRIBED_BYTES;
use crate::sync::Arc;

/// See the module. On the command line the client is the user, and has no host.
pub(super) struct Client {
    pub(super) host: Option<Arc<dyn Host>>,
    pub(super) id: u64,
    /// The version of the protocol that it speaks, 2 or 3.
    pub(super) protocol: u8,
    /// Whether it has given the password, or none is needed.
    pub(super) is_trusted: bool,
    pub(super) name: String,
    /// The library that it says it uses, and that one's version.
    pub(super) library: [String; 2],
    pub(super) subscriptions: Subscriptions,
    /// Whether it wants no replies, or none to the next command: CLIENT REPLY.
    pub(super) silence: Silence,
    /// Whether it is shown every command: MONITOR.
    pub(super) is_monitoring: bool,
    /// Whether it wants to be disconnected.
    pub(super) is_leaving: bool,
}

/// What a client has subscribed to, counted: each reply to one of a million names says how many there are.
#[derive(Default)]
pub(super) struct Subscriptions {
    all: BTreeSet<Subscription>,
    counts: [usize; 3],
    bytes: u64,
}

/// Bytes that a name takes which is kept for a client, with something for keeping it.
pub(super) fn name_bytes(name: &[u8]) -> u64 {
    name.len() as u64 + 16
}

impl Subscriptions {
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Subscription> {
        self.all.iter()
    }

    /// How many channels, patterns and sharded channels there are.
    pub(super) fn counts(&self) -> [usize; 3] {
        self.counts
    }

    /// Whether there is room for these as well.
    pub(super) fn have_room_for(&self, subscriptions: &[Subscription]) -> bool {
        let new = subscriptions.iter().filter(|one| !self.all.contains(one));
        let new = new.map(|subscription| name_bytes(subscription.name()));
        new.fold(self.bytes, u64::saturating_add) <= MAX_SUBSCRIBED_BYTES
    }

    /// Gives back whether it was not there.
    pub(super) fn insert(&mut self, subscription: Subscription) -> bool {
        let kind = kind_of(&subscription);
        let bytes = name_bytes(subscription.name());
        let is_new = self.all.insert(subscription);
        self.counts[kind] += usize::from(is_new);
        self.bytes += if is_new { bytes } else { 0 };
        is_new
    }

    /// Gives back whether it was there.
    pub(super) fn remove(&mut self, subscription: &Subscription) -> bool {
        let was_there = self.all.remove(subscription);
        if was_there {
            self.counts[kind_of(subscription)] -= 1;
            self.bytes -= name_bytes(subscription.name());
        }
        was_there
    }
}

fn kind_of(subscription: &Subscription) -> usize {
    match subscription {
        Subscription::Channel(_) => 0,
        Subscription::Pattern(_) => 1,
        Subscription::Shard(_) => 2,
    }
}

/// Which replies a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Silence {
    None,
    /// The one to this command, and the one to the next.
    SkipNext,
    /// The one to this command.
    SkipNow,
    All,
}

impl Client {
    /// The default client, without a name.
    pub(super) fn local() -> Client {
        Client {
            host: None,
            id: 1,
            protocol: 2,
            is_trusted: true,
            name: String::new(),
            library: [String::new(), String::new()],
            subscriptions: Subscriptions::default(),
            silence: Silence::None,
            is_monitoring: false,
            is_leaving: false,
        }
    }

    /// Whether only what concerns subscriptions may be sent: messages and replies could not be told apart in version 2.
    pub(super) fn only_listens(&self) -> bool {
        self.protocol == 2 && !self.subscriptions.is_empty()
    }
}
