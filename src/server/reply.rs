//! Replies as bytes, in the protocol's version 2 or 3.

use super::output::Output;
use crate::command::{Bulk, ErrorReply, Reply};
use crate::limits::MAX_REPLY_BYTES;

/// A reply, or that it is too large: one that names the same value a million times would take more memory than there is.
pub(super) fn within_limit(reply: Reply) -> Reply {
    // A single value has a limit of its own.
    let may_be_large = matches!(
        reply,
        Reply::Array(_) | Reply::Map(_) | Reply::Pairs(_) | Reply::Several(_)
    );
    match may_be_large && reply.size_bytes() > MAX_REPLY_BYTES {
        true => {
            let text = &b"ERR the reply exceeds 1 GiB: request less at a time"[..];
            Reply::Error(ErrorReply::new(text))
        }
        false => reply,
    }
}

/// Appends a reply.
#[inline]
pub(super) fn encode(reply: &Reply, protocol: u8, out: &mut Output) {
    append(reply, protocol, out);
    out.end_reply();
}

/// Appends the messages within a reply that is not wanted itself: CLIENT REPLY OFF and SKIP do not apply to them.
pub(super) fn encode_pushes(reply: &Reply, protocol: u8, out: &mut Output) {
    match reply {
        Reply::Push(_) => encode(reply, protocol, out),
        Reply::Several(replies) | Reply::Array(replies) => {
            for reply in replies {
                encode_pushes(reply, protocol, out);
            }
        }
        _ => {}
    }
}

fn append(reply: &Reply, protocol: u8, out: &mut Output) {
    let is_three = protocol >= 3;
    match reply {
        Reply::Status(text) => line(b'+', text.as_bytes(), out),
        Reply::Error(error) => line(b'-', error.as_bytes(), out),
        Reply::Integer(number) => header(b':', *number, out),
        Reply::Bulk(Bulk::Shared(value)) => {
            header(b'$', count(value.len()), out);
            out.extend_from_value(value);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Bulk(bytes) => bulk(bytes, out),
        Reply::Nil if is_three => out.extend_from_slice(b"_\r\n"),
        Reply::NilArray if is_three => out.extend_from_slice(b"_\r\n"),
        Reply::Nil => out.extend_from_slice(b"$-1\r\n"),
        Reply::NilArray => out.extend_from_slice(b"*-1\r\n"),
        Reply::Double(number) if is_three => line(b',', number.to_string().as_bytes(), out),
        Reply::Double(number) => bulk(number.to_string().as_bytes(), out),
        Reply::Verbatim(text) if is_three => {
            header(b'=', count(text.len() + 4), out);
            out.extend_from_slice(b"txt:");
            out.extend_from_slice(text.as_bytes());
            out.extend_from_slice(b"\r\n");
        }
        Reply::Verbatim(text) => bulk(text.as_bytes(), out),
        Reply::Array(replies) => list(b'*', replies, protocol, out),
        Reply::Push(replies) => list(if is_three { b'>' } else { b'*' }, replies, protocol, out),
        Reply::Several(replies) => {
            for reply in replies {
                append(reply, protocol, out);
            }
        }
        Reply::Map(entries) => {
            match is_three {
                true => header(b'%', count(entries.len()), out),
                false => header(b'*', count(entries.len() * 2), out),
            }
            pairs(entries, protocol, out);
        }
        Reply::Pairs(entries) if is_three => {
            header(b'*', count(entries.len()), out);
            for entry in entries {
                header(b'*', 2, out);
                pairs(std::slice::from_ref(entry), protocol, out);
            }
        }
        Reply::Pairs(entries) => {
            header(b'*', count(entries.len() * 2), out);
            pairs(entries, protocol, out);
        }
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}

fn line(kind: u8, text: &[u8], out: &mut Output) {
    out.push(kind);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

/// A number behind its kind, without the detour by a string.
fn header(kind: u8, number: i64, out: &mut Output) {
    out.push(kind);
    if number < 0 {
        out.push(b'-');
    }
    let mut digits = [0; 20];
    let mut at = digits.len();
    let mut rest = number.unsigned_abs();
    loop {
        at -= 1;
        // One digit.
        digits[at] = b'0' + u8::try_from(rest % 10).unwrap_or(0);
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
    out.extend_from_slice(b"\r\n");
}

fn bulk(bytes: &[u8], out: &mut Output) {
    header(b'$', count(bytes.len()), out);
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn list(kind: u8, replies: &[Reply], protocol: u8, out: &mut Output) {
    header(kind, count(replies.len()), out);
    for reply in replies {
        append(reply, protocol, out);
    }
}

fn pairs(entries: &[(Reply, Reply)], protocol: u8, out: &mut Output) {
    for (key, value) in entries {
        append(key, protocol, out);
        append(value, protocol, out);
    }
}

#[cfg(test)]
mod tests {
    use super::{Output, encode, within_limit};
    use crate::Db;
    use crate::command::{Reply, Session};

    #[test]
    fn a_reply_that_names_a_value_too_often_is_refused() {
        let db = Db::in_memory().unwrap();
        db.set("k", vec![b'v'; 1 << 20]).unwrap();
        let mut session = Session::new(db);
        let mut ask = |count: usize| {
            let words = [vec!["MGET"], vec!["k"; count]].concat();
            within_limit(session.execute(&words))
        };
        assert!(matches!(ask(1_000), Reply::Array(values) if values.len() == 1_000));
        let refused = ask(1_024);
        let said = matches!(&refused, Reply::Error(error) if error.as_bytes().starts_with(b"ERR the reply exceeds"));
        assert!(said, "{refused:?}");
    }

    #[test]
    fn replies_are_shown_in_either_version() {
        let pair = || vec![(Reply::bulk("f"), Reply::Integer(-7))];
        for (reply, two, three) in [
            (Reply::OK, "+OK\r\n", "+OK\r\n"),
            (
                Reply::Integer(i64::MIN),
                ":-9223372036854775808\r\n",
                ":-9223372036854775808\r\n",
            ),
            (Reply::bulk("a\r\n"), "$3\r\na\r\n\r\n", "$3\r\na\r\n\r\n"),
            (Reply::Nil, "$-1\r\n", "_\r\n"),
            (Reply::NilArray, "*-1\r\n", "_\r\n"),
            (Reply::Double(1.5), "$3\r\n1.5\r\n", ",1.5\r\n"),
            (
                Reply::Map(pair()),
                "*2\r\n$1\r\nf\r\n:-7\r\n",
                "%1\r\n$1\r\nf\r\n:-7\r\n",
            ),
            (
                Reply::Pairs(pair()),
                "*2\r\n$1\r\nf\r\n:-7\r\n",
                "*1\r\n*2\r\n$1\r\nf\r\n:-7\r\n",
            ),
            (
                Reply::Push(vec![Reply::Nil]),
                "*1\r\n$-1\r\n",
                ">1\r\n_\r\n",
            ),
            (
                Reply::Several(vec![Reply::OK, Reply::Integer(0)]),
                "+OK\r\n:0\r\n",
                "+OK\r\n:0\r\n",
            ),
            (
                Reply::Verbatim("x".into()),
                "$1\r\nx\r\n",
                "=5\r\ntxt:x\r\n",
            ),
        ] {
            for (protocol, expected) in [(2, two), (3, three)] {
                let mut out = Output::default();
                encode(&reply, protocol, &mut out);
                assert_eq!(
                    String::from_utf8(out.to_bytes()).unwrap(),
                    expected,
                    "{reply:?} in {protocol}"
                );
            }
        }
    }
}
