//! The database: this machine's packages in a table of SQLite, MySQL or MariaDB.

use std::fmt;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use mysql::prelude::Queryable;
use serde::{Deserialize, Serialize};

/// A row of the table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub name: String,
    pub architecture: String,
    pub version: String,
    pub summary: String,
}

/// A connection to SQLite, or to MySQL or MariaDB.
pub struct Database {
    kind: Kind,
    selects: AtomicU64,
}

enum Kind {
    Sqlite(Mutex<rusqlite::Connection>),
    MySql(mysql::Pool),
}

/// An error of the database.
#[derive(Debug)]
pub enum DatabaseError {
    Sqlite(rusqlite::Error),
    MySql(mysql::Error),
}

impl fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DatabaseError::Sqlite(error) => error.fmt(f),
            DatabaseError::MySql(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for DatabaseError {}

impl From<rusqlite::Error> for DatabaseError {
    fn from(error: rusqlite::Error) -> Self {
        DatabaseError::Sqlite(error)
    }
}

impl From<mysql::Error> for DatabaseError {
    fn from(error: mysql::Error) -> Self {
        DatabaseError::MySql(error)
    }
}

const CREATE: &str = "CREATE TABLE packages (
    name VARCHAR(255) NOT NULL, architecture VARCHAR(32) NOT NULL,
    version VARCHAR(255) NOT NULL, summary TEXT NOT NULL,
    PRIMARY KEY (name, architecture))";
const DROP: &str = "DROP TABLE IF EXISTS packages";
const INSERT: &str = "INSERT INTO packages VALUES (?, ?, ?, ?)";
const SELECT: &str = "SELECT name, architecture, version, summary FROM packages \
    WHERE name = ? ORDER BY architecture";
const UPDATE: &str = "UPDATE packages SET version = ? WHERE name = ?";

impl Database {
    /// SQLite, in memory or at a path.
    pub fn sqlite(path: &str) -> Result<Database, DatabaseError> {
        let connection = rusqlite::Connection::open(path)?;
        Ok(Database::of(Kind::Sqlite(Mutex::new(connection))))
    }

    /// MySQL or MariaDB: `mysql://USER:PASSWORD@HOST:PORT/DATABASE`.
    pub fn mysql(url: &str) -> Result<Database, DatabaseError> {
        let pool = mysql::Pool::new(url)?;
        Ok(Database::of(Kind::MySql(pool)))
    }

    fn of(kind: Kind) -> Database {
        Database {
            kind,
            selects: AtomicU64::new(0),
        }
    }

    /// Drops the table and creates it with these rows.
    pub fn fill(&self, packages: &[Package]) -> Result<(), DatabaseError> {
        match &self.kind {
            Kind::Sqlite(connection) => {
                let mut connection = connection.lock().unwrap();
                let transaction = connection.transaction()?;
                transaction.execute_batch(&format!("{DROP}; {CREATE}"))?;
                {
                    let mut insert = transaction.prepare(INSERT)?;
                    for package in packages {
                        let Package {
                            name,
                            architecture,
                            version,
                            summary,
                        } = package;
                        insert.execute((name, architecture, version, summary))?;
                    }
                }
                transaction.commit()?;
            }
            Kind::MySql(pool) => {
                let mut connection = pool.get_conn()?;
                connection.query_drop(DROP)?;
                // The default character set of a server may be less than Unicode.
                connection.query_drop(format!("{CREATE} CHARACTER SET utf8mb4"))?;
                let mut transaction = connection.start_transaction(mysql::TxOpts::default())?;
                let rows = packages.iter().map(|package| {
                    let Package {
                        name,
                        architecture,
                        version,
                        summary,
                    } = package;
                    (name, architecture, version, summary)
                });
                transaction.exec_batch(INSERT, rows)?;
                transaction.commit()?;
            }
        }
        Ok(())
    }

    /// The packages of a name, one for each architecture.
    pub fn select_by_name(&self, name: &str) -> Result<Vec<Package>, DatabaseError> {
        self.selects.fetch_add(1, Ordering::Relaxed);
        let package = |(name, architecture, version, summary)| Package {
            name,
            architecture,
            version,
            summary,
        };
        match &self.kind {
            Kind::Sqlite(connection) => {
                let connection = connection.lock().unwrap();
                let mut select = connection.prepare_cached(SELECT)?;
                let rows = select.query_map([name], |row| row.try_into().map(package))?;
                Ok(rows.collect::<Result<_, _>>()?)
            }
            Kind::MySql(pool) => Ok(pool.get_conn()?.exec_map(SELECT, (name,), package)?),
        }
    }

    /// Changes a package's version.
    pub fn update_version(&self, name: &str, version: &str) -> Result<(), DatabaseError> {
        match &self.kind {
            Kind::Sqlite(connection) => {
                connection
                    .lock()
                    .unwrap()
                    .execute(UPDATE, (version, name))?;
            }
            Kind::MySql(pool) => pool.get_conn()?.exec_drop(UPDATE, (version, name))?,
        }
        Ok(())
    }

    /// The number of selects so far.
    pub fn select_count(&self) -> u64 {
        self.selects.load(Ordering::Relaxed)
    }
}
