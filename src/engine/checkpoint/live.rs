//! Appends a layer to the log of a file in use.

use super::layer::{ClosedAt, LayerSink, Written};
use super::replaced;
use crate::Result;
use crate::engine::commit::{Spare, Writer};
use crate::engine::turn::COURTESY;
use crate::engine::{Engine, Generation};
use crate::index::{Joint, LayerGap, PageSink};
use crate::mutation::{self, Mutation};
use crate::record::{Change, HEADER_BYTES, Kind};
use crate::sync::thread;
use crate::sync::{Arc, MutexGuard};

/// See the module. What others commit between its pages is a gap, that opening replays.
pub(super) struct LiveSink<'a> {
    engine: &'a Engine,
    generation: &'a Arc<Generation>,
    /// The right to append, if it is kept all the time.
    held: Option<&'a mut Writer>,
    /// Where the log ended when this last appended to it; at first, what the layer is exact for.
    at: Joint,
    gaps: Vec<LayerGap>,
    page_bytes: u64,
}

impl<'a> LiveSink<'a> {
    /// Appends with the right to it that the caller has.
    pub(super) fn holding(
        engine: &'a Engine,
        generation: &'a Arc<Generation>,
        writer: &'a mut Writer,
        at: Joint,
    ) -> LiveSink<'a> {
        LiveSink {
            held: Some(writer),
            ..LiveSink::waiting(engine, generation, at)
        }
    }

    /// Takes the right to append for each page, so that others wait for no more than one.
    pub(super) fn waiting(
        engine: &'a Engine,
        generation: &'a Arc<Generation>,
        at: Joint,
    ) -> LiveSink<'a> {
        LiveSink {
            engine,
            generation,
            held: None,
            at,
            gaps: Vec::new(),
            page_bytes: 0,
        }
    }

    /// Appends what `make` gives, when it is told where it will stand; gives back where that is, and where it ends.
    fn append(
        &mut self,
        kind: Kind,
        make: impl FnOnce(&mut Self, u64) -> Vec<u8>,
    ) -> Result<(u64, u64)> {
        match self.held.take() {
            Some(writer) => {
                let appended = self.append_by(writer, kind, make);
                self.held = Some(writer);
                appended
            }
            None => {
                let engine = self.engine;
                let _writing = engine.enter()?;
                let mut writer: MutexGuard<'_, Writer> = engine.lock_writer()?;
                let appended = self.append_by(&mut writer, kind, make);
                // Not kept for the next page: others may be waiting.
                engine.give_up_turn(&mut writer);
                drop(writer);
                // Else this thread would have the mutex again before another one of this process wakes up that waits for it.
                thread::sleep(COURTESY);
                appended
            }
        }
    }

    fn append_by(
        &mut self,
        writer: &mut Writer,
        kind: Kind,
        make: impl FnOnce(&mut Self, u64) -> Vec<u8>,
    ) -> Result<(u64, u64)> {
        if !Arc::ptr_eq(&writer.generation, self.generation) {
            return Err(replaced(self.engine));
        }
        self.generation.check_not_poisoned(self.engine.path())?;
        let mut tail = self.generation.lock_tail();
        self.engine.fence(writer, &mut tail)?;
        if tail.offset != self.at.offset && !mutation::is_on(Mutation::ForgetGaps) {
            self.gaps.push(LayerGap {
                start: self.at,
                end: tail.offset,
            });
        }
        let start = tail.offset;
        let value = make(self, start);
        let change = Change::control(kind, &value);
        self.engine
            .reserve(writer, start + change.size_bytes(), Spare::Nothing)?;
        self.engine.append_control(writer, &mut tail, &change)?;
        self.at = Joint {
            offset: tail.offset,
            previous: tail.previous,
        };
        Ok((start, tail.offset))
    }
}

impl PageSink for LiveSink<'_> {
    fn put(&mut self, value: &mut Vec<u8>) -> Result<u64> {
        let (start, end) = self.append(Kind::Page, |_, offset| {
            value[..8].copy_from_slice(&offset.to_le_bytes());
            std::mem::take(value)
        })?;
        self.page_bytes += end - start;
        Ok(start + HEADER_BYTES as u64)
    }
}

impl LayerSink for LiveSink<'_> {
    fn close(&mut self, value: &mut dyn FnMut(Written) -> Vec<u8>) -> Result<ClosedAt> {
        let (offset, end) = self.append(Kind::Checkpoint, |sink, offset| {
            value(Written {
                offset,
                gaps: std::mem::take(&mut sink.gaps),
                page_bytes: sink.page_bytes,
                all_bytes: sink.generation.advice().all_bytes,
            })
        })?;
        Ok(ClosedAt { offset, end })
    }
}
