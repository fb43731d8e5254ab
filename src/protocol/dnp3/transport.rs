//! Transport segments: one header byte, and a reassembler that puts fragments of the application layer together again.

use super::link::{LinkHeader, MAX_USER_DATA};

/// The longest fragment that is put together. The standard asks devices for 2048 bytes; some use more.
pub const MAX_FRAGMENT: usize = 16 * 1024;
/// User data of one frame, less the transport header.
const MAX_SEGMENT_DATA: usize = MAX_USER_DATA - 1;
const FIN: u8 = 0x80;
const FIR: u8 = 0x40;
const SEQUENCE: u8 = 0x3F;

/// The transport header: where a segment stands in its fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// FIR: the first one.
    pub first: bool,
    /// FIN: the last one.
    pub last: bool,
    /// 0 to 63, then 0 again.
    pub sequence: u8,
}

impl Segment {
    /// From its byte.
    pub const fn from_byte(byte: u8) -> Self {
        Self { first: byte & FIR != 0, last: byte & FIN != 0, sequence: byte & SEQUENCE }
    }

    /// To its byte.
    pub const fn to_byte(self) -> u8 {
        (if self.first { FIR } else { 0 }) | (if self.last { FIN } else { 0 }) | self.sequence & SEQUENCE
    }
}

/// Link frames that carry `fragment`, the first segment numbered `sequence`. An empty fragment gives no frames.
pub fn frames(header: LinkHeader, sequence: u8, fragment: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let count = fragment.len().div_ceil(MAX_SEGMENT_DATA);
    let mut sequence = sequence & SEQUENCE;
    for (number, data) in fragment.chunks(MAX_SEGMENT_DATA).enumerate() {
        let segment = Segment { first: number == 0, last: number + 1 == count, sequence };
        let mut user_data = Vec::with_capacity(data.len() + 1);
        user_data.push(segment.to_byte());
        user_data.extend_from_slice(data);
        header.encode(&user_data, &mut out);
        sequence = (sequence + 1) & SEQUENCE;
    }
    out
}

/// What became of a segment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed<'a> {
    /// The fragment is complete.
    Fragment(&'a [u8]),
    /// The fragment is complete; the end of the one before it is missing.
    AfterLoss(&'a [u8]),
    /// More segments are to come.
    Incomplete,
    /// The same segment came again and was passed over.
    Duplicate,
    /// It does not follow on what was there: segments were lost, and what was there is dropped. What is left of it is told no more.
    Lost,
}

/// Puts the segments of one direction between two link addresses together again.
///
/// It begins in the middle of a fragment, which is passed over.
#[derive(Debug, Clone, Default)]
pub struct Reassembler {
    fragment: Vec<u8>,
    state: State,
    /// The sequence of the latest segment.
    sequence: u8,
    /// Where its data begin in `fragment`.
    latest: usize,
}

/// Where the stream of segments stands.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// In a fragment of which something is missing, or before anything was seen: what comes before the next first segment is passed over.
    #[default]
    Passing,
    /// A fragment is open.
    Open,
    /// One is complete, so that a first segment must follow.
    Between,
}

impl Reassembler {
    /// Takes the user data of one link frame: transport header and data.
    pub fn push(&mut self, user_data: &[u8]) -> Pushed<'_> {
        let Some((&header, data)) = user_data.split_first() else { return Pushed::Lost };
        let segment = Segment::from_byte(header);
        let is_same = segment.sequence == self.sequence && self.fragment.get(self.latest..) == Some(data);
        let after_loss = self.state == State::Open && segment.first;
        match self.state {
            State::Open if is_same && segment.first == (self.latest == 0) => return Pushed::Duplicate,
            State::Between if is_same && !segment.first && segment.last => return Pushed::Duplicate,
            _ if segment.first => self.fragment.clear(),
            State::Open if segment.sequence == (self.sequence + 1) & SEQUENCE => {}
            State::Passing => return Pushed::Incomplete,
            State::Open | State::Between => {
                self.clear();
                return Pushed::Lost;
            }
        }
        if self.fragment.len() + data.len() > MAX_FRAGMENT {
            self.clear();
            return Pushed::Lost;
        }
        (self.latest, self.sequence) = (self.fragment.len(), segment.sequence);
        self.fragment.extend_from_slice(data);
        self.state = if segment.last { State::Between } else { State::Open };
        match (segment.last, after_loss) {
            (true, true) => Pushed::AfterLoss(&self.fragment),
            (true, false) => Pushed::Fragment(&self.fragment),
            (false, true) => Pushed::Lost,
            (false, false) => Pushed::Incomplete,
        }
    }

    /// Forgets what is there, for instance because bytes were lost below, and passes over what is still to come of it.
    pub fn clear(&mut self) {
        self.state = State::Passing;
        self.fragment.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{
        Step,
        dnp3::{LinkFunction, step},
    };
    use proptest::prelude::*;

    const HEADER: LinkHeader = LinkHeader::from_outstation(LinkFunction::UnconfirmedUserData, 1, 1024);

    fn segments(mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut segments = Vec::new();
        while let Step::Frame { frame, length } = step(bytes) {
            let mut data = Vec::new();
            frame.user_data(&mut data);
            segments.push(data);
            bytes = &bytes[length..];
        }
        assert!(bytes.is_empty());
        segments
    }

    #[test]
    fn the_sequence_wraps_from_63_to_0() {
        let fragment = vec![9; 600];
        let segments = segments(&frames(HEADER, 62, &fragment));
        let headers: Vec<u8> = segments.iter().map(|segment| segment[0]).collect();
        assert_eq!(headers, [FIR | 62, 63, FIN]);
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.push(&segments[0]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&segments[1]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&segments[2]), Pushed::Fragment(&fragment));
    }

    #[test]
    fn a_gap_loses_the_fragment_and_the_next_first_segment_begins_anew() {
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.push(&[FIR, 1]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIN | 2, 3]), Pushed::Lost);
        assert_eq!(reassembler.push(&[3, 3]), Pushed::Incomplete, "one loss is told once");
        assert_eq!(reassembler.push(&[FIN | 4, 3]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIR | FIN | 7, 4]), Pushed::Fragment(&[4]));
        assert_eq!(reassembler.push(&[9, 3]), Pushed::Lost, "the first segment is missing");
        assert_eq!(reassembler.push(&[FIN | 10, 3]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIR | 11, 4]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIR | FIN | 13, 5]), Pushed::AfterLoss(&[5]), "the last segment is missing");
        assert_eq!(reassembler.push(&[FIR | FIN | 14, 6]), Pushed::Fragment(&[6]));
    }

    #[test]
    fn a_stream_may_begin_in_the_middle_of_a_fragment() {
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.push(&[5, 1]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIN | 6, 1]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIR | FIN | 7, 4]), Pushed::Fragment(&[4]));
    }

    #[test]
    fn a_segment_that_comes_again_is_passed_over() {
        let mut reassembler = Reassembler::default();
        assert_eq!(reassembler.push(&[FIR | 5, 1, 2]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[6, 3]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[6, 3]), Pushed::Duplicate);
        assert_eq!(reassembler.push(&[FIN | 7, 4]), Pushed::Fragment(&[1, 2, 3, 4]));
        assert_eq!(reassembler.push(&[FIN | 7, 4]), Pushed::Duplicate);
        assert_eq!(reassembler.push(&[FIR | 8, 5]), Pushed::Incomplete);
        assert_eq!(reassembler.push(&[FIR | 8, 5]), Pushed::Duplicate);
        assert_eq!(reassembler.push(&[FIN | 9, 6]), Pushed::Fragment(&[5, 6]));
    }

    #[test]
    fn a_fragment_without_end_is_dropped_at_the_limit() {
        let mut reassembler = Reassembler::default();
        let mut data = vec![0; 250];
        data[0] = FIR;
        reassembler.push(&data);
        let mut lost = 0;
        for sequence in 1..200_u8 {
            data[0] = sequence & SEQUENCE;
            lost += u32::from(reassembler.push(&data) == Pushed::Lost);
            assert!(reassembler.fragment.len() <= MAX_FRAGMENT);
        }
        assert!(lost > 0);
    }

    proptest! {
        #[test]
        fn fragments_round_trip(fragment in prop::collection::vec(any::<u8>(), 1..3000), sequence in 0_u8..64) {
            let mut reassembler = Reassembler::default();
            let segments = segments(&frames(HEADER, sequence, &fragment));
            let (last, before) = segments.split_last().unwrap();
            for segment in before {
                prop_assert_eq!(reassembler.push(segment), Pushed::Incomplete);
            }
            prop_assert_eq!(reassembler.push(last), Pushed::Fragment(&fragment));
        }

        #[test]
        fn any_segments_never_panic(segments in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..100)) {
            let mut reassembler = Reassembler::default();
            for segment in &segments {
                reassembler.push(segment);
            }
        }
    }
}
