//! The connected clients, and the messages sent to them.

use std::collections::{HashMap, HashSet};

use tokio::sync::{Notify, mpsc};

use crate::command::Reply;
use crate::command::host::{ClientInfo, Subscription};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// Later than any moment.
pub(super) const NOT_YET: u64 = u64::MAX;

/// A client, as others see it.
pub(super) struct ClientState {
    pub(super) id: u64,
    pub(super) connected_at: Instant,
    /// When it was last heard of, in seconds since the server began; [`NOT_YET`] while the server lets it wait.
    pub(super) heard_at: AtomicU64,
    /// When the client last sent or took a byte while a request has arrived in part or a reply waits, in the same seconds; [`NOT_YET`]
    /// otherwise, and while the server executes something.
    pub(super) halfway_since: AtomicU64,
    /// Since when more waits for it than the soft limit allows, in the same seconds; [`NOT_YET`] where less does.
    pub(super) over_soft_limit_since: AtomicU64,
    pub(super) info: Mutex<ClientInfo>,
    inbox: mpsc::UnboundedSender<Arc<Reply>>,
    /// Bytes of the messages in the inbox.
    inbox_bytes: AtomicUsize,
    /// Bytes of the replies that wait to be written.
    output_bytes: AtomicUsize,
    is_disconnected: AtomicBool,
    disconnected: Notify,
}

impl ClientState {
    pub(super) fn new(
        id: u64,
        address: String,
        local_address: String,
        heard_at: u64,
    ) -> (Arc<ClientState>, mpsc::UnboundedReceiver<Arc<Reply>>) {
        let (inbox, messages) = mpsc::unbounded_channel();
        let state = ClientState {
            id,
            connected_at: Instant::now(),
            heard_at: AtomicU64::new(heard_at),
            halfway_since: AtomicU64::new(NOT_YET),
            over_soft_limit_since: AtomicU64::new(NOT_YET),
            info: Mutex::new(ClientInfo {
                id,
                address,
                local_address,
                protocol: 2,
                command: "NULL",
                ..ClientInfo::default()
            }),
            inbox,
            inbox_bytes: AtomicUsize::new(0),
            output_bytes: AtomicUsize::new(0),
            is_disconnected: AtomicBool::new(false),
            disconnected: Notify::new(),
        };
        (Arc::new(state), messages)
    }

    pub(super) fn info(&self) -> MutexGuard<'_, ClientInfo> {
        self.info.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends it a message; a client for which more than `limit` bytes of messages wait is disconnected instead.
    fn send(&self, message: &Arc<Reply>, bytes: usize, limit: usize) {
        let waiting = self.inbox_bytes.fetch_add(bytes, Ordering::AcqRel) + bytes;
        if waiting > limit {
            tracing::warn!(
                client = self.id,
                waiting,
                limit,
                "disconnected: its unread messages exceed client-output-buffer-limit"
            );
            self.disconnect();
            return;
        }
        // Without a receiver the client is being disconnected.
        let _ = self.inbox.send(Arc::clone(message));
    }

    /// Notes that a message was taken out of the inbox.
    pub(super) fn note_taken(&self, message: &Reply) {
        self.inbox_bytes
            .fetch_sub(size_of_message(message), Ordering::AcqRel);
    }

    /// Notes how many bytes of replies wait to be written.
    pub(super) fn set_output_bytes(&self, bytes: usize) {
        self.output_bytes.store(bytes, Ordering::Release);
    }

    /// Bytes of replies that wait for it, and bytes of messages.
    pub(super) fn waiting(&self) -> [usize; 2] {
        [&self.output_bytes, &self.inbox_bytes].map(|bytes| bytes.load(Ordering::Acquire))
    }

    /// Bytes that it has not taken yet: replies and messages.
    pub(super) fn waiting_bytes(&self) -> usize {
        self.waiting().iter().sum()
    }

    pub(super) fn is_subscribed(&self) -> bool {
        self.info().subscriptions.iter().any(|count| *count > 0)
    }

    /// Ends the connection, whatever it is doing.
    pub(super) fn disconnect(&self) {
        self.is_disconnected.store(true, Ordering::Release);
        self.disconnected.notify_one();
    }

    /// Whether [`ClientState::disconnect`] was called.
    pub(super) fn is_over(&self) -> bool {
        self.is_disconnected.load(Ordering::Acquire)
    }

    /// Returns once [`ClientState::disconnect`] was called.
    pub(super) async fn is_disconnected(&self) {
        while !self.is_over() {
            self.disconnected.notified().await;
        }
    }
}

/// Bytes that a message takes, about.
fn size_of_message(message: &Reply) -> usize {
    usize::try_from(message.size_bytes()).unwrap_or(usize::MAX)
}

/// All that are connected.
#[derive(Default)]
pub(super) struct Clients {
    connected: RwLock<HashMap<u64, Arc<ClientState>>>,
    subscribers: RwLock<Subscribers>,
    monitors: RwLock<Vec<u64>>,
    monitor_count: AtomicUsize,
    /// How many have gone since the server began.
    gone_count: AtomicUsize,
    /// Bytes that may wait for a client that is sent messages; 0 where there is no limit.
    inbox_limit: AtomicUsize,
}

#[derive(Default)]
struct Subscribers {
    of: HashMap<Subscription, Vec<u64>>,
    /// How many of the keys of `of` are patterns, so that a message need not look at all of them where there are none.
    pattern_count: usize,
    /// What each client has subscribed to, so that nothing is searched when one comes again or leaves.
    by: HashMap<u64, HashSet<Subscription>>,
}

fn read<T>(lock: &RwLock<T>) -> crate::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> crate::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

impl Clients {
    pub(super) fn add(&self, client: &Arc<ClientState>) {
        write(&self.connected).insert(client.id, Arc::clone(client));
    }

    /// Forgets a client and all that it has subscribed to.
    pub(super) fn remove(&self, id: u64) {
        write(&self.connected).remove(&id);
        self.gone_count.fetch_add(1, Ordering::Relaxed);
        write(&self.subscribers).forget(id);
        self.stop_monitoring(id);
    }

    /// Sets how many bytes may wait for a client that is sent messages; 0 for any number.
    pub(super) fn set_inbox_limit(&self, bytes: usize) {
        self.inbox_limit.store(bytes, Ordering::Relaxed);
    }

    /// How many clients have gone since the server began.
    pub(super) fn gone_count(&self) -> usize {
        self.gone_count.load(Ordering::Relaxed)
    }

    pub(super) fn count(&self) -> usize {
        read(&self.connected).len()
    }

    pub(super) fn all(&self) -> Vec<Arc<ClientState>> {
        let mut all: Vec<_> = read(&self.connected).values().map(Arc::clone).collect();
        all.sort_unstable_by_key(|client| client.id);
        all
    }

    pub(super) fn subscribe(&self, id: u64, subscription: &Subscription) {
        write(&self.subscribers).add(id, subscription);
    }

    pub(super) fn unsubscribe(&self, id: u64, subscription: &Subscription) {
        write(&self.subscribers).remove(id, subscription);
    }

    /// Whether there is any subscription.
    pub(super) fn has_subscribers(&self) -> bool {
        !read(&self.subscribers).of.is_empty()
    }

    /// The subscriptions that there are, each with how many have it.
    pub(super) fn subscriptions(&self) -> Vec<(Subscription, u64)> {
        let subscribers = read(&self.subscribers);
        let of = subscribers.of.iter();
        of.map(|(subscription, clients)| (subscription.clone(), clients.len() as u64))
            .collect()
    }

    /// The number of patterns with at least one subscriber.
    pub(super) fn pattern_count(&self) -> usize {
        read(&self.subscribers).pattern_count
    }

    /// Sends a message to all that have subscribed; gives back to how many.
    pub(super) fn publish(&self, channel: &[u8], message: &[u8], is_sharded: bool) -> u64 {
        let subscribers = read(&self.subscribers);
        let exact = match is_sharded {
            true => Subscription::Shard(channel.to_vec()),
            false => Subscription::Channel(channel.to_vec()),
        };
        let kind = if is_sharded { "smessage" } else { "message" };
        let mut count = 0;
        if let Some(clients) = subscribers.of.get(&exact) {
            let parts = [kind.as_bytes(), channel, message];
            count += self.send_to(clients, Reply::Push(parts.map(Reply::bulk).into()));
        }
        if is_sharded || subscribers.pattern_count == 0 {
            return count;
        }
        for (subscription, clients) in &subscribers.of {
            let Subscription::Pattern(pattern) = subscription else {
                continue;
            };
            if crate::glob::matches_pattern(pattern, channel) {
                let parts = [&b"pmessage"[..], pattern, channel, message];
                count += self.send_to(clients, Reply::Push(parts.map(Reply::bulk).into()));
            }
        }
        count
    }

    fn send_to(&self, ids: &[u64], message: Reply) -> u64 {
        let bytes = size_of_message(&message);
        let message = Arc::new(message);
        let connected = read(&self.connected);
        let clients = ids.iter().filter_map(|id| connected.get(id));
        let limit = match self.inbox_limit.load(Ordering::Relaxed) {
            0 => usize::MAX,
            limit => limit,
        };
        let mut count = 0;
        for client in clients {
            client.send(&message, bytes, limit);
            count += 1;
        }
        count
    }

    pub(super) fn monitor(&self, id: u64) {
        let mut monitors = write(&self.monitors);
        if !monitors.contains(&id) {
            monitors.push(id);
        }
        self.monitor_count.store(monitors.len(), Ordering::Release);
    }

    pub(super) fn is_monitoring(&self, id: u64) -> bool {
        self.has_monitors() && read(&self.monitors).contains(&id)
    }

    pub(super) fn stop_monitoring(&self, id: u64) {
        let mut monitors = write(&self.monitors);
        monitors.retain(|client| *client != id);
        self.monitor_count.store(monitors.len(), Ordering::Release);
    }

    /// Whether any client monitors every command.
    pub(super) fn has_monitors(&self) -> bool {
        self.monitor_count.load(Ordering::Relaxed) > 0
    }

    /// Shows a line to all that want to see every command.
    pub(super) fn show(&self, line: String) {
        let monitors = read(&self.monitors);
        self.send_to(&monitors, Reply::Status(line.into()));
    }
}

/// Each step costs the same however many subscriptions there are: a request may name a million of them.
impl Subscribers {
    fn add(&mut self, id: u64, subscription: &Subscription) {
        let of_this_one = self.by.entry(id).or_default();
        if !of_this_one.insert(subscription.clone()) {
            return;
        }
        let clients = self.of.entry(subscription.clone()).or_default();
        self.pattern_count += usize::from(clients.is_empty() && is_pattern(subscription));
        clients.push(id);
    }

    fn remove(&mut self, id: u64, subscription: &Subscription) {
        if let Some(of_this_one) = self.by.get_mut(&id)
            && of_this_one.remove(subscription)
        {
            if of_this_one.is_empty() {
                self.by.remove(&id);
            }
            self.take_from(subscription, id);
        }
    }

    /// Forgets all that a client has subscribed to.
    fn forget(&mut self, id: u64) {
        for subscription in self.by.remove(&id).unwrap_or_default() {
            self.take_from(&subscription, id);
        }
    }

    fn take_from(&mut self, subscription: &Subscription, id: u64) {
        let Some(clients) = self.of.get_mut(subscription) else {
            return;
        };
        clients.retain(|client| *client != id);
        if clients.is_empty() {
            self.of.remove(subscription);
            self.pattern_count -= usize::from(is_pattern(subscription));
        }
    }
}

fn is_pattern(subscription: &Subscription) -> bool {
    matches!(subscription, Subscription::Pattern(_))
}

#[cfg(test)]
mod tests {
    use super::{Clients, is_pattern};
    use crate::command::host::Subscription;

    /// What is kept beside the subscriptions is what counting them all over again would give.
    fn assert_counted(clients: &Clients) {
        let subscribers = clients.subscribers.read().unwrap();
        let patterns = subscribers.of.keys().filter(|of| is_pattern(of)).count();
        assert_eq!(subscribers.pattern_count, patterns);
        for id in 0..4 {
            let has_it = |clients: &&Vec<u64>| clients.contains(&id);
            let count = subscribers.of.values().filter(has_it).count();
            let kept = subscribers.by.get(&id).map(|of| of.len());
            assert_eq!(kept, (count > 0).then_some(count), "client {id}");
        }
    }

    #[test]
    fn subscriptions_are_counted_whatever_comes_and_goes() {
        let clients = Clients::default();
        let all = || {
            let kinds = [
                Subscription::Channel,
                Subscription::Pattern,
                Subscription::Shard,
            ];
            let names = ["a", "b*"].into_iter();
            names.flat_map(move |name| kinds.map(|kind| kind(name.as_bytes().to_vec())))
        };
        // Twice each: the second time nothing is new, and then nothing is left.
        for id in [0, 1, 2, 0, 1, 2] {
            for subscription in all() {
                clients.subscribe(id, &subscription);
                assert_counted(&clients);
            }
        }
        assert_eq!(clients.pattern_count(), 2);
        // The last one has no other owner.
        let own = Subscription::Pattern(b"own".to_vec());
        clients.subscribe(0, &own);
        assert_counted(&clients);
        for id in [3, 0, 0] {
            for subscription in all().chain([own.clone()]) {
                clients.unsubscribe(id, &subscription);
                assert_counted(&clients);
            }
        }
        clients.unsubscribe(1, &Subscription::Pattern(b"a".to_vec()));
        for (id, left) in [(3, 2), (1, 2), (2, 0), (2, 0)] {
            clients.remove(id);
            assert_counted(&clients);
            assert_eq!(clients.pattern_count(), left);
        }
        assert!(!clients.has_subscribers());
    }
}
