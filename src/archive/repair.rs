//! A capture file that was being written when the power went: cut to its last whole block.

use std::{
    fs::OpenOptions,
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

/// The type of the block that begins a pcapng file; it reads the same in either byte order.
const SECTION_HEADER: [u8; 4] = [0x0A, 0x0D, 0x0D, 0x0A];
/// The byte-order magic as a little-endian host writes it.
const LITTLE_ENDIAN: [u8; 4] = [0x4D, 0x3C, 0x2B, 0x1A];
/// Type, length, and the length again.
const SMALLEST_BLOCK: u64 = 12;

/// Cuts a pcapng file (draft-ietf-opsawg-pcapng, section 3.1) behind its last whole block, and gives the bytes that are left: 0 when not
/// even the first block is whole. Blocks on the disk.
///
/// # Errors
/// When the file cannot be read or cut.
pub fn cut_to_whole(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let size = file.metadata()?.len();
    let whole = whole_bytes(&mut file, size)?;
    if whole < size {
        file.set_len(whole)?;
        file.sync_all()?;
    }
    Ok(whole)
}

/// How many of the `size` bytes of a pcapng file are whole blocks from its beginning on.
///
/// # Errors
/// When the file cannot be read.
pub fn whole_bytes(file: &mut (impl Read + Seek), size: u64) -> io::Result<u64> {
    let (mut at, mut little_endian) = (0, true);
    while size - at >= SMALLEST_BLOCK {
        file.seek(SeekFrom::Start(at))?;
        let mut header = [0; 12];
        file.read_exact(&mut header)?;
        let [kind, length, body] = [&header[..4], &header[4..8], &header[8..]];
        if kind == SECTION_HEADER {
            little_endian = body == LITTLE_ENDIAN;
        } else if at == 0 {
            return Ok(0);
        }
        let read = |bytes: &[u8]| {
            let bytes = bytes.first_chunk().copied().unwrap_or_default();
            u64::from(if little_endian { u32::from_le_bytes(bytes) } else { u32::from_be_bytes(bytes) })
        };
        let length = read(length);
        if length < SMALLEST_BLOCK || length % 4 != 0 || length > size - at {
            break;
        }
        // A disk that lost power may have the length of the file and not its bytes.
        file.seek(SeekFrom::Start(at + length - 4))?;
        let mut again = [0; 4];
        file.read_exact(&mut again)?;
        if read(&again) != length {
            break;
        }
        at += length;
    }
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::{InterfaceDescription, LinkType, Packet, Reader, SectionDescription, Writer};
    use proptest::prelude::*;

    fn capture(packets: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &SectionDescription::default()).unwrap();
        let interface = InterfaceDescription { name: "eth0".into(), link_type: LinkType::ETHERNET, snaplen: 0, filter: None };
        writer.interface(&interface).unwrap();
        for number in 1..=packets {
            let data = [number as u8; 61];
            let packet = Packet { number, unix_ns: 5, interface: 0, link_type: LinkType::ETHERNET, wire_len: 61, data: &data };
            writer.packet(&packet).unwrap();
        }
        writer.into_sink()
    }

    fn packets(bytes: &[u8]) -> u64 {
        let mut reader = Reader::new(bytes).unwrap();
        while reader.next_packet().unwrap().is_some() {}
        assert!(reader.damage().is_none());
        reader.packets()
    }

    #[test]
    fn cut_anywhere_every_whole_packet_is_kept_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let whole = capture(3);
        let ends: Vec<usize> = (0..=3).map(|count| capture(count).len()).collect();
        for cut in 0..=whole.len() {
            std::fs::write(&path, &whole[..cut]).unwrap();
            let left = cut_to_whole(&path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert_eq!(bytes.len() as u64, left);
            if cut >= ends[0] {
                let expected = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
                assert_eq!(packets(&bytes), expected, "cut at {cut}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_and_what_is_no_capture_are_cut() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.pcapng");
        let whole = capture(2);
        std::fs::write(&path, [&whole[..], &[0; 5000]].concat()).unwrap();
        assert_eq!(cut_to_whole(&path).unwrap(), whole.len() as u64);
        std::fs::write(&path, b"this is no capture file at all").unwrap();
        assert_eq!(cut_to_whole(&path).unwrap(), 0);
    }

    proptest! {
        #[test]
        fn what_is_kept_of_a_damaged_file_is_whole(packets in 0_u64..4, at: prop::sample::Index, byte: u8, cut: prop::sample::Index) {
            let mut bytes = capture(packets);
            let place = at.index(bytes.len());
            bytes[place] = byte;
            bytes.truncate(cut.index(bytes.len() + 1));
            let kept = |bytes: &[u8]| whole_bytes(&mut io::Cursor::new(bytes), bytes.len() as u64).unwrap();
            let whole = kept(&bytes);
            prop_assert!(whole <= bytes.len() as u64);
            prop_assert_eq!(kept(&bytes[..whole as usize]), whole, "to mend it again changes nothing");
        }
    }
}
