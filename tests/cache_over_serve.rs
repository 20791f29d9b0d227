//! The cache over brasa's own server, and everything moved to it and back.

mod support;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use brasa::transfer::{self, Event, Position};
use brasa::{Cache, Db, ExpireCondition};
use support::conformance::TESTS;

/// The year 2100.
const FAR_MS: u64 = 4_102_444_800_000;

/// `brasa serve` on a file of its own; it ends with this.
struct Server {
    child: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn serve() -> Server {
    let directory = tempfile::tempdir().unwrap();
    let free = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_brasa"));
    command
        .arg("serve")
        .arg(directory.path().join("served.brasa"));
    command.args(["--port", &free.port().to_string()]);
    let child = command
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut server = Server {
        child,
        url: format!("redis://{free}/"),
        _directory: directory,
    };
    while TcpStream::connect(free).is_err() {
        assert!(server.child.try_wait().unwrap().is_none(), "it has ended");
        thread::sleep(Duration::from_millis(5));
    }
    server
}

#[test]
fn a_cache_over_it_conforms() {
    let server = serve();
    let open = || Cache::options().strict(true).open(&server.url).unwrap();
    for (number, (name, test)) in TESTS.iter().enumerate() {
        println!("{name}");
        test(&open, &format!("{number}:"));
    }
}

#[test]
fn everything_goes_to_it_and_comes_back_with_the_deadlines_of_fields() {
    let server = serve();
    let (from, to) = (Db::in_memory().unwrap(), Db::in_memory().unwrap());
    for number in 0..1_000 {
        from.set(format!("key:{number}"), number.to_string())
            .unwrap();
    }
    from.hset_many("session", &[("token", "x"), ("user", "7")])
        .unwrap();
    from.hexpire_at_if("session", &["token"], FAR_MS, ExpireCondition::Always)
        .unwrap();
    from.database(3).unwrap().set("elsewhere", "1").unwrap();
    let pushed = transfer::push(&from, &server.url, None, |_| {}).unwrap();
    assert!(pushed.is_complete());
    assert_eq!((pushed.moved_count, pushed.verified_count), (1_002, 1_002));
    let pulled = transfer::pull(&server.url, &to, None, |_| {}).unwrap();
    assert_eq!((pulled.moved_count, pulled.verified_count), (1_002, 1_002));
    assert_eq!(to.get("key:7").unwrap().unwrap(), "7");
    let deadlines = to.hdeadlines_ms("session", &["token", "user"]).unwrap();
    assert_eq!(deadlines, [Some(FAR_MS), None]);
    assert_eq!(
        to.database(3).unwrap().get("elsewhere").unwrap().unwrap(),
        "1"
    );
}

#[test]
fn a_push_goes_on_where_it_was_with_the_same_run_of_the_server_alone() {
    let (first, second) = (serve(), serve());
    let db = Db::in_memory().unwrap();
    for number in 0..1_000 {
        db.set(format!("key:{number}"), "1").unwrap();
    }
    let mut positions: Vec<Position> = Vec::new();
    transfer::push(&db, &first.url, None, |event| {
        if let Event::Moved { position, .. } = event {
            positions.push(position.clone());
        }
    })
    .unwrap();
    let push_from = |url: &str| {
        let (mut pages, mut begun_anew) = (0, false);
        let report = transfer::push(&db, url, Some(&positions[1]), |event| match event {
            Event::Moved { .. } => pages += 1,
            Event::BegunAnew { .. } => begun_anew = true,
            _ => {}
        });
        assert_eq!(report.unwrap().verified_count, 1_000);
        (pages, begun_anew)
    };
    let all = positions.len();
    assert!(all > 3, "{positions:?}");
    assert_eq!(push_from(&first.url), (all - 2, false));
    // As the same one, started again without what it had.
    assert_eq!(push_from(&second.url), (all, true));
}

#[test]
fn the_command_moves_the_file_that_it_was_told_of_in_either_way() {
    let server = serve();
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str| directory.path().join(name);
    Db::open(file("from")).unwrap().set("k", "v").unwrap();
    let brasa = |words: &[&std::ffi::OsStr]| {
        let done = Command::new(env!("CARGO_BIN_EXE_brasa"))
            .args(words)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{words:?}: {said}, {done:?}");
        said
    };
    let url = server.url.as_ref();
    let (from, to, third) = (file("from"), file("to"), file("third"));
    let (from, to, third) = (from.as_os_str(), to.as_os_str(), third.as_os_str());
    let said = brasa(&["-f".as_ref(), from, "push".as_ref(), url]);
    assert_eq!(said, "1 keys moved, 1 verified, 0 refused, 0 different\n");
    brasa(&["-f".as_ref(), to, "pull".as_ref(), url]);
    brasa(&["pull".as_ref(), url, third]);
    for path in [to, third] {
        assert_eq!(Db::open(path).unwrap().get("k").unwrap().unwrap(), "v");
    }
}
