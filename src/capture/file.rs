//! One capture file on disk: a temporary name while it grows, a limit, and whole packets only, whatever happens to the disk.

use crate::packet::{InterfaceDescription, InterfaceStatistics, Packet, SectionDescription, Writer};
use nix::{
    fcntl::OFlag,
    sys::{statvfs::fstatvfs, utsname::uname},
};
use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

/// Blocks are handed to the system together, when they are this many bytes.
const FLUSH_BYTES: usize = 256 * 1024;
/// Room that is kept for the statistics of one interface at the end.
const STATISTICS_BYTES: u64 = 128;

/// A pcapng file that is being written.
///
/// While it grows its name ends in `.partial`; [`CaptureFile::finish`] gives it its own. Blocks are collected in memory and written
/// together, and a write that fails is taken back, so the file on disk always ends with a whole block.
pub struct CaptureFile {
    path: PathBuf,
    partial: PathBuf,
    file: File,
    writer: Writer<Vec<u8>>,
    max_bytes: u64,
    /// So many bytes stay free on the disk.
    min_free_bytes: u64,
    /// Bytes that are safely with the system.
    flushed_bytes: u64,
    counts: Vec<Counts>,
    not_written: u64,
    end: Option<End>,
}

/// Packets of one interface.
#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    flushed: u64,
    pending: u64,
}

/// Why no more packets are written.
#[derive(Debug)]
enum End {
    Full,
    Failed(String),
}

/// What became of a capture file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FileReport {
    /// Where it is; none if nothing could be written, or it could not be given its name.
    pub path: Option<PathBuf>,
    /// Its size.
    pub bytes: u64,
    /// Packets in it, by interface.
    pub packets: Vec<u64>,
    /// Packets that were to be written and are not in it.
    pub not_written: u64,
    /// What went wrong: the limit was reached, or the disk failed.
    pub problem: Option<String>,
}

impl CaptureFile {
    /// Begins a file that will be at most `max_bytes` long and leaves `min_free_bytes` free on its disk. A file of the same name is replaced when this one is finished.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn create(path: &Path, max_bytes: u64, min_free_bytes: u64) -> io::Result<Self> {
        const OWNER_AND_GROUP: u32 = 0o640;
        let mut partial = OsString::from(path);
        partial.push(".partial");
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(OWNER_AND_GROUP)
            // What lies under the temporary name may be replaced, but never written through.
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&partial)?;
        Ok(Self {
            path: path.to_owned(),
            partial,
            file,
            writer: Writer::new(Vec::new(), &section())?,
            max_bytes,
            min_free_bytes,
            flushed_bytes: 0,
            counts: Vec::new(),
            not_written: 0,
            end: None,
        })
    }

    /// Describes the next interface; packets name it by its position.
    pub fn interface(&mut self, interface: &InterfaceDescription) {
        self.counts.push(Counts::default());
        // Writing to memory does not fail.
        let _ = self.writer.interface(interface);
    }

    /// Takes a packet; one that cannot be written any more is counted.
    pub fn packet(&mut self, packet: &Packet<'_>) {
        let reserved = STATISTICS_BYTES * self.counts.len() as u64;
        let len = Writer::<Vec<u8>>::packet_bytes(packet.data.len());
        if self.end.is_none() && self.writer.bytes() + len + reserved > self.max_bytes {
            self.end = Some(End::Full);
        }
        let written = self.end.is_none() && self.writer.packet(packet).is_ok();
        match self.counts.get_mut(packet.interface as usize) {
            Some(counts) if written => counts.pending += 1,
            _ => self.not_written += 1,
        }
    }

    /// Whether so much waits to be written that it should be.
    pub fn wants_flush(&self) -> bool {
        self.pending() >= FLUSH_BYTES
    }

    /// Bytes that wait to be written.
    pub fn pending(&self) -> usize {
        usize::try_from(self.writer.bytes().saturating_sub(self.flushed_bytes)).unwrap_or(usize::MAX)
    }

    /// Size of the file when all that waits is written.
    pub fn bytes(&self) -> u64 {
        if matches!(self.end, Some(End::Failed(_))) { self.flushed_bytes } else { self.writer.bytes() }
    }

    /// Hands all that waits to the system.
    pub fn flush(&mut self) {
        if matches!(self.end, Some(End::Failed(_))) {
            self.writer.sink_mut().clear();
            return;
        }
        // At most once for each FLUSH_BYTES, so it costs nothing; others fill the disk too.
        if let Some(free) = self.too_little_room() {
            self.fail(format!(
                "the capture file ended after {} bytes: only {free} bytes are free on its disk, and {} are never used",
                self.flushed_bytes, self.min_free_bytes
            ));
            self.writer.sink_mut().clear();
            return;
        }
        match self.file.write_all(self.writer.sink_mut()) {
            Ok(()) => {
                self.flushed_bytes = self.writer.bytes();
                for counts in &mut self.counts {
                    counts.flushed += std::mem::take(&mut counts.pending);
                }
            }
            Err(error) => {
                // Part of it may have been written: back to the last whole block.
                let _ = self.file.set_len(self.flushed_bytes);
                self.fail(format!("the capture file could not be written after {} bytes: {error}", self.flushed_bytes));
            }
        }
        self.writer.sink_mut().clear();
    }

    /// The bytes that are free, if what waits would use those that must stay so.
    fn too_little_room(&self) -> Option<u64> {
        if self.min_free_bytes == 0 {
            return None;
        }
        let stat = fstatvfs(&self.file).ok()?;
        let free = stat.blocks_available().saturating_mul(stat.fragment_size());
        (free < self.min_free_bytes.saturating_add(self.pending() as u64)).then_some(free)
    }

    /// Whether it takes no more packets: the limit is reached, or the disk is full or failed.
    pub fn has_ended(&self) -> bool {
        self.end.is_some()
    }

    fn fail(&mut self, problem: String) {
        for counts in &mut self.counts {
            self.not_written += std::mem::take(&mut counts.pending);
        }
        self.end = Some(End::Failed(problem));
    }

    /// Not even the head of the file had room: nobody could read it.
    fn without_file(self) -> FileReport {
        let _ = fs::remove_file(&self.partial);
        let problem = if let Some(End::Failed(problem)) = self.end { Some(problem) } else { None };
        FileReport { path: None, bytes: 0, packets: vec![0; self.counts.len()], not_written: self.not_written, problem }
    }

    /// Ends the file with what was lost at each interface, gives it its name and, unless that may wait, makes sure that it is on the disk.
    pub fn finish(mut self, unix_ns: i64, statistics: &[InterfaceStatistics], sync: bool) -> FileReport {
        for (interface, statistics) in (0..).zip(statistics.iter().take(self.counts.len())) {
            let _ = self.writer.statistics(interface, unix_ns, *statistics);
        }
        self.flush();
        if self.flushed_bytes == 0 {
            return self.without_file();
        }
        let synced = if sync { self.file.sync_all() } else { Ok(()) };
        let named = fs::rename(&self.partial, &self.path);
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let kept = synced.and_then(|()| if sync { File::open(folder)?.sync_all() } else { Ok(()) });
        let problem = match (self.end, named.as_ref(), kept) {
            (Some(End::Failed(problem)), ..) => Some(problem),
            (_, Err(error), _) => Some(format!("the capture file stays `{}`: {error}", self.partial.display())),
            (_, _, Err(error)) => Some(format!("the capture file may not be on the disk: {error}")),
            (Some(End::Full), ..) => Some(format!("the capture file reached its limit of {} bytes", self.max_bytes)),
            (None, ..) => None,
        };
        FileReport {
            path: named.is_ok().then_some(self.path),
            bytes: self.flushed_bytes,
            packets: self.counts.iter().map(|counts| counts.flushed).collect(),
            not_written: self.not_written,
            problem,
        }
    }
}

fn section() -> SectionDescription {
    let host = uname().ok();
    let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
    SectionDescription {
        hardware: host.as_ref().map(|host| text(host.machine())),
        os: host.as_ref().map(|host| format!("{} {}", text(host.sysname()), text(host.release()))),
        application: Some(concat!("netdiag ", env!("CARGO_PKG_VERSION")).into()),
        comment: host.as_ref().map(|host| format!("captured on {}", text(host.nodename()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{LinkType, Reader};

    fn interface() -> InterfaceDescription {
        InterfaceDescription { name: "eth0".into(), link_type: LinkType::ETHERNET, snaplen: 65535, filter: None }
    }

    fn packet(number: u64, data: &[u8]) -> Packet<'_> {
        Packet {
            number,
            unix_ns: 1_000 + number as i64,
            interface: 0,
            link_type: LinkType::ETHERNET,
            wire_len: data.len() as u32,
            data,
        }
    }

    fn count(path: &Path) -> u64 {
        let mut reader = Reader::new(File::open(path).unwrap()).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        assert_eq!(reader.damage(), None);
        reader.packets()
    }

    #[test]
    fn it_has_its_name_only_when_it_is_finished() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut file = CaptureFile::create(&path, 1 << 20, 0).unwrap();
        file.interface(&interface());
        file.packet(&packet(1, &[1; 60]));
        file.flush();
        assert!(!path.exists());
        assert_eq!(count(&folder.path().join("a.pcapng.partial")), 1);
        file.packet(&packet(2, &[2; 60]));
        let report = file.finish(5, &[InterfaceStatistics { received: 9, interface_dropped: 1, kernel_dropped: 6 }], true);
        assert_eq!((report.problem, report.not_written, report.packets), (None, 0, vec![2]));
        assert_eq!(report.path.as_deref(), Some(&*path));
        assert_eq!(report.bytes, fs::metadata(&path).unwrap().len());
        assert_eq!(count(&path), 2);
        let mut reader = Reader::new(File::open(&path).unwrap()).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        assert_eq!(reader.interfaces()[0].kernel_dropped, Some(6));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn it_never_grows_beyond_its_limit_and_counts_what_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut file = CaptureFile::create(&path, 10_000, 0).unwrap();
        file.interface(&interface());
        for number in 1..=200 {
            file.packet(&packet(number, &[1; 1000]));
            // A small one would fit again, but numbers must stay those of the file.
            file.packet(&packet(number, &[]));
        }
        let report = file.finish(5, &[InterfaceStatistics::default()], false);
        assert!(report.bytes <= 10_000 && report.bytes > 8_000, "{report:?}");
        assert_eq!(report.packets[0] + report.not_written, 400);
        assert_eq!(count(&path), report.packets[0]);
        assert!(report.problem.unwrap().contains("10000"));
    }

    #[test]
    fn it_ends_when_the_disk_has_no_more_room_to_spare() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut file = CaptureFile::create(&path, 1 << 20, 0).unwrap();
        file.interface(&interface());
        file.packet(&packet(1, &[1; 60]));
        file.flush();
        // Somebody else fills the disk.
        file.min_free_bytes = u64::MAX;
        file.packet(&packet(2, &[2; 60]));
        file.flush();
        assert!(file.has_ended());
        file.packet(&packet(3, &[3; 60]));
        let report = file.finish(5, &[InterfaceStatistics::default()], false);
        assert_eq!((report.packets[0], report.not_written, count(&path)), (1, 2, 1));
        assert!(report.problem.unwrap().contains("are never used"));
    }

    #[test]
    fn a_file_of_which_nothing_could_be_written_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.pcapng");
        let mut file = CaptureFile::create(&path, 1 << 20, u64::MAX).unwrap();
        file.interface(&interface());
        file.packet(&packet(1, &[1; 60]));
        let report = file.finish(5, &[InterfaceStatistics::default()], true);
        assert_eq!((report.path, report.bytes, report.packets, report.not_written), (None, 0, vec![0], 1));
        assert!(report.problem.unwrap().contains("are never used"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
    }

    #[test]
    fn a_link_under_its_temporary_name_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        fs::write(&victim, "untouched").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join("a.pcapng.partial")).unwrap();
        assert!(CaptureFile::create(&folder.path().join("a.pcapng"), 1000, 0).is_err());
        assert_eq!(fs::read(&victim).unwrap(), b"untouched");
    }
}
