//! The arguments, and the texts about them: help, manual and completions.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use brasa::command::{self, Command, Group};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use super::{Failure, Outcome};

/// Runs the commands of Redis on one file: strings and hashes with a TTL, without a server.
#[derive(Debug, Parser)]
#[command(
    name = "brasa",
    version,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND [ARG]...",
    subcommand_help_heading = "Commands about the file"
)]
pub(super) struct Arguments {
    /// The file. The default is $BRASA_FILE, and if that is not set, brasa/cache.brasa in
    /// $XDG_CACHE_HOME or ~/.cache (macOS: ~/Library/Caches). The commands of Redis create a
    /// missing file.
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(super) file: Option<PathBuf>,

    /// The permissions of a new file, in octal. The umask does not change them. An existing file
    /// keeps its permissions.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = file_mode, global = true)]
    pub(super) mode: u32,

    /// The number of the database, from 0 to 15.
    #[arg(
        short = 'n',
        long,
        value_name = "DB",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..i64::from(brasa::limits::DATABASE_COUNT))
    )]
    pub(super) database: u8,

    /// Prints the bare bytes of replies, as is the default if the output is not a terminal.
    #[arg(long, conflicts_with = "no_raw")]
    pub(super) raw: bool,

    /// Prints replies with their types, as is the default on a terminal.
    #[arg(long)]
    pub(super) no_raw: bool,

    #[command(subcommand)]
    pub(super) verb: Option<Verb>,
}

/// Parses the mode of a file. Its owner must be able to open the file again.
fn file_mode(text: &str) -> Result<u32, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match u32::from_str_radix(text, 8) {
        Ok(mode) if digits && mode <= 0o777 && mode & 0o600 == 0o600 => Ok(mode),
        _ => Err(
            "a mode is three octal digits, and the owner must have read and write permission: for \
             example 640"
                .to_owned(),
        ),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serves the file to clients of Redis, until SIGTERM, Ctrl-C or SHUTDOWN ends it.
    ///
    /// Other programs may use the file at the same time, through the library or this command line.
    #[cfg(feature = "server")]
    Serve {
        /// The file, instead of -f; created if it is missing.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        #[command(flatten)]
        options: super::serve::ServeOptions,
    },
    /// Prints the size of the file, the number of its keys, and its live and dead bytes.
    Stats {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Verifies every record, and lists the damaged ranges and the keys lost in them.
    Check {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Copies the undamaged records of a damaged file into a new file, and lists the lost ones.
    ///
    /// The damaged file is kept. If the newest record of a key was lost, the key gets its previous
    /// value.
    Repair {
        /// Replaces the damaged file, and keeps it as FILE.damaged-0, or with the next free number.
        #[arg(long, conflicts_with = "output")]
        in_place: bool,
        /// The new file, instead of FILE.repaired; it must not exist.
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Compacts a file: rewrites its live records, and frees the space of the dead ones.
    ///
    /// A file is compacted automatically once more than half of it is dead. This command compacts it
    /// at once.
    Compact {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Copies the live records of a file into a new file.
    #[command(allow_missing_positional = true)]
    Backup {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// The new file; it must not exist.
        #[arg(value_name = "COPY")]
        target: PathBuf,
    },
    /// Copies all keys to a Redis or Valkey server or cluster, with their deadlines, and verifies them.
    ///
    /// Databases keep their numbers, unless the URL names one. Keys that the server refuses are
    /// listed, and the exit status is 1. After an interruption, the same command continues the copy.
    #[cfg(feature = "redis")]
    #[command(allow_missing_positional = true)]
    Push {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+cluster:// or
        /// rediss+cluster://.
        #[arg(value_name = "URL")]
        url: String,
        /// Starts from the beginning, even if an interrupted copy could be continued.
        #[arg(long)]
        restart: bool,
    },
    /// Copies all keys from a Redis or Valkey server or cluster, with their deadlines, and verifies
    /// them.
    ///
    /// A file holds strings and hashes. Keys of other types are listed, and the exit status is 1.
    /// After an interruption, the same command continues the copy.
    #[cfg(feature = "redis")]
    Pull {
        /// redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+cluster:// or
        /// rediss+cluster://.
        #[arg(value_name = "URL")]
        url: String,
        /// The file, instead of -f; created if it is missing.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// Starts from the beginning, even if an interrupted copy could be continued.
        #[arg(long)]
        restart: bool,
    },
    /// Prints changes by any process as they are made, until it is interrupted.
    Tail {
        /// Starts after this log position. The first line of the output is the position it starts at.
        #[arg(long, value_name = "POSITION")]
        since: Option<u64>,
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Prints all records, live and dead, in the order in which they were written.
    Log {
        /// Prints one JSON object a line. Keys and fields that are not UTF-8 are printed in
        /// hexadecimal, as key_hex and field_hex.
        #[arg(long)]
        json: bool,
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Prints a completion script for a shell.
    Completions {
        /// The shell.
        shell: Shell,
    },
    /// Prints the manual page, in roff.
    Man,
    /// Prints the help, or the help of one command.
    Help {
        /// A command about the file, or a command of Redis.
        #[arg(value_name = "COMMAND")]
        verb: Option<OsString>,
    },
    /// Runs a command of Redis with its arguments.
    #[command(external_subcommand)]
    Redis(Vec<OsString>),
}

/// The subject of a help text.
pub(super) enum Topic<'a> {
    Everything,
    /// A command of Redis.
    Redis(&'a [u8]),
    /// A command of Redis or about the file.
    Any(&'a [u8]),
}

const EXAMPLES: &str = "\
Examples:
  brasa SET chave_1 \"Relou Uourdi\" EX 10     expires after ten seconds
  brasa GET chave_1
  brasa -f c.brasa HSET meu_hash nome thailan idade 29
  brasa -f c.brasa HGETALL meu_hash
  brasa -f c.brasa --no-raw SCAN 0 MATCH 'user:*' COUNT 100
  brasa -f c.brasa < commands.txt           one command a line, quoted as in redis-cli
  brasa check c.brasa
  brasa repair c.brasa --in-place
  brasa compact c.brasa
  brasa tail c.brasa                        prints each change by any process
  brasa backup c.brasa copy.brasa
  brasa help SET

Exit status:
  0  success, also if the reply is nil
  1  a reply was an error, or the file is damaged or cannot be used; if commands are
     read from standard input, one failed command is enough
  2  wrong usage
If the output is closed early, all lines of standard input are still executed, and the
exit status is the same.
";

/// Parses the arguments. Prints help and exits if they ask for help or are wrong.
pub(super) fn parse() -> Arguments {
    let matches = command_line().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command_line() -> clap::Command {
    let verbs = verb_list();
    Arguments::command()
        .after_help("`brasa --help` prints examples and the list of the commands of Redis.")
        .after_long_help(format!("{verbs}\n{EXAMPLES}"))
}

/// The commands of Redis by group.
fn verb_list() -> String {
    let mut groups: Vec<Group> = command::commands().iter().map(|verb| verb.group).collect();
    groups.sort_unstable();
    groups.dedup();
    let mut text = "Commands of Redis, in upper or lower case:\n".to_owned();
    for group in groups {
        let names: Vec<String> = command::commands()
            .iter()
            .filter(|verb| verb.group == group)
            .map(|verb| verb.name.to_uppercase())
            .collect();
        let _ = write!(text, "  {:<11}", group.name());
        let mut column = 13;
        for name in names {
            if column + name.len() >= 78 {
                let _ = write!(text, "\n{:13}", "");
                column = 13;
            }
            let _ = write!(text, " {name}");
            column += name.len() + 1;
        }
        text.push('\n');
    }
    text
}

/// The usage of a command of Redis: its name and its arguments.
pub(super) fn usage(verb: &Command) -> String {
    format!("{} {}", verb.name.to_uppercase(), verb.syntax)
        .trim_end()
        .to_owned()
}

pub(super) fn print_help(topic: Topic<'_>) -> Outcome {
    let text = match topic {
        Topic::Everything => command_line().render_long_help().to_string(),
        Topic::Redis(name) => redis_help(name)?,
        Topic::Any(name) => {
            let mut command_line = command_line();
            command_line.build();
            let about_file = str::from_utf8(name)
                .ok()
                .and_then(|name| command_line.find_subcommand_mut(name.to_lowercase()));
            match about_file {
                Some(subcommand) => subcommand.render_long_help().to_string(),
                None => redis_help(name)?,
            }
        }
    };
    print(text.as_bytes())
}

/// The help of one command of Redis.
pub(super) fn redis_help(name: &[u8]) -> Result<String, Failure> {
    let verb = command::find(name).ok_or_else(|| {
        Failure::Usage(format!(
            "unknown command '{}'; `brasa help` lists all commands",
            name.escape_ascii()
        ))
    })?;
    Ok(format!("{}\n\n{}.\n", usage(verb), verb.summary))
}

pub(super) fn print_completions(shell: Shell) -> Outcome {
    let verbs = command::commands()
        .iter()
        .map(|verb| clap::Command::new(verb.name).about(verb.summary));
    let mut script = Vec::new();
    let mut command_line = command_line().subcommands(verbs);
    clap_complete::generate(shell, &mut command_line, "brasa", &mut script);
    print(&script)
}

pub(super) fn print_manual() -> Outcome {
    let mut page = Vec::new();
    clap_mangen::Man::new(command_line()).render(&mut page)?;
    print(&page)
}

fn print(text: &[u8]) -> Outcome {
    let mut output = io::stdout().lock();
    output.write_all(text)?;
    output.flush()?;
    Ok(true)
}
