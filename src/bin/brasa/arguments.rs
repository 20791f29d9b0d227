//! The arguments, and everything that is told about them: help, manual and completions.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use brasa::command::{self, Command, Group};
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use clap_complete::Shell;

use super::{Failure, Outcome};

/// Redis's verbs on one file: strings and hashes with a time to live, without a server.
#[derive(Debug, Parser)]
#[command(
    name = "brasa",
    version,
    disable_help_subcommand = true,
    subcommand_value_name = "COMMAND [ARG]...",
    subcommand_help_heading = "Commands about the file"
)]
pub(super) struct Arguments {
    /// The file; without this option $BRASA_FILE, and without that brasa/cache.brasa in
    /// $XDG_CACHE_HOME or ~/.cache (macOS: ~/Library/Caches). A command of Redis creates it if
    /// it is missing.
    #[arg(short, long, value_name = "FILE", global = true)]
    pub(super) file: Option<PathBuf>,

    /// The permissions of a file that is created, in octal. The umask does not change them, and
    /// an existing file keeps its own.
    #[arg(long, value_name = "MODE", default_value = "600", value_parser = file_mode, global = true)]
    pub(super) mode: u32,

    /// Which of the file's 16 databases, from 0 to 15.
    #[arg(
        short = 'n',
        long,
        value_name = "DB",
        default_value_t = 0,
        value_parser = clap::value_parser!(u8).range(0..i64::from(brasa::limits::DATABASE_COUNT))
    )]
    pub(super) database: u8,

    /// Shows replies bare, a line each, as when the output is no terminal.
    #[arg(long, conflicts_with = "no_raw")]
    pub(super) raw: bool,

    /// Shows replies with their types, as on a terminal.
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
            "a mode is three octal digits that let the owner read and write, such as 640"
                .to_owned(),
        ),
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// Serves the file to clients of Redis, until SIGTERM, Ctrl-C or SHUTDOWN ends it.
    ///
    /// Others may use the file meanwhile, by the library and by this command line.
    #[cfg(feature = "server")]
    Serve {
        /// The file, instead of -f; it is created where it is missing.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        #[command(flatten)]
        options: super::serve::ServeOptions,
    },
    /// Prints sizes, the number of keys, live and dead bytes.
    Stats {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Verifies every record and the chain they form; names every damaged range and what was lost in it.
    Check {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Writes what survives of a damaged file into a new one and lists what was lost; the damaged one is kept.
    ///
    /// Where a key's newest record was lost, an older value comes back.
    Repair {
        /// Gives the new file the damaged one's name; that one is kept as FILE.damaged-0 or the
        /// next free number.
        #[arg(long, conflicts_with = "output")]
        in_place: bool,
        /// The new file, instead of FILE.repaired; it must not be there.
        #[arg(long, value_name = "PATH")]
        output: Option<PathBuf>,
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Rewrites a file to what it holds now, which gives the space of everything else back.
    ///
    /// Files are compacted without being asked when more than half of them is dead; this does it now.
    Compact {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Writes what a file holds now into a new one, without what is dead.
    #[command(allow_missing_positional = true)]
    Backup {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// The new file; it must not be there.
        #[arg(value_name = "COPY")]
        target: PathBuf,
    },
    /// Moves everything to a Redis or Valkey server, or a cluster, with its deadlines, and verifies it.
    ///
    /// Databases keep their numbers, unless the URL names one. What the server refuses is listed, and makes the exit status 1. Called again after it was
    /// broken off, it goes on where it was.
    #[cfg(feature = "redis")]
    #[command(allow_missing_positional = true)]
    Push {
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+cluster:// or rediss+cluster://.
        #[arg(value_name = "URL")]
        url: String,
        /// Begins anew, wherever an earlier one was broken off.
        #[arg(long)]
        restart: bool,
    },
    /// Moves everything from a Redis or Valkey server, or a cluster, into a file, with its deadlines, and verifies it.
    ///
    /// A file holds strings and hashes: keys of other types are listed, and make the exit status 1. Called again after it was broken off, it goes on where
    /// it was.
    #[cfg(feature = "redis")]
    Pull {
        /// redis://[USER:PASSWORD@]HOST[:PORT][/DB], rediss:// (TLS), redis+cluster:// or rediss+cluster://.
        #[arg(value_name = "URL")]
        url: String,
        /// The file, instead of -f; it is created where it is missing.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
        /// Begins anew, wherever an earlier one was broken off.
        #[arg(long)]
        restart: bool,
    },
    /// Prints what is changed from now on, by any process, until it is interrupted.
    Tail {
        /// Begins behind this position; a line before the first change names the one it begins at.
        #[arg(long, value_name = "POSITION")]
        since: Option<u64>,
        /// The file, instead of -f.
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Prints the records, live and dead, in the order they were written.
    Log {
        /// One JSON object a line. Bytes that are no UTF-8 come in hexadecimal, as key_hex and field_hex.
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
    /// Prints the manual page.
    Man,
    /// Tells about everything, or about one command.
    Help {
        /// The command, of the file's or of Redis's.
        #[arg(value_name = "COMMAND")]
        verb: Option<OsString>,
    },
    /// A command of Redis, with its arguments.
    #[command(external_subcommand)]
    Redis(Vec<OsString>),
}

/// What help is about.
pub(super) enum Topic<'a> {
    Everything,
    /// A command of Redis.
    Redis(&'a [u8]),
    /// A command of Redis or about the file.
    Any(&'a [u8]),
}

const EXAMPLES: &str = "\
Examples:
  brasa SET chave_1 \"Relou Uourdi\" EX 10     gone after ten seconds
  brasa GET chave_1
  brasa -f c.brasa HSET meu_hash nome thailan idade 29
  brasa -f c.brasa HGETALL meu_hash
  brasa -f c.brasa --no-raw SCAN 0 MATCH 'user:*' COUNT 100
  brasa -f c.brasa < verbs.txt              a command a line, quoted as in redis-cli
  brasa check c.brasa
  brasa repair c.brasa --in-place
  brasa compact c.brasa
  brasa tail c.brasa                        each change as it is made, by whom ever
  brasa backup c.brasa copy.brasa
  brasa help SET

Exit status:
  0  done; also where the answer is nil
  1  the reply was an error, of any line where commands were read from standard input;
     or the file could not be used, or is damaged
  2  wrong usage
All lines of standard input are executed, and the status is the same, if the output is closed early.
";

/// Reads the arguments; prints help and ends the program where they ask for it or are wrong.
pub(super) fn parse() -> Arguments {
    let matches = command_line().get_matches();
    Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

fn command_line() -> clap::Command {
    let verbs = verb_list();
    Arguments::command()
        .after_help("`brasa --help` has examples and lists the commands of Redis.")
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

/// How a command of Redis is called: its name and what follows it.
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

/// What is told about one command of Redis.
pub(super) fn redis_help(name: &[u8]) -> Result<String, Failure> {
    let verb = command::find(name).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no command '{}'; `brasa help` lists them",
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
