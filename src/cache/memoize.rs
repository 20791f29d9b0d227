//! Memoised functions, and the keys that are made of their arguments.
//!
//! Invariant: different arguments make different keys. Colons separate parts, and a colon within a
//! part is escaped.

use std::fmt::{self, Display};
use std::hash::Hash;

use siphasher::sip128::{Hasher128, SipHasher13};

use super::{Cache, CacheError, CacheValue};
use crate::Result;

/// A value that can be a part of a key: text, a number, or a tuple of at most four parts.
///
/// [`Hashed`] makes a part of every type that is `Hash`; with feature `serde`, `Serialized` makes
/// one of every type that is `Serialize`. [`Memoized`] makes its keys from such parts, and
/// [`Cache::key`] makes a key for any other call.
///
/// ```
/// use brasa::{Cache, CacheKey};
/// struct User(u64);
/// impl CacheKey for User {
///     fn write(&self, key: &mut String) {
///         ("user", self.0).write(key);
///     }
/// }
/// assert_eq!(Cache::key((User(7), "name")), ":user:7:name");
/// ```
pub trait CacheKey {
    /// Appends the value to a key. Different values must append different text; [`CacheKey`] has an
    /// example.
    fn write(&self, key: &mut String);
}

/// A part of a key made of a hash, for every type that is `Hash`: 128 bits of SipHash-1-3 under a
/// fixed key.
///
/// Two values with the same hash share an entry. By chance that takes about 2^64 keys, but an
/// attacker can choose such values: use an exact [`CacheKey`] for input from outside. The hash of a
/// type may change with the platform, the compiler and the type's crate; entries of the old hash
/// are then misses.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Cache, Hashed};
/// let cache = Cache::in_memory()?;
/// let query = (vec!["name", "city"], Some(29));
/// cache.insert(Cache::key(("rows", Hashed(&query))), &"Minevaldo".to_owned())?;
/// let row = cache.get::<String>(Cache::key(("rows", Hashed(&query))))?;
/// assert_eq!(row.as_deref(), Some("Minevaldo"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Hashed<T>(pub T);

impl<T: Hash> CacheKey for Hashed<T> {
    fn write(&self, key: &mut String) {
        let mut hasher = SipHasher13::new();
        self.0.hash(&mut hasher);
        write_part(&format!("{:032x}", hasher.finish128().as_u128()), key);
    }
}

/// A part of a key made of MessagePack bytes in hexadecimal, for every type that is `Serialize`.
///
/// Unlike [`Hashed`] it is exact, and the same on every platform. The part has two characters for
/// each byte. A value that cannot be serialized makes the part `!` with the text of the error.
///
/// ```
/// # fn main() -> brasa::Result<()> {
/// use brasa::{Cache, Serialized};
/// let cache = Cache::in_memory()?;
/// cache.insert(Cache::key(Serialized(Some(29))), &"Minevaldo".to_owned())?;
/// assert_eq!(cache.get::<String>(Cache::key(Serialized(Some(30))))?, None);
/// # Ok(())
/// # }
/// ```
#[cfg(feature = "serde")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Serialized<T>(pub T);

#[cfg(feature = "serde")]
impl<T: serde::Serialize> CacheKey for Serialized<T> {
    fn write(&self, key: &mut String) {
        match rmp_serde::to_vec_named(&self.0) {
            Ok(bytes) => {
                let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
                write_part(&hex, key);
            }
            Err(error) => write_part(&format!("!{error}"), key),
        }
    }
}

/// Appends one part of a key after a colon, with colons within the part escaped.
fn write_part(part: &str, key: &mut String) {
    key.push(':');
    write_marked(part, key);
}

fn write_marked(part: &str, key: &mut String) {
    for character in part.chars() {
        if matches!(character, ':' | '\\') {
            key.push('\\');
        }
        key.push(character);
    }
}

impl CacheKey for str {
    fn write(&self, key: &mut String) {
        write_part(self, key);
    }
}

impl CacheKey for String {
    fn write(&self, key: &mut String) {
        write_part(self, key);
    }
}

impl<K: CacheKey + ?Sized> CacheKey for &K {
    fn write(&self, key: &mut String) {
        (**self).write(key);
    }
}

macro_rules! displayed {
    ($($type:ty)*) => {$(
        impl CacheKey for $type {
            fn write(&self, key: &mut String) {
                write_part(&self.to_string(), key);
            }
        }
    )*};
}

displayed!(bool char u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize);

macro_rules! tuples {
    ($(($($name:ident $index:tt),+))*) => {$(
        impl<$($name: CacheKey),+> CacheKey for ($($name,)+) {
            fn write(&self, key: &mut String) {
                $(self.$index.write(key);)+
            }
        }
    )*};
}

tuples!((A 0) (A 0, B 1) (A 0, B 1, C 2) (A 0, B 1, C 2, D 3));

/// A function whose values are cached; made by [`Cache::memoize`], which has an example.
#[derive(Clone)]
pub struct Memoized<F> {
    cache: Cache,
    /// The prefix of the keys of the function's values.
    prefix: String,
    function: F,
}

impl<F> Memoized<F> {
    /// Returns the function's value for these arguments, from the cache or by calling the function.
    ///
    /// It is shared and stored like a value of [`Cache::get_or_insert_with`]. [`Cache::memoize`]
    /// has an example.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::get_or_insert_with`].
    pub fn call<A, T, E>(&self, arguments: A) -> Result<T, CacheError<E>>
    where
        F: Fn(A) -> Result<T, E>,
        A: CacheKey,
        T: CacheValue,
        E: Display,
    {
        let key = self.key(&arguments);
        self.cache
            .get_or_insert_with(key, || (self.function)(arguments))
    }

    /// Removes the value for these arguments. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let upper = cache.memoize("upper", |word: &str| std::io::Result::Ok(word.to_uppercase()));
    /// assert_eq!(upper.call("recife")?, "RECIFE");
    /// assert!(upper.forget("recife")?);
    /// assert!(!upper.forget("recife")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let upper = cache.memoize("upper", |word: &str| std::io::Result::Ok(word.to_uppercase()));
    /// assert_eq!(upper.call("recife")?, "RECIFE");
    /// assert!(upper.forget("recife")?);
    /// assert!(!upper.forget("recife")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget(&self, arguments: impl CacheKey) -> Result<bool> {
        self.cache.invalidate(self.key(&arguments))
    }

    fn key(&self, arguments: &impl CacheKey) -> String {
        let mut key = self.prefix.clone();
        arguments.write(&mut key);
        key
    }

    /// Removes the values for all arguments. Returns how many keys of the store were removed,
    /// leases included. It reads every key of the file or server.
    ///
    /// # Errors
    ///
    /// Those of [`Cache::invalidate_prefix`].
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let upper = cache.memoize("upper", |word: &str| std::io::Result::Ok(word.to_uppercase()));
    /// upper.call("recife")?;
    /// upper.call("olinda")?;
    /// assert_eq!(upper.forget_all()?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn forget_all(&self) -> Result<u64> {
        self.cache.invalidate_prefix(format!("{}:", self.prefix))
    }
}

impl<F> fmt::Debug for Memoized<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memoized")
            .field("prefix", &self.prefix)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// Returns the key made of one part, or of several in a tuple, with a colon before each part.
    /// [`Cache::memoize`] makes its keys the same way.
    ///
    /// ```
    /// assert_eq!(brasa::Cache::key(("user", 7)), ":user:7");
    /// ```
    pub fn key(parts: impl CacheKey) -> String {
        let mut key = String::new();
        parts.write(&mut key);
        key
    }

    /// Returns a function that looks a value up in this cache before it calls `function`.
    ///
    /// The key of a value is `NAME:ARGUMENT`, with a colon before each further argument. A
    /// backslash escapes each colon and backslash within an argument. Arguments may be references
    /// of any lifetime, if the closure names their type: `|name: &str| ...`.
    ///
    /// ```
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let cache = brasa::Cache::in_memory()?;
    /// let area = cache.memoize("area", |(a, b): (u32, u32)| {
    ///     a.checked_mul(b).map(|area| area.to_string()).ok_or("too large")
    /// });
    /// assert_eq!(area.call((3, 4))?, "12");
    /// assert_eq!(cache.get::<String>("area:3:4")?.unwrap(), "12");
    /// # Ok(())
    /// # }
    /// ```
    pub fn memoize<F>(&self, name: impl AsRef<str>, function: F) -> Memoized<F> {
        let mut prefix = String::new();
        write_marked(name.as_ref(), &mut prefix);
        Memoized {
            cache: self.clone(),
            prefix,
            function,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{CacheKey, Hashed};
    use crate::Cache;

    fn key(arguments: impl CacheKey) -> String {
        let mut key = String::new();
        arguments.write(&mut key);
        key
    }

    #[test]
    fn different_arguments_make_different_keys() {
        assert_eq!(key(("a", 1)), ":a:1");
        assert_ne!(key(("a:b", "c")), key(("a", "b:c")));
        assert_ne!(key(("a\\", "b")), key(("a", "\\b")));
        assert_ne!(key(("", "")), key(("",)));
    }

    #[test]
    fn hashed_part_of_a_key_tells_values_apart_and_stays_the_same() {
        let one = key(Hashed(&(vec!["a", "b"], Some(1_u8))));
        assert_eq!(one, key(Hashed(&(vec!["a", "b"], Some(1_u8)))));
        assert_ne!(one, key(Hashed(&(vec!["a", "b"], None::<u8>))));
        assert_ne!(one, key(Hashed(&(vec!["ab"], Some(1_u8)))));
        assert_eq!(one.len(), 33, "a colon and 128 bits");
    }

    #[cfg(feature = "serde")]
    #[test]
    fn serialized_part_of_a_key_is_its_message_pack() {
        use super::Serialized;
        assert_eq!(key(("a", Serialized((1, "b")))), ":a:9201a162");
        assert_ne!(key(Serialized(Some(0))), key(Serialized(None::<u8>)));
    }

    #[test]
    fn memoized_function_takes_references_of_any_lifetime() {
        let cache = Cache::in_memory().unwrap();
        let upper = cache.memoize("upper", |word: &str| Ok::<_, String>(word.to_uppercase()));
        for number in 0..3 {
            let word = format!("recife {number}");
            assert_eq!(upper.call(&*word).unwrap(), word.to_uppercase());
            assert!(upper.forget(&*word).unwrap());
        }
    }

    #[test]
    fn functions_of_different_names_do_not_share_values() {
        let cache = Cache::in_memory().unwrap();
        let answer = |text: &'static str| move |_: (&str, &str)| Ok::<_, String>(text.to_owned());
        let one = cache.memoize("a", answer("of a"));
        let other = cache.memoize("a:b", |_: &str| Ok::<_, String>("of a:b".to_owned()));
        assert_eq!(one.call(("b", "c")).unwrap(), "of a");
        assert_eq!(other.call("c").unwrap(), "of a:b");
        assert_eq!(one.forget_all().unwrap(), 1);
        let value = cache.get::<String>("a\\:b:c").unwrap();
        assert_eq!(value.as_deref(), Some("of a:b"));
    }
}
