//! Replies as text, in the two forms of redis-cli.

use std::io::{self, IsTerminal, Write};

pub(super) use brasa::command::write_quoted as quoted;
use brasa::command::{ErrorReply, Reply};

/// The form in which replies are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// With types, for people: `(integer) 1`, `"..."`, `(nil)`.
    Terminal,
    /// Bare bytes and a line break, for programs.
    Raw,
}

impl Form {
    /// Returns the requested form, or the default for standard output.
    pub(super) fn choose(raw: bool, no_raw: bool) -> Form {
        if no_raw || (!raw && io::stdout().is_terminal()) {
            Form::Terminal
        } else {
            Form::Raw
        }
    }
}

/// Writes a reply and a line break.
pub(super) fn reply(reply: &Reply, form: Form, output: &mut impl Write) -> io::Result<()> {
    match form {
        Form::Terminal => terminal(reply, 0, output),
        Form::Raw => {
            raw(reply, output)?;
            output.write_all(b"\n")
        }
    }
}

/// Writes an error reply to standard error.
pub(super) fn error(error: &ErrorReply, form: Form, place: &str) {
    let mut line = place.as_bytes().to_vec();
    if form == Form::Terminal {
        line.extend_from_slice(b"(error) ");
    }
    line.extend_from_slice(error.as_bytes());
    line.push(b'\n');
    // If standard error is closed too, only the exit status reports the error.
    let _ = io::stderr().write_all(&line);
}

/// Writes a message of the program itself to standard error.
pub(super) fn complain(message: &str) {
    let _ = writeln!(io::stderr(), "brasa: {message}");
}

/// Formats a count with its noun, in the plural if needed.
pub(super) fn counted(count: u64, what: &str) -> String {
    match count {
        1 => format!("1 {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Writes a reply with its types. All lines but the first are indented by `indent` columns.
fn terminal(reply: &Reply, indent: usize, output: &mut impl Write) -> io::Result<()> {
    match reply {
        Reply::Status(text) => writeln!(output, "{text}"),
        Reply::Error(error) => {
            output.write_all(b"(error) ")?;
            output.write_all(error.as_bytes())?;
            output.write_all(b"\n")
        }
        Reply::Integer(number) => writeln!(output, "(integer) {number}"),
        Reply::Double(number) => writeln!(output, "\"{number}\""),
        Reply::Bulk(bytes) => {
            quoted(bytes, output)?;
            output.write_all(b"\n")
        }
        Reply::Nil | Reply::NilArray => writeln!(output, "(nil)"),
        Reply::Verbatim(text) => output.write_all(text.as_bytes()),
        Reply::Array(replies) | Reply::Push(replies) => list(replies, indent, output),
        Reply::Several(replies) => {
            let mut replies = replies.iter();
            replies.try_for_each(|reply| terminal(reply, indent, output))
        }
        // redis-cli prints a map like this unless it was told to use RESP3.
        Reply::Map(entries) | Reply::Pairs(entries) => {
            let replies: Vec<&Reply> = entries
                .iter()
                .flat_map(|(key, value)| [key, value])
                .collect();
            list(&replies, indent, output)
        }
        other => writeln!(output, "{other:?}"),
    }
}

fn list(
    replies: &[impl std::borrow::Borrow<Reply>],
    indent: usize,
    output: &mut impl Write,
) -> io::Result<()> {
    if replies.is_empty() {
        return writeln!(output, "(empty array)");
    }
    let width = replies.len().to_string().len();
    for (index, reply) in replies.iter().enumerate() {
        // The caller has written the indentation of the first line.
        let indent_here = if index == 0 { 0 } else { indent };
        write!(output, "{:indent_here$}{:>width$}) ", "", index + 1)?;
        terminal(reply.borrow(), indent + width + 2, output)?;
    }
    Ok(())
}

/// Writes each element on its own line. An empty or nil element is an empty line.
fn raw(reply: &Reply, output: &mut impl Write) -> io::Result<()> {
    match reply {
        Reply::Status(text) => output.write_all(text.as_bytes()),
        Reply::Error(error) => output.write_all(error.as_bytes()),
        Reply::Integer(number) => write!(output, "{number}"),
        Reply::Double(number) => write!(output, "{number}"),
        Reply::Bulk(bytes) => output.write_all(bytes),
        Reply::Nil | Reply::NilArray => Ok(()),
        Reply::Verbatim(text) => output.write_all(text.trim_end().as_bytes()),
        Reply::Array(replies) | Reply::Push(replies) | Reply::Several(replies) => {
            lines(replies, output)
        }
        Reply::Map(entries) | Reply::Pairs(entries) => {
            lines(entries.iter().flat_map(|(key, value)| [key, value]), output)
        }
        other => write!(output, "{other:?}"),
    }
}

fn lines<'r>(
    replies: impl IntoIterator<Item = &'r Reply>,
    output: &mut impl Write,
) -> io::Result<()> {
    for (index, reply) in replies.into_iter().enumerate() {
        if index > 0 {
            output.write_all(b"\n")?;
        }
        raw(reply, output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::{Form, reply};
    use brasa::command::{Reply, Session, split_words};

    #[track_caller]
    fn shows(shown: &Reply, terminal: &str, raw: &[u8]) {
        let mut output = Vec::new();
        reply(shown, Form::Terminal, &mut output).unwrap();
        assert_eq!(String::from_utf8(output).unwrap(), terminal);
        let mut output = Vec::new();
        reply(shown, Form::Raw, &mut output).unwrap();
        assert_eq!(
            output.escape_ascii().to_string(),
            raw.escape_ascii().to_string()
        );
    }

    fn error() -> Reply {
        let mut session = Session::new(brasa::Db::in_memory().unwrap());
        session.execute(&["SET"])
    }

    #[test]
    fn single_replies() {
        shows(&Reply::OK, "OK\n", b"OK\n");
        shows(&Reply::Integer(-7), "(integer) -7\n", b"-7\n");
        shows(&Reply::Nil, "(nil)\n", b"\n");
        shows(
            &Reply::bulk("Relou Uourdi"),
            "\"Relou Uourdi\"\n",
            b"Relou Uourdi\n",
        );
        shows(&Reply::bulk(""), "\"\"\n", b"\n");
        shows(&Reply::Double(3.5), "\"3.5\"\n", b"3.5\n");
        shows(
            &error(),
            "(error) ERR wrong number of arguments for 'set' command\n",
            b"ERR wrong number of arguments for 'set' command\n",
        );
    }

    #[test]
    fn bytes_that_cannot_be_read_are_escaped() {
        shows(
            &Reply::bulk(b"\x00\x1f \"\\\n\r\t\x07\x08~\x7f\x80\xff"),
            "\"\\x00\\x1f \\\"\\\\\\n\\r\\t\\a\\b~\\x7f\\x80\\xff\"\n",
            b"\x00\x1f \"\\\n\r\t\x07\x08~\x7f\x80\xff\n",
        );
    }

    #[test]
    fn what_is_quoted_reads_back_as_it_was() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut line = Vec::new();
        super::quoted(&every_byte, &mut line).unwrap();
        assert_eq!(split_words(&line).unwrap(), [every_byte]);
    }

    #[test]
    fn arrays_are_numbered() {
        shows(&Reply::Array(Vec::new()), "(empty array)\n", b"\n");
        shows(
            &Reply::Array(vec![Reply::bulk("a"), Reply::Nil, Reply::Integer(3)]),
            "1) \"a\"\n2) (nil)\n3) (integer) 3\n",
            b"a\n\n3\n",
        );
    }

    #[test]
    fn numbers_are_as_wide_as_the_last_one() {
        let reply = Reply::Array((1..=10).map(Reply::Integer).collect());
        let terminal: String = (1..=10)
            .map(|number| format!("{number:>2}) (integer) {number}\n"))
            .collect();
        shows(&reply, &terminal, b"1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n");
    }

    #[test]
    fn nested_arrays_are_moved_in() {
        let inner = Reply::Array(vec![Reply::bulk("a"), error(), Reply::bulk("b")]);
        let mut replies = vec![Reply::bulk("0"), inner, Reply::Array(Vec::new())];
        shows(
            &Reply::Array(replies.clone()),
            "1) \"0\"\n\
             2) 1) \"a\"\n   \
                2) (error) ERR wrong number of arguments for 'set' command\n   \
                3) \"b\"\n\
             3) (empty array)\n",
            b"0\na\nERR wrong number of arguments for 'set' command\nb\n\n",
        );
        replies.truncate(2);
        replies.extend((0..8).map(Reply::Integer));
        let mut output = Vec::new();
        reply(
            &Reply::Array(vec![Reply::Array(replies)]),
            Form::Terminal,
            &mut output,
        )
        .unwrap();
        let text = String::from_utf8(output).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "1)  1) \"0\"");
        assert_eq!(lines[1], "    2) 1) \"a\"");
        assert_eq!(lines[3], "       3) \"b\"");
        assert_eq!(lines[11], "   10) (integer) 7");
    }

    #[test]
    fn a_map_is_a_flat_list() {
        let map = Reply::Map(vec![
            (Reply::bulk("nome"), Reply::bulk("thailan")),
            (Reply::bulk("idade"), Reply::bulk("29")),
        ]);
        shows(
            &map,
            "1) \"nome\"\n2) \"thailan\"\n3) \"idade\"\n4) \"29\"\n",
            b"nome\nthailan\nidade\n29\n",
        );
        shows(&Reply::Map(Vec::new()), "(empty array)\n", b"\n");
    }
}
