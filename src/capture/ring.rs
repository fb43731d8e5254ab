//! The packets of the last seconds, in memory: what a flight recorder saves when something has happened.

use crate::packet::{LinkType, Packet};
use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// How long packets are remembered, and in how much memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RingOptions {
    /// Packets older than this are forgotten.
    pub keep: Duration,
    /// The most bytes that packets take; the oldest are forgotten first.
    pub max_bytes: usize,
}

/// Packets lie in blocks of so many bytes, or less where less memory is allowed: memory is taken, forgotten and used again by the block.
const BLOCK_BYTES: usize = 256 * 1024;
/// In so many blocks memory is divided at least, so that little is forgotten at once.
const BLOCKS: usize = 16;

/// The ring. Age goes by arrival, on a clock that is never set.
#[derive(Debug)]
pub struct Ring {
    options: RingOptions,
    begun: Instant,
    blocks: VecDeque<Block>,
    /// A block that is to be used again.
    spare: Option<Vec<u8>>,
    /// All that came since is held, as far as it is not too old.
    whole_since: Instant,
}

#[derive(Debug)]
struct Block {
    /// Packets, each behind what is known of it.
    bytes: Vec<u8>,
    /// When the newest arrived.
    newest: Instant,
}

impl Ring {
    /// An empty ring, from now on.
    pub fn new(options: RingOptions, now: Instant) -> Self {
        Self { options, begun: now, blocks: VecDeque::new(), spare: None, whole_since: now }
    }

    /// How long packets are remembered.
    pub fn keep(&self) -> Duration {
        self.options.keep
    }

    /// Remembers for so long and in so much memory from now on; what it has is kept as far as that goes.
    pub fn set_options(&mut self, options: RingOptions, now: Instant) {
        self.expire(now);
        // What was too old until now is forgotten, also if it would not be any more.
        if let Some(oldest) = now.checked_sub(self.options.keep) {
            self.whole_since = self.whole_since.max(oldest);
        }
        self.options = options;
        self.spare = None;
        while self.used() > self.options.max_bytes
            && let Some(oldest) = self.blocks.pop_front()
        {
            self.whole_since = oldest.newest;
        }
    }

    /// How far back it goes without a gap.
    pub fn reach(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.whole_since).min(self.options.keep)
    }

    /// Takes a packet that arrived now.
    pub fn push(&mut self, packet: &Packet<'_>, now: Instant) {
        self.expire(now);
        let size = HEAD_BYTES + packet.data.len();
        if self.blocks.back().is_none_or(|block| block.bytes.capacity() - block.bytes.len() < size) && !self.begin_block(size, now)
        {
            self.whole_since = now;
            return;
        }
        if let Some(block) = self.blocks.back_mut() {
            block.newest = now;
            write(&mut block.bytes, now.saturating_duration_since(self.begun), packet);
        }
    }

    /// Gives every packet that is remembered, oldest first, with the number 0.
    pub fn replay(&self, now: Instant, mut each: impl FnMut(&Packet<'_>)) {
        let oldest = now.saturating_duration_since(self.begun).saturating_sub(self.options.keep);
        for block in &self.blocks {
            let mut bytes = &block.bytes[..];
            while let Some((arrived, packet)) = read(&mut bytes) {
                if arrived >= oldest {
                    each(&packet);
                }
            }
        }
    }

    /// Begins a block of at least so many bytes; false if there may never be as many.
    fn begin_block(&mut self, size: usize, now: Instant) -> bool {
        let max_bytes = self.options.max_bytes;
        let wanted = BLOCK_BYTES.min(max_bytes / BLOCKS).max(size);
        if wanted > max_bytes {
            return false;
        }
        loop {
            self.spare.take_if(|spare| spare.capacity() < wanted);
            if self.spare.is_some() || self.used() + wanted <= max_bytes {
                break;
            }
            let Some(oldest) = self.blocks.front() else { break };
            self.whole_since = oldest.newest;
            self.forget();
        }
        let bytes = self.spare.take().unwrap_or_else(|| Vec::with_capacity(wanted));
        self.blocks.push_back(Block { bytes, newest: now });
        true
    }

    /// The memory that is taken, whether it is full or not.
    fn used(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(|block| block.bytes.capacity()).sum();
        blocks + self.spare.as_ref().map_or(0, Vec::capacity)
    }

    fn expire(&mut self, now: Instant) {
        while self.blocks.front().is_some_and(|oldest| now.saturating_duration_since(oldest.newest) > self.options.keep) {
            self.forget();
        }
    }

    fn forget(&mut self) {
        if let Some(Block { mut bytes, .. }) = self.blocks.pop_front() {
            bytes.clear();
            self.spare = Some(bytes);
        }
    }
}

/// What stands before the bytes of each packet.
const HEAD_BYTES: usize = 30;

fn write(bytes: &mut Vec<u8>, arrived: Duration, packet: &Packet<'_>) {
    // 584 years, and no packet of 4 GiB.
    let arrived_ns = arrived.as_nanos() as u64;
    let len = packet.data.len() as u32;
    bytes.extend_from_slice(&arrived_ns.to_le_bytes());
    bytes.extend_from_slice(&packet.unix_ns.to_le_bytes());
    bytes.extend_from_slice(&packet.interface.to_le_bytes());
    bytes.extend_from_slice(&packet.link_type.0.to_le_bytes());
    bytes.extend_from_slice(&packet.wire_len.to_le_bytes());
    bytes.extend_from_slice(&len.to_le_bytes());
    bytes.extend_from_slice(packet.data);
}

/// The next packet and when it arrived.
fn read<'a>(bytes: &mut &'a [u8]) -> Option<(Duration, Packet<'a>)> {
    let arrived = Duration::from_nanos(u64::from_le_bytes(field(bytes)?));
    let unix_ns = i64::from_le_bytes(field(bytes)?);
    let interface = u32::from_le_bytes(field(bytes)?);
    let link_type = LinkType(u16::from_le_bytes(field(bytes)?));
    let wire_len = u32::from_le_bytes(field(bytes)?);
    let len = u32::from_le_bytes(field(bytes)?);
    let (data, rest) = bytes.split_at_checked(len as usize)?;
    *bytes = rest;
    Some((arrived, Packet { number: 0, unix_ns, interface, link_type, wire_len, data }))
}

fn field<const BYTES: usize>(bytes: &mut &[u8]) -> Option<[u8; BYTES]> {
    let (field, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn packet(data: &[u8]) -> Packet<'_> {
        Packet { number: 9, unix_ns: 7, interface: 1, link_type: LinkType::ETHERNET, wire_len: data.len() as u32 + 4, data }
    }

    fn held(ring: &Ring, now: Instant) -> Vec<Vec<u8>> {
        let mut held = Vec::new();
        ring.replay(now, |packet| {
            assert_eq!((packet.number, packet.unix_ns, packet.interface), (0, 7, 1));
            assert_eq!(packet.wire_len as usize, packet.data.len() + 4);
            held.push(packet.data.to_vec());
        });
        held
    }

    #[test]
    fn what_is_too_old_is_forgotten() {
        let begin = Instant::now();
        let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes: 1 << 20 }, begin);
        for second in 0..30_u8 {
            ring.push(&packet(&[second; 60]), begin + Duration::from_secs(second.into()));
        }
        let left = held(&ring, begin + Duration::from_secs(30));
        assert_eq!(left.iter().map(|data| data[0]).collect::<Vec<_>>(), (20..30).collect::<Vec<_>>());
        assert!(held(&ring, begin + Duration::from_secs(60)).is_empty(), "an idle link forgets, too");
    }

    #[test]
    fn it_reaches_back_to_its_beginning_or_to_what_had_no_room() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let three = 3 * (60 + HEAD_BYTES);
        let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes: three }, begin);
        let reach = |ring: &Ring, second| ring.reach(at(second)).as_secs();
        assert_eq!((reach(&ring, 4), reach(&ring, 40)), (4, 10));
        (40..43).for_each(|second| ring.push(&packet(&[0; 60]), at(second)));
        assert_eq!(reach(&ring, 43), 10);
        ring.push(&packet(&[0; 60]), at(43));
        assert_eq!(reach(&ring, 44), 4, "the packet of second 40 is gone, what came after it is there");
        ring.push(&packet(&vec![0; three]), at(45));
        assert_eq!(reach(&ring, 46), 1, "one that never fits is a gap");
    }

    #[test]
    fn a_busy_link_fills_the_memory_it_may_have_and_no_more() {
        let begin = Instant::now();
        let max_bytes = 10 << 20;
        let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(60), max_bytes }, begin);
        let each = 1000 + HEAD_BYTES;
        for number in 0..50_000 {
            ring.push(&packet(&[0; 1000]), begin + Duration::from_micros(number));
            assert!(ring.used() <= max_bytes);
        }
        let held_bytes = held(&ring, begin + Duration::from_secs(1)).len() * each;
        assert!(held_bytes > max_bytes / 10 * 9, "{held_bytes} of {max_bytes}");
        let later = begin + Duration::from_secs(61);
        ring.push(&packet(&[0; 1000]), later);
        assert!(ring.used() <= 2 * BLOCK_BYTES && held(&ring, later).len() == 1);
    }

    #[test]
    fn with_more_time_it_reaches_no_further_than_it_remembers_and_with_less_it_forgets() {
        let begin = Instant::now();
        let at = |second| begin + Duration::from_secs(second);
        let options = |seconds, max_bytes| RingOptions { keep: Duration::from_secs(seconds), max_bytes };
        let mut ring = Ring::new(options(10, 1 << 20), begin);
        (0..30_u8).for_each(|second| ring.push(&packet(&[second; 20_000]), at(second.into())));
        ring.set_options(options(60, 1 << 20), at(30));
        assert_eq!((ring.reach(at(30)).as_secs(), ring.reach(at(40)).as_secs()), (10, 20));
        assert!(held(&ring, at(30)).len() >= 10);
        ring.set_options(options(60, 3 * BLOCK_BYTES / 4), at(30));
        assert!(ring.used() <= 3 * BLOCK_BYTES / 4);
        let newest = held(&ring, at(30)).len() as u64;
        assert!((1..10).contains(&newest) && ring.reach(at(30)).as_secs() <= newest + 1, "{newest} and {:?}", ring.reach(at(30)));
        ring.set_options(options(2, 1 << 20), at(30));
        assert_eq!((held(&ring, at(30)).len(), ring.reach(at(30)).as_secs()), (2, 2));
    }

    proptest! {
        #[test]
        fn it_holds_the_newest_that_fit_and_never_more(sizes in prop::collection::vec(0_usize..400, 0..200), max_bytes in 0_usize..5_000) {
            let now = Instant::now();
            let mut ring = Ring::new(RingOptions { keep: Duration::from_secs(10), max_bytes }, now);
            let mut all = Vec::new();
            for (number, size) in (0_u8..).zip(&sizes) {
                let data = vec![number; *size];
                ring.push(&packet(&data), now);
                prop_assert!(ring.used() <= max_bytes);
                all.push(data);
            }
            all.retain(|data| data.len() + HEAD_BYTES <= max_bytes);
            let held = held(&ring, now);
            prop_assert!(all.ends_with(&held));
            prop_assert_eq!(held.is_empty(), all.is_empty());
        }
    }
}
