//! One direction of a TCP connection: bytes in order, however the segments came.

use super::tally::Stamp;

/// Segments further off than this belong to another stream: the tuple was used again and the capture missed its SYN.
const LARGEST_JUMP: u32 = 16 * 1024 * 1024;
/// So many segments beyond a gap that the receiver has acknowledged show that the capture lost what is missing.
const SEGMENTS_BEYOND_A_LOST_GAP: usize = 8;
/// The most segments that wait for a gap to be filled.
const MAX_WAITING_SEGMENTS: usize = 512;

/// When bytes came, and what their segment said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    /// Packet and time.
    pub stamp: Stamp,
    /// The sequence number after the segment's last byte.
    pub seq_end: u32,
    /// What the sender had received by then.
    pub ack: Option<u32>,
}

/// What a segment is to its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// New bytes right behind those that were there; the first `skip` are not new.
    InOrder {
        /// How many bytes are known already.
        skip: usize,
        /// Whether the segment came late: others beyond it were there before.
        late: bool,
    },
    /// Beyond a gap; the stream keeps it.
    Ahead {
        /// Whether it lies between segments that were there before.
        late: bool,
    },
    /// Nothing new.
    Again,
    /// Nothing new, and one byte or none just before the next: the peer is asked whether it is still there.
    KeepAlive,
    /// Far off: another stream on the same tuple begins. Its bytes are in order.
    Restart,
}

/// A segment beyond a gap.
#[derive(Debug)]
pub(super) struct Waiting {
    seq: u32,
    /// What was captured of it ...
    bytes: Box<[u8]>,
    /// ... and how many bytes it had on the wire.
    wire_len: u32,
    /// When it came.
    pub arrival: Arrival,
}

/// A segment whose turn has come.
#[derive(Debug)]
pub(super) struct Ready {
    bytes: Box<[u8]>,
    skip: usize,
    /// How many bytes the capture cut off its end.
    pub missing: usize,
    /// When it came.
    pub arrival: Arrival,
}

impl Ready {
    /// The new bytes.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(self.skip..).unwrap_or_default()
    }
}

/// How far `to` is ahead of `from`; negative when it is behind (RFC 1982).
pub(super) fn ahead(to: u32, from: u32) -> i32 {
    to.wrapping_sub(from).cast_signed()
}

/// The state of one direction.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// The next byte that has not been delivered; `None` before the first segment.
    next: Option<u32>,
    /// The end of the furthest segment seen.
    highest: u32,
    /// What the receiver has acknowledged.
    acknowledged: Option<u32>,
    /// Segments beyond a gap, in the order of their sequence numbers, without overlap of whole segments.
    waiting: Vec<Waiting>,
    waiting_bytes: usize,
    gap_since: i64,
}

impl Stream {
    /// A SYN with this initial sequence number.
    pub fn begin(&mut self, initial: u32) {
        *self = Self { next: Some(initial.wrapping_add(1)), highest: initial.wrapping_add(1), ..Self::default() };
    }

    /// A segment without payload at `seq`: where the stream is, if nothing is known of it; and whether it is a keep-alive.
    pub fn touch(&mut self, seq: u32) -> bool {
        match self.next {
            None => {
                (self.next, self.highest) = (Some(seq), seq);
                false
            }
            Some(next) => next.wrapping_sub(seq) == 1,
        }
    }

    /// A FIN, after which the sequence number is `end`: bytes that come later than it and before it are late.
    pub fn end(&mut self, end: u32) {
        if self.next.is_some() && ahead(end, self.highest) > 0 {
            self.highest = end;
        }
    }

    /// The receiver has everything before `ack`.
    pub fn acknowledge(&mut self, ack: u32) {
        if self.acknowledged.is_none_or(|known| ahead(ack, known) > 0) {
            self.acknowledged = Some(ack);
        }
    }

    /// What the receiver has acknowledged.
    pub fn acknowledged(&self) -> Option<u32> {
        self.acknowledged
    }

    /// Whether `seq` is where the sender has come to.
    pub fn is_next(&self, seq: u32) -> bool {
        self.next.is_some() && self.highest == seq
    }

    /// For how long segments beyond a gap have waited, if there are any.
    pub fn gap_age(&self, now: i64) -> Option<i64> {
        (!self.waiting.is_empty()).then(|| now.saturating_sub(self.gap_since))
    }

    /// Bytes that wait for a gap to be filled.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting_bytes
    }

    /// Takes a segment of `wire_len` bytes, of which `payload` was captured. What is [`Place::InOrder`] the caller delivers at once,
    /// and then whatever [`Stream::ready`] gives.
    pub fn segment(&mut self, seq: u32, payload: &[u8], wire_len: u32, arrival: Arrival) -> Place {
        let end = seq.wrapping_add(wire_len);
        let Some(next) = self.next else {
            (self.next, self.highest) = (Some(end), end);
            return Place::InOrder { skip: 0, late: false };
        };
        let offset = ahead(seq, next);
        if offset.unsigned_abs() > LARGEST_JUMP {
            *self = Self { next: Some(end), highest: end, ..Self::default() };
            return Place::Restart;
        }
        // Something beyond was there before.
        let late = ahead(self.highest, end) >= 0;
        if ahead(end, next) <= 0 {
            return if wire_len == 1 && seq == next.wrapping_sub(1) { Place::KeepAlive } else { Place::Again };
        }
        if ahead(end, self.highest) > 0 {
            self.highest = end;
        }
        if offset <= 0 {
            self.next = Some(end);
            return Place::InOrder { skip: offset.unsigned_abs() as usize, late: late && ahead(self.highest, next) > 0 };
        }
        if self.covered(seq, end) {
            return Place::Again;
        }
        if self.waiting.is_empty() {
            self.gap_since = arrival.stamp.at;
        }
        let at = self.waiting.partition_point(|known| ahead(known.seq, seq) <= 0);
        self.waiting.insert(at, Waiting { seq, bytes: payload.into(), wire_len, arrival });
        self.waiting_bytes += payload.len();
        Place::Ahead { late }
    }

    /// Whether waiting segments hold all of `seq..end`.
    fn covered(&self, seq: u32, end: u32) -> bool {
        let mut at = seq;
        for known in &self.waiting {
            if ahead(known.seq, at) > 0 {
                return false;
            }
            let known_end = known.seq.wrapping_add(known.wire_len);
            if ahead(known_end, at) > 0 {
                at = known_end;
            }
            if ahead(at, end) >= 0 {
                return true;
            }
        }
        false
    }

    /// The next segment whose turn has come, if the gap before it is filled.
    pub fn ready(&mut self) -> Option<Ready> {
        loop {
            let next = self.next?;
            if ahead(self.waiting.first()?.seq, next) > 0 {
                return None;
            }
            let first = self.waiting.remove(0);
            self.waiting_bytes -= first.bytes.len();
            let end = first.seq.wrapping_add(first.wire_len);
            if ahead(end, next) > 0 {
                self.next = Some(end);
                let skip = next.wrapping_sub(first.seq) as usize;
                let missing = (first.wire_len as usize).saturating_sub(first.bytes.len().max(skip));
                return Some(Ready { bytes: first.bytes, skip, missing, arrival: first.arrival });
            }
        }
    }

    /// The segment behind the gap, if there is a gap, and whether the receiver has acknowledged what is missing.
    pub fn gap(&self) -> Option<(Stamp, bool)> {
        let first = self.waiting.first()?;
        Some((first.arrival.stamp, self.acknowledged.is_some_and(|ack| ahead(ack, first.seq) >= 0)))
    }

    /// Gives up the gap when it will not be filled any more: the receiver has acknowledged it and `patience_ns` have passed, or too
    /// much waits, or `must` says so. Then [`Stream::ready`] goes on behind it.
    pub fn give_up_gap(&mut self, now: i64, patience_ns: i64, max_bytes: usize, must: bool) -> bool {
        let Some(first) = self.waiting.first() else { return false };
        let acknowledged = self.acknowledged.is_some_and(|ack| ahead(ack, first.seq) >= 0);
        let long = now.saturating_sub(self.gap_since) >= patience_ns || self.waiting.len() >= SEGMENTS_BEYOND_A_LOST_GAP;
        let full = self.waiting_bytes > max_bytes || self.waiting.len() > MAX_WAITING_SEGMENTS;
        if must || full || (acknowledged && long) {
            self.next = Some(first.seq);
            // The next gap, if there is one, began when the segment behind it came.
            self.gap_since = now;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn arrival(number: u64) -> Arrival {
        Arrival { stamp: Stamp { number, at: 0 }, seq_end: 0, ack: None }
    }

    /// What a stream delivers of these segments (offset, length) of `bytes`.
    fn delivered(stream: &mut Stream, initial: u32, bytes: &[u8], segments: &[(usize, usize)]) -> Vec<u8> {
        let mut out = Vec::new();
        for (number, &(offset, length)) in (1..).zip(segments) {
            let payload = &bytes[offset..offset + length];
            let seq = initial.wrapping_add(1).wrapping_add(offset as u32);
            match stream.segment(seq, payload, length as u32, arrival(number)) {
                Place::InOrder { skip, .. } => out.extend_from_slice(&payload[skip..]),
                Place::Restart => panic!("restart"),
                _ => {}
            }
            while let Some(ready) = stream.ready() {
                out.extend_from_slice(ready.bytes());
            }
        }
        out
    }

    fn begun(initial: u32) -> Stream {
        let mut stream = Stream::default();
        stream.begin(initial);
        stream
    }

    #[test]
    fn in_order_over_the_wrap_of_sequence_numbers() {
        let bytes: Vec<u8> = (0..100).collect();
        let segments: Vec<_> = (0..10).map(|part| (part * 10, 10)).collect();
        for initial in [0, u32::MAX - 50, u32::MAX - 1, u32::MAX, i32::MAX as u32 - 50] {
            assert_eq!(delivered(&mut begun(initial), initial, &bytes, &segments), bytes);
            let swapped: Vec<_> = segments.chunks(2).flat_map(|pair| [pair[1], pair[0]]).collect();
            assert_eq!(delivered(&mut begun(initial), initial, &bytes, &swapped), bytes);
        }
    }

    #[test]
    fn says_what_a_segment_is() {
        let mut stream = begun(99);
        assert_eq!(stream.segment(100, &[0; 10], 10, arrival(1)), Place::InOrder { skip: 0, late: false });
        assert_eq!(stream.segment(100, &[0; 10], 10, arrival(2)), Place::Again);
        assert_eq!(stream.segment(109, &[0; 1], 1, arrival(3)), Place::KeepAlive);
        assert!(stream.touch(109), "a keep-alive without a byte");
        assert!(!stream.touch(110), "a pure acknowledgement");
        assert_eq!(stream.segment(105, &[0; 10], 10, arrival(4)), Place::InOrder { skip: 5, late: false });
        assert_eq!(stream.segment(125, &[0; 10], 10, arrival(5)), Place::Ahead { late: false });
        assert_eq!(stream.segment(125, &[0; 10], 10, arrival(6)), Place::Again, "waits already");
        assert_eq!(stream.segment(115, &[0; 10], 10, arrival(7)), Place::InOrder { skip: 0, late: true });
        assert_eq!(stream.ready().unwrap().arrival.stamp.number, 5);
        assert_eq!(stream.segment(0x7000_0000, &[0; 10], 10, arrival(8)), Place::Restart);
    }

    #[test]
    fn a_stream_entered_in_the_middle_begins_where_it_is() {
        let mut stream = Stream::default();
        assert_eq!(stream.segment(5000, &[1; 4], 4, arrival(1)), Place::InOrder { skip: 0, late: false });
        assert_eq!(stream.segment(5000, &[1; 4], 4, arrival(2)), Place::Again);
        let mut stream = Stream::default();
        assert!(!stream.touch(7000));
        assert_eq!(stream.segment(7000, &[1; 4], 4, arrival(1)), Place::InOrder { skip: 0, late: false });
    }

    #[test]
    fn a_gap_is_given_up_only_when_the_receiver_has_it_and_it_stays() {
        let mut stream = begun(99);
        stream.segment(110, &[7; 10], 10, arrival(1));
        assert!(!stream.give_up_gap(1_000, 100, 1000, false), "the receiver still waits for it too");
        stream.acknowledge(120);
        assert!(!stream.give_up_gap(50, 100, 1000, false), "it may be out of order in the capture");
        assert!(stream.give_up_gap(100, 100, 1000, false));
        assert_eq!(stream.ready().unwrap().bytes(), [7; 10]);
        assert!(!stream.give_up_gap(1_000, 100, 1000, true), "there is none");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut stream = begun(99);
        for part in 0..100_u32 {
            stream.segment(200 + part * 20, &[7; 10], 10, arrival(1));
            while stream.give_up_gap(0, 100, 50, false) {
                while stream.ready().is_some() {}
            }
            assert!(stream.waiting_bytes() <= 60);
        }
    }

    #[test]
    fn what_the_snap_length_cut_is_told() {
        let mut stream = begun(99);
        stream.segment(110, &[7; 4], 10, arrival(1));
        stream.segment(100, &[7; 10], 10, arrival(2));
        let ready = stream.ready().unwrap();
        assert_eq!((ready.missing, ready.bytes().len()), (6, 4));
        assert_eq!(stream.segment(120, &[8; 4], 4, arrival(3)), Place::InOrder { skip: 0, late: false });
    }

    proptest! {
        /// Against the naive model: a byte is delivered as soon as it and all before it have come, once.
        #[test]
        fn delivers_what_a_naive_model_delivers(
            initial: u32,
            bytes in prop::collection::vec(any::<u8>(), 1..300),
            picks in prop::collection::vec((any::<prop::sample::Index>(), 1_usize..40), 0..80),
        ) {
            let mut stream = begun(initial);
            let mut come = vec![false; bytes.len()];
            let (mut out, mut expected) = (Vec::new(), 0);
            for (offset, length) in picks {
                let offset = offset.index(bytes.len());
                let length = length.min(bytes.len() - offset);
                come[offset..offset + length].fill(true);
                expected = come.iter().take_while(|come| **come).count().max(expected);
                out.extend(delivered(&mut stream, initial, &bytes, &[(offset, length)]));
                prop_assert_eq!(&out[..], &bytes[..expected]);
                prop_assert_eq!(stream.waiting_bytes(), stream.waiting.iter().map(|waiting| waiting.bytes.len()).sum::<usize>());
            }
        }

        #[test]
        fn any_segments_never_panic(segments in prop::collection::vec((any::<u32>(), 0_usize..20, 0_u32..3000, any::<u32>()), 0..100)) {
            let mut stream = Stream::default();
            for (seq, length, more, ack) in segments {
                stream.segment(seq, &vec![0; length], length as u32 + more, arrival(1));
                stream.acknowledge(ack);
                stream.give_up_gap(0, 0, 1000, false);
                while stream.ready().is_some() {}
            }
        }
    }
}
