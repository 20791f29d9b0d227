//! Strings: SET, GET and commands that change them in place.

use super::arguments::{integer, is, pairs};
use super::conditional::Match;
use super::error::Failure;
use super::expiry::{Origin, Unit, deadline_ms};
use super::table::{Command, Flags, Group, KeyPositions};
use super::{Reply, Session};
use crate::{SetOptions, SetOutcome, TtlChange};

const READ: Flags = Flags::READONLY.and(Flags::FAST);
const WRITE: Flags = Flags::WRITE.and(Flags::DENYOOM);
const WRITE_FAST: Flags = WRITE.and(Flags::FAST);

const fn of_key(name: &'static str, arity: i16, handler: super::table::Handler) -> Command {
    Command::new(Group::String, name, arity, handler).keys(KeyPositions::FIRST)
}

pub(super) static COMMANDS: &[Command] = &[
    of_key("get", 2, get)
        .flags(READ)
        .help("key", "Returns the string at a key"),
    of_key("set", -3, set).flags(WRITE).help(
        "key value [NX | XX | IFEQ match-value | IFNE match-value | IFDEQ match-digest | \
         IFDNE match-digest] [GET] [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
         PXAT unix-time-milliseconds | KEEPTTL]",
        "Sets the string at a key, optionally on a condition and with a deadline",
    ),
    of_key("setex", 4, |session, arguments| {
        set_with_ttl(session, arguments, Unit::Seconds)
    })
    .flags(WRITE)
    .help(
        "key seconds value",
        "Sets the string at a key, with a TTL in seconds",
    ),
    of_key("psetex", 4, |session, arguments| {
        set_with_ttl(session, arguments, Unit::Milliseconds)
    })
    .flags(WRITE)
    .help(
        "key milliseconds value",
        "Sets the string at a key, with a TTL in milliseconds",
    ),
    of_key("setnx", 3, setnx).flags(WRITE_FAST).help(
        "key value",
        "Sets the string at a key that does not exist yet",
    ),
    of_key("getset", 3, getset).flags(WRITE_FAST).help(
        "key value",
        "Sets the string at a key, and returns the previous one",
    ),
    of_key("mget", -2, mget)
        .keys(KeyPositions::ALL)
        .flags(READ)
        .help("key [key ...]", "Returns the strings at several keys"),
    of_key("mset", -3, mset)
        .keys(KeyPositions::PAIRS)
        .flags(WRITE)
        .help(
            "key value [key value ...]",
            "Sets the strings at several keys in one commit",
        ),
    of_key("msetnx", -3, msetnx)
        .keys(KeyPositions::PAIRS)
        .flags(WRITE)
        .help(
            "key value [key value ...]",
            "Sets the strings at several keys if none of them exists",
        ),
    of_key("getdel", 2, getdel)
        .flags(Flags::WRITE.and(Flags::FAST))
        .help("key", "Returns the string at a key, and removes it"),
    of_key("getex", -2, getex)
        .flags(Flags::WRITE.and(Flags::FAST))
        .help(
            "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | \
             PXAT unix-time-milliseconds | PERSIST]",
            "Returns the string at a key, and changes its deadline",
        ),
    of_key("incrbyfloat", 3, incrbyfloat)
        .flags(WRITE_FAST)
        .help("key increment", "Adds to the number at a key"),
    of_key("strlen", 2, strlen)
        .flags(READ)
        .help("key", "Returns the length of the string at a key in bytes"),
    of_key("append", 3, append).flags(WRITE_FAST).help(
        "key value",
        "Appends to the string at a key, and returns its new length",
    ),
    of_key("incr", 2, |session, arguments| {
        add(session, arguments, |_| Ok(1))
    })
    .flags(WRITE_FAST)
    .help("key", "Adds one to the integer at a key"),
    of_key("decr", 2, |session, arguments| {
        add(session, arguments, |_| Ok(-1))
    })
    .flags(WRITE_FAST)
    .help("key", "Subtracts one from the integer at a key"),
    of_key("incrby", 3, |session, arguments| {
        add(session, arguments, Ok)
    })
    .flags(WRITE_FAST)
    .help("key increment", "Adds to the integer at a key"),
    of_key("decrby", 3, |session, arguments| {
        add(session, arguments, |decrement| {
            decrement
                .checked_neg()
                .ok_or(Failure::text("decrement would overflow"))
        })
    })
    .flags(WRITE_FAST)
    .help("key decrement", "Subtracts from the integer at a key"),
];

fn get(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(session.db().get(key)?.into())
}

fn set(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, value, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let words = SetWords::read(options)?;
    let options = words.options(session)?;
    let outcome = match words.compare {
        None => session.db().set_with(key, value, options)?,
        Some(condition) => session.db().transaction(|tx| -> crate::Result<_> {
            let previous = tx.get(key)?;
            if condition.allows(previous.as_ref()) {
                return tx.set_with(key, value, options);
            }
            Ok(SetOutcome {
                written: false,
                previous,
            })
        })?,
    };
    Ok(if words.get {
        outcome.previous.into()
    } else if outcome.written {
        Reply::OK
    } else {
        Reply::Nil
    })
}

/// What the options of SET say, before their numbers are read: a wrong word is reported
/// before a wrong number.
#[derive(Debug, Default)]
struct SetWords<'w> {
    nx: bool,
    xx: bool,
    get: bool,
    compare: Option<Match<'w>>,
    time: TimeWords<'w>,
}

impl<'w> SetWords<'w> {
    fn read(options: &[&'w [u8]]) -> Result<Self, Failure> {
        let mut words = SetWords::default();
        let mut options = options.iter();
        while let Some(option) = options.next() {
            if is(option, "NX") {
                words.nx = true;
            } else if is(option, "XX") {
                words.xx = true;
            } else if is(option, "GET") {
                words.get = true;
            } else if let Some(condition) = options
                .as_slice()
                .first()
                .and_then(|word| Match::of(option, word))
            {
                options.next();
                if words.compare.replace(condition).is_some() {
                    return Err(Failure::SYNTAX);
                }
            } else if !words.time.take(option, &mut options)? {
                return Err(Failure::SYNTAX);
            }
        }
        let conditions = [words.nx, words.xx, words.compare.is_some()];
        if conditions.into_iter().filter(|given| *given).count() > 1 {
            return Err(Failure::SYNTAX);
        }
        Ok(words)
    }

    fn options(&self, session: &Session) -> Result<SetOptions, Failure> {
        let mut options = SetOptions::new();
        if self.nx {
            options = options.only_if_absent();
        }
        if self.xx {
            options = options.only_if_present();
        }
        if self.get {
            options = options.return_previous();
        }
        self.time.apply(session, options)
    }
}

/// The words that say what becomes of a deadline: EX and its kin, and KEEPTTL.
#[derive(Debug, Default)]
pub(super) struct TimeWords<'w> {
    keep_ttl: bool,
    time: Option<(Unit, Origin, &'w [u8])>,
}

impl<'w> TimeWords<'w> {
    /// Takes an option, with its argument from those that follow; says whether it is one of these.
    pub(super) fn take(
        &mut self,
        option: &[u8],
        following: &mut std::slice::Iter<'_, &'w [u8]>,
    ) -> Result<bool, Failure> {
        if is(option, "KEEPTTL") {
            self.keep_ttl = true;
        } else if let Some((unit, origin)) = time_option(option) {
            let time = following.next().ok_or(Failure::SYNTAX)?;
            // The same option twice is allowed, and the last one counts; two of them are not.
            if let Some((earlier_unit, earlier_origin, _)) = self.time
                && (earlier_unit, earlier_origin) != (unit, origin)
            {
                return Err(Failure::SYNTAX);
            }
            self.time = Some((unit, origin, time));
        } else {
            return Ok(false);
        }
        match self.keep_ttl && self.time.is_some() {
            true => Err(Failure::SYNTAX),
            false => Ok(true),
        }
    }

    /// The options, with what these words say.
    pub(super) fn apply(
        &self,
        session: &Session,
        mut options: SetOptions,
    ) -> Result<SetOptions, Failure> {
        if self.keep_ttl {
            options = options.keep_ttl();
        }
        if let Some((unit, origin, time)) = self.time {
            options = options.deadline_ms(positive_deadline_ms(session, time, unit, origin)?);
        }
        Ok(options)
    }
}

pub(super) fn time_option(option: &[u8]) -> Option<(Unit, Origin)> {
    [
        ("EX", Unit::Seconds, Origin::Now),
        ("PX", Unit::Milliseconds, Origin::Now),
        ("EXAT", Unit::Seconds, Origin::Epoch),
        ("PXAT", Unit::Milliseconds, Origin::Epoch),
    ]
    .into_iter()
    .find_map(|(name, unit, origin)| is(option, name).then_some((unit, origin)))
}

/// SET and its kin refuse zero and negative times, which EXPIRE takes.
pub(super) fn positive_deadline_ms(
    session: &Session,
    time: &[u8],
    unit: Unit,
    origin: Origin,
) -> Result<u64, Failure> {
    let time = integer(time)?;
    if time <= 0 {
        return Err(Failure::ExpireTime);
    }
    let deadline_ms = deadline_ms(session, time, unit, origin)?;
    u64::try_from(deadline_ms).map_err(|_| Failure::ExpireTime)
}

fn set_with_ttl(session: &mut Session, arguments: &[&[u8]], unit: Unit) -> Result<Reply, Failure> {
    let [key, time, value] = arguments else {
        return Err(Failure::Arity);
    };
    let deadline_ms = positive_deadline_ms(session, time, unit, Origin::Now)?;
    let options = SetOptions::new().deadline_ms(deadline_ms);
    session.db().set_with(key, value, options)?;
    Ok(Reply::OK)
}

fn setnx(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, value] = arguments else {
        return Err(Failure::Arity);
    };
    let options = SetOptions::new().only_if_absent();
    let outcome = session.db().set_with(key, value, options)?;
    Ok(Reply::flag(outcome.written))
}

fn getset(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, value] = arguments else {
        return Err(Failure::Arity);
    };
    let options = SetOptions::new().return_previous();
    let outcome = session.db().set_with(key, value, options)?;
    Ok(outcome.previous.into())
}

fn mget(session: &mut Session, keys: &[&[u8]]) -> Result<Reply, Failure> {
    Ok(Reply::array(session.db().get_many(keys)?))
}

fn mset(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let pairs = pairs(arguments).ok_or(Failure::Arity)?;
    session.db().batch(|batch| {
        for [key, value] in pairs {
            batch.set(key, value);
        }
    })?;
    Ok(Reply::OK)
}

fn msetnx(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let pairs = pairs(arguments).ok_or(Failure::Arity)?;
    let strings: Vec<_> = pairs.iter().map(|[key, value]| (key, value)).collect();
    Ok(Reply::flag(session.db().set_many_if_absent(&strings)?))
}

fn getdel(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(session.db().get_del(key)?.into())
}

fn getex(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, options @ ..] = arguments else {
        return Err(Failure::Arity);
    };
    let words = TtlWords::read(options)?;
    // Redis looks at the key before it looks at the time.
    let found = session.db().get(key)?;
    if found.is_none() {
        return Ok(Reply::Nil);
    }
    let change = words.change(session)?;
    Ok(session.db().get_ex(key, change)?.into())
}

/// What the options of GETEX and HGETEX say, before their numbers are read.
#[derive(Debug, Clone, Copy)]
pub(super) enum TtlWords<'w> {
    Keep,
    Persist,
    At(Unit, Origin, &'w [u8]),
}

impl<'w> TtlWords<'w> {
    /// One of them, which may be said again; the last time counts.
    pub(super) fn read(options: &[&'w [u8]]) -> Result<TtlWords<'w>, Failure> {
        let mut words = TtlWords::Keep;
        let mut options = options.iter();
        while let Some(option) = options.next() {
            words = match (time_option(option), words) {
                (None, TtlWords::Keep | TtlWords::Persist) if is(option, "PERSIST") => {
                    TtlWords::Persist
                }
                (Some((unit, origin)), TtlWords::Keep) => {
                    TtlWords::At(unit, origin, options.next().ok_or(Failure::SYNTAX)?)
                }
                (Some(new), TtlWords::At(unit, origin, _)) if new == (unit, origin) => {
                    TtlWords::At(unit, origin, options.next().ok_or(Failure::SYNTAX)?)
                }
                _ => return Err(Failure::SYNTAX),
            };
        }
        Ok(words)
    }

    pub(super) fn change(self, session: &Session) -> Result<TtlChange, Failure> {
        match self {
            TtlWords::Keep => Ok(TtlChange::Keep),
            TtlWords::Persist => Ok(TtlChange::Persist),
            TtlWords::At(unit, origin, time) => {
                positive_deadline_ms(session, time, unit, origin).map(TtlChange::At)
            }
        }
    }
}

fn incrbyfloat(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, increment] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::bulk(session.db().incr_by_number(key, increment)?))
}

fn strlen(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::count(session.db().strlen(key)?))
}

fn append(session: &mut Session, arguments: &[&[u8]]) -> Result<Reply, Failure> {
    let [key, value] = arguments else {
        return Err(Failure::Arity);
    };
    Ok(Reply::count(session.db().append(key, value)?))
}

/// Adds what `increment` makes of the number that was given, which is 0 where there is none.
fn add(
    session: &mut Session,
    arguments: &[&[u8]],
    increment: fn(i64) -> Result<i64, Failure>,
) -> Result<Reply, Failure> {
    let (key, given) = match arguments {
        [key] => (key, 0),
        [key, number] => (key, integer(number)?),
        _ => return Err(Failure::Arity),
    };
    let sum = session.db().incr_by(key, increment(given)?)?;
    Ok(Reply::Integer(sum))
}
