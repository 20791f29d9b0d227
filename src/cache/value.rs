//! What a cache can hold: bytes, text, and with feature `serde` whatever serde knows.

use super::entry::ValueKind;
use crate::Value;

/// What a [`Cache`](super::Cache) can hold.
///
/// [`Value`] and `Vec<u8>` are bytes, `String` is text, each stored as it is. With feature `serde` every other type that is
/// `Serialize` and `DeserializeOwned` is stored as MessagePack with the names of its fields. A type of one's own may have an encoding of its own,
/// where it is none of serde's:
///
/// ```
/// use brasa::{Cache, CacheValue, Value, ValueKind};
///
/// #[derive(Debug, PartialEq)]
/// struct Celsius(f64);
///
/// impl CacheValue for Celsius {
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
/// cache.insert("recife", &Celsius(28.5))?;
/// assert_eq!(cache.get::<Celsius>("recife")?, Some(Celsius(28.5)));
/// assert_eq!(cache.get::<String>("recife")?, None, "another type is a miss");
/// # Ok(())
/// # }
/// ```
pub trait CacheValue: Sized {
    /// What tells its bytes from those of other types.
    fn kind() -> ValueKind;

    /// Appends the value's bytes.
    ///
    /// # Errors
    ///
    /// Why it has none.
    fn encode(&self, out: &mut Vec<u8>) -> Result<(), String>;

    /// The value of bytes that were stored with this kind; `None` where they are none after all, which is a miss.
    fn decode(bytes: Value) -> Option<Self>;
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

/// One implementation for all of serde's types. Bytes and text go around serde, so that they are the same with the
/// feature and without it; the comparisons of types are made by the compiler.
#[cfg(feature = "serde")]
mod typed {
    use std::any::{Any, TypeId};

    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::{CacheValue, Value, ValueKind};

    fn is<A: 'static, B: 'static>() -> bool {
        TypeId::of::<A>() == TypeId::of::<B>()
    }

    /// `value` as the type that it is.
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
            // What goes on behind the value was not written as one of this type.
            rest.is_empty().then_some(value)
        }
    }
}
