//! The database that the example caches.

pub mod database;
