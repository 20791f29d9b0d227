//! Examines a file without opening it as a database: lists its records, checks them, and saves the
//! data of a damaged file.
//!
//! Examining changes no byte and locks out no program. If a program writes to the file meanwhile,
//! the report shows the file at that moment; a commit in progress may appear as a torn tail.
//! [`repair`] locks the file, and writes a new one.
//!
//! ```
//! # fn main() -> brasa::Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("cache.brasa");
//! let db = brasa::Db::open(&path)?;
//! db.set("chave_1", "Relou Uourdi")?;
//! db.close()?;
//!
//! let report = brasa::inspect::check(&path, |_, _| {})?;
//! assert!(report.is_sound());
//! assert_eq!(report.record_count, 1);
//!
//! for record in brasa::inspect::records(&path)? {
//!     let record = record?;
//!     println!("{} {} {:?}", record.offset, record.kind, record.key);
//! }
//! # Ok(())
//! # }
//! ```

mod check;
mod records;
mod repair;

use std::path::Path;
use std::time::Duration;

pub use check::{CheckReport, LogEnd, check, check_bytes};
pub use records::{RecordInfo, Records, records};
pub use repair::{repair, salvage_bytes};

pub use crate::engine::{DamagedPage, DamagedRange, LostRecord, RepairOptions, RepairReport};
use crate::sync::Arc;

use crate::clock::Patience;
use crate::storage::{
    Access, DiskStorage, LockByte, LockMode, Mapping, Storage, StorageFile, acquire,
};
use crate::{Error, Result};

/// A file that is being examined.
#[derive(Debug)]
struct Look {
    mapping: Mapping,
    /// Holds the `users` lock, so that no handle truncates the file while it is mapped.
    _file: Arc<dyn StorageFile>,
}

impl Look {
    fn at(path: &Path) -> Result<Look> {
        // A handle that cuts the file holds the lock only for that moment.
        const LONGEST_WAIT: Duration = Duration::from_secs(5);
        let file = DiskStorage
            .open(path, Access::Read)
            .map_err(Error::io("open", path))?;
        let byte = LockByte::Users;
        if !acquire(
            &*file,
            byte,
            LockMode::Shared,
            &mut Patience::new(LONGEST_WAIT),
        )
        .map_err(Error::io("lock", path))?
        {
            return Err(Error::Locked {
                path: path.to_owned(),
                lock: byte.name(),
                waited: LONGEST_WAIT,
            });
        }
        let size = file.size().map_err(Error::io("read the size of", path))?;
        // No mapping has no bytes, so an empty file gets one of one byte, which is not read.
        let mapping = file.map(size.max(1)).map_err(Error::io("map", path))?;
        Ok(Look {
            mapping,
            _file: file,
        })
    }
}
