//! Moves bytes between a client's socket and its buffers, in both directions at once.

use std::future::{Future, poll_fn};
use std::io;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};

use super::output::Output;

/// Bytes that are read by way of the stack: a client that waits for something to arrive takes no buffer.
const STACK_BYTES: usize = 16 << 10;

/// How much is read, and what becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    Nothing,
    /// So many bytes at most, which are appended to the input.
    Upto(usize),
    /// What arrives is dropped.
    Discard,
}

/// What was moved.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub(super) read: usize,
    pub(super) written: usize,
    /// Whether the client sends nothing more.
    pub(super) is_input_over: bool,
}

/// Writes what the client takes, and reads what it has sent. Returns as soon as anything was moved, and at once where `waits` is false.
/// Nothing is lost where the future is dropped.
///
/// # Errors
///
/// The socket's, as a rule that the client has gone.
pub(super) async fn transfer<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
    output: &mut Output,
    reading: Reading,
    waits: bool,
) -> io::Result<Moved> {
    poll_fn(|context| {
        let mut moved = Moved::default();
        while !output.is_empty()
            && let Poll::Ready(written) = output.poll_write_to(stream, context)
        {
            moved.written += written?;
        }
        if let Poll::Ready(read) = poll_read(stream, input, reading, context) {
            moved.read = read?;
            moved.is_input_over = moved.read == 0;
        }
        match moved.written > 0 || moved.read > 0 || moved.is_input_over || !waits {
            true => Poll::Ready(Ok(moved)),
            false => Poll::Pending,
        }
    })
    .await
}

fn poll_read<S: AsyncRead + Unpin>(
    stream: &mut S,
    input: &mut Vec<u8>,
    reading: Reading,
    context: &mut Context<'_>,
) -> Poll<io::Result<usize>> {
    match reading {
        Reading::Nothing => Poll::Pending,
        Reading::Upto(room) if room > STACK_BYTES => {
            input.reserve(room);
            pin!(stream.read_buf(input)).poll(context)
        }
        Reading::Upto(_) | Reading::Discard => {
            let mut space = [const { MaybeUninit::uninit() }; STACK_BYTES];
            let mut buffer = ReadBuf::uninit(&mut space);
            match Pin::new(stream).poll_read(context, &mut buffer) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(error)) => Poll::Ready(Err(error)),
                Poll::Ready(Ok(())) => {
                    if reading != Reading::Discard {
                        input.extend_from_slice(buffer.filled());
                    }
                    Poll::Ready(Ok(buffer.filled().len()))
                }
            }
        }
    }
}
