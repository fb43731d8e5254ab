//! DNP3 (IEEE 1815): link frames, transport segments and the header of application fragments, from bytes and to bytes.
//!
//! A fragment of the application layer is cut into transport segments of at most 249 bytes, and each travels in one link frame:
//! ```
//! use netdiag::protocol::dnp3::{self, Application, Control, Function, LinkFunction, LinkHeader};
//!
//! let poll = Application::request(Control::request(3), Function::READ).bytes(&dnp3::objects::CLASS_1230);
//! let header = LinkHeader::from_master(LinkFunction::UnconfirmedUserData, 1024, 1);
//! let frames = dnp3::frames(header, 0, &poll);
//! assert_eq!(frames[..4], [0x05, 0x64, 0x14, 0xC4]);
//! ```

mod application;
mod crc;
mod indications;
mod link;
pub mod objects;
mod transport;

pub use application::{Application, Control, Function};
pub use crc::crc;
pub use indications::Indications;
pub use link::{Control as LinkControl, Frame, LinkError, LinkFunction, LinkHeader, MAX_USER_DATA, START, head, step};
pub use transport::{MAX_FRAGMENT, Pushed, Reassembler, Segment, frames};

/// The registered TCP and UDP port of DNP3.
pub const PORT: u16 = 20_000;
/// The link address that an outstation may answer to whatever its own is, and then answers from its own.
pub const SELF_ADDRESS: u16 = 0xFFFC;
/// Link addresses from here on are for all outstations, or reserved: nobody answers for them.
pub const FIRST_BROADCAST_ADDRESS: u16 = 0xFFFD;
