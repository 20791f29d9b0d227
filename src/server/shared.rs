//! The state that all connections of a server share, and its services to a session.

use std::hash::{BuildHasher, Hasher, RandomState};

use subtle::ConstantTimeEq;
use tokio::sync::{Notify, watch};

use super::clients::Clients;
use super::errors::LoggedErrors;
use super::events::{self, Events};
use super::pace::Places;
use super::settings::{Settings, append_fsync_name};
use super::syncer::Syncer;
use crate::Db;
use crate::command::host::{ClientFilter, ClientInfo, Host, InfoLine, Subscription};
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use crate::sync::{Arc, PoisonError, RwLock};

/// Bytes that requests and replies of all clients may take together while replies wait. Beyond that, a client is not read while its
/// replies wait.
const WAITING_BYTES: usize = 1 << 30;

/// See the module.
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) clients: Clients,
    pub(super) settings: RwLock<Settings>,
    pub(super) syncer: Syncer,
    pub(super) counters: Counters,
    pub(super) places: Places,
    pub(super) events: Events,
    /// Forty hexadecimal digits that identify this run: a client that copies with a cursor starts
    /// again when they change.
    pub(super) run_id: String,
    pub(super) started_at: Instant,
    /// Seconds since then, renewed often: a clock that costs nothing to read.
    pub(super) seconds: AtomicU64,
    pub(super) last_sync_seconds: AtomicU64,
    /// Whether something was written since the last sync began.
    pub(super) has_written: AtomicBool,
    /// Becomes true when the server is to end.
    pub(super) ending: watch::Sender<bool>,
    /// Where it listens, for INFO.
    pub(super) port: u16,
    pub(super) waiting: Waiting,
    pub(super) errors: LoggedErrors,
}

/// The memory that is shared by all clients with waiting replies.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    bytes: AtomicUsize,
    freed: Notify,
}

/// What INFO counts.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) connections: AtomicU64,
    pub(super) rejected: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) input_bytes: AtomicU64,
    pub(super) output_bytes: AtomicU64,
    pub(super) expired_keys: AtomicU64,
}

impl Shared {
    pub(super) fn settings(&self) -> Settings {
        let settings = self.settings.read().unwrap_or_else(PoisonError::into_inner);
        settings.clone()
    }

    /// One of the settings, without a copy of all.
    pub(super) fn setting<R>(&self, of: impl FnOnce(&Settings) -> R) -> R {
        of(&self.settings.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Notes that all that was written is on the device now.
    pub(super) fn note_sync(&self) {
        let now = self.db.now_ms() / 1_000;
        self.last_sync_seconds.store(now, Ordering::Relaxed);
    }

    /// Says what has become of a sync that failed, or could not be made; gives back whether it is the last of this file.
    pub(super) fn tell_of_failed_sync(&self, error: &dyn std::fmt::Display) -> bool {
        let stats = self.db.stats();
        let is_final = stats.is_ok_and(|stats| stats.poisoned.is_some());
        match is_final {
            true => {
                tracing::error!(%error, "a sync failed: the file refuses writes until it is compacted");
            }
            false => {
                tracing::error!(%error, "cannot sync yet: recent writes are not on the device")
            }
        }
        is_final
    }

    /// Whether requests and replies that wait have room left.
    pub(super) fn has_room(&self) -> bool {
        self.waiting.bytes.load(Ordering::Relaxed) < WAITING_BYTES
    }

    /// Takes so many bytes of the room in place of what the same client had of it.
    pub(super) fn charge(&self, had: usize, bytes: usize) {
        let all = &self.waiting.bytes;
        let grown = bytes.wrapping_sub(had);
        let before = all.fetch_add(grown, Ordering::AcqRel);
        if before >= WAITING_BYTES && before.wrapping_add(grown) < WAITING_BYTES {
            self.waiting.freed.notify_waiters();
        }
    }

    /// Returns when there is room again, if there was none since this call.
    pub(super) fn room_freed(&self) -> impl Future<Output = ()> {
        self.waiting.freed.notified()
    }

    pub(super) fn end(&self) {
        self.ending.send_replace(true);
    }
}

/// Makes a run id: the standard library's hasher draws its keys from the operating system.
pub(super) fn new_run_id() -> String {
    let mut digits: String = (0..3)
        .map(|_| format!("{:016x}", RandomState::new().build_hasher().finish()))
        .collect();
    digits.truncate(40);
    digits
}

fn count(counter: &AtomicU64) -> String {
    counter.load(Ordering::Relaxed).to_string()
}

impl crate::command::host::sealed::Sealed for Shared {}

impl Host for Shared {
    fn info(&self, section: &str) -> Vec<InfoLine> {
        let counters = &self.counters;
        match section {
            "server" => {
                let uptime = self.started_at.elapsed().as_secs();
                vec![
                    ("run_id", self.run_id.clone()),
                    ("tcp_port", self.port.to_string()),
                    ("uptime_in_seconds", uptime.to_string()),
                    ("uptime_in_days", (uptime / 86_400).to_string()),
                ]
            }
            "clients" => {
                let listeners = self.clients.all().into_iter();
                let listeners = listeners
                    .filter(|client| client.info().subscriptions.iter().sum::<usize>() > 0);
                vec![
                    ("connected_clients", self.clients.count().to_string()),
                    ("maxclients", self.settings().max_clients.to_string()),
                    ("pubsub_clients", listeners.count().to_string()),
                    ("blocked_clients", "0".to_owned()),
                ]
            }
            "persistence" => vec![
                ("rdb_last_save_time", count(&self.last_sync_seconds)),
                (
                    "brasa_appendfsync",
                    append_fsync_name(self.settings().durability).to_owned(),
                ),
            ],
            "stats" => {
                let patterns = self.pattern_count().to_string();
                vec![
                    ("total_connections_received", count(&counters.connections)),
                    ("total_commands_processed", count(&counters.commands)),
                    ("total_net_input_bytes", count(&counters.input_bytes)),
                    ("total_net_output_bytes", count(&counters.output_bytes)),
                    ("rejected_connections", count(&counters.rejected)),
                    ("expired_keys", count(&counters.expired_keys)),
                    (
                        "evicted_keys",
                        self.db
                            .stats()
                            .map_or(0, |stats| stats.evicted_keys)
                            .to_string(),
                    ),
                    ("pubsub_channels", self.channels(false).len().to_string()),
                    ("pubsub_patterns", patterns),
                ]
            }
            _ => Vec::new(),
        }
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        let mut list = Shared::settings(self).list();
        list.push(("port", self.port.to_string()));
        list
    }

    fn change_settings(&self, changes: &[(String, &[u8])]) -> Result<(), String> {
        let mut settings = self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let mut changed = settings.clone();
        for (name, value) in changes {
            changed.change(name, value)?;
        }
        self.clients
            .set_inbox_limit(changed.output_limits.pubsub.hard);
        *settings = changed;
        drop(settings);
        events::follow(self);
        Ok(())
    }

    fn reset_counters(&self) {
        let counters = &self.counters;
        for counter in [
            &counters.connections,
            &counters.rejected,
            &counters.commands,
            &counters.input_bytes,
            &counters.output_bytes,
            &counters.expired_keys,
        ] {
            counter.store(0, Ordering::Relaxed);
        }
    }

    fn is_password(&self, password: &[u8]) -> Option<bool> {
        self.setting(|settings| {
            let expected = settings.password.as_deref()?;
            Some(expected.ct_eq(password).into())
        })
    }

    fn clients(&self) -> Vec<ClientInfo> {
        let seconds = self.seconds.load(Ordering::Relaxed);
        let clients = self.clients.all().into_iter();
        clients
            .map(|client| {
                let heard_at = client.heard_at.load(Ordering::Relaxed);
                let idle = std::time::Duration::from_secs(seconds.saturating_sub(heard_at));
                ClientInfo {
                    age: client.connected_at.elapsed(),
                    idle,
                    output_bytes: client.waiting_bytes(),
                    ..client.info().clone()
                }
            })
            .collect()
    }

    fn disconnect(&self, filter: &ClientFilter, own: u64) -> usize {
        let mut count = 0;
        for client in self.clients.all() {
            let info = client.info().clone();
            let is_meant = filter.id.is_none_or(|id| id == client.id)
                && filter.except != Some(client.id)
                && filter
                    .address
                    .as_ref()
                    .is_none_or(|address| *address == info.address)
                && filter
                    .local_address
                    .as_ref()
                    .is_none_or(|address| *address == info.local_address);
            if is_meant {
                count += 1;
                tracing::info!(client = client.id, by = own, "disconnected by CLIENT KILL");
                client.disconnect();
            }
        }
        count
    }

    fn publish(&self, channel: &[u8], message: &[u8], is_sharded: bool) -> u64 {
        self.clients.publish(channel, message, is_sharded)
    }

    fn subscribe(&self, client: u64, subscription: &Subscription) {
        self.clients.subscribe(client, subscription);
        events::follow(self);
    }

    fn unsubscribe(&self, client: u64, subscription: &Subscription) {
        self.clients.unsubscribe(client, subscription);
    }

    fn channels(&self, are_sharded: bool) -> Vec<(Vec<u8>, u64)> {
        let all = self.clients.subscriptions().into_iter();
        all.filter_map(|(subscription, count)| match subscription {
            Subscription::Channel(name) if !are_sharded => Some((name, count)),
            Subscription::Shard(name) if are_sharded => Some((name, count)),
            _ => None,
        })
        .collect()
    }

    fn pattern_count(&self) -> u64 {
        self.clients.pattern_count() as u64
    }

    fn monitor(&self, client: u64) {
        self.clients.monitor(client);
    }

    fn stop_monitoring(&self, client: u64) {
        self.clients.stop_monitoring(client);
    }

    fn last_sync_seconds(&self) -> u64 {
        self.last_sync_seconds.load(Ordering::Relaxed)
    }

    fn purge_memory(&self) {
        crate::storage::release_free_memory();
    }

    fn note_error(&self, error: &crate::Error) {
        self.errors.note(error);
    }

    fn shut_down(&self) {
        self.end();
    }
}

/// A session's host, shared.
pub(super) fn as_host(shared: &Arc<Shared>) -> Arc<dyn Host> {
    Arc::clone(shared) as Arc<dyn Host>
}
