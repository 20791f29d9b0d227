//! A Unix socket at a path: no client can connect before it has its mode, and it never replaces a
//! live server.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{SocketAddr, UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// How often a socket without a listener is removed.
const MAX_ATTEMPTS: usize = 3;

/// See the module. Its name goes with it.
#[derive(Debug)]
pub(crate) struct UnixSocket {
    path: PathBuf,
    listener: UnixListener,
    inode: u64,
}

impl UnixSocket {
    /// Listens at a path.
    pub(crate) fn bind(path: &Path, mode: u32) -> io::Result<UnixSocket> {
        // It could be made under a name that is too long to be connected to.
        SocketAddr::from_pathname(path)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        // Only its owner can access it: until the socket has its mode, no other user can reach it.
        let private = tempfile::Builder::new()
            .prefix(".brasa-")
            .tempdir_in(directory)?;
        let (inside, _open) = by_a_short_name(private.path())?;
        let (hidden, away) = (inside.join("s"), inside.join("old"));
        let listener = UnixListener::bind(&hidden)?;
        listener.set_nonblocking(true)?;
        fs::set_permissions(&hidden, fs::Permissions::from_mode(mode))?;
        let inode = fs::symlink_metadata(&hidden)?.ino();
        for _ in 0..MAX_ATTEMPTS {
            match fs::hard_link(&hidden, path) {
                Ok(()) => {
                    return Ok(UnixSocket {
                        path: path.to_owned(),
                        listener,
                        inode,
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    put_away(path, &away)?;
                }
                Err(error) => return Err(error),
            }
        }
        Err(io::ErrorKind::AddrInUse.into())
    }

    /// Its name: the listener itself knows the one that it had at first.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A non-blocking handle on the listener.
    pub(crate) fn listener(&self) -> io::Result<UnixListener> {
        self.listener.try_clone()
    }
}

/// Another name for a directory, that holds as long as the file beside it is open: a socket's path has 107 bytes, and one that fits may not
/// leave as many for a directory in it.
fn by_a_short_name(directory: &Path) -> io::Result<(PathBuf, fs::File)> {
    let file = fs::File::open(directory)?;
    let name = match cfg!(target_os = "linux") {
        true => PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd())),
        false => directory.to_owned(),
    };
    Ok((name, file))
}

/// Removes the name of a socket without a listener; leaves everything else alone.
fn put_away(path: &Path, away: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "the path exists and is not a socket",
            ));
        }
        // It has gone by itself.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    }
    if !is_dead(path)? {
        return Err(io::ErrorKind::AddrInUse.into());
    }
    match fs::rename(path, away) {
        // Another process has just removed it.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        renamed => renamed?,
    }
    if !is_dead(away)? {
        // Another process has just put a live one there: it gets its name back.
        let _ = fs::hard_link(away, path);
        return Err(io::ErrorKind::AddrInUse.into());
    }
    fs::remove_file(away)
}

/// Whether a socket has no listener. Only a refused connection proves that; a lack of permission
/// does not.
fn is_dead(path: &Path) -> io::Result<bool> {
    match UnixStream::connect(path) {
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(true),
        Err(error) => Err(error),
    }
}

impl Drop for UnixSocket {
    fn drop(&mut self) {
        let is_ours = fs::symlink_metadata(&self.path)
            .is_ok_and(|metadata| metadata.file_type().is_socket() && metadata.ino() == self.inode);
        if is_ours {
            let _ = fs::remove_file(&self.path);
        }
    }
}
