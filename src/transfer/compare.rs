//! Whether both sides hold the same.

use std::fmt;

use redis::Cmd;

use super::pull::{exact, of};
use super::{Event, PAGE_KEYS, Transfer, fingerprint, read};
use crate::{Db, KeyType, Result, ScanOptions};

/// What a key holds, as far as it is compared.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    kind: &'static str,
    /// Bytes of a string, fields of a hash.
    len: u64,
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            "hash" => write!(f, "a hash of {} fields", self.len),
            "string" => write!(f, "a string of {} bytes", self.len),
            kind => f.write_str(kind),
        }
    }
}

impl Transfer<'_> {
    /// Compares every key of the file with the server's.
    pub(super) fn verify_file(&mut self) -> Result<()> {
        let mut done = 0;
        for database in self.databases() {
            let db = self.db.database(database)?;
            if db.is_empty()? || !self.select(database)? {
                continue;
            }
            let mut cursor = 0;
            loop {
                let page = db.scan(cursor, &ScanOptions::new().count(PAGE_KEYS))?;
                let keys: Vec<&[u8]> = page.keys.iter().map(|key| &key[..]).collect();
                self.compare(&db, &keys)?;
                done += page.keys.len() as u64;
                self.verified(done);
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Compares every key of the server with the file's.
    pub(super) fn verify_server(&mut self) -> Result<()> {
        let mut done = 0;
        for database in self.databases() {
            if !self.select(database)? {
                continue;
            }
            let db = self.db.database(database)?;
            for node in self.nodes()? {
                let mut cursor = 0;
                loop {
                    let keys = self.page(&node, &mut cursor)?;
                    let keys: Vec<&[u8]> = keys.iter().map(Vec::as_slice).collect();
                    self.compare(&db, &keys)?;
                    done += keys.len() as u64;
                    self.verified(done);
                    if cursor == 0 {
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    fn verified(&mut self, done: u64) {
        let moved = self.report.moved_count;
        let total = moved.saturating_add(self.report.refused_count);
        (self.tell)(Event::Verified {
            done,
            total: total.max(done),
        });
    }

    fn compare(&mut self, db: &Db, keys: &[&[u8]]) -> Result<()> {
        let ask = |key: &&[u8]| {
            let verbs = ["TYPE", "STRLEN", "HLEN", "PEXPIRETIME"];
            verbs.map(|verb| of(key, verb))
        };
        let commands: Vec<Cmd> = keys.iter().flat_map(ask).collect();
        let mut answers = self.ask(&commands)?.into_iter();
        for key in keys {
            let mut next = || {
                answers
                    .next()
                    .unwrap_or_else(|| Err("no answer".to_owned()))
            };
            let (kind, strlen, hlen, deadline) = (next(), next(), next(), next());
            let database = db.database_number();
            if self.refused.contains(&fingerprint(database, key)) {
                continue;
            }
            let kind = match kind {
                Ok(kind) => read::<String>(&self.server, kind)?,
                Err(reason) => reason,
            };
            let (theirs, len) = match kind.as_str() {
                "string" => ("string", strlen),
                "hash" => ("hash", hlen),
                _ => ("nothing", Ok(redis::Value::Int(0))),
            };
            let len = match len {
                Ok(len) => read(&self.server, len)?,
                Err(_) => u64::MAX,
            };
            let theirs = Shape { kind: theirs, len };
            let (ours, our_deadline_ms) = (shape(db, key)?, db.deadline_ms(key)?);
            if ours.kind == "nothing" && theirs.kind == "nothing" {
                // Its time is up, on both sides.
                continue;
            }
            // A server before 7.0 cannot say.
            let deadline = exact(deadline).filter(|deadline| *deadline != -2);
            let same_deadline =
                deadline.is_none_or(|deadline| u64::try_from(deadline).ok() == our_deadline_ms);
            if ours == theirs && same_deadline {
                self.report.verified_count += 1;
                continue;
            }
            self.report.differing_count += 1;
            let reason = match ours == theirs {
                true => format!(
                    "the file has the deadline {our_deadline_ms:?}, the server has {deadline:?}"
                ),
                false => format!("the file has {ours}, the server has {theirs}"),
            };
            (self.tell)(Event::Differs {
                database,
                key,
                reason: &reason,
            });
        }
        Ok(())
    }
}

/// What the file holds for a key.
fn shape(db: &Db, key: &[u8]) -> Result<Shape> {
    Ok(match db.key_type(key)? {
        Some(KeyType::String) => Shape {
            kind: "string",
            len: db.strlen(key)?,
        },
        Some(KeyType::Hash) => Shape {
            kind: "hash",
            len: db.hlen(key)?,
        },
        _ => Shape {
            kind: "nothing",
            len: 0,
        },
    })
}
