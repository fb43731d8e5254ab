//! A snapshot on its way to a historian: the files of its folder as one tar (POSIX.1-1988 `ustar`), made while it is read.

use bytes::Bytes;
use std::{
    fs::{self, File},
    io::{self, Read as _, Write},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::sync::mpsc;

/// A tar is made of blocks of this size.
const BLOCK: u64 = 512;
/// Bytes that go over at a time, and how many such pieces may be ahead of the network.
const PIECE: usize = 64 << 10;
const PIECES_AHEAD: usize = 8;

/// A folder of files, and what its tar will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parcel {
    name: String,
    folder: PathBuf,
    files: Vec<(String, u64)>,
}

impl Parcel {
    /// The files of a folder; `name` is the folder's name within the tar. Blocks on the disk.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn of(folder: &Path, name: &str) -> io::Result<Self> {
        let mut files = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let data = entry.metadata()?;
            if data.is_file()
                && let Ok(file) = entry.file_name().into_string()
            {
                files.push((file, data.len()));
            }
        }
        files.sort();
        Ok(Self { name: name.to_owned(), folder: folder.to_owned(), files })
    }

    /// The name of the snapshot.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How long its tar is, in bytes.
    pub fn tar_bytes(&self) -> u64 {
        let of_file = |(_, bytes): &(String, u64)| BLOCK.saturating_add(bytes.div_ceil(BLOCK).saturating_mul(BLOCK));
        self.files.iter().map(of_file).fold(2 * BLOCK, u64::saturating_add)
    }

    /// Writes the tar. Blocks on the disk.
    ///
    /// # Errors
    /// When a file cannot be read, or has become shorter, or `to` cannot be written.
    pub fn write_to(&self, to: &mut impl Write) -> io::Result<()> {
        let mut tar = tar::Builder::new(to);
        for (name, bytes) in &self.files {
            let file = File::open(self.folder.join(name))?;
            let mut header = tar::Header::new_ustar();
            header.set_size(*bytes);
            header.set_mode(0o644);
            header.set_mtime(modified_unix_s(&file));
            tar.append_data(&mut header, format!("{}/{name}", self.name), whole(file, *bytes)?)?;
        }
        tar.finish()
    }

    /// The tar in pieces, as fast as they are taken; it ends when nobody takes them any more. The last piece may be an error.
    pub fn pieces(self: &Arc<Self>) -> mpsc::Receiver<io::Result<Bytes>> {
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let parcel = Arc::clone(self);
        tokio::task::spawn_blocking(move || {
            let mut to = io::BufWriter::with_capacity(PIECE, Pieces(sender));
            let written = parcel.write_to(&mut to).and_then(|()| to.flush());
            let (Pieces(sender), _) = to.into_parts();
            if let Err(error) = written {
                // Nobody listening any more is no error.
                let _ = sender.blocking_send(Err(error));
            }
        });
        pieces
    }
}

/// A file that must have at least so many bytes; what it has beyond is left out.
fn whole(file: File, bytes: u64) -> io::Result<io::Take<File>> {
    let has = file.metadata()?.len();
    if has < bytes {
        return Err(io::Error::other(format!("a file of {bytes} bytes has become {has} bytes long")));
    }
    Ok(file.take(bytes))
}

fn modified_unix_s(file: &File) -> u64 {
    let modified = file.metadata().and_then(|data| data.modified()).ok();
    modified.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok()).map_or(0, |since| since.as_secs())
}

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let sent = self.0.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map(|()| bytes.len()).map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn unpacked(tar: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut archive = tar::Archive::new(tar);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let path = entry.path().unwrap().display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            (path, bytes)
        });
        entries.collect()
    }

    async fn through_pieces(parcel: &Arc<Parcel>) -> Vec<u8> {
        let mut pieces = parcel.pieces();
        let mut tar = Vec::new();
        while let Some(piece) = pieces.recv().await {
            tar.extend_from_slice(&piece.unwrap());
        }
        tar
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn the_tar_holds_every_file_and_is_as_long_as_it_says(sizes in prop::collection::vec(0_usize..200_000, 0..5)) {
            let dir = tempfile::tempdir().unwrap();
            let files: Vec<(String, Vec<u8>)> =
                sizes.iter().enumerate().map(|(number, size)| (format!("file_{number}"), vec![number as u8 + 1; *size])).collect();
            files.iter().for_each(|(name, bytes)| fs::write(dir.path().join(name), bytes).unwrap());
            let parcel = Arc::new(Parcel::of(dir.path(), "20261123T114500.000Z").unwrap());
            let mut tar = Vec::new();
            parcel.write_to(&mut tar).unwrap();
            prop_assert_eq!(tar.len() as u64, parcel.tar_bytes());
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert!(runtime.block_on(through_pieces(&parcel)) == tar);
            let named: Vec<(String, Vec<u8>)> =
                files.into_iter().map(|(name, bytes)| (format!("20261123T114500.000Z/{name}"), bytes)).collect();
            prop_assert_eq!(unpacked(&tar), named);
        }
    }

    #[tokio::test]
    async fn a_file_that_has_become_shorter_is_no_tar() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("capture"), [7; 100]).unwrap();
        let parcel = Arc::new(Parcel::of(dir.path(), "a").unwrap());
        fs::write(dir.path().join("capture"), [7; 50]).unwrap();
        let mut pieces = parcel.pieces();
        let mut last = None;
        while let Some(piece) = pieces.recv().await {
            last = Some(piece);
        }
        assert!(last.unwrap().unwrap_err().to_string().contains("50 bytes long"));
    }
}
