//! One interface of a recording: open, down, gone or back.

use super::{OpenError, live::Live};
use crate::packet::InterfaceStatistics;
use nix::{ifaddrs::getifaddrs, net::if_::InterfaceFlags};
use std::time::{Duration, Instant};

/// How often an interface that is down or gone is tried again.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What is said of an interface that is not wanted any more.
const RETIRED: &str = "no longer captured";

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
    /// What went wrong, in words; it stays when the interface is captured again.
    pub error: Option<String>,
    /// When it is to be tried again; never, if that would not help.
    pub retry_at: Option<Instant>,
    /// Since when no packets can come.
    pub lost_at: Option<Instant>,
    /// Its numbers in the file: more than one if it came back as another kind of interface.
    pub file_interfaces: Vec<u32>,
    /// What was lost through handles that are closed.
    pub closed_losses: Losses,
    /// How often in a row it signalled an error without telling one.
    pub mute_errors: u32,
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
            error: open_error.as_ref().map(ToString::to_string),
            retry_at: may_retry.then(|| now + RETRY_AFTER),
            lost_at: open_error.is_some().then_some(now),
            open_error,
            file_interfaces: Vec::new(),
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

    /// Gives the handle up, for this reason, and has the interface tried again.
    pub fn close(&mut self, reason: String) {
        tracing::warn!(interface = self.name, "capture interrupted: {reason}");
        self.closed_losses = self.losses();
        self.live = None;
        self.error = Some(reason);
        self.lost_at = self.lost_at.or(Some(Instant::now()));
        self.retry_at = Some(Instant::now() + RETRY_AFTER);
        self.mute_errors = 0;
    }

    /// Gives the handle up because nobody wants the interface any more; its counts stay.
    pub fn retire(&mut self) {
        self.closed_losses = self.losses();
        self.live = None;
        self.retry_at = None;
        self.error = Some(RETIRED.into());
        self.lost_at = self.lost_at.or(Some(Instant::now()));
    }

    /// Whether nobody wants the interface any more.
    pub fn is_retired(&self) -> bool {
        self.live.is_none() && self.error.as_deref() == Some(RETIRED)
    }

    /// Has an interface tried that was given up.
    pub fn engage(&mut self) {
        if self.error.as_deref() == Some(RETIRED) {
            self.retry_at = Some(Instant::now());
        }
    }

    /// Notes that the interface is down. The handle stays open: packets come again when the interface is up.
    pub fn went_down(&mut self, now: Instant) {
        if self.lost_at.is_none() {
            tracing::warn!(interface = self.name, "interface down");
            self.error = Some("the interface went down".into());
            self.lost_at = Some(now);
        }
        self.retry_at = Some(now + RETRY_AFTER);
    }

    /// Notes that packets come again.
    pub fn came_back(&mut self, now: Instant) {
        let away = self.lost_at.take().map_or(Duration::ZERO, |lost_at| now.saturating_duration_since(lost_at));
        let reason = self.error.take().unwrap_or_default();
        tracing::info!(interface = self.name, ?away, "captured again");
        self.error = Some(format!("{reason} (captured again after {} s)", away.as_secs().max(1)));
        self.retry_at = None;
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
