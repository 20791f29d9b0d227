//! The replies that wait to be written to one client.
//!
//! Large values are not copied: the queue keeps the [`Value`], which points into the mapped file.
//! All other bytes are in buffers of [`PART_BYTES`] and more. Each buffer is freed once the client
//! has taken it.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite;

use crate::Value;

/// A buffer of this size is closed, and the next one begun.
const PART_BYTES: usize = 64 << 10;

/// Values of this size and more are not copied.
const SHARED_BYTES: usize = 16 << 10;

/// Capacity that an empty queue keeps.
const KEPT_BYTES: usize = 4 << 10;

/// Parts that one system call writes, at most.
const PARTS_AT_ONCE: usize = 32;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Output {
    parts: VecDeque<Part>,
    /// Bytes behind all parts.
    tail: Vec<u8>,
    /// Bytes of the first part, or of the tail where there is no part, that were written already.
    written: usize,
    /// Bytes of the parts that wait, those that were written of the first one included.
    part_bytes: usize,
    /// Memory that the parts take.
    part_memory: usize,
}

#[derive(Debug)]
enum Part {
    Bytes(Vec<u8>),
    Value(Value),
}

impl Part {
    fn bytes(&self) -> &[u8] {
        match self {
            Part::Bytes(bytes) => bytes,
            Part::Value(value) => value,
        }
    }

    fn memory(&self) -> usize {
        let own = match self {
            Part::Bytes(bytes) => bytes.capacity(),
            Part::Value(value) => value.owned_bytes(),
        };
        own + size_of::<Part>()
    }
}

/// A position in the queue, to which [`Output::truncate`] goes back.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    parts: usize,
    tail: usize,
}

impl Output {
    /// The bytes that wait.
    pub(super) fn len(&self) -> usize {
        self.part_bytes + self.tail.len() - self.written
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The memory that the queue takes; a value of the mapped file takes none.
    pub(super) fn memory(&self) -> usize {
        self.part_memory + self.tail.capacity()
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.tail.push(byte);
    }

    #[inline]
    pub(super) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(bytes);
    }

    /// Appends a value, without a copy where it is large.
    #[inline]
    pub(super) fn extend_from_value(&mut self, value: &Value) {
        match value.len() < SHARED_BYTES {
            true => self.tail.extend_from_slice(value),
            false => {
                self.close_tail();
                self.push_part(Part::Value(value.clone()));
            }
        }
    }

    /// Closes the last buffer once it is large. The caller calls it between two replies.
    #[inline]
    pub(super) fn end_reply(&mut self) {
        if self.tail.len() >= PART_BYTES {
            self.close_tail();
        }
    }

    fn close_tail(&mut self) {
        if !self.tail.is_empty() {
            let tail = std::mem::take(&mut self.tail);
            self.push_part(Part::Bytes(tail));
        }
    }

    fn push_part(&mut self, part: Part) {
        self.part_bytes += part.bytes().len();
        self.part_memory += part.memory();
        self.parts.push_back(part);
    }

    /// The end of what is there now. It holds until something is written.
    pub(super) fn mark(&self) -> Mark {
        Mark {
            parts: self.parts.len(),
            tail: self.tail.len(),
        }
    }

    /// Removes all that was appended since the mark was taken.
    pub(super) fn truncate(&mut self, mark: Mark) {
        if self.parts.len() > mark.parts {
            self.tail.clear();
            let behind = self.parts.drain(mark.parts..);
            // The first of them begins with what the tail was at the mark.
            for (index, part) in behind.enumerate() {
                self.part_bytes -= part.bytes().len();
                self.part_memory -= part.memory();
                if let (0, true, Part::Bytes(bytes)) = (index, mark.tail > 0, part) {
                    self.tail = bytes;
                }
            }
        }
        self.tail.truncate(mark.tail);
    }

    /// Writes as much as the client takes; gives back how many bytes that were, at least one.
    pub(super) fn poll_write_to<S: AsyncWrite + Unpin>(
        &mut self,
        stream: &mut S,
        context: &mut Context<'_>,
    ) -> Poll<io::Result<usize>> {
        let stream = Pin::new(stream);
        let count = if self.parts.is_empty() {
            let rest = self.tail.get(self.written..).unwrap_or_default();
            ready!(stream.poll_write(context, rest))?
        } else {
            let mut slices = [IoSlice::new(&[]); PARTS_AT_ONCE];
            let parts = self.parts.iter().map(Part::bytes);
            let parts = parts.chain([self.tail.as_slice()]);
            let mut used = 0;
            for (slice, bytes) in slices.iter_mut().zip(parts) {
                let from = if used == 0 { self.written } else { 0 };
                *slice = IoSlice::new(bytes.get(from..).unwrap_or_default());
                used += 1;
            }
            let slices = slices.get(..used).unwrap_or_default();
            ready!(stream.poll_write_vectored(context, slices))?
        };
        if count == 0 {
            return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
        }
        self.advance(count);
        Poll::Ready(Ok(count))
    }

    /// Forgets bytes that were written.
    fn advance(&mut self, count: usize) {
        self.written += count;
        while let Some(first) = self.parts.front() {
            let len = first.bytes().len();
            if self.written < len {
                return;
            }
            self.written -= len;
            self.part_bytes -= len;
            self.part_memory -= first.memory();
            self.parts.pop_front();
        }
        if self.written >= self.tail.len() {
            self.written = 0;
            self.tail.clear();
            if self.tail.capacity() > KEPT_BYTES {
                self.tail = Vec::new();
            }
            self.parts.shrink_to(0);
        }
    }

    /// All bytes that wait.
    #[cfg(test)]
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let parts = self.parts.iter().map(Part::bytes);
        let all: Vec<&[u8]> = parts.chain([self.tail.as_slice()]).collect();
        all.concat().split_off(self.written)
    }
}

#[cfg(test)]
mod tests {
    use std::task::{Context, Poll, Waker};

    use super::{Output, PART_BYTES, SHARED_BYTES};
    use crate::Db;

    fn mapped_value(len: usize) -> crate::Value {
        let db = Db::in_memory().unwrap();
        db.set("k", vec![b'v'; len]).unwrap();
        db.get("k").unwrap().unwrap()
    }

    #[test]
    fn large_value_of_the_file_takes_no_memory() {
        let mut output = Output::default();
        for _ in 0..100 {
            output.extend_from_slice(b"$1048576\r\n");
            output.extend_from_value(&mapped_value(1 << 20));
            output.extend_from_slice(b"\r\n");
            output.end_reply();
        }
        assert_eq!(output.len(), 100 * ((1 << 20) + 12));
        assert!(output.memory() < 64 << 10, "{}", output.memory());
        // A value with bytes of its own is memory.
        output.extend_from_value(&vec![b'o'; 1 << 20].into());
        assert!(output.memory() > 1 << 20);
    }

    #[test]
    fn truncation_restores_the_queue_at_the_mark() {
        let value = mapped_value(SHARED_BYTES);
        let befores: [&[&[u8]]; 4] = [&[], &[b"a"], &[b"a", &value], &[b"a", &value, b"b"]];
        let build = |parts: &[&[u8]]| {
            let mut output = Output::default();
            for part in parts {
                match part.len() {
                    SHARED_BYTES => output.extend_from_value(&value),
                    _ => output.extend_from_slice(part),
                }
            }
            output
        };
        for before in befores {
            for after in befores {
                let mut output = build(before);
                let (mark, bytes) = (output.mark(), output.to_bytes());
                for part in after {
                    match part.len() {
                        SHARED_BYTES => output.extend_from_value(&value),
                        _ => output.extend_from_slice(part),
                    }
                }
                output.truncate(mark);
                assert_eq!(output.to_bytes(), bytes);
                assert_eq!(output.len(), bytes.len());
                assert_eq!(output.part_memory, build(before).part_memory);
            }
        }
    }

    #[test]
    fn every_byte_is_written_once_however_little_the_client_takes() {
        let mut output = Output::default();
        let mut expected = Vec::new();
        for (number, value) in (0_u8..40).map(|number| (number, mapped_value(SHARED_BYTES + 7))) {
            output.push(number);
            output.extend_from_value(&value);
            output.extend_from_slice(&[number; PART_BYTES / 3]);
            output.end_reply();
            expected.push(number);
            expected.extend_from_slice(&value);
            expected.extend_from_slice(&[number; PART_BYTES / 3]);
        }
        assert_eq!(output.to_bytes(), expected);
        let (mut near, far) = tokio::io::duplex(777);
        let mut context = Context::from_waker(Waker::noop());
        let mut far = std::pin::pin!(far);
        let mut got = Vec::new();
        while !output.is_empty() {
            let before = output.len();
            let polled = output.poll_write_to(&mut near, &mut context);
            let Poll::Ready(Ok(written)) = polled else {
                unreachable!("there is room");
            };
            assert_eq!(output.len(), before - written);
            let mut space = [0; 777];
            let mut buffer = tokio::io::ReadBuf::new(&mut space);
            let polled = tokio::io::AsyncRead::poll_read(far.as_mut(), &mut context, &mut buffer);
            assert!(matches!(polled, Poll::Ready(Ok(()))));
            got.extend_from_slice(buffer.filled());
        }
        assert_eq!(got, expected);
        assert_eq!((output.memory(), output.part_memory), (0, 0));
    }
}
