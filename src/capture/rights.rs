//! Whether this process may capture, and what to do if not.

use super::live;
use crate::api::Capability;
use nix::errno::Errno;
use socket2::{Domain, Socket, Type};
use std::io;

/// Whether this host lets netdiag capture; if not, the reason says what to do.
pub fn capability() -> Capability {
    match live::LIBRARY {
        Err(reason) => Capability { available: false, reason: Some(reason.into()) },
        Ok(library) => match packet_socket() {
            Ok(()) => Capability { available: true, reason: Some(library.into()) },
            Err(error) => Capability { available: false, reason: Some(no_right(&error)) },
        },
    }
}

/// Opens and closes the kind of socket that a capture needs. With protocol 0 it receives nothing.
fn packet_socket() -> io::Result<()> {
    Socket::new(Domain::PACKET, Type::RAW, None).map(drop)
}

/// Whether the right to capture is missing, and then what would help.
#[cfg_attr(not(feature = "libpcap"), allow(dead_code))]
pub(super) fn missing_right() -> Option<String> {
    packet_socket().err().map(|error| no_right(&error))
}

fn no_right(error: &io::Error) -> String {
    let program = std::env::current_exe().map_or_else(|_| "netdiag".into(), |path| path.display().to_string());
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::EPERM | Errno::EACCES) => format!(
            "no right to capture: CAP_NET_RAW is missing. Run as root, or `setcap cap_net_raw+ep {program}`, or put \
             `AmbientCapabilities=CAP_NET_RAW` into the systemd unit"
        ),
        Some(Errno::EAFNOSUPPORT) => {
            "this kernel has no packet sockets: load the module `af_packet`, or allow AF_PACKET in the systemd unit's \
             `RestrictAddressFamilies`"
                .into()
        }
        _ => format!("packet sockets cannot be opened: {error}"),
    }
}
