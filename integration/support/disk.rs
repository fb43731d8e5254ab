//! A small file system of a test's own.

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use std::path::Path;

/// A file system in memory, unmounted at the end.
pub struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// Makes one of so many MiB. Panics where that is not allowed.
    pub fn mount(mib: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let data = format!("size={mib}m");
        mount(Some("tmpfs"), dir.path(), Some("tmpfs"), MsFlags::empty(), Some(data.as_str()))
            .expect("this test mounts a file system");
        Self(dir)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = umount2(self.0.path(), MntFlags::MNT_DETACH);
    }
}
