//! Why a simulated site, or a part of it, could not be made.

use std::{io, net::SocketAddr, path::PathBuf};

/// Why a simulated site, or a part of it, could not be made.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// The kernel gave no network namespace.
    #[error("no network namespace could be made ({0}); this needs root, or a kernel that allows user namespaces to everyone")]
    Namespace(#[source] io::Error),
    /// The thread or the runtime of a namespace could not be started.
    #[error("the thread of namespace `{name}` could not be started: {source}")]
    Thread {
        /// The namespace.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// The thread of a namespace has ended before it answered.
    #[error("namespace `{0}` has ended")]
    Ended(String),
    /// A link, address or route could not be made.
    #[error("{what}: {reason}")]
    Wiring {
        /// What was being done.
        what: String,
        /// What the kernel said.
        reason: String,
    },
    /// A kernel setting could not be written.
    #[error("the kernel setting {path} could not be set to {value}: {source}")]
    Sysctl {
        /// The file under `/proc/sys`.
        path: String,
        /// What was to be written.
        value: String,
        /// What the system said.
        source: io::Error,
    },
    /// A site of namespaces was asked for in a network that is in use.
    #[error("this network already has the interface `{0}`; call `enter_private` first, so that the site touches no real network")]
    NotPrivate(String),
    /// A device, as it was asked for, cannot exist.
    #[error("device `{device}`: {reason}")]
    Spec {
        /// The device.
        device: String,
        /// What is wrong, and what would be right.
        reason: String,
    },
    /// A device could not listen, or a connection that it needs could not be made.
    #[error("device `{device}` at {address}: {source}")]
    Device {
        /// The device.
        device: String,
        /// Where it was to be.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A config file could not be written.
    #[error("{path}: {source}")]
    Config {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}
