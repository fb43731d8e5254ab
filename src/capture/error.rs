//! Why nothing can be captured.

use std::{fmt, io, time::Duration};
use thiserror::Error;

/// Why a recording could not begin.
#[derive(Debug, Error)]
pub enum CaptureError {
    /// Nobody said what to capture.
    #[error("no interface was named; name one, or check that the topology's addresses can be routed")]
    NoInterface,
    /// This host or this build cannot capture at all; the text says what would help.
    #[error("{0}")]
    Unavailable(String),
    /// None of the interfaces could be opened.
    #[error("no interface can be captured: {}", Listed(.0))]
    Interfaces(Vec<(String, OpenError)>),
    /// The capture's thread could not be started.
    #[error("the capture thread did not start: {0}")]
    Thread(#[source] io::Error),
}

/// Why an interface could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum OpenError {
    /// There is none of that name.
    #[error("there is no such interface")]
    NoSuchInterface,
    /// It is switched off; it will be captured when it is up.
    #[error("the interface is down")]
    Down,
    /// The right to capture is missing; the text says what would help.
    #[error("{0}")]
    NoRight(String),
    /// The filter is no valid BPF expression for this interface.
    #[error("the filter `{filter}` does not compile: {reason}")]
    Filter {
        /// The filter.
        filter: String,
        /// The compiler's words.
        reason: String,
    },
    /// Anything else, in libpcap's words.
    #[error("{0}")]
    Other(String),
}

impl OpenError {
    /// Whether it may go away while the recording lasts.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::NoSuchInterface | Self::Down | Self::Other(_))
    }
}

/// Interfaces and what is wrong with each, in one line.
struct Listed<'a>(&'a [(String, OpenError)]);

impl fmt::Display for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, error)) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { "; " };
            write!(f, "{separator}{name}: {error}")?;
        }
        Ok(())
    }
}

/// How an interface is opened.
#[derive(Debug, Clone, Copy)]
#[cfg_attr(not(feature = "libpcap"), allow(dead_code))]
pub(super) struct OpenSettings<'a> {
    /// BPF expression; empty lets everything through.
    pub filter: &'a str,
    /// The most bytes that are kept of a packet.
    pub snaplen: u32,
    /// The kernel's buffer.
    pub buffer_bytes: u32,
    /// How long the kernel may hold packets back to hand them over together.
    pub hold: Duration,
}
