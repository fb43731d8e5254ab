//! Pieces of IP packets in any order: memory stays bounded, and what is put together is read without a panic.
//!
//! The input is a row of packets: two bytes of length, one of time in seconds, then an IP packet without a link header.

use netdiag::packet::{Fragments, LinkType, Net, decode};

/// The longest IP packet; a piece may be its last.
const MAX_IP_BYTES: usize = 65_535;

pub fn run(data: &[u8]) {
    let (mut fragments, mut rest, mut at_ns, mut pieces) = (Fragments::default(), data, 0_i64, 0);
    while let Some(([low, high, seconds], after)) = rest.split_first_chunk::<3>() {
        let length = usize::from(u16::from_le_bytes([*low, *high]) % 4096).min(after.len());
        let (bytes, next) = after.split_at(length);
        at_ns += i64::from(*seconds) * 1_000_000_000;
        if let Ok(decoded) = decode(LinkType::RAW, bytes)
            && let Net::Ip(ip) = &decoded.net
            && ip.fragment.is_some()
        {
            pieces += 1;
            if let Some(whole) = fragments.push(ip, decoded.cut, at_ns) {
                let _ = whole.transport();
            }
            assert!(fragments.waiting_bytes() <= pieces * MAX_IP_BYTES);
        }
        rest = next;
    }
}
