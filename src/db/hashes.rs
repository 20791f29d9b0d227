//! Hashes: fields under one key.

use crate::engine::Dated;
use crate::{Db, Error, Result, Value};

use super::numbers::parse_integer;

impl Db {
    /// Sets one field of the hash at `key`, and creates the hash if it is missing. Returns whether the
    /// field is new. The hash keeps its deadline; the field loses its own.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] where the key holds a string.
    /// - The errors of every write, see [`Db::set`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert!(db.hset("meu_hash", "nome", "thailan")?);
    /// assert!(!db.hset("meu_hash", "nome", "outro")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hset(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<bool> {
        let created = self.hset_many(key, &[(field, value)])?;
        Ok(created == 1)
    }

    /// Sets several fields of the hash at `key`, all or none. Returns how many are new.
    ///
    /// # Errors
    ///
    /// As [`Db::hset`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.hset_many("meu_hash", &[("nome", "thailan"), ("city", "Recife")])?, 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hset_many<F: AsRef<[u8]>, V: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[(F, V)],
    ) -> Result<u64> {
        let key = key.as_ref();
        self.write(|tx| {
            let mut created = 0;
            for (field, value) in fields {
                created += u64::from(tx.hash_set(
                    self.database,
                    key,
                    field.as_ref(),
                    value.as_ref(),
                    0,
                )?);
            }
            Ok(created)
        })
    }

    /// The value of one field; `None` where there is no such field or no such key.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] where the key holds a string.
    /// - [`Error::Corrupt`], as [`Db::get`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "idade", "29")?;
    /// assert_eq!(db.hget("meu_hash", "idade")?.unwrap(), b"29");
    /// # Ok(())
    /// # }
    /// ```
    pub fn hget(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<Option<Value>> {
        let (key, field) = (key.as_ref(), field.as_ref());
        self.read(
            |tx| {
                Ok(tx
                    .field(self.database, key, field)?
                    .map(|found| found.value))
            },
            |engine| engine.field(self.database, key, field),
        )
    }

    /// The values of several fields, at one moment; `None` for a field that is not there.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// let values = db.hget_many("meu_hash", &["nome", "idade"])?;
    /// assert!(values[0].is_some() && values[1].is_none());
    /// # Ok(())
    /// # }
    /// ```
    pub fn hget_many<F: AsRef<[u8]>>(
        &self,
        key: impl AsRef<[u8]>,
        fields: &[F],
    ) -> Result<Vec<Option<Value>>> {
        let found = self.some_fields(key.as_ref(), fields)?;
        let values = found
            .into_iter()
            .map(|found| found.map(|found| found.value));
        Ok(values.collect())
    }

    /// Several fields at one moment, with their deadlines.
    pub(super) fn some_fields<F: AsRef<[u8]>>(
        &self,
        key: &[u8],
        fields: &[F],
    ) -> Result<Vec<Option<Dated>>> {
        self.read(
            |tx| {
                let fields = fields.iter();
                fields
                    .map(|field| tx.field(self.database, key, field.as_ref()))
                    .collect()
            },
            |engine| engine.some_fields(self.database, key, fields),
        )
    }

    /// All fields and their values, in no particular order; empty where there is no such key.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// for (field, value) in db.hgetall("meu_hash")? {
    ///     assert_eq!((&*field, &*value), (&b"nome"[..], &b"thailan"[..]));
    /// }
    /// # Ok(())
    /// # }
    /// ```
    pub fn hgetall(&self, key: impl AsRef<[u8]>) -> Result<Vec<(Value, Value)>> {
        let page = self.scan_fields(key.as_ref(), 0, usize::MAX)?;
        let fields = page.fields.into_iter();
        Ok(fields.map(|(field, found)| (field, found.value)).collect())
    }

    /// The names of all fields, in no particular order.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    pub fn hkeys(&self, key: impl AsRef<[u8]>) -> Result<Vec<Value>> {
        Ok(self
            .hgetall(key)?
            .into_iter()
            .map(|(field, _)| field)
            .collect())
    }

    /// The values of all fields, in the order of [`Db::hkeys`].
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    pub fn hvals(&self, key: impl AsRef<[u8]>) -> Result<Vec<Value>> {
        Ok(self
            .hgetall(key)?
            .into_iter()
            .map(|(_, value)| value)
            .collect())
    }

    /// Removes one field. Returns whether it existed. A hash without fields is removed.
    ///
    /// # Errors
    ///
    /// As [`Db::hset`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("meu_hash", "nome", "thailan")?;
    /// assert!(db.hdel("meu_hash", "nome")?);
    /// assert!(!db.exists("meu_hash")?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hdel(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.hdel_many(key, &[field])? == 1)
    }

    /// Removes several fields in one commit. Returns how many existed.
    ///
    /// # Errors
    ///
    /// As [`Db::hset`].
    pub fn hdel_many<F: AsRef<[u8]>>(&self, key: impl AsRef<[u8]>, fields: &[F]) -> Result<u64> {
        let key = key.as_ref();
        self.write(|tx| {
            let mut removed = 0;
            for field in fields {
                removed += u64::from(tx.hash_delete(self.database, key, field.as_ref())?);
            }
            Ok(removed)
        })
    }

    /// Whether the hash has the field.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    pub fn hexists(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.hget(key, field)?.is_some())
    }

    /// How many fields the hash has; 0 where there is no such key.
    ///
    /// # Errors
    ///
    /// As [`Db::hget`].
    pub fn hlen(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        let key = key.as_ref();
        self.read(
            |tx| tx.field_count(self.database, key),
            |engine| engine.field_count(self.database, key),
        )
    }

    /// Adds `increment` to the decimal integer in a field, which counts as 0 where it is missing,
    /// and keeps the field's deadline. Returns the sum.
    ///
    /// # Errors
    ///
    /// - [`Error::FieldNotAnInteger`] where the field's value is no decimal 64-bit integer.
    /// - [`Error::Overflow`] where the sum is none.
    /// - As [`Db::hset`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// assert_eq!(db.hincr_by("meu_hash", "idade", 30)?, 30);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hincr_by(
        &self,
        key: impl AsRef<[u8]>,
        field: impl AsRef<[u8]>,
        increment: i64,
    ) -> Result<i64> {
        let (key, field) = (key.as_ref(), field.as_ref());
        self.write(|tx| {
            let (current, deadline_ms) = match tx.field(self.database, key, field)? {
                Some(found) => (
                    parse_integer(&found.value).ok_or(Error::FieldNotAnInteger)?,
                    found.deadline_ms,
                ),
                None => (0, 0),
            };
            let sum = current.checked_add(increment).ok_or(Error::Overflow)?;
            let text = sum.to_string();
            tx.hash_set(self.database, key, field, text.as_bytes(), deadline_ms)?;
            Ok(sum)
        })
    }
}
