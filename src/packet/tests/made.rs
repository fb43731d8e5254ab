//! Headers put together octet by octet.

use crate::packet::{InterfaceDescription, LinkType, Packet};

pub const SRC_MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
pub const DST_MAC: [u8; 6] = [2, 0, 0, 0, 0, 2];

pub fn ethernet(ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&DST_MAC[..], &SRC_MAC, &ethertype.to_be_bytes(), payload].concat()
}

/// From 10.0.0.1 to 10.0.0.2, header of 20 bytes and `options`.
pub fn ipv4_with(protocol: u8, flags_and_offset: u16, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let header_len = 20 + options.len();
    let mut header = vec![0x40 | (header_len / 4) as u8, 0];
    header.extend(((header_len + payload.len()) as u16).to_be_bytes());
    header.extend([0x12, 0x34]);
    header.extend(flags_and_offset.to_be_bytes());
    header.extend([64, protocol, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    [&header[..], options, payload].concat()
}

pub fn ipv4(protocol: u8, payload: &[u8]) -> Vec<u8> {
    ipv4_with(protocol, 0x4000, &[], payload)
}

/// From 2001:db8::1 to 2001:db8::2.
pub fn ipv6(next_header: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend((payload.len() as u16).to_be_bytes());
    header.extend([next_header, 63]);
    for last in [1, 2] {
        header.extend([0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
    }
    [&header[..], payload].concat()
}

/// Ports 40000 to 502, sequence 1000, acknowledgement 2000, window 512.
pub fn tcp(flags: u8, options: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut header = vec![0x9c, 0x40, 0x01, 0xf6, 0, 0, 0x03, 0xe8, 0, 0, 0x07, 0xd0];
    header.extend([((20 + options.len()) as u8 / 4) << 4, flags, 0x02, 0, 0, 0, 0, 0]);
    [&header[..], options, payload].concat()
}

pub fn udp(payload: &[u8]) -> Vec<u8> {
    [&[0x9c, 0x40, 0, 53][..], &((8 + payload.len()) as u16).to_be_bytes(), &[0, 0], payload].concat()
}

pub fn interface(name: &str) -> InterfaceDescription {
    InterfaceDescription { name: name.into(), link_type: LinkType::ETHERNET, snaplen: 262_144, filter: Some("tcp port 502".into()) }
}

pub fn packet(number: u64, interface: u32, unix_ns: i64, data: &[u8]) -> Packet<'_> {
    Packet { number, unix_ns, interface, link_type: LinkType::ETHERNET, wire_len: data.len() as u32, data }
}
