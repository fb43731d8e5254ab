//! Errors of the kernel in words that say what to look at.

use nix::errno::Errno;
use std::{
    io,
    net::{IpAddr, Ipv4Addr},
};

/// Whether a packet had left when the error came: before, it is about this host; after, it may be what the network answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum When {
    BeforeSending,
    AfterSending,
}

/// The error number of an I/O error, if the kernel gave one.
pub(super) fn errno(error: &io::Error) -> Option<Errno> {
    error.raw_os_error().map(Errno::from_raw)
}

/// What an error number of `connect` or `sendto` means for the one who looks for the cause.
pub(super) fn explain(error: &io::Error, when: When) -> String {
    let Some(errno) = errno(error) else { return error.to_string() };
    let meaning = match (errno, when) {
        (Errno::ENETUNREACH, When::BeforeSending) => "this host has no route to it",
        (Errno::ENETUNREACH, When::AfterSending) => "a router has no route to it",
        (Errno::EHOSTUNREACH, When::BeforeSending) => "a route of this host declares it unreachable",
        (Errno::EHOSTUNREACH, When::AfterSending) => {
            "host unreachable: nobody answered for its address, or a router says so; a capture tells which"
        }
        (Errno::EACCES, When::BeforeSending) => "a route of this host prohibits it, or it is a broadcast address",
        (Errno::EACCES, When::AfterSending) => "a router says that it is administratively prohibited",
        (Errno::EPERM, _) => "this host's own firewall does not let it out",
        (Errno::EHOSTDOWN, _) => "a router says that the host is unknown",
        (Errno::ENONET, _) => "a router says that this host is isolated",
        (Errno::ENOPROTOOPT, _) => "it says that it does not speak TCP",
        (Errno::ENETDOWN, _) => "the interface towards it is down",
        (Errno::EINVAL, _) => "a route of this host discards it (blackhole), or a link-local address lacks its interface",
        (Errno::ETIMEDOUT, _) => "no answer, and the kernel gave up",
        (Errno::EADDRNOTAVAIL, _) => "this host has no free local port, or no address to send from",
        (Errno::EMFILE, _) => {
            "this process has too many open files; raise its limit (LimitNOFILE=, ulimit -n) or lower the concurrency"
        }
        (Errno::ENFILE, _) => "this host has too many open files; see fs.file-max",
        (Errno::ENOBUFS | Errno::ENOMEM, _) => {
            "the kernel has no buffer left, or its neighbour table is full; see net.ipv4.neigh.default.gc_thresh3"
        }
        (Errno::EAFNOSUPPORT, _) => "this host does not speak this kind of address; IPv6 may be switched off",
        _ => return error.to_string(),
    };
    format!("{meaning} ({errno})")
}

/// The address as it is probed (an IPv4 address in IPv6 clothes is taken out of them), or why it is not one to probe.
///
/// Asking a group would ask every device of it at once, and the unspecified address would quietly ask this host itself.
pub(super) fn single_host(address: IpAddr) -> Result<IpAddr, String> {
    let address = address.to_canonical();
    let what = match address {
        address if address.is_unspecified() => "the unspecified address",
        address if address.is_multicast() => "a multicast address",
        IpAddr::V4(Ipv4Addr::BROADCAST) => "the broadcast address",
        address => return Ok(address),
    };
    Err(format!("{address} is {what}; only single hosts are probed"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_and_the_unspecified_address_are_never_probed() {
        for address in ["0.0.0.0", "::", "::ffff:0.0.0.0", "224.0.0.1", "ff02::1", "255.255.255.255"] {
            let why = single_host(address.parse().unwrap()).unwrap_err();
            assert!(why.contains("only single hosts are probed"), "{address}: {why}");
        }
        assert_eq!(single_host("::ffff:192.0.2.7".parse().unwrap()), Ok("192.0.2.7".parse().unwrap()));
        assert_eq!(single_host("fe80::1".parse().unwrap()), Ok("fe80::1".parse().unwrap()));
    }

    #[test]
    fn the_same_number_means_another_thing_before_and_after_sending() {
        let error = io::Error::from_raw_os_error(Errno::ENETUNREACH as i32);
        assert!(explain(&error, When::BeforeSending).starts_with("this host has no route"));
        assert!(explain(&error, When::AfterSending).starts_with("a router has no route"));
        assert!(explain(&error, When::AfterSending).contains("ENETUNREACH"));
    }

    #[test]
    fn an_error_without_a_number_keeps_its_own_words() {
        assert_eq!(explain(&io::Error::other("odd"), When::BeforeSending), "odd");
    }
}
