//! Any bytes through the reader of logs.

use brasa::inspect::{LogEnd, check_bytes};

use super::cursor::Cursor;
use super::image;

/// The first byte says whether a valid header stands before the rest, and what it claims.
pub fn log_decoder(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let file = match cursor.u8() % 4 {
        0 => cursor.rest().to_vec(),
        1 => {
            let mut file = image::header(image::LOG_START as u64);
            file.extend_from_slice(cursor.rest());
            file
        }
        2 => {
            let mut file = image::header(cursor.u64());
            file.extend_from_slice(cursor.rest());
            file
        }
        _ => image::file(&mut cursor),
    };
    let Ok(report) = check_bytes(&file) else {
        return;
    };
    let end = image::LOG_START as u64 + report.log_bytes;
    assert!(end <= file.len() as u64);
    assert!(report.record_count >= report.commit_count);
    assert!(report.record_count * 32 <= report.log_bytes);

    // What was found whole is whole on its own.
    let prefix = &file[..usize::try_from(end).unwrap()];
    let again = check_bytes(prefix).unwrap();
    assert_eq!(again.record_count, report.record_count);
    assert_eq!(again.log_bytes, report.log_bytes);
    if report.is_sound() {
        assert!(matches!(again.end, LogEnd::Clean), "{again:?}");
    }
}
