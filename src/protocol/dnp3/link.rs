//! Link frames: start, length, control, destination, source, check sum; then data in blocks of 16 bytes, each with its own.

use super::{super::Step, crc};
use std::fmt;

/// The two bytes that begin a frame.
pub const START: [u8; 2] = [0x05, 0x64];
/// The most user data in one frame.
pub const MAX_USER_DATA: usize = 250;
/// Start, length, control, two addresses and the check sum.
const HEADER_BYTES: usize = 10;
/// The length field counts control, addresses and user data, but no check sums.
const MIN_LENGTH_FIELD: u8 = 5;
const BLOCK: usize = 16;

const FROM_MASTER: u8 = 0x80;
const PRIMARY: u8 = 0x40;
const FRAME_COUNT_BIT: u8 = 0x20;
/// Frame count valid in a primary frame, data flow control in a secondary one.
const VALID_OR_FLOW: u8 = 0x10;

/// What a link frame is for. Primary frames begin a link transaction, secondary ones answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkFunction {
    /// Primary 0: begin again with the frame count.
    ResetLinkStates,
    /// Primary 1, obsolete: reset the user process.
    ResetUserProcess,
    /// Primary 2: test the link states.
    TestLinkStates,
    /// Primary 3: user data, to be acknowledged.
    ConfirmedUserData,
    /// Primary 4: user data, not to be acknowledged.
    UnconfirmedUserData,
    /// Primary 9: asks for the link status; over TCP the keep-alive.
    RequestLinkStatus,
    /// Secondary 0: acknowledged.
    Ack,
    /// Secondary 1: not acknowledged.
    Nack,
    /// Secondary 11: the answer to a request for link status.
    LinkStatus,
    /// Secondary 14, obsolete: the link service is not functioning.
    NotFunctioning,
    /// Secondary 15: the function is not supported.
    NotSupported,
    /// Any other code of a primary frame.
    OtherPrimary(u8),
    /// Any other code of a secondary frame.
    OtherSecondary(u8),
}

impl LinkFunction {
    const fn from_control(control: u8) -> Self {
        let code = control & 0x0F;
        if control & PRIMARY != 0 {
            match code {
                0 => Self::ResetLinkStates,
                1 => Self::ResetUserProcess,
                2 => Self::TestLinkStates,
                3 => Self::ConfirmedUserData,
                4 => Self::UnconfirmedUserData,
                9 => Self::RequestLinkStatus,
                other => Self::OtherPrimary(other),
            }
        } else {
            match code {
                0 => Self::Ack,
                1 => Self::Nack,
                11 => Self::LinkStatus,
                14 => Self::NotFunctioning,
                15 => Self::NotSupported,
                other => Self::OtherSecondary(other),
            }
        }
    }

    /// The PRM bit and the function code, as they stand in the control byte.
    const fn bits(self) -> u8 {
        match self {
            Self::ResetLinkStates => PRIMARY,
            Self::ResetUserProcess => PRIMARY | 1,
            Self::TestLinkStates => PRIMARY | 2,
            Self::ConfirmedUserData => PRIMARY | 3,
            Self::UnconfirmedUserData => PRIMARY | 4,
            Self::RequestLinkStatus => PRIMARY | 9,
            Self::Ack => 0,
            Self::Nack => 1,
            Self::LinkStatus => 11,
            Self::NotFunctioning => 14,
            Self::NotSupported => 15,
            Self::OtherPrimary(code) => PRIMARY | code & 0x0F,
            Self::OtherSecondary(code) => code & 0x0F,
        }
    }

    /// Whether frames of this function carry user data.
    pub const fn carries_data(self) -> bool {
        matches!(self, Self::ConfirmedUserData | Self::UnconfirmedUserData)
    }
}

impl fmt::Display for LinkFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ResetLinkStates => "reset link states",
            Self::ResetUserProcess => "reset user process",
            Self::TestLinkStates => "test link states",
            Self::ConfirmedUserData => "confirmed user data",
            Self::UnconfirmedUserData => "unconfirmed user data",
            Self::RequestLinkStatus => "request link status",
            Self::Ack => "ack",
            Self::Nack => "nack",
            Self::LinkStatus => "link status",
            Self::NotFunctioning => "link service not functioning",
            Self::NotSupported => "not supported",
            Self::OtherPrimary(code) => return write!(f, "primary function {code}"),
            Self::OtherSecondary(code) => return write!(f, "secondary function {code}"),
        })
    }
}

/// The control byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Control {
    /// DIR: whether a master sent the frame.
    pub from_master: bool,
    /// PRM and the function code.
    pub function: LinkFunction,
    /// FCB: alternates from one confirmed frame to the next (primary frames only).
    pub frame_count: bool,
    /// FCV, whether the frame count counts, in a primary frame; DFC, the receiver's buffers are full, in a secondary one.
    pub valid_or_flow: bool,
}

impl Control {
    /// From its byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self {
            from_master: byte & FROM_MASTER != 0,
            function: LinkFunction::from_control(byte),
            frame_count: byte & FRAME_COUNT_BIT != 0,
            valid_or_flow: byte & VALID_OR_FLOW != 0,
        }
    }

    /// To its byte.
    pub const fn to_byte(self) -> u8 {
        bit_if(self.from_master, FROM_MASTER)
            | bit_if(self.frame_count, FRAME_COUNT_BIT)
            | bit_if(self.valid_or_flow, VALID_OR_FLOW)
            | self.function.bits()
    }
}

const fn bit_if(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Who sends what to whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LinkHeader {
    /// The control byte.
    pub control: Control,
    /// The link address of the receiver.
    pub destination: u16,
    /// The link address of the sender.
    pub source: u16,
}

impl LinkHeader {
    fn of(control: u8, destination: [u8; 2], source: [u8; 2]) -> Self {
        Self {
            control: Control::from_byte(control),
            destination: u16::from_le_bytes(destination),
            source: u16::from_le_bytes(source),
        }
    }

    /// The header of a master's frame, frame count unused.
    pub const fn from_master(function: LinkFunction, destination: u16, source: u16) -> Self {
        let control = Control { from_master: true, function, frame_count: false, valid_or_flow: false };
        Self { control, destination, source }
    }

    /// The header of an outstation's frame, frame count unused.
    pub const fn from_outstation(function: LinkFunction, destination: u16, source: u16) -> Self {
        let control = Control { from_master: false, function, frame_count: false, valid_or_flow: false };
        Self { control, destination, source }
    }

    /// Appends the frame with up to [`MAX_USER_DATA`] bytes of user data; the rest is left out (see [`super::frames`] for more).
    pub fn encode(&self, user_data: &[u8], out: &mut Vec<u8>) {
        let user_data = user_data.get(..MAX_USER_DATA).unwrap_or(user_data);
        let length = MIN_LENGTH_FIELD.saturating_add(u8::try_from(user_data.len()).unwrap_or(u8::MAX));
        let begin = out.len();
        out.extend_from_slice(&START);
        out.push(length);
        out.push(self.control.to_byte());
        out.extend_from_slice(&self.destination.to_le_bytes());
        out.extend_from_slice(&self.source.to_le_bytes());
        let sum = crc(out.get(begin..).unwrap_or_default());
        out.extend_from_slice(&sum.to_le_bytes());
        for block in user_data.chunks(BLOCK) {
            out.extend_from_slice(block);
            out.extend_from_slice(&crc(block).to_le_bytes());
        }
    }
}

/// A whole frame whose check sums are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// Control and addresses.
    pub header: LinkHeader,
    /// The data blocks as they came, check sums among them.
    blocks: &'a [u8],
}

impl Frame<'_> {
    /// Appends the user data, without check sums, to `out`.
    pub fn user_data(&self, out: &mut Vec<u8>) {
        for block in self.blocks.chunks(BLOCK + 2) {
            out.extend_from_slice(block.get(..block.len().saturating_sub(2)).unwrap_or_default());
        }
    }

    /// Whether there is user data.
    pub const fn has_data(&self) -> bool {
        !self.blocks.is_empty()
    }
}

/// Why bytes are no DNP3 frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// They do not begin with 05 64.
    #[error("no frame begins here: not 05 64")]
    Start,
    /// The check sum of the header is wrong.
    #[error("the check sum of the header is wrong")]
    HeaderCrc,
    /// The header's check sum is right, but its length field is under 5.
    #[error("the length field is {0}, where DNP3 has 5 to 255")]
    Length(u8),
    /// The check sum of a data block is wrong.
    #[error("the check sum of data block {block} of the frame from {} to {} is wrong", header.source, header.destination)]
    DataCrc {
        /// The header, whose check sum is right.
        header: LinkHeader,
        /// The block, from 0.
        block: u8,
    },
}

/// Reads the frame at the beginning of `bytes`, or says how many bytes to skip to the next place where one can begin. Of a frame
/// with a damaged data block all bytes are skipped; of one with a damaged header only those up to the next 05 64.
pub fn step(bytes: &[u8]) -> Step<Frame<'_>, LinkError> {
    let [start_first, rest @ ..] = bytes else { return Step::NeedMore };
    if *start_first != START[0] || rest.first().is_some_and(|second| *second != START[1]) {
        return Step::Skip { length: next_start(bytes), error: LinkError::Start };
    }
    let Some((header, after_header)) = bytes.split_first_chunk::<HEADER_BYTES>() else { return Step::NeedMore };
    let [_, _, length, control, destination_low, destination_high, source_low, source_high, sum_low, sum_high] = *header;
    if crc(header.get(..8).unwrap_or_default()) != u16::from_le_bytes([sum_low, sum_high]) {
        return Step::Skip { length: next_start(bytes), error: LinkError::HeaderCrc };
    }
    let Some(data_length) = length.checked_sub(MIN_LENGTH_FIELD) else {
        return Step::Skip { length: HEADER_BYTES, error: LinkError::Length(length) };
    };
    let data_length = usize::from(data_length);
    let blocks_length = data_length + 2 * data_length.div_ceil(BLOCK);
    let Some(blocks) = after_header.get(..blocks_length) else { return Step::NeedMore };
    let header = LinkHeader::of(control, [destination_low, destination_high], [source_low, source_high]);
    for (block, bytes) in (0_u8..).zip(blocks.chunks(BLOCK + 2)) {
        let (data, sum) = bytes.split_at(bytes.len().saturating_sub(2));
        if crc(data).to_le_bytes() != sum {
            return Step::Skip { length: HEADER_BYTES + blocks_length, error: LinkError::DataCrc { header, block } };
        }
    }
    Step::Frame { frame: Frame { header, blocks }, length: HEADER_BYTES + blocks_length }
}

/// The header of the frame at the beginning of `bytes` of which the end is missing, how many bytes the whole takes, and the first of its user
/// data, as far as they are there and in the first block: nothing but the header is guarded by a check sum. `None` when the header is not there.
pub fn head(bytes: &[u8]) -> Option<(LinkHeader, usize, &[u8])> {
    let (header, after) = bytes.split_first_chunk::<HEADER_BYTES>()?;
    if !matches!(step(bytes), Step::NeedMore) {
        return None;
    }
    let [_, _, length, control, destination_low, destination_high, source_low, source_high, ..] = *header;
    let data_length = usize::from(length.checked_sub(MIN_LENGTH_FIELD)?);
    let first = after.get(..after.len().min(data_length).min(BLOCK)).unwrap_or_default();
    let header = LinkHeader::of(control, [destination_low, destination_high], [source_low, source_high]);
    Some((header, HEADER_BYTES + data_length + 2 * data_length.div_ceil(BLOCK), first))
}

/// How many bytes, at least one, to the next place where a frame can begin.
fn next_start(bytes: &[u8]) -> usize {
    let begins = |at: usize| bytes.get(at) == Some(&START[0]) && bytes.get(at + 1).is_none_or(|second| *second == START[1]);
    (1..bytes.len()).find(|&at| begins(at)).unwrap_or(bytes.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A master (1) asks an outstation (1024) for its link status.
    const REQUEST_LINK_STATUS: LinkHeader = LinkHeader::from_master(LinkFunction::RequestLinkStatus, 1024, 1);

    fn encoded(header: LinkHeader, data: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        header.encode(data, &mut bytes);
        bytes
    }

    fn data_of(bytes: &[u8]) -> (LinkHeader, Vec<u8>) {
        let Step::Frame { frame, length } = step(bytes) else { panic!("{:?}", step(bytes)) };
        assert_eq!(length, bytes.len());
        let mut data = Vec::new();
        frame.user_data(&mut data);
        (frame.header, data)
    }

    #[test]
    fn of_a_frame_that_was_cut_the_head_is_read() {
        let header = LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 10, 1);
        let bytes = encoded(header, &[7; 40]);
        for end in 0..=bytes.len() {
            let data = &[7; 16][..end.saturating_sub(HEADER_BYTES).min(16)];
            let expected = (HEADER_BYTES..bytes.len()).contains(&end).then_some((header, bytes.len(), data));
            assert_eq!(head(&bytes[..end]), expected, "{end} bytes");
        }
        let mut damaged = bytes;
        damaged[4] ^= 1;
        assert_eq!(head(&damaged[..20]), None);
    }

    #[test]
    fn literal_octets_of_a_link_status_request() {
        let bytes = encoded(REQUEST_LINK_STATUS, &[]);
        assert_eq!(bytes[..8], [0x05, 0x64, 0x05, 0xC9, 0x00, 0x04, 0x01, 0x00]);
        assert_eq!(data_of(&bytes), (REQUEST_LINK_STATUS, vec![]));
    }

    #[test]
    fn literal_octets_of_an_integrity_poll() {
        // The example that is in many introductions to DNP3: master 1024 asks outstation 1 for classes 1, 2, 3 and 0.
        let bytes = [
            0x05, 0x64, 0x14, 0xF3, 0x01, 0x00, 0x00, 0x04, 0x0A, 0x3B, //
            0xC0, 0xC3, 0x01, 0x3C, 0x02, 0x06, 0x3C, 0x03, 0x06, 0x3C, 0x04, 0x06, 0x3C, 0x01, 0x06, 0x9A, 0x12,
        ];
        let Step::Frame { frame, length } = step(&bytes) else { panic!("{:?}", step(&bytes)) };
        assert_eq!((frame.header.source, frame.header.destination, length), (1024, 1, 27));
        let control =
            Control { from_master: true, function: LinkFunction::ConfirmedUserData, frame_count: true, valid_or_flow: true };
        assert_eq!(frame.header.control, control);
        let (header, data) = data_of(&bytes);
        assert_eq!(encoded(header, &data), bytes);
    }

    #[test]
    fn any_part_of_a_frame_asks_for_more() {
        let bytes = encoded(REQUEST_LINK_STATUS, &[7; 40]);
        for end in 0..bytes.len() {
            assert_eq!(step(&bytes[..end]), Step::NeedMore, "{end} bytes");
        }
    }

    #[test]
    fn a_damaged_data_block_is_told_with_its_addresses_and_skips_the_frame() {
        let mut bytes = encoded(REQUEST_LINK_STATUS, &[7; 40]);
        bytes[10 + 18 + 3] ^= 1;
        let error = LinkError::DataCrc { header: REQUEST_LINK_STATUS, block: 1 };
        assert_eq!(step(&bytes), Step::Skip { length: bytes.len(), error });
        assert_eq!(error.to_string(), "the check sum of data block 1 of the frame from 1 to 1024 is wrong");
    }

    #[test]
    fn after_a_damaged_header_the_next_frame_is_found() {
        let mut bytes = encoded(REQUEST_LINK_STATUS, &[7; 40]);
        bytes[6] ^= 1;
        let damaged = bytes.len();
        bytes.extend(encoded(REQUEST_LINK_STATUS, &[]));
        assert_eq!(step(&bytes), Step::Skip { length: damaged, error: LinkError::HeaderCrc });
        assert_eq!(data_of(&bytes[damaged..]), (REQUEST_LINK_STATUS, vec![]));
    }

    #[test]
    fn a_length_under_five_is_refused() {
        let mut bytes = vec![0x05, 0x64, 0x04, 0xC9, 0, 4, 1, 0];
        bytes.extend(crc(&bytes).to_le_bytes());
        assert_eq!(step(&bytes), Step::Skip { length: 10, error: LinkError::Length(4) });
    }

    #[test]
    fn control_bytes_round_trip() {
        for byte in 0..=255_u8 {
            assert_eq!(Control::from_byte(byte).to_byte(), byte);
        }
        assert_eq!(Control::from_byte(0x44).function.to_string(), "unconfirmed user data");
        assert_eq!(Control::from_byte(0x0B).function.to_string(), "link status");
        assert_eq!(Control::from_byte(0x47).function.to_string(), "primary function 7");
    }

    fn frames(pieces: &[&[u8]]) -> Vec<(LinkHeader, Vec<u8>)> {
        let (mut buffer, mut found) = (Vec::new(), Vec::new());
        for piece in pieces {
            buffer.extend_from_slice(piece);
            loop {
                let used = match step(&buffer) {
                    Step::Frame { frame, length } => {
                        let mut data = Vec::new();
                        frame.user_data(&mut data);
                        found.push((frame.header, data));
                        length
                    }
                    Step::Skip { length, .. } => length,
                    Step::NeedMore => break,
                };
                assert!(used > 0 && used <= buffer.len());
                buffer.drain(..used);
            }
        }
        found
    }

    fn header() -> impl Strategy<Value = LinkHeader> {
        (any::<u8>(), any::<u16>(), any::<u16>()).prop_map(|(control, destination, source)| LinkHeader {
            control: Control::from_byte(control),
            destination,
            source,
        })
    }

    proptest! {
        #[test]
        fn frames_round_trip_whole_and_split_anywhere(
            sent in prop::collection::vec((header(), prop::collection::vec(any::<u8>(), 0..=MAX_USER_DATA)), 1..5),
            cut in any::<prop::sample::Index>(),
        ) {
            let mut bytes = Vec::new();
            sent.iter().for_each(|(header, data)| header.encode(data, &mut bytes));
            prop_assert_eq!(&frames(&[&bytes]), &sent);
            let (left, right) = bytes.split_at(cut.index(bytes.len() + 1));
            prop_assert_eq!(&frames(&[left, right]), &sent);
        }

        #[test]
        fn frames_are_found_after_garbage_without_a_start(
            garbage in prop::collection::vec(any::<u8>().prop_filter("start", |byte| *byte != 5), 0..60),
            data in prop::collection::vec(any::<u8>(), 0..=MAX_USER_DATA), header in header(),
        ) {
            let mut bytes = garbage;
            header.encode(&data, &mut bytes);
            prop_assert_eq!(frames(&[&bytes]), vec![(header, data)]);
        }

        #[test]
        fn garbage_never_panics_and_always_moves_on(bytes in prop::collection::vec(prop_oneof![any::<u8>(), Just(5), Just(0x64)], 0..600)) {
            frames(&[&bytes]);
        }
    }
}
