//! The capture file reader on any bytes: it ends, and it gives no more than there is.

#![no_main]

use libfuzzer_sys::fuzz_target;
use netdiag::packet::Reader;

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut reader) = Reader::new(bytes) else { return };
    let mut last = 0;
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.number > last && packet.data.len() <= bytes.len());
        last = packet.number;
    }
    assert!(reader.bytes() <= bytes.len() as u64);
    assert!(reader.interfaces().len() <= bytes.len());
});
