//! Files beside which the disk keeps its room, and which only owner and group may read.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::Path,
};

/// Tells how many bytes may be written just now. It is asked before each step, for others write meanwhile; between two steps it may do
/// something else.
pub type Room<'a> = &'a mut dyn FnMut() -> u64;

/// Compresses well enough at a speed that a controller does not feel.
const COMPRESSION_LEVEL: i32 = 3;
/// Bytes that are written between two looks at the room.
const STEP: usize = 256 * 1024;
/// Recordings tell what is on a network; so does what is made of them.
const OWNER_AND_GROUP: u32 = 0o640;
/// Disks give room in blocks of at least so much.
const BLOCK: u64 = 4096;

/// A file that is written as long as there is room.
struct Bounded<'a, 'b> {
    file: File,
    room: &'a mut Room<'b>,
}

impl Write for Bounded<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let step = &bytes[..bytes.len().min(STEP)];
        let room = (self.room)();
        if room < step.len() as u64 {
            let message =
                format!("{} bytes are to be written, and beside those to be kept free there is room for {room}", step.len());
            return Err(io::Error::new(ErrorKind::StorageFull, message));
        }
        self.file.write(step)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Removes a folder with all that is in it, or a file that has its name.
pub(super) fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == ErrorKind::NotADirectory => fs::remove_file(path),
        removed => removed,
    }
}

/// Makes a file that is not there yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(OWNER_AND_GROUP).open(path)
}

/// Makes a file, or empties it.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(OWNER_AND_GROUP).open(path)
}

/// Compresses a file. What was made is removed when there is no room for it: the error is [`ErrorKind::StorageFull`].
pub(super) fn compress(from: &Path, to: &Path, room: &mut Room<'_>) -> io::Result<()> {
    undone_if_failed(to, || {
        let mut encoder = zstd::Encoder::new(Bounded { file: create_new(to)?, room }, COMPRESSION_LEVEL)?;
        encoder.include_checksum(true)?;
        io::copy(&mut File::open(from)?, &mut encoder)?;
        encoder.finish()?.file.sync_all()
    })
}

/// Gives a file another name as well, or, on a disk that has no links, copies it.
pub(super) fn link_or_copy(from: &Path, to: &Path, room: &mut Room<'_>) -> io::Result<()> {
    fs::hard_link(from, to).or_else(|_| copy(from, to, room))
}

fn copy(from: &Path, to: &Path, room: &mut Room<'_>) -> io::Result<()> {
    undone_if_failed(to, || {
        let mut copy = Bounded { file: create_new(to)?, room };
        io::copy(&mut File::open(from)?, &mut copy)?;
        copy.file.sync_all()
    })
}

/// Writes a file whole, down to the disk.
pub(super) fn write(path: &Path, bytes: &[u8], room: &mut Room<'_>) -> io::Result<()> {
    undone_if_failed(path, || {
        let mut file = Bounded { file: create_new(path)?, room };
        file.write_all(bytes)?;
        file.file.sync_all()
    })
}

fn undone_if_failed(path: &Path, write: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    write().inspect_err(|_| {
        let _ = fs::remove_file(path);
    })
}

/// Makes sure that the names in a folder are on the disk.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// What the files of a folder take on the disk.
pub(super) fn size_of(dir: &Path) -> u64 {
    let files = fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.metadata().ok()).map(|data| on_disk(data.len()).max(data.blocks() * 512)).sum()
}

/// What so many bytes take on the disk.
pub(super) fn on_disk(bytes: u64) -> u64 {
    bytes.div_ceil(BLOCK).saturating_mul(BLOCK)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    /// What cannot be compressed.
    fn noise(len: usize) -> Vec<u8> {
        let mut state = 1_u64;
        std::iter::repeat_with(|| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        })
        .take(len)
        .collect()
    }

    #[test]
    fn writing_breaks_off_where_the_room_ends_and_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&from, noise(3_000_000)).unwrap();
        let way = |write: fn(&Path, &Path, &mut Room<'_>) -> io::Result<()>| {
            // Somebody else writes, too: each look finds less.
            let mut left = 1_500_000_u64;
            let mut asked = 0;
            let mut room = || {
                asked += 1;
                left = left.saturating_sub(200_000);
                left
            };
            let error = write(&from, &to, &mut (&mut room as Room<'_>)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::StorageFull);
            assert!(asked > 3 && !to.exists(), "{asked}");
        };
        way(compress);
        way(copy);
        let mut none: Room<'_> = &mut || 99;
        assert_eq!(write(&to, &[1; 100], &mut none).unwrap_err().kind(), ErrorKind::StorageFull);
        write(&to, &[1; 99], &mut none).unwrap();
        assert_eq!(fs::read(&to).unwrap(), [1; 99]);
    }

    #[test]
    fn without_links_it_is_copied_and_only_owner_and_group_may_read() {
        let dir = tempfile::tempdir().unwrap();
        let (from, to) = (dir.path().join("a"), dir.path().join("b"));
        fs::write(&from, noise(700_000)).unwrap();
        let mut room: Room<'_> = &mut || u64::MAX;
        copy(&from, &to, &mut room).unwrap();
        assert_eq!(fs::read(&from).unwrap(), fs::read(&to).unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&to) & 0o027, 0);
        for path in ["c", "d"].map(|name| dir.path().join(name)) {
            compress(&from, &path, &mut room).unwrap();
            assert_eq!(mode(&path) & 0o027, 0);
        }
    }

    #[test]
    fn what_a_folder_takes_is_counted_in_blocks() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("a"), "1").unwrap();
        fs::write(dir.path().join("b"), vec![1; 4097]).unwrap();
        assert!(size_of(dir.path()) >= 3 * 4096);
        assert_eq!((on_disk(0), on_disk(1), on_disk(4096)), (0, 4096, 4096));
    }
}
