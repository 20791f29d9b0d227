//! The bytes of a value, returned without a copy.
//!
//! Invariant: a mapped value points at published bytes of the log, which never change, and keeps
//! their mapping alive.

use std::borrow::Borrow;
use std::cmp::Ordering;
use std::fmt;
use std::ops::Deref;
use std::str::Utf8Error;

use crate::storage::Mapping;
use crate::sync::Arc;

/// The bytes of a value, field or key.
///
/// A `Value` points into the mapped file and keeps the mapping alive. It stays valid and unchanged
/// for as long as it exists, whatever is written meanwhile. A clone copies no bytes. Values
/// compare, sort and hash as their bytes do, and print as lossy UTF-8.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// let db = brasa::Db::in_memory()?;
/// db.set("pi", "3.21")?;
/// let value = db.get("pi")?.unwrap();
/// db.set("pi", "3.14")?;
/// assert_eq!(value, "3.21");
/// assert_eq!(format!("pi is {value}"), "pi is 3.21");
/// assert!(value > db.get("pi")?.unwrap());
/// let bytes: Vec<u8> = value.into();
/// assert_eq!(bytes, b"3.21");
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
    /// Makes a value of bytes of a published record, which the caller found within the mapping.
    pub(super) fn mapped(mapping: &Arc<Mapping>, offset: u64, len: usize) -> Value {
        Value(Inner::Mapped {
            mapping: Arc::clone(mapping),
            offset,
            len,
        })
    }

    pub(crate) fn owned(bytes: &[u8]) -> Value {
        Value(Inner::Owned(bytes.into()))
    }

    /// Returns the memory that the value's bytes take: zero if they are in the mapped file.
    #[cfg(feature = "server")]
    pub(crate) fn owned_bytes(&self) -> usize {
        match &self.0 {
            Inner::Mapped { .. } => 0,
            Inner::Owned(bytes) => bytes.len(),
        }
    }

    /// Removes the first `count` bytes, or all if there are fewer.
    #[inline]
    pub(crate) fn skip(&mut self, count: usize) {
        match &mut self.0 {
            Inner::Mapped { offset, len, .. } => {
                let count = count.min(*len);
                *offset += count as u64;
                *len -= count;
            }
            Inner::Owned(bytes) => *bytes = bytes.get(count..).unwrap_or_default().into(),
        }
    }

    /// Returns the bytes as text, without copying them.
    ///
    /// # Errors
    ///
    /// [`Utf8Error`] if the bytes are not UTF-8.
    ///
    /// ```
    /// use brasa::Value;
    /// assert_eq!(Value::from(&b"recife"[..]).to_str(), Ok("recife"));
    /// assert!(Value::from(&b"\xff"[..]).to_str().is_err());
    /// ```
    pub fn to_str(&self) -> Result<&str, Utf8Error> {
        std::str::from_utf8(self)
    }
}

impl Deref for Value {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            // The range was checked when the value was made, and a mapping never shrinks.
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

impl PartialOrd for Value {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Orders values by their bytes, like slices.
impl Ord for Value {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

/// Writes the bytes as text, with U+FFFD for each sequence that is not UTF-8. [`Value::to_str`] is
/// exact.
impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&String::from_utf8_lossy(self), f)
    }
}

impl std::hash::Hash for Value {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

/// Makes a value of owned bytes, for example as the result of a computation for a
/// [`Cache`](crate::Cache).
impl From<Vec<u8>> for Value {
    fn from(bytes: Vec<u8>) -> Self {
        Value(Inner::Owned(bytes.into()))
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Value::owned(bytes)
    }
}

impl From<Value> for Vec<u8> {
    fn from(value: Value) -> Self {
        value.to_vec()
    }
}

/// The serde format of a value: bytes. Deserializing copies them.
#[cfg(feature = "serde")]
mod serde_impls {
    use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
    use serde::ser::{Serialize, Serializer};

    use super::Value;

    impl Serialize for Value {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.serialize_bytes(self)
        }
    }

    impl<'de> Deserialize<'de> for Value {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            deserializer.deserialize_bytes(Bytes)
        }
    }

    struct Bytes;

    impl<'de> Visitor<'de> for Bytes {
        type Value = Value;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("bytes")
        }

        fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Value, E> {
            Ok(Value::owned(bytes))
        }

        fn visit_str<E>(self, text: &str) -> Result<Value, E> {
            Ok(Value::owned(text.as_bytes()))
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut numbers: A) -> Result<Value, A::Error> {
            let mut bytes = Vec::new();
            while let Some(byte) = numbers.next_element()? {
                bytes.push(byte);
            }
            Ok(Value::owned(&bytes))
        }
    }
}
