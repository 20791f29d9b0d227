//! Structure from a fuzzer's bytes: numbers and strings, zeros when they have run out.

pub struct Cursor<'a> {
    bytes: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub fn u8(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else {
            return 0;
        };
        self.bytes = rest;
        *first
    }

    pub fn u32(&mut self) -> u32 {
        u32::from_le_bytes([self.u8(), self.u8(), self.u8(), self.u8()])
    }

    pub fn u64(&mut self) -> u64 {
        u64::from(self.u32()) << 32 | u64::from(self.u32())
    }

    /// Up to `len` bytes.
    pub fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.bytes.split_at(len.min(self.bytes.len()));
        self.bytes = rest;
        taken
    }

    /// A short string, often one that came before: its first byte says which.
    pub fn name(&mut self) -> Vec<u8> {
        match self.u8() {
            few @ 0..=199 => vec![b'a' + few % 6; usize::from(few % 3)],
            len => self.bytes(usize::from(len - 199)).to_vec(),
        }
    }

    pub fn rest(self) -> &'a [u8] {
        self.bytes
    }
}
