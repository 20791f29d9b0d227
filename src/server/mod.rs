//! A server for Redis's protocol, versions 2 and 3, over a file that other processes may have open
//! too.
//!
//! ```no_run
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use brasa::Durability;
//! use brasa::server::Server;
//! use std::time::Duration;
//!
//! let db = brasa::Db::options().durability(Durability::Os).open("cache.brasa")?;
//! let server = Server::new(db)
//!     .bind("127.0.0.1:6379".parse()?)
//!     .unix_socket("cache.sock", 0o700)
//!     .password("opensesame")
//!     .max_clients(100)
//!     .durability(Durability::Always) // each write is on the device before its reply
//!     .idle_timeout(Duration::from_secs(300))
//!     .halfway_timeout(Duration::from_secs(30))
//!     .notify_keyspace_events("KEA")
//!     .inline_commands(true)
//!     .end_on_signals(true)
//!     .start()?;
//! println!("redis-cli -p {}", server.local_addr().unwrap().port());
//! let handle = server.handle(); // `handle.stop()` ends the server from any thread
//! server.wait()?; // until a client sends SHUTDOWN
//! # Ok(())
//! # }
//! ```
//!
//! Its features and limits: [`docs::server`](crate::docs::server).
//!
//! | module | purpose |
//! | --- | --- |
//! | `request` | bytes to words |
//! | `reply` | replies to bytes |
//! | `output` | replies that wait |
//! | `transfer` | bytes to and from a socket |
//! | `connection` | one client: reads, executes, writes |
//! | `execute` | the choice of requests to execute, and their execution |
//! | `pace` | commands that block a thread, and their number |
//! | `monitor` | the output of MONITOR |
//! | `clients` | all clients: their subscriptions and messages |
//! | `shared` | the services of the server to a session |
//! | `syncer` | one sync for all waiting clients |
//! | `buffer_limits` | the bytes that may wait for a client, and from it |
//! | `descriptors` | the number of clients that the operating system allows |
//! | `errors` | log messages about a file that cannot be read or written |
//! | `background` | idle clients, a sync each second, expired keys |
//! | `events` | changes, as messages |

mod background;
mod buffer_limits;
mod clients;
mod connection;
mod descriptors;
mod error;
mod errors;
mod events;
mod execute;
mod monitor;
mod output;
mod pace;
mod reply;
#[doc(hidden)]
pub mod request;
mod settings;
mod shared;
mod syncer;
mod transfer;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::runtime::Runtime;
use tokio::sync::watch;

pub use error::ServerError;

use crate::storage::UnixSocket;
use crate::sync::Instant;
use crate::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use crate::sync::thread::{self, JoinHandle};
use crate::sync::{Arc, RwLock};
use crate::{Db, Durability, Options};
use clients::{ClientState, Clients};
use connection::Connection;
use errors::LoggedErrors;
use events::Events;
use pace::Places;
use settings::Settings;
use shared::{Counters, Shared, Waiting, new_run_id};
use syncer::Syncer;

/// How long the server waits for its clients when it ends.
const PATIENCE: Duration = Duration::from_secs(5);

/// The number of connections that may wait to be accepted; the system may allow fewer
/// (`net.core.somaxconn`). The `tcp-backlog` of Redis is 511.
const BACKLOG: i32 = 4_096;

/// How long a connection is silent before the system checks whether the other side still exists;
/// the `tcp-keepalive` of Redis.
const KEEP_ALIVE: Duration = Duration::from_secs(300);

/// How long the server accepts no connection after a failed accept, which is mostly due to a lack
/// of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The settings of a server; see the [module](self).
///
/// The [module](self) has an example.
#[derive(Debug)]
#[must_use]
pub struct Server {
    source: Source,
    address: Option<SocketAddr>,
    socket: Option<(PathBuf, u32)>,
    settings: Settings,
    threads: usize,
    ends_on_signals: bool,
}

/// The file to serve.
#[derive(Debug)]
enum Source {
    Db(Db),
    File(PathBuf, Box<Options>),
}

impl Source {
    fn open(self) -> crate::Result<Db> {
        match self {
            Source::Db(db) => Ok(db),
            Source::File(path, options) => options.open(path),
        }
    }
}

impl Server {
    /// Makes a server over an open file. New clients start in database 0.
    ///
    /// If the file was opened with [`Durability::Os`], only the server's own setting decides when
    /// it is synced.
    ///
    /// The [module](self) has an example.
    pub fn new(db: Db) -> Server {
        Server::over(Source::Db(db))
    }

    /// Makes a server over the file at this path. The file is opened, or created, after the server
    /// has begun to listen. If the server cannot listen, no file is left behind.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let directory = tempfile::tempdir()?;
    /// # let path = directory.path().join("cache.brasa");
    /// use brasa::Db;
    /// use brasa::server::Server;
    ///
    /// let server = Server::of_file(&path, Db::options()).bind("127.0.0.1:0".parse()?);
    /// let running = server.start()?;
    /// running.handle().stop();
    /// running.wait()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_file(path: impl AsRef<Path>, options: Options) -> Server {
        Server::over(Source::File(path.as_ref().to_owned(), Box::new(options)))
    }

    fn over(source: Source) -> Server {
        Server {
            source,
            address: None,
            socket: None,
            settings: Settings::default(),
            threads: thread::available_parallelism()
                .map_or(2, usize::from)
                .max(2),
            ends_on_signals: false,
        }
    }

    /// Listens on this address; port 0 chooses a free port. An address that other machines can
    /// reach needs a password.
    ///
    /// The [module](self) has an example.
    pub fn bind(mut self, address: SocketAddr) -> Server {
        self.address = Some(address);
        self
    }

    /// Listens on a Unix socket of this path, with this mode; 0o700 is for the owner alone. It
    /// replaces a socket without a listener, and no other file.
    ///
    /// The [module](self) has an example.
    pub fn unix_socket(mut self, path: impl AsRef<Path>, mode: u32) -> Server {
        self.socket = Some((path.as_ref().to_owned(), mode));
        self
    }

    /// Demands this password from clients.
    ///
    /// The [module](self) has an example.
    pub fn password(mut self, password: impl Into<Vec<u8>>) -> Server {
        self.settings.password = Some(password.into());
        self
    }

    /// Sets the maximum number of clients at once; 10,000 by default. If the process may not open
    /// that many files, the server raises the limit as far as it can, and then accepts fewer
    /// clients.
    ///
    /// The [module](self) has an example.
    pub fn max_clients(mut self, count: usize) -> Server {
        self.settings.max_clients = count;
        self
    }

    /// Sets when writes reach the device, as Redis's `appendfsync` does: before their replies
    /// ([`Durability::Always`]), each second (the default), or when the operating system decides.
    ///
    /// The server syncs by itself, so open its `Db` with [`Durability::Os`]: otherwise the handle
    /// syncs, too.
    ///
    /// The [module](self) has an example.
    pub fn durability(mut self, durability: Durability) -> Server {
        self.settings.durability = durability;
        self
    }

    /// Sets how long a client may be idle before it is disconnected; zero, the default, means
    /// forever.
    ///
    /// The [module](self) has an example.
    pub fn idle_timeout(mut self, timeout: Duration) -> Server {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Sets how long a client may neither send nor receive a byte while a request is incomplete or
    /// a reply waits for it. One minute by default; zero means no limit.
    ///
    /// The [module](self) has an example.
    pub fn halfway_timeout(mut self, timeout: Duration) -> Server {
        self.settings.halfway_timeout = timeout;
        self
    }

    /// Sets which changes are published as messages, in the letters of `notify-keyspace-events` of
    /// Redis; none by default.
    ///
    /// The [module](self) has an example.
    pub fn notify_keyspace_events(mut self, events: impl Into<String>) -> Server {
        self.settings.notify_events = events.into();
        self
    }

    /// Sets whether to accept inline requests, as typed in telnet; no by default.
    ///
    /// The [module](self) has an example.
    pub fn inline_commands(mut self, allowed: bool) -> Server {
        self.settings.lines = allowed;
        self
    }

    /// Sets whether SIGTERM and SIGINT end the server instead of the process; no by default. A
    /// second signal ends the process with status 1.
    ///
    /// The [module](self) has an example.
    pub fn end_on_signals(mut self, ends: bool) -> Server {
        self.ends_on_signals = ends;
        self
    }

    /// Begins to listen. On return, clients can connect.
    ///
    /// The [module](self) has an example.
    ///
    /// # Errors
    ///
    /// All variants; [`ServerError::Db`] if the file of [`Server::of_file`] cannot be opened.
    pub fn start(self) -> Result<RunningServer, ServerError> {
        if let Some(address) = self.address
            && !address.ip().is_loopback()
            && self.settings.password.is_none()
        {
            return Err(ServerError::Unprotected {
                address: address.ip(),
            });
        }
        let mut settings = self.settings;
        check_events(&settings)?;
        settings.max_clients = clients_with_room(settings.max_clients)?;
        settings.is_reachable = self
            .address
            .is_some_and(|address| !address.ip().is_loopback());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(self.threads)
            .thread_name("brasa-server")
            .enable_all()
            .build()
            .map_err(ServerError::System)?;
        let tcp = match self.address {
            None => None,
            Some(address) => {
                let bound = runtime.block_on(TcpListener::bind(address));
                let listener = bound.map_err(listen_error(&address))?;
                lengthen_backlog(&listener).map_err(listen_error(&address))?;
                Some(listener)
            }
        };
        let unix = match &self.socket {
            None => None,
            Some((path, mode)) => {
                let place = path.display();
                let bound = UnixSocket::bind(path, *mode).map_err(listen_error(&place))?;
                let _inside = runtime.enter();
                let listener = bound.listener().and_then(UnixListener::from_std);
                let listener = listener.map_err(listen_error(&place))?;
                lengthen_backlog(&listener).map_err(listen_error(&place))?;
                Some((listener, bound))
            }
        };
        if tcp.is_none() && unix.is_none() {
            return Err(ServerError::Nowhere);
        }
        let db = self.source.open().map_err(ServerError::Db)?;
        let local_addr = tcp.as_ref().and_then(|listener| listener.local_addr().ok());
        let clients = Clients::default();
        clients.set_inbox_limit(settings.output_limits.pubsub.hard);
        let shared = Arc::new(Shared {
            syncer: Syncer::start(db.clone()).map_err(ServerError::System)?,
            clients,
            settings: RwLock::new(settings),
            counters: Counters::default(),
            places: Places::default(),
            events: Events::default(),
            run_id: new_run_id(),
            started_at: Instant::now(),
            seconds: AtomicU64::new(0),
            last_sync_seconds: AtomicU64::new(db.now_ms() / 1_000),
            has_written: AtomicBool::new(false),
            ending: watch::Sender::new(false),
            port: local_addr.map_or(0, |address| address.port()),
            waiting: Waiting::default(),
            errors: LoggedErrors::default(),
            db,
        });
        if self.ends_on_signals {
            end_on_signals(&shared.ending).map_err(ServerError::System)?;
        }
        let listeners = Listeners { tcp, unix };
        let handle = ServerHandle {
            shared: Arc::clone(&shared),
        };
        let thread = thread::Builder::new()
            .name("brasa-server".to_owned())
            .spawn(move || run(runtime, listeners, shared))
            .map_err(ServerError::System)?;
        Ok(RunningServer {
            handle,
            local_addr,
            thread,
        })
    }
}

/// Calls `listen` again on a listening socket, for a longer backlog. The standard library asks for
/// 128 on a Unix socket, and a longer burst of connections stalls for a second.
fn lengthen_backlog(listener: impl std::os::fd::AsFd) -> io::Result<()> {
    Ok(rustix::net::listen(listener, BACKLOG)?)
}

fn check_events(settings: &Settings) -> Result<(), ServerError> {
    let events = &settings.notify_events;
    settings::check_events(events).map_err(|why| ServerError::Setting {
        reason: format!("notify-keyspace-events cannot be {events:?}: {why}"),
    })
}

/// Returns how many of the wanted clients are possible.
fn clients_with_room(wanted: usize) -> Result<usize, ServerError> {
    if wanted == 0 {
        let reason = "maxclients must be 1 or more".to_owned();
        return Err(ServerError::Setting { reason });
    }
    let room = descriptors::room_for(wanted);
    if room.clients == 0 {
        return Err(ServerError::Descriptors { limit: room.limit });
    }
    if room.clients < wanted {
        tracing::warn!(
            wanted,
            clients = room.clients,
            limit = room.limit,
            "fewer clients than requested: the limit of open files is too low (ulimit -n)"
        );
    }
    Ok(room.clients)
}

fn listen_error(place: &dyn fmt::Display) -> impl FnOnce(io::Error) -> ServerError {
    let place = place.to_string();
    move |source| ServerError::Listen { place, source }
}

/// A listening server; from [`Server::start`].
///
/// The [module](self) has an example.
#[derive(Debug)]
pub struct RunningServer {
    handle: ServerHandle,
    local_addr: Option<SocketAddr>,
    thread: JoinHandle<Result<(), crate::Error>>,
}

impl RunningServer {
    /// Returns the address; `None` if the server only listens on a Unix socket.
    ///
    /// The [module](self) has an example.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.local_addr
    }

    /// Returns a handle that ends the server, from any thread.
    ///
    /// The [module](self) has an example.
    pub fn handle(&self) -> ServerHandle {
        self.handle.clone()
    }

    /// Waits for the end of the server. On return, every request that had arrived is answered, and
    /// every write is on the device.
    ///
    /// The [module](self) has an example.
    ///
    /// # Errors
    ///
    /// [`ServerError::Db`] if the last sync failed.
    pub fn wait(self) -> Result<(), ServerError> {
        match self.thread.join() {
            Ok(ended) => ended.map_err(ServerError::Db),
            Err(_) => Err(ServerError::System(io::Error::other(
                "the server's thread panicked",
            ))),
        }
    }
}

/// Ends a server; from [`RunningServer::handle`].
///
/// The [module](self) has an example.
#[derive(Clone)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl fmt::Debug for ServerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerHandle").finish_non_exhaustive()
    }
}

impl ServerHandle {
    /// Ends the server; [`RunningServer::wait`] then returns.
    ///
    /// The [module](self) has an example.
    pub fn stop(&self) {
        self.shared.end();
    }
}

struct Listeners {
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, UnixSocket)>,
}

/// Starts a thread that waits for signals, also while the runtime ends.
fn end_on_signals(ending: &watch::Sender<bool>) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()?;
    let inside = runtime.enter();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    drop(inside);
    let ending = ending.clone();
    let wait = async move {
        loop {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if ending.send_replace(true) {
                tracing::error!(
                    "second signal: the server exits at once, without waiting for its clients and without a sync"
                );
                std::process::exit(1);
            }
            tracing::info!("signal received: the server shuts down");
        }
    };
    let thread = thread::Builder::new().name("brasa-signals".to_owned());
    thread.spawn(move || runtime.block_on(wait)).map(drop)
}

/// Serves until the end.
fn run(runtime: Runtime, listeners: Listeners, shared: Arc<Shared>) -> Result<(), crate::Error> {
    let Listeners { tcp, unix } = listeners;
    let (unix, socket) = unix.unzip();
    let path = socket.as_ref().map_or(Path::new(""), UnixSocket::path);
    runtime.spawn(background::look_after_clients(Arc::clone(&shared)));
    runtime.spawn(background::sync_each_interval(Arc::clone(&shared)));
    runtime.spawn(background::remove_expired(Arc::clone(&shared)));
    runtime.spawn(events::tell_changes(Arc::clone(&shared)));
    runtime.block_on(async {
        let mut ending = shared.ending.subscribe();
        let accepting = async {
            tokio::join!(accept_tcp(tcp, &shared), accept_unix(unix, path, &shared));
        };
        tokio::select! {
            () = accepting => {}
            _ = ending.wait_for(|is_ending| *is_ending) => {}
        }
        let begun = Instant::now();
        while shared.clients.count() > 0 && begun.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        for client in shared.clients.all() {
            client.disconnect();
        }
    });
    drop(socket);
    runtime.shutdown_timeout(PATIENCE);
    shared.syncer.stop();
    shared.db.sync()
}

async fn accept_tcp(listener: Option<TcpListener>, shared: &Arc<Shared>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let local = listener
        .local_addr()
        .map_or_else(|_| String::new(), |local| local.to_string());
    loop {
        match listener.accept().await {
            Ok((stream, address)) => {
                // A reply is written in one piece, and waits for nothing.
                let _ = stream.set_nodelay(true);
                let _ = keep_alive(&stream);
                admit(stream, address.to_string(), local.clone(), shared);
            }
            Err(error) => pause(&error).await,
        }
    }
}

/// Lets the system check at intervals whether the machine of a client still exists. Without it, a
/// client whose machine failed would stay forever.
fn keep_alive(stream: &tokio::net::TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt;
    sockopt::set_tcp_keepidle(stream, KEEP_ALIVE)?;
    sockopt::set_tcp_keepintvl(stream, KEEP_ALIVE / 3)?;
    sockopt::set_tcp_keepcnt(stream, 3)?;
    sockopt::set_socket_keepalive(stream, true)
}

async fn accept_unix(listener: Option<UnixListener>, path: &Path, shared: &Arc<Shared>) {
    let Some(listener) = listener else {
        return std::future::pending().await;
    };
    let path = format!("{}:0", path.display());
    loop {
        match listener.accept().await {
            Ok((stream, _)) => admit(stream, path.clone(), path.clone(), shared),
            Err(error) => pause(&error).await,
        }
    }
}

/// Waits after a failed accept, since the next one would fail at once.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "cannot accept a client");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

/// Serves a new client, or reports that there are too many.
fn admit<S>(mut stream: S, address: String, local_address: String, shared: &Arc<Shared>)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    static NEXT_ID: AtomicU64 = AtomicU64::new(1);
    shared.counters.connections.fetch_add(1, Ordering::Relaxed);
    if shared.clients.count() >= shared.setting(|settings| settings.max_clients) {
        shared.counters.rejected.fetch_add(1, Ordering::Relaxed);
        tokio::spawn(async move {
            let _ = stream
                .write_all(b"-ERR max number of clients reached\r\n")
                .await;
        });
        return;
    }
    let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
    tracing::debug!(client = id, address, "connected");
    let seconds = shared.seconds.load(Ordering::Relaxed);
    let (state, messages) = ClientState::new(id, address, local_address, seconds);
    shared.clients.add(&state);
    let connection = Connection::new(stream, shared, state, messages);
    tokio::spawn(async move {
        connection.serve().await;
        tracing::debug!(client = id, "gone");
    });
}

#[cfg(test)]
mod tests {
    use crate::sync::mpsc;
    use crate::sync::thread;
    use std::net::{TcpListener, TcpStream};
    use std::os::unix::net::{UnixListener, UnixStream};
    use std::time::Duration;

    use super::lengthen_backlog;

    /// More than the backlog of 128 that the standard library asks for.
    const BURST: usize = 400;

    #[test]
    fn burst_of_connections_waits_to_be_accepted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("socket");
        let unix = UnixListener::bind(&path).unwrap();
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        lengthen_backlog(&unix).unwrap();
        lengthen_backlog(&tcp).unwrap();
        let address = tcp.local_addr().unwrap();
        let (sender, connected) = mpsc::channel();
        // A connection beyond the backlog would wait for an accept that never comes.
        thread::spawn(move || {
            let unix: Vec<_> = (0..BURST).map(|_| UnixStream::connect(&path)).collect();
            let limit = Duration::from_millis(900);
            let tcp = (0..BURST).map(|_| TcpStream::connect_timeout(&address, limit));
            let tcp: Vec<_> = tcp.collect();
            let are_there = unix.iter().all(Result::is_ok) && tcp.iter().all(Result::is_ok);
            let _ = sender.send(are_there);
        });
        let are_there = connected.recv_timeout(Duration::from_secs(20));
        assert_eq!(are_there, Ok(true));
    }
}
