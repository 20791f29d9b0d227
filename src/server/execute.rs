//! Executes the requests of a connection that have arrived, up to the bounds of a round.
//!
//! Writes that arrive together become one commit of the file, with the reads between them:
//! [`Connection::execute_together`]. A client sees only a difference in time: no reply is sent
//! before the commit, and each command fails separately.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::clients::NOT_YET;
use super::connection::{Connection, ROUND_OUTPUT_BYTES};
use super::monitor::show;
use super::pace::{Pace, at_pace, scans_much, takes_long};
use super::reply::{encode, encode_pushes, within_limit};
use super::request::{Decoded, Limits, ProtocolError};
use crate::command::{Command, Flags, Reply, find};
use crate::sync::Instant;
use crate::sync::atomic::Ordering;

/// Bytes of requests that are executed before the connection writes and other clients get their turn.
const ROUND_INPUT_BYTES: usize = 1 << 20;

/// How long a round may take, beyond the command that has gone over it. Fast reads are not timed.
const ROUND_TIME: Duration = Duration::from_millis(10);

/// Commands that become one commit, at most: others wait for their turn meanwhile.
const TOGETHER: usize = 256;

/// Bytes of requests that become one commit, at most; what is longer gains nothing by it.
const TOGETHER_BYTES: usize = 256 << 10;

/// How long the commands of one commit may take, beyond the one that has gone over it: other processes wait for their turn too.
const TOGETHER_TIME: Duration = Duration::from_millis(5);

/// Requests with prefetched keys, at most: their records must still be in the cache when they are
/// executed.
const AHEAD: usize = 32;

/// Requests of so many words are executed without a list of them being allocated.
const FEW_WORDS: usize = 16;

/// What comes after a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// There may be more in the buffer.
    Again,
    /// More has to be read.
    Read,
    /// The conversation ends once the output is written.
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Executes what has arrived, as far as there is room for the replies.
    pub(super) async fn execute_arrived(&mut self) -> Next {
        self.renew_limits();
        let (executed, written) = (self.executed, self.output.len());
        let begun = Instant::now();
        let mut is_late = false;
        let next = loop {
            let is_enough = self.executed - executed > ROUND_INPUT_BYTES
                || self.output.len() - written > ROUND_OUTPUT_BYTES;
            if is_enough || is_late || self.is_paused() {
                break Next::Again;
            }
            // What it has sent behind the request that ended it is not executed.
            if self.state.is_over() {
                break Next::End;
            }
            let start = self.executed;
            match self.decode() {
                Ok(None) => break Next::Read,
                Ok(Some(0)) => continue,
                Ok(Some(_)) => {
                    self.touch_ahead(start);
                    let was_trusted = self.session.is_trusted();
                    let command = self.command_at(start);
                    let pace = self.pace_of(start, command);
                    if pace != Pace::Quick {
                        // While it is the server that lets the client wait, that is no silence.
                        self.state.heard_at.store(NOT_YET, Ordering::Relaxed);
                    }
                    // The client can still be disconnected here, but not while a thread of its own
                    // is blocked.
                    let _place = self.shared.places.take(pace).await;
                    match self.begins_several(start, command) {
                        true => self.execute_together(start, pace),
                        // The client of a command that panicked is disconnected below.
                        false => drop(self.execute(start, pace)),
                    }
                    if pace != Pace::Quick {
                        let seconds = self.shared.seconds.load(Ordering::Relaxed);
                        self.state.heard_at.store(seconds, Ordering::Relaxed);
                    }
                    if self.session.is_leaving() {
                        break Next::End;
                    }
                    is_late = !command.is_some_and(is_fast_read) && begun.elapsed() > ROUND_TIME;
                    if self.session.is_trusted() != was_trusted {
                        self.renew_limits();
                    }
                }
                Err(error) => {
                    self.say_error(&error);
                    break Next::End;
                }
            }
        };
        self.forget_executed(next);
        next
    }

    /// Takes the next request off the input; gives back how many words it has, and `None` where it has not arrived as a whole.
    fn decode(&mut self) -> Result<Option<usize>, ProtocolError> {
        let rest = self.input.get(self.executed..).unwrap_or_default();
        match self.decoder.decode(rest, &self.limits)? {
            Decoded::Part => Ok(None),
            Decoded::Request(len) => {
                self.executed += len;
                Ok(Some(self.decoder.word_count()))
            }
        }
    }

    fn say_error(&mut self, error: &ProtocolError) {
        match error {
            ProtocolError::Foreign => {
                tracing::warn!(client = self.state.id, "disconnected: it speaks HTTP");
            }
            ProtocolError::Said(text) => {
                let text = format!("-ERR Protocol error: {text}\r\n");
                self.output.extend_from_slice(text.as_bytes());
            }
        }
    }

    /// Looks at the keys of the requests from an offset of the input on, where several have arrived: a miss of the cache that is had beside
    /// others costs a fraction of one that is waited for.
    fn touch_ahead(&mut self, start: usize) {
        if start < self.touched_upto || self.executed == self.input.len() {
            return;
        }
        self.scout.forget();
        let mut places = Vec::with_capacity(AHEAD);
        let mut at = start;
        while places.len() < AHEAD {
            let bytes = self.input.get(at..).unwrap_or_default();
            // What is wrong with it is found when it is executed.
            let Ok(Decoded::Request(len)) = self.scout.decode(bytes, &self.limits) else {
                break;
            };
            let place = |index| {
                let place = self.scout.place(index).unwrap_or_default();
                at + place.start..at + place.end
            };
            places.push((place(1), place(2)));
            at += len;
        }
        self.touched_upto = at.max(self.executed);
        if self.session.is_trusted() && places.len() > 1 {
            let word = |place| self.input.get(place).unwrap_or_default();
            let places = places.into_iter();
            let names: Vec<_> = places
                .map(|(key, field)| (word(key), word(field)))
                .collect();
            self.session.db().touch_ahead(&names);
        }
    }

    /// What the request that begins at an offset of the input would do.
    fn command_at(&self, start: usize) -> Option<&'static Command> {
        let bytes = self.input.get(start..).unwrap_or_default();
        find(self.decoder.word(bytes, 0))
    }

    /// What the request that was decoded, which begins at an offset of the input, may make its thread do.
    fn pace_of(&mut self, start: usize, command: Option<&Command>) -> Pace {
        let Some(command) = command else {
            return Pace::Quick;
        };
        let is_exec = command.name == "exec";
        let takes_long = self.takes_long(start, command);
        if self.session.is_collecting() && !is_exec {
            self.collects_long |= takes_long;
            return Pace::Quick;
        }
        let has_collected = std::mem::take(&mut self.collects_long);
        if takes_long || (is_exec && has_collected) {
            return Pace::Long;
        }
        let may_wait = command.flags.contains(Flags::WRITE) || is_exec;
        match may_wait && (!self.session.db().keeps_turn() || self.shared.places.has_long()) {
            true => Pace::Waits,
            false => Pace::Quick,
        }
    }

    /// Whether the request that was decoded is a write of data, behind which more has arrived.
    fn begins_several(&self, start: usize, command: Option<&Command>) -> bool {
        self.executed < self.input.len()
            && start >= self.alone_upto
            && !self.session.is_collecting()
            && !self.session.db().is_read_only()
            && command.is_some_and(|command| command.flags.contains(Flags::WRITE))
    }

    /// Executes the request that was decoded last, and those behind it that read and write data, as
    /// one commit. If the commit fails or a command panics, nothing has happened, and the requests
    /// are executed one by one: the failure of one does not undo the others.
    fn execute_together(&mut self, start: usize, pace: Pace) {
        let outside = self.session.db().clone();
        let (mark, written) = (self.output.mark(), self.output.len());
        let silence = self.session.silence();
        let run = |this: &mut Self| {
            outside.transaction(|tx| -> Result<(), Undone> {
                this.session.go_on_with(tx.clone());
                let begun = Instant::now();
                this.execute(start, Pace::Quick)?;
                for _ in 1..TOGETHER {
                    let next = this.executed;
                    let is_enough = next - start > TOGETHER_BYTES
                        || this.output.len() - written > ROUND_OUTPUT_BYTES;
                    if is_enough || this.session.is_leaving() || begun.elapsed() > TOGETHER_TIME {
                        break;
                    }
                    match this.decode() {
                        Ok(None) => break,
                        Ok(Some(0)) => {}
                        Ok(Some(_)) if this.is_of_data(next) => this.execute(next, Pace::Quick)?,
                        // It is decoded once more, and executed or refused by itself.
                        _ => {
                            this.executed = next;
                            this.decoder.forget();
                            break;
                        }
                    }
                }
                Ok(())
            })
        };
        let done = at_pace(pace, || run(self));
        let selected = outside.database(self.session.db().database_number());
        self.session.go_on_with(selected.unwrap_or(outside));
        if done.is_err() {
            self.output.truncate(mark);
            self.session.set_silence(silence);
            self.session.stay();
            self.alone_upto = self.executed;
            self.executed = start;
            self.decoder.forget();
        }
    }

    /// Whether the request that was decoded, which begins at an offset of the input, reads or writes data and nothing else.
    fn is_of_data(&self, start: usize) -> bool {
        let of_data =
            |flags: Flags| flags.contains(Flags::WRITE) || flags.contains(Flags::READONLY);
        self.command_at(start)
            .is_some_and(|command| of_data(command.flags) && !self.takes_long(start, command))
    }

    /// Whether the request that was decoded, which begins at an offset of the input, may take long by itself.
    fn takes_long(&self, start: usize, command: &Command) -> bool {
        let bytes = self.input.get(start..).unwrap_or_default();
        // SCAN and HSCAN have their cursor before them.
        let first = if command.name == "hscan" { 3 } else { 2 };
        let options =
            (first..self.decoder.word_count()).map(|index| self.decoder.word(bytes, index));
        takes_long(command) || scans_much(command, options)
    }

    fn renew_limits(&mut self) {
        let base = match self.session.is_trusted() {
            true => Limits::TRUSTED,
            false => Limits::STRANGER,
        };
        (self.limits, self.output_limit) = self.shared.setting(|settings| {
            let limits = Limits {
                lines: settings.lines,
                request_bytes: base.request_bytes.min(settings.query_buffer_limit),
                ..base
            };
            (limits, settings.output_limits.normal)
        });
    }

    /// Gives back the memory of what was executed, once that is most of the input: moving the rest to the front takes time.
    fn forget_executed(&mut self, next: Next) {
        if next != Next::Read && self.executed < self.input.len() / 2 {
            return;
        }
        self.input.drain(..self.executed);
        self.alone_upto = self.alone_upto.saturating_sub(self.executed);
        self.touched_upto = self.touched_upto.saturating_sub(self.executed);
        self.executed = 0;
    }

    /// Executes the request that begins at an offset of the input; an error if it panicked.
    fn execute(&mut self, start: usize, pace: Pace) -> Result<(), Undone> {
        let bytes = self.input.get(start..).unwrap_or_default();
        let count = self.decoder.word_count();
        let mut few: [&[u8]; FEW_WORDS] = [&[]; FEW_WORDS];
        let many: Vec<&[u8]>;
        let words = match few.get_mut(..count) {
            Some(few) => {
                for (index, word) in few.iter_mut().enumerate() {
                    *word = self.decoder.word(bytes, index);
                }
                &*few
            }
            None => {
                let all = 0..count;
                many = all.map(|index| self.decoder.word(bytes, index)).collect();
                &many
            }
        };
        // Before that, it is executed for the second time.
        if start >= self.alone_upto {
            let counters = &self.shared.counters;
            counters.commands.fetch_add(1, Ordering::Relaxed);
        }
        let long = words.first().filter(|_| pace == Pace::Long);
        let long = long.and_then(|name| find(name));
        let session = &mut self.session;
        let was_subscribed = session.is_subscribed();
        let executed = catch_unwind(AssertUnwindSafe(|| {
            at_pace(pace, || session.execute_words(words))
        }));
        // Afterwards, as in Redis: a client that sent RESET no longer sees it.
        if start >= self.alone_upto && self.shared.clients.has_monitors() {
            show(&self.shared, &self.session, &self.state, words);
        }
        if was_subscribed {
            // What it has sent to itself stands before the reply, as in Redis.
            self.take_messages(usize::MAX);
        }
        let session = &mut self.session;
        match executed {
            Ok(reply) => {
                if long.is_some_and(|command| tells_of_sync(command, &reply)) {
                    self.shared.note_sync();
                }
                let protocol = session.protocol();
                match session.takes_reply_wanted() {
                    true => encode(&within_limit(reply), protocol, &mut self.output),
                    false => encode_pushes(&reply, protocol, &mut self.output),
                }
                Ok(())
            }
            Err(_) => {
                tracing::error!(
                    client = self.state.id,
                    "a command panicked; the client gets an error"
                );
                self.output
                    .extend_from_slice(b"-ERR the command failed: a bug of the server\r\n");
                // It may have been in the middle of a transaction, or between two databases: nothing more is done in its name.
                session.leave();
                Err(Undone)
            }
        }
    }
}

/// Whether a command reads data and is one of the fast ones. A write that Redis calls fast may copy a large value.
fn is_fast_read(command: &Command) -> bool {
    command.flags.contains(Flags::READONLY) && command.flags.contains(Flags::FAST)
}

/// Why several requests did not become one commit: a command panicked, or the commit failed. They
/// are executed again, so that the reason shows then.
struct Undone;

impl From<crate::Error> for Undone {
    fn from(_: crate::Error) -> Undone {
        Undone
    }
}

/// Whether the reply to a command says that all was carried through to the device. In a transaction nothing is.
fn tells_of_sync(command: &Command, reply: &Reply) -> bool {
    match (command.name, reply) {
        ("save" | "bgsave" | "bgrewriteaof", reply) => !matches!(reply, Reply::Error(_)),
        ("waitaof", Reply::Array(parts)) => parts.first() == Some(&Reply::Integer(1)),
        _ => false,
    }
}
