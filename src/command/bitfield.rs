//! Strings as rows of integers of any width: BITFIELD.

use super::arguments::{integer, is};
use super::bits::{bit_offset, rewrite};
use super::error::Failure;
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::limits::MAX_VALUE_BYTES;

pub(super) static COMMANDS: &[Command] = &[
    Command::new(Group::Bitmap, "bitfield", -2, |session, arguments| {
        bitfield(session, arguments, Access::Write)
    })
    .flags(Flags::WRITE.and(Flags::DENYOOM))
    .keys(KeyPositions::FIRST)
    .help(
        "key [GET encoding offset | [OVERFLOW WRAP | SAT | FAIL] SET encoding offset value | \
         INCRBY encoding offset increment ...]",
        "Gets, sets and increments integers of any width within a string",
    ),
    Command::new(Group::Bitmap, "bitfield_ro", -2, |session, arguments| {
        bitfield(session, arguments, Access::Read)
    })
    .flags(Flags::READONLY.and(Flags::FAST))
    .keys(KeyPositions::FIRST)
    .help(
        "key [GET encoding offset ...]",
        "Returns integers of any width within a string",
    ),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Access {
    Read,
    Write,
}

/// An integer of some width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding {
    is_signed: bool,
    bits: u32,
}

/// What is done where a sum does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Debug, Clone, Copy)]
enum Operation {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

#[derive(Debug, Clone, Copy)]
struct Step {
    operation: Operation,
    encoding: Encoding,
    offset: usize,
}

impl Encoding {
    fn read(word: &[u8]) -> Result<Encoding, Failure> {
        const WRONG: Failure = Failure::text(
            "Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (is_signed, bits) = match word {
            [b'i', bits @ ..] => (true, bits),
            [b'u', bits @ ..] => (false, bits),
            _ => return Err(WRONG),
        };
        let most = if is_signed { 64 } else { 63 };
        let bits = integer(bits).map_err(|_| WRONG)?;
        u32::try_from(bits)
            .ok()
            .filter(|bits| (1..=most).contains(bits))
            .map(|bits| Encoding { is_signed, bits })
            .ok_or(WRONG)
    }

    fn range(self) -> (i128, i128) {
        match self.is_signed {
            true => (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1),
            false => (0, (1 << self.bits) - 1),
        }
    }

    /// The number that these bits stand for.
    fn number(self, bits: u64) -> i64 {
        let unused = 64 - self.bits;
        match self.is_signed {
            true => (bits << unused).cast_signed() >> unused,
            false => bits.cast_signed(),
        }
    }

    /// What is kept of a number, and whether it fits; `None` where it is not to be kept.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = self.range();
        if (least..=most).contains(&number) {
            return i64::try_from(number).ok();
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => i64::try_from(number.clamp(least, most)).ok(),
            Overflow::Wrap => {
                let width = 1_i128 << self.bits;
                let bits = u64::try_from(number.rem_euclid(width)).ok()?;
                Some(self.number(bits))
            }
        }
    }
}

/// An offset in bits, or, behind `#`, in integers of this width.
fn read_offset(word: &[u8], encoding: Encoding) -> Result<usize, Failure> {
    const WRONG: Failure = Failure::text("bit offset is not an integer or out of range");
    let offset = match word {
        [b'#', count @ ..] => {
            let count = integer(count).map_err(|_| WRONG)?;
            let count = usize::try_from(count).map_err(|_| WRONG)?;
            count.checked_mul(encoding.bits as usize).ok_or(WRONG)?
        }
        word => return bit_offset(word),
    };
    match offset / 8 < MAX_VALUE_BYTES {
        true => Ok(offset),
        false => Err(WRONG),
    }
}

fn read_steps(words: &[&[u8]], access: Access) -> Result<Vec<Step>, Failure> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    let mut has_change = false;
    let mut words = words.iter();
    while let Some(name) = words.next() {
        if is(name, "OVERFLOW") {
            overflow = match words.next().ok_or(Failure::SYNTAX)? {
                word if is(word, "WRAP") => Overflow::Wrap,
                word if is(word, "SAT") => Overflow::Saturate,
                word if is(word, "FAIL") => Overflow::Fail,
                _ => return Err(Failure::text("Invalid OVERFLOW type specified")),
            };
            continue;
        }
        let is_get = is(name, "GET");
        let changes = is(name, "SET") || is(name, "INCRBY");
        let needed = if is_get { 2 } else { 3 };
        if !(is_get || changes) || words.len() < needed {
            return Err(Failure::SYNTAX);
        }
        let mut next = || words.next().copied().unwrap_or_default();
        let encoding = Encoding::read(next())?;
        let offset = read_offset(next(), encoding)?;
        let operation = if is_get {
            Operation::Get
        } else {
            let number = integer(next())?;
            match is(name, "SET") {
                true => Operation::Set(number, overflow),
                false => Operation::Add(number, overflow),
            }
        };
        has_change |= !is_get;
        steps.push(Step {
            operation,
            encoding,
            offset,
        });
    }
    // All of it is read first, as in Redis.
    if has_change && access == Access::Read {
        return Err(Failure::text(
            "BITFIELD_RO only supports the GET subcommand",
        ));
    }
    Ok(steps)
}

fn bitfield(session: &mut Session, arguments: &[&[u8]], access: Access) -> Result<Reply, Failure> {
    let [key, words @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let steps = read_steps(words, access)?;
    let only_reads = steps
        .iter()
        .all(|step| matches!(step.operation, Operation::Get));
    if only_reads {
        let value = session.db().get(key)?;
        let bytes: &[u8] = value.as_deref().unwrap_or_default();
        let numbers = steps.iter().map(|step| step.get(bytes));
        return Ok(Reply::Array(numbers.map(Reply::Integer).collect()));
    }
    let replies = rewrite(session, key, |bytes| {
        let mut replies = Vec::with_capacity(steps.len());
        for step in &steps {
            replies.push(step.carry_out(bytes).map_or(Reply::Nil, Reply::Integer));
        }
        replies
    })?;
    Ok(Reply::Array(replies))
}

impl Step {
    fn get(self, bytes: &[u8]) -> i64 {
        let mut bits = 0;
        for at in self.offset..self.offset + self.encoding.bits as usize {
            let byte = bytes.get(at / 8).copied().unwrap_or(0);
            bits = bits << 1 | u64::from(byte >> (7 - at % 8) & 1);
        }
        self.encoding.number(bits)
    }

    fn put(self, bytes: &mut [u8], number: i64) {
        let count = self.encoding.bits as usize;
        for (index, at) in (self.offset..self.offset + count).enumerate() {
            let mask = 0x80 >> (at % 8);
            let is_set = number.cast_unsigned() >> (count - 1 - index) & 1 == 1;
            let byte = &mut bytes[at / 8];
            *byte = if is_set { *byte | mask } else { *byte & !mask };
        }
    }

    /// What is answered; `None` where an overflow kept it from being done.
    fn carry_out(self, bytes: &mut Vec<u8>) -> Option<i64> {
        let old = self.get(bytes);
        let (number, is_set) = match self.operation {
            Operation::Get => return Some(old),
            Operation::Set(number, overflow) => {
                // To an unsigned one a negative number is a large one.
                let number = match self.encoding.is_signed {
                    true => i128::from(number),
                    false => i128::from(number.cast_unsigned()),
                };
                (self.encoding.fit(number, overflow), true)
            }
            Operation::Add(increment, overflow) => {
                let sum = i128::from(old) + i128::from(increment);
                (self.encoding.fit(sum, overflow), false)
            }
        };
        // Redis makes the string longer even where nothing is written.
        let needed = (self.offset + self.encoding.bits as usize).div_ceil(8);
        if bytes.len() < needed {
            bytes.resize(needed, 0);
        }
        let number = number?;
        self.put(bytes, number);
        Some(if is_set { old } else { number })
    }
}
