//! Bytes that are handed out without being copied.

use std::borrow::Borrow;
use std::fmt;
use std::ops::Deref;
use std::str::Utf8Error;
use std::sync::Arc;

use crate::storage::Mapping;

/// A value, field or key, as bytes.
///
/// It points into the mapped file and keeps the mapping alive: it stays valid and unchanged for
/// as long as it is kept, whatever is written meanwhile. Cloning copies no bytes.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// let db = brasa::Db::in_memory()?;
/// db.set("pi", "3.21")?;
/// let value = db.get("pi")?.unwrap();
/// db.set("pi", "3.14")?;
/// assert_eq!(value.to_str(), Ok("3.21"));
/// assert_eq!(value.len(), 4);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Value(Inner);

#[derive(Clone)]
enum Inner {
    Mapped {
        mapping: Arc<Mapping>,
        offset: u64,
        len: usize,
    },
    Owned(Arc<[u8]>),
}

impl Value {
    /// Bytes of a published record, which the caller found within the mapping.
    pub(super) fn mapped(mapping: &Arc<Mapping>, offset: u64, len: usize) -> Value {
        Value(Inner::Mapped {
            mapping: Arc::clone(mapping),
            offset,
            len,
        })
    }

    pub(super) fn owned(bytes: &[u8]) -> Value {
        Value(Inner::Owned(bytes.into()))
    }

    /// The bytes as text.
    ///
    /// # Errors
    ///
    /// Where they are not UTF-8.
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self)
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // The range was read when the value was made, and what can be read stays so.
            Inner::Mapped {
                mapping,
                offset,
                len,
            } => mapping.bytes(*offset, *len).unwrap_or_default(),
            Inner::Owned(bytes) => bytes,
        }
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Borrow<[u8]> for Value {
    fn borrow(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "b\"{}\"", self.escape_ascii())
    }
}

impl Eq for Value {}

impl<T: AsRef<[u8]> + ?Sized> PartialEq<T> for Value {
    fn eq(&self, other: &T) -> bool {
        **self == *other.as_ref()
    }
}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.to_vec()
    }
}
