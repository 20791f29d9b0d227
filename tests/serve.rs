//! `brasa serve` as a process: how it ends, and what is there when it is killed.
#![cfg(all(feature = "server", feature = "cli"))]

mod support;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use brasa::Db;

struct Serving {
    child: Child,
    address: SocketAddr,
}

impl Serving {
    fn start(path: &Path, options: &[&str]) -> Serving {
        Serving::start_by(Command::new(env!("CARGO_BIN_EXE_brasa")), path, options)
    }

    /// A server that may have only so many files open.
    fn start_within(limit: u64, path: &Path, options: &[&str]) -> Serving {
        Serving::start_by(limited(limit), path, options)
    }

    fn start_by(mut command: Command, path: &Path, options: &[&str]) -> Serving {
        let log = if options.contains(&"--log") {
            &[][..]
        } else {
            &["--log", "warn"]
        };
        let mut child = command
            .args(["serve", "--port", "0"])
            .args(log)
            .args(options)
            .arg(path)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let mut output = BufReader::new(child.stdout.take().unwrap());
        output.read_line(&mut line).unwrap();
        let address = line.trim().rsplit(' ').next().unwrap().parse().unwrap();
        Serving { child, address }
    }

    fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill")
            .args(["-s", name, &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The program, which may have only so many files open.
fn limited(limit: u64) -> Command {
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(format!("ulimit -n {limit} && exec \"$0\" \"$@\""))
        .arg(env!("CARGO_BIN_EXE_brasa"));
    command
}

fn run_with(options: &[&str]) -> (Option<i32>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_brasa"))
        .arg("serve")
        .args(options)
        .output()
        .unwrap();
    let said = String::from_utf8(run.stderr).unwrap();
    (run.status.code(), said)
}

fn request(words: &[&str]) -> Vec<u8> {
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).into_bytes());
    }
    bytes
}

#[test]
fn sigterm_ends_it_well_and_all_is_there() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let mut serving = Serving::start(&path, &["--appendfsync", "no"]);
    let mut stream = TcpStream::connect(serving.address).unwrap();
    stream.write_all(&request(&["SET", "k", "v"])).unwrap();
    let mut reply = [0; 5];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
    serving.signal("TERM");
    assert!(serving.child.wait().unwrap().success());
    let db = Db::open(&path).unwrap();
    assert_eq!(db.get("k").unwrap().unwrap(), "v");
    assert_eq!(db.recovery().torn_bytes, 0);
}

/// Whatever it was doing in the background just then: an end is no failure of that.
#[test]
fn an_end_reports_nothing() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    for _ in 0..100 {
        let mut serving = Serving::start(&path, &[]);
        serving.signal("TERM");
        let mut said = String::new();
        let mut errors = serving.child.stderr.take().unwrap();
        errors.read_to_string(&mut said).unwrap();
        assert_eq!(said, "");
    }
}

#[test]
fn what_is_logged_elsewhere_than_on_a_terminal_has_no_colours() {
    let directory = support::scratch_directory();
    let options = ["--log", "info"];
    let mut serving = Serving::start(&directory.path().join("file.brasa"), &options);
    serving.signal("TERM");
    let mut said = String::new();
    let mut errors = serving.child.stderr.take().unwrap();
    errors.read_to_string(&mut said).unwrap();
    assert!(said.contains("INFO"), "{said:?}");
    assert!(!said.contains('\u{1b}'), "{said:?}");
}

#[test]
fn a_second_server_on_a_port_says_so_and_exits_with_1() {
    let directory = support::scratch_directory();
    let serving = Serving::start(&directory.path().join("one.brasa"), &[]);
    let second = Command::new(env!("CARGO_BIN_EXE_brasa"))
        .args(["serve", "--port", &serving.address.port().to_string()])
        .arg(directory.path().join("two.brasa"))
        .output()
        .unwrap();
    assert_eq!(second.status.code(), Some(1));
    let text = String::from_utf8_lossy(&second.stderr);
    assert!(text.contains("another server listens there"), "{text}");
    assert!(!directory.path().join("two.brasa").exists());
}

#[test]
fn the_command_line_uses_the_file_that_is_served() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let serving = Serving::start(&path, &[]);
    let mut stream = TcpStream::connect(serving.address).unwrap();
    let brasa = |words: &[&str]| {
        let done = Command::new(env!("CARGO_BIN_EXE_brasa"))
            .arg("-f")
            .arg(&path)
            .args(words)
            .output();
        String::from_utf8(done.unwrap().stdout).unwrap()
    };
    assert_eq!(brasa(&["SET", "k", "from here"]), "OK\n");
    stream.write_all(&request(&["GET", "k"])).unwrap();
    let mut reply = [0; 15];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"$9\r\nfrom here\r\n");
    stream.write_all(&request(&["SET", "k", "v"])).unwrap();
    stream.read_exact(&mut reply[..5]).unwrap();
    assert_eq!(brasa(&["GET", "k"]), "v\n");
}

/// Pipelines of single writes, and of transactions that set two keys to one number, until the server is killed.
#[test]
fn a_kill_under_load_loses_nothing_that_was_acknowledged_and_halves_no_transaction() {
    for append_fsync in ["everysec", "always"] {
        let directory = support::scratch_directory();
        let path = directory.path().join("file.brasa");
        let serving = Serving::start(&path, &["--appendfsync", append_fsync]);
        let address = serving.address;
        let acknowledged: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(0)).collect();
        std::thread::scope(|scope| {
            for (writer, acknowledged) in acknowledged.iter().enumerate() {
                scope.spawn(move || write_until_killed(address, writer, acknowledged));
            }
            // Until all of them are well under way.
            while acknowledged
                .iter()
                .any(|count| count.load(Ordering::Relaxed) < 200)
            {
                std::thread::sleep(Duration::from_millis(1));
            }
            serving.signal("KILL");
        });
        let db = Db::open(&path).unwrap();
        let number = |key: String| {
            let value = db.get(key).unwrap();
            value.map_or(0, |value| value.to_str().unwrap().parse::<u64>().unwrap())
        };
        for (writer, acknowledged) in acknowledged.iter().enumerate() {
            let acknowledged = acknowledged.load(Ordering::Relaxed);
            let (one, other) = (
                number(format!("one {writer}")),
                number(format!("other {writer}")),
            );
            assert_eq!(one, other, "a transaction is half there ({append_fsync})");
            assert!(
                one >= acknowledged,
                "{one} of {acknowledged} ({append_fsync})"
            );
            let single = number(format!("single {writer}"));
            assert!(
                single >= acknowledged,
                "{single} of {acknowledged} ({append_fsync})"
            );
        }
    }
}

fn write_until_killed(address: SocketAddr, writer: usize, acknowledged: &AtomicU64) {
    const DEPTH: u64 = 16;
    let mut stream = TcpStream::connect(address).unwrap();
    let expected: &[u8] = b"+OK\r\n+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n+OK\r\n+OK\r\n";
    let mut reply = vec![0; expected.len()];
    for start in (1..).step_by(DEPTH as usize) {
        let mut bytes = Vec::new();
        for number in start..start + DEPTH {
            let number = number.to_string();
            bytes.extend(request(&["SET", &format!("single {writer}"), &number]));
            bytes.extend(request(&["MULTI"]));
            bytes.extend(request(&["SET", &format!("one {writer}"), &number]));
            bytes.extend(request(&["SET", &format!("other {writer}"), &number]));
            bytes.extend(request(&["EXEC"]));
        }
        if stream.write_all(&bytes).is_err() {
            return;
        }
        for number in start..start + DEPTH {
            if stream.read_exact(&mut reply).is_err() {
                return;
            }
            assert_eq!(reply, expected);
            acknowledged.store(number, Ordering::Relaxed);
        }
    }
}

#[test]
fn a_level_of_logging_that_there_is_not_is_wrong_usage() {
    let run = Command::new(env!("CARGO_BIN_EXE_brasa"))
        .args(["serve", "--log", "inof", "nowhere.brasa"])
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(2));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("inof") && said.contains("info"), "{said}");
}

/// However many connect, those that were let in are served, and another process may compact the file under them.
#[test]
fn there_are_no_more_clients_than_descriptors_for_them() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let mut serving = Serving::start_within(80, &path, &[]);
    let connect = || TcpStream::connect(serving.address).unwrap();
    let mut first = connect();
    let mut ask = |words: &[&str], expected: &[u8]| {
        first.write_all(&request(words)).unwrap();
        let mut reply = vec![0; expected.len()];
        first.read_exact(&mut reply).unwrap();
        assert_eq!(reply, expected, "{words:?}");
    };
    ask(&["SET", "k", "v"], b"+OK\r\n");
    let mut others: Vec<TcpStream> = (0..100).map(|_| connect()).collect();
    let mut said = String::new();
    others
        .last_mut()
        .unwrap()
        .read_to_string(&mut said)
        .unwrap();
    assert_eq!(said, "-ERR max number of clients reached\r\n");
    Db::open(&path).unwrap().compact().unwrap();
    ask(&["GET", "k"], b"$1\r\nv\r\n");
    ask(
        &["CONFIG", "GET", "maxclients"],
        b"*2\r\n$10\r\nmaxclients\r\n$2\r\n16\r\n",
    );
    ask(
        &["CONFIG", "SET", "maxclients", "17"],
        b"-ERR CONFIG SET failed (possibly related to argument 'maxclients') - The operating system is not able to handle the specified number of clients, try with 16\r\n",
    );
    serving.signal("TERM");
    let mut logged = String::new();
    let mut errors = serving.child.stderr.take().unwrap();
    errors.read_to_string(&mut logged).unwrap();
    assert!(logged.contains("fewer clients than requested"), "{logged}");
}

#[test]
fn a_server_that_could_have_no_client_does_not_start() {
    let directory = support::scratch_directory();
    let run = limited(64)
        .args(["serve", "--port", "0"])
        .arg(directory.path().join("file.brasa"))
        .output()
        .unwrap();
    assert_eq!(run.status.code(), Some(1));
    let said = String::from_utf8(run.stderr).unwrap();
    assert!(said.contains("ulimit -n"), "{said}");
    let (status, said) = run_with(&["--maxclients", "0", "nowhere.brasa"]);
    assert_eq!(status, Some(2), "{said}");
}

/// As CONFIG SET refuses them, and before a file is made.
#[test]
fn classes_of_events_that_there_are_not_are_wrong_usage() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let name = path.to_str().unwrap();
    let options = ["--port", "0", "--notify-keyspace-events", "Zq", name];
    let (status, said) = run_with(&options);
    assert_eq!(status, Some(2));
    assert!(said.contains("Invalid event class"), "{said}");
    assert!(!path.exists());
}

/// Of INFO, which stands in it as well.
fn commands_processed(asking: &mut BufReader<TcpStream>) -> u64 {
    let info = request(&["INFO", "stats"]);
    asking.get_mut().write_all(&info).unwrap();
    loop {
        let mut line = String::new();
        asking.read_line(&mut line).unwrap();
        if let Some(count) = line.strip_prefix("total_commands_processed:") {
            return count.trim().parse().unwrap();
        }
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let mut serving = Serving::start(&path, &["--log", "info"]);
    let mut log = BufReader::new(serving.child.stderr.take().unwrap());
    let mut logged = |what: &str| {
        let mut line = String::new();
        while !line.contains(what) {
            line.clear();
            assert_ne!(log.read_line(&mut line).unwrap(), 0, "{what}");
        }
    };
    let mut sleeping = TcpStream::connect(serving.address).unwrap();
    sleeping
        .write_all(&request(&["DEBUG", "SLEEP", "60"]))
        .unwrap();
    let mut asking = BufReader::new(TcpStream::connect(serving.address).unwrap());
    // Each INFO counts itself: one more is the sleeper.
    let mut asked = 0;
    while commands_processed(&mut asking) <= asked + 1 {
        asked += 1;
    }
    serving.signal("TERM");
    logged("shuts down");
    serving.signal("INT");
    logged("exits at once");
    assert_eq!(serving.child.wait().unwrap().code(), Some(1));
}

#[test]
fn a_name_is_no_address_and_it_is_said_what_is() {
    let (status, said) = run_with(&["--bind", "localhost", "nowhere.brasa"]);
    assert_eq!(status, Some(2));
    assert!(
        said.contains("use 127.0.0.1 or ::1 for this machine"),
        "{said}"
    );
}

/// Sends a command and reads a reply of one line.
fn ask(stream: &mut BufReader<TcpStream>, words: &[&str]) -> String {
    stream.get_mut().write_all(&request(words)).unwrap();
    let mut line = String::new();
    stream.read_line(&mut line).unwrap();
    line
}

#[test]
fn error_of_the_file_is_logged_once() {
    let directory = support::scratch_directory();
    let path = directory.path().join("file.brasa");
    let mut serving = Serving::start(&path, &[]);
    let mut stream = BufReader::new(TcpStream::connect(serving.address).unwrap());
    assert_eq!(ask(&mut stream, &["SET", "k", "v"]), "+OK\r\n");
    std::fs::remove_file(&path).unwrap();
    // The handle keeps the writer lock for a moment, and does not look at the path meanwhile.
    let refused = || ask(&mut stream, &["SET", "k", "v"]);
    let mut refused = std::iter::repeat_with(refused);
    assert!(
        refused
            .by_ref()
            .take(1_000_000)
            .any(|reply| reply.starts_with("-ERR "))
    );
    for reply in refused.take(5) {
        assert!(reply.contains("removed"), "{reply}");
    }
    // What is wrong with a request is for its client alone.
    let wrong = ask(&mut stream, &["INCRBY", "k", "x"]);
    assert!(wrong.starts_with("-ERR value is not"), "{wrong}");
    serving.signal("TERM");
    let mut log = String::new();
    let mut stderr = serving.child.stderr.take().unwrap();
    stderr.read_to_string(&mut log).unwrap();
    assert_eq!(log.matches("a command failed: ").count(), 1, "{log}");
    assert!(!log.contains("not an integer"), "{log}");
}

/// `cp backup.brasa x.brasa` under a running server: it went on to acknowledge writes into a log that was another
/// file's, and nobody was told.
#[test]
fn a_file_that_is_overwritten_in_place_is_served_no_more() {
    let directory = tempfile::tempdir().unwrap();
    let (path, backup) = (
        directory.path().join("served.brasa"),
        directory.path().join("backup.brasa"),
    );
    let restored = Db::open(&backup).unwrap();
    restored.set("key", "old").unwrap();
    restored.close().unwrap();
    let mut serving = Serving::start(&path, &[]);
    let mut client = BufReader::new(TcpStream::connect(serving.address).unwrap());
    let mut ask = |words: &[&str]| {
        client.get_mut().write_all(&request(words)).unwrap();
        let mut line = String::new();
        client.read_line(&mut line).unwrap();
        line
    };
    assert_eq!(ask(&["SET", "key", "new"]), "+OK\r\n");
    // As `cp` does, but without the moment in which the file is empty.
    let bytes = std::fs::read(&backup).unwrap();
    let mut file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all(&bytes).unwrap();
    let copied = std::fs::read(&path).unwrap();
    for words in [&["GET", "key"][..], &["SET", "key", "lost"], &["DBSIZE"]] {
        let reply = ask(words);
        assert!(reply.starts_with('-'), "{words:?}: {reply}");
        assert!(reply.contains("overwritten in place"), "{words:?}: {reply}");
    }
    let mut log = BufReader::new(serving.child.stderr.take().unwrap()).lines();
    let told = log.find(|line| line.as_ref().unwrap().contains("overwritten in place"));
    assert!(told.is_some());
    serving.signal("TERM");
    serving.child.wait().unwrap();
    assert!(std::fs::read(&path).unwrap() == copied, "it was changed");
    assert_eq!(Db::open(&path).unwrap().get("key").unwrap().unwrap(), "old");
}
