//! Numbers as text: integers, and decimal fractions that are added without rounding.

use crate::error::check_length;
use crate::limits::MAX_VALUE_BYTES;
use crate::{Db, Error, Result};

/// Digits behind the point that Redis keeps: it prints sums with `%.17Lf`.
const FRACTION_DIGITS: i32 = 17;

/// One, counted in units of the last digit.
const ONE: i128 = 100_000_000_000_000_000;

/// Longer texts are no numbers to Redis 7.0 either (`MAX_LONG_DOUBLE_CHARS`).
const MAX_NUMBER_BYTES: usize = 5 * 1024;

/// Reads an integer as Redis 7.0's `string2ll` does: an optional minus, no plus, no spaces, no
/// leading zeros, no `-0`.
pub(crate) fn parse_integer(text: &[u8]) -> Option<i64> {
    let digits = text.strip_prefix(b"-").unwrap_or(text);
    let canonical = match digits {
        b"0" => digits.len() == text.len(),
        [b'1'..=b'9', rest @ ..] => rest.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if !canonical {
        return None;
    }
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A number that INCRBYFLOAT adds.
///
/// Redis adds in the 80-bit format of x87. Decimal fractions of at most 17 digits behind the point, and up to about 10^20, are added exactly
/// here, which gives the same text wherever that format does not round visibly; others are added as 64-bit floats.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Number {
    /// Counted in units of the 17th digit behind the point.
    Exact(i128),
    Float(f64),
}

impl Number {
    fn parse(text: &[u8]) -> Option<Number> {
        let text = std::str::from_utf8(text).ok()?;
        let begins_well = |byte: u8| byte.is_ascii_digit() || b"+-.iI".contains(&byte);
        if text.len() > MAX_NUMBER_BYTES || !text.bytes().next().is_some_and(begins_well) {
            return None;
        }
        let float: f64 = text.parse().ok().filter(|float: &f64| !float.is_nan())?;
        // Infinity by name is a number, and one that is merely too large is none.
        let is_named = text.bytes().any(|byte| byte.eq_ignore_ascii_case(&b'n'));
        if float.is_infinite() && !is_named {
            return None;
        }
        Some(Number::exact(text).unwrap_or(Number::Float(float)))
    }

    /// The number itself, where so many digits are enough; the text is a number.
    fn exact(text: &str) -> Option<Number> {
        let (negative, text) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let (digits, exponent) = match text.split_once(['e', 'E']) {
            Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
            None => (text, 0),
        };
        let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
        let mut units: i128 = 0;
        for byte in whole.bytes().chain(fraction.bytes()) {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit < 10)?;
            units = units.checked_mul(10)?.checked_add(i128::from(digit))?;
        }
        let fraction_digits = i32::try_from(fraction.len()).ok()?;
        let mut shift = FRACTION_DIGITS
            .checked_sub(fraction_digits)?
            .checked_add(exponent)?;
        while shift > 0 && units != 0 {
            units = units.checked_mul(10)?;
            shift -= 1;
        }
        while shift < 0 && units != 0 {
            if units % 10 != 0 {
                return None;
            }
            units /= 10;
            shift += 1;
        }
        Some(Number::Exact(if negative { -units } else { units }))
    }

    /// As a float, which may be the one next to it.
    fn float(self) -> f64 {
        match self {
            Number::Float(float) => float,
            // The text of a number is one.
            Number::Exact(_) => self.to_string().parse().unwrap_or(f64::NAN),
        }
    }

    fn plus(self, other: Number) -> Result<Number> {
        if let (Number::Exact(one), Number::Exact(other)) = (self, other)
            && let Some(sum) = one.checked_add(other)
        {
            return Ok(Number::Exact(sum));
        }
        let sum = self.float() + other.float();
        if sum.is_finite() {
            Ok(Number::Float(sum))
        } else {
            Err(Error::NotFinite)
        }
    }
}

impl std::fmt::Display for Number {
    /// As Redis prints it: no exponent, no zeros at the end.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = match *self {
            Number::Exact(units) => {
                let sign = if units < 0 { "-" } else { "" };
                let units = units.unsigned_abs();
                let one = ONE.unsigned_abs();
                format!("{sign}{}.{:017}", units / one, units % one)
            }
            Number::Float(float) => format!("{float:.17}"),
        };
        let text = text.trim_end_matches('0').trim_end_matches('.');
        f.write_str(if text == "-0" { "0" } else { text })
    }
}

/// The sum of two numbers, as text; `old` is an error where it is none.
fn sum(old: Option<&[u8]>, no_number: Error, increment: &[u8]) -> Result<String> {
    let old = match old {
        None => Number::Exact(0),
        Some(text) => Number::parse(text).ok_or(no_number)?,
    };
    let increment = Number::parse(increment).ok_or(Error::NotAFloat)?;
    let text = old.plus(increment)?.to_string();
    check_length("a value", text.len(), MAX_VALUE_BYTES)?;
    Ok(text)
}

impl Db {
    /// Adds `increment` to the number at `key`, and returns the sum. A missing key counts as 0. The
    /// deadline is kept.
    ///
    /// Decimal fractions of up to 17 digits are added exactly, as in Redis: 0.1 and 0.2 give 0.3.
    ///
    /// # Errors
    ///
    /// - [`Error::NotAFloat`] if the string, or `increment`, is no number.
    /// - [`Error::NotFinite`] if the sum is infinite.
    /// - [`Error::WrongType`] if the key holds a hash.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.set("price", "0.1")?;
    /// assert_eq!(db.incr_by_float("price", 0.2)?, 0.3);
    /// assert_eq!(db.get("price")?.unwrap(), "0.3");
    /// # Ok(())
    /// # }
    /// ```
    pub fn incr_by_float(&self, key: impl AsRef<[u8]>, increment: f64) -> Result<f64> {
        let sum = self.incr_by_number(key.as_ref(), increment.to_string().as_bytes())?;
        Ok(sum.parse().unwrap_or(f64::NAN))
    }

    /// Like [`Db::incr_by_float`], with the numbers as text.
    pub(crate) fn incr_by_number(&self, key: &[u8], increment: &[u8]) -> Result<String> {
        self.write(|tx| {
            let found = tx.string(self.database, key)?;
            let deadline_ms = found.as_ref().map_or(0, |found| found.deadline_ms);
            let old = found.as_ref().map(|found| &*found.value);
            let sum = sum(old, Error::NotAFloat, increment)?;
            tx.set(self.database, key, sum.as_bytes(), deadline_ms)?;
            Ok(sum)
        })
    }

    /// Adds `increment` to the number in a field, and keeps the deadline of the field. A missing
    /// field counts as 0. Returns the sum.
    ///
    /// # Errors
    ///
    /// - [`Error::InfiniteIncrement`] if `increment` is infinite.
    /// - [`Error::FieldNotAFloat`] if the field's value is no number, [`Error::NotAFloat`] where `increment` is none.
    /// - [`Error::NotFinite`] if the sum is infinite.
    /// - Those of [`Db::hset`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.hincr_by_float("meu_hash", "preco", 3.21)?, 3.21);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hincr_by_float(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        increment: f64,
    ) -> Result<f64> {
        let increment = increment.to_string();
        let sum = self.hincr_by_number(key.as_ref(), field.as_ref(), increment.as_bytes())?;
        Ok(sum.parse().unwrap_or(f64::NAN))
    }

    /// Like [`Db::hincr_by_float`], with the numbers as text.
    pub(crate) fn hincr_by_number(
        &self,
        key: &[u8],
        field: &[u8],
        increment: &[u8],
    ) -> Result<String> {
        // The increment is judged before the key, as in Redis.
        match Number::parse(increment) {
            None => return Err(Error::NotAFloat),
            Some(number) if number.float().is_infinite() => return Err(Error::InfiniteIncrement),
            Some(_) => {}
        }
        self.write(|tx| {
            let found = tx.field(self.database, key, field)?;
            let deadline_ms = found.as_ref().map_or(0, |found| found.deadline_ms);
            let old = found.as_ref().map(|found| &*found.value);
            let sum = sum(old, Error::FieldNotAFloat, increment)?;
            tx.hash_set(self.database, key, field, sum.as_bytes(), deadline_ms)?;
            Ok(sum)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::{Number, parse_integer};

    #[test]
    fn an_integer_is_read_as_redis_reads_it() {
        for (text, expected) in [
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("-9223372036854775809", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("+1", None),
            ("01", None),
            (" 1", None),
            ("1 ", None),
            ("1.0", None),
            ("1e3", None),
        ] {
            assert_eq!(parse_integer(text.as_bytes()), expected, "{text:?}");
        }
    }

    #[test]
    fn sums_are_printed_as_redis_prints_them() {
        for (one, other, expected) in [
            ("0.1", "0.2", "0.3"),
            ("10.5", "0.1", "10.6"),
            ("5.0e3", "2.0e2", "5200"),
            ("10.50", "-5", "5.5"),
            ("1", "-1", "0"),
            ("-1", "1.0", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("3.21", "0", "3.21"),
            ("1e17", "0.5", "100000000000000000.5"),
            ("0.00000000000000001", "0", "0.00000000000000001"),
            ("1e-20", "0", "0"),
            ("1.", ".5", "1.5"),
            ("+1", "1", "2"),
            ("1e25", "1", "10000000000000000905969664"),
        ] {
            let number = |text: &str| Number::parse(text.as_bytes()).unwrap();
            let sum = number(one).plus(number(other)).unwrap().to_string();
            assert_eq!(sum, expected, "{one} + {other}");
        }
        for text in [
            "", " 1", "1 ", "x", "1x", "nan", "NaN", "-", ".", "e5", "1e", "--1", "1e5000", "0x10",
        ] {
            assert_eq!(Number::parse(text.as_bytes()), None, "{text:?}");
        }
        let infinite = Number::parse(b"inf").unwrap();
        assert!(infinite.plus(Number::Exact(0)).is_err());
    }
}
