//! A Redis or Valkey server, or a cluster of them, by its URL: connections that are kept, and requests over them.
//!
//! What this layer knows: how to reach a server and what it says. What a request means is for those above.

#[cfg_attr(not(feature = "redis-cluster"), path = "no_cluster.rs")]
mod cluster;

use std::time::Duration;

use redis::{Client, Cmd, Connection, ErrorKind, RedisError, RedisResult, Value};

use crate::sync::Instant;
use crate::sync::{Mutex, MutexGuard, PoisonError};
use crate::{Error, Result};

/// Most connections that are kept for later.
const MAX_IDLE: usize = 16;

/// How often a watched key is looked at again that was written to meanwhile: by whoever renews a lease, it holds the same as before.
const MAX_WATCHES: usize = 8;

/// How long after a connection could not be made, or a request had no answer in time, the next one is refused without trying: else each caller would wait for a
/// server that does not answer.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A server, or a cluster.
pub(crate) struct Server {
    /// The URL without its password, for messages.
    address: String,
    kind: Kind,
    timeout: Duration,
    idle: Mutex<Vec<Link>>,
    /// When a connection could not be made last, or an answer did not come, and why.
    failed: Mutex<Option<(Instant, String)>>,
}

enum Kind {
    Single(Client),
    Cluster(cluster::Client),
}

/// A connection.
pub(crate) enum Link {
    Single(Box<Connection>),
    Cluster(cluster::Connection),
}

/// One of the servers of a cluster that own keys; or the only one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Node(Option<(String, u16)>);

/// A page of keys, and where the next one begins; 0 at the end.
pub(crate) struct Page {
    pub(crate) cursor: u64,
    pub(crate) keys: Vec<Vec<u8>>,
}

/// The parts of a URL that matter here.
struct Target {
    is_cluster: bool,
    /// A URL for each server that is named.
    urls: Vec<String>,
    address: String,
}

/// Takes a URL apart: `SCHEME://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/DATABASE]`.
fn parse(url: &str) -> Option<Target> {
    let (scheme, rest) = url.split_once("://")?;
    let (base, is_cluster) = match scheme {
        "redis" | "rediss" => (scheme, false),
        "redis+cluster" => ("redis", true),
        "rediss+cluster" => ("rediss", true),
        _ => return None,
    };
    // First, so that a slash in a password does not make half of it a host, which messages show.
    let (user, rest) = match rest.rsplit_once('@') {
        Some((user, rest)) => (format!("{user}@"), rest),
        None => (String::new(), rest),
    };
    let (hosts, path) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts: Vec<&str> = hosts.split(',').collect();
    if hosts.iter().any(|host| host.is_empty()) || (!is_cluster && hosts.len() > 1) {
        return None;
    }
    let urls = hosts
        .iter()
        .map(|host| format!("{base}://{user}{host}/{path}"));
    Some(Target {
        is_cluster,
        urls: urls.collect(),
        address: format!("{scheme}://{}/{path}", hosts.join(",")),
    })
}

/// A URL that is none, or of no scheme that is known, as messages may show it.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
        (None, Some((_, rest))) => rest.to_owned(),
        (_, None) => url.to_owned(),
    }
}

/// Chooses the cryptography of TLS, if the program has not chosen one.
#[cfg(feature = "redis-tls")]
fn prepare_tls() -> std::result::Result<(), String> {
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        // It fails only if another thread has chosen one at this moment.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
    Ok(())
}

#[cfg(not(feature = "redis-tls"))]
fn prepare_tls() -> std::result::Result<(), String> {
    Err("this build has no TLS: build it with the feature \"redis-tls\"".to_owned())
}

impl Server {
    /// Reaches the server once, so that a wrong URL is an error here.
    pub(crate) fn connect(url: &str, timeout: Duration) -> Result<Server> {
        let refused = |address: &str, reason: String| Error::Remote {
            operation: "connect to",
            address: address.to_owned(),
            reason,
        };
        let target = parse(url).ok_or_else(|| {
            let reason = "the URL is not SCHEME://[USER:PASSWORD@]HOST[:PORT][/DATABASE] with the scheme redis, rediss, redis+cluster or rediss+cluster";
            refused(&without_password(url), reason.to_owned())
        })?;
        let failed = |error: RedisError| refused(&target.address, error.to_string());
        if url.starts_with("rediss") {
            prepare_tls().map_err(|reason| refused(&target.address, reason))?;
        }
        let kind = match target.is_cluster {
            true => {
                let client = cluster::Client::new(&target.urls, timeout);
                Kind::Cluster(client.map_err(|reason| refused(&target.address, reason))?)
            }
            false => {
                let url = target.urls.first().map_or("", String::as_str);
                Kind::Single(Client::open(url).map_err(failed)?)
            }
        };
        let server = Server {
            address: target.address.clone(),
            kind,
            timeout,
            idle: Mutex::default(),
            failed: Mutex::default(),
        };
        let link = server.link().map_err(failed)?;
        server.keep(link);
        Ok(server)
    }

    pub(crate) fn is_cluster(&self) -> bool {
        matches!(self.kind, Kind::Cluster(_))
    }

    /// Whether the URL names a database.
    pub(crate) fn names_database(&self) -> bool {
        let path = self.address.split_once("://").map_or("", |(_, rest)| rest);
        let path = path.split_once('?').map_or(path, |(path, _)| path);
        let database = path.split_once('/').map_or("", |(_, database)| database);
        !database.is_empty() && !self.is_cluster()
    }

    /// The URL without its password.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// A connection for a caller that needs it for long.
    pub(crate) fn open(&self, operation: &'static str) -> Result<Link> {
        self.link().map_err(|error| self.error(operation, &error))
    }

    /// A new connection.
    fn link(&self) -> RedisResult<Link> {
        match &self.kind {
            Kind::Single(client) => {
                let connection = client.get_connection_with_timeout(self.timeout)?;
                connection.set_read_timeout(Some(self.timeout))?;
                connection.set_write_timeout(Some(self.timeout))?;
                Ok(Link::Single(Box::new(connection)))
            }
            Kind::Cluster(client) => Ok(Link::Cluster(client.connect()?)),
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Link>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep(&self, link: Link) {
        let mut idle = self.idle();
        if idle.len() < MAX_IDLE {
            idle.push(link);
        }
    }

    /// Runs requests over a connection. One that had been kept may have been closed by the server meanwhile: then they are run once more over a new
    /// one, so that they must be such as may be done twice.
    pub(crate) fn with_link<R>(
        &self,
        operation: &'static str,
        mut requests: impl FnMut(&mut Link) -> RedisResult<R>,
    ) -> Result<R> {
        let kept = self.idle().pop();
        if let Some(mut link) = kept {
            match requests(&mut link) {
                Err(error) if error.is_io_error() && !error.is_timeout() => {}
                result => return self.end(operation, link, result),
            }
        }
        let mut link = self.link_again(operation)?;
        let result = requests(&mut link);
        self.end(operation, link, result)
    }

    /// A new connection, unless one could not be made a moment ago.
    fn link_again(&self, operation: &'static str) -> Result<Link> {
        if let Some((at, reason)) = &*self.failed()
            && at.elapsed() < RETRY_AFTER
        {
            return Err(Error::Remote {
                operation,
                address: self.address.clone(),
                reason: reason.clone(),
            });
        }
        let link = self.link();
        *self.failed() = match &link {
            Ok(_) => None,
            Err(error) => Some((Instant::now(), error.to_string())),
        };
        link.map_err(|error| self.error(operation, &error))
    }

    fn failed(&self) -> MutexGuard<'_, Option<(Instant, String)>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn end<R>(&self, operation: &'static str, link: Link, result: RedisResult<R>) -> Result<R> {
        // A late answer to a request that timed out would be taken for the next one's.
        let is_usable = match &result {
            Ok(_) => true,
            Err(error) => error.code().is_some(),
        };
        if is_usable {
            self.keep(link);
        }
        if let Err(error) = &result
            && error.is_timeout()
        {
            // The others that are kept would wait as long, one after another.
            self.idle().clear();
            *self.failed() = Some((Instant::now(), error.to_string()));
        }
        result.map_err(|error| self.error(operation, &error))
    }

    pub(crate) fn error(&self, operation: &'static str, error: &RedisError) -> Error {
        if error.code() == Some("WRONGTYPE") {
            return Error::WrongType;
        }
        Error::Remote {
            operation,
            address: self.address.clone(),
            reason: error.to_string(),
        }
    }
}

impl Link {
    pub(crate) fn query<T: redis::FromRedisValue>(&mut self, command: &Cmd) -> RedisResult<T> {
        match self {
            Link::Single(connection) => command.query(&mut **connection),
            Link::Cluster(connection) => connection.query(command),
        }
    }

    /// Sends many requests at once. Each has an answer or an error of its own; in a cluster each goes where its key is.
    pub(crate) fn pipeline(&mut self, commands: &[Cmd]) -> RedisResult<Vec<RedisResult<Value>>> {
        if commands.is_empty() {
            return Ok(Vec::new());
        }
        match self {
            Link::Single(connection) => {
                let mut pipe = redis::pipe();
                for command in commands {
                    pipe.add_command(command.clone());
                }
                pipe.ignore_errors().query(&mut **connection)
            }
            Link::Cluster(connection) => connection.pipeline(commands),
        }
    }

    /// Runs the requests that `decide` gives for what a string key holds and its PTTL, in one step with
    /// reading it; for servers without scripts. Returns what `decide` says beside them; `None` if others
    /// kept changing the key.
    pub(crate) fn change_watched<R>(
        &mut self,
        key: &[u8],
        decide: impl Fn(Option<&[u8]>, i64) -> (R, Vec<Cmd>),
    ) -> RedisResult<Option<R>> {
        let Link::Single(connection) = self else {
            let reason = (
                ErrorKind::Client,
                "a lease on a cluster needs scripts, and the cluster does not support them",
            );
            return Err(reason.into());
        };
        for _ in 0..MAX_WATCHES {
            redis::cmd("WATCH").arg(key).exec(&mut **connection)?;
            let held: Option<Vec<u8>> = redis::cmd("GET").arg(key).query(&mut **connection)?;
            let left = redis::cmd("PTTL").arg(key).query(&mut **connection)?;
            let (answer, then) = decide(held.as_deref(), left);
            if then.is_empty() {
                redis::cmd("UNWATCH").exec(&mut **connection)?;
                return Ok(Some(answer));
            }
            let mut pipe = redis::pipe();
            pipe.atomic();
            for command in then {
                pipe.add_command(command);
            }
            // Nothing if the key was written to since it was watched.
            if pipe
                .query::<Option<Vec<Value>>>(&mut **connection)?
                .is_some()
            {
                return Ok(Some(answer));
            }
        }
        Ok(None)
    }

    /// Asks one of the servers.
    pub(crate) fn query_at<T: redis::FromRedisValue>(
        &mut self,
        node: &Node,
        command: &Cmd,
    ) -> RedisResult<T> {
        match (self, &node.0) {
            (Link::Cluster(connection), Some((host, port))) => {
                connection.query_at((host, *port), command)
            }
            (link, _) => link.query(command),
        }
    }

    /// The servers that own keys, in an order that stays the same.
    pub(crate) fn nodes(&mut self) -> RedisResult<Vec<Node>> {
        match self {
            Link::Single(_) => Ok(vec![Node(None)]),
            Link::Cluster(connection) => {
                let nodes = connection.nodes()?.into_iter();
                Ok(nodes.map(|address| Node(Some(address))).collect())
            }
        }
    }

    /// A page of the keys that a server owns and that match a pattern.
    pub(crate) fn scan(
        &mut self,
        node: &Node,
        cursor: u64,
        pattern: Option<&[u8]>,
        count: usize,
    ) -> RedisResult<Page> {
        let mut command = redis::cmd("SCAN");
        command.arg(cursor).arg("COUNT").arg(count);
        if let Some(pattern) = pattern {
            command.arg("MATCH").arg(pattern);
        }
        let (cursor, keys) = self.query_at(node, &command)?;
        Ok(Page { cursor, keys })
    }
}

/// A pattern that matches what begins with `prefix`, whatever is in it.
pub(crate) fn pattern_of_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix {
        if b"*?[]\\^-".contains(byte) {
            pattern.push(b'\\');
        }
        pattern.push(*byte);
    }
    pattern.push(b'*');
    pattern
}

#[cfg(test)]
mod tests {
    use crate::sync::Arc;
    use crate::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
    use crate::sync::thread;
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_url_is_taken_apart_and_its_password_is_not_shown() {
        let target = parse("redis://me:secret@localhost:6379/3").unwrap();
        assert_eq!(target.urls, ["redis://me:secret@localhost:6379/3"]);
        assert_eq!(target.address, "redis://localhost:6379/3");
        let target = parse("rediss+cluster://:secret@a:1,b:2").unwrap();
        assert!(target.is_cluster);
        assert_eq!(
            target.urls,
            ["rediss://:secret@a:1/", "rediss://:secret@b:2/"]
        );
        assert_eq!(target.address, "rediss+cluster://a:1,b:2/");
        for url in [
            "redis:/x",
            "http://a",
            "redis://",
            "redis://a,b",
            "redis+cluster://a,,b",
            "",
        ] {
            assert!(parse(url).is_none(), "{url}");
        }
    }

    #[test]
    fn no_message_shows_a_password_whatever_the_url_is_like() {
        for url in [
            "http://me:secret@a/",
            "valkey://me:secret@a",
            "redis://:secret@/",
            "redis://me:se/cret@127.0.0.1:1/",
            "redis://me:secret@127.0.0.1:1/no-number",
            "redis:/me:secret@a",
        ] {
            let said = Server::connect(url, Duration::from_secs(1)).err();
            let said = said.unwrap().to_string();
            assert!(!said.contains("cret"), "{url}: {said}");
        }
    }

    #[test]
    fn nobody_at_the_other_end_is_an_error_that_says_where() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        for scheme in ["redis", "rediss", "redis+cluster"] {
            let url = format!("{scheme}://:secret@127.0.0.1:{port}/");
            let refused = Server::connect(&url, Duration::from_secs(1));
            let said = refused.err().unwrap().to_string();
            assert!(said.contains(&format!("127.0.0.1:{port}")), "{said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    /// Run without the two features, as in `cargo test --features redis`.
    #[cfg(not(any(feature = "redis-cluster", feature = "redis-tls")))]
    #[test]
    fn url_of_a_feature_that_is_not_built_names_the_feature() {
        for (url, feature) in [
            ("redis+cluster://127.0.0.1:1/", "redis-cluster"),
            ("rediss://127.0.0.1:1/", "redis-tls"),
        ] {
            let refused = Server::connect(url, Duration::from_secs(1));
            let message = refused.err().unwrap().to_string();
            assert!(message.contains(feature), "{message}");
        }
    }

    /// Says OK to every request of one word, as long as `answers` holds; counts them.
    fn fake(answers: Arc<AtomicBool>, asked: Arc<AtomicUsize>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("redis://{}/", listener.local_addr().unwrap());
        thread::spawn(move || {
            for client in listener.incoming() {
                let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
                thread::spawn(move || {
                    let client = client.unwrap();
                    for line in BufReader::new(client.try_clone().unwrap()).lines() {
                        if line.unwrap_or_default().starts_with('*') {
                            asked.fetch_add(1, Ordering::Relaxed);
                            if answers.load(Ordering::Relaxed) {
                                (&client).write_all(b"+OK\r\n").unwrap();
                            }
                        }
                    }
                });
            }
        });
        url
    }

    #[test]
    fn a_server_that_has_stopped_answering_is_waited_for_once() {
        let (answers, asked) = (Arc::new(AtomicBool::new(true)), Arc::default());
        let url = fake(Arc::clone(&answers), Arc::clone(&asked));
        let server = Server::connect(&url, Duration::from_millis(200)).unwrap();
        let ping = |link: &mut Link| link.query::<()>(&redis::cmd("PING"));
        server
            .with_link("ask", |one| {
                server.with_link("ask", ping).unwrap();
                ping(one)
            })
            .unwrap();
        assert_eq!(server.idle().len(), 2);
        answers.store(false, Ordering::Relaxed);
        let before = asked.load(Ordering::Relaxed);
        assert!(server.with_link("ask", ping).is_err());
        assert_eq!(asked.load(Ordering::Relaxed), before + 1);
        for _ in 0..3 {
            assert!(server.with_link("ask", ping).is_err());
        }
        assert_eq!(
            asked.load(Ordering::Relaxed),
            before + 1,
            "it was waited for again"
        );
    }

    #[test]
    fn a_prefix_is_taken_literally() {
        assert_eq!(pattern_of_prefix(b"{cache:a*[b]"), b"{cache:a\\*\\[b\\]*");
    }
}
