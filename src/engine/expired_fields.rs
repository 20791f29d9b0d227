//! The expired part of a hash's fields, from the counts of the hash. It walks over the fields only
//! if the counts are not enough.
//!
//! One walk is needed if a hash is in a checkpoint, has more deadlines than the checkpoint has
//! steps, and an exact number is requested while a step passes. Its result is kept: see
//! [`Base::field_deadlines`](super::base::Base::field_deadlines).

use std::borrow::Cow;

use super::lookup::{HashAt, Lookup};
use super::read::has_passed;
use crate::Result;
use crate::index::{Expired, FieldDeadlines, Shard, Steps, StoredHash};

impl<'a> Lookup<'a> {
    /// The deadlines of a hash's fields, in steps.
    pub(super) fn steps<'s>(self, shard: &'s Shard, hash: &HashAt<'a>) -> Result<Cow<'s, Steps>> {
        match (hash.own, hash.beneath) {
            (None, Some(stored)) => Ok(Cow::Owned(self.stored_steps(&stored)?)),
            _ => Ok(match own_deadlines(shard, hash) {
                Some(deadlines) => Cow::Borrowed(&deadlines.steps),
                None => Cow::Owned(Steps::default()),
            }),
        }
    }

    pub(super) fn stored_steps(self, stored: &StoredHash<'a>) -> Result<Steps> {
        match stored.steps() {
            Some(steps) => Ok(steps),
            None => Err(self.base(stored.reference)?.give_up(stored.reference)),
        }
    }

    /// How many fields of a hash have not expired, whatever the deadline of the hash itself. The clock is
    /// asked only if a field has a deadline.
    pub(super) fn live_field_count(
        self,
        shard: &Shard,
        hash: &HashAt<'a>,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<u64> {
        let summary = &hash.summary;
        if summary.expiring_fields == 0 {
            return Ok(summary.field_count);
        }
        let now_ms = now_ms();
        let stored = |shard| match &hash.beneath {
            Some(stored) => self.expired_stored_fields(shard, stored, now_ms),
            None => Ok(0),
        };
        let expired = match (hash.own, own_deadlines(shard, hash)) {
            (None, _) => stored(shard)?,
            (Some(_), None) => 0,
            (Some(_), Some(deadlines)) => match deadlines.expired(now_ms) {
                Expired::Count(count) => count,
                Expired::More(more) => stored(shard)?.saturating_add_signed(more),
            },
        };
        Ok(summary.field_count.saturating_sub(expired))
    }

    /// Whether a hash has a field that has not expired, as [`Lookup::live_field_count`].
    pub(super) fn has_live_field(
        self,
        shard: &Shard,
        hash: &HashAt<'a>,
        now_ms: impl FnOnce() -> u64,
    ) -> Result<bool> {
        let summary = &hash.summary;
        if summary.expiring_fields < summary.field_count || summary.expiring_fields == 0 {
            return Ok(summary.field_count > 0);
        }
        let now_ms = now_ms();
        let steps = self.steps(shard, hash)?;
        if steps.last_ms() <= now_ms {
            return Ok(false);
        }
        if steps.is_to_come(now_ms) {
            return Ok(true);
        }
        Ok(self.live_field_count(shard, hash, || now_ms)? > 0)
    }

    /// Bytes of the log that a hash needs, without those of fields that have expired.
    pub(super) fn live_bytes(self, shard: &Shard, hash: &HashAt<'a>, now_ms: u64) -> Result<u64> {
        let summary = &hash.summary;
        if has_passed(summary.deadline_ms, now_ms) {
            return Ok(0);
        }
        if summary.expiring_fields == 0 {
            return Ok(summary.live_bytes);
        }
        if !self.has_live_field(shard, hash, || now_ms)? {
            return Ok(0);
        }
        let expired = self.steps(shard, hash)?.passed(now_ms);
        Ok(summary.live_bytes.saturating_sub(expired.bytes))
    }

    /// How many fields of a hash in a checkpoint have expired.
    fn expired_stored_fields(
        self,
        shard: &Shard,
        stored: &StoredHash<'a>,
        now_ms: u64,
    ) -> Result<u64> {
        let steps = self.stored_steps(stored)?;
        if !steps.has_step_around(now_ms) {
            return Ok(steps.passed(now_ms).keys);
        }
        let base = self.base(stored.reference)?;
        let deadlines = base.field_deadlines(stored.reference, || {
            let mut deadlines = Vec::new();
            for field in self.fields_from(shard, &HashAt::of_stored(*stored), 0)? {
                let (_, record) = field?;
                deadlines.extend((record.deadline_ms != 0).then_some(record.deadline_ms));
            }
            Ok(deadlines)
        })?;
        Ok(deadlines.partition_point(|deadline_ms| *deadline_ms <= now_ms) as u64)
    }
}

fn own_deadlines<'s>(shard: &'s Shard, hash: &HashAt<'_>) -> Option<&'s FieldDeadlines> {
    let own = shard.hash(hash.own?)?;
    own.deadlines.as_deref()
}
