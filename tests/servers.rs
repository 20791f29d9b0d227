//! Tests that need servers: the cache over Redis and over a Redis Cluster, and transfers. They are
//! no part of `cargo test`; `tests/clients/run` starts the servers and runs them. By hand, with
//! servers whose contents may be removed:
//!
//! ```sh
//! BRASA_TEST_REDIS_URL=redis://127.0.0.1:6379/ \
//!     BRASA_TEST_CLUSTER_URL=redis+cluster://127.0.0.1:7000/ \
//!     cargo test --all-features --test servers
//! ```

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use brasa::transfer::{self, Event, Position, Report};
use brasa::{Cache, Db, DegradedTo, Error, ExpireCondition, KeyType, SetOptions};
use redis::ConnectionLike;
use support::conformance::TESTS;
#[cfg(feature = "cli")]
use support::program::Run;
use support::stampede::{self, Place};

const SERVER: &str = "BRASA_TEST_REDIS_URL";
const CLUSTER: &str = "BRASA_TEST_CLUSTER_URL";

fn url(variable: &str) -> String {
    std::env::var(variable).unwrap_or_else(|_| panic!("set {variable}, see the top of this file"))
}

/// A namespace of this test and run, so that tests do not meet.
fn open(url: &str, namespace: &str) -> Cache {
    let namespace = format!("{namespace}-{}", std::process::id());
    let options = Cache::options().strict(true).namespace(namespace);
    options.timeout(Duration::from_secs(30)).open(url).unwrap()
}

fn conforms(variable: &str) {
    let url = url(variable);
    let cache = open(&url, "conformance");
    cache.clear().unwrap();
    for (number, (name, test)) in TESTS.iter().enumerate() {
        println!("{name}");
        test(&|| open(&url, "conformance"), &format!("{number}:"));
    }
    cache.clear().unwrap();
    assert_eq!(cache.invalidate_prefix("").unwrap(), 0, "something is left");
}

#[test]
fn a_server_conforms() {
    conforms(SERVER);
}

#[test]
fn a_cluster_conforms() {
    conforms(CLUSTER);
}

#[test]
fn what_a_worker_does() {
    stampede::what_a_worker_does();
}

/// One after another, since they use one key.
fn stampedes(variable: &str) {
    let directory = tempfile::tempdir().unwrap();
    type Stampede = (&'static str, fn(&Place));
    let tests: [Stampede; 5] = [
        (
            "missing",
            stampede::sixty_four_threads_of_eight_processes_miss_a_key_and_one_computes,
        ),
        (
            "killed",
            stampede::an_owner_that_is_killed_in_the_middle_costs_one_more_computation,
        ),
        (
            "stopped",
            stampede::an_owner_that_is_stopped_is_taken_over_and_overwrites_nothing_later,
        ),
        (
            "late",
            stampede::value_of_a_stopped_owner_is_stored_if_nothing_newer_is,
        ),
        (
            "stale",
            stampede::where_there_is_a_stale_value_nobody_waits_and_one_computes,
        ),
    ];
    for (name, test) in tests {
        println!("{name}");
        let place = Place {
            cache: url(variable),
            journal: directory.path().join(name),
        };
        let options = Cache::options().strict(true);
        options.open(&place.cache).unwrap().invalidate("k").unwrap();
        test(&place);
    }
}

#[test]
fn a_server_serves_a_stampede_with_one_computation() {
    stampedes(SERVER);
}

#[test]
fn a_cluster_serves_a_stampede_with_one_computation() {
    stampedes(CLUSTER);
}

#[test]
fn a_database_of_a_server_is_its_own() {
    let url = url(SERVER);
    let [one, other] = [1, 2].map(|number| {
        let url = format!("{}/{number}", url.trim_end_matches('/'));
        open(&url, "database")
    });
    one.insert("k", &"1".to_owned()).unwrap();
    assert_eq!(other.get::<String>("k").unwrap(), None);
    one.clear().unwrap();
}

#[test]
fn a_key_of_another_kind_is_a_miss() {
    let url = url(SERVER);
    let cache = open(&url, "kinds");
    let name = format!("{{kinds-{}:k}}", std::process::id());
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut push = redis::cmd("RPUSH");
    push.arg(&name).arg("1").exec(&mut connection).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap(), None);
    let computed = cache.get_or_insert_with("k", || Ok::<_, Error>("1".to_owned()));
    assert_eq!(computed.unwrap(), "1");
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    cache.clear().unwrap();
}

#[test]
fn connections_that_the_server_has_closed_are_made_anew() {
    let url = url(SERVER);
    let cache = open(&url, "closed");
    cache.insert("k", &"1".to_owned()).unwrap();
    let mut connection = redis::Client::open(url).unwrap().get_connection().unwrap();
    let mut kill = redis::cmd("CLIENT");
    kill.arg("KILL")
        .arg("TYPE")
        .arg("normal")
        .arg("SKIPME")
        .arg("yes");
    kill.exec(&mut connection).unwrap();
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    cache.clear().unwrap();
}

/// A server that goes away while it is used: what it does with a connection is in the hands of the test.
#[test]
fn a_server_that_goes_away_is_worked_around() {
    let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = server.local_addr().unwrap();
    let real = url(SERVER).replace("redis://", "");
    let real = real.trim_end_matches('/').to_owned();
    // Passes on what one connection says, and takes no other.
    let relay = std::thread::spawn(move || {
        let (client, _) = server.accept().unwrap();
        drop(server);
        let upstream = std::net::TcpStream::connect(real).unwrap();
        let (mut from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
        let there = std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        let (mut from, mut to) = (upstream, client.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from, &mut to));
        (client, there)
    });
    let cache = Cache::options().namespace("away");
    let cache = cache.open(format!("redis://{address}/")).unwrap();
    assert_eq!(cache.degraded(), None);
    cache.insert("k", &"1".to_owned()).unwrap();
    let (client, _there) = relay.join().unwrap();
    client.shutdown(std::net::Shutdown::Both).unwrap();
    for _ in 0..3 {
        let computed = cache.get_or_insert_with("k", || Ok::<_, Error>("computed".to_owned()));
        assert_eq!(computed.unwrap(), "computed");
    }
    assert_eq!(cache.stats().not_stored, 3);
    assert!(cache.last_error().unwrap().contains(&address.to_string()));
    assert!(
        cache.insert("k", &"1".to_owned()).is_err(),
        "who inserts is told"
    );
    open(&url(SERVER), "other").clear().unwrap();
}

#[test]
fn a_server_that_is_not_there_makes_a_cache_in_memory() {
    let cache = Cache::open("redis://127.0.0.1:1/").unwrap();
    assert_eq!(cache.degraded().unwrap().to, DegradedTo::Memory);
    let told = cache.insert("k", &"1".to_owned());
    assert!(matches!(told, Err(Error::FellBack { .. })), "{told:?}");
    assert!(matches!(cache.clear(), Err(Error::FellBack { .. })));
    assert!(cache.insert("k", &"1".to_owned()).is_err());
    assert_eq!(cache.get::<String>("k").unwrap().unwrap(), "1");
    let refused = Cache::options().strict(true).open("redis://127.0.0.1:1/");
    assert!(matches!(refused, Err(Error::Remote { .. })));
}

/// The year 2100.
const FAR_MS: u64 = 4_102_444_800_000;

/// One database of a server that tests of moving have for themselves, empty.
fn database(number: u8) -> (String, redis::Connection) {
    let url = format!("{}/{number}", url(SERVER).trim_end_matches('/'));
    let mut connection = redis::Client::open(url.as_str())
        .unwrap()
        .get_connection()
        .unwrap();
    redis::cmd("FLUSHDB").exec(&mut connection).unwrap();
    (url, connection)
}

fn ask<T: redis::FromRedisValue>(connection: &mut impl ConnectionLike, words: &[&str]) -> T {
    let mut command = redis::cmd(words[0]);
    words[1..].iter().for_each(|word| _ = command.arg(*word));
    command.query(connection).unwrap()
}

/// A database with all that can be moved to any Redis.
fn fill(db: &Db) {
    for number in 0..3_000 {
        db.set(format!("key:{number}"), format!("value {number}"))
            .unwrap();
    }
    db.set("chave de açúcar\0\r\n", b"\0\xff").unwrap();
    db.set("", "the empty key").unwrap();
    db.set("large", vec![7_u8; 9 << 20]).unwrap();
    db.set_with("ends", "1", SetOptions::new().deadline_ms(FAR_MS))
        .unwrap();
    db.hset_many("meu_hash", &[("nome", "thailan"), ("", "the empty field")])
        .unwrap();
    let many: Vec<_> = (0..2_000).map(|field| (field.to_string(), "1")).collect();
    db.hset_many("many fields", &many).unwrap();
    db.expire_at("many fields", FAR_MS).unwrap();
}

/// All that a database holds, as text.
fn contents(db: &Db) -> BTreeMap<String, String> {
    let describe = |key: &[u8]| {
        let value = match db.key_type(key).unwrap().unwrap() {
            KeyType::Hash => {
                let mut fields: Vec<_> = db.hgetall(key).unwrap();
                fields.sort_by(|(one, _), (other, _)| one[..].cmp(&other[..]));
                let names: Vec<_> = fields.iter().map(|(field, _)| field).collect();
                let deadlines = db.hdeadlines_ms(key, &names).unwrap();
                format!("{fields:?} {deadlines:?}")
            }
            _ => format!("{:?}", db.get(key).unwrap().unwrap()),
        };
        format!("{value} until {:?}", db.deadline_ms(key).unwrap())
    };
    let keys = db.keys().map(Result::unwrap);
    keys.map(|key| (format!("{key:?}"), describe(&key)))
        .collect()
}

/// A move with all that it tells: refusals, differences, and the last position.
#[derive(Default)]
struct Told {
    refused: Vec<(String, String)>,
    differs: Vec<String>,
    positions: Vec<Position>,
}

impl Told {
    fn hear(&mut self, event: &Event<'_>) {
        match event {
            Event::Refused { key, reason, .. } => {
                let key = String::from_utf8_lossy(key).into_owned();
                self.refused.push((key, (*reason).to_owned()));
            }
            Event::Differs { key, reason, .. } => {
                self.differs
                    .push(format!("{}: {reason}", key.escape_ascii()));
            }
            Event::Moved { position, .. } => self.positions.push((*position).clone()),
            _ => {}
        }
    }
}

fn push(db: &Db, url: &str, from: Option<&Position>) -> (Report, Told) {
    let mut told = Told::default();
    let report = transfer::push(db, url, from, |event| told.hear(&event)).unwrap();
    (report, told)
}

fn pull(url: &str, db: &Db, from: Option<&Position>) -> (Report, Told) {
    let mut told = Told::default();
    let report = transfer::pull(url, db, from, |event| told.hear(&event)).unwrap();
    (report, told)
}

#[test]
fn everything_goes_to_a_server_and_comes_back() {
    let (url, mut connection) = database(5);
    let (from, to) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    fill(&from);
    let (report, told) = push(&from, &url, None);
    assert_eq!((told.refused, told.differs), (vec![], vec![]));
    assert_eq!((report.moved_count, report.verified_count), (3_006, 3_006));
    assert!(report.is_complete());
    assert_eq!(ask::<u64>(&mut connection, &["DBSIZE"]), 3_006);
    assert_eq!(
        ask::<u64>(&mut connection, &["PEXPIRETIME", "many fields"]),
        FAR_MS
    );
    to.set("before", "stays").unwrap();
    to.set("meu_hash", "was a string").unwrap();
    let (report, told) = pull(&url, &to, None);
    assert_eq!((told.refused, told.differs), (vec![], vec![]));
    assert_eq!((report.moved_count, report.verified_count), (3_006, 3_006));
    assert!(to.del("before").unwrap());
    assert_eq!(contents(&from), contents(&to));
    // Again, over what is there.
    let (report, _) = push(&from, &url, None);
    assert_eq!(report.verified_count, 3_006);
}

#[test]
fn everything_goes_to_a_cluster_and_comes_back() {
    let url = url(CLUSTER);
    let (from, to) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    let mut cluster = redis::cluster::ClusterClient::new([url.replace("+cluster", "")]);
    let mut cluster = cluster.as_mut().unwrap().get_connection().unwrap();
    redis::cmd("FLUSHALL").exec(&mut cluster).unwrap();
    fill(&from);
    from.database(3).unwrap().set("elsewhere", "1").unwrap();
    let (report, told) = push(&from, &url, None);
    assert_eq!((report.moved_count, report.verified_count), (3_006, 3_006));
    let elsewhere = (
        "elsewhere".to_owned(),
        "the server has no such database".to_owned(),
    );
    assert_eq!(told.refused, [elsewhere]);
    let (report, told) = pull(&url, &to, None);
    assert_eq!((told.refused, told.differs), (vec![], vec![]));
    assert_eq!((report.moved_count, report.verified_count), (3_006, 3_006));
    assert_eq!(contents(&from), contents(&to));
    redis::cmd("FLUSHALL").exec(&mut cluster).unwrap();
}

#[test]
fn what_the_server_refuses_is_told_and_not_half_moved() {
    let (url, mut connection) = database(6);
    ask::<u64>(&mut connection, &["HSET", "session", "user", "of before"]);
    let db = Db::in_memory().unwrap();
    db.set("kept", "1").unwrap();
    db.hset_many("session", &[("token", "x"), ("user", "7")])
        .unwrap();
    db.hexpire_at_if("session", &["token"], FAR_MS, ExpireCondition::Always)
        .unwrap();
    let (report, told) = push(&db, &url, None);
    let knows_fields =
        ask::<Vec<redis::Value>>(&mut connection, &["COMMAND", "INFO", "HPEXPIREAT"]);
    if knows_fields == [redis::Value::Nil] || knows_fields.is_empty() {
        assert_eq!((report.moved_count, report.refused_count), (1, 1));
        assert_eq!(told.refused[0].0, "session");
        assert!(
            told.refused[0]
                .1
                .contains("does not support deadlines of fields"),
            "{told:?}",
            told = told.refused
        );
        let kept = ask::<String>(&mut connection, &["HGET", "session", "user"]);
        assert_eq!(kept, "of before", "what is not replaced stays");
        assert!(!report.is_complete());
    } else {
        assert_eq!((report.moved_count, report.refused_count), (2, 0));
        let to = Db::in_memory().unwrap();
        pull(&url, &to, None);
        assert_eq!(contents(&db), contents(&to));
    }
    assert_eq!(told.differs, Vec::<String>::new());
}

#[test]
fn types_that_a_file_cannot_hold_are_told() {
    let (url, mut connection) = database(7);
    ask::<u64>(&mut connection, &["RPUSH", "list", "1"]);
    ask::<u64>(&mut connection, &["SADD", "set", "1"]);
    ask::<u64>(&mut connection, &["ZADD", "sorted", "1", "1"]);
    ask::<String>(&mut connection, &["XADD", "stream", "*", "f", "v"]);
    ask::<()>(&mut connection, &["SET", "string", "1"]);
    let long = "k".repeat(70_000);
    ask::<()>(&mut connection, &["SET", &long, "1"]);
    let db = Db::in_memory().unwrap();
    let (report, mut told) = pull(&url, &db, None);
    told.refused.sort();
    let names: Vec<&str> = told
        .refused
        .iter()
        .map(|(key, _)| &key[..key.len().min(6)])
        .collect();
    assert_eq!(names, ["kkkkkk", "list", "set", "sorted", "stream"]);
    assert!(told.refused[1].1.contains("this is a list"));
    assert!(told.refused[0].1.contains("limit"), "{}", told.refused[0].1);
    assert_eq!(
        (
            report.moved_count,
            report.verified_count,
            report.refused_count
        ),
        (1, 1, 5)
    );
    assert_eq!((db.len().unwrap(), report.is_complete()), (1, false));
}

#[test]
fn a_move_that_was_broken_off_goes_on_where_it_was() {
    let (url, mut connection) = database(8);
    let db = Db::in_memory().unwrap();
    fill(&db);
    let (_, told) = push(&db, &url, None);
    let middle = &told.positions[told.positions.len() / 2];
    let middle: Position = middle.to_string().parse().unwrap();
    ask::<()>(&mut connection, &["FLUSHDB"]);
    let (report, told) = push(&db, &url, Some(&middle));
    let sent = ask::<u64>(&mut connection, &["DBSIZE"]);
    assert!(sent > 500 && sent < 2_500, "{sent} were sent");
    assert_eq!(report.moved_count, 3_006);
    // What was lost behind its back is seen at the end.
    assert_eq!(
        (report.verified_count, report.differing_count),
        (sent, 3_006 - sent)
    );
    assert_eq!(told.differs.len() as u64, report.differing_count);

    push(&db, &url, None);
    let (to, second) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    let (_, told) = pull(&url, &to, None);
    let middle = &told.positions[told.positions.len() / 2];
    let (report, _) = pull(&url, &second, Some(middle));
    let got = second.len().unwrap();
    assert!(got > 500 && got < 2_500, "{got} came");
    assert_eq!((report.moved_count, report.verified_count), (3_006, got));
}

#[test]
fn sixteen_databases_keep_their_numbers() {
    let server = url(SERVER);
    let plain = server.trim_end_matches('/').to_owned();
    let mut others: Vec<_> = [9, 10].map(database).into_iter().collect();
    let db = Db::in_memory().unwrap();
    for number in [9, 10] {
        db.database(number)
            .unwrap()
            .set("k", number.to_string())
            .unwrap();
    }
    let (report, told) = push(&db, &plain, None);
    assert_eq!(
        (report.moved_count, report.verified_count),
        (2, 2),
        "{:?}",
        told.differs
    );
    for (number, (_, connection)) in [9, 10].into_iter().zip(&mut others) {
        assert_eq!(ask::<u8>(connection, &["GET", "k"]), number);
    }
    // A URL with a database is about that one and the handle's.
    let to = Db::in_memory().unwrap().database(2).unwrap();
    let (report, _) = pull(&format!("{plain}/9"), &to, None);
    assert_eq!(report.moved_count, 1);
    assert_eq!(to.get("k").unwrap().unwrap(), "9");
}

#[cfg(feature = "cli")]
#[test]
fn the_command_line_moves_both_ways_and_lists_what_it_cannot() {
    let (url, mut connection) = database(11);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let brasa = |words: &[&str], files: [&std::path::Path; 1]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brasa"));
        let words = words.iter().map(|word| match *word {
            "FILE" => files[0].as_os_str().to_owned(),
            "URL" => url.as_str().into(),
            word => word.into(),
        });
        command.args(words);
        Run::of(command)
    };
    let (from, to) = (path("from"), path("to"));
    let db = Db::open(&from).unwrap();
    fill(&db);
    db.close().unwrap();
    let all = "3006 keys moved, 3006 verified, 0 refused, 0 different\n";
    brasa(&["push", "FILE", "URL"], [&from])
        .success()
        .stdout(all);
    brasa(&["pull", "URL", "FILE"], [&to]).success().stdout(all);
    assert_eq!(
        contents(&Db::open(&from).unwrap()),
        contents(&Db::open(&to).unwrap())
    );
    ask::<u64>(&mut connection, &["RPUSH", "list", "1"]);
    let said = "brasa: refused: \"list\" in database 0: a file holds strings and hashes, but this is a list\n";
    let pulled = brasa(&["pull", "URL", "FILE"], [&to]).code(1);
    pulled
        .stderr(said)
        .stdout("3006 keys moved, 3006 verified, 1 refused, 0 different\n");
    brasa(&["push", "FILE", "redis://127.0.0.1:1/"], [&from]).code(1);
    brasa(&["push", "FILE", "http://a/"], [&from]).code(1);
    let names = directory.path().read_dir().unwrap().count();
    assert_eq!(names, 2, "nothing is left beside the files");
}

/// Passes connections on to the server, but cuts the second one off after some bytes.
#[cfg(feature = "cli")]
fn relay(after_bytes: u64) -> std::net::SocketAddr {
    use std::io::{Read, copy};
    use std::net::{Shutdown, TcpListener, TcpStream};

    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let real = url(SERVER).replace("redis://", "");
    let real = real.trim_end_matches('/').to_owned();
    std::thread::spawn(move || {
        for (number, client) in listener.incoming().enumerate() {
            let (client, upstream) = (client.unwrap(), TcpStream::connect(&real).unwrap());
            let (from, mut to) = (client.try_clone().unwrap(), upstream.try_clone().unwrap());
            std::thread::spawn(move || {
                let limit = if number == 1 { after_bytes } else { u64::MAX };
                let _ = copy(&mut from.try_clone().unwrap().take(limit), &mut to);
                let _ = from.shutdown(Shutdown::Both);
            });
            let (mut from, mut to) = (upstream, client);
            std::thread::spawn(move || copy(&mut from, &mut to));
        }
    });
    address
}

#[cfg(feature = "cli")]
#[test]
fn a_push_that_is_cut_off_goes_on_when_it_is_called_again() {
    let (_, mut connection) = database(12);
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    let db = Db::open(&file).unwrap();
    db.batch(|b| (0..3_000).for_each(|number| _ = b.set(format!("key:{number}"), "value")))
        .unwrap();
    db.close().unwrap();
    let through = format!("redis://{}/12", relay(60_000));
    let push = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_brasa"));
        command.arg("push").arg(&file).arg(&through);
        Run::of(command)
    };
    let entries = || directory.path().read_dir().unwrap().count();
    let cut = push().code(1);
    let said = String::from_utf8_lossy(&cut.output().stderr).into_owned();
    assert!(
        said.contains("run the command again to continue from there"),
        "{said}"
    );
    assert_eq!(entries(), 2, "the place is noted beside the file");
    let sent = ask::<u64>(&mut connection, &["DBSIZE"]);
    assert!(sent > 300 && sent < 2_900, "{sent} were sent");
    let whole = push().success();
    let said = String::from_utf8_lossy(&whole.output().stderr).into_owned();
    assert!(said.contains("continuing an interrupted copy"), "{said}");
    whole.stdout("3000 keys moved, 3000 verified, 0 refused, 0 different\n");
    assert_eq!(ask::<u64>(&mut connection, &["DBSIZE"]), 3_000);
    assert_eq!(entries(), 1);
}
