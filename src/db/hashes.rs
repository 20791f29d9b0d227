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
    /// - [`Error::WrongType`] if the key holds a string.
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
    /// Those of [`Db::hset`].
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

    /// Returns the value of a field; `None` if the field or the key is missing.
    ///
    /// # Errors
    ///
    /// - [`Error::WrongType`] if the key holds a string.
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

    /// Returns the values of several fields, as of one moment. A missing field gives `None`.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
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

    /// Returns several fields with their deadlines, as of one moment.
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

    /// Returns all fields and their values, in no particular order; none for a missing key.
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
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

    /// Returns the names of all fields, in no particular order.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("user:7", "name", "Ana")?;
    /// assert_eq!(db.hkeys("user:7")?, ["name"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
    pub fn hkeys(&self, key: impl AsRef<[u8]>) -> Result<Vec<Value>> {
        Ok(self
            .hgetall(key)?
            .into_iter()
            .map(|(field, _)| field)
            .collect())
    }

    /// Returns the values of all fields, in the order of [`Db::hkeys`].
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("user:7", "name", "Ana")?;
    /// assert_eq!(db.hvals("user:7")?, ["Ana"]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
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
    /// Those of [`Db::hset`].
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
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("user:7", "name", "Ana")?;
    /// assert_eq!(db.hdel_many("user:7", &["name", "age"])?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::hset`].
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

    /// Returns whether the hash has the field.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("user:7", "name", "Ana")?;
    /// assert!(db.hexists("user:7", "name")?);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
    pub fn hexists(&self, key: impl AsRef<[u8]>, field: impl AsRef<[u8]>) -> Result<bool> {
        Ok(self.hget(key, field)?.is_some())
    }

    /// Returns the number of fields of the hash; 0 for a missing key.
    ///
    /// ```
    /// # fn main() -> brasa::Result<()> {
    /// let db = brasa::Db::in_memory()?;
    /// db.hset("user:7", "name", "Ana")?;
    /// assert_eq!(db.hlen("user:7")?, 1);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Those of [`Db::hget`].
    pub fn hlen(&self, key: impl AsRef<[u8]>) -> Result<u64> {
        let key = key.as_ref();
        self.read(
            |tx| tx.field_count(self.database, key),
            |engine| engine.field_count(self.database, key),
        )
    }

    /// Adds `increment` to the decimal integer in a field, and keeps the deadline of the field. A
    /// missing field counts as 0. Returns the sum.
    ///
    /// # Errors
    ///
    /// - [`Error::FieldNotAnInteger`] if the field's value is no decimal 64-bit integer.
    /// - [`Error::Overflow`] if the sum is none.
    /// - Those of [`Db::hset`].
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
