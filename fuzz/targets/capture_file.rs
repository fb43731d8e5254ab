//! The capture file reader on any bytes: it ends, and it gives no more than there is.

use netdiag::packet::{Reader, decompressed};
use std::io::Read as _;

/// The most that is unpacked.
const MOST: u64 = 1 << 20;

pub fn run(bytes: &[u8]) {
    read(bytes);
    // The same, if it is packed; what it unpacks to has no bound, what is looked at has.
    if let Ok(unpacked) = decompressed(bytes)
        && let Ok(mut reader) = Reader::new(unpacked.take(MOST))
    {
        while let Ok(Some(packet)) = reader.next_packet() {
            assert!(packet.data.len() as u64 <= MOST);
        }
    }
}

fn read(bytes: &[u8]) {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut last = 0;
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.number > last && packet.data.len() <= bytes.len());
        last = packet.number;
    }
    assert!(reader.bytes() <= bytes.len() as u64);
    assert!(reader.interfaces().len() <= bytes.len());
}
