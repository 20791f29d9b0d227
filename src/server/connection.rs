//! One client: its requests are read, executed and answered, in this order and never two at once.
//!
//! All requests that have arrived are executed before their replies are written, up to [`MAX_PENDING_BYTES`] of these. While a reply is
//! being written nothing more is read, so that a client that does not read its replies costs no more than that and one reply.
//!
//! Writes that have arrived together become one commit of the file, with the reads between them: [`Connection::execute_together`]. Nobody can
//! tell, but for the time it takes: no reply is sent before the commit, and each command fails for itself.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;

use super::clients::{ClientState, NOT_YET};
use super::monitor::show;
use super::pace::{Pace, at_pace, takes_long};
use super::reply::{encode, within_limit};
use super::request::{Decoded, Decoder, Limits, ProtocolError};
use super::settings::AppendFsync;
use super::shared::{Shared, as_host};
use crate::command::{Command, Flags, Reply, Session, find};

/// Replies that are collected before they are written.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// How much is read at once of a long word, at most: memory is taken for what has come, not for what was announced.
const LONG_READ_BYTES: usize = 1 << 20;

/// Buffers larger than this are given back when they are empty.
const KEPT_BYTES: usize = 64 << 10;

/// Commands that become one commit, at most: others wait for their turn meanwhile.
const TOGETHER: usize = 256;

/// Bytes of requests that become one commit, at most; what is longer gains nothing by it.
const TOGETHER_BYTES: usize = 256 << 10;

/// How long the commands of one commit may take, beyond the one that has gone over it: other processes wait for their turn too.
const TOGETHER_TIME: Duration = Duration::from_millis(5);

/// Requests whose keys are looked at ahead, at most: their records are to be in the cache yet when they are executed.
const AHEAD: usize = 32;

/// Requests of so many words are executed without a list of them being allocated.
const FEW_WORDS: usize = 16;

/// See the module.
pub(super) struct Connection<S> {
    stream: S,
    shared: Arc<Shared>,
    state: Arc<ClientState>,
    session: Session,
    messages: mpsc::UnboundedReceiver<Arc<Reply>>,
    decoder: Decoder,
    input: Vec<u8>,
    /// How much of the input was executed.
    executed: usize,
    output: Vec<u8>,
    /// Up to here of the input, commands are executed one by one: together they could not be committed.
    alone_upto: usize,
    /// Up to here of the input, the keys of requests were looked at.
    touched_upto: usize,
    /// For requests that are not executed yet.
    scout: Decoder,
    /// Whether EXEC would execute a command that may take long.
    collects_long: bool,
    /// When the request began of which a part has arrived, in seconds since the server began.
    begun_at: Option<u64>,
}

/// What becomes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    /// There may be more in the buffer.
    Again,
    /// More has to be read.
    Read,
    /// It ends once the output is written.
    End,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(
        stream: S,
        shared: &Arc<Shared>,
        state: Arc<ClientState>,
        messages: mpsc::UnboundedReceiver<Arc<Reply>>,
    ) -> Connection<S> {
        let is_trusted = shared.setting(|settings| settings.password.is_none());
        let session = Session::of_client(shared.db.clone(), as_host(shared), state.id, is_trusted);
        Connection {
            stream,
            shared: Arc::clone(shared),
            state,
            session,
            messages,
            decoder: Decoder::default(),
            input: Vec::new(),
            executed: 0,
            output: Vec::new(),
            alone_upto: 0,
            touched_upto: 0,
            scout: Decoder::default(),
            collects_long: false,
            begun_at: None,
        }
    }

    /// Serves the client until it goes, or is made to.
    pub(super) async fn serve(mut self) {
        let state = Arc::clone(&self.state);
        let mut ending = self.shared.ending.subscribe();
        tokio::select! {
            () = state.is_disconnected() => {}
            () = self.converse(&mut ending) => {}
        }
    }

    async fn converse(&mut self, ending: &mut tokio::sync::watch::Receiver<bool>) {
        loop {
            // What it takes to execute is not the client's time.
            self.state.halfway_since.store(NOT_YET, Ordering::Relaxed);
            let arrived = self.input.len();
            let next = self.execute_arrived().await;
            let has_executed = self.input.len() != arrived;
            self.publish_info();
            if self.write().await.is_err() || next == Next::End {
                return;
            }
            if next == Next::Again {
                continue;
            }
            self.note_begun(has_executed);
            // What has arrived was answered: this is where the server may end.
            if *ending.borrow() {
                return;
            }
            self.make_room();
            tokio::select! {
                read = self.stream.read_buf(&mut self.input) => match read {
                    Ok(count) if count > 0 => {
                        self.shared.counters.input_bytes.fetch_add(count as u64, Ordering::Relaxed);
                        let seconds = self.shared.seconds.load(Ordering::Relaxed);
                        self.state.heard_at.store(seconds, Ordering::Relaxed);
                    }
                    // It has gone, with or without a word.
                    _ => return,
                },
                message = self.messages.recv() => {
                    if let Some(message) = message {
                        self.take_message(&message);
                        self.take_messages();
                    }
                }
                _ = ending.changed() => {}
            }
        }
    }

    /// Notes when the request began of which a part has arrived: its end is waited for from then on, and not from its last byte, of which
    /// there may be one a minute.
    fn note_begun(&mut self, has_executed: bool) {
        let begun_at = self.begun_at.filter(|_| !has_executed);
        let begun_at = begun_at.unwrap_or_else(|| self.shared.seconds.load(Ordering::Relaxed));
        self.begun_at = (!self.input.is_empty()).then_some(begun_at);
        self.state.halfway_since.store(begun_at, Ordering::Relaxed);
    }

    /// Takes the messages that wait, as long as there is room for them.
    fn take_messages(&mut self) {
        while self.output.len() <= MAX_PENDING_BYTES
            && let Ok(message) = self.messages.try_recv()
        {
            self.take_message(&message);
        }
    }

    fn take_message(&mut self, message: &Reply) {
        self.state.note_taken(message);
        encode(message, self.session.protocol(), &mut self.output);
    }

    /// Space for what is read next, in proportion to what has come.
    fn make_room(&mut self) {
        let missing = self.decoder.bytes_missing(self.input.len());
        let room = missing.clamp(READ_BYTES, LONG_READ_BYTES);
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES {
            self.input = Vec::new();
        }
        self.input.reserve(room);
    }

    /// Executes what has arrived, as far as there is room for the replies.
    async fn execute_arrived(&mut self) -> Next {
        let mut limits = self.limits();
        let next = loop {
            if self.output.len() > MAX_PENDING_BYTES {
                break Next::Again;
            }
            // What it has sent behind the request that ended it is not executed.
            if self.state.is_over() {
                break Next::End;
            }
            let start = self.executed;
            match self.decode(&limits) {
                Ok(None) => break Next::Read,
                Ok(Some(0)) => continue,
                Ok(Some(_)) => {
                    self.touch_ahead(start, &limits);
                    let was_trusted = self.session.is_trusted();
                    let command = self.command_at(start);
                    let pace = self.pace_of(command);
                    if pace != Pace::Quick {
                        // While it is the server that lets the client wait, that is no silence.
                        self.state.heard_at.store(NOT_YET, Ordering::Relaxed);
                    }
                    // Here it can still be disconnected, which nobody can be while a thread of his own is blocked.
                    let _place = self.shared.places.take(pace).await;
                    match self.begins_several(start, command) {
                        true => self.execute_together(start, &limits, pace),
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
                    if self.session.is_trusted() != was_trusted {
                        limits = self.limits();
                    }
                }
                Err(error) => {
                    self.say_error(&error);
                    break Next::End;
                }
            }
        };
        if next == Next::Read {
            // What is left is a part of a request, and moves to the front.
            self.input.drain(..self.executed);
            self.executed = 0;
            self.alone_upto = 0;
            self.touched_upto = 0;
        }
        let is_halfway = next == Next::Read && !self.input.is_empty();
        self.state.is_halfway.store(is_halfway, Ordering::Relaxed);
        next
    }

    /// Takes the next request off the input; gives back how many words it has, and `None` where it has not arrived as a whole.
    fn decode(&mut self, limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        let rest = self.input.get(self.executed..).unwrap_or_default();
        match self.decoder.decode(rest, limits)? {
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
    fn touch_ahead(&mut self, start: usize, limits: &Limits) {
        if start < self.touched_upto || self.executed == self.input.len() {
            return;
        }
        self.scout.forget();
        let mut places = Vec::with_capacity(AHEAD);
        let mut at = start;
        while places.len() < AHEAD {
            let bytes = self.input.get(at..).unwrap_or_default();
            // What is wrong with it is found when it is executed.
            let Ok(Decoded::Request(len)) = self.scout.decode(bytes, limits) else {
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

    /// What the request that was decoded may make its thread do.
    fn pace_of(&mut self, command: Option<&Command>) -> Pace {
        let Some(command) = command else {
            return Pace::Quick;
        };
        let is_exec = command.name == "exec";
        if self.session.is_collecting() && !is_exec {
            self.collects_long |= takes_long(command);
            return Pace::Quick;
        }
        let has_collected = std::mem::take(&mut self.collects_long);
        if takes_long(command) || (is_exec && has_collected) {
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
    fn execute_together(&mut self, start: usize, limits: &Limits, pace: Pace) {
        let (outside, written) = (self.session.db().clone(), self.output.len());
        let silence = self.session.silence();
        let run = |this: &mut Self| {
            outside.transaction(|tx| -> Result<(), Undone> {
                this.session.go_on_with(tx.clone());
                let begun = Instant::now();
                this.execute(start, Pace::Quick)?;
                for _ in 1..TOGETHER {
                    let next = this.executed;
                    let is_enough =
                        next - start > TOGETHER_BYTES || this.output.len() > MAX_PENDING_BYTES;
                    if is_enough || this.session.is_leaving() || begun.elapsed() > TOGETHER_TIME {
                        break;
                    }
                    match this.decode(limits) {
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
            self.output.truncate(written);
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
            .is_some_and(|command| of_data(command.flags) && !takes_long(command))
    }

    fn limits(&self) -> Limits {
        let base = match self.session.is_trusted() {
            true => Limits::TRUSTED,
            false => Limits::STRANGER,
        };
        Limits {
            lines: self.shared.setting(|settings| settings.lines),
            ..base
        }
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
        // Afterwards, as in Redis: who has sent RESET sees it no longer.
        if start >= self.alone_upto && self.shared.clients.has_monitors() {
            show(&self.shared, &self.session, &self.state, words);
        }
        if was_subscribed {
            // What it has sent to itself stands before the reply, as in Redis.
            self.take_messages();
        }
        let session = &mut self.session;
        match executed {
            Ok(reply) => {
                if long.is_some_and(|command| tells_of_sync(command, &reply)) {
                    self.shared.note_sync();
                }
                if session.takes_reply_wanted() {
                    let reply = within_limit(reply);
                    encode(&reply, session.protocol(), &mut self.output);
                }
                Ok(())
            }
            Err(_) => {
                tracing::error!(
                    client = self.state.id,
                    "a command panicked; its client is told so"
                );
                self.output
                    .extend_from_slice(b"-ERR the command failed by a bug of the server\r\n");
                // It may have been in the middle of a transaction, or between two databases: nothing more is done in its name.
                session.leave();
                Err(Undone)
            }
        }
    }

    /// Lets others see what CLIENT LIST shows.
    fn publish_info(&self) {
        self.session.describe(&mut self.state.info());
    }

    /// Writes the replies, once what they acknowledge is on the device if that was asked for.
    async fn write(&mut self) -> std::io::Result<()> {
        let has_written = self.session.takes_has_written();
        if has_written {
            self.shared.has_written.store(true, Ordering::Release);
        }
        if has_written
            && self.shared.setting(|settings| settings.append_fsync) == AppendFsync::Always
        {
            if let Err(failure) = self.shared.syncer.wait().await {
                // None of these replies may be believed.
                self.shared.tell_of_failed_sync(&failure);
                self.output =
                    format!("-MISCONF Errors writing to the file: {failure}\r\n").into_bytes();
                let _ = self.send().await;
                return Err(std::io::ErrorKind::Other.into());
            }
            self.shared.note_sync();
        }
        if self.output.is_empty() {
            return Ok(());
        }
        self.send().await?;
        let count = self.output.len() as u64;
        self.shared
            .counters
            .output_bytes
            .fetch_add(count, Ordering::Relaxed);
        self.output.clear();
        if self.output.capacity() > KEPT_BYTES {
            self.output = Vec::new();
        }
        Ok(())
    }

    /// Sends the output, as fast as the client takes it.
    async fn send(&mut self) -> std::io::Result<()> {
        self.state.is_halfway.store(true, Ordering::Relaxed);
        let mut rest = &self.output[..];
        while !rest.is_empty() {
            // Who takes some of it now and then is no client that has gone to sleep.
            let seconds = self.shared.seconds.load(Ordering::Relaxed);
            self.state.heard_at.store(seconds, Ordering::Relaxed);
            self.state.halfway_since.store(seconds, Ordering::Relaxed);
            let count = self.stream.write(rest).await?;
            if count == 0 {
                return Err(std::io::ErrorKind::WriteZero.into());
            }
            rest = rest.get(count..).unwrap_or_default();
        }
        self.state
            .is_halfway
            .store(!self.input.is_empty(), Ordering::Relaxed);
        Ok(())
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.shared.clients.remove(self.state.id);
    }
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
