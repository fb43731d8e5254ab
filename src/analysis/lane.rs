//! The bytes of one direction on their way to frames: keeps the part of a frame that is still to be completed.

use crate::protocol::Step;

/// Incomplete frames are shorter than this in every protocol that is read here; what grows longer is dropped.
const MAX_CARRIED: usize = 1024;

/// One direction's incomplete frame.
#[derive(Debug, Default)]
pub(super) struct Lane {
    carried: Vec<u8>,
    /// Whether frames follow on one another. After a loss, or in the middle of a stream, they must be found first.
    in_step: bool,
    /// Bytes still to come of a frame that was read by its beginning.
    skip: usize,
}

impl Lane {
    /// A lane whose stream begins with a frame (`true`), or that is entered in the middle.
    pub fn new(in_step: bool) -> Self {
        Self { carried: Vec::new(), in_step, skip: 0 }
    }

    /// Bytes are missing: what was carried will never be complete.
    pub fn lost(&mut self) {
        self.carried.clear();
        self.in_step = false;
        self.skip = 0;
    }

    /// The capture cut off the `missing` bytes that follow here. Of a frame that begins before them, `head` reads what is there, and
    /// says how long the whole is, if that can be told. Gives whether that frame is all that the missing bytes can hold: nothing else
    /// was in them.
    pub fn cut(&mut self, missing: usize, head: impl FnOnce(&[u8]) -> Option<usize>) -> bool {
        let skipped = self.skip.min(missing);
        let missing = missing - skipped;
        if missing == 0 {
            self.skip -= skipped;
            return true;
        }
        let there = self.carried.len() + missing;
        let length = if self.carried.is_empty() { None } else { head(&self.carried) };
        self.lost();
        let Some(length) = length else { return false };
        self.in_step = length >= there;
        self.skip = length.saturating_sub(there);
        self.in_step
    }

    /// Takes bytes, and calls `each` for what stands at their beginning until more are needed. `each` is told whether frames
    /// follow on one another so far, looks at the bytes, and gives back what it found.
    pub fn feed(&mut self, bytes: &[u8], mut each: impl FnMut(&[u8], bool) -> Step<(), ()>) {
        let skipped = self.skip.min(bytes.len());
        self.skip -= skipped;
        let bytes = bytes.get(skipped..).unwrap_or_default();
        let mut joined = std::mem::take(&mut self.carried);
        let mut rest = if joined.is_empty() {
            bytes
        } else {
            joined.extend_from_slice(bytes);
            joined.as_slice()
        };
        while !rest.is_empty() {
            let used = match each(rest, self.in_step) {
                Step::Frame { length, .. } => {
                    self.in_step = true;
                    length
                }
                Step::Skip { length, .. } => {
                    self.in_step = false;
                    length
                }
                Step::NeedMore => break,
            };
            rest = rest.get(used.max(1)..).unwrap_or_default();
        }
        let left = if rest.len() > MAX_CARRIED { 0 } else { rest.len() };
        self.in_step &= rest.len() == left;
        // The buffer is used again, so that a stream of split frames costs no allocation each.
        if joined.is_empty() {
            joined.extend_from_slice(bytes.get(bytes.len() - left..).unwrap_or_default());
        } else {
            joined.drain(..joined.len() - left);
        }
        self.carried = joined;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Frames of a length byte and that many bytes; a zero is garbage.
    fn each(found: &mut Vec<Vec<u8>>) -> impl FnMut(&[u8], bool) -> Step<(), ()> {
        |bytes, _| match bytes[0] as usize {
            0 => Step::Skip { length: 1, error: () },
            length if bytes.len() > length => {
                found.push(bytes[1..=length].to_vec());
                Step::Frame { frame: (), length: length + 1 }
            }
            _ => Step::NeedMore,
        }
    }

    #[test]
    fn split_anywhere_is_as_whole() {
        let bytes = [2, 7, 7, 0, 1, 9, 3, 1, 2, 3];
        for cut in 0..=bytes.len() {
            let mut found = Vec::new();
            let mut lane = Lane::default();
            lane.feed(&bytes[..cut], each(&mut found));
            lane.feed(&bytes[cut..], each(&mut found));
            assert_eq!(found, [vec![7, 7], vec![9], vec![1, 2, 3]], "cut at {cut}");
        }
    }

    #[test]
    fn a_loss_drops_what_was_carried() {
        let mut found = Vec::new();
        let mut lane = Lane::default();
        lane.feed(&[4, 1, 2], each(&mut found));
        lane.lost();
        lane.feed(&[1, 5], each(&mut found));
        assert_eq!(found, [vec![5]]);
    }

    #[test]
    fn of_a_frame_that_was_cut_the_beginning_is_read_and_the_next_one_found() {
        let head = |bytes: &[u8]| Some(usize::from(bytes[0]) + 1);
        for split in 0..=4 {
            let mut found = Vec::new();
            let mut lane = Lane::new(true);
            lane.feed(&[1, 9, 6, 1], each(&mut found));
            // Five more bytes belong to the frame; some of them are in this segment, the rest in the next.
            assert!(lane.cut(5 - split, head));
            lane.feed(&[&vec![7; split][..], &[1, 8]].concat(), each(&mut found));
            assert_eq!(found, [vec![9], vec![8]], "{split} bytes in the next segment");
        }
        let mut lane = Lane::new(true);
        lane.feed(&[6, 1], each(&mut Vec::new()));
        assert!(!lane.cut(9, head) && !lane.in_step, "more was cut than this frame");
        assert!(!lane.cut(9, |_| panic!("there is no beginning")));
    }
}
