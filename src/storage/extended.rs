//! Extended attributes of files: access control lists, and attributes that users set.
//!
//! On a system without them a file has none.

use std::fs::File;
use std::io;

#[cfg(target_os = "linux")]
mod system {
    use rustix::fs::{XattrFlags, fgetxattr, flistxattr, fremovexattr, fsetxattr};
    use rustix::io::Errno;

    use super::{File, io};

    const ACCESS_LIST: &str = "system.posix_acl_access";
    const OF_USERS: &str = "user.";

    /// The limit of Linux for a value, and for all names together.
    const MAX_BYTES: usize = 64 << 10;

    pub(crate) fn access_list(file: &File) -> io::Result<Option<Vec<u8>>> {
        value(file, ACCESS_LIST)
    }

    /// Gives the file a list, or takes away the one that it has.
    pub(crate) fn set_access_list(file: &File, list: Option<&[u8]>) -> io::Result<()> {
        match list {
            Some(list) => Ok(fsetxattr(file, ACCESS_LIST, list, XattrFlags::empty())?),
            None => match fremovexattr(file, ACCESS_LIST) {
                Ok(()) | Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(()),
                Err(errno) => Err(errno.into()),
            },
        }
    }

    pub(crate) fn of_users(file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
        let mut names = vec![0; MAX_BYTES];
        let length = match flistxattr(file, &mut names[..]) {
            Ok(length) => length,
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => 0,
            Err(errno) => return Err(errno.into()),
        };
        let mut found = Vec::new();
        for name in names[..length].split(|byte| *byte == 0) {
            let name = String::from_utf8_lossy(name).into_owned();
            if name.starts_with(OF_USERS)
                && let Some(value) = value(file, &name)?
            {
                found.push((name, value));
            }
        }
        Ok(found)
    }

    pub(crate) fn set_of_users(file: &File, attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
        for (name, value) in attributes {
            fsetxattr(file, name.as_str(), value, XattrFlags::empty())?;
        }
        Ok(())
    }

    fn value(file: &File, name: &str) -> io::Result<Option<Vec<u8>>> {
        let mut value = vec![0; MAX_BYTES];
        match fgetxattr(file, name, &mut value[..]) {
            Ok(length) => {
                value.truncate(length);
                Ok(Some(value))
            }
            Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use super::{File, io};

    pub(crate) fn access_list(_file: &File) -> io::Result<Option<Vec<u8>>> {
        Ok(None)
    }

    pub(crate) fn set_access_list(_file: &File, _list: Option<&[u8]>) -> io::Result<()> {
        Ok(())
    }

    pub(crate) fn of_users(_file: &File) -> io::Result<Vec<(String, Vec<u8>)>> {
        Ok(Vec::new())
    }

    pub(crate) fn set_of_users(_file: &File, _attributes: &[(String, Vec<u8>)]) -> io::Result<()> {
        Ok(())
    }
}

pub(super) use system::{access_list, of_users, set_access_list, set_of_users};
