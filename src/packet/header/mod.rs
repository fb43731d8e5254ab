//! One file per header. `pnet`'s views read the fields; they check no length, so each decoder here does that first.

pub mod arp;
pub mod icmp;
pub mod ip;
pub mod link;
pub mod tcp;
pub mod udp;

/// The big-endian number that begins at `offset`, if it is there.
fn u16_at(data: &[u8], offset: usize) -> Option<u16> {
    data.get(offset..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes))
}

/// The big-endian number that begins at `offset`, if it is there.
fn u32_at(data: &[u8], offset: usize) -> Option<u32> {
    data.get(offset..)?.first_chunk().map(|bytes| u32::from_be_bytes(*bytes))
}

/// The first `len` bytes, or all there are.
fn at_most(data: &[u8], len: usize) -> &[u8] {
    data.get(..len).unwrap_or(data)
}

/// The bytes from `offset` on; none if it is past the end.
fn from(data: &[u8], offset: usize) -> &[u8] {
    data.get(offset..).unwrap_or_default()
}
