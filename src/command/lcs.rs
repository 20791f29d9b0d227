//! LCS: the longest sequence of bytes that two strings have in common.
//!
//! The table of lengths is kept as bits, by the algorithm of Hyyrö (2004): a row says at which bytes of the longer string the length
//! grows. So it takes a 32nd of the memory of a table of numbers and 64 of its cells are computed at once. The path back through it is
//! the one that Redis takes, since the matches are part of the reply.

use std::borrow::Cow;

use super::arguments::{integer, is};
use super::error::Failure;
use super::{Reply, Session};
use crate::limits::MAX_VALUE_BYTES;
use crate::{Error, Value};

/// Cells of the table, at most: what Redis can hold in memory of `proto-max-bulk-len`, at four bytes a cell.
const MAX_CELLS: usize = MAX_VALUE_BYTES / 4;

/// What LCS is asked for.
#[derive(Debug, Default)]
struct Words {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

impl Words {
    fn read(options: &[&[u8]]) -> Result<Words, Failure> {
        let mut words = Words::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "LEN") {
                words.len = true;
            } else if is(option, "IDX") {
                words.idx = true;
            } else if is(option, "WITHMATCHLEN") {
                words.with_match_len = true;
            } else if is(option, "MINMATCHLEN") {
                let least = integer(options.next().ok_or(Failure::SYNTAX)?)?;
                words.min_match_len = usize::try_from(least).unwrap_or(0);
            } else {
                return Err(Failure::SYNTAX);
            }
        }
        if words.len && words.idx {
            return Err(Failure::text(
                "If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(words)
    }
}

pub(super) fn lcs(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [one, other, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let string = |key: &[u8]| match session.db().get(key) {
        Err(Error::WrongType) => Err(Failure::text(
            "The specified keys must contain string values",
        )),
        found => Ok(found?),
    };
    let (one, other) = (string(one)?, string(other)?);
    let words = Words::read(options)?;
    let bytes = |value: Option<Value>| value.unwrap_or_else(|| Value::owned(b""));
    let (one, other) = (bytes(one), bytes(other));
    check_size(one.len(), other.len())?;
    let table = Table::new(&one, &other, !words.len);
    if words.len {
        return Ok(Reply::count(table.len as u64));
    }
    let (common, matches) = table.trace();
    if !words.idx {
        return Ok(Reply::bulk(common));
    }
    let matches = matches
        .into_iter()
        .filter(|found| found.len >= words.min_match_len)
        .map(|found| found.reply(words.with_match_len));
    Ok(Reply::Map(vec![
        (Reply::bulk("matches"), Reply::Array(matches.collect())),
        (Reply::bulk("len"), Reply::count(table.len as u64)),
    ]))
}

/// Refuses what Redis refuses; time and memory grow with the product of the lengths.
fn check_size(one: usize, other: usize) -> Result<(), Failure> {
    let cells = (one + 1).checked_mul(other + 1);
    match cells.is_some_and(|cells| cells <= MAX_CELLS) {
        true => Ok(()),
        false => Err(Failure::Text(Cow::Borrowed(
            b"Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ))),
    }
}

/// A run of bytes that are the same in both strings.
#[derive(Debug, Clone, Copy)]
struct Match {
    one: usize,
    other: usize,
    len: usize,
}

impl Match {
    fn reply(self, with_len: bool) -> Reply {
        let range = |start: usize| {
            let end = start + self.len - 1;
            Reply::Array(vec![Reply::count(start as u64), Reply::count(end as u64)])
        };
        let mut parts = vec![range(self.one), range(self.other)];
        if with_len {
            parts.push(Reply::count(self.len as u64));
        }
        Reply::Array(parts)
    }
}

/// The lengths of the longest common sequences of all beginnings of two strings.
///
/// Row `r` is about the first `r` bytes of the shorter string. Bit `k - 1` of it is set where one byte more of the longer string, `k` in
/// place of `k - 1`, makes the length greater by one: so the length is the number of the bits below.
struct Table<'a> {
    short: &'a [u8],
    long: &'a [u8],
    /// Whether the shorter string is the first one.
    is_short_first: bool,
    /// 64-bit words of a row.
    width: usize,
    /// Rows 1 and on; the last one alone where there is no way back to be found.
    rows: Vec<u64>,
    len: usize,
}

impl<'a> Table<'a> {
    fn new(one: &'a [u8], other: &'a [u8], keeps_rows: bool) -> Table<'a> {
        let is_short_first = one.len() <= other.len();
        let (short, long) = match is_short_first {
            true => (one, other),
            false => (other, one),
        };
        let width = long.len().div_ceil(64);
        let positions = Positions::new(short, long, width);
        let mut rows = Vec::new();
        // All bits are the complement of a row's, as the algorithm has them.
        let mut current = vec![u64::MAX; width];
        for byte in short {
            let mut carry = false;
            for (word, equal) in current.iter_mut().zip(positions.of(*byte)) {
                let common = *word & equal;
                let (sum, first) = word.overflowing_add(common);
                let (sum, second) = sum.overflowing_add(u64::from(carry));
                carry = first || second;
                *word = sum | (*word & !equal);
            }
            if keeps_rows {
                rows.extend(current.iter().map(|word| !word));
            }
        }
        let last: Vec<u64> = current.iter().map(|word| !word).collect();
        let len = count_bits(&last, long.len());
        Table {
            short,
            long,
            is_short_first,
            width,
            rows,
            len,
        }
    }

    /// The bits of a row; row 0 has none.
    fn row(&self, number: usize) -> &[u64] {
        let end = number * self.width;
        let start = end.saturating_sub(self.width);
        self.rows.get(start..end).unwrap_or_default()
    }

    /// The common sequence, and its runs from the last to the first, as Redis finds them.
    fn trace(&self) -> (Vec<u8>, Vec<Match>) {
        let (mut r, mut k) = (self.short.len(), self.long.len());
        // The lengths at (r, k) and (r - 1, k).
        let (mut here, mut above) = (self.len, count_bits(self.row(r.saturating_sub(1)), k));
        let mut common = Vec::with_capacity(self.len);
        let mut matches: Vec<Match> = Vec::new();
        while r > 0 && k > 0 {
            let is_match = self.short[r - 1] == self.long[k - 1];
            // The length at (r, k - 1).
            let left = here - usize::from(has_bit(self.row(r), k - 1));
            // Redis goes back in the first string where that leaves the greater length, else in the second.
            let goes_up = match self.is_short_first {
                true => above > left,
                false => above >= left,
            };
            if is_match {
                common.push(self.short[r - 1]);
                self.note_match(&mut matches, r, k);
            }
            if is_match || !goes_up {
                above -= usize::from(has_bit(self.row(r - 1), k - 1));
                here = left;
                k -= 1;
            }
            if is_match || goes_up {
                here = above;
                r -= 1;
                above = count_bits(self.row(r.saturating_sub(1)), k);
            }
        }
        common.reverse();
        (common, matches)
    }

    /// Makes the run longer that begins behind (r, k), or begins one.
    fn note_match(&self, matches: &mut Vec<Match>, r: usize, k: usize) {
        let (one, other) = match self.is_short_first {
            true => (r, k),
            false => (k, r),
        };
        match matches.last_mut() {
            Some(last) if (last.one, last.other) == (one, other) => {
                (last.one, last.other) = (one - 1, other - 1);
                last.len += 1;
            }
            _ => matches.push(Match {
                one: one - 1,
                other: other - 1,
                len: 1,
            }),
        }
    }
}

fn has_bit(row: &[u64], bit: usize) -> bool {
    row.get(bit / 64)
        .is_some_and(|word| word >> (bit % 64) & 1 == 1)
}

/// How many of the first bits of a row are set.
fn count_bits(row: &[u64], bits: usize) -> usize {
    let whole = row.iter().take(bits / 64);
    let whole: usize = whole.map(|word| word.count_ones() as usize).sum();
    let rest = row.get(bits / 64).copied().unwrap_or(0) & ((1 << (bits % 64)) - 1);
    whole + rest.count_ones() as usize
}

/// For each byte of the shorter string, where the longer one has it.
struct Positions {
    width: usize,
    /// Which of the sets is that of a byte.
    set_of: [Option<usize>; 256],
    words: Vec<u64>,
}

impl Positions {
    fn new(short: &[u8], long: &[u8], width: usize) -> Positions {
        let mut set_of = [None; 256];
        let mut count = 0;
        for byte in short {
            let set = &mut set_of[usize::from(*byte)];
            if set.is_none() {
                *set = Some(count);
                count += 1;
            }
        }
        let mut words = vec![0; count * width];
        for (at, byte) in long.iter().enumerate() {
            if let Some(set) = set_of[usize::from(*byte)] {
                words[set * width + at / 64] |= 1 << (at % 64);
            }
        }
        Positions {
            width,
            set_of,
            words,
        }
    }

    fn of(&self, byte: u8) -> &[u64] {
        let start = self.set_of[usize::from(byte)].unwrap_or(0) * self.width;
        self.words
            .get(start..start + self.width)
            .unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Table;

    /// The length, the sequence and the runs by the table of numbers, as Redis has them.
    type Found = (usize, Vec<u8>, Vec<(usize, usize, usize)>);

    fn by_numbers(one: &[u8], other: &[u8]) -> Found {
        let mut lengths = vec![vec![0; other.len() + 1]; one.len() + 1];
        for (i, a) in (1..).zip(one) {
            for (j, b) in (1..).zip(other) {
                lengths[i][j] = match a == b {
                    true => lengths[i - 1][j - 1] + 1,
                    false => lengths[i - 1][j].max(lengths[i][j - 1]),
                };
            }
        }
        let (mut i, mut j) = (one.len(), other.len());
        let mut common = Vec::new();
        let mut runs: Vec<(usize, usize, usize)> = Vec::new();
        while i > 0 && j > 0 {
            if one[i - 1] == other[j - 1] {
                common.insert(0, one[i - 1]);
                match runs.last_mut() {
                    Some(last) if (last.0, last.1) == (i, j) => {
                        *last = (i - 1, j - 1, last.2 + 1);
                    }
                    _ => runs.push((i - 1, j - 1, 1)),
                }
                (i, j) = (i - 1, j - 1);
            } else if lengths[i - 1][j] > lengths[i][j - 1] {
                i -= 1;
            } else {
                j -= 1;
            }
        }
        (lengths[one.len()][other.len()], common, runs)
    }

    #[test]
    fn path_by_bits_is_the_path_by_numbers() {
        let mut seed = 7_u32;
        let mut random = |below: u32| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 8) % below
        };
        for round in 0..400 {
            let letters = 1 + round % 5;
            let mut string = |longest: u32| -> Vec<u8> {
                let len = random(longest + 1);
                let letter = |_| b'a' + u8::try_from(random(letters)).unwrap();
                (0..len).map(letter).collect()
            };
            let (one, other) = (string(150), string(150));
            let expected = by_numbers(&one, &other);
            let table = Table::new(&one, &other, true);
            let (common, matches) = table.trace();
            let runs = matches.iter().map(|run| (run.one, run.other, run.len));
            let found = (table.len, common, runs.collect());
            assert_eq!(found, expected, "round {round}: {one:?} and {other:?}");
            assert_eq!(Table::new(&one, &other, false).len, expected.0);
        }
    }

    #[test]
    fn table_takes_a_bit_a_cell() {
        let (one, other) = (vec![b'a'; 11_000], vec![b'b'; 11_000]);
        let table = Table::new(&one, &other, true);
        assert!(table.rows.len() * 8 <= 11_000 * 11_000 / 8 + 11_000 * 8);
        let short = [b'x'];
        let table = Table::new(&other, &short, true);
        assert!(table.rows.len() * 8 <= 11_000 / 8 + 8);
    }
}
