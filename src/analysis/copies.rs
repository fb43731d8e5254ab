//! Packets that were captured twice: which ones were here a moment ago.

use super::{hasher::QuickHasher, shared::Limits};
use crate::packet::{Tcp, Udp};
use std::hash::Hasher as _;

/// Packets of one side that are remembered: so many may pass before the copy of the first one comes.
const REMEMBERED: usize = 8;
/// Bytes of a segment's options that tell it from another one.
const TELLING_OPTIONS: usize = 12;
/// Bytes of a datagram that tell it from another one.
const TELLING_BYTES: usize = 64;

/// What tells a packet from the others of its side.
///
/// A packet that is sent again gets another number from its sender's IPv4 and often another time stamp; a copy has the same. The time
/// to live is no part of it: a mirror port may see a packet before and behind a router.
#[derive(Debug, Clone, Copy)]
pub(super) struct Print {
    hash: u64,
    /// Whether the sender's IPv4 numbers its packets, ...
    is_numbered: bool,
    /// ... or, where it does not, as over IPv6, its TCP puts the time on them.
    is_stamped: bool,
}

impl Print {
    /// Of a segment in a packet with this number; 0 is none.
    pub fn of_segment(number: u16, tcp: &Tcp<'_>) -> Self {
        let (first, rest) = match tcp.raw_options.first_chunk::<TELLING_OPTIONS>() {
            Some([a, b, c, d, e, f, g, h, rest @ ..]) => {
                (u64::from_ne_bytes([*a, *b, *c, *d, *e, *f, *g, *h]), u32::from_ne_bytes(*rest))
            }
            None => (tcp.raw_options.len() as u64, 0),
        };
        let mut hasher = QuickHasher::unseeded();
        hasher.write_u64(u64::from(tcp.seq) << 32 | u64::from(tcp.ack));
        hasher.write_u64(u64::from(number) << 48 | u64::from(tcp.window) << 32 | u64::from(tcp.payload_len));
        hasher.write_u64(first);
        hasher.write_u64(u64::from(tcp.flags.0) << 32 | u64::from(rest));
        Self { hash: hasher.finish(), is_numbered: number != 0, is_stamped: number == 0 && has_time(tcp.raw_options) }
    }

    /// Of a datagram in a packet with this number.
    pub fn of_datagram(number: u16, udp: &Udp<'_>) -> Self {
        let mut hasher = QuickHasher::unseeded();
        hasher.write_u64(u64::from(number) << 32 | u64::from(udp.payload_len));
        hasher.write(udp.payload.get(..TELLING_BYTES).unwrap_or(udp.payload));
        Self { hash: hasher.finish(), is_numbered: number != 0, is_stamped: false }
    }

    /// Whether the sender's IPv4 numbers its packets, so that a copy can be told from what was sent again.
    pub fn is_numbered(self) -> bool {
        self.is_numbered
    }

    /// Whether it has no such number, and its TCP has put the time on it: what is sent again later has another, unless the sender's clock is
    /// a slow one.
    pub fn is_stamped(self) -> bool {
        self.is_stamped
    }

    fn window(self, limits: &Limits) -> i64 {
        if self.is_numbered || self.is_stamped { limits.numbered_copy_window } else { limits.copy_window }
    }
}

/// Whether the time stamp (RFC 7323: kind 8, length 10) is among the options that tell a segment from another.
fn has_time(mut options: &[u8]) -> bool {
    let mut before = 0;
    loop {
        let length = match options {
            [8, 10, rest @ ..] => return rest.len() >= 4 && before + 6 <= TELLING_OPTIONS,
            // The end of the options, or one without a length.
            [] | [0, ..] | [_] => return false,
            [1, ..] => 1,
            [_, length, ..] => usize::from(*length).max(2),
        };
        before += length;
        options = options.get(length..).unwrap_or_default();
    }
}

/// The latest packets of one side.
#[derive(Debug, Default)]
pub(super) struct Recent {
    hashes: [u64; REMEMBERED],
    /// In microseconds, as far as they fit: no two packets alike are an hour apart.
    at_us: [u32; REMEMBERED],
    next: u8,
}

impl Recent {
    /// Whether a packet at this time is a copy of one that was here just now. If not it is remembered.
    pub fn has(&mut self, print: Print, at_ns: i64, limits: &Limits) -> bool {
        let at_us = at_ns.div_euclid(1_000) as u32;
        let window_us = (print.window(limits) / 1_000) as u64;
        let soon = |known: u32| u64::from(at_us.wrapping_sub(known).min(known.wrapping_sub(at_us))) <= window_us;
        let mut known = self.hashes.iter().zip(&self.at_us);
        if window_us > 0 && known.any(|(&hash, &known)| hash == print.hash && soon(known)) {
            return true;
        }
        let place = usize::from(self.next) % REMEMBERED;
        (self.hashes[place], self.at_us[place]) = (print.hash, at_us);
        self.next = ((place + 1) % REMEMBERED) as u8;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis::AnalysisSettings, packet::TcpFlags};

    fn print(number: u16, seq: u32) -> Print {
        let tcp = Tcp {
            src_port: 1,
            dst_port: 2,
            seq,
            ack: 7,
            flags: TcpFlags(TcpFlags::ACK),
            window: 100,
            raw_options: &[],
            payload: &[],
            payload_len: 5,
        };
        Print::of_segment(number, &tcp)
    }

    #[test]
    fn a_number_tells_a_copy_from_what_was_sent_again() {
        let limits = Limits::new(&AnalysisSettings::default());
        let ms = 1_000_000;
        let mut recent = Recent::default();
        assert!(!recent.has(print(9, 1), 0, &limits));
        assert!(recent.has(print(9, 1), 50 * ms, &limits), "the same number");
        assert!(!recent.has(print(10, 1), 50 * ms, &limits), "another one");
        assert!(!recent.has(print(9, 1), 200 * ms, &limits), "too late");
        assert!(!recent.has(print(0, 1), 300 * ms, &limits));
        assert!(recent.has(print(0, 1), 300 * ms + 50_000, &limits), "without numbers only the time tells");
        assert!(!recent.has(print(0, 1), 301 * ms, &limits));
    }

    #[test]
    fn a_time_stamp_is_found_where_it_tells() {
        let stamp = [8, 10, 1, 2, 3, 4, 5, 6, 7, 8];
        assert!(has_time(&[&[1, 1][..], &stamp].concat()) && has_time(&[&stamp[..], &[1, 1]].concat()));
        assert!(has_time(&[&[2, 4, 5, 0xB4][..], &[4, 2], &stamp].concat()), "of a SYN");
        assert!(!has_time(&[&[2, 4, 5, 0xB4][..], &[3, 3, 7, 1], &stamp].concat()), "behind what is looked at");
        for none in [&[][..], &[1], &[0, 8, 10, 1, 2, 3, 4], &[8, 10, 1], &[5, 0, 8, 10], &[5], &[9, 200, 8, 10]] {
            assert!(!has_time(none), "{none:?}");
        }
    }

    #[test]
    fn copies_are_known_when_others_passed_between_and_the_clock_runs_back() {
        let limits = Limits::new(&AnalysisSettings::default());
        let mut recent = Recent::default();
        for round in 0..3 {
            for seq in 0..REMEMBERED as u32 {
                assert_eq!(recent.has(print(1, seq), i64::from(seq) * 1_000 - round * 5_000, &limits), round > 0);
            }
        }
    }
}
