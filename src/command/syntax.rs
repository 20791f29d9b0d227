//! Parses the usage line of a command into its arguments, for COMMAND DOCS.
//!
//! The line is written as in Redis's documentation. Brackets contain optional parts, bars divide
//! alternatives, words in capitals are literal, and an ellipsis repeats the part before it.

/// What an argument is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Kind {
    /// A name for what the user gives.
    Value(&'static str),
    /// A word that stands for itself.
    Word(&'static str),
    /// Exactly one of these.
    OneOf(Vec<Argument>),
    /// All of these, one after another.
    Block(Vec<Argument>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Argument {
    pub(super) kind: Kind,
    pub(super) optional: bool,
    pub(super) multiple: bool,
}

impl Argument {
    fn new(kind: Kind) -> Argument {
        Argument {
            kind,
            optional: false,
            multiple: false,
        }
    }

    /// Its name: the value's, or the word's in lower case.
    pub(super) fn name(&self) -> String {
        match &self.kind {
            Kind::Value(name) => (*name).to_owned(),
            Kind::Word(word) => word.to_ascii_lowercase(),
            Kind::OneOf(of) | Kind::Block(of) => {
                of.first().map_or_else(String::new, Argument::name)
            }
        }
    }

    /// The type that Redis gives to such an argument.
    pub(super) fn type_name(&self) -> &'static str {
        match &self.kind {
            Kind::Word(_) => "pure-token",
            Kind::OneOf(_) => "oneof",
            Kind::Block(_) => "block",
            Kind::Value(name) => match *name {
                "key" | "key1" | "key2" | "newkey" | "destination" | "destkey" => "key",
                "pattern" => "pattern",
                "increment" | "count" | "cursor" | "db" | "destination-db" | "end" | "index"
                | "index1" | "index2" | "milliseconds" | "min-match-len" | "numfields"
                | "numkeys" | "numlocal" | "numreplicas" | "offset" | "seconds" | "start"
                | "timeout" | "ttl" => "integer",
                "unix-time-seconds" | "unix-time-milliseconds" => "unix-time",
                _ => "string",
            },
        }
    }
}

/// The arguments that a line names.
pub(super) fn arguments(syntax: &'static str) -> Vec<Argument> {
    let mut words = words_of(syntax).into_iter().peekable();
    alternatives(&mut words)
}

type Words = std::iter::Peekable<std::vec::IntoIter<&'static str>>;

/// The words of a line, each bracket being one.
fn words_of(syntax: &'static str) -> Vec<&'static str> {
    let mut words = Vec::new();
    for mut word in syntax.split(' ') {
        while let Some(rest) = word.strip_prefix('[') {
            words.push("[");
            word = rest;
        }
        let bare = word.trim_end_matches(']');
        if !bare.is_empty() {
            words.push(bare);
        }
        words.extend(std::iter::repeat_n("]", word.len() - bare.len()));
    }
    words
}

/// A sequence up to the closing bracket or the end, or several with bars between them.
fn alternatives(words: &mut Words) -> Vec<Argument> {
    let mut all = vec![Vec::new()];
    while let Some(word) = words.next() {
        let Some(last) = all.last_mut() else {
            break;
        };
        match word {
            "]" => break,
            "|" => all.push(Vec::new()),
            "[" => {
                let inner = alternatives(words);
                push_bracket(last, inner);
            }
            "..." => {
                if let Some(argument) = last.last_mut() {
                    argument.multiple = true;
                }
            }
            word if is_capital(word) => last.push(Argument::new(Kind::Word(word))),
            word => last.push(Argument::new(Kind::Value(word))),
        }
    }
    if all.len() == 1 {
        return all.pop().unwrap_or_default();
    }
    let one_of = all.into_iter().map(as_one).collect();
    vec![Argument::new(Kind::OneOf(one_of))]
}

/// What stands in brackets may be left out; `key [key ...]` is one argument that may be repeated.
fn push_bracket(last: &mut Vec<Argument>, mut inner: Vec<Argument>) {
    let repeats = inner.last().is_some_and(|argument| argument.multiple);
    if repeats {
        if let Some(argument) = inner.last_mut() {
            argument.multiple = false;
        }
        let start = last.len().checked_sub(inner.len());
        if let Some(start) = start.filter(|start| last[*start..] == inner[..]) {
            last.truncate(start);
            last.push(Argument {
                multiple: true,
                ..as_one(inner)
            });
            return;
        }
    }
    last.push(Argument {
        optional: true,
        multiple: repeats,
        ..as_one(inner)
    });
}

fn as_one(mut arguments: Vec<Argument>) -> Argument {
    match arguments.len() {
        1 => arguments
            .pop()
            .unwrap_or(Argument::new(Kind::Block(Vec::new()))),
        _ => Argument::new(Kind::Block(arguments)),
    }
}

fn is_capital(word: &str) -> bool {
    word.bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use super::{Argument, Kind, arguments};

    /// An argument in a short form: `?` for one that may be left out, `+` for one that may be repeated.
    fn show(argument: &Argument) -> String {
        let list = |of: &[Argument], by: &str| of.iter().map(show).collect::<Vec<_>>().join(by);
        let text = match &argument.kind {
            Kind::Value(name) => (*name).to_owned(),
            Kind::Word(word) => (*word).to_owned(),
            Kind::OneOf(of) => format!("<{}>", list(of, "|")),
            Kind::Block(of) => format!("({})", list(of, " ")),
        };
        let optional = if argument.optional { "?" } else { "" };
        let multiple = if argument.multiple { "+" } else { "" };
        format!("{text}{optional}{multiple}")
    }

    #[test]
    fn a_line_is_taken_apart_as_it_is_meant() {
        for (syntax, expected) in [
            ("", ""),
            ("key", "key"),
            ("key [key ...]", "key+"),
            ("key value [key value ...]", "(key value)+"),
            ("key [NX | XX] [GET]", "key <NX|XX>? GET?"),
            (
                "key [EX seconds | PX milliseconds | KEEPTTL]",
                "key <(EX seconds)|(PX milliseconds)|KEEPTTL>?",
            ),
            ("[message]", "message?"),
            (
                "key [start end [BYTE | BIT]]",
                "key (start end <BYTE|BIT>?)?",
            ),
            ("AND | OR", "<AND|OR>"),
            ("cursor [MATCH pattern]", "cursor (MATCH pattern)?"),
        ] {
            let shown: Vec<String> = arguments(syntax).iter().map(show).collect();
            assert_eq!(shown.join(" "), expected, "{syntax}");
        }
    }

    #[test]
    fn every_command_has_a_line_that_can_be_taken_apart() {
        for command in crate::command::commands() {
            let open = command.syntax.matches('[').count();
            let close = command.syntax.matches(']').count();
            assert_eq!(open, close, "{}", command.name);
            let arguments = arguments(command.syntax);
            assert_eq!(
                arguments.is_empty(),
                command.syntax.is_empty(),
                "{}",
                command.name
            );
        }
    }
}
