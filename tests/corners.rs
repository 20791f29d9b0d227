//! What the model (`tests/model.rs`) has found in the engine, each in a few lines.

use std::time::Duration;

use brasa::limits::MAX_DEADLINE_MS;
use brasa::{Db, Error, KeyType, ManualClock, SetOptions, Ttl, TtlChange};

const NOW_MS: u64 = 1_700_000_000_000;

fn open(clock: &ManualClock) -> Db {
    let options = Db::options().clock(clock.clone());
    options.open_in_memory().unwrap()
}

/// It wrote a deadline that had passed and went on as if the key were there: the field that came
/// after it went into the old hash and vanished with it, and a field after a string was refused.
#[test]
fn a_key_that_a_batch_gives_no_time_is_gone_for_the_rest_of_the_batch() {
    let db = open(&ManualClock::new(NOW_MS));
    db.batch(|batch| {
        batch.hset("h", "old", "1");
        batch.expire("h", Duration::ZERO);
        batch.hset("h", "new", "2");
        batch.set_ex("s", "v", Duration::from_micros(999));
        batch.hset("s", "f", "v");
    })
    .unwrap();
    assert_eq!(db.hkeys("h").unwrap(), ["new"]);
    assert_eq!(db.ttl("h").unwrap(), Ttl::Persistent);
    assert_eq!(db.key_type("s").unwrap(), Some(KeyType::Hash));
}

/// Zero is "no deadline" in a record, and so a time to live of nothing became one without end.
#[test]
fn a_clock_at_zero_gives_no_key_of_a_batch_eternal_life() {
    let db = open(&ManualClock::new(0));
    db.batch(|batch| {
        batch.set_ex("k", "v", Duration::ZERO);
    })
    .unwrap();
    assert!(!db.exists("k").unwrap());
}

/// It was an error for a key that was there, and "no such key" for one that was not.
#[test]
fn a_deadline_that_cannot_be_stored_is_refused_whatever_is_there() {
    let db = open(&ManualClock::new(NOW_MS));
    db.set("there", "v").unwrap();
    for key in ["there", "nobody"] {
        let refused = |result| matches!(result, Err(Error::DeadlineOutOfRange));
        assert!(refused(db.expire_at(key, MAX_DEADLINE_MS + 1)));
        assert!(refused(db.expire(key, Duration::MAX)));
        for options in [
            SetOptions::new().only_if_absent(),
            SetOptions::new().only_if_present(),
        ] {
            let at = options.deadline_ms(MAX_DEADLINE_MS + 1);
            let after = options.ttl(Duration::MAX);
            assert!(refused(db.set_with(key, "w", at).map(|_| true)));
            assert!(refused(db.set_with(key, "w", after).map(|_| true)));
        }
    }
    assert_eq!(db.get("there").unwrap().unwrap(), b"v");
}

/// The deletion found nothing and wrote nothing: after a step of the clock it was undone. Of a
/// `set_with` whose own deadline had passed, the value that it had replaced came back.
#[test]
fn what_was_deleted_after_its_time_stays_away_when_the_clock_steps_back() {
    let deletions: [fn(&Db); 6] = [
        |db| assert!(!db.del("k").unwrap()),
        |db| assert!(!db.hdel("k", "f").unwrap()),
        |db| assert!(!db.expire("k", Duration::ZERO).unwrap()),
        |db| assert!(!db.expire_at("k", 1).unwrap()),
        |db| {
            let past = SetOptions::new().deadline_ms(1);
            assert!(db.set_with("k", "w", past).unwrap().written);
        },
        |db| {
            db.batch(|batch| {
                batch.del("k");
            })
            .unwrap();
        },
    ];
    for (number, delete) in deletions.into_iter().enumerate() {
        let clock = ManualClock::new(NOW_MS);
        let db = open(&clock);
        db.hset("k", "f", "v").unwrap();
        db.expire("k", Duration::from_secs(10)).unwrap();
        clock.advance(Duration::from_secs(10));
        delete(&db);
        clock.set(NOW_MS);
        assert!(!db.exists("k").unwrap(), "deletion {number}");
    }
}

/// Deadline 0 means none in a record, and was taken for that.
#[test]
fn the_beginning_of_time_has_passed_for_fields_as_for_keys() {
    let db = open(&ManualClock::new(NOW_MS));
    let at_zero = || SetOptions::new().deadline_ms(0);
    for key in ["h", "i"] {
        db.hset(key, "f", "v").unwrap();
    }
    db.hset_with("h", &[("f", "w")], at_zero()).unwrap();
    db.hget_ex("i", &["f"], TtlChange::At(0)).unwrap();
    db.set_with("s", "v", at_zero()).unwrap();
    assert_eq!(db.exists_many(&["h", "i", "s"]).unwrap(), 0);
}
