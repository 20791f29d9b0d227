//! Keyspace events: the changes of all processes, as messages to subscribers.
//!
//! A thread reads them from the log while there are subscribers. It starts before the first
//! subscription is acknowledged.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval};

use super::shared::Shared;
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError};
use crate::{Change, ChangeKind, Watch};

/// How often the log is checked for changes while there are subscribers.
const NOTICE: Duration = Duration::from_millis(10);

/// Changes that are reported in one batch: others may wait for the lock, or for the thread.
const TOLD_CHANGES: usize = 256;

/// See the module.
#[derive(Default)]
pub(super) struct Events {
    following: Mutex<Following>,
    begun: Notify,
}

/// How far the log was read.
#[derive(Default)]
struct Following {
    watch: Option<Watch>,
    /// The removal that was read last, while it is not known whether it is one of what has expired.
    held: Option<Change>,
    /// Keys that were removed because they had expired, where the record of that was not read yet.
    expired: HashSet<(u8, Vec<u8>)>,
    is_sweeping: bool,
}

impl Events {
    fn following(&self) -> MutexGuard<'_, Following> {
        self.following
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Removes what has expired of a database. What is read off the log meanwhile is not told before it is known why it was removed.
    pub(super) fn note_expired(
        &self,
        database: u8,
        remove: impl FnOnce() -> crate::Result<(u64, Vec<crate::Value>)>,
    ) -> crate::Result<(u64, usize)> {
        self.following().is_sweeping = true;
        let removed = remove();
        let mut following = self.following();
        following.is_sweeping = false;
        let (next, keys) = removed?;
        let count = keys.len();
        if following.watch.is_some() {
            let keys = keys.into_iter().map(|key| (database, key.to_vec()));
            following.expired.extend(keys);
        }
        Ok((next, count))
    }
}

impl Following {
    /// The next change, and whether it is that a key has expired; `None` where there is none to be told yet.
    fn next(&mut self) -> crate::Result<Option<(Change, bool)>> {
        let next = match self.held.take() {
            Some(held) => Some(Ok(held)),
            None => self.watch.as_mut().and_then(Iterator::next),
        };
        let Some(change) = next.transpose()? else {
            if !self.is_sweeping {
                // All of them were read, or came before the watch.
                self.expired.clear();
            }
            return Ok(None);
        };
        if change.kind != ChangeKind::Delete {
            return Ok(Some((change, false)));
        }
        if self.is_sweeping {
            self.held = Some(change);
            return Ok(None);
        }
        let has_expired =
            !self.expired.is_empty() && self.expired.remove(&(change.database, change.key.clone()));
        Ok(Some((change, has_expired)))
    }

    fn stop(&mut self) {
        self.watch = None;
        self.held = None;
        self.expired.clear();
    }
}

fn is_wanted(shared: &Shared) -> bool {
    shared.clients.has_subscribers()
        && shared.setting(|settings| !settings.notify_events.is_empty())
}

/// Starts to read if there are subscribers by now; changes after this call are reported.
pub(super) fn follow(shared: &Shared) {
    if is_followed(shared) {
        shared.events.begun.notify_one();
    }
}

/// Begins or ends to read, as is wanted.
fn is_followed(shared: &Shared) -> bool {
    let mut following = shared.events.following();
    // Checked under the lock: an earlier subscriber is seen, and a later one starts the reading
    // again.
    if !is_wanted(shared) {
        following.stop();
        return false;
    }
    if following.watch.is_none() {
        match shared.db.watch() {
            Ok(watch) => following.watch = Some(watch),
            Err(error) => tracing::error!(%error, "cannot publish keyspace events yet"),
        }
    }
    true
}

/// Tells of changes until the server ends.
pub(super) async fn tell_changes(shared: Arc<Shared>) {
    let mut ticks = interval(NOTICE);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        shared.events.begun.notified().await;
        while is_followed(&shared) {
            // Everything available: a reader that is a compaction behind misses changes.
            while tells_some(&shared) {
                tokio::task::yield_now().await;
            }
            ticks.tick().await;
        }
    }
}

/// Tells of the next changes. Gives back whether there may be more.
fn tells_some(shared: &Shared) -> bool {
    let mut following = shared.events.following();
    for _ in 0..TOLD_CHANGES {
        match following.next() {
            Ok(Some((change, has_expired))) => tell_change(shared, &change, has_expired),
            Ok(None) => return false,
            Err(error) => {
                tracing::error!(%error, "keyspace events were lost");
                following.stop();
                return false;
            }
        }
    }
    true
}

fn tell_change(shared: &Shared, change: &Change, has_expired: bool) {
    let (event, class) = match change.kind {
        ChangeKind::Set => ("set", '$'),
        ChangeKind::Delete if has_expired => ("expired", 'x'),
        ChangeKind::Delete => ("del", 'g'),
        ChangeKind::Expire => ("expire", 'g'),
        ChangeKind::HashSet => ("hset", 'h'),
        ChangeKind::HashDelete => ("hdel", 'h'),
        ChangeKind::FieldExpire => ("hexpire", 'h'),
        ChangeKind::Gap => {
            tracing::warn!(
                "keyspace events were lost: the file was compacted before they were read"
            );
            return;
        }
        // Redis has no event for these.
        ChangeKind::Clear | ChangeKind::SwapDatabases => return,
    };
    let tells = shared.setting(|settings| settings.tells(class));
    tell(shared, change.database, &change.key, event, tells);
}

/// Sends the messages about an event, to the channel of the key and to that of the event, as wanted.
fn tell(shared: &Shared, database: u8, key: &[u8], event: &str, (by_key, by_event): (bool, bool)) {
    if by_key {
        let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
        shared.clients.publish(&channel, event.as_bytes(), false);
    }
    if by_event {
        let channel = format!("__keyevent@{database}__:{event}");
        shared.clients.publish(channel.as_bytes(), key, false);
    }
}
