//! IP packets put together from their fragments (RFC 791, RFC 8200), within bounded memory and time.

use super::Reject;
use super::header::ip::{Ip, Transport, transport_of};
use std::{
    collections::{HashMap, VecDeque},
    net::IpAddr,
};

/// Packets whose pieces are waited for at a time.
const MAX_PACKETS: usize = 64;
/// How long the pieces of a packet are waited for (RFC 1122, section 3.3.2 has 60 s; a capture knows of no such patience).
const MAX_AGE_NS: i64 = 30_000_000_000;
/// The longest payload that an IP header can tell of.
const MAX_BYTES: usize = 65_535;
/// Pieces of one packet.
const MAX_PIECES: usize = 128;

/// What all pieces of a packet have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    src: IpAddr,
    dst: IpAddr,
    /// Of IPv6 the identification alone tells (RFC 8200, section 4.5), and no other packet of it is of another protocol.
    protocol: u8,
    identification: u32,
}

#[derive(Debug)]
struct Pieces {
    began_at: i64,
    bytes: Vec<u8>,
    /// What is here: begin and end of each piece, ascending.
    here: Vec<(usize, usize)>,
    /// The length of the whole, once the last piece is here.
    len: Option<usize>,
    /// The protocol that the first piece names.
    protocol: u8,
}

/// Collects fragments. Pieces that overlap make a packet that nobody sends honestly (RFC 5722); it is dropped.
#[derive(Debug, Default)]
pub struct Fragments {
    packets: HashMap<Key, Pieces>,
    oldest_first: VecDeque<Key>,
    dropped: u64,
}

/// The payload of an IP packet that was sent in pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WholePayload {
    protocol: u8,
    is_v6: bool,
    bytes: Vec<u8>,
}

impl WholePayload {
    /// The transport in it.
    ///
    /// # Errors
    /// Its header breaks a rule.
    pub fn transport(&self) -> Result<Transport<'_>, Reject> {
        transport_of(self.protocol, &self.bytes, self.is_v6)
    }
}

impl Fragments {
    /// Takes a fragment that was captured at `at_ns`; gives the whole payload when it was the last piece missing. What is no fragment
    /// gives nothing.
    pub fn push(&mut self, ip: &Ip<'_>, cut: bool, at_ns: i64) -> Option<WholePayload> {
        let fragment = ip.fragment?;
        self.forget(at_ns);
        let protocol = if ip.src.is_ipv6() { 0 } else { ip.protocol };
        let key = Key { src: ip.src, dst: ip.dst, protocol, identification: fragment.identification };
        let begin = fragment.offset as usize;
        let end = begin.saturating_add(ip.payload.len());
        if cut || end > MAX_BYTES || ip.payload.is_empty() || (fragment.more && !ip.payload.len().is_multiple_of(8)) {
            self.remove(&key);
            return None;
        }
        if !self.packets.contains_key(&key) {
            if self.packets.len() >= MAX_PACKETS
                && let Some(oldest) = self.oldest_first.pop_front()
            {
                self.dropped += u64::from(self.packets.remove(&oldest).is_some());
            }
            self.oldest_first.push_back(key);
        }
        let pieces = self.packets.entry(key).or_insert_with(|| Pieces {
            began_at: at_ns,
            bytes: Vec::new(),
            here: Vec::new(),
            len: None,
            protocol: ip.protocol,
        });
        match pieces.add(begin, end, ip.payload, !fragment.more) {
            Added::Missing => {
                if begin == 0 {
                    pieces.protocol = ip.protocol;
                }
                None
            }
            Added::Whole => {
                let first_names = if begin == 0 { ip.protocol } else { pieces.protocol };
                let bytes = std::mem::take(&mut pieces.bytes);
                self.packets.remove(&key);
                self.oldest_first.retain(|known| *known != key);
                Some(WholePayload { protocol: first_names, is_v6: ip.src.is_ipv6(), bytes })
            }
            Added::Contradiction => {
                self.remove(&key);
                None
            }
        }
    }

    /// Packets whose pieces never came together, or contradicted one another.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Bytes that wait for others.
    pub fn waiting_bytes(&self) -> usize {
        self.packets.values().map(|pieces| pieces.bytes.len()).sum()
    }

    fn remove(&mut self, key: &Key) {
        self.dropped += u64::from(self.packets.remove(key).is_some());
        self.oldest_first.retain(|known| known != key);
    }

    fn forget(&mut self, now: i64) {
        while let Some(oldest) = self.oldest_first.front().copied() {
            match self.packets.get(&oldest) {
                Some(pieces) if now.saturating_sub(pieces.began_at) <= MAX_AGE_NS => break,
                _ => self.remove(&oldest),
            }
        }
    }
}

enum Added {
    Missing,
    Whole,
    Contradiction,
}

impl Pieces {
    fn add(&mut self, begin: usize, end: usize, payload: &[u8], is_last: bool) -> Added {
        if self.here.contains(&(begin, end)) {
            // The same piece once more.
            return Added::Missing;
        }
        let overlaps = self.here.iter().any(|&(from, to)| begin < to && from < end);
        let fits = self.len.is_none_or(|len| end <= len && !is_last) && (!is_last || self.here.iter().all(|&(_, to)| to <= begin));
        if overlaps || !fits || self.here.len() >= MAX_PIECES {
            return Added::Contradiction;
        }
        if is_last {
            self.len = Some(end);
        }
        if self.bytes.len() < end {
            self.bytes.resize(end, 0);
        }
        if let Some(place) = self.bytes.get_mut(begin..end) {
            place.copy_from_slice(payload);
        }
        self.here.push((begin, end));
        let have: usize = self.here.iter().map(|(from, to)| to - from).sum();
        if self.len == Some(have) { Added::Whole } else { Added::Missing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Fragment;
    use proptest::prelude::*;

    fn piece(payload: &[u8], offset: u32, more: bool) -> Ip<'_> {
        Ip {
            src: IpAddr::from([10, 0, 0, 1]),
            dst: IpAddr::from([10, 0, 0, 2]),
            number: 7,
            ttl: 64,
            protocol: 17,
            fragment: Some(Fragment { identification: 7, offset, more }),
            payload,
            transport: Transport::Fragment,
        }
    }

    #[test]
    fn pieces_in_any_order_make_the_whole() {
        let bytes: Vec<u8> = (0..40).collect();
        let parts = [(0, 16), (16, 32), (32, 40)];
        for order in [[0, 1, 2], [2, 1, 0], [1, 0, 2], [2, 0, 1]] {
            let mut fragments = Fragments::default();
            let mut whole = None;
            for at in order {
                let (begin, end) = parts[at];
                assert_eq!(whole, None);
                let ip = piece(&bytes[begin..end], begin as u32, end < 40);
                assert!(
                    end == 40
                        || fragments.push(&ip, false, 0).is_none_or(|found| {
                            whole = Some(found.bytes);
                            true
                        })
                );
                if end == 40 {
                    whole = fragments.push(&ip, false, 0).map(|found| found.bytes);
                }
            }
            assert_eq!(whole, Some(bytes.clone()), "{order:?}");
            assert_eq!((fragments.waiting_bytes(), fragments.dropped()), (0, 0));
        }
    }

    #[test]
    fn what_contradicts_itself_is_dropped_and_the_same_piece_twice_is_none() {
        let mut fragments = Fragments::default();
        fragments.push(&piece(&[1; 16], 0, true), false, 0);
        fragments.push(&piece(&[1; 16], 0, true), false, 0);
        assert_eq!(fragments.dropped(), 0);
        assert_eq!(fragments.push(&piece(&[2; 16], 8, true), false, 0), None);
        assert_eq!((fragments.dropped(), fragments.waiting_bytes()), (1, 0));
        for cut in [piece(&[1; 15], 0, true), piece(&[1; 8], 65_528, false)] {
            assert_eq!(fragments.push(&cut, false, 0), None);
        }
        assert_eq!(fragments.waiting_bytes(), 0);
    }

    #[test]
    fn what_never_comes_together_is_forgotten() {
        let mut fragments = Fragments::default();
        for identification in 0..1000 {
            let mut ip = piece(&[1; 8], 0, true);
            ip.fragment = Some(Fragment { identification, offset: 0, more: true });
            fragments.push(&ip, false, 0);
        }
        assert_eq!((fragments.packets.len(), fragments.oldest_first.len()), (MAX_PACKETS, MAX_PACKETS));
        fragments.push(&piece(&[1; 8], 0, true), false, MAX_AGE_NS + 1);
        assert_eq!(fragments.packets.len(), 1);
    }

    proptest! {
        #[test]
        fn any_pieces_stay_within_bounds(pieces in prop::collection::vec((0_u32..9000, 0_usize..2000, any::<bool>(), 0_u32..4, 0_i64..100), 0..200)) {
            let mut fragments = Fragments::default();
            for (offset, len, more, identification, seconds) in pieces {
                let payload = vec![0; len];
                let mut ip = piece(&payload, offset * 8, more);
                ip.fragment = Some(Fragment { identification, offset: offset * 8, more });
                if let Some(whole) = fragments.push(&ip, false, seconds * 1_000_000_000) {
                    prop_assert!(whole.bytes.len() <= MAX_BYTES);
                    let _ = whole.transport();
                }
                prop_assert!(fragments.waiting_bytes() <= MAX_PACKETS * MAX_BYTES);
                prop_assert_eq!(fragments.packets.len(), fragments.oldest_first.len());
            }
        }
    }
}
