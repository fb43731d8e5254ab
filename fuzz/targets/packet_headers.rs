//! The header decoder on any bytes: the first byte chooses the link type, the rest is the packet.

use netdiag::packet::{Ip, LinkType, Net, Transport, decode};

pub fn run(bytes: &[u8]) {
    let Some((choice, data)) = bytes.split_first() else { return };
    let known = [0, 1, 101, 108, 113, 276];
    let link_type = LinkType(known[usize::from(*choice) % known.len()]);
    let Ok(decoded) = decode(link_type, data) else { return };
    if let Net::Ip(Ip { transport: Transport::Tcp(tcp), .. }) = decoded.net {
        assert!(tcp.payload.len() <= data.len() && tcp.payload.len() as u64 <= u64::from(tcp.payload_len));
        assert!(tcp.options().sack.as_slice().len() <= 4);
    }
}
