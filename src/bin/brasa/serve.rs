//! `brasa serve`: the file over Redis's protocol.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::server::{Server, ServerError};
use brasa::{Db, Durability};

use super::{Failure, Outcome};

/// How a server is to listen and to behave.
#[derive(Debug, clap::Args)]
pub(super) struct ServeOptions {
    /// The port, 0 for a free one.
    #[arg(long, default_value_t = 6379)]
    port: u16,

    /// The address; one that other machines can reach needs a password.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS", value_parser = address)]
    bind: IpAddr,

    /// A Unix socket to listen on as well.
    #[arg(long, value_name = "PATH")]
    unixsocket: Option<PathBuf>,

    /// The mode of the socket, in octal: who may connect.
    #[arg(long, value_name = "MODE", default_value = "700", value_parser = octal)]
    unixsocketperm: u32,

    /// A file that holds the password, in its first line.
    #[arg(long, value_name = "FILE")]
    requirepass_file: Option<PathBuf>,

    /// How many clients there may be at once.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    maxclients: u32,

    /// When writes are carried through to the device: before their replies, each second, or when the system likes.
    #[arg(long, value_name = "WHEN", default_value = "everysec", value_parser = append_fsync)]
    appendfsync: Durability,

    /// Disconnects clients that say nothing for so many seconds; 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,

    /// Tells of changes as messages, in Redis's letters, as KEA.
    #[arg(long, value_name = "LETTERS", default_value = "")]
    notify_keyspace_events: String,

    /// Takes requests that are lines, as somebody types them who uses telnet.
    #[arg(long)]
    inline: bool,

    /// What is logged to standard error: error, warn, info, debug or trace.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| {
        "it is an IP address: 127.0.0.1 for this machine alone, 0.0.0.0 for all of IPv4, ::1 and :: for IPv6"
            .to_owned()
    })
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is three octal digits, as 700".to_owned()),
    }
}

fn append_fsync(text: &str) -> Result<Durability, String> {
    match text {
        "always" => Ok(Durability::Always),
        "everysec" => Ok(Durability::Interval(Duration::from_secs(1))),
        "no" => Ok(Durability::Os),
        _ => Err("it is one of always, everysec and no".to_owned()),
    }
}

/// Serves the file until a signal or SHUTDOWN ends it.
pub(super) fn serve(path: &Path, mode: u32, options: ServeOptions) -> Outcome {
    begin_log(&options.log)?;
    let password = options
        .requirepass_file
        .as_deref()
        .map(read_password)
        .transpose()?;
    // The server says when it is synced.
    let file = Db::options().durability(Durability::Os).mode(mode);
    let mut server = Server::of_file(path, file)
        .bind(SocketAddr::new(options.bind, options.port))
        .max_clients(usize::try_from(options.maxclients).unwrap_or(usize::MAX))
        .durability(options.appendfsync)
        .idle_timeout(Duration::from_secs(options.timeout))
        .notify_keyspace_events(options.notify_keyspace_events)
        .inline_commands(options.inline)
        .end_on_signals(true);
    if let Some(password) = password {
        server = server.password(password);
    }
    if let Some(socket) = &options.unixsocket {
        server = server.unix_socket(socket, options.unixsocketperm);
    }
    let running = server.start()?;
    let mut output = io::stdout().lock();
    // Whoever has started it may wait for this line, and be gone by now.
    let said = match (running.local_addr(), &options.unixsocket) {
        (Some(address), Some(socket)) => writeln!(
            output,
            "{} is served on {address} and {}",
            path.display(),
            socket.display()
        ),
        (Some(address), None) => writeln!(output, "{} is served on {address}", path.display()),
        (None, _) => Ok(()),
    };
    let _ = said.and_then(|()| output.flush());
    drop(output);
    running.wait()?;
    Ok(true)
}

fn begin_log(level: &str) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(level)
        .map_err(|error| Failure::Usage(format!("--log {level}: {error}")))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        // A file of them is no place for colours.
        .with_ansi(io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .with_writer(io::stderr)
        .init();
    Ok(())
}

/// The first line of a file, which must not be empty.
fn read_password(path: &Path) -> Result<String, Failure> {
    let read = std::fs::read_to_string(path);
    let text = read.map_err(|error| {
        Failure::Message(format!(
            "cannot read the password in {}: {error}",
            path.display()
        ))
    })?;
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(Failure::Message(format!(
            "{} holds no password in its first line",
            path.display()
        ))),
    }
}

impl From<ServerError> for Failure {
    fn from(error: ServerError) -> Self {
        match error {
            ServerError::Setting { reason } => Failure::Usage(reason),
            ServerError::Db(error) => error.into(),
            error => Failure::Message(error.to_string()),
        }
    }
}
