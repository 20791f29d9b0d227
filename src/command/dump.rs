//! DUMP and RESTORE: the value of a key, as bytes that can be stored elsewhere.
//!
//! The payload is brasa's own: Redis's would need all of its encodings. It ends like Redis's, with
//! a version and a checksum, so that each rejects the other's payload with the right message.
//!
//! | size | field |
//! | --- | --- |
//! | 1 | what it is: 0 a string, 1 a hash |
//! | | a string: its bytes |
//! | | a hash: for each field its deadline (8 bytes, Unix milliseconds, 0 for none), the lengths of field and value (4 bytes each), field, value |
//! | 2 | version: 0xb001 |
//! | 4 | CRC-32 of everything before it |

use super::arguments::{integer, is};
use super::error::{ErrorReply, Failure};
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::db::scattered;
use crate::{Db, ExpireCondition, KeyType, SetOptions};

const VERSION: [u8; 2] = 0xb001_u16.to_le_bytes();
const FOOTER_BYTES: usize = VERSION.len() + 4;

const STRING: u8 = 0;
const HASH: u8 = 1;

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Generic, "dump", 2, dump)
        .flags(Flags::READONLY)
        .keys(KeyPositions::FIRST)
        .help("key", "Returns the value of a key as bytes for RESTORE"),
    Command::new(Group::Generic, "restore", -4, restore)
        .flags(Flags::WRITE.and(Flags::DENYOOM))
        .keys(KeyPositions::FIRST)
        .help(
            "key ttl serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds] [FREQ frequency]",
            "Creates a key from the bytes of DUMP",
        ),
];

const WRONG_PAYLOAD: Failure = Failure::text("DUMP payload version or checksum are wrong");
const BAD_DATA: Failure = Failure::text("Bad data format");

fn dump(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    let mut payload = match session.db().key_type(key)? {
        None => return Ok(Reply::Nil),
        Some(KeyType::String) => match session.db().get(key)? {
            None => return Ok(Reply::Nil),
            Some(value) => [&[STRING][..], &value].concat(),
        },
        Some(KeyType::Hash) => dump_hash(session.db(), key)?,
    };
    payload.extend_from_slice(&VERSION);
    let checksum = crc32fast::hash(&payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    Ok(Reply::bulk(payload))
}

fn dump_hash(db: &Db, key: &[u8]) -> Result<Vec<u8>, Failure> {
    let fields = db.hgetall(key)?;
    let names: Vec<&[u8]> = fields.iter().map(|(field, _)| &**field).collect();
    let deadlines = db.hdeadlines_ms(key, &names)?;
    let mut payload = vec![HASH];
    for ((field, value), deadline_ms) in fields.iter().zip(deadlines) {
        payload.extend_from_slice(&deadline_ms.unwrap_or(0).to_le_bytes());
        for part in [field, value] {
            let len = u32::try_from(part.len()).map_err(|_| BAD_DATA)?;
            payload.extend_from_slice(&len.to_le_bytes());
        }
        payload.extend_from_slice(field);
        payload.extend_from_slice(value);
    }
    Ok(payload)
}

/// A field with its value and its deadline.
type Field<'a> = (&'a [u8], &'a [u8], u64);

enum Dumped<'a> {
    String(&'a [u8]),
    Hash(Vec<Field<'a>>),
}

fn read_payload(payload: &[u8]) -> Result<Dumped<'_>, Failure> {
    let body_len = payload.len().checked_sub(FOOTER_BYTES);
    let (body, footer) = body_len
        .and_then(|len| payload.split_at_checked(len))
        .ok_or(WRONG_PAYLOAD)?;
    let summed = &payload[..payload.len() - 4];
    let is_ours =
        footer.starts_with(&VERSION) && footer.ends_with(&crc32fast::hash(summed).to_le_bytes());
    if !is_ours {
        return Err(WRONG_PAYLOAD);
    }
    match body {
        [STRING, value @ ..] => Ok(Dumped::String(value)),
        [HASH, rest @ ..] => read_fields(rest).map(Dumped::Hash).ok_or(BAD_DATA),
        _ => Err(BAD_DATA),
    }
}

fn read_fields(mut rest: &[u8]) -> Option<Vec<Field<'_>>> {
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let (deadline_ms, behind) = rest.split_first_chunk()?;
        let (field_len, behind) = behind.split_first_chunk()?;
        let (value_len, behind) = behind.split_first_chunk()?;
        let len = |bytes: [u8; 4]| usize::try_from(u32::from_le_bytes(bytes)).ok();
        let (field, behind) = behind.split_at_checked(len(*field_len)?)?;
        let (value, behind) = behind.split_at_checked(len(*value_len)?)?;
        fields.push((field, value, u64::from_le_bytes(*deadline_ms)));
        rest = behind;
    }
    Some(fields).filter(|fields| !fields.is_empty())
}

fn restore(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, ttl, payload, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let (mut replace, mut is_absolute) = (false, false);
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if is(option, "REPLACE") {
            replace = true;
        } else if is(option, "ABSTTL") {
            is_absolute = true;
        } else if is(option, "IDLETIME") || is(option, "FREQ") {
            // What Redis evicts by; here it is not kept.
            let number = integer(options.next().ok_or(Failure::SYNTAX)?)?;
            if is(option, "IDLETIME") && number < 0 {
                return Err(Failure::text("Invalid IDLETIME value, must be >= 0"));
            }
            if is(option, "FREQ") && !(0..=255).contains(&number) {
                return Err(Failure::text("Invalid FREQ value, must be >= 0 and <= 255"));
            }
        } else {
            return Err(Failure::SYNTAX);
        }
    }
    if !replace && session.db().exists(key)? {
        return Err(Failure::Reply(ErrorReply::new(
            &b"BUSYKEY Target key name already exists."[..],
        )));
    }
    let ttl = integer(ttl)?;
    let ttl = u64::try_from(ttl).map_err(|_| Failure::text("Invalid TTL value, must be >= 0"))?;
    let dumped = read_payload(payload)?;
    session.db().transaction(|tx| -> Result<(), Failure> {
        if !replace && tx.exists(key)? {
            return Err(Failure::Reply(ErrorReply::new(
                &b"BUSYKEY Target key name already exists."[..],
            )));
        }
        let deadline_ms = match (ttl, is_absolute) {
            (0, _) => None,
            (time_ms, true) => Some(time_ms),
            (time_ms, false) => {
                let deadline_ms = tx.now_ms().checked_add(time_ms);
                Some(deadline_ms.ok_or(Failure::ExpireTime)?)
            }
        };
        tx.del(key)?;
        if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= tx.now_ms()) {
            // Setting and removing the key would notify its watchers.
            return Ok(());
        }
        match dumped {
            Dumped::String(value) => tx.set(key, value)?,
            Dumped::Hash(fields) => restore_hash(tx, key, &fields)?,
        }
        if let Some(deadline_ms) = deadline_ms {
            tx.expire_at_if(key, deadline_ms, ExpireCondition::Always)?;
        }
        Ok(())
    })?;
    Ok(Reply::OK)
}

fn restore_hash(tx: &Db, key: &[u8], fields: &[Field<'_>]) -> Result<(), Failure> {
    for (field, value, deadline_ms) in scattered(fields.len()).filter_map(|at| fields.get(at)) {
        let options = match deadline_ms {
            0 => SetOptions::new(),
            deadline_ms => SetOptions::new().deadline_ms(*deadline_ms),
        };
        tx.hset_with(key, &[(field, value)], options)?;
    }
    Ok(())
}
