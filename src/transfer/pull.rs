//! From the server to the file.

use redis::{Cmd, cmd};

use super::{Answer, Event, PAGE_BYTES, PAGE_KEYS, Position, Report, Transfer, read};
use crate::remote::Node;
use crate::{Db, Error, ExpireCondition, Result, SetOptions};

/// How many keys' values are asked for at a time: each may be large.
const VALUES: usize = 32;

/// Copies the keys of a server into a file, and compares both; see the [module](crate::transfer).
///
/// Keys of types that a file cannot store are reported and left out. `tell` and `from` are as for
/// [`push`](super::push).
///
/// The [module](crate::transfer) has an example.
///
/// # Errors
///
/// [`Error::Remote`] if the server cannot be reached, and those of every write, see [`Db::set`].
pub fn pull(
    url: &str,
    db: &Db,
    from: Option<&Position>,
    mut tell: impl FnMut(Event<'_>),
) -> Result<Report> {
    let mut transfer = Transfer::begin(db, url, &mut tell)?;
    transfer.pull(from)?;
    transfer.verify_server()?;
    db.sync()?;
    Ok(transfer.report)
}

/// A key of the server, as far as it was asked for.
struct Found {
    key: Vec<u8>,
    is_hash: bool,
    deadline_ms: Option<u64>,
}

/// What a key holds, on its way into the file.
struct Parcel {
    key: Vec<u8>,
    deadline_ms: Option<u64>,
    content: Content,
}

/// A field with its value and deadline, 0 for none.
type Field = (Vec<u8>, Vec<u8>, u64);

enum Content {
    String(Vec<u8>),
    Hash(Vec<Field>),
}

impl Transfer<'_> {
    fn pull(&mut self, from: Option<&Position>) -> Result<()> {
        let total = self.server_count()?;
        let run = self.run_id()?;
        let from = self.begin_at(from, &run);
        self.report.moved_count = from.done;
        for database in self.databases() {
            if database < from.database || !self.select(database)? {
                continue;
            }
            let begin = if database == from.database {
                from.clone()
            } else {
                Position::default()
            };
            for (number, node) in self.nodes()?.iter().enumerate().skip(begin.node) {
                let mut cursor = if number == begin.node {
                    begin.cursor
                } else {
                    0
                };
                loop {
                    let keys = self.page(node, &mut cursor)?;
                    self.pull_page(database, keys)?;
                    let position = Position {
                        database,
                        node: if cursor == 0 { number + 1 } else { number },
                        cursor,
                        done: self.report.moved_count,
                        run: run.clone(),
                    };
                    (self.tell)(Event::Moved {
                        done: position.done,
                        total: total.max(position.done),
                        position: &position,
                    });
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn nodes(&mut self) -> Result<Vec<Node>> {
        let nodes = self.link.nodes();
        nodes.map_err(|error| self.server.error("look at", &error))
    }

    /// The next page of a node's keys, each once.
    pub(super) fn page(&mut self, node: &Node, cursor: &mut u64) -> Result<Vec<Vec<u8>>> {
        let page = self.link.scan(node, *cursor, None, PAGE_KEYS);
        let page = page.map_err(|error| self.server.error("look at", &error))?;
        *cursor = page.cursor;
        let mut keys = page.keys;
        keys.sort_unstable();
        keys.dedup();
        Ok(keys)
    }

    /// About how many keys the server has in the databases that are moved.
    pub(super) fn server_count(&mut self) -> Result<u64> {
        let mut total = 0;
        for database in self.databases() {
            if self.select(database)? {
                let count = self.link.query::<u64>(&cmd("DBSIZE"));
                total += count.map_err(|error| self.server.error("look at", &error))?;
            }
        }
        Ok(total)
    }

    /// What tells one run of a server from another: its run id; of a cluster those of its nodes, in their order.
    pub(super) fn run_id(&mut self) -> Result<String> {
        let mut ids = Vec::new();
        for node in self.nodes()? {
            let info = self
                .link
                .query_at::<String>(&node, cmd("INFO").arg("server"));
            let info = info.map_err(|error| self.server.error("look at", &error))?;
            let line = info.lines().find_map(|line| line.strip_prefix("run_id:"));
            ids.push(line.unwrap_or("-").trim().to_owned());
        }
        Ok(ids.join(","))
    }

    fn pull_page(&mut self, database: u8, keys: Vec<Vec<u8>>) -> Result<()> {
        let found = self.kinds(database, keys)?;
        let db = self.db.database(database)?;
        let mut parcels = Vec::new();
        let mut bytes = 0;
        for some in found.chunks(VALUES) {
            for parcel in self.contents(database, some)? {
                bytes += parcel.bytes();
                parcels.push(parcel);
            }
            if bytes > PAGE_BYTES {
                self.write(&db, std::mem::take(&mut parcels))?;
                bytes = 0;
            }
        }
        self.write(&db, parcels)
    }

    /// Types and deadlines; what is of a type that a file cannot hold is refused.
    fn kinds(&mut self, database: u8, keys: Vec<Vec<u8>>) -> Result<Vec<Found>> {
        let ask = |key: &Vec<u8>| [of(key, "TYPE"), of(key, "PTTL")];
        let commands: Vec<Cmd> = keys.iter().flat_map(ask).collect();
        let now_ms = self.db.now_ms();
        let mut answers = self.ask(&commands)?.into_iter();
        let mut found = Vec::new();
        for key in keys {
            let (Some(Ok(kind)), Some(Ok(left))) = (answers.next(), answers.next()) else {
                self.refuse(database, &key, "the server did not return its type");
                continue;
            };
            let kind: String = read(&self.server, kind)?;
            let left: i64 = read(&self.server, left)?;
            match kind.as_str() {
                "string" | "hash" => found.push(Found {
                    key,
                    is_hash: kind == "hash",
                    deadline_ms: u64::try_from(left)
                        .ok()
                        .map(|left| now_ms.saturating_add(left)),
                }),
                // Gone since it was listed.
                "none" => {}
                kind => {
                    let reason = format!("a file holds strings and hashes, but this is a {kind}");
                    self.refuse(database, &key, &reason);
                }
            }
        }
        Ok(found)
    }

    fn contents(&mut self, database: u8, found: &[Found]) -> Result<Vec<Parcel>> {
        let ask = |found: &Found| match found.is_hash {
            true => [of(&found.key, "HGETALL"), of(&found.key, "PEXPIRETIME")],
            false => [of(&found.key, "GET"), of(&found.key, "PEXPIRETIME")],
        };
        let commands: Vec<Cmd> = found.iter().flat_map(ask).collect();
        let mut answers = self.ask(&commands)?.into_iter();
        let mut parcels = Vec::new();
        for found in found {
            let (Some(value), Some(deadline)) = (answers.next(), answers.next()) else {
                break;
            };
            let content = match value {
                Ok(redis::Value::Nil) => continue,
                Ok(value) if found.is_hash => Content::Hash(self.fields(&found.key, value)?),
                Ok(value) => Content::String(read(&self.server, value)?),
                Err(reason) => {
                    self.refuse(database, &found.key, &reason);
                    continue;
                }
            };
            if matches!(&content, Content::Hash(fields) if fields.is_empty()) {
                continue;
            }
            parcels.push(Parcel {
                key: found.key.clone(),
                // Exact from 7.0 on; before that as near as two clocks are.
                deadline_ms: match exact(deadline) {
                    Some(deadline_ms) => u64::try_from(deadline_ms).ok(),
                    None => found.deadline_ms,
                },
                content,
            });
        }
        Ok(parcels)
    }

    fn fields(&mut self, key: &[u8], value: redis::Value) -> Result<Vec<Field>> {
        let fields: Vec<(Vec<u8>, Vec<u8>)> = read(&self.server, value)?;
        if fields.is_empty() {
            return Ok(Vec::new());
        }
        let mut ask = cmd("HPEXPIRETIME");
        ask.arg(key).arg("FIELDS").arg(fields.len());
        for (field, _) in &fields {
            ask.arg(&field[..]);
        }
        let answer = self.ask(&[ask])?.pop();
        let deadlines: Vec<i64> = match answer {
            Some(Ok(answer)) => read(&self.server, answer)?,
            // A server that does not know the verb has no deadlines of fields.
            _ => Vec::new(),
        };
        let deadlines = deadlines
            .into_iter()
            .map(|ms| u64::try_from(ms).unwrap_or(0));
        let deadlines = deadlines.chain(std::iter::repeat(0));
        let fields = fields.into_iter().zip(deadlines);
        Ok(fields
            .map(|((field, value), ms)| (field, value, ms))
            .collect())
    }

    /// Writes a page in one commit; what the file refuses is told.
    fn write(&mut self, db: &Db, parcels: Vec<Parcel>) -> Result<()> {
        let written = db.transaction(|tx| {
            let write = |parcel: &Parcel| match tx.transaction(|tx| parcel.write(tx)) {
                // The others are written all the same.
                Err(error @ (Error::TooLarge { .. } | Error::DeadlineOutOfRange)) => {
                    Ok(Some(error.to_string()))
                }
                written => written.map(|()| None),
            };
            parcels.iter().map(write).collect::<Result<Vec<_>>>()
        })?;
        for (parcel, refused) in parcels.iter().zip(written) {
            match refused {
                None => self.report.moved_count = self.report.moved_count.saturating_add(1),
                Some(reason) => self.refuse(db.database_number(), &parcel.key, &reason),
            }
        }
        Ok(())
    }
}

impl Parcel {
    fn bytes(&self) -> usize {
        self.key.len()
            + match &self.content {
                Content::String(value) => value.len(),
                Content::Hash(fields) => fields
                    .iter()
                    .map(|(field, value, _)| field.len() + value.len())
                    .sum(),
            }
    }

    fn write(&self, tx: &Db) -> Result<()> {
        match &self.content {
            Content::String(value) => {
                let options = match self.deadline_ms {
                    Some(deadline_ms) => SetOptions::new().deadline_ms(deadline_ms),
                    None => SetOptions::new(),
                };
                tx.set_with(&self.key, value, options)?;
            }
            Content::Hash(fields) => {
                tx.del(&self.key)?;
                let values: Vec<(&[u8], &[u8])> = fields
                    .iter()
                    .map(|(field, value, _)| (&field[..], &value[..]))
                    .collect();
                tx.hset_many(&self.key, &values)?;
                for (field, _, deadline_ms) in fields.iter().filter(|(_, _, ms)| *ms != 0) {
                    tx.hexpire_at_if(&self.key, &[field], *deadline_ms, ExpireCondition::Always)?;
                }
                if let Some(deadline_ms) = self.deadline_ms {
                    tx.expire_at(&self.key, deadline_ms)?;
                }
            }
        }
        Ok(())
    }
}

/// A request about one key.
pub(super) fn of(key: &[u8], verb: &str) -> Cmd {
    let mut command = cmd(verb);
    command.arg(key);
    command
}

/// What PEXPIRETIME answers, where the server knows it: -1 for none, -2 for no such key.
pub(super) fn exact(answer: Answer) -> Option<i64> {
    redis::from_redis_value(answer.ok()?).ok()
}
