//! Any bytes as requests of Redis's protocol, whole and in pieces.

use brasa::server::request::{Decoded, Decoder, Limits, ProtocolError};

use super::cursor::Cursor;

type Requests = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// The first byte chooses the limits, the next few where the rest is cut: the requests are the same, however the bytes come.
pub fn resp_decode(data: &[u8]) {
    let mut cursor = Cursor::new(data);
    let choice = cursor.u8();
    let base = match choice & 1 {
        0 => Limits::TRUSTED,
        _ => Limits::STRANGER,
    };
    let limits = Limits {
        lines: choice & 2 != 0,
        ..base
    };
    let cuts: Vec<usize> = (0..4).map(|_| usize::from(cursor.u8())).collect();
    let bytes = cursor.rest();
    let whole = requests(&[bytes], &limits);
    let mut pieces = Vec::new();
    let mut rest = bytes;
    for cut in cuts {
        let (piece, behind) = rest.split_at(cut.min(rest.len()));
        pieces.push(piece);
        rest = behind;
    }
    pieces.push(rest);
    assert_eq!(requests(&pieces, &limits), whole);
    let single: Vec<&[u8]> = bytes.chunks(1).take(4_096).collect();
    if single.len() == bytes.len() {
        assert_eq!(requests(&single, &limits), whole);
    }
    // Nothing is made of what did not come.
    let (found, _) = whole;
    let words: usize = found.iter().flatten().map(Vec::len).sum();
    assert!(words <= bytes.len());
}

fn requests(pieces: &[&[u8]], limits: &Limits) -> Requests {
    let mut decoder = Decoder::default();
    let mut buffer = Vec::new();
    let mut found = Vec::new();
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&buffer, limits) {
                Err(error) => return (found, Some(error)),
                Ok(Decoded::Part) => break,
                Ok(Decoded::Request(len)) => {
                    assert!(len > 0 && len <= buffer.len());
                    let words = 0..decoder.word_count();
                    found.push(
                        words
                            .map(|word| decoder.word(&buffer, word).to_vec())
                            .collect(),
                    );
                    buffer.drain(..len);
                }
            }
        }
    }
    (found, None)
}
