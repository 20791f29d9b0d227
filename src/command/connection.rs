//! The conversation itself: PING, HELLO, AUTH, SELECT, CLIENT.

use std::borrow::Cow;
use std::collections::HashSet;

use super::arguments::{integer, is};
use super::client::Silence;
use super::error::{ErrorReply, Failure};
use super::host::{ClientFilter, ClientInfo, Host};
use super::table::{Command, Flags, Group};
use super::{Reply, Session};
use crate::limits::DATABASE_COUNT;

const FLAGS: Flags = Flags::LOADING.and(Flags::STALE).and(Flags::FAST);
const BEFORE_AUTH: Flags = FLAGS.and(Flags::NOSCRIPT).and(Flags::NO_AUTH);

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Connection, "ping", -1, ping)
        .flags(Flags::FAST)
        .help("[message]", "Returns PONG, or the message"),
    Command::new(Group::Connection, "echo", 2, echo)
        .flags(FLAGS)
        .help("message", "Returns the message"),
    Command::new(Group::Connection, "select", 2, select)
        .flags(FLAGS)
        .help("index", "Selects one of the 16 databases"),
    Command::new(Group::Connection, "hello", -1, hello)
        .flags(BEFORE_AUTH)
        .help(
            "[protover [AUTH username password] [SETNAME clientname]]",
            "Selects the version of the protocol, and returns a description of the server",
        ),
    Command::new(Group::Connection, "auth", -2, auth)
        .flags(BEFORE_AUTH)
        .help(
            "[username] password",
            "Authenticates the connection with a password",
        ),
    Command::new(Group::Connection, "quit", -1, quit)
        .flags(BEFORE_AUTH)
        .help("[argument ...]", "Closes the connection"),
    Command::new(Group::Connection, "reset", 1, reset)
        .flags(BEFORE_AUTH)
        .help("", "Resets the state of the connection"),
    Command::new(Group::Connection, "client", -2, client)
        .subcommands(&[
            ("GETNAME", 2),
            ("GETREDIR", 2),
            ("HELP", 2),
            ("ID", 2),
            ("INFO", 2),
            ("KILL", -3),
            ("LIST", -2),
            ("NO-EVICT", 3),
            ("NO-TOUCH", 3),
            ("REPLY", 3),
            ("SETINFO", 4),
            ("SETNAME", 3),
            ("UNPAUSE", 2),
        ])
        .help(
            "subcommand [argument ...]",
            "Lists, names and disconnects clients",
        ),
];

fn ping(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [] | [_] if session.client.only_listens() => Ok(Reply::Array(vec![
            Reply::bulk("pong"),
            Reply::bulk(arguments.first().copied().unwrap_or_default()),
        ])),
        [] => Ok(Reply::Status(Cow::Borrowed("PONG"))),
        [message] => Ok(Reply::bulk(*message)),
        _ => Err(Failure::Arity),
    }
}

fn echo(_: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [message] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::bulk(*message))
}

fn select(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [index] = arguments else {
        return Err(Failure::Arity);
    };
    // Redis reads it into 32 bits before it looks whether there is such a database.
    let index = i32::try_from(integer(index)?).map_err(|_| {
        Failure::Text(Cow::Owned(
            format!(
                "value is out of range, value must between {} and {}",
                i32::MIN,
                i32::MAX
            )
            .into_bytes(),
        ))
    })?;
    let number = u8::try_from(index)
        .ok()
        .filter(|number| *number < DATABASE_COUNT)
        .ok_or(Failure::text("DB index is out of range"))?;
    session.select(number)?;
    Ok(Reply::OK)
}

fn error(text: &'static str) -> Failure {
    Failure::Reply(ErrorReply::new(text.as_bytes()))
}

/// Lets a client in that gives the right password. There is one user, and it is called `default`.
fn let_in(session: &mut Session, user: &[u8], password: &[u8]) -> Result<(), Failure> {
    let asked = session.client.host.as_ref();
    let is_right = asked.map_or(Some(true), |host| host.is_password(password));
    // Without a password every client is accepted, under this name.
    let is_right = is_right.unwrap_or(true) && user == b"default";
    if !is_right {
        return Err(error(
            "WRONGPASS invalid username-password pair or user is disabled.",
        ));
    }
    session.client.is_trusted = true;
    Ok(())
}

fn auth(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    match arguments {
        [password] => {
            let host = session.client.host.as_ref();
            if host.is_none_or(|host| host.is_password(password).is_none()) {
                return Err(Failure::text(
                    "AUTH <password> called without any password configured for the default user. \
                     Are you sure your configuration is correct?",
                ));
            }
            let_in(session, b"default", password)?;
        }
        [user, password] => let_in(session, user, password)?,
        _ => return Err(Failure::SYNTAX),
    }
    Ok(Reply::OK)
}

fn hello(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let (version, options) = match arguments {
        [] => (None, arguments),
        [version, options @ ..] => {
            let version = integer(version)
                .map_err(|_| Failure::text("Protocol version is not an integer or out of range"))?;
            let version = u8::try_from(version)
                .ok()
                .filter(|version| [2, 3].contains(version));
            let version = version.ok_or(error("NOPROTO unsupported protocol version"))?;
            (Some(version), options)
        }
    };
    let mut credentials = None;
    let mut name = None;
    let mut options = options.iter();
    while let Some(option) = options.next() {
        let left = options.as_slice();
        match left {
            [user, password, ..] if is(option, "AUTH") => {
                credentials = Some((*user, *password));
                options.nth(1);
            }
            [given, ..] if is(option, "SETNAME") => {
                name = Some(client_name(given)?);
                options.next();
            }
            _ => {
                let option = String::from_utf8_lossy(option).into_owned();
                let text = format!("Syntax error in HELLO option '{option}'");
                return Err(Failure::Text(Cow::Owned(text.into_bytes())));
            }
        }
    }
    if let Some((user, password)) = credentials {
        let_in(session, user, password)?;
    }
    if !session.client.is_trusted {
        return Err(error(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> \
             option can be used to authenticate the client and select the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = name {
        session.client.name = name;
    }
    if let Some(version) = version {
        session.client.protocol = version;
    }
    let client = &session.client;
    Ok(Reply::Map(vec![
        (Reply::bulk("server"), Reply::bulk("redis")),
        (Reply::bulk("version"), Reply::bulk(super::REDIS_VERSION)),
        (Reply::bulk("proto"), Reply::Integer(client.protocol.into())),
        (Reply::bulk("id"), Reply::count(client.id)),
        (Reply::bulk("mode"), Reply::bulk("standalone")),
        (Reply::bulk("role"), Reply::bulk("master")),
        (Reply::bulk("modules"), Reply::Array(Vec::new())),
    ]))
}

fn quit(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    session.client.is_leaving = true;
    Ok(Reply::OK)
}

fn reset(session: &mut Session, _: &[&[u8]]) -> Result<Reply, Failure> {
    session.pending.forget();
    session.select(0)?;
    let host = session.client.host.clone();
    if let Some(host) = &host {
        let subscriptions = std::mem::take(&mut session.client.subscriptions);
        for subscription in subscriptions.iter() {
            host.unsubscribe(session.client.id, subscription);
        }
        if std::mem::take(&mut session.client.is_monitoring) {
            host.stop_monitoring(session.client.id);
        }
    }
    let client = &mut session.client;
    client.protocol = 2;
    client.name.clear();
    client.silence = Silence::None;
    client.is_trusted = host.is_none_or(|host| host.is_password(b"").is_none());
    Ok(Reply::Status(Cow::Borrowed("RESET")))
}

/// A client's name, which must be printable and without spaces.
fn client_name(word: &[u8]) -> Result<String, Failure> {
    let is_fine = word.iter().all(|byte| (b'!'..=b'~').contains(byte));
    match String::from_utf8(word.to_vec()) {
        Ok(name) if is_fine => Ok(name),
        _ => Err(Failure::text(
            "Client names cannot contain spaces, newlines or special characters.",
        )),
    }
}

fn client(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [name, arguments @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    match arguments {
        [] if is(name, "ID") => Ok(Reply::count(session.client.id)),
        [] if is(name, "GETNAME") => Ok(match session.client.name.as_str() {
            "" => Reply::Nil,
            name => Reply::bulk(name),
        }),
        [given] if is(name, "SETNAME") => {
            session.client.name = client_name(given)?;
            Ok(Reply::OK)
        }
        [attribute, value] if is(name, "SETINFO") => set_info(session, attribute, value),
        [] if is(name, "INFO") => {
            let own = session.client.id;
            let clients = clients(session);
            let own = clients.iter().find(|client| client.id == own);
            Ok(Reply::Verbatim(own.map(line).unwrap_or_default().into()))
        }
        options if is(name, "LIST") => list(session, options),
        options if is(name, "KILL") => kill(session, options),
        [] if is(name, "GETREDIR") => Ok(Reply::Integer(-1)),
        [] if is(name, "UNPAUSE") => Ok(Reply::OK),
        [on] if is(name, "NO-EVICT") || is(name, "NO-TOUCH") => {
            // Clients are never chosen to be disconnected, nor keys by when they were used.
            match is(on, "ON") || is(on, "OFF") {
                true => Ok(Reply::OK),
                false => Err(Failure::SYNTAX),
            }
        }
        [mode] if is(name, "REPLY") => reply_mode(session, mode),
        [] if is(name, "HELP") => Ok(help()),
        _ => Err(Failure::subcommand("client", name)),
    }
}

fn help() -> Reply {
    let lines = [
        "CLIENT <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "GETNAME | SETNAME <name> | ID | INFO | LIST | SETINFO <LIB-NAME|LIB-VER> <value>",
        "KILL <ip:port> | KILL <ID|ADDR|LADDR|SKIPME> <value> ...",
        "REPLY <ON|OFF|SKIP> | NO-EVICT <ON|OFF> | NO-TOUCH <ON|OFF> | UNPAUSE",
        "HELP",
    ];
    let lines = lines.map(|line| Reply::Status(Cow::Borrowed(line)));
    Reply::Array(lines.into())
}

fn set_info(session: &mut Session, attribute: &[u8], value: &[u8]) -> Result<Reply, Failure> {
    let at = match attribute {
        name if is(name, "LIB-NAME") => 0,
        name if is(name, "LIB-VER") => 1,
        name => {
            let text = [b"Unrecognized option '", name, b"'"].concat();
            return Err(Failure::Text(Cow::Owned(text)));
        }
    };
    let name = ["lib-name", "lib-ver"][at];
    session.client.library[at] = client_name(value).map_err(|_| {
        let text = format!("{name} cannot contain spaces, newlines or special characters.");
        Failure::Text(Cow::Owned(text.into_bytes()))
    })?;
    Ok(Reply::OK)
}

fn reply_mode(session: &mut Session, mode: &[u8]) -> Result<Reply, Failure> {
    session.client.silence = match mode {
        mode if is(mode, "ON") => Silence::None,
        mode if is(mode, "OFF") => Silence::All,
        mode if is(mode, "SKIP") => Silence::SkipNext,
        _ => return Err(Failure::SYNTAX),
    };
    Ok(Reply::OK)
}

/// All clients, or the only one.
fn clients(session: &Session) -> Vec<ClientInfo> {
    match &session.client.host {
        Some(host) => {
            let mut clients = host.clients();
            // Of this one the host knows what it was before the commands that were executed last.
            let own = clients.iter_mut().find(|info| info.id == session.client.id);
            if let Some(own) = own {
                session.describe(own);
            }
            clients
        }
        None => vec![session.client_info()],
    }
}

/// What a client does, as CLIENT LIST and CLIENT KILL ask for it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ClientType {
    Normal,
    /// It has subscribed to something.
    Listener,
    /// Another server: there is none.
    Server,
}

impl ClientType {
    fn named(name: &[u8]) -> Result<ClientType, Failure> {
        match name {
            name if is(name, "NORMAL") => Ok(ClientType::Normal),
            name if is(name, "PUBSUB") => Ok(ClientType::Listener),
            name if ["MASTER", "REPLICA", "SLAVE"]
                .iter()
                .any(|known| is(name, known)) =>
            {
                Ok(ClientType::Server)
            }
            name => {
                let text = [b"Unknown client type '", name, b"'"].concat();
                Err(Failure::Text(Cow::Owned(text)))
            }
        }
    }

    fn has(self, client: &ClientInfo) -> bool {
        let listens = client.subscriptions.iter().any(|count| *count > 0);
        let is_of = if listens {
            ClientType::Listener
        } else {
            ClientType::Normal
        };
        self == is_of
    }
}

fn list(session: &Session, options: &[&[u8]]) -> Result<Reply, Failure> {
    let mut clients = clients(session);
    match options {
        [] => {}
        [name, kind] if is(name, "TYPE") => {
            let kind = ClientType::named(kind)?;
            clients.retain(|client| kind.has(client));
        }
        [name, ids @ ..] if is(name, "ID") && !ids.is_empty() => {
            let mut wanted = HashSet::new();
            for id in ids {
                let id = integer(id).ok().and_then(|id| u64::try_from(id).ok());
                wanted.insert(id.ok_or(Failure::text("Invalid client ID"))?);
            }
            clients.retain(|client| wanted.contains(&client.id));
        }
        _ => return Err(Failure::SYNTAX),
    }
    let lines: String = clients.iter().map(line).collect();
    Ok(Reply::Verbatim(lines.into()))
}

/// A client in a line, as Redis shows one.
fn line(client: &ClientInfo) -> String {
    let [channels, patterns, shards] = client.subscriptions;
    let collected = client
        .collected
        .map_or_else(|| "-1".to_owned(), |count| count.to_string());
    let flags = match (channels + patterns + shards > 0, client.collected) {
        (true, _) => "P",
        (false, Some(_)) => "x",
        (false, None) => "N",
    };
    format!(
        "id={} addr={} laddr={} fd=-1 name={} age={} idle={} flags={flags} db={} sub={channels} psub={patterns} ssub={shards} \
         multi={collected} qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem={} tot-mem=0 events=r \
         cmd={} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
        client.id,
        client.address,
        client.local_address,
        client.name,
        client.age.as_secs(),
        client.idle.as_secs(),
        client.database,
        client.output_bytes,
        client.command,
        client.protocol,
        client.library[0],
        client.library[1],
    )
}

fn kill(session: &mut Session, options: &[&[u8]]) -> Result<Reply, Failure> {
    let host = session
        .client
        .host
        .clone()
        .ok_or(Failure::text("No such client"))?;
    let own = session.client.id;
    let text = |word: &[u8]| String::from_utf8_lossy(word).into_owned();
    if let [address] = options {
        let filter = ClientFilter {
            address: Some(text(address)),
            ..ClientFilter::default()
        };
        return match host.disconnect(&filter, own) {
            0 => Err(Failure::text("No such client")),
            _ => Ok(Reply::OK),
        };
    }
    let mut filter = ClientFilter {
        except: Some(own),
        ..ClientFilter::default()
    };
    if options.is_empty() || !options.len().is_multiple_of(2) {
        return Err(Failure::SYNTAX);
    }
    let mut kind = None;
    for pair in options.chunks_exact(2) {
        match pair[0] {
            name if is(name, "ID") => {
                let id = integer(pair[1]).ok().and_then(|id| u64::try_from(id).ok());
                let id = id.filter(|id| *id > 0);
                filter.id = Some(id.ok_or(Failure::text("client-id should be greater than 0"))?);
            }
            name if is(name, "ADDR") => filter.address = Some(text(pair[1])),
            name if is(name, "LADDR") => filter.local_address = Some(text(pair[1])),
            name if is(name, "TYPE") => kind = Some(ClientType::named(pair[1])?),
            name if is(name, "USER") => {
                if pair[1] != b"default" {
                    let text = [b"No such user '", pair[1], b"'"].concat();
                    return Err(Failure::Text(Cow::Owned(text)));
                }
            }
            name if is(name, "SKIPME") && is(pair[1], "YES") => filter.except = Some(own),
            name if is(name, "SKIPME") && is(pair[1], "NO") => filter.except = None,
            _ => return Err(Failure::SYNTAX),
        }
    }
    let count = match kind {
        None => host.disconnect(&filter, own),
        Some(kind) => disconnect_of(kind, &filter, &*host, own),
    };
    Ok(Reply::count(count as u64))
}

/// Disconnects the clients of a type that also match the filter.
fn disconnect_of(kind: ClientType, filter: &ClientFilter, host: &dyn Host, own: u64) -> usize {
    let clients = host.clients().into_iter();
    let clients = clients.filter(|client| filter.id.is_none_or(|id| id == client.id));
    let of_kind = clients.filter(|client| kind.has(client));
    of_kind
        .map(|client| {
            let id = Some(client.id);
            host.disconnect(
                &ClientFilter {
                    id,
                    ..filter.clone()
                },
                own,
            )
        })
        .sum()
}
