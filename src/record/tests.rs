use super::*;
use crate::limits::{MAX_FIELD_BYTES, MAX_KEY_BYTES, MAX_VALUE_BYTES};

const LINK: Link = Link {
    salt: 0x5a17_5a17,
    offset: 12_288,
    previous: 0x0bad_cafe,
};

fn hash_set() -> Change<'static> {
    Change {
        kind: Kind::HashSet,
        database: 3,
        deadline_ms: 1_700_000_000_123,
        key: b"meu_hash",
        field: b"nome",
        value: b"thailan",
    }
}

fn sealed(change: &Change<'_>, more: bool, link: Link) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(change, &mut bytes).unwrap();
    set_more(&mut bytes, more);
    seal(&mut bytes, link, 77);
    bytes
}

#[test]
fn what_was_encoded_is_decoded() {
    let bytes = sealed(&hash_set(), true, LINK);
    assert_eq!(bytes.len() as u64, hash_set().size_bytes());
    let record = decode(&bytes, LINK).unwrap();
    assert_eq!(record.change, hash_set());
    assert!(record.more);
    assert_eq!(record.writer, 77);
}

#[test]
fn the_first_word_of_every_kind_is_not_zero_and_tells_the_size() {
    for kind in Kind::ALL {
        let mut bytes = Vec::new();
        encode(&Change::of_key(kind, 0, b""), &mut bytes).unwrap();
        let word: [u8; 8] = bytes[..8].try_into().unwrap();
        assert_ne!(word, [0; 8]);
        assert_eq!(size_of_record(word), Ok(bytes.len()));
    }
}

#[test]
fn a_record_holds_at_its_own_place_alone() {
    let bytes = sealed(&hash_set(), false, LINK);
    for link in [
        Link { salt: 1, ..LINK },
        Link {
            offset: LINK.offset + 8,
            ..LINK
        },
        Link {
            previous: 1,
            ..LINK
        },
    ] {
        assert!(decode(&bytes, link).is_err(), "{link:?}");
    }
}

#[test]
fn every_flipped_bit_makes_a_record_invalid() {
    let bytes = sealed(&hash_set(), false, LINK);
    for bit in 0..bytes.len() * 8 {
        let mut damaged = bytes.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let size = size_of_record(damaged[..8].try_into().unwrap());
        let same_size = size == Ok(damaged.len());
        assert!(!same_size || decode(&damaged, LINK).is_err(), "bit {bit}");
    }
}

/// Any program can compute a checksum, so each rule is tried with a valid one.
#[test]
fn a_valid_checksum_does_not_excuse_a_broken_rule() {
    type Break = fn(&mut [u8]);
    let breaks: [(Break, &str); 9] = [
        (|r| r[at::KIND] = 14, "kind"),
        (|r| r[at::FLAGS] = 2, "flags"),
        (|r| r[at::RESERVED] = 1, "reserved"),
        (|r| r[at::DATABASE] = 16, "database"),
        (|r| r[at::DEADLINE.end - 1] = 0x80, "deadline"),
        (|r| r[at::KEY_LEN.end - 1] = 1, "key length"),
        (|r| r[at::FIELD_LEN.end - 1] = 1, "field length"),
        (|r| *r.last_mut().unwrap() = 1, "padding"),
        (|r| r[at::BODY_LEN.start] = 255, "length"),
    ];
    for (damage, rule) in breaks {
        let mut bytes = sealed(&hash_set(), false, LINK);
        damage(&mut bytes);
        seal(&mut bytes, LINK, 77);
        let word: [u8; 8] = bytes[..8].try_into().unwrap();
        let sound = size_of_record(word) == Ok(bytes.len()) && decode(&bytes, LINK).is_ok();
        assert!(!sound, "{rule}");
    }
}

#[test]
fn a_kind_has_no_part_that_is_not_its_own() {
    let full = hash_set();
    for kind in Kind::ALL {
        let allowed = kind == Kind::HashSet;
        let bytes = sealed(&Change { kind, ..full }, false, LINK);
        assert_eq!(decode(&bytes, LINK).is_ok(), allowed, "{kind:?}");
    }
    let swap = |other: &'static [u8]| Change {
        value: other,
        ..Change::of_key(Kind::SwapDatabases, 2, b"")
    };
    assert!(decode(&sealed(&swap(&[15]), false, LINK), LINK).is_ok());
    assert!(decode(&sealed(&swap(&[16]), false, LINK), LINK).is_err());
    assert!(decode(&sealed(&swap(&[]), false, LINK), LINK).is_err());
}

#[test]
fn only_data_has_a_commit_that_goes_on() {
    let poisoned = Change::control(Kind::Poisoned, b"io error");
    assert!(decode(&sealed(&poisoned, false, LINK), LINK).is_ok());
    assert_eq!(
        decode(&sealed(&poisoned, true, LINK), LINK).unwrap_err(),
        Invalid::Flags { found: 1 }
    );
}

#[test]
fn limits_hold_on_both_sides() {
    let long = vec![b'x'; MAX_VALUE_BYTES + 1];
    let encode_len = |key: usize, field: usize, value: usize| {
        let change = Change {
            key: &long[..key],
            field: &long[..field],
            value: &long[..value],
            ..hash_set()
        };
        encode(&change, &mut Vec::new()).is_ok()
    };
    assert!(encode_len(MAX_KEY_BYTES, MAX_FIELD_BYTES, 1));
    assert!(!encode_len(MAX_KEY_BYTES + 1, 0, 0));
    assert!(!encode_len(0, MAX_FIELD_BYTES + 1, 0));
    assert!(encode_len(0, 0, MAX_VALUE_BYTES));
    assert!(!encode_len(0, 0, MAX_VALUE_BYTES + 1));
}

#[test]
fn a_small_record_and_a_large_one_are_summed_alike() {
    for value_len in [0, 1, 471, 472, 473, 474, 600, 5_000] {
        let value = vec![7; value_len];
        let change = Change {
            value: &value,
            ..hash_set()
        };
        let bytes = sealed(&change, false, LINK);
        let mut plain = LINK.offset.to_le_bytes().to_vec();
        plain.extend_from_slice(&bytes);
        plain[16..20].copy_from_slice(&LINK.salt.to_le_bytes());
        let expected = crc32fast::hash(&plain).to_le_bytes();
        assert_eq!(bytes[at::CHECKSUM], expected, "value of {value_len}");
    }
}
