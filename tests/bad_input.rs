//! What is no brasa file, cannot be opened, or cannot be written to: each is a clear error that
//! names the path and what to do, and nothing is lost or overwritten.

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use brasa::inspect::{self, LogEnd};
use brasa::{Db, Durability, Error};

use support::contents::contents;
use support::format::{PAGE_BYTES, seal_header};

const LOCK_TIMEOUT: Duration = Duration::from_millis(50);

/// Alone.
fn open(path: &Path) -> brasa::Result<Db> {
    let options = Db::options().exclusive(true);
    options.lock_timeout(LOCK_TIMEOUT).open(path)
}

fn open_read_only(path: &Path) -> brasa::Result<Db> {
    Db::options()
        .lock_timeout(LOCK_TIMEOUT)
        .read_only(true)
        .open(path)
}

/// A file with something in it, closed.
fn sound_file(path: &Path) {
    let db = Db::open(path).unwrap();
    db.set("chave_1", "Relou Uourdi").unwrap();
    db.close().unwrap();
}

/// Names and contents of all that is in a directory, links and directories by name.
fn listing(directory: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            let is_file = entry.file_type().unwrap().is_file();
            let contents = is_file.then(|| fs::read(entry.path()).unwrap());
            (entry.path(), contents)
        })
        .collect()
}

/// Opens for writing, for reading and for a look, which must all be refused with a message that
/// has these words in it, and nothing beside the path may change.
fn refused(path: &Path, words: &[&str], is_right: impl Fn(&Error) -> bool) {
    let parent = path.parent().unwrap();
    let before = parent.is_dir().then(|| listing(parent));
    let errors = [
        open(path).err(),
        open_read_only(path).err(),
        inspect::check(path, |_, _| {}).err(),
    ];
    for error in errors {
        let error = error.unwrap_or_else(|| panic!("{} was not refused", path.display()));
        assert!(is_right(&error), "{error:?}");
        assert_names(&error, path, words);
    }
    assert_eq!(parent.is_dir().then(|| listing(parent)), before);
}

fn assert_names(error: &Error, path: &Path, words: &[&str]) {
    let message = error.to_string();
    let name = path.file_name().unwrap().to_str().unwrap();
    for word in words.iter().chain([&name]) {
        assert!(message.contains(word), "{word:?} is not in: {message}");
    }
}

fn is_io(expected: ErrorKind) -> impl Fn(&Error) -> bool {
    move |error| matches!(error, Error::Io { source, .. } if source.kind() == expected)
}

#[test]
fn a_missing_directory_is_named_and_not_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("missing/cache.brasa");
    let words = ["missing", "its directory must exist"];
    refused(&path, &words, is_io(ErrorKind::NotFound));
    assert!(listing(directory.path()).is_empty());
}

#[test]
fn a_file_in_the_place_of_a_directory_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("file"), "no directory").unwrap();
    let path = directory.path().join("file/cache.brasa");
    refused(&path, &["file"], is_io(ErrorKind::NotADirectory));
    assert_eq!(listing(directory.path()).len(), 1);
}

#[test]
fn a_file_that_is_not_there_is_not_created_where_it_must_not_be() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    for error in [
        open_read_only(&path).unwrap_err(),
        Db::options().create(false).open(&path).unwrap_err(),
        inspect::check(&path, |_, _| {}).unwrap_err(),
    ] {
        assert!(is_io(ErrorKind::NotFound)(&error), "{error:?}");
        assert_names(&error, &path, &["check the path"]);
    }
    assert!(listing(directory.path()).is_empty());
}

#[test]
fn a_directory_is_no_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    fs::create_dir(&path).unwrap();
    fs::write(path.join("within"), "kept").unwrap();
    let words = ["give the path of a file"];
    refused(&path, &words, is_io(ErrorKind::IsADirectory));
    assert_eq!(fs::read(path.join("within")).unwrap(), b"kept");
    for path in [Path::new("/"), Path::new("."), Path::new("..")] {
        let error = open(path).unwrap_err();
        assert!(is_io(ErrorKind::IsADirectory)(&error), "{error:?}");
    }
}

#[test]
fn a_file_of_something_else_is_left_as_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("something.else");
    let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x01\0\0\0\x01\x08\x06\0\0\0";
    let mut sqlite = b"SQLite format 3\0\x10\0\x01\x01\0\x40\x20\x20".to_vec();
    sqlite.resize(8192, 0);
    let mut long_text = b"key value\n".repeat(10_000);
    let foreign: [(&[u8], &str); 10] = [
        (png, "it is a PNG image"),
        (&sqlite, "it is an SQLite database"),
        (b"\0", "it starts with zero bytes only"),
        (b"\x89brasa\r\r", "it starts with"),
        (b"brasa\r\n\x1a", "it starts with"),
        (&[0; 65_536], "it starts with zero bytes only"),
        (b"REDIS0011\xfa", "it is a Redis dump"),
        (b"PK\x03\x04", "it is a ZIP archive"),
        (b"\x1f\x8b\x08", "it is a gzip file"),
        (&long_text.split_off(0), "it starts with \\\"key valu\\\""),
    ];
    for (contents, what) in foreign {
        fs::write(&path, contents).unwrap();
        // The message quotes what it found.
        let what = what.replace("\\\"", "\"");
        let words = [what.as_str(), "it was not changed; choose another path"];
        refused(&path, &words, |error| {
            matches!(error, Error::NotABrasaFile { .. })
        });
    }
}

#[test]
fn a_file_of_a_newer_version_is_refused_by_its_number() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    sound_file(&path);
    let sound = fs::read(&path).unwrap();
    for (major, minor) in [(1_u16, 1_u16), (1, u16::MAX), (2, 0), (0, 0)] {
        let mut file = sound.clone();
        file[8..10].copy_from_slice(&major.to_le_bytes());
        file[10..12].copy_from_slice(&minor.to_le_bytes());
        fs::write(&path, &file).unwrap();
        for error in [open(&path).err(), open_read_only(&path).err()] {
            assert!(
                matches!(error, Some(Error::Corrupt { offset: 0, .. })),
                "{error:?}"
            );
        }
        assert!(!inspect::check(&path, |_, _| {}).unwrap().is_sound());
        seal_header(&mut file);
        fs::write(&path, &file).unwrap();
        let version = format!("has format version {major}.{minor}");
        let words = [&version, "reads up to 1.0", "upgrade the program"];
        refused(
            &path,
            &words,
            |error| matches!(error, Error::UnsupportedVersion { found, .. } if *found == (major, minor)),
        );
    }
    // Nor does it matter what else such a file holds.
    let mut file = sound[..PAGE_BYTES].to_vec();
    file[8] = 2;
    seal_header(&mut file);
    fs::write(&path, &file).unwrap();
    refused(&path, &["has format version 2.0"], |error| {
        matches!(error, Error::UnsupportedVersion { .. })
    });
}

#[test]
fn a_link_leads_to_its_file_and_stays() {
    let directory = tempfile::tempdir().unwrap();
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let target = elsewhere.join("target.brasa");
    let [link, second] = ["link.brasa", "second.brasa"].map(|name| directory.path().join(name));
    symlink("elsewhere/target.brasa", &link).unwrap();
    symlink(&link, &second).unwrap();

    // Dangling: the file is made where the link leads to.
    let db = open(&second).unwrap();
    db.set("chave_1", "Relou Uourdi").unwrap();
    assert!(db.recovery().created);
    assert_eq!(db.path(), fs::canonicalize(&target).unwrap());
    assert!(matches!(open(&link), Err(Error::Locked { .. })));
    assert!(matches!(open(&target), Err(Error::Locked { .. })));
    db.close().unwrap();
    for path in [&link, &second, &target] {
        let db = open(path).unwrap();
        assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    }
    assert_eq!(listing(&elsewhere).len(), 1);
    for path in [&link, &second] {
        assert!(fs::symlink_metadata(path).unwrap().is_symlink());
    }
}

#[test]
fn a_link_that_leads_nowhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name);
    symlink("missing/cache.brasa", inside("dangling")).unwrap();
    let error = open(&inside("dangling")).unwrap_err();
    assert_names(&error, &inside("dangling"), &["its directory must exist"]);
    assert!(is_io(ErrorKind::NotFound)(&error), "{error:?}");

    // Nothing is created for a reader.
    symlink("absent.brasa", inside("to-nothing")).unwrap();
    let error = open_read_only(&inside("to-nothing")).unwrap_err();
    assert!(is_io(ErrorKind::NotFound)(&error), "{error:?}");

    symlink("loop-b", inside("loop-a")).unwrap();
    symlink("loop-a", inside("loop-b")).unwrap();
    symlink("loop-c", inside("loop-c")).unwrap();
    for name in ["loop-a", "loop-b", "loop-c"] {
        for error in [open(&inside(name)), open_read_only(&inside(name))].map(Result::unwrap_err) {
            assert!(matches!(error, Error::Io { .. }), "{error:?}");
            assert_names(&error, &inside(name), &["too many symbolic links"]);
        }
    }

    symlink(".", inside("to-a-directory")).unwrap();
    let error = open(&inside("to-a-directory")).unwrap_err();
    assert!(is_io(ErrorKind::IsADirectory)(&error), "{error:?}");
    assert_eq!(listing(directory.path()).len(), 6);
}

#[test]
fn a_device_or_a_pipe_is_refused_and_not_waited_for() {
    let is_special = |error: &Error| error.to_string().contains("it is a device, pipe or socket");
    for device in ["/dev/null", "/dev/full", "/dev/zero"] {
        let path = Path::new(device);
        for error in [open(path), open_read_only(path)].map(Result::unwrap_err) {
            assert!(is_special(&error), "{error}");
        }
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    let made = Command::new("mkfifo").arg(&path).status().unwrap();
    assert!(made.success());
    refused(&path, &[], is_special);
    let path = directory.path().join("socket");
    let _socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
    refused(&path, &[], |error| matches!(error, Error::Io { .. }));
}

#[test]
fn a_key_over_the_limit_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    sound_file(&path);
    let db = open(&path).unwrap();
    let before = fs::read(&path).unwrap();
    let key = vec![b'k'; brasa::limits::MAX_KEY_BYTES + 1];
    let error = db.set(&key, "v").unwrap_err();
    assert_eq!(
        error.to_string(),
        "a key of 65536 bytes exceeds the limit of 65535"
    );
    assert!(db.hset("chave_2", &key, "v").is_err());
    assert!(db.del(&key).is_err());
    assert!(
        db.batch(|batch| _ = batch.set("k", "v").set(&key, "v"))
            .is_err()
    );
    assert!(before == fs::read(&path).unwrap());
    assert_eq!(db.len().unwrap(), 1);
}

/// Another process: this test again, which finds what to do in its environment.
struct Elsewhere(Child);

const CHILD: &str = "BRASA_TEST_CHILD";
const CHILD_PATH: &str = "BRASA_TEST_CHILD_PATH";

impl Elsewhere {
    /// Starts a process that does something with a path; as somebody without rights where
    /// that can be had.
    fn start(what: &str, path: &Path, program: &Path, as_nobody: bool) -> Elsewhere {
        const NOBODY: u32 = 65_534;
        let mut command = Command::new(program);
        command
            .args(["--exact", "what_another_process_does", "--nocapture"])
            .env(CHILD, what)
            .env(CHILD_PATH, path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        if as_nobody {
            command.uid(NOBODY).gid(NOBODY);
        }
        Elsewhere(command.spawn().unwrap())
    }

    fn this_program() -> PathBuf {
        std::env::current_exe().unwrap()
    }

    /// Waits for the process to say that it has done its part.
    fn wait_until_done(&mut self) {
        let output = BufReader::new(self.0.stdout.as_mut().unwrap());
        let mut lines = output.lines().map(Result::unwrap);
        assert!(lines.any(|line| line.ends_with("done")), "it died before");
    }

    /// Lets the process end by itself.
    fn finish(mut self) {
        drop(self.0.stdin.take());
        let mut rest = String::new();
        let stdout = self.0.stdout.as_mut().unwrap();
        stdout.read_to_string(&mut rest).unwrap();
        assert!(self.0.wait().unwrap().success(), "{rest}");
    }
}

fn say_done_and_wait() {
    println!("done");
    std::io::stdout().flush().unwrap();
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
}

/// The other end of [`Elsewhere`]; by itself it does nothing.
#[test]
fn what_another_process_does() {
    let Ok(what) = std::env::var(CHILD) else {
        return;
    };
    let path = PathBuf::from(std::env::var_os(CHILD_PATH).unwrap());
    match what.as_str() {
        "hold for writing" => {
            let db = open(&path).unwrap();
            db.set("by", "another").unwrap();
            say_done_and_wait();
            db.close().unwrap();
        }
        "hold for reading" => {
            let db = open_read_only(&path).unwrap();
            say_done_and_wait();
            drop(db);
        }
        "have no rights" => have_no_rights(&path),
        other => panic!("{other:?} is nothing to do"),
    }
}

#[test]
fn a_second_handle_waits_no_longer_than_it_was_told() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let held = open(&path).unwrap();
    held.set("chave_1", "Relou Uourdi").unwrap();
    assert_locked(&path, &[open]);

    let clone = held.clone();
    drop(held);
    assert_locked(&path, &[open]);
    drop(clone);
    let db = open(&path).unwrap();
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    db.close().unwrap();
    drop(open(&path).unwrap());
}

fn assert_locked(path: &Path, ways: &[fn(&Path) -> brasa::Result<Db>]) {
    let before = fs::read(path).unwrap();
    for open in ways {
        let error = open(path).unwrap_err();
        let Error::Locked { lock, waited, .. } = &error else {
            panic!("{error:?}");
        };
        assert_eq!(*lock, "writer");
        assert!(*waited >= LOCK_TIMEOUT, "{waited:?}");
        let words = ["is in use", "writer lock", "raise the lock timeout"];
        assert_names(&error, path, &words);
    }
    assert!(before == fs::read(path).unwrap());
    // A look takes no lock.
    assert!(inspect::check(path, |_, _| {}).unwrap().is_sound());
}

#[test]
fn readers_share_a_file_with_each_other_and_with_a_writer() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    sound_file(&path);
    let readers = [(); 3].map(|()| open_read_only(&path).unwrap());
    for db in &readers {
        assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
        let error = db.set("k", "v").unwrap_err();
        assert!(matches!(error, Error::ReadOnly { .. }), "{error:?}");
        assert_names(&error, &path, &["was opened read-only"]);
    }
    let writer = open(&path).unwrap();
    writer.set("k", "v").unwrap();
    for db in &readers {
        assert_eq!(db.get("k").unwrap().unwrap(), b"v");
    }
}

#[test]
fn a_handle_of_another_process_keeps_this_one_out_until_it_ends() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    let program = Elsewhere::this_program();
    let mut writer = Elsewhere::start("hold for writing", &path, &program, false);
    writer.wait_until_done();
    assert_locked(&path, &[open]);
    writer.finish();
    let db = open(&path).unwrap();
    assert_eq!(db.get("by").unwrap().unwrap(), b"another");
    db.close().unwrap();

    let mut reader = Elsewhere::start("hold for reading", &path, &program, false);
    reader.wait_until_done();
    open(&path).unwrap().set("beside", "a reader").unwrap();
    drop(open_read_only(&path).unwrap());
    reader.finish();

    // However it ends: a killed process holds nothing.
    let mut writer = Elsewhere::start("hold for writing", &path, &program, false);
    writer.wait_until_done();
    writer.0.kill().unwrap();
    writer.0.wait().unwrap();
    drop(open(&path).unwrap());
}

fn is_root(directory: &Path) -> bool {
    fs::metadata(directory).unwrap().uid() == 0
}

/// The superuser is refused nothing, so that where the tests run as one, another process looks
/// on as nobody.
#[test]
fn what_one_has_no_right_to_is_refused_and_advice_is_given() {
    let directory = tempfile::tempdir().unwrap();
    let inside = |name: &str| directory.path().join(name);
    let mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    fs::create_dir(inside("closed")).unwrap();
    for name in ["read-only", "secret", "closed/within"] {
        sound_file(&inside(name));
    }
    mode(&inside("read-only"), 0o444);
    mode(&inside("secret"), 0o000);
    mode(&inside("closed"), 0o000);
    let as_nobody = is_root(directory.path());
    let program = inside("program");
    fs::copy(Elsewhere::this_program(), &program).unwrap();
    mode(&program, 0o555);
    mode(directory.path(), 0o555);
    Elsewhere::start("have no rights", directory.path(), &program, as_nobody).finish();
    mode(directory.path(), 0o755);
    mode(&inside("closed"), 0o755);
    mode(&inside("secret"), 0o644);
    assert_eq!(listing(directory.path()).len(), 4);
    for name in ["read-only", "secret", "closed/within"] {
        let db = open_read_only(&inside(name)).unwrap();
        assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    }
}

fn have_no_rights(directory: &Path) {
    let denied = is_io(ErrorKind::PermissionDenied);
    let advice = ["check the permissions", "open it read-only"];
    let path = directory.join("read-only");
    let error = open(&path).unwrap_err();
    assert!(denied(&error), "{error:?}");
    assert_names(&error, &path, &advice);
    let db = open_read_only(&path).unwrap();
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");

    for name in ["secret", "closed/within", "closed/new", "new"] {
        let path = directory.join(name);
        let error = open(&path).unwrap_err();
        assert!(denied(&error), "{error:?}");
        assert_names(&error, &path, &advice);
        if name != "new" {
            let error = open_read_only(&path).unwrap_err();
            assert!(denied(&error), "{error:?}");
        }
    }
}

/// A file system of one mebibyte, unmounted when it is dropped.
struct SmallDisk {
    directory: tempfile::TempDir,
}

impl SmallDisk {
    /// `None`, and a loud word, where one may not mount.
    fn mount(test: &str) -> Option<SmallDisk> {
        let disk = SmallDisk {
            directory: tempfile::tempdir().unwrap(),
        };
        let mounted = is_root(disk.path())
            && Command::new("mount")
                .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
                .arg(disk.path())
                .stderr(Stdio::null())
                .status()
                .is_ok_and(|status| status.success());
        if !mounted {
            // Past the harness, which keeps what a test prints that passes.
            let _ = writeln!(
                std::io::stderr(),
                "\n!!! {test} WAS NOT RUN: it mounts a small file system, which takes the superuser\n"
            );
            std::mem::forget(disk);
            return None;
        }
        Some(disk)
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn join(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fills what is left; removing the file frees it again.
    fn fill(&self) -> PathBuf {
        let path = self.join("filler");
        let mut file = fs::File::options()
            .append(true)
            .create(true)
            .open(&path)
            .unwrap();
        while file.write(&[0xff; 4096]).is_ok_and(|count| count > 0) {}
        path
    }

    fn remount_read_only(&self) {
        let mut remount = Command::new("mount");
        remount.args(["-o", "remount,ro"]).arg(self.path());
        let remount = remount.stderr(Stdio::null());
        // It is busy while a file on it is open to be written; for that see `remove_at_once`.
        let mut tries = (0..1_000).map(|_| std::thread::sleep(Duration::from_millis(5)));
        assert!(tries.any(|()| remount.status().unwrap().success()));
    }
}

/// Removes a file, if it is there, and gives its space back. What other tests run has, from being forked until it has replaced itself, every file of this process
/// open: without being cut the file would take its space until then.
fn remove_at_once(path: &Path) {
    if let Ok(file) = fs::File::options().write(true).open(path) {
        file.set_len(0).unwrap();
        fs::remove_file(path).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

fn assert_disk_full(error: &Error, path: &Path) {
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    let words = [
        "is full",
        "nothing was written",
        "more bytes",
        "delete keys",
    ];
    assert_names(error, path, &words);
}

#[test]
fn on_a_full_disk_nothing_is_lost_and_deletions_go_on() {
    let Some(disk) = SmallDisk::mount("on_a_full_disk_nothing_is_lost_and_deletions_go_on") else {
        return;
    };
    let path = disk.join("cache.brasa");
    for durability in [Durability::Os, Durability::Always] {
        remove_at_once(&path);
        let db = Db::options().durability(durability).open(&path).unwrap();
        db.database(1).unwrap().set("other", "database").unwrap();
        let filler = disk.join("filler");
        fs::write(&filler, vec![0xff; 300 << 10]).unwrap();

        let value = |number: u32| number.to_le_bytes().repeat(500);
        let mut written = 0;
        let error = loop {
            match db.set(format!("key{written}"), value(written)) {
                Ok(()) => written += 1,
                Err(error) => break error,
            }
        };
        assert_disk_full(&error, &path);
        assert!(written > 200, "{written}");
        let error = db
            .batch(|batch| {
                for number in 0..2 * written {
                    batch.set(format!("batch{number}"), "half of it would fit");
                }
            })
            .unwrap_err();
        assert_disk_full(&error, &path);
        let before = contents(&db);
        assert_eq!(before.len() as u32, written + 1);
        for number in 0..written {
            let held = db.get(format!("key{number}")).unwrap().unwrap();
            assert_eq!(held, value(number));
        }
        assert!(inspect::check(&path, |_, _| {}).unwrap().is_sound());

        // What makes the file emptier goes on, in the reserve.
        for number in 0..10 {
            assert!(db.del(format!("key{number}")).unwrap());
        }
        db.database(1).unwrap().clear().unwrap();
        assert_disk_full(&db.set("key0", "again").unwrap_err(), &path);
        assert!(db.database(1).unwrap().is_empty().unwrap());
        assert_eq!(db.len().unwrap(), u64::from(written) - 10);

        // And when there is space again, so do writes.
        remove_at_once(&filler);
        db.set("key0", "again").unwrap();
        let held = contents(&db);
        assert_eq!(held.len() as u32, written - 9);
        db.close().unwrap();
        let db = open(&path).unwrap();
        assert_eq!(contents(&db), held);
        drop(db);
        let report = inspect::check(&path, |_, _| {}).unwrap();
        assert!(matches!(report.end, LogEnd::Clean), "{report:?}");
    }
}

#[test]
fn a_value_larger_than_the_disk_is_refused_and_others_are_not() {
    let Some(disk) = SmallDisk::mount("a_value_larger_than_the_disk_is_refused") else {
        return;
    };
    let path = disk.join("cache.brasa");
    let db = open(&path).unwrap();
    db.set("small", "before").unwrap();
    let error = db.set("large", vec![1; 2 << 20]).unwrap_err();
    assert_disk_full(&error, &path);
    assert!(matches!(error, Error::DiskFull { needed, .. } if needed > 2_000_000));
    db.set("small", "after").unwrap();
    assert!(!db.exists("large").unwrap());
    db.close().unwrap();
    assert_eq!(
        open(&path).unwrap().get("small").unwrap().unwrap(),
        b"after"
    );
}

#[test]
fn a_file_cannot_be_created_on_a_full_disk_and_leaves_nothing() {
    let Some(disk) = SmallDisk::mount("a_file_cannot_be_created_on_a_full_disk") else {
        return;
    };
    let filler = disk.fill();
    let path = disk.join("cache.brasa");
    let error = open(&path).unwrap_err();
    assert!(matches!(error, Error::DiskFull { .. }), "{error:?}");
    assert_names(&error, &path, &["is full", "more bytes", "free"]);
    assert_eq!(listing(disk.path()).len(), 1);
    remove_at_once(&filler);
    sound_file(&path);
}

/// Somebody else fills the disk between closing and opening: wherever the log ends within its
/// last page, it can be read and cleared.
#[test]
fn a_file_that_is_opened_on_a_full_disk_can_be_read_and_cleared() {
    let Some(disk) = SmallDisk::mount("a_file_that_is_opened_on_a_full_disk") else {
        return;
    };
    let path = disk.join("cache.brasa");
    for length in (0..4096).step_by(8) {
        remove_at_once(&path);
        let db = open(&path).unwrap();
        db.set("chave_1", vec![b'v'; length]).unwrap();
        db.set("chave_2", "Relou Uourdi").unwrap();
        db.close().unwrap();
        let filler = disk.fill();
        let db = open(&path).unwrap();
        assert_eq!(db.get("chave_2").unwrap().unwrap(), b"Relou Uourdi");
        assert_disk_full(&db.set("chave_3", [0; 4096]).unwrap_err(), &path);
        let deleted = db.del("chave_1");
        assert!(matches!(deleted, Ok(true)), "{length}: {deleted:?}");
        let cleared = db.clear();
        assert!(cleared.is_ok(), "{length}: {cleared:?}");
        db.close().unwrap();
        assert!(open_read_only(&path).unwrap().is_empty().unwrap());
        remove_at_once(&filler);
    }
}

#[test]
fn a_file_on_a_read_only_disk_can_be_read() {
    let Some(disk) = SmallDisk::mount("a_file_on_a_read_only_disk_can_be_read") else {
        return;
    };
    let path = disk.join("cache.brasa");
    sound_file(&path);
    disk.remount_read_only();
    for path in [path.clone(), disk.join("new.brasa")] {
        let error = open(&path).unwrap_err();
        assert!(is_io(ErrorKind::ReadOnlyFilesystem)(&error), "{error:?}");
        assert_names(&error, &path, &["open it read-only"]);
    }
    let db = open_read_only(&path).unwrap();
    assert_eq!(db.get("chave_1").unwrap().unwrap(), b"Relou Uourdi");
    assert_eq!(listing(disk.path()).len(), 1);
}

#[test]
fn a_file_that_was_made_longer_than_any_may_be_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("cache.brasa");
    sound_file(&path);
    let limit = brasa::limits::MAX_FILE_BYTES;
    let file = fs::OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(limit + 1).unwrap();
    for opened in [open(&path), open_read_only(&path)] {
        assert!(matches!(opened, Err(Error::TooLarge { length, .. }) if length == limit + 1));
    }
    // Where somebody does it while the file is open, no write is put where it could not be found.
    file.set_len(limit).unwrap();
    let db = Db::open(&path).unwrap();
    file.set_len(limit + 1).unwrap();
    assert!(matches!(db.set("k", "1"), Err(Error::TooLarge { .. })));
    assert!(db.exists("chave_1").unwrap());
    file.set_len(limit).unwrap();
    db.set("k", "1").unwrap();
}
