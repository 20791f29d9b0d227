//! Keys and fields drawn at random.

use std::collections::HashSet;

use super::scan::ScanOptions;
use crate::engine::FIELD_HASHES;
use crate::{Db, Result, Value};

/// How many keys one is drawn from.
const DRAWN_KEYS: usize = 16;

/// How many fields a span of hashes has on average, of which one is drawn.
const FIELDS_IN_SPAN: u64 = 16;

/// Places of a span: one of them is drawn, and another span is tried where no field is at that place. It is so far above
/// [`FIELDS_IN_SPAN`] that a span has more fields once in 10,000 times.
const PLACES: usize = 32;

/// Spans that are tried before all fields are read.
const TRIES: usize = 64;

/// A hash of so many fields is read as a whole: that takes no longer than to draw from it.
const SMALL_HASH: u64 = 64;

/// A hash is read as a whole where one in so many of its fields is wanted, or more.
const WANTED_SHARE: u64 = 16;

/// Whether what was drawn may be drawn again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Draw {
    Once,
    Again,
}

impl Db {
    /// Returns a random key of this database; `None` if there is none.
    ///
    /// The key is drawn from a few neighbours in the order of the hashes. Every key can be drawn,
    /// some a little more often than others.
    ///
    /// # Errors
    ///
    /// Those of [`Db::scan`], and [`Error::Io`](crate::Error::Io) if the operating system gives no
    /// random numbers.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.random_key()?, None);
    /// db.set("k", "v")?;
    /// assert_eq!(db.random_key()?.unwrap(), "k");
    /// # Ok(())
    /// # }
    /// ```
    pub fn random_key(&self) -> Result<Option<Value>> {
        if self.is_empty()? {
            // What has expired need not be walked over.
            return Ok(None);
        }
        let mut random = self.seeded()?;
        let options = ScanOptions::new().count(DRAWN_KEYS);
        let place = random.below(usize::try_from(crate::engine::SCAN_END).unwrap_or(usize::MAX));
        // From a random place to the end of the order, and then from its beginning.
        for start in [place as u64, 0] {
            let mut cursor = start;
            loop {
                let mut page = self.scan(cursor, &options)?;
                if !page.keys.is_empty() {
                    let at = random.below(page.keys.len());
                    return Ok(Some(page.keys.swap_remove(at)));
                }
                cursor = page.cursor;
                if cursor == 0 {
                    break;
                }
            }
        }
        Ok(None)
    }

    /// Draws `wanted` random fields of a hash, with their values. Returns fewer if each may be
    /// drawn once and the hash has fewer.
    ///
    /// Each field is equally likely, except in the rare span of hashes with more than [`PLACES`]
    /// fields, where each is drawn a little less often. The cost grows with the number of drawn
    /// fields, not with the number of fields of the hash.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`], and [`Error::Io`](crate::Error::Io) if the operating system gives no
    /// random numbers.
    pub(crate) fn draw_fields(
        &self,
        key: &[u8],
        wanted: usize,
        draw: Draw,
    ) -> Result<Vec<(Value, Value)>> {
        let count = self.hlen(key)?;
        if count == 0 || wanted == 0 {
            return Ok(Vec::new());
        }
        let mut random = self.seeded()?;
        if count > SMALL_HASH && (wanted as u64) < count / WANTED_SHARE {
            let mut drawn = Vec::with_capacity(wanted);
            let mut names: HashSet<Vec<u8>> = HashSet::new();
            while drawn.len() < wanted {
                let Some(field) = self.draw_field(key, count, &mut random)? else {
                    break;
                };
                if draw == Draw::Again || names.insert(field.0.to_vec()) {
                    drawn.push(field);
                }
            }
            if drawn.len() == wanted {
                return Ok(drawn);
            }
            // Most of the fields have gone meanwhile, or have expired.
        }
        let mut fields = self.hgetall(key)?;
        if draw == Draw::Again {
            let count = fields.len();
            let wanted = if count == 0 { 0 } else { wanted };
            let drawn = (0..wanted).filter_map(|_| fields.get(random.below(count)).cloned());
            return Ok(drawn.collect());
        }
        let wanted = wanted.min(fields.len());
        for at in 0..wanted {
            let other = at + random.below(fields.len() - at);
            fields.swap(at, other);
        }
        fields.truncate(wanted);
        Ok(fields)
    }

    /// Draws one field of a hash of about `count`; `None` where none was found.
    fn draw_field(
        &self,
        key: &[u8],
        count: u64,
        random: &mut SplitMix,
    ) -> Result<Option<(Value, Value)>> {
        let span_count = (count / FIELDS_IN_SPAN).clamp(1, u64::from(FIELD_HASHES));
        let width = u64::from(FIELD_HASHES).div_ceil(span_count);
        for _ in 0..TRIES {
            let span = random.below(usize::try_from(span_count).unwrap_or(usize::MAX)) as u64;
            let at = random.below(PLACES);
            let hash = |number: u64| u32::try_from(number).unwrap_or(FIELD_HASHES);
            let hashes = hash(span * width)..hash((span + 1) * width);
            let mut fields = self.read(
                |tx| tx.fields_between(self.database, key, hashes.clone()),
                |engine| engine.fields_between(self.database, key, hashes.clone()),
            )?;
            // All of a span that has more fields than places can be drawn, too.
            let at = if fields.len() > PLACES {
                random.below(fields.len())
            } else {
                at
            };
            if at < fields.len() {
                let (field, found) = fields.swap_remove(at);
                return Ok(Some((field, found.value)));
            }
        }
        Ok(None)
    }

    /// Numbers that differ from call to call.
    fn seeded(&self) -> Result<SplitMix> {
        let [seed] = self.engine().random_numbers()?;
        Ok(SplitMix(seed))
    }
}

/// SplitMix64 (Steele, Lea and Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014).
struct SplitMix(u64);

impl SplitMix {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let scaled = (u128::from(mixed ^ (mixed >> 31)) * limit as u128) >> 64;
        // Less than the limit, which is one.
        usize::try_from(scaled).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::time::Duration;

    use super::Draw;
    use crate::{Db, ManualClock, Result};

    const FIELDS: usize = 2_000;

    fn hash_of(db: &Db) -> Result<()> {
        let fields: Vec<_> = (0..FIELDS)
            .map(|number| (number.to_string(), "v"))
            .collect();
        db.hset_many("h", &fields)?;
        Ok(())
    }

    /// The fields that were drawn, each with how often.
    fn counted(db: &Db, draws: usize) -> Result<HashMap<Vec<u8>, usize>> {
        let mut counts = HashMap::new();
        for _ in 0..draws / 100 {
            for (field, value) in db.draw_fields(b"h", 100, Draw::Again)? {
                assert_eq!(value, "v");
                *counts.entry(field.to_vec()).or_insert(0) += 1;
            }
        }
        Ok(counts)
    }

    #[test]
    fn every_field_of_a_large_hash_is_drawn_equally_often() -> Result<()> {
        let db = Db::in_memory()?;
        hash_of(&db)?;
        let counts = counted(&db, FIELDS * 50)?;
        assert_eq!(counts.len(), FIELDS);
        // Chi-squared of 1,999 degrees of freedom: 1,999 on average, with a deviation of 63. A draw that favours fields with a gap
        // before them, as one entry from a random place on would, comes to 100,000.
        let square = |count: &usize| {
            let off = count.abs_diff(50);
            off * off
        };
        let sum = counts.values().map(square).sum::<usize>() / 50;
        assert!((1_500..2_600).contains(&sum), "chi-squared {sum}");
        Ok(())
    }

    #[test]
    fn fields_are_drawn_once_and_none_that_is_gone() -> Result<()> {
        let clock = ManualClock::new(1_700_000_000_000);
        let db = Db::options().clock(clock.clone()).open_in_memory()?;
        hash_of(&db)?;
        for number in 0..FIELDS / 2 {
            let name = number.to_string();
            match number % 2 {
                0 => drop(db.hdel("h", &name)?),
                _ => drop(db.hexpire("h", &name, Duration::from_secs(1))?),
            }
        }
        clock.advance(Duration::from_secs(2));
        for wanted in [1, 20, 500, FIELDS] {
            let drawn = db.draw_fields(b"h", wanted, Draw::Once)?;
            let mut names: Vec<_> = drawn.into_iter().map(|(name, _)| name.to_vec()).collect();
            assert_eq!(names.len(), wanted.min(FIELDS / 2));
            names.sort();
            names.dedup();
            assert_eq!(names.len(), wanted.min(FIELDS / 2));
            let number = |name: &Vec<u8>| str::from_utf8(name).unwrap().parse::<usize>().unwrap();
            assert!(names.iter().all(|name| number(name) >= FIELDS / 2));
        }
        Ok(())
    }

    #[test]
    fn fields_of_a_transaction_are_drawn_with_those_of_the_file() -> Result<()> {
        let db = Db::in_memory()?;
        hash_of(&db)?;
        db.transaction(|tx| -> Result<()> {
            for number in 0..FIELDS / 2 {
                tx.hdel("h", number.to_string())?;
            }
            tx.hset("h", "new", "v")?;
            let counts = counted(tx, FIELDS * 20)?;
            assert_eq!(counts.len(), FIELDS / 2 + 1);
            assert!(counts.contains_key(&b"new"[..]));
            Ok(())
        })
    }

    #[test]
    fn every_key_is_drawn_sooner_or_later() -> Result<()> {
        let db = Db::in_memory()?;
        for number in 0..20 {
            db.set(format!("key {number}"), "v")?;
        }
        let mut drawn = std::collections::BTreeSet::new();
        for _ in 0..10_000 {
            drawn.extend(db.random_key()?.map(|key| key.to_vec()));
            if drawn.len() == 20 {
                return Ok(());
            }
        }
        unreachable!("only {} of 20 were drawn", drawn.len())
    }
}
