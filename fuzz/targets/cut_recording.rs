//! Any bytes as a recording that was cut by a power failure: what is kept of it is whole, and mending it again changes nothing.

use netdiag::{
    archive::whole_bytes,
    packet::{DamageKind, Reader},
};
use std::io::Cursor;

pub fn run(bytes: &[u8]) {
    let whole = kept(bytes);
    assert_eq!(kept(whole), whole);
    let Ok(mut reader) = Reader::new(whole) else { return };
    while let Ok(Some(packet)) = reader.next_packet() {
        assert!(packet.data.len() <= whole.len());
    }
    // Something else may be wrong in it, but it does not end in the middle.
    assert!(!matches!(reader.damage().map(|damage| damage.kind), Some(DamageKind::Truncated)), "{:?}", reader.damage());
}

fn kept(bytes: &[u8]) -> &[u8] {
    let whole = whole_bytes(&mut Cursor::new(bytes), bytes.len() as u64).unwrap();
    &bytes[..usize::try_from(whole).unwrap()]
}
