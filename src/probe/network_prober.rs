//! The prober that really asks.

use super::{ConnectOutcome, PingOutcome, Prober, Service, connect::connect, ping::Ping, words::single_host};
use crate::api::{Capability, ConnectState};
use async_trait::async_trait;
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// Pings and connects over the network, in the network namespace of the thread that polls it.
///
/// Make one for each job: it has an ICMP identifier of its own, so that late replies to one job are none to the next. Its ICMP sockets
/// are opened at the first ping and closed when it is dropped; all pings of one prober must run in the same tokio runtime.
pub struct NetworkProber {
    ping: Ping,
}

impl NetworkProber {
    /// A prober with a new ICMP identifier. Nothing is opened yet, so this cannot fail.
    pub fn new() -> Self {
        Self { ping: Ping::new() }
    }

    /// Whether this process may ping, with the kind of socket that is used, or with what to do about it. Sends nothing, and needs no
    /// runtime.
    pub fn ping_capability(&self) -> Capability {
        self.ping.capability()
    }
}

impl Default for NetworkProber {
    fn default() -> Self {
        Self::new()
    }
}

#[async_trait]
impl Prober for NetworkProber {
    async fn ping(&self, address: IpAddr, sequence: u16, timeout: Duration) -> PingOutcome {
        match single_host(address) {
            Ok(address) => self.ping.ping(address, sequence, timeout).await,
            Err(why) => PingOutcome::Error(why),
        }
    }

    async fn connect(&self, target: SocketAddr, timeout: Duration) -> ConnectOutcome {
        match connectable(target) {
            Ok(target) => connect(target, timeout, None).await,
            Err(why) => not_connected(why),
        }
    }

    async fn greet(&self, target: SocketAddr, service: Service, timeout: Duration) -> ConnectOutcome {
        match connectable(target) {
            Ok(target) => connect(target, timeout, Some(service)).await,
            Err(why) => not_connected(why),
        }
    }
}

/// The target, if it is one host and a port of it.
fn connectable(target: SocketAddr) -> Result<SocketAddr, String> {
    match single_host(target.ip())? {
        _ if target.port() == 0 => Err("port 0 cannot be connected to; use 1 to 65535".to_owned()),
        // Only when it changes: an IPv6 address would lose its scope.
        address if address != target.ip() => Ok(SocketAddr::new(address, target.port())),
        _ => Ok(target),
    }
}

fn not_connected(why: String) -> ConnectOutcome {
    ConnectOutcome { state: ConnectState::Error, time: Duration::ZERO, local_address: None, greeting: None, detail: Some(why) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(1);

    #[tokio::test]
    async fn nothing_is_sent_to_groups_or_to_port_0() {
        let prober = NetworkProber::new();
        for target in ["224.0.0.1:502", "0.0.0.0:502", "[ff02::1]:502", "127.0.0.1:0"] {
            let outcome = prober.connect(target.parse().unwrap(), TIMEOUT).await;
            assert_eq!((outcome.state, outcome.local_address), (ConnectState::Error, None), "{target}: {:?}", outcome.detail);
        }
        assert!(matches!(prober.ping("224.0.0.1".parse().unwrap(), 0, TIMEOUT).await, PingOutcome::Error(_)));
    }
}
