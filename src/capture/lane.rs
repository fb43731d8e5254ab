//! One interface of a recording: open, down, gone or back.

use super::{OpenError, live::Live};
use crate::packet::InterfaceStatistics;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use std::time::{Duration, Instant};

/// How often an interface that is down or gone is tried again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What was received and lost at an interface.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Losses {
    /// Packets that passed the filter.
    pub received: u64,
    /// Packets that the kernel dropped because they were not read in time.
    pub kernel_dropped: u64,
    /// Packets that the interface dropped.
    pub interface_dropped: u64,
}

impl Losses {
    /// What came since an earlier count.
    pub fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            kernel_dropped: self.kernel_dropped.saturating_sub(earlier.kernel_dropped),
            interface_dropped: self.interface_dropped.saturating_sub(earlier.interface_dropped),
        }
    }

    /// As a capture file carries it.
    pub fn statistics(self) -> InterfaceStatistics {
        InterfaceStatistics {
            received: self.received,
            interface_dropped: self.interface_dropped,
            kernel_dropped: self.kernel_dropped,
        }
    }

    fn add(&mut self, other: Self) {
        self.received += other.received;
        self.kernel_dropped += other.kernel_dropped;
        self.interface_dropped += other.interface_dropped;
    }
}

/// One interface of a recording.
pub struct Lane {
    /// The interface's name.
    pub name: String,
    /// The open handle, while there is one.
    pub live: Option<Live>,
    /// Why it could not be opened at the start.
    pub open_error: Option<OpenError>,
    /// What is wrong now, in words; none while it is captured.
    problem: Option<String>,
    /// How often it was away and came back; the last time in words, and when it was back.
    outages: u64,
    last_outage: String,
    back_at: Option<Instant>,
    /// When it is to be tried again; never, if that would not help.
    pub retry_at: Option<Instant>,
    /// Since when no packets can come.
    pub lost_at: Option<Instant>,
    /// Since when nobody wants it any more.
    retired_at: Option<Instant>,
    /// Its numbers in the capture: more than one if it came back as another kind of interface.
    pub numbers: Vec<u32>,
    /// What was lost through handles that are closed.
    pub closed_losses: Losses,
    /// How often in a row it signalled an error without telling one.
    pub mute_errors: u32,
}

/// What an interface had come to when a window began: what came before is none of that window's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Mark {
    losses: Losses,
    outages: u64,
}

impl Lane {
    /// An interface as opening it came out.
    pub fn new(name: String, opened: Result<Live, OpenError>) -> Self {
        let (live, open_error) = match opened {
            Ok(live) => (Some(live), None),
            Err(error) => (None, Some(error)),
        };
        let now = Instant::now();
        let may_retry = open_error.as_ref().is_some_and(OpenError::may_pass);
        Self {
            name,
            live,
            problem: open_error.as_ref().map(ToString::to_string),
            outages: 0,
            last_outage: String::new(),
            back_at: None,
            retry_at: may_retry.then(|| now + RETRY_AFTER),
            lost_at: open_error.is_some().then_some(now),
            retired_at: None,
            open_error,
            numbers: Vec::new(),
            closed_losses: Losses::default(),
            mute_errors: 0,
        }
    }

    /// What was lost so far, through all handles.
    pub fn losses(&mut self) -> Losses {
        let mut losses = self.closed_losses;
        if let Some(live) = &mut self.live {
            losses.add(live.losses());
        }
        losses
    }

    /// What it has come to now, but for an outage that ended after `begin`.
    pub fn mark(&mut self, begin: Instant) -> Mark {
        let within = u64::from(self.back_at.is_some_and(|back_at| back_at > begin));
        Mark { losses: self.losses(), outages: self.outages - within }
    }

    /// What it had come to when its present handle was opened.
    pub fn mark_of_handle(&self) -> Mark {
        Mark { losses: self.closed_losses, outages: self.outages }
    }

    /// What was lost since then.
    pub fn losses_since(&mut self, mark: Mark) -> Losses {
        self.losses().since(mark.losses)
    }

    /// What is wrong now, in words.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Why it was not captured all the time since then: what is wrong now, or what was.
    pub fn error_since(&self, mark: Mark) -> Option<String> {
        let was = || match self.outages.saturating_sub(mark.outages) {
            0 => None,
            1 => Some(self.last_outage.clone()),
            times => Some(format!("{}, the last of {times} times", self.last_outage)),
        };
        self.problem.clone().or_else(was)
    }

    /// Gives the handle up, for this reason, and has the interface tried again.
    pub fn close(&mut self, reason: String) {
        tracing::warn!(interface = self.name, "capture interrupted: {reason}");
        self.give_up(reason);
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
    }

    /// Gives the handle up because nobody wants the interface any more; its counts stay.
    pub fn retire(&mut self, now: Instant) {
        if self.retired_at.is_none() {
            self.give_up("no longer captured".into());
            self.retry_at = None;
            self.retired_at = Some(now);
        }
    }

    fn give_up(&mut self, reason: String) {
        self.closed_losses = self.losses();
        self.live = None;
        self.problem = Some(reason);
        self.lost_at = self.lost_at.or(Some(Instant::now()));
        self.mute_errors = 0;
    }

    /// Since when nobody wants the interface any more.
    pub fn retired_at(&self) -> Option<Instant> {
        self.retired_at
    }

    /// Has an interface tried that was given up. Its absence ends here: whoever begins now has missed nothing.
    pub fn engage(&mut self, now: Instant) {
        if self.retired_at.take().is_some() {
            self.end_outage(now);
            self.problem = Some("not opened yet".into());
            self.retry_at = Some(now);
        }
    }

    /// It could not be opened again; it is tried once more, if that may help.
    pub fn still_lost(&mut self, error: &OpenError, now: Instant) {
        self.problem = Some(error.to_string());
        self.lost_at = self.lost_at.or(Some(now));
        self.retry_at = error.may_pass().then(|| now + RETRY_AFTER);
    }

    /// Has an interface tried that could not be opened and is still wanted.
    pub fn engage_again(&mut self, now: Instant) {
        if self.live.is_none() && self.retired_at.is_none() {
            self.retry_at = Some(now);
        }
    }

    /// Notes that the interface is down. The handle stays open: packets come again when the interface is up.
    pub fn went_down(&mut self, now: Instant) {
        if self.lost_at.is_none() {
            tracing::warn!(interface = self.name, "interface down");
            self.problem = Some("the interface went down".into());
            self.lost_at = Some(now);
        }
        self.retry_at = Some(now + RETRY_AFTER);
    }

    /// Notes that packets come again.
    pub fn came_back(&mut self, now: Instant) {
        self.end_outage(now);
        self.problem = None;
        self.retry_at = None;
    }

    fn end_outage(&mut self, now: Instant) {
        let Some(lost_at) = self.lost_at.take() else { return };
        let away = now.saturating_duration_since(lost_at);
        let reason = self.problem.take().unwrap_or_default();
        tracing::info!(interface = self.name, ?away, "captured again");
        self.outages += 1;
        self.last_outage = format!("{reason} (captured again after {} s)", away.as_secs().max(1));
        self.back_at = Some(now);
    }
}

/// Whether an interface is switched on and has a link. One that cannot be looked up is taken for up: its handle will tell.
pub fn is_up(name: &str) -> bool {
    getifaddrs().map_or(true, |mut addresses| {
        addresses.any(|address| {
            address.interface_name == name && address.flags.contains(InterfaceFlags::IFF_UP | InterfaceFlags::IFF_RUNNING)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn absent() -> Lane {
        Lane::new("absent".into(), Err(OpenError::NoSuchInterface))
    }

    #[test]
    fn an_outage_is_told_of_the_time_in_which_it_was_and_not_after() {
        let mut lane = absent();
        let now = Instant::now();
        let begin = Mark::default();
        assert_eq!(lane.error_since(begin).as_deref(), Some("there is no such interface"));
        lane.came_back(now + Duration::from_secs(3));
        assert_eq!((lane.problem(), lane.lost_at), (None, None));
        assert_eq!(lane.error_since(begin).as_deref(), Some("there is no such interface (captured again after 3 s)"));
        let within = lane.mark(now);
        assert!(lane.error_since(within).is_some(), "it had begun before the outage ended");
        let later = lane.mark(now + Duration::from_secs(3));
        assert_eq!(lane.error_since(later), None, "what was before is over");
        lane.went_down(now);
        assert_eq!(lane.error_since(later).as_deref(), Some("the interface went down"));
        lane.came_back(now);
        assert_eq!(lane.error_since(later).as_deref(), Some("the interface went down (captured again after 1 s)"));
        assert!(lane.error_since(begin).unwrap().ends_with(", the last of 2 times"));
    }

    #[test]
    fn one_that_is_wanted_again_and_cannot_be_opened_says_why() {
        let mut lane = absent();
        let now = Instant::now();
        lane.retire(now);
        lane.retire(now + RETRY_AFTER);
        assert_eq!((lane.retired_at(), lane.retry_at, lane.problem()), (Some(now), None, Some("no longer captured")));
        lane.engage(now);
        assert_eq!((lane.retired_at(), lane.retry_at), (None, Some(now)));
        let begin = lane.mark(now);
        lane.came_back(now);
        assert_eq!(lane.error_since(begin), None, "nobody wanted it before");
        assert!(lane.error_since(Mark::default()).unwrap().starts_with("no longer captured"));
        lane.still_lost(&OpenError::Down, now);
        assert!(lane.lost_at.is_some());
        assert_eq!((lane.problem(), lane.retry_at), (Some("the interface is down"), Some(now + RETRY_AFTER)));
        lane.still_lost(&OpenError::NoRight("no right".into()), now);
        assert_eq!((lane.problem(), lane.retry_at), (Some("no right"), None));
    }
}
