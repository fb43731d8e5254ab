//! All interfaces of a capture at once: waited for, read in batches, and tried again when they were away.

use super::{
    error::OpenSettings,
    lane::{Lane, Losses, RETRY_AFTER, is_up},
    live::Live,
};
use crate::packet::{InterfaceDescription, Packet};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};
use std::{
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
    /// What packets name by number: an interface of one name and one link type. It only grows.
    described: Vec<InterfaceDescription>,
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
        let mut intake = Self { options, lanes: Vec::new(), described: Vec::new() };
        intake.set_interfaces(interfaces);
        intake
    }

    /// Captures these from now on, and no others. A lane that is given up keeps its counts.
    pub fn set_interfaces(&mut self, interfaces: &[String]) {
        for lane in self.lanes.iter_mut().filter(|lane| !interfaces.contains(&lane.name)) {
            lane.retire();
        }
        for name in interfaces {
            if let Some(lane) = self.lanes.iter_mut().find(|lane| lane.name == *name) {
                lane.engage();
                continue;
            }
            let opened = Live::open(name, &self.options.open());
            self.lanes.push(Lane::new(name.clone(), opened));
            self.describe(self.lanes.len() - 1);
        }
    }

    /// The interfaces, also those that are away.
    pub fn lanes(&self) -> &[Lane] {
        &self.lanes
    }

    /// What was received and lost at each interface so far.
    pub fn losses(&mut self) -> Vec<Losses> {
        self.lanes.iter_mut().map(Lane::losses).collect()
    }

    /// The interfaces that packets name by number.
    pub fn described(&self) -> &[InterfaceDescription] {
        &self.described
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
        let (Some(live), Some(&interface)) = (&mut lane.live, lane.file_interfaces.last()) else { return };
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
                if taken > 0 && lane.lost_at.is_some() {
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
                Err(error) => lane.retry_at = error.may_pass().then(|| now + RETRY_AFTER),
            }
        }
    }

    /// Gives an open interface its number: the one it had before, if it came back as it was.
    fn describe(&mut self, index: usize) {
        let Some(lane) = self.lanes.get_mut(index) else { return };
        let Some(link_type) = lane.live.as_ref().map(Live::link_type) else { return };
        let known = self.described.iter().position(|known| known.name == lane.name && known.link_type == link_type);
        let number = known.unwrap_or(self.described.len());
        if known.is_none() {
            let filter = Some(self.options.filter.clone()).filter(|filter| !filter.is_empty());
            let snaplen = self.options.snaplen;
            self.described.push(InterfaceDescription { name: lane.name.clone(), link_type, snaplen, filter });
        }
        let number = u32::try_from(number).unwrap_or(u32::MAX);
        lane.file_interfaces.retain(|&earlier| earlier != number);
        lane.file_interfaces.push(number);
    }
}
