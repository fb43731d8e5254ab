//! Live traffic to a file and, packet by packet, to whatever looks at it.
//!
//! [`start`] opens the interfaces and leaves them to one thread of its own, which waits on all of them at once, and on the word to
//! stop. Each packet goes to a pcapng file and to a [`PacketSink`](crate::packet::PacketSink), under the same number. What fails is
//! told in the [`CaptureReport`](crate::api::CaptureReport) and stops nothing else: an interface that goes down is tried again every
//! second while the others are captured, and when the disk is full the packets still reach the sink.
//!
//! `live` is the only file that knows libpcap; without the feature `libpcap` its place is taken by `unavailable`. `file` is one
//! capture file with its limit; a recording that overlaps with the next is one thread that feeds two of them.

mod error;
mod file;
mod filter;
mod lane;
#[cfg(feature = "libpcap")]
mod live;
#[cfg(not(feature = "libpcap"))]
#[path = "unavailable.rs"]
mod live;
mod recorder;
mod recording;
mod rights;

pub use error::{CaptureError, OpenError};
pub use file::{CaptureFile, FileReport};
pub use filter::{endpoints_filter, without_vlan_part};
pub use recording::{Recording, RecordingOptions, start};
pub use rights::capability;
