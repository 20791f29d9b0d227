//! From the file to the server.

use redis::{Cmd, cmd};

use super::{Answer, Event, PAGE_BYTES, PAGE_KEYS, Position, Report, Transfer};
use crate::{Db, KeyType, Result, ScanOptions, Value};

/// Most fields of one HSET.
const FIELDS: usize = 512;

/// Copies the keys of a file to a server, and compares both; see the [module](crate::transfer).
///
/// Calls `tell` for each page, with the [`Position`] from which to resume after a failure, and for
/// each key that is refused. With such a position, keys before it are not sent again, unless the
/// server was restarted since.
///
/// The [module](crate::transfer) has an example.
///
/// # Errors
///
/// [`Error::Remote`](crate::Error::Remote) if the server cannot be reached, or reports that nothing
/// more will succeed (it is full, read-only or loading); and those of [`Db::get`].
pub fn push(
    db: &Db,
    url: &str,
    from: Option<&Position>,
    mut tell: impl FnMut(Event<'_>),
) -> Result<Report> {
    let mut transfer = Transfer::begin(db, url, &mut tell)?;
    transfer.push(from)?;
    transfer.verify_file()?;
    Ok(transfer.report)
}

/// A key's requests; they stand together in a page.
struct Parcel {
    key: Value,
    commands: Vec<Cmd>,
    bytes: usize,
    has_field_deadlines: bool,
    /// Whether it may be refused when a part of it is there already.
    is_in_parts: bool,
}

impl Transfer<'_> {
    fn push(&mut self, from: Option<&Position>) -> Result<()> {
        let run = self.run_id()?;
        let from = self.begin_at(from, &run);
        let mut total = 0;
        for database in self.databases() {
            total += self.db.database(database)?.len()?;
        }
        self.report.moved_count = from.done;
        for database in self.databases() {
            if database < from.database {
                continue;
            }
            let db = self.db.database(database)?;
            if db.is_empty()? {
                continue;
            }
            let is_there = self.select(database)?;
            let mut cursor = match database == from.database {
                true => from.cursor,
                false => 0,
            };
            loop {
                let page = db.scan(cursor, &ScanOptions::new().count(PAGE_KEYS))?;
                match is_there {
                    true => self.push_page(&db, page.keys)?,
                    false => page.keys.iter().for_each(|key| {
                        self.refuse(database, key, "the server has no such database");
                    }),
                }
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
                self.moved(&run, database, cursor, total);
            }
            self.moved(&run, database.saturating_add(1), 0, total);
        }
        Ok(())
    }

    fn moved(&mut self, run: &str, database: u8, cursor: u64, total: u64) {
        let done = self.report.moved_count;
        let position = Position {
            database,
            cursor,
            done,
            node: 0,
            run: run.to_owned(),
        };
        (self.tell)(Event::Moved {
            done,
            total: total.max(done),
            position: &position,
        });
    }

    fn push_page(&mut self, db: &Db, keys: Vec<Value>) -> Result<()> {
        let mut parcels = Vec::new();
        let mut bytes = 0;
        for key in keys {
            // Gone since it was listed.
            let Some(parcel) = pack(db, key)? else {
                continue;
            };
            if parcel.has_field_deadlines && !self.knows_field_deadlines()? {
                let reason = "the server does not support deadlines of fields";
                self.refuse(db.database_number(), &parcel.key, reason);
                continue;
            }
            bytes += parcel.bytes;
            parcels.push(parcel);
            if bytes > PAGE_BYTES {
                self.send(db.database_number(), std::mem::take(&mut parcels))?;
                bytes = 0;
            }
        }
        self.send(db.database_number(), parcels)
    }

    /// Whether the server knows deadlines of fields: asked before something with one is sent, since it takes the place of what is there.
    fn knows_field_deadlines(&mut self) -> Result<bool> {
        if let Some(knows) = self.knows_field_deadlines {
            return Ok(knows);
        }
        let mut ask = cmd("HPEXPIRETIME");
        ask.arg("").arg("FIELDS").arg(1).arg("");
        let knows = self.ask(&[ask])?.iter().all(Answer::is_ok);
        self.knows_field_deadlines = Some(knows);
        Ok(knows)
    }

    fn send(&mut self, database: u8, mut parcels: Vec<Parcel>) -> Result<()> {
        let mut commands = Vec::new();
        let lengths: Vec<usize> = parcels
            .iter_mut()
            .map(|parcel| {
                commands.append(&mut parcel.commands);
                commands.len()
            })
            .collect();
        let answers = self.ask(&commands)?;
        let mut begin = 0;
        for (parcel, end) in parcels.iter().zip(lengths) {
            let refused = answers[begin..end]
                .iter()
                .find_map(|answer| answer.as_ref().err());
            begin = end;
            match refused {
                None => self.report.moved_count = self.report.moved_count.saturating_add(1),
                Some(reason) => {
                    if parcel.is_in_parts {
                        // Half of it would live for too long, or say too little.
                        self.ask(&[cmd("DEL").arg(&parcel.key[..]).clone()])?;
                    }
                    self.refuse(database, &parcel.key, reason);
                }
            }
        }
        Ok(())
    }
}

/// What sets a key to what the file has, and its deadline.
fn pack(db: &Db, key: Value) -> Result<Option<Parcel>> {
    let (deadline_ms, key_type) = (db.deadline_ms(&key)?, db.key_type(&key)?);
    let mut commands = Vec::new();
    let mut bytes = key.len();
    let mut has_field_deadlines = false;
    match key_type {
        Some(KeyType::String) => {
            let Some(value) = db.get(&key)? else {
                return Ok(None);
            };
            bytes += value.len();
            let mut set = cmd("SET");
            set.arg(&key[..]).arg(&value[..]);
            if let Some(deadline_ms) = deadline_ms {
                set.arg("PXAT").arg(deadline_ms);
            }
            commands.push(set);
        }
        Some(KeyType::Hash) => {
            let fields = db.hgetall(&key)?;
            let names: Vec<&Value> = fields.iter().map(|(field, _)| field).collect();
            let deadlines = db.hdeadlines_ms(&key, &names)?;
            commands.push(cmd("DEL").arg(&key[..]).clone());
            for some in fields.chunks(FIELDS) {
                let mut set = cmd("HSET");
                set.arg(&key[..]);
                for (field, value) in some {
                    bytes += field.len() + value.len();
                    set.arg(&field[..]).arg(&value[..]);
                }
                commands.push(set);
            }
            for (field, deadline_ms) in names.iter().zip(deadlines) {
                if let Some(deadline_ms) = deadline_ms {
                    has_field_deadlines = true;
                    let mut expire = cmd("HPEXPIREAT");
                    expire.arg(&key[..]).arg(deadline_ms);
                    expire.arg("FIELDS").arg(1).arg(&field[..]);
                    commands.push(expire);
                }
            }
            if let Some(deadline_ms) = deadline_ms {
                commands.push(cmd("PEXPIREAT").arg(&key[..]).arg(deadline_ms).clone());
            }
        }
        _ => return Ok(None),
    }
    Ok(Some(Parcel {
        key,
        is_in_parts: commands.len() > 1,
        commands,
        bytes,
        has_field_deadlines,
    }))
}
