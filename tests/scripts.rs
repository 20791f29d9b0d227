//! Golden scripts: what each step does to the bytes of the log, to be read and to be checked.
//!
//! A script in `tests/scripts/` is a list of commands. Below each stands what it prints, indented
//! by four spaces; lines that begin with `#` and empty lines are for the reader. After a change
//! that is meant to change the output, rewrite them all and read the difference:
//!
//! ```text
//! BRASA_REWRITE=1 cargo test --test scripts && git diff tests/scripts
//! ```
//!
//! | command | what it does |
//! | --- | --- |
//! | `set K V [ttl D]`, `get K`, `append K V`, `incr K` | strings; a duration D is `5s` or `200ms` |
//! | `hset K F V`, `hget K F`, `hdel K F`, `hgetall K` | hashes |
//! | `del K`, `type K`, `expire K D`, `persist K`, `ttl K`, `keys`, `clear` | keys of either type |
//! | `batch`, then changes, then `end` | the changes as one commit |
//! | `database N` | goes on in another of the 16 databases |
//! | `advance D`, `back D` | moves the clock, which stands still otherwise |
//! | `sync` | carries the log to the device; nothing else does, but for closing |
//! | `compact` | rewrites the file to what it holds; nothing else does |
//! | `reopen` | closes the file, if it is open, and opens it |
//! | `kill` | ends the process: the file stays as it is at that moment |
//! | `tear N` | kills, and takes the last N bytes of the log away, as a power loss may |
//! | `flip OFFSET` | kills, and flips the bits of one byte, as a bad disk may |
//! | `repair` | kills, and goes on with the file that a repair makes |
//! | `dump` | prints the records: offset, bytes, writer, what they say, and whether they are live |
//! | `hexdump OFFSET LEN` | prints bytes of the file |
//! | `stats` | prints counts |
//!
//! Words are parted by spaces, and may stand in double quotes with `\n`, `\\`, `\"` and `\xNN` within.
//!
//! What is drawn at random is not printed: of writers there are letters, in the order in which
//! they first wrote; salt, hash key and checksums are `--`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use brasa::inspect::{LogEnd, RecordInfo, RepairOptions, check, records, repair};
use brasa::{Batch, Clock, Db, Durability, Error, KeyType, ManualClock, SetOptions, Ttl};
use tempfile::TempDir;

/// Where a script's clock begins: 2023-11-14 22:13:20 UTC.
const START_MS: u64 = 1_700_000_000_000;

/// Where the log begins: see `docs/format.md`.
const LOG_START: u64 = 12_288;

const INDENT: &str = "    ";

#[test]
fn every_script_prints_what_stands_below_its_commands() {
    let rewrite = std::env::var_os("BRASA_REWRITE").is_some_and(|value| value != "0");
    let mut different = String::new();
    for path in scripts() {
        let written = std::fs::read_to_string(&path).unwrap();
        let printed = run(&path, &written);
        if rewrite {
            std::fs::write(&path, &printed).unwrap();
        } else if printed != written {
            different += &difference(&path, &written, &printed);
        }
    }
    assert!(
        different.is_empty(),
        "{different}\nIf this is what it should print: BRASA_REWRITE=1 cargo test --test scripts"
    );
}

/// Else a script would pass where it was written and nowhere else.
#[test]
fn no_script_prints_what_was_drawn_at_random() {
    for path in scripts() {
        let written = std::fs::read_to_string(&path).unwrap();
        let (once, again) = (run(&path, &written), run(&path, &written));
        assert_eq!(once, again, "{}", path.display());
    }
}

fn scripts() -> Vec<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let mut scripts: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "txt"))
        .collect();
    scripts.sort();
    assert!(!scripts.is_empty());
    scripts
}

/// The first lines in which two texts differ.
fn difference(path: &Path, written: &str, printed: &str) -> String {
    let (written, printed): (Vec<_>, Vec<_>) =
        (written.lines().collect(), printed.lines().collect());
    let same = written
        .iter()
        .zip(&printed)
        .take_while(|(written, printed)| written == printed)
        .count();
    let show = |lines: &[&str]| {
        let lines = lines.iter().skip(same).take(6);
        lines.fold(String::new(), |shown, line| shown + line + "\n")
    };
    format!(
        "\n{}, line {}\n-- written:\n{}-- printed:\n{}",
        path.display(),
        same + 1,
        show(&written),
        show(&printed)
    )
}

/// Runs a script; gives back its text with the output as it is now.
fn run(path: &Path, script: &str) -> String {
    let mut machine = Machine::new();
    let mut text = String::new();
    let mut block: Option<Vec<Vec<String>>> = None;
    for (number, line) in script.lines().enumerate() {
        if line.starts_with(INDENT) {
            continue;
        }
        text += line;
        text.push('\n');
        if line.trim().is_empty() || line.starts_with('#') {
            continue;
        }
        let words = words(line);
        let printed = match (words[0].as_str(), &mut block) {
            ("batch", None) => {
                block = Some(Vec::new());
                continue;
            }
            ("end", Some(changes)) => {
                let printed = machine.batch(changes);
                block = None;
                printed
            }
            (_, Some(changes)) => {
                changes.push(words);
                continue;
            }
            _ => machine.command(&words),
        };
        let printed = printed
            .unwrap_or_else(|problem| panic!("{}, line {}: {problem}", path.display(), number + 1));
        for line in printed.lines() {
            text += format!("{INDENT}{line}").trim_end();
            text.push('\n');
        }
    }
    text
}

/// Why a line is no command.
type Problem = String;

/// A file, a clock, and a handle on the file as long as nothing has ended it.
struct Machine {
    directory: TempDir,
    path: PathBuf,
    copies: usize,
    clock: ManualClock,
    db: Option<Db>,
    database: u8,
    /// Where records have stood: their remains may stand behind the log's end.
    former_records: BTreeSet<u64>,
}

impl Machine {
    fn new() -> Machine {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("0.brasa");
        let mut machine = Machine {
            directory,
            path,
            copies: 0,
            clock: ManualClock::new(START_MS),
            db: None,
            database: 0,
            former_records: BTreeSet::new(),
        };
        machine.open().unwrap();
        machine
    }

    fn open(&mut self) -> Result<(), Error> {
        let options = Db::options().durability(Durability::Os).auto_compact(false);
        self.db = Some(options.clock(self.clock.clone()).open(&self.path)?);
        Ok(())
    }

    fn db(&self) -> Result<Db, Problem> {
        let db = self.db.as_ref().ok_or("the file is not open")?;
        db.database(self.database)
            .map_err(|error| error.to_string())
    }

    fn command(&mut self, words: &[String]) -> Result<String, Problem> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["database", number] => {
                let number = parsed(number)?;
                Ok(match self.db()?.database(number) {
                    Ok(_) => {
                        self.database = number;
                        "OK".to_owned()
                    }
                    Err(error) => self.error(&error),
                })
            }
            ["advance", by] => {
                self.clock.advance(duration(by)?);
                Ok(format!("now {}", self.since_start(self.clock.now_ms())))
            }
            ["back", by] => {
                let by = u64::try_from(duration(by)?.as_millis()).map_err(|e| e.to_string())?;
                self.clock.set(self.clock.now_ms() - by);
                Ok(format!("now {}", self.since_start(self.clock.now_ms())))
            }
            ["compact"] => self.compact(),
            ["reopen"] => Ok(self.reopen()),
            ["kill"] => {
                self.kill();
                Ok("killed".to_owned())
            }
            ["tear", count] => {
                self.kill();
                let end = self.log_end() - parsed::<u64>(count)?;
                let bytes = std::fs::read(&self.path).unwrap();
                std::fs::write(&self.path, &bytes[..to_usize(end)]).unwrap();
                Ok(format!("killed, and the file ends at {end}"))
            }
            ["flip", offset] => {
                self.kill();
                let mut bytes = std::fs::read(&self.path).unwrap();
                let byte = &mut bytes[parsed::<usize>(offset)?];
                *byte = !*byte;
                std::fs::write(&self.path, &bytes).unwrap();
                Ok(format!("killed, and the byte at {offset} is damaged"))
            }
            ["repair"] => {
                self.kill();
                Ok(self.repair())
            }
            ["dump"] => Ok(self.dump()),
            ["hexdump", offset, len] => Ok(self.hexdump(parsed(offset)?, parsed(len)?)),
            ["stats"] => self.stats(),
            _ => {
                let answered = call(&self.db()?, &words)?;
                self.remember_records();
                Ok(answered.unwrap_or_else(|error| self.error(&error)))
            }
        }
    }

    fn batch(&mut self, changes: &[Vec<String>]) -> Result<String, Problem> {
        let mut problem = None;
        let committed = self.db()?.batch(|batch| {
            for words in changes {
                let words: Vec<&str> = words.iter().map(String::as_str).collect();
                if let Err(found) = collect(batch, &words) {
                    problem = Some(found);
                }
            }
        });
        self.remember_records();
        match (problem, committed) {
            (Some(problem), _) => Err(problem),
            (None, Ok(())) => Ok("OK".to_owned()),
            (None, Err(error)) => Ok(self.error(&error)),
        }
    }

    fn compact(&mut self) -> Result<String, Problem> {
        let before = self.log_end();
        if let Err(error) = self.db()?.compact() {
            return Ok(self.error(&error));
        }
        // It is another file, and nothing stands behind its log.
        self.former_records.clear();
        self.remember_records();
        Ok(format!(
            "the log ended at {before}, and ends at {}",
            self.log_end()
        ))
    }

    fn reopen(&mut self) -> String {
        if let Some(db) = self.db.take() {
            db.close().unwrap();
        }
        if let Err(error) = self.open() {
            return self.error(&error);
        }
        let recovery = self.db.as_ref().unwrap().recovery();
        format!(
            "opened: {} in {} replayed, {} torn",
            counted(recovery.record_count, "record"),
            counted(recovery.commit_count, "commit"),
            counted(recovery.torn_bytes, "byte")
        )
    }

    /// Goes on with a copy of the file as it is now: nothing that the handle still does to the old
    /// one, which its process would not have done, is in it.
    fn kill(&mut self) {
        if let Some(db) = self.db.take() {
            let copy = self.next_path();
            std::fs::copy(&self.path, &copy).unwrap();
            self.path = copy;
            drop(db);
        }
    }

    fn repair(&mut self) -> String {
        let output = self.next_path();
        let report = match repair(&self.path, &RepairOptions::new().output(&output)) {
            Ok(report) => report,
            Err(error) => return self.error(&error),
        };
        if report.nothing_to_do() {
            return "nothing to do".to_owned();
        }
        self.path = output;
        let kept = counted(report.kept_record_count, "record");
        let mut lines = format!(
            "{kept} kept, {} lost\n",
            counted(report.lost_bytes(), "byte")
        );
        for lost in report.damaged.iter().flat_map(|damaged| &damaged.lost) {
            let certain = if lost.certain {
                "lost"
            } else {
                "lost, it seems"
            };
            writeln!(lines, "{certain}: {} {}", lost.kind, quoted(&lost.key)).unwrap();
        }
        lines
    }

    fn next_path(&mut self) -> PathBuf {
        self.copies += 1;
        self.directory.path().join(format!("{}.brasa", self.copies))
    }

    /// An error's message, without what differs from run to run.
    fn error(&self, error: &Error) -> String {
        let message = error
            .to_string()
            .replace(&self.path.display().to_string(), "FILE");
        let masked = |word: &str| {
            let number = word.trim_end_matches([',', ';']);
            let is_checksum = number.len() == 8 && number.chars().all(|c| c.is_ascii_hexdigit());
            if is_checksum {
                word.replace(number, "--------")
            } else {
                word.to_owned()
            }
        };
        let words: Vec<String> = message.split(' ').map(masked).collect();
        format!("error: {}", words.join(" "))
    }

    fn since_start(&self, moment_ms: u64) -> String {
        let sign = if moment_ms < START_MS { "-" } else { "+" };
        sign.to_owned() + &shown(Duration::from_millis(moment_ms.abs_diff(START_MS)))
    }

    fn log_end(&self) -> u64 {
        LOG_START + check(&self.path, |_, _| {}).unwrap().log_bytes
    }

    fn records(&self) -> Vec<RecordInfo> {
        records(&self.path).unwrap().map_while(Result::ok).collect()
    }

    fn remember_records(&mut self) {
        let offsets: Vec<u64> = self.records().iter().map(|record| record.offset).collect();
        self.former_records.extend(offsets);
    }

    fn dump(&self) -> String {
        let records = self.records();
        let live = live_records(&records, self.clock.now_ms());
        let mut writers = Vec::new();
        let mut within = false;
        let mut lines = String::new();
        for record in &records {
            let writer = match writers.iter().position(|known| *known == record.writer) {
                Some(known) => known,
                None => {
                    writers.push(record.writer);
                    writers.len() - 1
                }
            };
            let commit = match (within, record.more) {
                (false, false) => ' ',
                (false, true) => '┌',
                (true, true) => '│',
                (true, false) => '└',
            };
            within = record.more;
            let state = if live.contains(&record.offset) {
                "live"
            } else {
                "dead"
            };
            writeln!(
                lines,
                "{}  {:>3}  {}  {commit} {:<50} {state}",
                record.offset,
                record.size_bytes,
                char::from(b'A' + u8::try_from(writer).unwrap()),
                self.description(record)
            )
            .unwrap();
        }
        let report = check(&self.path, |_, _| {}).unwrap();
        for damaged in &report.damaged {
            let bytes = counted(damaged.bytes, "byte");
            writeln!(lines, "{}  {bytes} damaged", damaged.offset).unwrap();
        }
        let end = LOG_START + report.log_bytes;
        write!(lines, "{end}  the log ends").unwrap();
        if let LogEnd::Torn { torn_bytes, .. } = report.end {
            write!(lines, ", {} torn", counted(torn_bytes, "byte")).unwrap();
        }
        lines
    }

    /// What a record says.
    fn description(&self, record: &RecordInfo) -> String {
        let mut text = record.kind.to_owned();
        if record.database != 0 {
            write!(text, " in {}", record.database).unwrap();
        }
        let has_key = !matches!(record.kind, "clear" | "padding");
        if has_key {
            write!(text, " {}", quoted(&record.key)).unwrap();
        }
        if record.kind.starts_with("hash ") {
            write!(text, " {}", quoted(&record.field)).unwrap();
        }
        if matches!(record.kind, "set" | "hash set") {
            write!(text, " = {}", counted(record.value_bytes, "byte")).unwrap();
        }
        if record.deadline_ms != 0 {
            write!(text, " until {}", self.since_start(record.deadline_ms)).unwrap();
        } else if record.kind == "expire" {
            text += " never";
        }
        text
    }

    fn hexdump(&self, offset: u64, len: u64) -> String {
        let bytes = std::fs::read(&self.path).unwrap();
        let mut random = BTreeSet::new();
        // Salt and hash key, and the checksums of the header and of both slots.
        random.extend(
            (12..32)
                .chain(4092..4096)
                .chain(4156..4160)
                .chain(8252..8256),
        );
        // Checksum, previous checksum and writer.
        let of_record = |offset: u64| offset + 8..offset + 20;
        let end = self.log_end();
        for former in &self.former_records {
            random.extend(of_record(*former).filter(|at| *at >= end));
        }
        for record in self.records() {
            random.extend(of_record(record.offset));
        }
        let mut lines = String::new();
        for start in (offset..offset + len).step_by(8) {
            let (mut hex, mut text) = (String::new(), String::new());
            for at in start..(start + 8).min(offset + len) {
                match bytes.get(to_usize(at)) {
                    None => {}
                    Some(_) if random.contains(&at) => {
                        hex += "-- ";
                        text.push('.');
                    }
                    Some(byte) => {
                        write!(hex, "{byte:02x} ").unwrap();
                        let printable = byte.is_ascii_graphic() || *byte == b' ';
                        text.push(if printable { char::from(*byte) } else { '.' });
                    }
                }
            }
            if hex.is_empty() {
                writeln!(lines, "{start}  the file ends").unwrap();
                break;
            }
            writeln!(lines, "{start:>5}  {hex:<24} {text}").unwrap();
        }
        lines
    }

    fn stats(&self) -> Result<String, Problem> {
        let stats = self.db()?.stats().unwrap();
        let records = self.records();
        let live = live_records(&records, self.clock.now_ms());
        let live_bytes: u64 = records
            .iter()
            .filter(|record| live.contains(&record.offset))
            .map(|record| record.size_bytes)
            .sum();
        assert_eq!(stats.live_bytes, live_bytes, "what `dump` shows as live");
        Ok(format!(
            "{}; log {}: live {}, dead {}; synced up to {}",
            counted(stats.key_count, "key"),
            counted(stats.log_bytes, "byte"),
            stats.live_bytes,
            stats.dead_bytes,
            stats.synced_upto
        ))
    }
}

/// A call on the database, and what it gives back.
fn call(db: &Db, words: &[&str]) -> Result<Result<String, Error>, Problem> {
    let number = |number: i64| number.to_string();
    let whether = |whether: bool| u8::from(whether).to_string();
    let done = |()| "OK".to_owned();
    let value = |value: Option<brasa::Value>| match value {
        Some(value) => quoted(&value),
        None => "(nil)".to_owned(),
    };
    Ok(match words {
        ["set", key, value] => db.set(key, value).map(done),
        ["set", key, value, "ttl", ttl] => {
            let options = SetOptions::new().ttl(duration(ttl)?);
            db.set_with(key, value, options).map(|_| done(()))
        }
        ["get", key] => db.get(key).map(value),
        ["append", key, suffix] => db.append(key, suffix).map(|length| length.to_string()),
        ["incr", key] => db.incr_by(key, 1).map(number),
        ["hset", key, field, value] => db.hset(key, field, value).map(whether),
        ["hget", key, field] => db.hget(key, field).map(value),
        ["hdel", key, field] => db.hdel(key, field).map(whether),
        ["hgetall", key] => db.hgetall(key).map(|fields| {
            let fields = fields.iter();
            listed(fields.map(|(field, value)| format!("{}: {}", quoted(field), quoted(value))))
        }),
        ["del", key] => db.del(key).map(whether),
        ["type", key] => db.key_type(key).map(|key_type| {
            let name = match key_type {
                None => "(nil)",
                Some(KeyType::String) => "string",
                Some(KeyType::Hash) => "hash",
                Some(_) => "another",
            };
            name.to_owned()
        }),
        ["expire", key, ttl] => db.expire(key, duration(ttl)?).map(whether),
        ["persist", key] => db.persist(key).map(whether),
        ["ttl", key] => db.ttl(key).map(|ttl| match ttl {
            Ttl::Absent => "(nil)".to_owned(),
            Ttl::Persistent => "no deadline".to_owned(),
            Ttl::Remaining(left) => shown(left),
        }),
        ["keys"] => {
            let keys = db.keys().map(|key| key.map(|key| quoted(&key)));
            keys.collect::<Result<Vec<_>, _>>()
                .map(|keys| listed(keys.into_iter()))
        }
        ["clear"] => db.clear().map(done),
        ["sync"] => db.sync().map(done),
        _ => return Err(format!("{words:?} is no command")),
    })
}

fn collect(batch: &mut Batch, words: &[&str]) -> Result<(), Problem> {
    match words {
        ["set", key, value] => batch.set(key, value),
        ["set", key, value, "ttl", ttl] => batch.set_ex(key, value, duration(ttl)?),
        ["del", key] => batch.del(key),
        ["expire", key, ttl] => batch.expire(key, duration(ttl)?),
        ["hset", key, field, value] => batch.hset(key, field, value),
        ["hdel", key, field] => batch.hdel(key, field),
        ["clear"] => batch.clear(),
        _ => return Err(format!("{words:?} is no change")),
    };
    Ok(())
}

/// What is in the file for one key, by the offsets of its records.
#[derive(Default)]
struct Found {
    /// The record of a string.
    string: Option<u64>,
    /// The records of a hash's fields, and their deadlines.
    fields: BTreeMap<Vec<u8>, (u64, u64)>,
    /// The record of a hash's deadline.
    expire: Option<u64>,
    deadline_ms: u64,
}

/// The records that are needed for what the file holds now: what the index points at.
fn live_records(records: &[RecordInfo], now_ms: u64) -> BTreeSet<u64> {
    let mut keys: BTreeMap<(u8, Vec<u8>), Found> = BTreeMap::new();
    for record in records {
        let place = (record.database, record.key.clone());
        match record.kind {
            "set" => {
                let string = Found {
                    string: Some(record.offset),
                    deadline_ms: record.deadline_ms,
                    ..Found::default()
                };
                keys.insert(place, string);
            }
            "delete" => {
                keys.remove(&place);
            }
            "expire" => {
                if let Some(found) = keys.get_mut(&place) {
                    found.deadline_ms = record.deadline_ms;
                    // A string's deadline goes into its own record when the file is rewritten.
                    let needed = found.string.is_none() && record.deadline_ms != 0;
                    found.expire = needed.then_some(record.offset);
                }
            }
            "hash set" => {
                let found = keys.entry(place).or_default();
                if found.string.is_some() {
                    *found = Found::default();
                }
                let field = (record.offset, record.deadline_ms);
                found.fields.insert(record.field.clone(), field);
            }
            "field expire" => {
                let fields = keys.get_mut(&place).map(|found| &mut found.fields);
                if let Some((_, deadline_ms)) = fields.and_then(|f| f.get_mut(&record.field)) {
                    *deadline_ms = record.deadline_ms;
                }
            }
            "hash delete" => {
                if let Some(found) = keys.get_mut(&place) {
                    found.fields.remove(&record.field);
                    if found.string.is_none() && found.fields.is_empty() {
                        keys.remove(&place);
                    }
                }
            }
            "clear" => keys.retain(|(database, _), _| *database != record.database),
            _ => {}
        }
    }
    let has_passed = |deadline_ms| deadline_ms != 0 && deadline_ms <= now_ms;
    keys.into_values()
        .filter(|found| !has_passed(found.deadline_ms))
        .flat_map(|found| {
            let fields = found.fields.into_values();
            let live = fields.filter(|(_, deadline_ms)| !has_passed(*deadline_ms));
            let fields: Vec<u64> = live.map(|(offset, _)| offset).collect();
            // A hash is gone with its last field.
            let expire = found.expire.filter(|_| !fields.is_empty());
            fields.into_iter().chain(found.string).chain(expire)
        })
        .collect()
}

/// The words of a line.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut rest = line.trim();
    while !rest.is_empty() {
        let (word, after) = match rest.strip_prefix('"') {
            None => rest.split_once(' ').unwrap_or((rest, "")),
            Some(quoted) => {
                let ends = |(at, _): &(usize, &str)| !quoted[..*at].ends_with('\\');
                let (end, _) = quoted
                    .match_indices('"')
                    .find(ends)
                    .unwrap_or_else(|| panic!("a quote is missing: {line}"));
                (&quoted[..end], &quoted[end + 1..])
            }
        };
        words.push(unescaped(word));
        rest = after.trim_start();
    }
    words
}

/// A script's words are text; `\xNN` is for bytes of ASCII that cannot be seen.
fn unescaped(word: &str) -> String {
    let mut text = String::new();
    let mut rest = word;
    while let Some((before, after)) = rest.split_once('\\') {
        text += before;
        let (character, len) = match after.as_bytes() {
            [b'x', _, _, ..] => {
                let byte = u8::from_str_radix(&after[1..3], 16).unwrap();
                assert!(byte.is_ascii(), "\\x{byte:x} is no text");
                (char::from(byte), 3)
            }
            [b'n', ..] => ('\n', 1),
            [other, ..] => (char::from(*other), 1),
            [] => panic!("an escape ends too early: {word}"),
        };
        text.push(character);
        rest = &after[len..];
    }
    text + rest
}

fn parsed<T: std::str::FromStr>(word: &str) -> Result<T, Problem> {
    word.parse().map_err(|_| format!("{word:?} is no number"))
}

fn duration(word: &str) -> Result<Duration, Problem> {
    if let Some(ms) = word.strip_suffix("ms") {
        return Ok(Duration::from_millis(parsed(ms)?));
    }
    let seconds = word.strip_suffix('s');
    let seconds = seconds.ok_or_else(|| format!("{word:?} is no duration"))?;
    Ok(Duration::from_secs(parsed(seconds)?))
}

fn shown(duration: Duration) -> String {
    if duration.subsec_millis() == 0 {
        format!("{}s", duration.as_secs())
    } else {
        format!("{}ms", duration.as_millis())
    }
}

fn quoted(bytes: &[u8]) -> String {
    format!("\"{}\"", bytes.escape_ascii())
}

fn counted(number: u64, what: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {what}{plural}")
}

/// One a line, in order, since a database has none.
fn listed(items: impl Iterator<Item = String>) -> String {
    let mut items: Vec<String> = items.collect();
    items.sort();
    if items.is_empty() {
        return "(nothing)".to_owned();
    }
    items.join("\n")
}

fn to_usize(offset: u64) -> usize {
    usize::try_from(offset).unwrap()
}
