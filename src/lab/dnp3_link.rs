//! DNP3 over one connection, as much as the devices of the lab need: link frames (IEEE 1815, clause 9) and transport segments
//! (clause 8), so that the two ends exchange whole application fragments.
//!
//! Apart from the `protocol` room on purpose: what the analysis reads should not come from the code that it reads with.

use std::io;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest application fragment that is taken.
const MAX_FRAGMENT: usize = 2048;
/// Application bytes in one segment.
const SEGMENT: usize = 249;

/// The direction bit of the control byte: set by a master.
const FROM_MASTER: u8 = 0x80;
/// Set by the one that starts an exchange at the link layer.
const PRIMARY: u8 = 0x40;

const RESET_LINK_STATES: u8 = 0;
const TEST_LINK_STATES: u8 = 2;
const CONFIRMED_USER_DATA: u8 = 3;
const UNCONFIRMED_USER_DATA: u8 = 4;
const REQUEST_LINK_STATUS: u8 = 9;
const ACK: u8 = 0;
const LINK_STATUS: u8 = 11;

/// Transport: the last, and the first, segment of a fragment.
const LAST: u8 = 0x80;
const FIRST: u8 = 0x40;
const SEQUENCE: u8 = 0x3F;

/// One end of a DNP3 connection.
#[derive(Debug)]
pub(super) struct Link<S> {
    stream: S,
    local: u16,
    remote: u16,
    is_master: bool,
    received: Vec<u8>,
    fragment: Vec<u8>,
    next_segment: u8,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Link<S> {
    /// The end with the link address `local`, talking to `remote`.
    pub(super) fn new(stream: S, is_master: bool, local: u16, remote: u16) -> Self {
        Self { stream, local, remote, is_master, received: Vec::new(), fragment: Vec::new(), next_segment: 0 }
    }

    /// The connection.
    pub(super) fn stream_mut(&mut self) -> &mut S {
        &mut self.stream
    }

    /// Sends an application fragment.
    pub(super) async fn send(&mut self, fragment: &[u8]) -> io::Result<()> {
        let count = fragment.chunks(SEGMENT).count();
        let mut bytes = Vec::new();
        for (number, segment) in fragment.chunks(SEGMENT).enumerate() {
            let mut header = self.next_segment & SEQUENCE;
            header |= if number == 0 { FIRST } else { 0 } | if number + 1 == count { LAST } else { 0 };
            self.next_segment = self.next_segment.wrapping_add(1);
            let data: Vec<u8> = std::iter::once(header).chain(segment.iter().copied()).collect();
            bytes.extend(self.frame(PRIMARY | UNCONFIRMED_USER_DATA, &data));
        }
        self.stream.write_all(&bytes).await
    }

    /// Asks for the link status, as a keep-alive; the answer is taken in by `receive`.
    pub(super) async fn request_link_status(&mut self) -> io::Result<()> {
        let request = self.frame(PRIMARY | REQUEST_LINK_STATUS, &[]);
        self.stream.write_all(&request).await
    }

    /// Waits for the next application fragment, and meanwhile answers what the other end asks of the link. May be given up at any
    /// time and called again. The other end's close is an `UnexpectedEof`.
    pub(super) async fn receive(&mut self) -> io::Result<Vec<u8>> {
        loop {
            match decode(&self.received) {
                Decoded::Frame(frame, used) => {
                    self.received.drain(..used);
                    if let Some(fragment) = self.take(frame).await? {
                        return Ok(fragment);
                    }
                }
                Decoded::Garbage(bytes) => drop(self.received.drain(..bytes)),
                Decoded::Incomplete => {
                    if self.stream.read_buf(&mut self.received).await? == 0 {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
            }
        }
    }

    async fn take(&mut self, frame: Frame) -> io::Result<Option<Vec<u8>>> {
        let is_for_me = frame.destination == self.local && frame.source == self.remote;
        if !is_for_me || frame.control & PRIMARY == 0 {
            return Ok(None);
        }
        let answer = match frame.control & 0x0F {
            REQUEST_LINK_STATUS => Some(LINK_STATUS),
            RESET_LINK_STATES | TEST_LINK_STATES | CONFIRMED_USER_DATA => Some(ACK),
            _ => None,
        };
        if let Some(function) = answer {
            let answer = self.frame(function, &[]);
            self.stream.write_all(&answer).await?;
        }
        let (CONFIRMED_USER_DATA | UNCONFIRMED_USER_DATA, Some((header, data))) = (frame.control & 0x0F, frame.data.split_first())
        else {
            return Ok(None);
        };
        if header & FIRST != 0 {
            self.fragment.clear();
        }
        if self.fragment.len() + data.len() > MAX_FRAGMENT {
            self.fragment.clear();
            return Ok(None);
        }
        self.fragment.extend_from_slice(data);
        Ok((header & LAST != 0).then(|| std::mem::take(&mut self.fragment)))
    }

    fn frame(&self, control: u8, data: &[u8]) -> Vec<u8> {
        let direction = if self.is_master { FROM_MASTER } else { 0 };
        encode(control | direction, self.remote, self.local, data)
    }
}

/// A link frame.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Frame {
    control: u8,
    destination: u16,
    source: u16,
    data: Vec<u8>,
}

/// What the first bytes of a stream are.
#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    /// A whole frame of so many bytes.
    Frame(Frame, usize),
    /// The beginning of a frame.
    Incomplete,
    /// So many bytes that begin no frame.
    Garbage(usize),
}

fn decode(bytes: &[u8]) -> Decoded {
    let Some((header, rest)) = bytes.split_first_chunk::<10>() else {
        return Decoded::Incomplete;
    };
    let [0x05, 0x64, length @ 5..=u8::MAX, control, d0, d1, s0, s1, c0, c1] = *header else {
        return Decoded::Garbage(1);
    };
    if crc(&[0x05, 0x64, length, control, d0, d1, s0, s1]) != [c0, c1] {
        return Decoded::Garbage(1);
    }
    let data_length = usize::from(length) - 5;
    let Some(blocks) = rest.get(..data_length + 2 * data_length.div_ceil(16)) else {
        return Decoded::Incomplete;
    };
    let mut data = Vec::with_capacity(data_length);
    for block in blocks.chunks(18) {
        match block.split_last_chunk::<2>() {
            Some((block, check)) if crc(block) == *check => data.extend_from_slice(block),
            _ => return Decoded::Garbage(header.len() + blocks.len()),
        }
    }
    let (destination, source) = (u16::from_le_bytes([d0, d1]), u16::from_le_bytes([s0, s1]));
    Decoded::Frame(Frame { control, destination, source, data }, header.len() + blocks.len())
}

/// A frame of at most 250 bytes of data.
fn encode(control: u8, destination: u16, source: u16, data: &[u8]) -> Vec<u8> {
    let length = u8::try_from(data.len() + 5).unwrap_or(u8::MAX);
    let ([d0, d1], [s0, s1]) = (destination.to_le_bytes(), source.to_le_bytes());
    let header = [0x05, 0x64, length, control, d0, d1, s0, s1];
    std::iter::once(header.as_slice()).chain(data.chunks(16)).flat_map(|block| [block, &crc(block)].concat()).collect()
}

/// The check sum of a block: CRC-16 with the polynomial 0x3D65, low byte first.
fn crc(block: &[u8]) -> [u8; 2] {
    let crc = block.iter().fold(0u16, |crc, byte| {
        (0..8).fold(crc ^ u16::from(*byte), |crc, _| if crc & 1 == 0 { crc >> 1 } else { (crc >> 1) ^ 0xA6BC })
    });
    (!crc).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_check_sum_is_the_one_of_the_catalogue() {
        // CRC-16/DNP over "123456789" is 0xEA82.
        assert_eq!(crc(b"123456789"), 0xEA82u16.to_le_bytes());
    }

    #[tokio::test]
    async fn fragments_of_several_segments_arrive_whole_after_garbage() {
        let (a, b) = tokio::io::duplex(8192);
        let (mut master, mut outstation) = (Link::new(a, true, 1, 10), Link::new(b, false, 10, 1));
        let long: Vec<u8> = (0..=255).cycle().take(700).collect();
        master.stream_mut().write_all(&[0x05, 0x64, 0, 9, 9, 9, 9, 9, 9, 9, 9, 9]).await.unwrap();
        master.send(&long).await.unwrap();
        master.send(&[1, 2]).await.unwrap();
        assert_eq!(outstation.receive().await.unwrap(), long);
        assert_eq!(outstation.receive().await.unwrap(), [1, 2]);
    }

    #[tokio::test]
    async fn a_question_for_the_link_status_is_answered_at_once() {
        let (a, mut b) = tokio::io::duplex(8192);
        let mut outstation = Link::new(a, false, 10, 1);
        b.write_all(&encode(FROM_MASTER | PRIMARY | REQUEST_LINK_STATUS, 10, 1, &[])).await.unwrap();
        let mut answer = [0; 10];
        tokio::select! {
            fragment = outstation.receive() => panic!("no fragment was sent, and one came: {fragment:?}"),
            read = b.read_exact(&mut answer) => drop(read.unwrap()),
        }
        let expected = Frame { control: LINK_STATUS, destination: 1, source: 10, data: Vec::new() };
        assert_eq!(decode(&answer), Decoded::Frame(expected, 10));
    }

    proptest! {
        #[test]
        fn any_data_round_trips(control: u8, destination: u16, source: u16, data in prop::collection::vec(any::<u8>(), 0..=250)) {
            let bytes = encode(control, destination, source, &data);
            let length = bytes.len();
            for cut in 0..length {
                prop_assert_eq!(decode(&bytes[..cut]), Decoded::Incomplete);
            }
            prop_assert_eq!(decode(&bytes), Decoded::Frame(Frame { control, destination, source, data }, length));
        }
    }
}
