//! A tour of what a Redis user does all day, on a scratch file: `cargo run --example tour`.
//!
//! It says what it does, and ends with an error where something does not hold.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use brasa::{Db, ManualClock, SetOptions, Ttl, Value};

/// Set in the child that is killed.
const WRITER_FILE: &str = "BRASA_TOUR_WRITER_FILE";

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    let outcome = match std::env::var_os(WRITER_FILE) {
        Some(path) => write_until_killed(Path::new(&path)),
        None => tour(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the tour ended early: {error}");
            ExitCode::FAILURE
        }
    }
}

fn tour() -> Outcome {
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("tour.brasa");
    strings_and_hashes(&path)?;
    deadlines(&directory.path().join("deadlines.brasa"))?;
    repository(&directory.path().join("repository.brasa"))?;
    cache_aside(&directory.path().join("rows.brasa"))?;
    reopened(&path)?;
    killed(&directory.path().join("killed.brasa"))?;
    println!("\nEverything held.");
    Ok(())
}

fn section(title: &str) {
    println!("\n{title}");
}

fn show(call: &str, reply: impl std::fmt::Debug) {
    println!("  {call:<44} {reply:?}");
}

fn holds(what: &str, condition: bool) -> Outcome {
    match condition {
        true => Ok(()),
        false => Err(format!("this did not hold: {what}").into()),
    }
}

fn text(value: Option<Value>) -> Outcome<Option<String>> {
    Ok(match value {
        Some(value) => Some(value.to_str()?.to_owned()),
        None => None,
    })
}

fn strings_and_hashes(path: &Path) -> Outcome {
    section("Strings");
    let db = Db::open(path)?;
    db.set("chave_1", "Relou Uourdi")?;
    let value = text(db.get("chave_1")?)?;
    show("get chave_1", &value);
    holds(
        "a string is read back",
        value.as_deref() == Some("Relou Uourdi"),
    )?;

    section("A hash as a dictionary");
    for (field, value) in [("nome", "thailan"), ("idade", "29"), ("city", "São Luís")] {
        db.hset("meu_hash", field, value)?;
        let read = text(db.hget("meu_hash", field)?)?;
        show(&format!("hget meu_hash {field}"), &read);
        holds("a field is read back", read.as_deref() == Some(value))?;
    }

    section("Does it exist?");
    show("exists chave_1", db.exists("chave_1")?);
    show("exists meu_hash", db.exists("meu_hash")?);
    show("hexists meu_hash nome", db.hexists("meu_hash", "nome")?);
    show("hexists meu_hash altura", db.hexists("meu_hash", "altura")?);
    holds(
        "what is there exists",
        db.exists("chave_1")? && db.hexists("meu_hash", "nome")?,
    )?;

    section("Deletion");
    db.set("velho", "1")?;
    show("del velho", db.del("velho")?);
    show("hdel meu_hash idade", db.hdel("meu_hash", "idade")?);
    holds(
        "what was deleted is gone",
        !db.exists("velho")? && db.hlen("meu_hash")? == 2,
    )?;
    db.close()?;
    Ok(())
}

fn deadlines(path: &Path) -> Outcome {
    section("Time to live (a clock of our own stands for the passing of time)");
    let clock = ManualClock::new(1_700_000_000_000);
    let db = Db::options().clock(clock.clone()).open(path)?;
    let ten_seconds = SetOptions::new().ttl(Duration::from_secs(10));
    db.set_with("sessao", "aberta", ten_seconds)?;
    db.hset("meu_hash", "nome", "thailan")?;
    db.expire("meu_hash", Duration::from_secs(30))?;
    clock.advance(Duration::from_secs(9));
    db.hset("meu_hash", "city", "Recife")?;
    show("9 s later: ttl sessao", db.ttl("sessao")?);
    show(
        "9 s later: ttl meu_hash, after an hset",
        db.ttl("meu_hash")?,
    );
    holds(
        "an hset keeps the hash's deadline",
        db.ttl("meu_hash")? == Ttl::Remaining(Duration::from_secs(21)),
    )?;
    clock.advance(Duration::from_secs(1));
    show("10 s later: get sessao", text(db.get("sessao")?)?);
    holds("a key goes when its time is up", !db.exists("sessao")?)?;
    clock.advance(Duration::from_secs(20));
    show("30 s later: hgetall meu_hash", db.hgetall("meu_hash")?);
    holds(
        "a hash goes as a whole",
        db.hlen("meu_hash")? == 0 && db.len()? == 0,
    )
}

/// The repository over a connection, as one writes it over Redis.
struct Repository {
    db: Db,
}

impl Repository {
    fn insert(&self, key: &str, value: impl ToString) -> brasa::Result<()> {
        self.db.set(key, value.to_string())
    }

    fn get(&self, key: &str) -> brasa::Result<Option<Value>> {
        self.db.get(key)
    }

    fn insert_hash(&self, key: &str, field: &str, value: impl ToString) -> brasa::Result<bool> {
        self.db.hset(key, field, value.to_string())
    }

    fn get_hash(&self, key: &str, field: &str) -> brasa::Result<Option<Value>> {
        self.db.hget(key, field)
    }

    fn insert_ex(&self, key: &str, value: impl ToString, ex: Duration) -> brasa::Result<()> {
        let options = SetOptions::new().ttl(ex);
        self.db.set_with(key, value.to_string(), options).map(drop)
    }

    fn insert_hash_ex(
        &self,
        key: &str,
        field: &str,
        value: impl ToString,
        ex: Duration,
    ) -> brasa::Result<()> {
        let value = value.to_string();
        // One commit: there is never a hash that has lost its deadline.
        self.db.batch(|batch| {
            batch.hset(key, field, value).expire(key, ex);
        })
    }
}

fn repository(path: &Path) -> Outcome {
    section("A repository class");
    let repository = Repository {
        db: Db::open(path)?,
    };
    repository.insert("pi", 3.21)?;
    repository.insert_hash("user:1", "nome", "Minevaldo")?;
    repository.insert_ex("user:1:token", "abc", Duration::from_secs(60))?;
    repository.insert_hash_ex("user:2", "nome", "Relou", Duration::from_secs(60))?;
    let pi = text(repository.get("pi")?)?;
    show("get pi", &pi);
    show(
        "get_hash user:1 nome",
        text(repository.get_hash("user:1", "nome")?)?,
    );
    show("get user:1:token", text(repository.get("user:1:token")?)?);
    holds(
        "a number is kept as its text",
        pi.as_deref() == Some("3.21"),
    )?;
    let ttl = repository.db.ttl("user:2")?;
    holds("a hash has its deadline", matches!(ttl, Ttl::Remaining(_)))
}

fn cache_aside(path: &Path) -> Outcome {
    section("A cache in front of something slow");
    let clock = ManualClock::new(1_700_000_000_000);
    let db = Db::options().clock(clock.clone()).open(path)?;
    let mut asked = 0;
    let mut select_by_name = |name: &str| -> Outcome<String> {
        if let Some(row) = db.get(format!("row:{name}"))? {
            return Ok(row.to_str()?.to_owned());
        }
        asked += 1;
        let row = format!("{name},{}", 30 + asked);
        let ten_seconds = SetOptions::new().ttl(Duration::from_secs(10));
        db.set_with(format!("row:{name}"), &row, ten_seconds)?;
        Ok(row)
    };
    show("a miss asks the database", select_by_name("Minevaldo")?);
    show("a hit does not", select_by_name("Minevaldo")?);
    clock.advance(Duration::from_secs(10));
    show("after 10 s it is asked again", select_by_name("Minevaldo")?);
    holds("the database was asked twice", asked == 2)
}

fn reopened(path: &Path) -> Outcome {
    section("Opened again");
    let db = Db::open(path)?;
    let recovery = db.recovery();
    println!(
        "  {} records in {} bytes were replayed in {:?}",
        recovery.record_count, recovery.replayed_bytes, recovery.duration
    );
    show("get chave_1", text(db.get("chave_1")?)?);
    show("hgetall meu_hash", db.hgetall("meu_hash")?);
    holds(
        "everything is still there",
        db.len()? == 2 && db.hlen("meu_hash")? == 2,
    )
}

/// What the child does: says what it wrote once it was written, and never ends.
fn write_until_killed(path: &Path) -> Outcome {
    let db = Db::open(path)?;
    let mut out = std::io::stdout();
    for number in 0_u64.. {
        let value = number.to_string();
        db.batch(|batch| {
            batch.set("left", &value).set("right", &value);
            batch.set(format!("key:{number}"), &value);
        })?;
        writeln!(out, "{number}")?;
        out.flush()?;
    }
    Ok(())
}

fn killed(path: &Path) -> Outcome {
    section("Killed in the middle of writing (SIGKILL)");
    let mut child = Command::new(std::env::current_exe()?)
        .env(WRITER_FILE, path)
        .stdout(Stdio::piped())
        .spawn()?;
    let lines = BufReader::new(child.stdout.take().ok_or("the child has no output")?).lines();
    let mut acknowledged = None;
    for line in lines {
        let Ok(number) = line?.parse::<u64>() else {
            // The last line may be cut short.
            continue;
        };
        if number == 1_000 {
            child.kill()?;
        }
        acknowledged = Some(number);
    }
    child.wait()?;
    let acknowledged = acknowledged.ok_or("the child wrote nothing")?;

    let db = Db::open(path)?;
    println!("  acknowledged before the kill: {}", acknowledged + 1);
    println!("  keys in the file:             {}", db.len()? - 2);
    println!(
        "  torn bytes:                   {}",
        db.recovery().torn_bytes
    );
    for number in 0..=acknowledged {
        let there = db.get(format!("key:{number}"))?;
        holds("every acknowledged write is there", there.is_some())?;
    }
    let pair = (text(db.get("left")?)?, text(db.get("right")?)?);
    holds("no batch is half there", pair.0 == pair.1)
}
