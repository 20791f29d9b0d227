//! The server, by plain sockets: what it says, what it refuses, and what survives it.
#![cfg(feature = "server")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use brasa::server::{Server, ServerError};
use brasa::{Db, Durability, ManualClock};
use support::served::{Client, PATIENCE, Served, request};

#[test]
fn commands_are_answered_in_both_versions_of_the_protocol() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    assert_eq!(client.say("SET chave_1 Relou"), "OK");
    assert_eq!(client.say("HSET meu_hash nome thailan"), "1");
    assert_eq!(client.say("HGETALL meu_hash"), "[nome thailan]");
    assert_eq!(client.say("GET nobody"), "nil");
    assert_eq!(
        client.say("GET meu_hash"),
        "-WRONGTYPE Operation against a key holding the wrong kind of value"
    );
    assert!(
        client
            .say("HELLO 3")
            .starts_with("%[server redis version 7")
    );
    assert_eq!(client.say("HGETALL meu_hash"), "%[nome thailan]");
    assert_eq!(
        client.say("HELLO 4"),
        "-NOPROTO unsupported protocol version"
    );
    assert!(
        client
            .say("INFO keyspace")
            .contains("db0:keys=2,expires=0,avg_ttl=0")
    );
    assert_eq!(client.say("CLIENT SETNAME me"), "OK");
    assert!(client.say("CLIENT LIST").contains(" name=me "));
    assert_eq!(client.say("RESET"), "RESET");
    assert_eq!(client.say("QUIT"), "OK");
    assert_eq!(client.rest(), "");
}

#[test]
fn a_pipeline_is_answered_in_order_however_it_is_cut() {
    let served = Served::new(|server| server);
    let mut bytes = Vec::new();
    for number in 0..500 {
        bytes.extend(request(&[
            "SET",
            &format!("key {number}"),
            &number.to_string(),
        ]));
        bytes.extend(request(&["INCR", &format!("key {number}")]));
    }
    let mut client = served.client();
    for piece in bytes.chunks(37) {
        client.send(piece);
    }
    for number in 0..500 {
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.reply(), (number + 1).to_string());
    }
}

#[test]
fn writes_that_arrive_together_are_one_commit_in_which_each_fails_for_itself() {
    let mut served = Served::new(|server| server);
    let mut client = served.client();
    let lines = [
        ("SET a 1", "OK"),
        ("INCR a", "2"),
        (
            "HSET a f v",
            "-WRONGTYPE Operation against a key holding the wrong kind of value",
        ),
        ("GET a", "2"),
        ("SELECT 1", "OK"),
        ("SET b 3", "OK"),
        ("DBSIZE", "1"),
    ];
    let requests = lines
        .iter()
        .map(|(line, _)| request(&line.split(' ').collect::<Vec<_>>()));
    client.send(&requests.collect::<Vec<_>>().concat());
    for (line, expected) in lines {
        assert_eq!(client.reply(), expected, "{line}");
    }
    served.end();
    let by_log = Db::options().ignore_checkpoints(true).read_only(true);
    let db = by_log.open(&served.path).unwrap();
    // What stands before SELECT, and what stands behind it.
    assert_eq!(
        (db.recovery().commit_count, db.recovery().record_count),
        (2, 3)
    );
}

#[test]
fn a_transaction_is_one_commit_and_a_watched_key_stops_it() {
    let served = Served::new(|server| server);
    let (mut one, mut other) = (served.client(), served.client());
    one.say("SET k 1");
    assert_eq!(one.say("WATCH k"), "OK");
    assert_eq!(one.say("MULTI"), "OK");
    assert_eq!(one.say("SET k 2"), "QUEUED");
    assert_eq!(other.say("SET k 3"), "OK");
    assert_eq!(one.say("EXEC"), "nil");
    one.say("MULTI");
    one.say("INCR k");
    one.say("HSET h f v");
    assert_eq!(one.say("EXEC"), "[4 1]");
    // Another process: the library on the same file.
    let db = Db::open(&served.path).unwrap();
    one.say("WATCH k");
    db.set("k", "5").unwrap();
    one.say("MULTI");
    one.say("GET k");
    assert_eq!(one.say("EXEC"), "nil");
}

#[test]
fn messages_go_to_those_who_have_subscribed() {
    let served = Served::new(|server| server);
    let (mut listener, mut modern, mut sender) =
        (served.client(), served.client(), served.client());
    assert_eq!(listener.say("SUBSCRIBE news"), "[subscribe news 1]");
    assert_eq!(listener.say("PSUBSCRIBE n*"), "[psubscribe n* 2]");
    modern.say("HELLO 3");
    assert_eq!(modern.say("SUBSCRIBE news"), "[subscribe news 1]");
    assert_eq!(sender.say("PUBLISH news hello"), "3");
    assert_eq!(listener.reply(), "[message news hello]");
    assert_eq!(listener.reply(), "[pmessage n* news hello]");
    assert_eq!(modern.reply(), "[message news hello]");
    assert_eq!(sender.say("PUBSUB NUMSUB news other"), "[news 2 other 0]");
    assert_eq!(sender.say("PUBSUB NUMPAT"), "1");
    assert!(sender.say("PUBSUB HELP").starts_with("[PUBSUB"));
    assert_eq!(
        sender.say("PUBSUB channels a b"),
        "-ERR unknown subcommand or wrong number of arguments for 'channels'. Try PUBSUB HELP."
    );
    assert!(
        listener
            .say("GET k")
            .starts_with("-ERR Can't execute 'get'")
    );
    assert_eq!(listener.say("PING"), "[pong ]");
    // Version 3 can tell replies from messages.
    assert_eq!(modern.say("GET k"), "nil");
    assert_eq!(listener.say("UNSUBSCRIBE"), "[unsubscribe news 1]");
    assert_eq!(listener.say("PUNSUBSCRIBE"), "[punsubscribe n* 0]");
    assert_eq!(listener.say("GET k"), "nil");
    assert_eq!(sender.say("PUBLISH nothing x"), "0");
    // Who sends to himself has the message before the count, in one pipeline too.
    let mut own = served.client();
    own.say("HELLO 3");
    own.send(
        &[
            request(&["SUBSCRIBE", "own"]),
            request(&["PUBLISH", "own", "x"]),
            request(&["RESET"]),
        ]
        .concat(),
    );
    assert_eq!(own.reply(), "[subscribe own 1]");
    assert_eq!(own.reply(), "[message own x]");
    assert_eq!(
        (own.reply(), own.reply()),
        ("1".to_owned(), "RESET".to_owned())
    );
}

#[test]
fn what_was_collected_before_a_subscription_is_executed_after_it() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    client.say("MULTI");
    for line in ["SUBSCRIBE news", "SET k v", "GET k"] {
        assert_eq!(client.say(line), "QUEUED");
    }
    assert_eq!(client.say("EXEC"), "[[subscribe news 1] OK v]");
    // From now on it listens.
    let refused = "-ERR Can't execute 'get'";
    assert!(client.say("GET k").starts_with(refused));
    let aborted = "-EXECABORT Transaction discarded because of: Can't execute 'exec'";
    assert!(client.say("EXEC").starts_with(aborted));
    assert_eq!(client.say("UNSUBSCRIBE news"), "[unsubscribe news 0]");
    assert_eq!(client.say("GET k"), "v");
}

#[test]
fn changes_are_told_whoever_makes_them() {
    let served = Served::new(|server| server.notify_keyspace_events("KEA"));
    let mut listener = served.client();
    assert_eq!(
        listener.say("PSUBSCRIBE __key*__:*"),
        "[psubscribe __key*__:* 1]"
    );
    let db = Db::open(&served.path).unwrap();
    db.set("k", "v").unwrap();
    assert_eq!(
        listener.reply(),
        "[pmessage __key*__:* __keyspace@0__:k set]"
    );
    assert_eq!(
        listener.reply(),
        "[pmessage __key*__:* __keyevent@0__:set k]"
    );
}

/// From its first moment on: whether somebody listens, or what he is told is changed, comes last.
#[test]
fn no_change_behind_an_acknowledgement_is_missed() {
    let served = Served::new(|server| server);
    let db = Db::open(&served.path).unwrap();
    let mut setting = served.client();
    for round in 0..50 {
        let mut listener = served.client();
        let asks_first = round % 2 == 0;
        let mut ask = || assert_eq!(setting.say("CONFIG SET notify-keyspace-events KEA"), "OK");
        if asks_first {
            ask();
        }
        assert_eq!(
            listener.say("SUBSCRIBE __keyevent@0__:set"),
            "[subscribe __keyevent@0__:set 1]"
        );
        if !asks_first {
            ask();
        }
        let key = format!("key {round}");
        db.set(&key, "v").unwrap();
        assert_eq!(
            listener.reply(),
            format!("[message __keyevent@0__:set {key}]")
        );
        assert_eq!(
            listener.say("UNSUBSCRIBE"),
            "[unsubscribe __keyevent@0__:set 0]"
        );
        assert_eq!(setting.say("CONFIG SET notify-keyspace-events "), "OK");
    }
}

#[test]
fn many_changes_are_all_told() {
    const COUNT: usize = 50_000;
    let served = Served::new(|server| server.notify_keyspace_events("E$"));
    let mut listener = served.client();
    listener.say("SUBSCRIBE __keyevent@0__:set");
    let mut writer = served.client();
    let request = request(&["SET", "k", "v"]);
    let replies = std::thread::spawn(move || {
        (0..COUNT).for_each(|_| assert_eq!(listener.reply(), "[message __keyevent@0__:set k]"));
    });
    for _ in 0..COUNT / 1_000 {
        writer.send(&request.repeat(1_000));
        (0..1_000).for_each(|_| assert_eq!(writer.reply(), "OK"));
    }
    replies.join().unwrap();
}

#[test]
fn what_expires_is_told_once_and_not_as_removed() {
    let clock = ManualClock::new(1_000_000);
    let options = Db::options().clock(clock.clone());
    let served = Served::over(options, |server| server.notify_keyspace_events("EA"));
    let mut listener = served.client();
    listener.say("PSUBSCRIBE __keyevent*");
    let mut client = served.client();
    for _ in 0..3 {
        assert_eq!(client.say("SET k v PX 50"), "OK");
        let said =
            |event: &str, key: &str| format!("[pmessage __keyevent* __keyevent@0__:{event} {key}]");
        assert_eq!(listener.reply(), said("set", "k"));
        clock.advance(Duration::from_millis(50));
        assert_eq!(listener.reply(), said("expired", "k"));
        client.say("SET other v");
        client.say("DEL other");
        assert_eq!(listener.reply(), said("set", "other"));
        assert_eq!(listener.reply(), said("del", "other"));
    }
}

#[test]
fn the_time_of_the_last_sync_is_told_whoever_has_made_it() {
    for durability in [Durability::Os, Durability::Always] {
        let clock = ManualClock::new(1_000_000);
        let directory = support::scratch_directory();
        let options = Db::options()
            .durability(Durability::Os)
            .clock(clock.clone());
        let db = options.open(directory.path().join("file.brasa")).unwrap();
        let server = Server::new(db).durability(durability);
        let running = server.bind("127.0.0.1:0".parse().unwrap()).start().unwrap();
        let mut client = Client::connect(running.local_addr().unwrap());
        let mut expected = client.say("LASTSAVE").parse::<u64>().unwrap();
        let syncs: &[&str] = match durability {
            Durability::Always => &["SET k v"],
            _ => &["SAVE", "BGSAVE", "WAITAOF 1 0 0", "BGREWRITEAOF"],
        };
        for line in syncs {
            clock.advance(Duration::from_secs(10));
            expected += 10;
            let said = client.say(line);
            assert!(!said.starts_with('-'), "{said}");
            assert_eq!(client.say("LASTSAVE"), expected.to_string(), "{line}");
        }
        if durability == Durability::Os {
            clock.advance(Duration::from_secs(10));
            client.say("SET k v");
            client.say("WAITAOF 0 0 0");
            assert_eq!(client.say("LASTSAVE"), expected.to_string());
        }
        running.handle().stop();
        running.wait().unwrap();
    }
}

#[test]
fn a_client_is_told_what_it_is_by_now() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    let lines = [
        "CLIENT SETNAME abc",
        "SELECT 3",
        "CLIENT INFO",
        "CLIENT LIST",
    ];
    let requests = lines.map(|line| request(&line.split(' ').collect::<Vec<_>>()));
    client.send(&requests.concat());
    assert_eq!((client.reply(), client.reply()), ("OK".into(), "OK".into()));
    for _ in 0..2 {
        let info = client.reply();
        let is_new = [" name=abc ", " db=3 ", " cmd=client"];
        assert!(is_new.iter().all(|part| info.contains(part)), "{info}");
    }
    let transaction = ["MULTI", "CLIENT SETNAME def", "CLIENT INFO", "EXEC"];
    let said = transaction.map(|line| client.say(line));
    assert!(said[3].contains(" name=def "), "{said:?}");
}

#[test]
fn who_gives_no_password_may_do_little() {
    let served = Served::new(|server| server.password("secret"));
    let mut client = served.client();
    assert_eq!(client.say("GET k"), "-NOAUTH Authentication required.");
    assert_eq!(
        client.say("AUTH wrong"),
        "-WRONGPASS invalid username-password pair or user is disabled."
    );
    assert!(
        client
            .say("HELLO 3")
            .starts_with("-NOAUTH HELLO must be called")
    );
    assert!(
        client
            .say("HELLO 3 AUTH default secret")
            .starts_with("%[server redis")
    );
    assert_eq!(client.say("SET k v"), "OK");
    let mut client = served.client();
    assert_eq!(client.say("AUTH default secret"), "OK");
    assert_eq!(client.say("GET k"), "v");
    for (bytes, said) in [
        (
            &b"*11\r\n"[..],
            "-ERR Protocol error: unauthenticated multibulk length\r\n",
        ),
        (
            b"*1\r\n$16385\r\n",
            "-ERR Protocol error: unauthenticated bulk length\r\n",
        ),
    ] {
        let mut client = served.client();
        client.send(bytes);
        assert_eq!(client.rest(), said);
    }
}

#[test]
fn what_is_no_request_ends_the_connection_and_nothing_else() {
    let served = Served::new(|server| server);
    let garbage = vec![0xa5; 1 << 20];
    for (bytes, said) in [
        (
            &b"*1\r\n$9223372036854775808\r\n"[..],
            "-ERR Protocol error: invalid bulk length\r\n",
        ),
        (
            b"*2147483648\r\n",
            "-ERR Protocol error: invalid multibulk length\r\n",
        ),
        (
            b"*1\r\n+OK\r\n",
            "-ERR Protocol error: expected '$', got '+'\r\n",
        ),
        (b"POST / HTTP/1.1\r\nHost: x\r\n", ""),
        (
            b"GET k\r\n",
            "-ERR Protocol error: expected '*': inline commands are off\r\n",
        ),
    ] {
        let mut client = served.client();
        client.send(bytes);
        assert_eq!(client.rest(), said, "{}", bytes.escape_ascii());
    }
    let mut client = served.client();
    // It may be refused before all of it was sent.
    let _ = client.stream.write_all(&garbage);
    client.rest();
    // A million words that never come take no memory.
    let mut waiting = served.client();
    waiting.send(b"*1000000\r\n$3\r\nSET\r\n");
    assert_eq!(served.client().say("PING"), "PONG");
}

#[test]
fn lines_are_taken_where_they_are_allowed() {
    let served = Served::new(|server| server.inline_commands(true));
    let mut client = served.client();
    client.send(b"SET k \"a b\"\r\nGET k\r\n");
    assert_eq!(
        (client.reply(), client.reply()),
        ("OK".to_owned(), "a b".to_owned())
    );
}

#[test]
fn there_are_no_more_clients_than_allowed() {
    let served = Served::new(|server| server.max_clients(3));
    let mut clients: Vec<_> = (0..3).map(|_| served.client()).collect();
    for client in &mut clients {
        assert_eq!(client.say("PING"), "PONG");
    }
    let mut one_more = served.client();
    assert_eq!(one_more.rest(), "-ERR max number of clients reached\r\n");
    drop(clients);
}

#[test]
fn who_sends_half_a_request_or_nothing_is_disconnected_in_time() {
    let second = Duration::from_secs(1);
    let served = Served::new(|server| server.halfway_timeout(second).idle_timeout(second * 600));
    let mut half = served.client();
    half.send(b"*2\r\n$3\r\nGET\r\n$1\r\n");
    let mut idle = served.client();
    assert_eq!(idle.say("PING"), "PONG");
    assert_eq!(half.rest(), "");
    assert_eq!(idle.say("PING"), "PONG");
    assert_eq!(idle.say("CONFIG SET timeout 1"), "OK");
    assert_eq!(idle.rest(), "");
}

/// Sends pieces one after another, each after a tenth of a second in which nothing came; gives back how many were sent before the server
/// ended the connection, if it did.
fn trickle(client: &mut Client<TcpStream>, pieces: impl Iterator<Item = Vec<u8>>) -> Option<usize> {
    let pause = Duration::from_millis(100);
    client.stream.set_read_timeout(Some(pause)).unwrap();
    for (sent, piece) in pieces.enumerate() {
        if client.stream.write_all(&piece).is_err() {
            return Some(sent);
        }
        loop {
            let mut buffer = [0; 4096];
            match client.stream.read(&mut buffer) {
                Ok(0) => return Some(sent),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => return Some(sent),
            }
        }
    }
    None
}

#[test]
fn upload_that_makes_progress_is_served_however_long_it_takes() {
    const PIECES: usize = 40;
    let served = Served::new(|server| server.halfway_timeout(Duration::from_secs(1)));
    let mut client = served.client();
    let announced = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n${PIECES}\r\n");
    client.send(announced.as_bytes());
    let bytes = std::iter::repeat_n(b"x".to_vec(), PIECES);
    assert_eq!(trickle(&mut client, bytes), None);
    client.stream.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send(b"\r\n");
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.say("STRLEN k"), PIECES.to_string());
}

#[test]
fn who_always_has_a_request_on_the_way_is_not_ended_as_long_as_they_arrive() {
    let served = Served::new(|server| server.halfway_timeout(Duration::from_secs(1)));
    let mut client = served.client();
    let ping = request(&["PING"]);
    let (beginning, end) = ping.split_at(7);
    client.send(beginning);
    // Each of them ends a request and begins the next.
    let piece = [end, beginning].concat();
    let pieces = std::iter::repeat_n(piece, 40);
    assert_eq!(trickle(&mut client, pieces), None);
}

#[test]
fn who_reads_slowly_has_the_whole_reply() {
    const VALUE_BYTES: usize = 40 << 20;
    let served = Served::new(|server| server.halfway_timeout(Duration::from_secs(1)));
    let mut client = served.client();
    let value = vec![b'v'; VALUE_BYTES];
    client.send(&request(&[&b"SET"[..], b"k", &value]));
    assert_eq!(client.reply(), "OK");
    client.send(&request(&["GET", "k"]));
    let expected = format!("${VALUE_BYTES}\r\n").len() + VALUE_BYTES + 2;
    let mut piece = vec![0; 1 << 20];
    let mut read = 0;
    while read < expected {
        // It is the slowness itself that is tried.
        std::thread::sleep(Duration::from_millis(100));
        let end = piece.len().min(expected - read);
        client.stream.read_exact(&mut piece[..end]).unwrap();
        read += end;
    }
    assert_eq!(client.say("PING"), "PONG");
}

#[test]
fn a_listener_that_was_silent_for_long_is_not_ended_by_a_long_message() {
    const MESSAGE_BYTES: usize = 24 << 20;
    let served = Served::new(|server| server.halfway_timeout(Duration::from_secs(1)));
    let mut listener = served.client();
    assert_eq!(listener.say("SUBSCRIBE news"), "[subscribe news 1]");
    assert_eq!(
        trickle(&mut served.client(), std::iter::repeat_n(Vec::new(), 25)),
        None
    );
    let mut sender = served.client();
    let message = vec![b'm'; MESSAGE_BYTES];
    sender.send(&request(&[&b"PUBLISH"[..], b"news", &message]));
    assert_eq!(sender.reply(), "1");
    // In this time somebody looks after the clients.
    trickle(&mut sender, std::iter::repeat_n(Vec::new(), 5));
    assert_eq!(
        listener.reply().len(),
        "[message news ]".len() + MESSAGE_BYTES
    );
}

#[test]
fn a_listener_that_does_not_read_is_disconnected_and_the_others_go_on() {
    let served = Served::new(|server| server);
    let mut deaf = served.client();
    assert_eq!(deaf.say("SUBSCRIBE flood"), "[subscribe flood 1]");
    let mut sender = served.client();
    let message = "x".repeat(1 << 20);
    let mut reached = String::new();
    for _ in 0..200 {
        reached = sender.say(&format!("PUBLISH flood {message}"));
        if reached == "0" {
            break;
        }
    }
    assert_eq!(reached, "0", "somebody still gets it");
}

#[test]
fn a_socket_has_its_mode_and_is_taken_from_nobody_alive() {
    let directory = support::scratch_directory();
    let socket = directory.path().join("brasa.sock");
    let serve = |name: &str| {
        let db = Db::open(directory.path().join(name)).unwrap();
        Server::new(db).unix_socket(&socket, 0o700).start()
    };
    let running = serve("one").unwrap();
    let mode = std::fs::metadata(&socket).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mut client = Client {
        stream: UnixStream::connect(&socket).unwrap(),
        read: Vec::new(),
    };
    assert_eq!(client.say("SET k v"), "OK");
    let refused = serve("two").unwrap_err();
    assert!(
        refused.to_string().contains("another server listens there"),
        "{refused}"
    );
    assert_eq!(client.say("GET k"), "v");
    drop(client);
    running.handle().stop();
    running.wait().unwrap();
    assert!(!socket.exists());
    // What a killed server has left is replaced, and what is no socket is not.
    drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
    let running = serve("one").unwrap();
    running.handle().stop();
    running.wait().unwrap();
    std::fs::write(&socket, "mine").unwrap();
    assert!(matches!(serve("one"), Err(ServerError::Listen { .. })));
    assert_eq!(std::fs::read(&socket).unwrap(), b"mine");
}

#[test]
fn a_socket_may_have_the_longest_path_there_is() {
    const LONGEST: usize = 107;
    let directory = support::scratch_directory();
    let room = LONGEST - directory.path().as_os_str().len() - 2;
    // A short name in a long directory: there is no room for another one in it.
    let long = directory.path().join("d".repeat(room - 1));
    std::fs::create_dir(&long).unwrap();
    let socket = long.join("s");
    assert_eq!(socket.as_os_str().len(), LONGEST);
    for _ in 0..2 {
        // The second takes the place of what the first has left.
        drop(std::os::unix::net::UnixListener::bind(&socket));
        let db = Db::open(directory.path().join("file")).unwrap();
        let running = Server::new(db).unix_socket(&socket, 0o700).start().unwrap();
        UnixStream::connect(&socket).unwrap();
        running.handle().stop();
        running.wait().unwrap();
    }
}

#[test]
fn a_socket_is_listed_under_its_own_name_and_refused_one_that_nobody_could_connect_to() {
    let directory = support::scratch_directory();
    let serve = |socket: &Path| {
        let db = Db::in_memory().unwrap();
        Server::new(db).unix_socket(socket, 0o700).start()
    };
    let socket = directory.path().join("brasa.sock");
    let running = serve(&socket).unwrap();
    let mut client = Client {
        stream: UnixStream::connect(&socket).unwrap(),
        read: Vec::new(),
    };
    let own = format!(" laddr={}:0 ", socket.display());
    let list = client.say("CLIENT LIST");
    assert!(list.contains(&own), "{list}");
    running.handle().stop();
    running.wait().unwrap();
    let long = directory.path().join("s".repeat(108));
    assert!(matches!(serve(&long), Err(ServerError::Listen { .. })));
}

/// Lines are allowed for whoever has given the password; before it, the bounds are those of a stranger, and their errors too.
#[test]
fn a_stranger_may_do_no_more_where_lines_are_allowed() {
    let served = Served::new(|server| server.password("secret").inline_commands(true));
    let mut client = served.client();
    client.send(b"*11\r\n");
    assert_eq!(
        client.rest(),
        "-ERR Protocol error: unauthenticated multibulk length\r\n"
    );
}

#[test]
fn who_watches_all_requests_sees_no_secrets() {
    let served = Served::new(|server| server.password("secret"));
    let mut watching = served.client();
    assert_eq!(watching.say("AUTH secret"), "OK");
    assert_eq!(watching.say("MONITOR"), "OK");
    // A stranger's password, though it tries it as a key.
    assert!(served.client().say("GET hidden").starts_with("-NOAUTH"));
    let mut client = served.client();
    assert_eq!(client.say("AUTH secret"), "OK");
    assert_eq!(client.say("CONFIG SET requirepass hidden"), "OK");
    assert_eq!(client.say("GET shown"), "nil");
    let line = watching.line();
    assert!(line.ends_with("\"GET\" \"shown\""), "{line}");
}

#[test]
fn what_monitor_shows_is_quoted_as_in_redis_until_reset() {
    let served = Served::new(|server| server);
    let (mut watching, mut client) = (served.client(), served.client());
    assert_eq!(watching.say("MONITOR"), "OK");
    // What is not executed is not shown.
    for refused in ["GET", "NOSUCH a", "OBJECT NOSUCH"] {
        assert!(client.say(refused).starts_with("-ERR"), "{refused}");
    }
    client.send(&request(&[&b"SET"[..], b"k'\"\\", b"\n\xff"]));
    assert_eq!(client.reply(), "OK");
    let line = watching.line();
    assert!(line.ends_with(r#""SET" "k'\"\\" "\n\xff""#), "{line}");
    // What came before it stands before its reply, and nothing comes behind it.
    assert_eq!(client.say("GET last"), "nil");
    watching.send(&request(&["RESET"]));
    assert!(watching.line().ends_with(r#""GET" "last""#));
    assert_eq!(watching.line(), "+RESET");
    assert_eq!(client.say("GET unseen"), "nil");
    assert_eq!(watching.say("PING"), "PONG");
}

#[test]
fn settings_are_changed_all_or_none() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    let refused = client.say("CONFIG SET timeout 77 maxclients abc");
    assert!(refused.contains("'maxclients'"), "{refused}");
    assert_eq!(client.say("CONFIG GET timeout"), "[timeout 0]");
    assert_eq!(client.say("CONFIG SET timeout 77 maxclients 78"), "OK");
    assert_eq!(client.say("CONFIG GET timeout"), "[timeout 77]");
}

#[test]
fn the_password_of_a_server_that_others_reach_cannot_be_taken_away() {
    let server = Server::new(Db::in_memory().unwrap()).password("secret");
    let running = server.bind("0.0.0.0:0".parse().unwrap()).start().unwrap();
    let port = running.local_addr().unwrap().port();
    let mut client = Client::connect(SocketAddr::from(([127, 0, 0, 1], port)));
    assert_eq!(client.say("AUTH secret"), "OK");
    client.send(&request(&["CONFIG", "SET", "requirepass", ""]));
    let refused = client.reply();
    assert!(refused.contains("needs a password"), "{refused}");
    assert!(
        Client::connect(SocketAddr::from(([127, 0, 0, 1], port)))
            .say("GET k")
            .starts_with("-NOAUTH")
    );
    running.handle().stop();
    running.wait().unwrap();
}

#[test]
fn a_port_that_is_taken_is_said_and_an_open_door_refused() {
    let served = Served::new(|server| server);
    let refused = Server::new(Db::in_memory().unwrap())
        .bind(served.address)
        .start();
    let text = refused.unwrap_err().to_string();
    assert!(text.contains("another server listens there"), "{text}");
    let open = Server::new(Db::in_memory().unwrap()).bind("0.0.0.0:0".parse().unwrap());
    assert!(matches!(open.start(), Err(ServerError::Unprotected { .. })));
}

/// Of INFO.
fn counted(client: &mut Client<TcpStream>, name: &str) -> u64 {
    let info = client.say("INFO stats");
    let mut lines = info.lines();
    let line = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().parse().unwrap()
}

/// Whether nothing has come for a client.
fn has_no_reply(client: &Client<TcpStream>) -> bool {
    client.stream.set_nonblocking(true).unwrap();
    let mut buffer = [0; 1];
    let peeked = client.stream.peek(&mut buffer);
    client.stream.set_nonblocking(false).unwrap();
    peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
}

/// Clients that each send this, and are being served.
fn clients_that_wait(served: &Served, count: usize, requests: &[u8]) -> Vec<Client<TcpStream>> {
    let mut asking = served.client();
    let before = counted(&mut asking, "total_connections_received");
    let mut clients: Vec<_> = (0..count).map(|_| served.client()).collect();
    for client in &mut clients {
        client.send(requests);
    }
    while counted(&mut asking, "total_connections_received") - before < count as u64 {
        std::thread::yield_now();
    }
    clients
}

#[test]
fn who_takes_long_holds_nobody_up_whoever_has_the_turn() {
    let transaction = [
        request(&["MULTI"]),
        request(&["DEBUG", "SLEEP", "15"]),
        request(&["EXEC"]),
    ];
    let alone = request(&["DEBUG", "SLEEP", "15"]);
    // What MULTI is told may stand there.
    let is_silent = |client: &Client<TcpStream>| {
        let bytes = &mut [0; 64];
        client.stream.set_nonblocking(true).unwrap();
        let peeked = client.stream.peek(bytes);
        peeked.map_or(true, |len| bytes[..len].ends_with(b"QUEUED\r\n"))
    };
    for (requests, per_client) in [(alone, 1), (transaction.concat(), 3)] {
        // The turn is always its own.
        let directory = support::scratch_directory();
        let options = Db::options().durability(Durability::Os).exclusive(true);
        let db = options.open(directory.path().join("file.brasa")).unwrap();
        let server = Server::new(db).bind("127.0.0.1:0".parse().unwrap());
        let running = server.start().unwrap();
        let served = Served {
            address: running.local_addr().unwrap(),
            running: Some(running),
            path: PathBuf::new(),
            _directory: directory,
        };
        let threads = std::thread::available_parallelism().map_or(2, usize::from);
        let count = 2 * threads + 2;
        let sleeping = clients_that_wait(&served, count, &requests);
        let mut asking = served.client();
        while counted(&mut asking, "total_commands_processed") < (count * per_client) as u64 {
            std::thread::yield_now();
        }
        // They may have to wait until one of those has committed.
        let _writing = clients_that_wait(&served, count, &request(&["SET", "k", "v"]));
        for _ in 0..100 {
            assert_eq!(served.client().say("PING"), "PONG");
        }
        assert!(sleeping.iter().all(is_silent));
    }
}

#[test]
fn however_many_wait_for_another_process_the_others_are_served() {
    const WAITING: usize = 600;
    let served = Served::new(|server| server);
    let db = Db::open(&served.path).unwrap();
    let mut clients = Vec::new();
    db.transaction(|tx| -> brasa::Result<()> {
        tx.set("k", "mine")?;
        clients = clients_that_wait(&served, WAITING, &request(&["SET", "k", "v"]));
        for _ in 0..100 {
            assert_eq!(served.client().say("PING"), "PONG");
        }
        assert!(clients.iter().all(has_no_reply));
        // One that has no place yet can be told to go.
        let mut killed = served.client();
        let id = killed.say("CLIENT ID");
        killed.send(&request(&["SET", "killed", "v"]));
        assert_eq!(served.client().say(&format!("CLIENT KILL ID {id}")), "1");
        assert_eq!(killed.rest(), "");
        Ok(())
    })
    .unwrap();
    for client in &mut clients {
        assert_eq!(client.reply(), "OK");
    }
}

#[test]
fn a_pipeline_that_takes_long_gives_others_their_turn() {
    let mut served = Served::new(|server| server);
    let mut client = served.client();
    let big = vec![b'x'; 32 << 20];
    client.send(&request(&[&b"SET"[..], b"big", &big]));
    assert_eq!(client.reply(), "OK");
    let commit_count = |path: &Path| {
        let by_log = Db::options().ignore_checkpoints(true).read_only(true);
        by_log.open(path).unwrap().recovery().commit_count
    };
    let before = commit_count(&served.path);
    let count = request(&["BITCOUNT", "big"]);
    let requests = [
        request(&["SET", "a", "1"]),
        count.repeat(40),
        request(&["SET", "b", "2"]),
    ];
    client.send(&requests.concat());
    assert_eq!(client.reply(), "OK");
    for _ in 0..40 {
        assert_eq!(client.reply(), (4 * big.len()).to_string());
    }
    assert_eq!(client.reply(), "OK");
    served.end();
    assert_eq!(commit_count(&served.path) - before, 2);
}

#[test]
fn reply_to_a_slow_command_does_not_wait_for_those_behind_it() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    client.send(&request(&["DEBUG", "SLEEP", "1"]).repeat(2));
    assert_eq!(client.reply(), "OK");
    assert!(client.read.is_empty() && has_no_reply(&client));
    assert_eq!(client.reply(), "OK");
}

#[test]
fn what_stands_behind_ones_own_end_is_not_executed() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    let id = client.say("CLIENT ID");
    let requests = [
        request(&["SET", "before", "v"]),
        request(&["CLIENT", "KILL", "ID", &id, "SKIPME", "no"]),
        request(&["SET", "behind", "v"]),
        request(&["SET", "behind", "v"]),
    ];
    client.send(&requests.concat());
    client.rest();
    let mut other = served.client();
    assert_eq!(other.say("EXISTS before behind"), "1");
}

#[test]
fn the_end_answers_what_has_arrived_and_syncs() {
    let mut served = Served::new(|server| server.durability(Durability::Os));
    let mut client = served.client();
    for number in 0..1_000 {
        client.send(&request(&["SET", &format!("key {number}"), "v"]));
    }
    for _ in 0..1_000 {
        assert_eq!(client.reply(), "OK");
    }
    served.end();
    assert_eq!(client.rest(), "");
    let db = Db::open(&served.path).unwrap();
    assert_eq!(db.len().unwrap(), 1_000);
    assert!(db.stats().unwrap().synced_upto >= 12_288 + db.stats().unwrap().live_bytes);
}

#[test]
fn an_acknowledged_write_is_on_the_device_where_that_is_asked_for() {
    let served = Served::new(|server| server.durability(Durability::Always));
    let mut client = served.client();
    assert_eq!(client.say("SET k v"), "OK");
    let synced = |path: &Path| {
        Db::options()
            .read_only(true)
            .open(path)
            .unwrap()
            .stats()
            .unwrap()
    };
    let stats = synced(&served.path);
    assert!(stats.live_bytes > 0);
    // The slot may be late; what the server itself says is not.
    assert!(
        client
            .say("INFO persistence")
            .contains("brasa_appendfsync:always")
    );
}

#[cfg(feature = "simulation")]
#[test]
fn a_compaction_heals_what_a_failed_sync_has_broken() {
    use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
    let disk = SimulatedDisk::new(7);
    let options = Db::options().durability(Durability::Os);
    let db = options.open_on(&disk, "file.brasa").unwrap();
    let server = Server::new(db).durability(Durability::Always);
    let server = server.bind("127.0.0.1:0".parse().unwrap());
    let running = server.start().unwrap();
    let connect = || Client::connect(running.local_addr().unwrap());
    assert_eq!(connect().say("SET k 1"), "OK");
    disk.inject(Fault::new(ErrorKind::Other).operation(FaultyOperation::Sync));
    let mut unlucky = connect();
    unlucky.send(&request(&["SET", "k", "2"]));
    let said = unlucky.rest();
    assert!(said.starts_with("-MISCONF"), "{said}");
    let mut client = connect();
    // Until then nothing is taken.
    let refused = client.say("SET k 3");
    assert!(refused.starts_with('-'), "{refused}");
    let status = || {
        let info = connect().say("INFO persistence");
        let mut lines = info.lines();
        let line = lines.find_map(|line| line.strip_prefix("aof_last_write_status:"));
        line.unwrap().to_owned()
    };
    assert_eq!(status(), "err");
    let mut client = connect();
    let compacted = client.say("BGREWRITEAOF");
    assert!(compacted.starts_with("Background"), "{compacted}");
    assert_eq!(status(), "ok");
    assert_eq!(connect().say("SET k 4"), "OK");
    running.handle().stop();
    running.wait().unwrap();
}

/// The sync of a second could not be made, and nobody wrote later: what was acknowledged stayed where a loss of power would take it.
#[cfg(feature = "simulation")]
#[test]
fn what_could_not_be_synced_in_its_second_is_in_a_later_one() {
    use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
    let disk = SimulatedDisk::new(7);
    let options = Db::options().durability(Durability::Os);
    let db = options.open_on(&disk, "file.brasa").unwrap();
    let server = Server::new(db.clone()).durability(Durability::default());
    let server = server.bind("127.0.0.1:0".parse().unwrap());
    disk.inject(Fault::new(ErrorKind::Other).operation(FaultyOperation::OpenDirectory));
    let running = server.start().unwrap();
    let mut client = Client::connect(running.local_addr().unwrap());
    assert_eq!(client.say("SET k 1"), "OK");
    let is_synced = || {
        let stats = db.stats().unwrap();
        disk.fault_count() == 1 && stats.synced_upto == 12_288 + stats.log_bytes
    };
    let mut looks = (0..10_000).map(|_| std::thread::sleep(Duration::from_millis(1)));
    assert!(looks.any(|()| is_synced()), "it is not tried again");
    running.handle().stop();
    running.wait().unwrap();
}

/// What a client's commands do to the server, whether they are committed together or not.
#[cfg(feature = "simulation")]
#[test]
fn commands_whose_common_commit_has_failed_are_counted_once_and_answered_as_wanted() {
    use brasa::simulation::{Fault, FaultyOperation, SimulatedDisk};
    let disk = SimulatedDisk::new(7);
    let options = Db::options().durability(Durability::Os);
    let db = options.open_on(&disk, "file.brasa").unwrap();
    let server = Server::new(db).durability(Durability::Os);
    let server = server.bind("127.0.0.1:0".parse().unwrap());
    let running = server.start().unwrap();
    let mut client = Client::connect(running.local_addr().unwrap());
    let counted = |client: &mut Client<TcpStream>| -> u64 {
        let info = client.say("INFO stats");
        let mut lines = info.lines();
        let line = lines.find_map(|line| line.strip_prefix("total_commands_processed:"));
        line.unwrap().parse().unwrap()
    };
    let before = counted(&mut client);
    disk.inject(Fault::new(ErrorKind::StorageFull).operation(FaultyOperation::Write));
    let lines = [
        "CLIENT REPLY SKIP",
        "SET a 1",
        "SET b 2",
        "SELECT 1",
        "SET c 3",
    ];
    let requests = lines.map(|line| request(&line.split(' ').collect::<Vec<_>>()));
    client.send(&requests.concat());
    // Not to CLIENT REPLY, and not to the command behind it.
    for expected in ["OK", "OK", "OK"] {
        assert_eq!(client.reply(), expected);
    }
    assert_eq!(disk.fault_count(), 1);
    assert_eq!(client.say("DBSIZE"), "1");
    // They, DBSIZE, and INFO itself.
    assert_eq!(counted(&mut client) - before, lines.len() as u64 + 2);
    running.handle().stop();
    running.wait().unwrap();
}

#[test]
fn server_and_library_see_each_others_writes_at_once() {
    let served = Served::new(|server| server);
    let db = Db::open(&served.path).unwrap();
    let mut client = served.client();
    for number in 0..200 {
        let text = number.to_string();
        db.set("from library", &text).unwrap();
        client.send(&request(&["GET", "from library"]));
        assert_eq!(client.reply(), text);
        assert_eq!(client.say(&format!("SET other {text}")), "OK");
        assert_eq!(db.get("other").unwrap().unwrap(), text.as_bytes());
    }
}

/// A clock that panics while it is told to.
#[derive(Clone, Default)]
struct PanickingClock(Arc<AtomicBool>);

impl brasa::Clock for PanickingClock {
    fn now_ms(&self) -> u64 {
        assert!(!self.0.load(Ordering::SeqCst), "the clock panics");
        1_700_000_000_000
    }
}

/// A command that panicked in a pipeline took the writes and replies before it with it: they were
/// one commit, which was given up as a whole.
#[test]
fn command_that_panics_leaves_earlier_commands_of_its_pipeline() {
    let directory = support::scratch_directory();
    let clock = PanickingClock::default();
    let db = Db::options()
        .durability(Durability::Os)
        .clock(clock.clone())
        .open(directory.path().join("file.brasa"))
        .unwrap();
    let server = Server::new(db.clone()).bind("127.0.0.1:0".parse().unwrap());
    let running = server.start().unwrap();
    let mut client = Client::connect(running.local_addr().unwrap());
    assert_eq!(client.say("SET before 1"), "OK");
    clock.0.store(true, Ordering::SeqCst);
    let mut pipeline = Vec::new();
    for command in ["SET a 1", "SET b 2", "SET c 3 EX 10", "SET d 4"] {
        let words: Vec<&str> = command.split(' ').collect();
        pipeline.extend(request(&words));
    }
    client.send(&pipeline);
    let replies = client.rest();
    clock.0.store(false, Ordering::SeqCst);
    let bug = "-ERR the command failed: a bug of the server\r\n";
    assert_eq!(replies, format!("+OK\r\n+OK\r\n{bug}"));
    let there = ["before", "a", "b", "c", "d"].map(|key| db.exists(key).unwrap());
    assert_eq!(there, [true, true, true, false, false]);
    running.handle().stop();
    running.wait().unwrap();
}

/// How many files of a directory this process has open or mapped that have no name any more.
#[cfg(target_os = "linux")]
fn deleted_files(directory: &std::path::Path) -> usize {
    let directory = directory.to_str().unwrap();
    let is_deleted = |name: &str| name.contains(directory) && name.ends_with("(deleted)");
    let descriptors = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let open = targets.filter(|target| target.to_str().is_some_and(is_deleted));
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    open.count() + maps.lines().filter(|line| is_deleted(line)).count()
}

#[cfg(target_os = "linux")]
#[test]
fn clients_that_watch_keep_no_replaced_file_and_get_the_right_answer() {
    let served = Served::new(|server| server);
    let db = Db::open(&served.path).unwrap();
    let mut control = served.client();
    let mut clients = Vec::new();
    for number in 0..20 {
        let mut client = served.client();
        assert_eq!(client.say(&format!("WATCH k{number}")), "OK");
        clients.push(client);
        assert_eq!(control.say("SET other 1"), "OK");
        db.compact().unwrap();
        // The server notices with its next command.
        assert_eq!(control.say("EXISTS other"), "1");
        assert_eq!(deleted_files(served.path.parent().unwrap()), 0);
    }
    db.set("k7", "1").unwrap();
    db.compact().unwrap();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.say("MULTI"), "OK");
        assert_eq!(client.say("GET other"), "QUEUED");
        let replies = client.say("EXEC");
        assert_eq!(replies == "nil", number == 7, "{number}: {replies}");
    }
}
