//! All interfaces of a capture at once: waited for, read in batches, and tried again when they were away.

use super::{
    error::OpenSettings,
    lane::{Lane, RETRY_AFTER, is_up},
    live::Live,
};
use crate::packet::{InterfaceDescription, Packet};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
    collections::BTreeMap,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

/// Packets that are handed over before the next interface has its turn.
const BATCH: usize = 256;
/// How often in a row an interface may signal an error without telling one.
const MUTE_ERRORS: u32 = 3;

/// How every interface of a capture is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IntakeOptions {
    /// BPF expression; empty lets everything through.
    pub filter: String,
    /// The most bytes that are kept of a packet.
    pub snaplen: u32,
    /// The kernel's buffer for each interface.
    pub buffer_bytes: u32,
    /// How long the kernel may hold packets back to hand them over together. Its buffer is made of blocks, and each is handed over at the
    /// latest after this time, full or not: the shorter, the shorter a stall that the buffer bridges.
    pub hold: Duration,
}

impl IntakeOptions {
    fn open(&self) -> OpenSettings<'_> {
        OpenSettings { filter: &self.filter, snaplen: self.snaplen, buffer_bytes: self.buffer_bytes, hold: self.hold }
    }
}

/// The interfaces of a capture.
pub struct Intake {
    options: IntakeOptions,
    lanes: Vec<Lane>,
    /// What packets name by number: an interface of one name and one link type.
    described: BTreeMap<u32, InterfaceDescription>,
    next_number: u32,
    /// How often `lanes` or `described` has changed.
    changes: u64,
}

/// What there is to do after a sleep.
pub struct Ready {
    /// Interfaces with something to tell.
    pub lanes: Vec<(usize, PollFlags)>,
    /// The word has come on the descriptor that was waited for beside them.
    pub called: bool,
}

impl Intake {
    /// Opens interfaces; what cannot be opened is in its lane's words, and is tried again if that may help.
    pub fn open(options: IntakeOptions, interfaces: &[String]) -> Self {
        let mut intake = Self { options, lanes: Vec::new(), described: BTreeMap::new(), next_number: 0, changes: 0 };
        intake.set_interfaces(interfaces, Instant::now());
        intake
    }

    /// Captures these from now on, and no others. A lane that is given up keeps its counts until it is [forgotten](Self::forget).
    pub fn set_interfaces(&mut self, interfaces: &[String], now: Instant) {
        for lane in self.lanes.iter_mut().filter(|lane| !interfaces.contains(&lane.name)) {
            lane.retire(now);
        }
        for name in interfaces {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == *name) {
                lane.engage(now);
                continue;
            }
            let opened = Live::open(name, &self.options.open());
            self.lanes.push(Lane::new(name.clone(), opened));
            self.describe(self.lanes.len() - 1);
        }
        self.changes += 1;
    }

    /// Forgets interfaces that nobody wants any more, where nobody needs them for what they gave before.
    pub fn forget(&mut self, may_go: impl Fn(&Lane, Instant) -> bool) {
        let described = &mut self.described;
        let gone = self.lanes.extract_if(.., |lane| lane.retired_at().is_some_and(|retired_at| may_go(lane, retired_at)));
        for lane in gone {
            lane.numbers.iter().for_each(|number| drop(described.remove(number)));
            self.changes += 1;
        }
    }

    /// Lets through what this BPF expression says from now on. The handles stay open, so nothing is lost over it.
    pub fn set_filter(&mut self, filter: String, now: Instant) {
        self.options.filter = filter;
        for lane in &mut self.lanes {
            match lane.live.as_mut().map(|live| live.set_filter(&self.options.filter)) {
                Some(Err(error)) => lane.close(error.to_string()),
                Some(Ok(())) => {}
                // The former one may have been what kept it from being opened.
                None => lane.engage_again(now),
            }
        }
        let filter = Some(self.options.filter.clone()).filter(|filter| !filter.is_empty());
        self.described.values_mut().for_each(|described| described.filter.clone_from(&filter));
    }

    /// The interfaces, also those that are away.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// The interfaces, to have their counters read.
    pub fn lanes_mut(&mut self) -> &mut [Lane] {
        &mut self.lanes
    }

    /// The interfaces that packets name by number. Numbers only grow.
    pub fn described(&self) -> &BTreeMap<u32, InterfaceDescription> {
        &self.described
    }

    /// How often there was another interface to know of, or one less.
    pub fn changes(&self) -> u64 {
        self.changes
    }

    /// When an interface is to be looked at again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.lanes.iter().filter_map(|lane| lane.retry_at).min()
    }

    /// Sleeps until there are packets, or a word on `call`, or the time is over.
    pub fn wait(&self, call: Option<BorrowedFd<'_>>, timeout: Option<Duration>) -> Result<Ready, Errno> {
        let mut indices = Vec::with_capacity(self.lanes.len());
        let mut descriptors = Vec::with_capacity(self.lanes.len() + 1);
        for (index, lane) in self.lanes.iter().enumerate() {
            if let Some(live) = &lane.live {
                indices.push(index);
                descriptors.push(PollFd::new(live.as_fd(), PollFlags::POLLIN));
            }
        }
        descriptors.extend(call.map(|call| PollFd::new(call, PollFlags::POLLIN)));
        // Rounded up, or the last part of a millisecond would be spent without sleep.
        let timeout =
            timeout.map_or(PollTimeout::NONE, |timeout| PollTimeout::try_from(timeout.as_millis() + 1).unwrap_or(PollTimeout::MAX));
        match poll(&mut descriptors, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno),
        }
        let mut flags = descriptors.iter().map(|descriptor| descriptor.revents().unwrap_or(PollFlags::empty()));
        let lanes = indices.into_iter().zip(flags.by_ref()).filter(|(_, flags)| !flags.is_empty()).collect();
        Ok(Ready { lanes, called: flags.next().is_some_and(|flags| !flags.is_empty()) })
    }

    /// Takes a batch of packets from an interface. They come with the number 0.
    pub fn take(&mut self, index: usize, flags: PollFlags, mut each: impl FnMut(Packet<'_>)) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let (Some(live), Some(&interface)) = (&mut lane.live, lane.numbers.last()) else { return };
        let link_type = live.link_type();
        let taken = live.dispatch(BATCH, |unix_ns, wire_len, data| {
            each(Packet { number: 0, unix_ns, interface, link_type, wire_len, data });
        });
        match taken {
            Err(reason) => lane.close(reason),
            Ok(taken) if flags.intersects(PollFlags::POLLERR | PollFlags::POLLHUP | PollFlags::POLLNVAL) => {
                lane.went_down(Instant::now());
                lane.mute_errors = if taken == 0 { lane.mute_errors + 1 } else { 0 };
                if lane.mute_errors >= MUTE_ERRORS {
                    lane.close("the interface went down or is gone".into());
                }
            }
            Ok(taken) => {
                lane.mute_errors = 0;
                // An interface that is down may still hand over what it took before.
                if taken > 0 && lane.lost_at.is_some() && is_up(&lane.name) {
                    lane.came_back(Instant::now());
                }
            }
        }
    }

    /// Looks again at the interfaces that are due: those that are open and down, and those that could not be opened.
    pub fn retry(&mut self, now: Instant) {
        for index in 0..self.lanes.len() {
            let Some(lane) = self.lanes.get_mut(index).filter(|lane| lane.retry_at.is_some_and(|retry_at| retry_at <= now)) else {
                continue;
            };
            if lane.live.is_some() {
                if is_up(&lane.name) {
                    lane.came_back(now)
                } else {
                    lane.retry_at = Some(now + RETRY_AFTER)
                }
                continue;
            }
            match Live::open(&lane.name, &self.options.open()) {
                Ok(live) => {
                    lane.live = Some(live);
                    lane.came_back(now);
                    self.describe(index);
                }
                Err(error) => lane.still_lost(&error, now),
            }
        }
    }

    /// Gives an open interface its number: the one it had before, if it came back as it was.
    fn describe(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(link_type) = lane.live.as_ref().map(Live::link_type) else { return };
        let is_it = |known: &InterfaceDescription| known.name == lane.name && known.link_type == link_type;
        let known = self.described.iter().find(|(_, known)| is_it(known)).map(|(number, _)| *number);
        let number = known.unwrap_or(self.next_number);
        if known.is_none() {
            let filter = Some(self.options.filter.clone()).filter(|filter| !filter.is_empty());
            let description = InterfaceDescription { name: lane.name.clone(), link_type, snaplen: self.options.snaplen, filter };
            self.described.insert(number, description);
            self.next_number += 1;
            self.changes += 1;
        }
        lane.numbers.retain(|&earlier| earlier != number);
        lane.numbers.push(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_and_went_is_forgotten_when_nobody_needs_it() {
        let options = IntakeOptions { filter: String::new(), snaplen: 65_535, buffer_bytes: 1 << 20, hold: Duration::ZERO };
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let mut intake = Intake::open(options, &names(&["stays"]));
        for number in 0..100 {
            intake.set_interfaces(&names(&["stays", &format!("veth{number}")]), Instant::now());
            intake.forget(|lane, _| lane.name != "veth7");
        }
        let left: Vec<&str> = intake.lanes().iter().map(|lane| &*lane.name).collect();
        assert_eq!(left, ["stays", "veth7", "veth99"]);
        assert!(intake.lanes().iter().all(|lane| lane.retired_at().is_some() == (lane.name == "veth7")));
    }
}
