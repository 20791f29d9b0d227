//! The services that a session needs from its server beside the database: other clients, settings,
//! counters.
//!
//! The command line has no server. A server implements [`Host`]; this layer knows nothing of
//! sockets.

use std::time::Duration;

/// Something that messages are sent to: a name, or a pattern of names.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Subscription {
    /// Messages to the channel of this name.
    Channel(Vec<u8>),
    /// Messages to every channel with a matching name.
    Pattern(Vec<u8>),
    /// Messages to the sharded channel of this name.
    Shard(Vec<u8>),
}

impl Subscription {
    /// The name or the pattern.
    ///
    /// The [module](crate::command) has an example of a session.
    pub fn name(&self) -> &[u8] {
        match self {
            Subscription::Channel(name)
            | Subscription::Pattern(name)
            | Subscription::Shard(name) => name,
        }
    }
}

/// One of the clients that are connected, as CLIENT LIST shows it.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClientInfo {
    /// Its number, never used twice.
    pub id: u64,
    /// Where it is connected from.
    pub address: String,
    /// Where it is connected to.
    pub local_address: String,
    /// The name that it gave itself.
    pub name: String,
    /// How long it has been connected.
    pub age: Duration,
    /// How long it has said nothing.
    pub idle: Duration,
    /// The database that it has selected.
    pub database: u8,
    /// How many channels it has subscribed to, patterns, and sharded channels.
    pub subscriptions: [usize; 3],
    /// How many commands it has collected since MULTI; `None` outside.
    pub collected: Option<usize>,
    /// The command that it has sent last.
    pub command: &'static str,
    /// The version of the protocol that it speaks.
    pub protocol: u8,
    /// The library that it says it uses, and that one's version.
    pub library: [String; 2],
    /// Bytes that it has not read yet.
    pub output_bytes: usize,
}

/// Which clients CLIENT KILL means; all that is given must hold.
///
/// The [module](crate::command) has an example of a session.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ClientFilter {
    /// The client of this number.
    pub id: Option<u64>,
    /// The client that is connected from here.
    pub address: Option<String>,
    /// The client that is connected to here.
    pub local_address: Option<String>,
    /// All but this one.
    pub except: Option<u64>,
}

/// A line of INFO: its name and what stands behind the colon.
pub type InfoLine = (&'static str, String);

/// Keeps [`Host`] from being implemented outside this crate, so that it can gain methods.
pub(crate) mod sealed {
    pub trait Sealed {}
}

/// The services that a session needs from its server.
///
/// The trait is sealed: `brasa::server::Server` implements it, and other crates use a
/// session without one. It may gain methods in any release.
///
/// The [module](crate::command) has an example of a session.
pub trait Host: sealed::Sealed + Send + Sync {
    /// What INFO says in a section of this name, beside what the file itself tells.
    fn info(&self, section: &str) -> Vec<InfoLine>;

    /// The names and values of all settings, for CONFIG GET.
    fn settings(&self) -> Vec<(&'static str, String)>;

    /// Changes settings: all of them, or none. Each name is in lower case, and there once.
    ///
    /// # Errors
    ///
    /// What is wrong with a value; or that there is no such setting, or none that can be changed.
    fn change_settings(&self, changes: &[(String, &[u8])]) -> Result<(), String>;

    /// Sets the counters of INFO back to zero.
    fn reset_counters(&self);

    /// Whether this is the password; `None` where none is needed.
    fn is_password(&self, password: &[u8]) -> Option<bool>;

    /// The clients that are connected.
    fn clients(&self) -> Vec<ClientInfo>;

    /// Disconnects clients, and counts them. `own` is the one that asks.
    fn disconnect(&self, filter: &ClientFilter, own: u64) -> usize;

    /// Sends a message to all subscribers, and returns their number.
    fn publish(&self, channel: &[u8], message: &[u8], is_sharded: bool) -> u64;

    /// Lets a client have messages from now on.
    fn subscribe(&self, client: u64, subscription: &Subscription);

    /// Lets a client have them no longer.
    fn unsubscribe(&self, client: u64, subscription: &Subscription);

    /// The channels, or sharded channels, with subscribers, and the number of subscribers of each.
    fn channels(&self, are_sharded: bool) -> Vec<(Vec<u8>, u64)>;

    /// The number of patterns with at least one subscriber.
    fn pattern_count(&self) -> u64;

    /// Lets a client see every command that is executed.
    fn monitor(&self, client: u64);

    /// Lets a client see them no longer.
    fn stop_monitoring(&self, client: u64);

    /// Unix seconds of the last time that all was carried through to the device.
    fn last_sync_seconds(&self) -> u64;

    /// Gives memory that is not used back to the operating system.
    fn purge_memory(&self);

    /// Notes that a command failed through no fault of its client: the file could not be read or written.
    fn note_error(&self, error: &crate::Error);

    /// Ends the server, as SIGTERM does.
    fn shut_down(&self);
}
