//! `brasa serve`: the file over Redis's protocol.

use std::io::{self, IsTerminal, Write};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::server::{Server, ServerError};
use brasa::{Db, Durability};

use super::{Failure, Outcome};

/// The options of `brasa serve`.
#[derive(Debug, clap::Args)]
pub(super) struct ServeOptions {
    /// The TCP port; 0 picks a free one.
    #[arg(long, default_value_t = 6379)]
    port: u16,

    /// The IP address to listen on. An address that other machines can reach needs a password.
    #[arg(long, default_value = "127.0.0.1", value_name = "ADDRESS", value_parser = address)]
    bind: IpAddr,

    /// The path of a Unix socket, in addition to the TCP port.
    #[arg(long, value_name = "PATH")]
    unixsocket: Option<PathBuf>,

    /// The permissions of the Unix socket, in octal.
    #[arg(long, value_name = "MODE", default_value = "700", value_parser = octal)]
    unixsocketperm: u32,

    /// A file with the password in its first line.
    #[arg(long, value_name = "FILE")]
    requirepass_file: Option<PathBuf>,

    /// The maximum number of connected clients.
    #[arg(long, value_name = "N", default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    maxclients: u32,

    /// The sync policy: before each reply (always), once a second (everysec), or left to the
    /// operating system (no).
    #[arg(long, value_name = "WHEN", default_value = "everysec", value_parser = append_fsync)]
    appendfsync: Durability,

    /// Disconnects clients that are idle for this many seconds; 0 never does.
    #[arg(long, value_name = "SECONDS", default_value_t = 0)]
    timeout: u64,

    /// The keyspace notifications to publish, in the letters of Redis, such as KEA.
    #[arg(long, value_name = "LETTERS", default_value = "")]
    notify_keyspace_events: String,

    /// Accepts inline commands: plain lines, as typed into telnet.
    #[arg(long)]
    inline: bool,

    /// The least severe level that is logged to standard error.
    #[arg(long, value_name = "LEVEL", default_value = "info", value_parser = ["error", "warn", "info", "debug", "trace"])]
    log: String,
}

fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse();
    parsed.map_err(|_| {
        "not an IP address: use 127.0.0.1 or ::1 for this machine alone, 0.0.0.0 for all IPv4 \
         addresses, or :: for all addresses"
            .to_owned()
    })
}

fn octal(text: &str) -> Result<u32, String> {
    match u32::from_str_radix(text, 8) {
        Ok(mode) if mode <= 0o777 => Ok(mode),
        _ => Err("a mode is three octal digits, for example 700".to_owned()),
    }
}

fn append_fsync(text: &str) -> Result<Durability, String> {
    match text {
        "always" => Ok(Durability::Always),
        "everysec" => Ok(Durability::Interval(Duration::from_secs(1))),
        "no" => Ok(Durability::Os),
        _ => Err("use always, everysec or no".to_owned()),
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
    // The server syncs the file, so the handle itself must not.
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
    // A parent process may wait for this line, or may have closed the pipe already.
    let said = match (running.local_addr(), &options.unixsocket) {
        (Some(address), Some(socket)) => writeln!(
            output,
            "serving {} on {address} and {}",
            path.display(),
            socket.display()
        ),
        (Some(address), None) => writeln!(output, "serving {} on {address}", path.display()),
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
        // No colours if standard error is redirected to a file.
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
            "no password in {}: its first line is empty",
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
