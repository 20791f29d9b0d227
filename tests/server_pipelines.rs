//! Clients that send many requests before they read the first reply, and clients that read slowly or not at all.
#![cfg(feature = "server")]

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use brasa::{Db, Durability};
use support::served::{Client, PATIENCE, Served, request};

const MIB: usize = 1 << 20;

fn set(key: &str, value: &[u8]) -> Vec<u8> {
    request(&[b"SET", key.as_bytes(), value])
}

/// Reads the replies to GETs of a value, which are compared as bytes.
fn read_values<S: Read>(client: &mut Client<S>, value: &[u8], count: usize) {
    let head = format!("${}\r\n", value.len()).into_bytes();
    let expected = [&head, value, b"\r\n"].concat();
    let mut found = vec![0; expected.len()];
    for number in 0..count {
        let kept = client.read.len().min(found.len());
        found[..kept].copy_from_slice(&client.read[..kept]);
        client.read.drain(..kept);
        client.stream.read_exact(&mut found[kept..]).unwrap();
        assert!(found == expected, "reply {number}");
    }
}

#[test]
fn large_get_and_set_in_one_pipeline_do_not_wait_for_each_other() {
    let served = Served::new(|server| server);
    for size in [2, 8, 32] {
        let value = vec![b'v'; size * MIB];
        let mut client = served.client();
        client.send(&set("v", &value));
        assert_eq!(client.reply(), "OK");
        client.send(&[request(&["GET", "v"]), set("w", &value)].concat());
        read_values(&mut client, &value, 1);
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.say("STRLEN w"), (size * MIB).to_string());
    }
}

#[test]
fn pipeline_on_a_unix_socket_is_answered_after_all_of_it_was_sent() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("socket");
    let _served = Served::new(|server| server.unix_socket(&path, 0o700));
    let mut client = Client::<UnixStream>::connect_unix(&path);
    let requests = (0..20_000).flat_map(|number| {
        let number = number.to_string();
        let set = request(&["SET", "counter", &number]);
        [set, request(&["GET", "counter"])].concat()
    });
    client.send(&requests.collect::<Vec<u8>>());
    for number in 0..20_000 {
        assert_eq!(client.reply(), "OK");
        assert_eq!(client.reply(), number.to_string());
    }
}

#[test]
fn replies_of_hundreds_of_megabytes_wait_until_all_requests_were_sent() {
    const COUNT: usize = 300;
    let served = Served::new(|server| server);
    let mut client = served.client();
    let value = vec![b'v'; MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    // The bytes behind the requests are more than both sockets hold.
    let echo = request(&[&b"ECHO"[..], &vec![b'e'; 16 * MIB]]);
    client.send(&[request(&["GET", "v"]).repeat(COUNT), echo].concat());
    read_values(&mut client, &value, COUNT);
    read_values(&mut client, &vec![b'e'; 16 * MIB], 1);
    assert_eq!(client.say("PING"), "PONG");
}

#[test]
fn replies_that_take_memory_pause_the_execution_and_not_the_reading() {
    // More than the memory that replies may take: these are no values of the file.
    const COUNT: usize = 100;
    let served = Served::new(|server| server);
    let mut client = served.client();
    let value = vec![b'v'; MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    let part = request(&["GETRANGE", "v", "0", "-1"]).repeat(COUNT);
    client.send(&[part, set("w", &vec![b'w'; 32 * MIB])].concat());
    read_values(&mut client, &value, COUNT);
    assert_eq!(client.reply(), "OK");
}

#[test]
fn many_clients_send_all_before_they_read() {
    let served = Served::new(|server| server);
    let value = vec![b'v'; MIB];
    let mut first = served.client();
    first.send(&set("v", &value));
    assert_eq!(first.reply(), "OK");
    let mut clients: Vec<_> = (0..20).map(|_| served.client()).collect();
    let requests = [request(&["GET", "v"]).repeat(16), set("w", &value)].concat();
    for client in &mut clients {
        client.send(&requests);
    }
    for client in &mut clients {
        read_values(client, &value, 16);
        assert_eq!(client.reply(), "OK");
    }
}

#[test]
fn replies_and_messages_keep_their_order_while_they_wait() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    client.say("HELLO 3");
    let value = vec![b'v'; 4 * MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.say("SUBSCRIBE news"), "[subscribe news 1]");
    let requests = [
        request(&["GET", "v"]),
        request(&["PUBLISH", "news", "one"]),
        request(&["GET", "v"]),
        request(&["PUBLISH", "news", "two"]),
        set("w", &value),
    ];
    client.send(&requests.concat());
    for message in ["one", "two"] {
        read_values(&mut client, &value, 1);
        assert_eq!(client.reply(), format!("[message news {message}]"));
        assert_eq!(client.reply(), "1");
    }
    assert_eq!(client.reply(), "OK");
}

#[test]
fn limit_of_messages_is_not_one_of_replies() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    client.say("HELLO 3");
    assert_eq!(client.say("SUBSCRIBE news"), "[subscribe news 1]");
    let value = vec![b'v'; 40 * MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    client.send(&request(&["GET", "v"]).repeat(2));
    read_values(&mut client, &value, 2);
}

#[test]
fn transaction_with_large_replies_is_answered_after_what_follows_it_was_sent() {
    let served = Served::new(|server| server.durability(Durability::Always));
    let mut client = served.client();
    let value = vec![b'v'; 8 * MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    let requests = [
        request(&["MULTI"]),
        request(&["GET", "v"]),
        request(&["SET", "k", "1"]),
        request(&["EXEC"]),
        request(&["CLIENT", "REPLY", "SKIP"]),
        request(&["GET", "v"]),
        set("w", &value),
    ];
    client.send(&requests.concat());
    for reply in ["OK", "QUEUED", "QUEUED"] {
        assert_eq!(client.reply(), reply);
    }
    assert_eq!(client.line(), "*2");
    read_values(&mut client, &value, 1);
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.say("GET k"), "1");
}

#[test]
fn requests_behind_quit_are_dropped_and_the_replies_before_it_arrive() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    let value = vec![b'v'; 8 * MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    let requests = [
        request(&["GET", "v"]),
        request(&["QUIT"]),
        set("behind", &value),
    ];
    client.send(&requests.concat());
    read_values(&mut client, &value, 1);
    assert_eq!(client.reply(), "OK");
    assert_eq!(client.rest(), "");
    assert_eq!(served.client().say("EXISTS behind"), "0");
}

#[test]
fn client_that_ends_its_side_first_gets_all_replies() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    let value = vec![b'v'; MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    client.send(&request(&["GET", "v"]).repeat(64));
    client.stream.shutdown(Shutdown::Write).unwrap();
    read_values(&mut client, &value, 64);
    assert_eq!(client.rest(), "");
}

#[test]
fn server_that_ends_delivers_the_replies_that_wait() {
    let mut served = Served::new(|server| server);
    let mut client = served.client();
    let value = vec![b'v'; 16 * MIB];
    client.send(&set("v", &value));
    assert_eq!(client.reply(), "OK");
    client.send(&request(&["GET", "v"]));
    let mut first = [0; 1];
    client.stream.read_exact(&mut first).unwrap();
    let running = served.running.take().unwrap();
    running.handle().stop();
    client.read.extend(first);
    read_values(&mut client, &value, 1);
    assert_eq!(client.rest(), "");
    running.wait().unwrap();
}

#[test]
fn client_that_never_reads_is_disconnected_and_costs_no_more_than_its_limits() {
    let served = Served::new(|server| server.halfway_timeout(Duration::from_secs(1)));
    let mut deaf = served.client();
    assert_eq!(deaf.say("CONFIG SET client-query-buffer-limit 2mb"), "OK");
    let value = "x".repeat(MIB);
    assert_eq!(served.client().say(&format!("SET big {value}")), "OK");
    let gets = request(&["GETRANGE", "big", "0", "-1"]).repeat(1_000);
    // The server stops reading, and closes the connection once nothing moves.
    let sent = (0..100_000).take_while(|_| deaf.stream.write_all(&gets).is_ok());
    assert!(sent.count() < 100_000);
    assert_eq!(served.client().say("PING"), "PONG");
}

#[test]
fn request_beyond_the_query_buffer_limit_is_refused() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    assert_eq!(client.say("CONFIG SET client-query-buffer-limit 1mb"), "OK");
    client.send(&set("k", &vec![b'v'; MIB - 100]));
    assert_eq!(client.reply(), "OK");
    let too_large = set("k", &vec![b'v'; MIB]);
    client.send(&too_large[..100]);
    assert_eq!(client.reply(), "-ERR Protocol error: too big request");
    assert_eq!(client.rest(), "");
}

#[test]
fn client_beyond_its_output_limit_is_disconnected() {
    let mut served = Served::new(|server| server);
    let mut other = served.client();
    assert_eq!(other.say(&format!("SET k {}", "v".repeat(MIB))), "OK");
    for limit in ["normal 10mb 0 0", "normal 0 10mb 1"] {
        let words = ["CONFIG", "SET", "client-output-buffer-limit", limit];
        other.send(&request(&words));
        assert_eq!(other.reply(), "OK");
        let mut deaf = served.client();
        let listed = format!("CLIENT LIST ID {}", deaf.say("CLIENT ID"));
        deaf.send(&request(&["GET", "k"]).repeat(100));
        let begun = std::time::Instant::now();
        while !other.say(&listed).is_empty() && begun.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        assert_eq!(other.say(&listed), "", "{limit}");
        assert!(deaf.rest().len() < 100 * MIB, "{limit}");
    }
    drop(other);
    served.end();
}

#[test]
fn subscriptions_are_confirmed_to_a_client_that_wants_no_replies() {
    let served = Served::new(|server| server);
    let mut sender = served.client();
    for (protocol, mode) in [("2", "OFF"), ("2", "SKIP"), ("3", "OFF"), ("3", "SKIP")] {
        let mut client = served.client();
        client.say(&format!("HELLO {protocol}"));
        let requests = [
            request(&["CLIENT", "REPLY", mode]),
            request(&["SUBSCRIBE", "a", "b"]),
        ];
        client.send(&requests.concat());
        assert_eq!(client.reply(), "[subscribe a 1]");
        assert_eq!(client.reply(), "[subscribe b 2]");
        assert_eq!(sender.say("PUBLISH a hello"), "1");
        assert_eq!(client.reply(), "[message a hello]");
        assert_eq!(client.say("UNSUBSCRIBE a"), "[unsubscribe a 1]");
        assert_eq!(client.say("PSUBSCRIBE x*"), "[psubscribe x* 2]");
        assert_eq!(client.say("SSUBSCRIBE s"), "[ssubscribe s 1]");
        assert_eq!(client.say("UNSUBSCRIBE"), "[unsubscribe b 1]");
        assert_eq!(client.say("PUNSUBSCRIBE"), "[punsubscribe x* 0]");
        assert_eq!(client.say("SUNSUBSCRIBE"), "[sunsubscribe s 0]");
        // All other replies are as they were asked for.
        client.send(&[request(&["PING"]), request(&["SUBSCRIBE", "c"])].concat());
        if mode == "SKIP" {
            assert_eq!(client.reply(), "PONG");
        }
        assert_eq!(client.reply(), "[subscribe c 1]");
    }
    let mut client = served.client();
    client.say("HELLO 3");
    let words = ["MULTI", "SUBSCRIBE a", "PING", "EXEC", "CLIENT REPLY ON"];
    let requests = words.map(|line| request(&line.split(' ').collect::<Vec<_>>()));
    client.send(&[request(&["CLIENT", "REPLY", "OFF"]), requests.concat()].concat());
    assert_eq!(client.reply(), "[subscribe a 1]");
    assert_eq!(client.reply(), "OK");
}

#[test]
fn monitor_shows_nothing_to_a_client_that_wants_no_replies() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    assert_eq!(client.say("MONITOR"), "OK");
    client.send(&request(&["CLIENT", "REPLY", "OFF"]));
    let mut other = served.client();
    for _ in 0..3 {
        assert_eq!(other.say("SET secret 1"), "OK");
    }
    client.send(&request(&["RESET"]));
    let shown = std::iter::repeat_with(|| client.reply()).find(|line| line == "RESET");
    assert!(shown.is_some());
}

#[test]
fn sleep_in_a_transaction_holds_no_lock_of_the_file() {
    let served = Served::new(|server| server);
    let mut client = served.client();
    for line in ["MULTI", "SET k v", "DEBUG SLEEP 3"] {
        client.say(line);
    }
    client.send(&request(&["EXEC"]));
    let other = Db::options().lock_timeout(Duration::from_secs(1));
    let other = other.open(&served.path).unwrap();
    let begun = std::time::Instant::now();
    while other.get("k").unwrap().is_none() && begun.elapsed() < PATIENCE {
        std::thread::yield_now();
    }
    // The commit is there, the reply is not, and others write.
    other.set("other", "v").unwrap();
    client.stream.set_nonblocking(true).unwrap();
    let peeked = client.stream.peek(&mut [0]);
    client.stream.set_nonblocking(false).unwrap();
    assert!(peeked.is_err_and(|error| error.kind() == ErrorKind::WouldBlock));
    assert_eq!(client.reply(), "[OK OK]");
}
