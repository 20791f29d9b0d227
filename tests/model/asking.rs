//! The calls as they are made to brasa.

use brasa::{Db, SetOptions, TtlChange, Value};

use crate::calls::{Answer, Bytes, Change, Condition, Expiry, Op, Refusal, Reply, SetHow};
use crate::{Checked, allowed, owned};

/// Makes the call to brasa. An error that the model knows becomes a refusal, any other fails the
/// case.
pub(crate) fn ask(db: &Db, op: &Op, now_ms: u64, kept: &mut Vec<(Value, Bytes)>) -> Checked<Reply> {
    let mut keep = |value: Option<Value>| {
        value.map(|value| {
            let bytes = value.to_vec();
            kept.push((value, bytes.clone()));
            bytes
        })
    };
    let mut asked = || -> brasa::Result<Answer> {
        Ok(match op {
            Op::Set(key, value) => {
                db.set(key, value)?;
                Answer::Done
            }
            Op::SetWith(key, value, how) => {
                let outcome = db.set_with(key, value, set_options(*how, now_ms))?;
                Answer::Set {
                    written: outcome.written,
                    previous: keep(outcome.previous),
                }
            }
            Op::Get(key) => Answer::Value(keep(db.get(key)?)),
            Op::GetMany(keys) => {
                Answer::Values(db.get_many(keys)?.into_iter().map(&mut keep).collect())
            }
            Op::Strlen(key) => Answer::Count(db.strlen(key)?),
            Op::Append(key, suffix) => Answer::Count(db.append(key, suffix)?),
            Op::IncrBy(key, increment) => Answer::Integer(db.incr_by(key, *increment)?),
            Op::Hset(key, field, value) => Answer::Whether(db.hset(key, field, value)?),
            Op::HsetMany(key, fields) => Answer::Count(db.hset_many(key, fields)?),
            Op::HsetIfAbsent(key, field, value) => {
                let options = SetOptions::new().only_if_absent();
                Answer::Whether(db.hset_with(key, &[(field, value)], options)?)
            }
            Op::Hget(key, field) => Answer::Value(keep(db.hget(key, field)?)),
            Op::HgetMany(key, fields) => {
                let values = db.hget_many(key, fields)?;
                Answer::Values(values.into_iter().map(&mut keep).collect())
            }
            Op::Hgetall(key) => {
                let fields = db.hgetall(key)?;
                let (names, values) = (db.hkeys(key)?, db.hvals(key)?);
                assert!(
                    names.into_iter().zip(values).eq(fields.iter().cloned()),
                    "hkeys and hvals go together"
                );
                Answer::Fields(owned(fields))
            }
            Op::Hdel(key, field) => Answer::Whether(db.hdel(key, field)?),
            Op::HdelMany(key, fields) => Answer::Count(db.hdel_many(key, fields)?),
            Op::Hexists(key, field) => Answer::Whether(db.hexists(key, field)?),
            Op::Hlen(key) => Answer::Count(db.hlen(key)?),
            Op::HincrBy(key, field, increment) => {
                Answer::Integer(db.hincr_by(key, field, *increment)?)
            }
            Op::HsetWith(key, fields, how) => {
                Answer::Whether(db.hset_with(key, fields, set_options(*how, now_ms))?)
            }
            Op::Hexpire(key, field, span) => {
                Answer::Expiries(vec![db.hexpire(key, field, span.at(now_ms))?])
            }
            Op::HexpireAtIf(key, fields, moment, condition) => {
                Answer::Expiries(db.hexpire_at_if(key, fields, moment.at(now_ms), *condition)?)
            }
            Op::Hpersist(key, fields) => Answer::HadDeadlines(db.hpersist(key, fields)?),
            Op::HttlOf(key, field) => Answer::Ttl(db.httl(key, field)?),
            Op::HdeadlinesOf(key, fields) => Answer::Deadlines(db.hdeadlines_ms(key, fields)?),
            Op::HgetEx(key, fields, expiry) => {
                let values = db.hget_ex(key, fields, ttl_change(*expiry, now_ms))?;
                Answer::Values(values.into_iter().map(&mut keep).collect())
            }
            Op::HgetDel(key, fields) => {
                let values = db.hget_del(key, fields)?;
                Answer::Values(values.into_iter().map(&mut keep).collect())
            }
            Op::Del(key) => Answer::Whether(db.del(key)?),
            Op::DelMany(keys) => Answer::Count(db.del_many(keys)?),
            Op::Exists(key) => Answer::Whether(db.exists(key)?),
            Op::ExistsMany(keys) => Answer::Count(db.exists_many(keys)?),
            Op::KeyTypeOf(key) => Answer::Type(db.key_type(key)?),
            Op::Expire(key, span) => Answer::Whether(db.expire(key, span.at(now_ms))?),
            Op::ExpireAt(key, moment) => Answer::Whether(db.expire_at(key, moment.at(now_ms))?),
            Op::ExpireAtIf(key, moment, condition) => {
                Answer::Whether(db.expire_at_if(key, moment.at(now_ms), *condition)?)
            }
            Op::Persist(key) => Answer::Whether(db.persist(key)?),
            Op::TtlOf(key) => Answer::Ttl(db.ttl(key)?),
            Op::DeadlineOf(key) => Answer::Deadline(db.deadline_ms(key)?),
            Op::Clear => {
                db.clear()?;
                Answer::Done
            }
            Op::ClearAll => {
                db.clear_all()?;
                Answer::Done
            }
            Op::Len => Answer::Count(db.len()?),
            Op::KeysWith(prefix) => {
                let keys = db.keys().prefix(prefix).map(|key| key.map(Vec::from));
                let mut keys = keys.collect::<brasa::Result<Vec<Bytes>>>()?;
                keys.sort_unstable();
                Answer::Names(keys)
            }
            Op::Batch(changes) => {
                db.batch(|batch| collect(batch, changes, now_ms))?;
                Answer::Done
            }
        })
    };
    match asked() {
        Ok(answer) => Ok(Ok(answer)),
        Err(error) => Ok(Err(allowed(Refusal::of(error))?)),
    }
}

fn collect(batch: &mut brasa::Batch, changes: &[Change], now_ms: u64) {
    for change in changes {
        match change {
            Change::Set(key, value) => batch.set(key, value),
            Change::SetEx(key, value, span) => batch.set_ex(key, value, span.at(now_ms)),
            Change::Del(key) => batch.del(key),
            Change::Expire(key, span) => batch.expire(key, span.at(now_ms)),
            Change::Hset(key, field, value) => batch.hset(key, field, value),
            Change::Hdel(key, field) => batch.hdel(key, field),
            Change::Clear => batch.clear(),
        };
    }
}

fn set_options(how: SetHow, now_ms: u64) -> SetOptions {
    let mut options = match how.expiry {
        Expiry::None => SetOptions::new(),
        Expiry::Keep => SetOptions::new().keep_ttl(),
        Expiry::After(span) => SetOptions::new().ttl(span.at(now_ms)),
        Expiry::At(moment) => SetOptions::new().deadline_ms(moment.at(now_ms)),
    };
    options = match how.condition {
        Condition::Always => options,
        Condition::OnlyIfAbsent => options.only_if_absent(),
        Condition::OnlyIfPresent => options.only_if_present(),
    };
    if how.return_previous {
        options = options.return_previous();
    }
    options
}

fn ttl_change(expiry: Expiry, now_ms: u64) -> TtlChange {
    match expiry {
        Expiry::None => TtlChange::Persist,
        Expiry::Keep => TtlChange::Keep,
        Expiry::After(span) => TtlChange::After(span.at(now_ms)),
        Expiry::At(moment) => TtlChange::At(moment.at(now_ms)),
    }
}
