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

/// A function behind a cache; made by [`Cache::memoize`].
pub struct Memoized<F, A, T, E> {
    cache: Cache,
    /// What the keys of its values begin with.
    prefix: String,
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
        let mut key = self.prefix.clone();
        arguments.write(&mut key);
        key
    }

    /// Forgets the values for all arguments. Gives back how many keys of the store went, leases among them; every key of the file or server is looked at.
    ///
    /// # Errors
    ///
    /// As [`Cache::invalidate_prefix`].
    pub fn forget_all(&self) -> Result<u64> {
        self.cache.invalidate_prefix(format!("{}:", self.prefix))
    }
}

impl<F, A, T, E> fmt::Debug for Memoized<F, A, T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Memoized")
            .field("prefix", &self.prefix)
            .field("cache", &self.cache)
            .finish_non_exhaustive()
    }
}

impl Cache {
    /// A function that looks here first. Its values are at `NAME:ARGUMENT`, with a colon before each further argument; colons and backslashes within them have
    /// a backslash before them.
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
    pub fn memoize<F, A, T, E>(&self, name: impl AsRef<str>, function: F) -> Memoized<F, A, T, E>
    where
        F: Fn(A) -> Result<T, E>,
        A: CacheKey,
        T: CacheValue,
        E: Display,
    {
        let mut prefix = String::new();
        write_marked(name.as_ref(), &mut prefix);
        Memoized {
            cache: self.clone(),
            prefix,
            function,
            signature: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::CacheKey;
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
