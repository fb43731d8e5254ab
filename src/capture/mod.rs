//! Live traffic to a file and, packet by packet, to whatever looks at it.
//!
//! [`start`] opens the interfaces and leaves them to one thread of its own, which waits on all of them at once, and on the word to
//! stop. Each packet goes to a pcapng file and to a [`PacketSink`](crate::packet::PacketSink), under the same number. What fails is
//! told in the [`CaptureReport`](crate::api::CaptureReport) and stops nothing else: an interface that goes down is tried again every
//! second while the others are captured, and when the disk is full the packets still reach the sink.
//!
//! `live` is the only file that knows libpcap; without the feature `libpcap` its place is taken by `unavailable`. `file` is one
//! capture file with its limit. A `recorder` feeds one file and ends with it; [`continuous`](Continuous) never ends: windows are
//! opened and closed on it while it goes on, each a file and a sink of its own, so that one may overlap with the next, and a window
//! may begin with the last seconds before it was opened, out of the `ring`.

mod continuous;
mod error;
mod file;
mod filter;
mod intake;
mod lane;
#[cfg(feature = "libpcap")]
mod live;
#[cfg(not(feature = "libpcap"))]
#[path = "unavailable.rs"]
mod live;
mod recorder;
mod recording;
mod rights;
mod ring;
mod window;

pub use continuous::{AtSeam, Continuous, ContinuousOptions, InterfaceState, WindowOptions};
pub use error::{CaptureError, OpenError};
pub use file::{CaptureFile, FileReport};
pub use filter::{covers, endpoints_filter, without_vlan_part};
pub use live::check_filter;
pub use recording::{Recording, RecordingOptions, start};
pub use rights::capability;
pub use window::{ClosedWindow, WindowProgress};
