//! The values of a cache: bytes, text, types with an encoding of their own, and with feature
//! `serde` every type that is `Serialize` and `DeserializeOwned`.
//!
//! Invariant: bytes and text have the same encoding with feature `serde` and without it.

use super::entry::ValueKind;
use crate::Value;

/// A value that a [`Cache`](super::Cache) can hold.
///
/// [`Value`] and `Vec<u8>` are bytes, `String` is text; each is stored as it is. With feature
/// `serde`, every other type that is `Serialize` and `DeserializeOwned` is stored as MessagePack
/// with the names of its fields. [`Encoded`] holds a type with an encoding of its own.
///
/// The trait is sealed, so that feature `serde` can add types without breaking a program that was
/// written without it.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Cache, CacheValue};
/// fn copy<T: CacheValue>(cache: &Cache, from: &str, to: &str) -> brasa::Result<()> {
///     match cache.get::<T>(from)? {
///         Some(value) => cache.insert(to, &value),
///         None => Ok(()),
///     }
/// }
/// let cache = Cache::in_memory()?;
/// cache.insert("a", &"Minevaldo".to_owned())?;
/// copy::<String>(&cache, "a", "b")?;
/// assert!(cache.contains::<String>("b")?);
/// # Ok(())
/// # }
/// ```
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Cache, CacheValue};
/// fn copy<T: CacheValue>(cache: &Cache, from: &str, to: &str) -> brasa::Result<()> {
///     match cache.get::<T>(from)? {
///         Some(value) => cache.insert(to, &value),
///         None => Ok(()),
///     }
/// }
/// let cache = Cache::in_memory()?;
/// cache.insert("a", &"Minevaldo".to_owned())?;
/// copy::<String>(&cache, "a", "b")?;
/// assert!(cache.contains::<String>("b")?);
/// # Ok(())
/// # }
/// ```
pub trait CacheValue: sealed::Sealed + Sized {
    #[doc(hidden)]
    fn kind() -> ValueKind;

    #[doc(hidden)]
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String>;

    #[doc(hidden)]
    fn decode(bytes: Value) -> Option<Self>;
}

mod sealed {
    pub trait Sealed {}

    #[cfg(not(feature = "serde"))]
    impl Sealed for crate::Value {}
    #[cfg(not(feature = "serde"))]
    impl Sealed for Vec<u8> {}
    #[cfg(not(feature = "serde"))]
    impl Sealed for String {}

    #[cfg(feature = "serde")]
    impl<T: serde::Serialize + serde::de::DeserializeOwned + 'static> Sealed for T {}

    impl<T: super::CacheEncoding> Sealed for super::Encoded<T> {}
}

/// A type with an encoding of its own; stored through [`Encoded`], which has an example.
pub trait CacheEncoding: Sized {
    /// Returns the kind, which distinguishes the bytes from those of other types.
    fn kind() -> ValueKind;

    /// Appends the value's bytes.
    ///
    /// # Errors
    ///
    /// The reason why the value has no bytes.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String>;

    /// Returns the value of bytes that were stored with this kind, or `None` if they are not valid:
    /// the entry then counts as a miss.
    fn decode(bytes: Value) -> Option<Self>;
}

/// A value of a type with an encoding of its own, as a [`CacheValue`].
///
/// ```
/// use brasa::{Cache, CacheEncoding, Encoded, Value, ValueKind};
///
/// #[derive(Debug, PartialEq)]
/// struct Celsius(f64);
///
/// impl CacheEncoding for Celsius {
///     fn kind() -> ValueKind {
///         ValueKind::own("weather.Celsius.1")
///     }
///     fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
///         out.extend_from_slice(&self.0.to_le_bytes());
///         Ok(())
///     }
///     fn decode(bytes: Value) -> Option<Self> {
///         Some(Celsius(f64::from_le_bytes(bytes.as_ref().try_into().ok()?)))
///     }
/// }
///
/// # fn main() -> brasa::Result<()> {
/// let cache = Cache::in_memory()?;
/// cache.insert("recife", &Encoded(Celsius(28.5)))?;
/// assert_eq!(cache.get("recife")?, Some(Encoded(Celsius(28.5))));
/// assert_eq!(cache.get::<String>("recife")?, None, "another type is a miss");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Encoded<T>(pub T);

impl<T: CacheEncoding> CacheValue for Encoded<T> {
    fn kind() -> ValueKind {
        T::kind()
    }

    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
        self.0.encode(out)
    }

    fn decode(bytes: Value) -> Option<Self> {
        T::decode(bytes).map(Encoded)
    }
}

#[cfg(not(feature = "serde"))]
mod plain {
    use super::{CacheValue, Value, ValueKind};

    impl CacheValue for Value {
        fn kind() -> ValueKind {
            ValueKind::BYTES
        }
        fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
            out.extend_from_slice(self);
            Ok(())
        }
        fn decode(bytes: Value) -> Option<Self> {
            Some(bytes)
        }
    }

    impl CacheValue for Vec<u8> {
        fn kind() -> ValueKind {
            ValueKind::BYTES
        }
        fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
            out.extend_from_slice(self);
            Ok(())
        }
        fn decode(bytes: Value) -> Option<Self> {
            Some(bytes.to_vec())
        }
    }

    impl CacheValue for String {
        fn kind() -> ValueKind {
            ValueKind::TEXT
        }
        fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
            out.extend_from_slice(self.as_bytes());
            Ok(())
        }
        fn decode(bytes: Value) -> Option<Self> {
            bytes.to_str().ok().map(str::to_owned)
        }
    }
}

/// One implementation for all types of serde. Bytes and text bypass serde, so that their encoding
/// is the same with the feature and without it. The compiler resolves the comparisons of types.
#[cfg(feature = "serde")]
mod typed {
    use std::any::{Any, TypeId};

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{CacheValue, Value, ValueKind};

    fn is<A: 'static, B: 'static>() -> bool {
        TypeId::of::<A>() == TypeId::of::<B>()
    }

    /// Returns `value` as type `B`, if `A` is `B`.
    fn cast<A: 'static, B: 'static>(value: A) -> Option<B> {
        let mut value = Some(value);
        let value: &mut dyn Any = &mut value;
        value.downcast_mut::<Option<B>>()?.take()
    }

    impl<T: Serialize + DeserializeOwned + 'static> CacheValue for T {
        fn kind() -> ValueKind {
            if is::<T, Value>() || is::<T, Vec<u8>>() {
                ValueKind::BYTES
            } else if is::<T, String>() {
                ValueKind::TEXT
            } else {
                ValueKind::message_pack(std::any::type_name::<T>())
            }
        }

        fn encode(&self, out: &mut Vec<u8>) -> Result<(), String> {
            let any: &dyn Any = self;
            if let Some(bytes) = any.downcast_ref::<Value>() {
                out.extend_from_slice(bytes);
            } else if let Some(bytes) = any.downcast_ref::<Vec<u8>>() {
                out.extend_from_slice(bytes);
            } else if let Some(text) = any.downcast_ref::<String>() {
                out.extend_from_slice(text.as_bytes());
            } else {
                let mut serializer = rmp_serde::Serializer::new(out).with_struct_map();
                self.serialize(&mut serializer)
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        }

        fn decode(bytes: Value) -> Option<Self> {
            if is::<T, Value>() {
                return cast(bytes);
            }
            if is::<T, Vec<u8>>() {
                return cast(bytes.to_vec());
            }
            if is::<T, String>() {
                return cast(bytes.to_str().ok()?.to_owned());
            }
            let mut rest: &[u8] = &bytes;
            let mut deserializer = rmp_serde::Deserializer::new(&mut rest);
            let value = T::deserialize(&mut deserializer).ok()?;
            drop(deserializer);
            // Bytes after the value mean that another type was written.
            rest.is_empty().then_some(value)
        }
    }
}
