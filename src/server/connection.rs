//! One client: its requests are read, executed and answered in order.
//!
//! A client may send all its requests before it reads the first reply. So the connection continues
//! to read and execute while replies wait to be written:
//!
//! - Execution pauses while the waiting replies take more than [`MAX_OUTPUT_BYTES`] of memory. Large values of the file take none.
//! - Reading then continues, up to `client-query-buffer-limit` bytes of unexecuted requests.
//! - All clients together may have [`Shared::has_room`] bytes of both. Beyond that a client is not read while its replies wait, and
//!   execution pauses at [`ROUND_OUTPUT_BYTES`].
//!
//! A client that neither sends nor takes a byte while something of it is unfinished is disconnected after the halfway timeout.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::sync::{mpsc, watch};

use super::buffer_limits::OutputLimit;
use super::clients::{ClientState, NOT_YET};
use super::execute::Next;
use super::output::{Mark, Output};
use super::reply::encode;
use super::request::{Decoder, Limits};
use super::shared::{Shared, as_host};
use super::transfer::{Moved, Reading, transfer};
use crate::Durability;
use crate::command::{Reply, Session};
use crate::sync::Arc;
use crate::sync::atomic::Ordering;

/// Memory of replies that wait, beyond which nothing is executed.
const MAX_OUTPUT_BYTES: usize = 64 << 20;

/// Replies that are collected before the connection writes, and messages that are taken out of the inbox.
pub(super) const ROUND_OUTPUT_BYTES: usize = 1 << 20;

/// How much is read at once.
const READ_BYTES: usize = 16 << 10;

/// How much is read at once of a long word, at most: memory is taken for what has come, not for what was announced.
const LONG_READ_BYTES: usize = 1 << 20;

/// Capacity that an empty input keeps; a client that is idle takes no more.
const KEPT_BYTES: usize = 4 << 10;

/// How long a connection that ends waits for a client that still sends.
const LINGER: Duration = Duration::from_secs(1);

/// See the module.
pub(super) struct Connection<S> {
    pub(super) stream: S,
    pub(super) shared: Arc<Shared>,
    pub(super) state: Arc<ClientState>,
    pub(super) session: Session,
    messages: mpsc::UnboundedReceiver<Arc<Reply>>,
    pub(super) decoder: Decoder,
    pub(super) input: Vec<u8>,
    /// How much of the input was executed.
    pub(super) executed: usize,
    pub(super) output: Output,
    /// Up to here of the input, commands are executed one by one: together they could not be committed.
    pub(super) alone_upto: usize,
    /// Up to here of the input, the keys of requests were looked at.
    pub(super) touched_upto: usize,
    /// For requests that are not executed yet.
    pub(super) scout: Decoder,
    /// Whether EXEC would execute a command that may take long.
    pub(super) collects_long: bool,
    /// What the client may send, as of the last round.
    pub(super) limits: Limits,
    /// How many bytes of replies may wait for the client, as of the last round.
    pub(super) output_limit: OutputLimit,
    /// When the client last sent or took a byte, or the server last executed something of it; in seconds since the server began.
    progressed_at: u64,
    /// Whether the client sends nothing more.
    is_input_over: bool,
    /// Whether bytes arrived behind the request that ended the conversation.
    sent_behind_end: bool,
    /// What this connection takes of the room that all share.
    charged: usize,
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
            output: Output::default(),
            alone_upto: 0,
            touched_upto: 0,
            scout: Decoder::default(),
            collects_long: false,
            limits: Limits::STRANGER,
            output_limit: OutputLimit::default(),
            progressed_at: 0,
            is_input_over: false,
            sent_behind_end: false,
            charged: 0,
        }
    }

    /// Serves the client until it goes, or is made to.
    pub(super) async fn serve(mut self) {
        let state = Arc::clone(&self.state);
        let mut ending = self.shared.ending.subscribe();
        tokio::select! {
            () = state.is_disconnected() => {}
            // An error means that the client has gone.
            _ = self.converse(&mut ending) => {}
        }
    }

    async fn converse(&mut self, ending: &mut watch::Receiver<bool>) -> io::Result<()> {
        loop {
            // The time that execution takes is not the client's.
            self.state.halfway_since.store(NOT_YET, Ordering::Relaxed);
            let acknowledged = self.output.mark();
            let mut next = self.execute_arrived().await;
            self.publish_info();
            if !self.is_synced(acknowledged).await {
                next = Next::End;
            }
            self.progressed_at = self.shared.seconds.load(Ordering::Relaxed);
            if !self.exchange(next, ending).await? {
                if next == Next::End && self.sent_behind_end {
                    self.linger().await;
                }
                return Ok(());
            }
        }
    }

    /// Writes replies and reads requests until there is something to execute. Returns `false` once the conversation is over and all
    /// replies are written.
    async fn exchange(
        &mut self,
        next: Next,
        ending: &mut watch::Receiver<bool>,
    ) -> io::Result<bool> {
        loop {
            let is_ending = *ending.borrow() || self.is_input_over;
            let is_over = next == Next::End || (next == Next::Read && is_ending);
            if is_over && self.output.is_empty() {
                return Ok(false);
            }
            self.check_output_limit()?;
            self.note_waiting();
            self.sent_behind_end |= next == Next::End && self.executed < self.input.len();
            // Begun before the room is looked at, so that none that is freed meanwhile is missed.
            let room_freed = self.shared.room_freed();
            let lacks_room = !self.output.is_empty() && !self.shared.has_room();
            let may_execute = next == Next::Again && !self.is_paused();
            let reading = self.reading(next, is_ending);
            let takes_messages = !is_over && self.output.len() <= ROUND_OUTPUT_BYTES;
            let moved = tokio::select! {
                moved = transfer(
                    &mut self.stream,
                    &mut self.input,
                    &mut self.output,
                    reading,
                    !may_execute,
                ) => moved?,
                message = self.messages.recv(), if takes_messages => {
                    if let Some(message) = message {
                        self.take_message(&message);
                        self.take_messages(ROUND_OUTPUT_BYTES);
                    }
                    continue;
                }
                () = room_freed, if lacks_room => continue,
                _ = ending.changed() => continue,
            };
            self.note_moved(&moved, next);
            if may_execute {
                // Other clients of this thread get their turn between two rounds.
                tokio::task::yield_now().await;
                return Ok(true);
            }
            if next == Next::Read && moved.read > 0 {
                return Ok(true);
            }
        }
    }

    /// Waits a moment until the client has taken the last replies and ends its side. A socket that is closed while bytes of the client
    /// arrive is reset, and the client may lose those replies.
    async fn linger(&mut self) {
        let drop_all = async {
            self.stream.shutdown().await?;
            loop {
                let (input, output) = (&mut self.input, &mut self.output);
                let reading = Reading::Discard;
                let moved = transfer(&mut self.stream, input, output, reading, true).await?;
                if moved.is_input_over {
                    return io::Result::Ok(());
                }
            }
        };
        // Either the client has gone by itself, or it goes now.
        let _ = tokio::time::timeout(LINGER, drop_all).await;
    }

    /// Whether replies take so much memory that nothing is executed.
    pub(super) fn is_paused(&self) -> bool {
        let memory = self.output.memory();
        memory > ROUND_OUTPUT_BYTES && (memory > MAX_OUTPUT_BYTES || !self.shared.has_room())
    }

    /// How much is read, and what becomes of it.
    fn reading(&self, next: Next, is_ending: bool) -> Reading {
        let waiting = self.input.len() - self.executed;
        let runs_ahead = !self.output.is_empty();
        match next {
            // A client that still sends would never read the last replies.
            Next::End => Reading::Discard,
            _ if is_ending => Reading::Nothing,
            Next::Again if !self.is_paused() => Reading::Nothing,
            _ if runs_ahead
                && (waiting >= self.limits.request_bytes || !self.shared.has_room()) =>
            {
                Reading::Nothing
            }
            Next::Again => Reading::Upto(LONG_READ_BYTES),
            Next::Read => {
                let missing = self.decoder.bytes_missing(waiting);
                Reading::Upto(missing.clamp(READ_BYTES, LONG_READ_BYTES))
            }
        }
    }

    /// Closes the connection where more replies wait than `client-output-buffer-limit` allows.
    fn check_output_limit(&self) -> io::Result<()> {
        let (waiting, limit) = (self.output.len(), self.output_limit.hard);
        if limit == 0 || waiting <= limit {
            return Ok(());
        }
        tracing::warn!(
            client = self.state.id,
            waiting,
            limit,
            "disconnected: its pending replies exceed client-output-buffer-limit"
        );
        Err(io::ErrorKind::Other.into())
    }

    /// Tells the others how far the client is, before the connection waits for it.
    fn note_waiting(&mut self) {
        let output_bytes = self.output.len();
        let is_halfway = output_bytes > 0 || self.executed < self.input.len();
        let since = if is_halfway {
            self.progressed_at
        } else {
            NOT_YET
        };
        self.state.halfway_since.store(since, Ordering::Relaxed);
        self.state.set_output_bytes(output_bytes);
        let charge = match output_bytes {
            0 => 0,
            _ => self.output.memory() + self.input.capacity(),
        };
        self.charge(charge);
        if self.input.is_empty() && self.input.capacity() > KEPT_BYTES {
            self.input = Vec::new();
        }
    }

    /// Takes so much of the room that all clients share, in place of what it had.
    fn charge(&mut self, bytes: usize) {
        if bytes != self.charged {
            self.shared.charge(self.charged, bytes);
            self.charged = bytes;
        }
    }

    fn note_moved(&mut self, moved: &Moved, next: Next) {
        let counters = &self.shared.counters;
        if moved.read > 0 {
            let count = moved.read as u64;
            counters.input_bytes.fetch_add(count, Ordering::Relaxed);
        }
        if moved.written > 0 {
            let count = moved.written as u64;
            counters.output_bytes.fetch_add(count, Ordering::Relaxed);
        }
        self.is_input_over |= moved.is_input_over;
        let is_dropped = next == Next::End;
        self.sent_behind_end |= is_dropped && moved.read > 0;
        if moved.written > 0 || (moved.read > 0 && !is_dropped) {
            let seconds = self.shared.seconds.load(Ordering::Relaxed);
            self.progressed_at = seconds;
            self.state.heard_at.store(seconds, Ordering::Relaxed);
        }
    }

    /// Takes the messages that wait, as long as no more than so many bytes wait to be written.
    pub(super) fn take_messages(&mut self, limit: usize) {
        while self.output.len() <= limit
            && let Ok(message) = self.messages.try_recv()
        {
            self.take_message(&message);
        }
    }

    fn take_message(&mut self, message: &Reply) {
        self.state.note_taken(message);
        // CLIENT REPLY OFF keeps off what MONITOR shows, and no message of a channel.
        if self.session.wants_replies() || matches!(message, Reply::Push(_)) {
            encode(message, self.session.protocol(), &mut self.output);
        }
    }

    /// Lets others see what CLIENT LIST shows.
    fn publish_info(&self) {
        self.session.describe(&mut self.state.info());
    }

    /// Waits until what the replies behind the mark acknowledge is on the device, where that was asked for. Returns `false` where it
    /// cannot be carried there: then those replies are replaced by an error.
    async fn is_synced(&mut self, acknowledged: Mark) -> bool {
        if !self.session.takes_has_written() {
            return true;
        }
        self.shared.has_written.store(true, Ordering::Release);
        if self.shared.setting(|settings| settings.durability) != Durability::Always {
            return true;
        }
        let Err(failure) = self.shared.syncer.wait().await else {
            self.shared.note_sync();
            return true;
        };
        self.shared.tell_of_failed_sync(&failure);
        self.output.truncate(acknowledged);
        let text = format!("-MISCONF Errors writing to the file: {failure}\r\n");
        self.output.extend_from_slice(text.as_bytes());
        false
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        self.shared.charge(self.charged, 0);
        self.shared.clients.remove(self.state.id);
    }
}
