//! The socket in the file system: a dead one is replaced, our own is removed, any other is left alone.

use super::BrokerError;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Connecting needs the right to write; see [`super::Broker::bind`].
const MODE: u32 = 0o666;

/// The socket file of a broker; removed when dropped.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    identity: (u64, u64),
}

impl SocketFile {
    /// Takes charge of a socket file that was just made, and opens it to all users.
    pub(super) fn adopt(path: &Path) -> io::Result<Self> {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE))?;
        Ok(SocketFile { path: path.to_owned(), identity: identity(path)? })
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        // Another broker may have put its own socket in the place of ours.
        if identity(&self.path).is_ok_and(|now| now == self.identity)
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            tracing::warn!(%error, path = %self.path.display(), "cannot remove the socket");
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Removes a socket file on which nobody listens. Fails if somebody does, or if it is no socket.
pub(super) fn remove_stale(path: &Path) -> Result<(), BrokerError> {
    let listen = |source| BrokerError::Listen { path: path.to_owned(), source };
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(listen(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => return Err(BrokerError::NotASocket(path.to_owned())),
        Ok(_) => {}
    }
    let probe = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC, None);
    let probe = probe.map_err(|error| listen(error.into()))?;
    let address = UnixAddr::new(path).map_err(|error| listen(error.into()))?;
    match connect(probe.as_raw_fd(), &address) {
        Err(Errno::ECONNREFUSED) => {
            tracing::info!(path = %path.display(), "replacing the socket that a dead broker left");
            std::fs::remove_file(path).map_err(listen)
        }
        // A full queue of connections has a listener too, and so has a socket of another type.
        Ok(()) | Err(Errno::EAGAIN | Errno::EPROTOTYPE) => Err(BrokerError::InUse(path.to_owned())),
        Err(error) => Err(listen(error.into())),
    }
}
