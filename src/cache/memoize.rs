//! A function that remembers.

use std::fmt::{self, Display};
use std::marker::PhantomData;

use super::{Cache, CacheError, CacheValue};
use crate::Result;

/// What arguments a key can be made of: text, numbers, and tuples of them.
pub trait CacheKey {
    /// Appends the argument to a key, so that different arguments make different keys.
    fn write(&self, key: &mut String);
}

/// Appends one part of a key; colons part parts, and those within are marked.
fn write_part(part: &str, key: &mut String) {
    key.push(':');
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

/// A function behind a cache; made by [`Cache::memoize`].
pub struct Memoized<F, A, T, E> {
    cache: Cache,
    name: String,
    function: F,
    signature: PhantomData<fn(A) -> Result<T, E>>,
}

impl<F, A, T, E> Memoized<F, A, T, E>
where
    F: Fn(A) -> Result<T, E>,
    A: CacheKey,
    T: CacheValue,
    E: Display,
{
    /// The function's value for these arguments, from the cache where it is there.
    ///
    /// # Errors
    ///
    /// As [`Cache::get_or_insert_with`].
    pub fn call(&self, arguments: A) -> Result<T, CacheError<E>> {
        let key = self.key(&arguments);
        self.cache
            .get_or_insert_with(key, || (self.function)(arguments))
    }

    /// Forgets the value for these arguments. Gives back whether there was one.
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate`].
    pub fn forget(&self, arguments: A) -> Result<bool> {
        self.cache.invalidate(self.key(&arguments))
    }

    fn key(&self, arguments: &A) -> String {
        let mut key = self.name.clone();
        arguments.write(&mut key);
        key
    }
}

impl<F, A, T, E> fmt::Debug for Memoized<F, A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memoized")
            .field("name", &self.name)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// A function that looks here first. Its values are at `NAME:ARGUMENT`, with a colon before each further argument.
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
    pub fn memoize<F, A, T, E>(&self, name: impl Into<String>, function: F) -> Memoized<F, A, T, E>
    where
        F: Fn(A) -> Result<T, E>,
        A: CacheKey,
        T: CacheValue,
        E: Display,
    {
        Memoized {
            cache: self.clone(),
            name: name.into(),
            function,
            signature: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CacheKey;

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
}
