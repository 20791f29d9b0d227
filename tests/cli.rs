//! The command line, run as its users run it.
#![cfg(feature = "cli")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use support::program::{Expected, Run, contains, is_empty, starts_with};

mod support;

/// A directory of its own, and in it the file that most tests work on.
struct Scratch {
    directory: tempfile::TempDir,
}

impl Scratch {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn file(&self) -> PathBuf {
        self.path("c.brasa")
    }

    /// The program in a bare environment, with its home in the scratch directory.
    fn program(&self) -> Command {
        let mut program = Command::new(env!("CARGO_BIN_EXE_brasa"));
        program
            .current_dir(self.directory.path())
            .env_remove("BRASA_FILE")
            .env_remove("XDG_CACHE_HOME")
            .env("HOME", self.path("home"))
            .stdin(Stdio::null());
        program
    }

    /// Runs it on the scratch file.
    fn run(&self, arguments: &[&str]) -> Run {
        let mut program = self.program();
        program.arg("-f").arg(self.file()).args(arguments);
        Run::of(program)
    }

    /// Runs it on the scratch file with lines on standard input.
    fn feed(&self, arguments: &[&str], lines: impl Into<Vec<u8>>) -> Run {
        let mut program = self.program();
        program.arg("-f").arg(self.file()).args(arguments);
        Run::with_input(program, lines)
    }

    /// Each command with the output it must have, raw.
    #[track_caller]
    fn hold(&self, commands: &[(&[&str], &str)]) {
        for (command, expected) in commands {
            let output = self.run(command).success().stderr(is_empty());
            let output = String::from_utf8(output.output().stdout.clone()).unwrap();
            assert_eq!(output, *expected, "{command:?}");
        }
    }
}

/// Standard output of a run that must succeed.
fn stdout(run: Run) -> String {
    String::from_utf8(run.success().output().stdout.clone()).unwrap()
}

// ---------------------------------------------------------------- verbs and replies

#[test]
fn every_verb_does_its_work() {
    let scratch = Scratch::new();
    scratch.hold(&[
        (&["PING"], "PONG\n"),
        (&["ECHO", "hi"], "hi\n"),
        (&["SET", "chave_1", "Relou Uourdi"], "OK\n"),
        (&["get", "chave_1"], "Relou Uourdi\n"),
        (&["GET", "nobody"], "\n"),
        (&["SET", "chave_1", "x", "NX"], "\n"),
        (&["SET", "chave_1", "x", "XX", "GET"], "Relou Uourdi\n"),
        (&["SETNX", "chave_1", "y"], "0\n"),
        (&["GETSET", "chave_1", "y"], "x\n"),
        (&["APPEND", "chave_1", "z"], "2\n"),
        (&["STRLEN", "chave_1"], "2\n"),
        (&["MSET", "a", "1", "b", "2"], "OK\n"),
        (&["MGET", "a", "nobody", "b"], "1\n\n2\n"),
        (&["INCR", "a"], "2\n"),
        (&["INCRBY", "a", "-5"], "-3\n"),
        (&["DECR", "a"], "-4\n"),
        (&["DECRBY", "a", "-4"], "0\n"),
        (
            &["HSET", "meu_hash", "nome", "thailan", "idade", "29"],
            "2\n",
        ),
        (&["HSETNX", "meu_hash", "nome", "x"], "0\n"),
        (&["HMSET", "other", "f", "v"], "OK\n"),
        (&["HGET", "meu_hash", "nome"], "thailan\n"),
        (&["HMGET", "meu_hash", "idade", "x"], "29\n\n"),
        (&["HEXISTS", "meu_hash", "nome"], "1\n"),
        (&["HLEN", "meu_hash"], "2\n"),
        (&["HINCRBY", "meu_hash", "idade", "1"], "30\n"),
        (&["HDEL", "meu_hash", "nome"], "1\n"),
        (&["HGETALL", "meu_hash"], "idade\n30\n"),
        (&["HKEYS", "meu_hash"], "idade\n"),
        (&["HVALS", "meu_hash"], "30\n"),
        (&["HSCAN", "meu_hash", "0"], "0\nidade\n30\n"),
        (&["TYPE", "meu_hash"], "hash\n"),
        (&["EXISTS", "a", "b", "nobody"], "2\n"),
        (&["DBSIZE"], "5\n"),
        (&["KEYS", "ch*"], "chave_1\n"),
        (&["KEYS", "nobody"], "\n"),
        (
            &["SCAN", "0", "MATCH", "me*", "COUNT", "100", "TYPE", "hash"],
            "0\nmeu_hash\n",
        ),
        (&["EXPIRE", "a", "100"], "1\n"),
        (&["TTL", "a"], "100\n"),
        (&["EXPIRE", "a", "200", "LT"], "0\n"),
        (&["PERSIST", "a"], "1\n"),
        (&["PTTL", "a"], "-1\n"),
        (&["PEXPIRE", "a", "100000", "NX"], "1\n"),
        (&["TTL", "a"], "100\n"),
        (&["EXPIREAT", "a", "4102444800"], "1\n"),
        (&["PEXPIREAT", "a", "1"], "1\n"),
        (&["TTL", "a"], "-2\n"),
        (&["SETEX", "b", "100", "v"], "OK\n"),
        (&["PSETEX", "b", "100000", "v"], "OK\n"),
        (&["DEL", "b", "nobody"], "1\n"),
        (&["UNLINK", "other"], "1\n"),
        (&["SELECT", "3"], "OK\n"),
        (&["FLUSHDB"], "OK\n"),
        (&["FLUSHALL"], "OK\n"),
        (&["DBSIZE"], "0\n"),
    ]);
    let time = stdout(scratch.run(&["TIME"]));
    let (seconds, microseconds) = time.trim_end().split_once('\n').unwrap();
    assert!(seconds.parse::<u64>().unwrap() > 1_700_000_000);
    assert!(microseconds.parse::<u64>().unwrap() < 1_000_000);
}

#[test]
fn an_error_goes_to_standard_error_and_the_status_is_1() {
    let scratch = Scratch::new();
    scratch.run(&["HSET", "h", "f", "v"]).success();
    scratch.run(&["SET", "s", "text"]).success();
    for (command, expected) in [
        (
            &["GET", "h"][..],
            "WRONGTYPE Operation against a key holding the wrong kind of value\n",
        ),
        (&["HGET", "s", "f"], "WRONGTYPE Operation against"),
        (&["SET", "s", "v", "FOO"], "ERR syntax error\n"),
        (
            &["SET", "s", "v", "EX", "ten"],
            "ERR value is not an integer or out of range\n",
        ),
        (
            &["SET", "s", "v", "EX", "0"],
            "ERR invalid expire time in 'set' command\n",
        ),
        (
            &["SET", "s", "v", "PX", "-1"],
            "ERR invalid expire time in 'set' command\n",
        ),
        (
            &["SETEX", "s", "0", "v"],
            "ERR invalid expire time in 'setex' command\n",
        ),
        (
            &["EXPIRE", "s", "9223372036854775807"],
            "ERR invalid expire time in 'expire' command\n",
        ),
        (
            &["EXPIRE", "s", "ten"],
            "ERR value is not an integer or out of range\n",
        ),
        (
            &["EXPIRE", "s", "1", "NX", "GT"],
            "ERR NX and XX, GT or LT options at the same time are not compatible\n",
        ),
        (
            &["EXPIRE", "s", "1", "GT", "LT"],
            "ERR GT and LT options at the same time are not compatible\n",
        ),
        (&["EXPIRE", "s", "1", "FOO"], "ERR Unsupported option FOO\n"),
        (
            &["INCR", "s"],
            "ERR value is not an integer or out of range\n",
        ),
        (
            &["INCRBY", "n", "1.5"],
            "ERR value is not an integer or out of range\n",
        ),
        (
            &["DECRBY", "n", "-9223372036854775808"],
            "ERR decrement would overflow\n",
        ),
        (
            &["HINCRBY", "h", "f", "1"],
            "ERR hash value is not an integer\n",
        ),
        (&["SCAN", "x"], "ERR invalid cursor\n"),
        (&["SCAN", "0", "COUNT", "0"], "ERR syntax error\n"),
        (&["SELECT", "16"], "ERR DB index is out of range\n"),
        (&["FLUSHDB", "FOO"], "ERR syntax error\n"),
        (
            &["MSET", "a", "1", "b"],
            "ERR wrong number of arguments for 'mset' command\n",
        ),
        (
            &["GET"],
            "ERR wrong number of arguments for 'get' command\nbrasa: usage: GET key\n",
        ),
        (
            &["foo", "a", "b"],
            "ERR unknown command 'foo', with args beginning with: 'a' 'b' \n",
        ),
    ] {
        scratch
            .run(command)
            .code(1)
            .stdout(is_empty())
            .stderr(starts_with(expected));
    }
    scratch.hold(&[(&["GET", "s"], "text\n"), (&["DBSIZE"], "2\n")]);
}

#[test]
fn an_overflow_is_refused_and_changes_nothing() {
    let scratch = Scratch::new();
    scratch.run(&["SET", "n", "9223372036854775807"]).success();
    scratch
        .run(&["INCR", "n"])
        .code(1)
        .stderr("ERR increment or decrement would overflow\n");
    scratch.hold(&[(&["GET", "n"], "9223372036854775807\n")]);
}

#[test]
fn with_no_raw_replies_look_as_on_a_terminal() {
    let scratch = Scratch::new();
    for (command, expected) in [
        (&["SET", "k", "a \"b\"\n\u{e9}"][..], "OK\n"),
        (&["GET", "k"], "\"a \\\"b\\\"\\n\\xc3\\xa9\"\n"),
        (&["GET", "nobody"], "(nil)\n"),
        (&["STRLEN", "k"], "(integer) 8\n"),
        (&["KEYS", "nobody"], "(empty array)\n"),
        (&["HSET", "h", "f", "v"], "(integer) 1\n"),
        (&["HGETALL", "h"], "1) \"f\"\n2) \"v\"\n"),
        (
            &["MGET", "k", "nobody"],
            "1) \"a \\\"b\\\"\\n\\xc3\\xa9\"\n2) (nil)\n",
        ),
        (&["HSCAN", "h", "0"], "1) \"0\"\n2) 1) \"f\"\n   2) \"v\"\n"),
    ] {
        let mut with_form = vec!["--no-raw"];
        with_form.extend(command);
        assert_eq!(stdout(scratch.run(&with_form)), expected, "{command:?}");
    }
    scratch
        .run(&["--no-raw", "INCR", "k"])
        .code(1)
        .stderr("(error) ERR value is not an integer or out of range\n");
    // No terminal here, so this is what comes without a word about it.
    assert_eq!(stdout(scratch.run(&["--raw", "STRLEN", "k"])), "8\n");
}

#[test]
fn raw_replies_are_the_bytes_as_they_are() {
    let scratch = Scratch::new();
    let run = scratch.feed(&[], b"SET k \"\\x00\\xff\\r\\n\"\nGET k\n".to_vec());
    run.success().stdout(&b"OK\n\x00\xff\r\n\n"[..]);
}

#[test]
fn arguments_that_look_like_options_belong_to_the_verb() {
    Scratch::new().hold(&[
        (&["SET", "-f", "--raw"], "OK\n"),
        (&["GET", "-f"], "--raw\n"),
        (&["SET", "k", "--help"], "OK\n"),
        (&["GET", "k"], "--help\n"),
        (&["INCRBY", "n", "-3"], "-3\n"),
    ]);
}

#[cfg(unix)]
#[test]
fn arguments_need_not_be_text() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let scratch = Scratch::new();
    let odd = OsStr::from_bytes(b"\xff\xfe");
    let run = |words: [&OsStr; 3]| {
        let mut program = scratch.program();
        program.arg("-f").arg(scratch.file()).args(words);
        Run::of(program).success()
    };
    run(["SET".as_ref(), odd, odd]);
    run(["MGET".as_ref(), odd, "x".as_ref()]).stdout(&b"\xff\xfe\n\n"[..]);
}

#[test]
fn what_is_set_with_a_deadline_goes_by_itself() {
    let scratch = Scratch::new();
    scratch.hold(&[
        (&["SET", "chave_1", "Relou Uourdi", "PX", "300"], "OK\n"),
        (&["HSET", "h", "f", "v"], "1\n"),
        (&["PEXPIRE", "h", "300"], "1\n"),
    ]);
    thread::sleep(Duration::from_millis(400));
    scratch.hold(&[
        (&["GET", "chave_1"], "\n"),
        (&["TTL", "chave_1"], "-2\n"),
        (&["HGETALL", "h"], "\n"),
        (&["DBSIZE"], "0\n"),
    ]);
}

#[test]
fn databases_are_chosen_by_number() {
    let scratch = Scratch::new();
    scratch.hold(&[
        (&["-n", "3", "SET", "k", "three"], "OK\n"),
        (&["GET", "k"], "\n"),
        (&["-n", "3", "GET", "k"], "three\n"),
        (&["-n", "15", "DBSIZE"], "0\n"),
    ]);
}

// ---------------------------------------------------------------- standard input

#[test]
fn without_a_verb_each_line_is_a_command() {
    let scratch = Scratch::new();
    scratch
        .feed(
            &[],
            "set \"my key\" 'it\\'s'\r\n\n   \nget \"my key\"\nselect 2\nset k \"a\\nb\"\nget k",
        )
        .success()
        .stdout("OK\nit's\nOK\nOK\na\nb\n")
        .stderr(is_empty());
    scratch.hold(&[
        (&["GET", "my key"], "it's\n"),
        (&["-n", "2", "GET", "k"], "a\nb\n"),
    ]);
}

#[test]
fn a_line_that_fails_is_named_and_the_next_ones_are_executed() {
    let scratch = Scratch::new();
    scratch
        .feed(&[], "SET a 1\nFOO\nSET b \"open\nHGET a f\nGET a\n")
        .code(1)
        .stdout("OK\n1\n")
        .stderr(
            "line 2: ERR unknown command 'FOO', with args beginning with: \n\
             brasa: line 3: unbalanced quotes: close each quote, and put a space after it\n\
             line 4: WRONGTYPE Operation against a key holding the wrong kind of value\n",
        );
    scratch.hold(&[(&["EXISTS", "a", "b"], "1\n")]);
}

#[test]
fn no_lines_are_no_error_and_quit_ends_them() {
    let scratch = Scratch::new();
    scratch.feed(&[], "").success().stdout(is_empty());
    for word in ["quit", "EXIT"] {
        scratch
            .feed(&[], format!("SET a 1\n{word}\nSET a 2\n"))
            .success()
            .stdout("OK\n");
        scratch.hold(&[(&["GET", "a"], "1\n")]);
    }
}

#[test]
fn lines_begin_in_the_chosen_database_and_form() {
    let scratch = Scratch::new();
    scratch
        .feed(&["-n", "5", "--no-raw"], "SET k v\nGET k\nDEL k\n")
        .success()
        .stdout("OK\n\"v\"\n(integer) 1\n");
}

#[test]
fn who_sends_a_line_and_waits_gets_the_answer() {
    let scratch = Scratch::new();
    let mut child = scratch
        .program()
        .arg("-f")
        .arg(scratch.file())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, answers) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in output.lines() {
            sender.send(line.unwrap()).unwrap();
        }
    });
    for number in 1..=3 {
        writeln!(input, "INCR n").unwrap();
        let answer = answers.recv_timeout(Duration::from_secs(20));
        assert_eq!(answer.as_deref(), Ok(number.to_string().as_str()));
    }
    drop(input);
    assert!(child.wait().unwrap().success());
    reader.join().unwrap();
}

// ---------------------------------------------------------------- which file

#[test]
fn the_file_comes_from_the_option_then_the_variable() {
    let scratch = Scratch::new();
    let run = |option: Option<&str>, words: &[&str]| {
        let mut program = scratch.program();
        program.env("BRASA_FILE", scratch.path("variable.brasa"));
        if let Some(option) = option {
            program.arg("--file").arg(scratch.path(option));
        }
        program.args(words);
        stdout(Run::of(program))
    };
    run(None, &["SET", "k", "variable"]);
    run(Some("option.brasa"), &["SET", "k", "option"]);
    assert_eq!(run(None, &["GET", "k"]), "variable\n");
    assert_eq!(run(Some("option.brasa"), &["GET", "k"]), "option\n");
    assert!(run(None, &["stats"]).contains("variable.brasa"));
    assert!(run(Some("option.brasa"), &["check"]).contains("option.brasa"));
}

#[cfg(unix)]
#[test]
fn the_default_file_lies_in_the_cache_directory_and_is_private() {
    use std::os::unix::fs::PermissionsExt;

    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let scratch = Scratch::new();
    let cache = scratch.path("cache");
    let mut program = scratch.program();
    program.env("XDG_CACHE_HOME", &cache).env("BRASA_FILE", "");
    program.args(["SET", "k", "v"]);
    Run::of(program).success();
    assert_eq!(mode(&cache.join("brasa")), 0o700);
    assert_eq!(mode(&cache.join("brasa/cache.brasa")), 0o600);

    // A variable that is empty or relative counts as not set.
    for value in ["", "relative"] {
        let mut program = scratch.program();
        program.env("XDG_CACHE_HOME", value).args(["INCR", "n"]);
        Run::of(program).success();
        assert!(!scratch.path("relative").exists());
    }
    let file = scratch.path("home/.cache/brasa/cache.brasa");
    assert_eq!(mode(&file), 0o600);
    let mut program = scratch.program();
    program.args(["GET", "n"]);
    Run::of(program).success().stdout("2\n");
}

#[cfg(unix)]
#[test]
fn a_directory_that_is_there_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt;

    let scratch = Scratch::new();
    let directory = scratch.path("cache/brasa");
    fs::create_dir_all(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    let mut program = scratch.program();
    program.env("XDG_CACHE_HOME", scratch.path("cache"));
    Run::of({
        program.args(["SET", "k", "v"]);
        program
    })
    .success();
    let mode = fs::metadata(&directory).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o755);
}

#[test]
fn a_default_directory_that_cannot_be_made_is_named() {
    let scratch = Scratch::new();
    fs::write(scratch.path("home"), "a file").unwrap();
    let mut program = scratch.program();
    program.args(["SET", "k", "v"]);
    Run::of(program)
        .code(1)
        .stderr(contains("cannot create the directory").and(contains("home/.cache/brasa")));
}

#[test]
fn default_file_needs_no_home_where_the_cache_directory_is_named() {
    let scratch = Scratch::new();
    let mut program = scratch.program();
    program.env_remove("HOME");
    program.env("XDG_CACHE_HOME", scratch.path("cache"));
    program.args(["SET", "k", "v"]);
    Run::of(program).success();
    assert!(scratch.path("cache/brasa/cache.brasa").exists());
}

#[test]
fn what_is_no_command_touches_no_file() {
    let scratch = Scratch::new();
    for words in [&["FOO"][..], &["GET"], &["STATS"], &["GET", "a", "b"]] {
        scratch.run(words).code(1);
        let mut program = scratch.program();
        program.args(words);
        Run::of(program).code(1);
    }
    assert_eq!(fs::read_dir(scratch.directory.path()).unwrap().count(), 0);
    scratch
        .run(&["Stats"])
        .stderr(contains("did you mean `brasa stats`?"));
}

#[test]
fn reading_creates_the_file_as_redis_would_begin_empty() {
    let scratch = Scratch::new();
    scratch.hold(&[(&["GET", "k"], "\n")]);
    assert!(scratch.file().exists());
}

// ---------------------------------------------------------------- bad input

#[test]
fn wrong_usage_is_status_2() {
    let scratch = Scratch::new();
    for arguments in [
        &["-n", "16", "GET", "k"][..],
        &["-n", "-1", "GET", "k"],
        &["-n", "one", "GET", "k"],
        &["--raw", "--no-raw", "GET", "k"],
        &["--nonsense"],
        &["check", "a", "b"],
        &["log", "--nonsense"],
        &["check", "another.brasa"],
        &["completions", "no-shell"],
        &["help", "nonsense"],
    ] {
        scratch.run(arguments).code(2).stdout(is_empty());
    }
    assert!(!scratch.file().exists());
}

/// What is no file of ours, by name, with a part of what must be said about it.
fn foreign_files(scratch: &Scratch) -> Vec<(PathBuf, &'static str)> {
    let newer = {
        scratch.run(&["SET", "k", "v"]).success();
        let mut bytes = fs::read(scratch.file()).unwrap();
        bytes[8] = 2;
        let checksum = crc32fast::hash(&bytes[..4092]);
        bytes[4092..4096].copy_from_slice(&checksum.to_le_bytes());
        bytes
    };
    let files: [(&str, &[u8], &str); 5] = [
        (
            "picture.png",
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            "is not a brasa file",
        ),
        (
            "lite.db",
            b"SQLite format 3\0\x10\0\x01\x01",
            "is not a brasa file",
        ),
        ("text", b"chave_1=Relou Uourdi\n", "is not a brasa file"),
        ("short", &newer[..12], "offset"),
        ("newer", &newer, "has format version 2.0"),
    ];
    files
        .into_iter()
        .map(|(name, bytes, said)| {
            let path = scratch.path(name);
            fs::write(&path, bytes).unwrap();
            (path, said)
        })
        .collect()
}

#[test]
fn a_file_of_something_else_is_named_and_left_alone() {
    let scratch = Scratch::new();
    for (path, said) in foreign_files(&scratch) {
        let before = fs::read(&path).unwrap();
        let path_text = path.to_str().unwrap();
        for words in [
            &["-f", path_text, "GET", "k"][..],
            &["-f", path_text, "SET", "k", "v"],
            &["-f", path_text],
            &["check", path_text],
            &["stats", path_text],
            &["log", path_text],
        ] {
            let mut program = scratch.program();
            program.args(words);
            Run::of(program)
                .code(1)
                .stdout(is_empty())
                .stderr(contains(path_text).and(contains(said)));
        }
        assert_eq!(fs::read(&path).unwrap(), before, "{path_text}");
    }
}

#[test]
fn empty_file_becomes_a_new_one() {
    let scratch = Scratch::new();
    let path = scratch.path("empty");
    fs::write(&path, b"").unwrap();
    let path = path.to_str().unwrap();
    let run = |words: &[&str]| {
        let mut program = scratch.program();
        program.args(["-f", path]).args(words);
        Run::of(program)
    };
    run(&["SET", "k", "v"]).success();
    run(&["GET", "k"]).success().stdout("v\n");
}

#[test]
fn a_directory_is_no_file() {
    let scratch = Scratch::new();
    let directory = scratch.path("directory");
    fs::create_dir(&directory).unwrap();
    let path = directory.to_str().unwrap();
    for words in [
        &["-f", path, "SET", "k", "v"][..],
        &["check", path],
        &["log", path],
    ] {
        let mut program = scratch.program();
        program.args(words);
        Run::of(program)
            .code(1)
            .stderr(contains(path).and(contains("give the path of a file")));
    }
    assert_eq!(fs::read_dir(&directory).unwrap().count(), 0);
}

#[test]
fn a_missing_directory_is_named_and_not_made() {
    let scratch = Scratch::new();
    for words in [
        &["-f", "missing/c.brasa", "SET", "k", "v"][..],
        &["-f", "missing/c.brasa", "GET", "k"],
        &["check", "missing/c.brasa"],
    ] {
        let mut program = scratch.program();
        program.args(words);
        Run::of(program)
            .code(1)
            .stderr(contains("missing/c.brasa").and(contains("its directory must exist")));
    }
    assert!(!scratch.path("missing").exists());
}

#[test]
fn commands_about_a_file_do_not_create_it() {
    let scratch = Scratch::new();
    for words in [&["stats"][..], &["check"], &["log"], &["log", "--json"]] {
        scratch
            .run(words)
            .code(1)
            .stdout(is_empty())
            .stderr(contains("c.brasa").and(contains("No such file")));
    }
    assert!(!scratch.file().exists());
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_is_followed_and_kept() {
    let scratch = Scratch::new();
    fs::create_dir(scratch.path("elsewhere")).unwrap();
    std::os::unix::fs::symlink("elsewhere/real.brasa", scratch.file()).unwrap();
    scratch.hold(&[(&["SET", "k", "v"], "OK\n"), (&["GET", "k"], "v\n")]);
    assert!(fs::symlink_metadata(scratch.file()).unwrap().is_symlink());
    assert!(scratch.path("elsewhere/real.brasa").is_file());
    scratch.run(&["check"]).success();
}

#[cfg(unix)]
#[test]
fn without_permission_to_write_one_can_still_read() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::os::unix::process::CommandExt;

    const NOBODY: u32 = 65_534;
    let permit = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let scratch = Scratch::new();
    scratch.run(&["SET", "k", "v"]).success();
    // Where it was built, nobody else may be allowed to look.
    let program = scratch.path("program");
    fs::copy(env!("CARGO_BIN_EXE_brasa"), &program).unwrap();
    permit(&program, 0o755);
    // Until a child of another test that was just forked lets go of it, the copy is busy.
    let starts = || {
        thread::sleep(Duration::from_millis(20));
        Command::new(&program).arg("--version").output().is_ok()
    };
    assert!((0..250).any(|_| starts()));
    permit(scratch.directory.path(), 0o555);
    permit(&scratch.file(), 0o444);
    // Permissions do not hold for root, who therefore steps down.
    let is_root = fs::metadata(scratch.file()).unwrap().uid() == 0;
    let run = |words: &[&str]| {
        let mut program = Command::new(&program);
        program.current_dir("/").env_clear().stdin(Stdio::null());
        if is_root {
            program.uid(NOBODY).gid(NOBODY);
        }
        program.arg("-f").arg(scratch.file()).args(words);
        Run::of(program)
    };
    let path = scratch.file().to_str().unwrap().to_owned();
    run(&["GET", "k"]).success().stdout("v\n");
    run(&["check"]).success();
    run(&["stats"]).success();
    run(&["SET", "k", "w"])
        .code(1)
        .stderr(contains(&path).and(contains("check the permissions")));
    permit(&scratch.file(), 0o000);
    for words in [
        &["GET", "k"][..],
        &["SET", "k", "w"],
        &["check"],
        &["stats"],
        &["log"],
    ] {
        run(words)
            .code(1)
            .stdout(is_empty())
            .stderr(contains(&path).and(contains("check the permissions")));
    }
    permit(&scratch.file(), 0o600);
    permit(scratch.directory.path(), 0o700);
    scratch.hold(&[(&["GET", "k"], "v\n")]);
}

#[test]
fn a_key_over_the_limit_is_refused_and_nothing_is_lost() {
    let scratch = Scratch::new();
    let (longest, too_long) = ("k".repeat(65_535), "k".repeat(65_536));
    scratch.run(&["SET", &longest, "v"]).success();
    scratch
        .run(&["SET", &too_long, "v"])
        .code(1)
        .stderr("ERR a key of 65536 bytes exceeds the limit of 65535\n");
    scratch.hold(&[
        (&["GET", &longest], "v\n"),
        (&["GET", &too_long], "\n"),
        (&["DBSIZE"], "1\n"),
    ]);
}

#[test]
fn output_that_nobody_reads_any_more_ends_the_program_quietly() {
    let scratch = Scratch::new();
    let mut lines = String::new();
    for number in 0..20_000 {
        lines += &format!("SET key:{number} {number}\n");
    }
    scratch.feed(&[], lines.clone()).success();
    for (words, input) in [
        (&["KEYS", "*"][..], String::new()),
        (&["--no-raw", "KEYS", "*"], String::new()),
        (&["log"], String::new()),
        (&["log", "--json"], String::new()),
        (&[], "KEYS *\n".repeat(3) + &lines),
    ] {
        let mut child = scratch
            .program()
            .arg("-f")
            .arg(scratch.file())
            .args(words)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let feeder = thread::spawn(move || {
            // It ends early too, once nobody reads.
            let _ = stdin.write_all(input.as_bytes());
        });
        let mut first = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut first)
            .unwrap();
        assert!(!first.is_empty());
        let mut complaints = String::new();
        child
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut complaints)
            .unwrap();
        assert_eq!(complaints, "", "{words:?}");
        assert!(child.wait().unwrap().success(), "{words:?}");
        feeder.join().unwrap();
    }
    scratch.run(&["check"]).success();
}

/// A program whose standard output and error go where the test says.
fn fed(scratch: &Scratch, lines: &str, output: Stdio, errors: Stdio) -> std::process::ExitStatus {
    let input = scratch.path("lines");
    fs::write(&input, lines).unwrap();
    let mut program = scratch.program();
    program.arg("-f").arg(scratch.file());
    program.stdin(fs::File::open(input).unwrap());
    program.stdout(output).stderr(errors).status().unwrap()
}

/// A pipe that has been closed at its other end.
fn closed_pipe() -> Stdio {
    let (_, writer) = std::io::pipe().unwrap();
    writer.into()
}

/// With `brasa < lines | head -1` a part of the commands was executed, and the status was 0.
#[test]
fn commands_are_executed_although_their_replies_cannot_be_written() {
    const COUNT: usize = 20_000;
    let lines: String = (0..COUNT)
        .map(|number| format!("SET key:{number} {number}\n"))
        .collect();
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    for (output, expected) in [(closed_pipe(), true), (full().into(), false)] {
        let scratch = Scratch::new();
        let status = fed(&scratch, &lines, output, Stdio::null());
        assert_eq!(status.success(), expected);
        assert_eq!(
            stdout(scratch.run(&["DBSIZE"])),
            format!("{COUNT}\n"),
            "all are carried out"
        );
    }
    // A failed command is told by the status, though nothing else can tell it.
    let scratch = Scratch::new();
    let lines = "SET k v\nGET k\nINCR k\nSET l v\n".repeat(5_000);
    let status = fed(&scratch, &lines, closed_pipe(), closed_pipe());
    assert_eq!(status.code(), Some(1));
    assert_eq!(stdout(scratch.run(&["DBSIZE"])), "2\n");
}

/// The status was 0 when standard error was a pipe that nobody read.
#[test]
fn check_says_no_to_a_damaged_file_although_nobody_reads_why() {
    let scratch = Scratch::new();
    let lines: String = (0..2_000)
        .map(|number| format!("SET key:{number} {number}\n"))
        .collect();
    scratch.feed(&[], lines).success();
    let mut bytes = fs::read(scratch.file()).unwrap();
    let middle = bytes.len() / 2;
    bytes[12_288 + 64..middle].fill(0xaa);
    fs::write(scratch.file(), bytes).unwrap();
    let mut check = scratch.program();
    check.arg("-f").arg(scratch.file()).arg("check");
    let status = check.stdout(closed_pipe()).stderr(closed_pipe()).status();
    assert_eq!(status.unwrap().code(), Some(1));
}

#[test]
fn a_long_list_is_written_as_a_whole() {
    let scratch = Scratch::new();
    let mut lines = String::new();
    for number in 0..5_000 {
        lines += &format!("HSET h field:{number} {number}\n");
    }
    scratch.feed(&[], lines).success();
    assert_eq!(
        stdout(scratch.run(&["HGETALL", "h"])).lines().count(),
        10_000
    );
}

// ---------------------------------------------------------------- about the file

/// A file with a string, a hash in one commit, an overwritten key, and one with a deadline.
fn with_records() -> Scratch {
    let scratch = Scratch::new();
    scratch
        .feed(
            &[],
            "SET chave_1 old\nSET chave_1 \"Relou Uourdi\"\nHSET meu_hash nome thailan idade 29\n\
             SELECT 3\nSET \"\\xff\" v PXAT 4102444800000\nDEL nobody\n",
        )
        .success();
    scratch
}

#[test]
fn stats_prints_sizes_and_counts() {
    let scratch = with_records();
    let text = stdout(scratch.run(&["stats"]));
    let number = |name: &str| -> u64 {
        let line = text.lines().find_map(|line| {
            let (found, value) = line.split_once(": ")?;
            (found == name).then_some(value)
        });
        line.unwrap_or_else(|| unreachable!("no {name} in {text}"))
            .parse()
            .unwrap()
    };
    assert!(text.starts_with(&format!("file: {}\n", scratch.file().display())));
    let file_bytes = fs::metadata(scratch.file()).unwrap().len();
    assert_eq!(number("file_bytes"), file_bytes);
    assert_eq!(number("keys"), 3);
    assert_eq!(number("keys_in_database_0"), 2);
    assert_eq!(number("keys_in_database_3"), 1);
    assert!(!text.contains("keys_in_database_1:"));
    let (live, dead) = (number("live_bytes"), number("dead_bytes"));
    assert!(live > 0 && dead > 0);
    assert_eq!(number("log_bytes"), live + dead);
    assert_eq!(number("checkpoint_bytes"), 0);
    assert_eq!(number("checkpoint_layers"), 0);
    assert_eq!(number("synced_upto"), 12_288 + live + dead);
    assert_eq!(number("index_bytes_per_key"), number("index_bytes") / 3);
}

#[test]
fn the_file_is_an_argument_or_an_option_and_not_both() {
    let scratch = with_records();
    let path = scratch.file();
    let path = path.to_str().unwrap();
    for words in [
        &["check", path][..],
        &["check", "-f", path],
        &["-f", path, "check"],
        &["stats", path],
        &["log", path, "--json"],
    ] {
        let mut program = scratch.program();
        program.args(words);
        Run::of(program).success();
    }
    scratch
        .run(&["check", path])
        .code(2)
        .stderr(contains("two files were given"));
}

#[test]
fn check_counts_what_is_sound() {
    let scratch = with_records();
    scratch
        .run(&["check"])
        .success()
        .stdout(contains("c.brasa: sound: 5 records in 4 commits, "))
        .stderr(is_empty());
}

/// Where each record begins, by the log that is printed.
fn offsets(scratch: &Scratch) -> Vec<usize> {
    stdout(scratch.run(&["log"]))
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().next().unwrap().parse().unwrap())
        .collect()
}

#[test]
fn check_names_the_offset_of_the_first_damage() {
    let scratch = with_records();
    let offsets = offsets(&scratch);
    let sound = fs::read(scratch.file()).unwrap();
    for (index, offset) in offsets.iter().enumerate() {
        let mut bytes = sound.clone();
        bytes[offset + 33] ^= 1;
        fs::write(scratch.file(), &bytes).unwrap();
        // A commit is sound or not as a whole, and reading stops within it.
        let named = format!("damaged at offset {offset}: ");
        scratch
            .run(&["check"])
            .code(1)
            .stdout(is_empty())
            .stderr(contains(&named).and(contains("c.brasa: undamaged: ")));
        scratch
            .run(&["GET", "chave_1"])
            .code(1)
            .stderr(contains(format!("damaged at offset {offset}: ")));
        let printed = scratch
            .run(&["log"])
            .code(1)
            .stderr(contains(format!("damaged at offset {offset}: ")));
        let printed = String::from_utf8(printed.output().stdout.clone()).unwrap();
        // The hash's two records are one commit.
        let whole = if index == 3 { 2 } else { index };
        assert_eq!(printed.lines().count(), 1 + whole);
        assert_eq!(
            fs::read(scratch.file()).unwrap(),
            bytes,
            "nothing was changed"
        );
    }
}

#[test]
fn check_names_damage_in_the_header() {
    let scratch = with_records();
    let mut bytes = fs::read(scratch.file()).unwrap();
    bytes[20] ^= 1;
    fs::write(scratch.file(), &bytes).unwrap();
    scratch
        .run(&["check"])
        .code(1)
        .stdout(is_empty())
        .stderr(contains("damaged at offset 0: "));
}

#[test]
fn check_tells_of_a_write_that_was_cut_short() {
    let scratch = with_records();
    let end = 12_288 + {
        let text = stdout(scratch.run(&["stats"]));
        let line = text.lines().find(|line| line.starts_with("log_bytes"));
        line.unwrap()
            .split_once(": ")
            .unwrap()
            .1
            .parse::<usize>()
            .unwrap()
    };
    let mut bytes = fs::read(scratch.file()).unwrap();
    bytes.truncate(end);
    bytes.extend_from_slice(b"\x05\0\0\0\x01\0\x01\0 a beginning");
    fs::write(scratch.file(), &bytes).unwrap();
    scratch.run(&["check"]).success().stdout(
        contains("sound: 5 records").and(contains(format!("tail is torn at offset {end}: "))),
    );
    scratch.hold(&[
        (&["GET", "chave_1"], "Relou Uourdi\n"),
        (&["SET", "next", "v"], "OK\n"),
    ]);
    // The next write takes its place.
    let checked = stdout(scratch.run(&["check"]));
    assert!(!checked.contains("torn"), "{checked}");
    scratch.hold(&[(&["MGET", "chave_1", "next"], "Relou Uourdi\nv\n")]);
}

#[test]
fn log_prints_a_line_for_each_record() {
    let scratch = with_records();
    let text = stdout(scratch.run(&["log"]));
    let lines: Vec<Vec<&str>> = text
        .lines()
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(
        lines[0],
        [
            "OFFSET",
            "BYTES",
            "KIND",
            "DB",
            "DEADLINE_MS",
            "VALUE_BYTES",
            "KEY",
            "FIELD"
        ]
    );
    assert_eq!(
        lines[1],
        ["12288", "48", "set", "0", "-", "3", "\"chave_1\""]
    );
    assert_eq!(
        lines[2],
        ["12336", "56", "set", "0", "-", "12", "\"chave_1\""]
    );
    assert_eq!(
        lines[3],
        [
            "12392",
            "56",
            "hash",
            "set",
            "+",
            "0",
            "-",
            "7",
            "\"meu_hash\"",
            "\"nome\""
        ]
    );
    assert_eq!(
        lines[4],
        [
            "12448",
            "48",
            "hash",
            "set",
            "0",
            "-",
            "2",
            "\"meu_hash\"",
            "\"idade\""
        ]
    );
    assert_eq!(
        lines[5],
        ["12496", "40", "set", "3", "4102444800000", "1", "\"\\xff\""]
    );
    assert_eq!(lines.len(), 6, "a deletion of nothing is no record");
}

#[test]
fn log_prints_json_a_line_each() {
    let scratch = with_records();
    let text = stdout(scratch.run(&["log", "--json"]));
    let objects: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(objects.len(), 5);
    assert_eq!(
        objects[2],
        serde_json::json!({
            "offset": 12_392, "size_bytes": 56, "kind": "hash set", "database": 0,
            "key": "meu_hash", "field": "nome", "value_bytes": 7, "deadline_ms": null,
            "more": true,
        })
    );
    assert_eq!(objects[4]["deadline_ms"], 4_102_444_800_000_u64);
    assert_eq!(objects[4]["key_hex"], "ff");
    assert_eq!(objects[4].get("key"), None);
}

// ---------------------------------------------------------------- help

#[test]
fn help_lists_every_command_and_explains_each() {
    let scratch = Scratch::new();
    let all = stdout(scratch.run(&["--help"]));
    assert_eq!(stdout(scratch.run(&["help"])), all);
    for command in brasa::command::commands() {
        let name = command.name.to_uppercase();
        assert!(all.split_whitespace().any(|word| word == name), "{name}");
        let text = stdout(scratch.run(&["help", command.name]));
        assert!(
            text.starts_with(format!("{name} {}", command.syntax).trim_end()),
            "{text}"
        );
        assert!(text.contains(command.summary));
        assert_eq!(stdout(scratch.run(&[&name, "--help"])), text);
    }
    for name in ["stats", "check", "log", "completions", "man", "help"] {
        assert!(
            stdout(scratch.run(&["help", name])).contains("Usage:"),
            "{name}"
        );
        assert!(stdout(scratch.run(&[name, "--help"])).contains("Usage:"));
    }
    assert!(all.contains("Examples:") && all.contains("Exit status:"));
    assert!(!scratch.file().exists(), "help touches no file");
}

#[test]
fn completions_and_manual_know_the_commands() {
    let scratch = Scratch::new();
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let script = stdout(scratch.run(&["completions", shell]));
        for word in ["stats", "hgetall", "no-raw"] {
            assert!(script.contains(word), "{word} for {shell}");
        }
    }
    let page = stdout(scratch.run(&["man"]));
    for word in [".TH brasa", "HGETALL", "check", "Exit status"] {
        assert!(page.contains(word), "{word}");
    }
    assert!(!scratch.file().exists());
}

#[test]
fn a_new_file_has_the_mode_of_the_command_line_and_an_existing_file_keeps_its_own() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    for nonsense in ["648", "0x1a", "+640", "-1", "1000", "", "000", "rw-r-----"] {
        let mode = format!("--mode={nonsense}");
        let refused = scratch.run(&[&mode, "set", "key", "1"]);
        refused.code(2).stderr(contains("three octal digits"));
        assert!(!scratch.file().exists());
    }
    for mode in ["640", "666"] {
        scratch.run(&["--mode", mode, "set", "key", "1"]).success();
        let found = fs::metadata(scratch.file()).unwrap().permissions().mode();
        assert_eq!(found & 0o7777, 0o640);
    }
}
