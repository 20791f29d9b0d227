//! Why a server did not start, or did not end well.

use std::fmt;
use std::io;
use std::net::IpAddr;

use super::descriptors;

/// Why a server did not start, or did not end well.
///
/// The [module](crate::server) has an example.
#[derive(Debug)]
#[non_exhaustive]
pub enum ServerError {
    /// It would listen to other machines without asking for a password.
    Unprotected {
        /// Where it was to listen.
        address: IpAddr,
    },
    /// It cannot listen.
    Listen {
        /// Where it was to listen.
        place: String,
        /// Why it cannot.
        source: io::Error,
    },
    /// There is nowhere to listen: neither an address nor a socket was given.
    Nowhere,
    /// A setting has a value that it cannot have.
    Setting {
        /// What is wrong with which.
        reason: String,
    },
    /// The operating system allows the process too few open files for even one client.
    Descriptors {
        /// How many it may have open.
        limit: u64,
    },
    /// The operating system gave no thread, or no signals.
    System(io::Error),
    /// The file could not be opened, synced or closed.
    Db(crate::Error),
}

impl fmt::Display for ServerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServerError::Unprotected { address } => write!(
                f,
                "other machines can reach {address}, so the server needs a password: set one, or bind 127.0.0.1"
            ),
            ServerError::Listen { place, source } if source.kind() == io::ErrorKind::AddrInUse => {
                write!(
                    f,
                    "cannot listen on {place}: another server listens there; choose another port or socket"
                )
            }
            ServerError::Listen { place, source } => {
                write!(f, "cannot listen on {place}: {source}")
            }
            ServerError::Nowhere => {
                f.write_str("the server has neither an address nor a socket to listen on")
            }
            ServerError::Setting { reason } => f.write_str(reason),
            ServerError::Descriptors { limit } => write!(
                f,
                "the limit of {limit} open files leaves none for clients: raise it to {} or more (ulimit -n)",
                descriptors::RESERVED + 1
            ),
            ServerError::System(source) => write!(f, "cannot start the server: {source}"),
            ServerError::Db(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            ServerError::Listen { source, .. } | ServerError::System(source) => Some(source),
            ServerError::Db(error) => Some(error),
            _ => None,
        }
    }
}
