//! A prober without a network, for tests of what is built on probes.

use super::{ConnectOutcome, PingOutcome, Prober, Service};
use crate::api::{ConnectState, Greeting};
use async_trait::async_trait;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// A probe that was asked of a [`FakeProber`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Probe {
    /// An echo request to an address, with its sequence number.
    Ping(IpAddr, u16),
    /// A connect to an address and port.
    Connect(SocketAddr),
}

/// One call of a [`FakeProber`], as it was recorded.
#[derive(Debug, Clone)]
pub struct Call {
    /// What was asked.
    pub probe: Probe,
    /// When it began, on tokio's clock (which a test may pause).
    pub began: Instant,
    /// When it ended; `None` while it runs, and for ever if it was cancelled.
    pub ended: Option<Instant>,
}

/// Answers from a script, after delays on tokio's clock, and keeps a record of what it was asked.
///
/// Where the script says nothing, nobody answers: a ping and a connect run into their time-outs. Outcomes scripted for the same
/// probe are given out in order, and the last one for ever after. An outcome whose delay is longer than the time-out becomes "no
/// answer", as it would on a network.
#[derive(Debug, Default)]
pub struct FakeProber {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    pings: HashMap<IpAddr, VecDeque<(Duration, PingOutcome)>>,
    connects: HashMap<SocketAddr, VecDeque<(Duration, ConnectState, Option<String>)>>,
    greetings: HashMap<(SocketAddr, Service), Greeting>,
    calls: Vec<Call>,
    running: HashMap<IpAddr, usize>,
    most_at: HashMap<IpAddr, usize>,
    all_running: usize,
    most: usize,
}

impl FakeProber {
    /// A network where nobody answers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Scripts the outcome of a ping to `address`, after `delay`.
    #[must_use]
    pub fn with_ping(self, address: IpAddr, delay: Duration, outcome: PingOutcome) -> Self {
        self.lock().pings.entry(address).or_default().push_back((delay, outcome));
        self
    }

    /// Scripts a reply from `address` after `rtt`.
    #[must_use]
    pub fn with_reply(self, address: IpAddr, rtt: Duration) -> Self {
        self.with_ping(address, rtt, PingOutcome::Reply { rtt })
    }

    /// Scripts the outcome of a connect to `target`, after `delay`.
    #[must_use]
    pub fn with_connect(self, target: SocketAddr, delay: Duration, state: ConnectState, detail: Option<&str>) -> Self {
        self.lock().connects.entry(target).or_default().push_back((delay, state, detail.map(str::to_owned)));
        self
    }

    /// Scripts what a service at `target` says when it is connected to, for the connects that are scripted to open.
    #[must_use]
    pub fn with_greeting(self, target: SocketAddr, service: Service, greeting: Greeting) -> Self {
        self.lock().greetings.insert((target, service), greeting);
        self
    }

    /// What was asked so far, in the order in which it began.
    pub fn calls(&self) -> Vec<Call> {
        self.lock().calls.clone()
    }

    /// How many connects ran at the same time, at most.
    pub fn most_connects(&self) -> usize {
        self.lock().most
    }

    /// How many connects to `address`, on any of its ports, ran at the same time, at most.
    pub fn most_connects_to(&self, address: IpAddr) -> usize {
        self.lock().most_at.get(&address).copied().unwrap_or(0)
    }

    /// How many connects are running now.
    pub fn connects_running(&self) -> usize {
        self.lock().all_running
    }

    fn begin(&self, probe: Probe) -> Running<'_> {
        let mut state = self.lock();
        state.calls.push(Call { probe, began: Instant::now(), ended: None });
        if let Probe::Connect(target) = probe {
            let running = state.running.entry(target.ip()).or_default();
            *running += 1;
            let running = *running;
            let most = state.most_at.entry(target.ip()).or_default();
            *most = running.max(*most);
            state.all_running += 1;
            state.most = state.most.max(state.all_running);
        }
        Running { prober: self, probe, call: state.calls.len() - 1 }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call that is under way; dropped at its end, or when it is cancelled.
struct Running<'a> {
    prober: &'a FakeProber,
    probe: Probe,
    call: usize,
}

impl Running<'_> {
    fn ended(self) {
        if let Some(call) = self.prober.lock().calls.get_mut(self.call) {
            call.ended = Some(Instant::now());
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let Probe::Connect(target) = self.probe else { return };
        let mut state = self.prober.lock();
        state.all_running -= 1;
        if let Some(running) = state.running.get_mut(&target.ip()) {
            *running -= 1;
        }
    }
}

/// The next entry of a script; the last one stays.
fn next<T: Clone>(script: Option<&mut VecDeque<T>>) -> Option<T> {
    let script = script?;
    if script.len() > 1 { script.pop_front() } else { script.front().cloned() }
}

#[async_trait]
impl Prober for FakeProber {
    async fn ping(&self, address: IpAddr, sequence: u16, timeout: Duration) -> PingOutcome {
        let running = self.begin(Probe::Ping(address, sequence));
        let scripted = next(self.lock().pings.get_mut(&address));
        let outcome = match scripted {
            Some((delay, outcome)) if delay < timeout && outcome != PingOutcome::NoAnswer => {
                sleep(delay).await;
                outcome
            }
            _ => {
                sleep(timeout).await;
                PingOutcome::NoAnswer
            }
        };
        running.ended();
        outcome
    }

    async fn connect(&self, target: SocketAddr, timeout: Duration) -> ConnectOutcome {
        let running = self.begin(Probe::Connect(target));
        let began = Instant::now();
        let scripted = next(self.lock().connects.get_mut(&target));
        let (state, detail) = match scripted {
            Some((delay, state, detail)) if delay < timeout && state != ConnectState::TimedOut => {
                sleep(delay).await;
                (state, detail)
            }
            scripted => {
                sleep(timeout).await;
                (ConnectState::TimedOut, scripted.and_then(|(_, _, detail)| detail))
            }
        };
        // Each call has its own, like the ephemeral ports of a real host.
        let local_port = 49152 + u16::try_from(running.call % 16384).unwrap_or(0);
        let local_address = (state != ConnectState::Error).then(|| SocketAddr::new(Ipv4Addr::new(192, 0, 2, 1).into(), local_port));
        running.ended();
        ConnectOutcome { state, time: began.elapsed(), local_address, greeting: None, detail }
    }

    async fn greet(&self, target: SocketAddr, service: Service, timeout: Duration) -> ConnectOutcome {
        let greeting = self.lock().greetings.get(&(target, service)).cloned();
        let outcome = self.connect(target, timeout).await;
        ConnectOutcome { greeting: greeting.filter(|_| outcome.state == ConnectState::Open), ..outcome }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::future::join;

    const TIMEOUT: Duration = Duration::from_secs(3);

    fn address() -> IpAddr {
        IpAddr::from([192, 0, 2, 7])
    }

    fn target(port: u16) -> SocketAddr {
        SocketAddr::new(address(), port)
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_answers_where_nothing_is_scripted() {
        let prober = FakeProber::new();
        let began = Instant::now();
        assert_eq!(prober.ping(address(), 0, TIMEOUT).await, PingOutcome::NoAnswer);
        assert_eq!(began.elapsed(), TIMEOUT);
        let outcome = prober.connect(target(502), TIMEOUT).await;
        assert_eq!((outcome.state, outcome.time), (ConnectState::TimedOut, TIMEOUT));
    }

    #[tokio::test(start_paused = true)]
    async fn a_script_is_played_in_order_and_its_last_outcome_stays() {
        let ms = Duration::from_millis;
        let prober = FakeProber::new()
            .with_ping(address(), ms(1), PingOutcome::Error("busy".into()))
            .with_reply(address(), ms(2))
            .with_connect(target(502), ms(5), ConnectState::Refused, Some("first"))
            .with_connect(target(502), ms(9), ConnectState::Open, None)
            .with_connect(target(503), TIMEOUT, ConnectState::Open, None);
        assert_eq!(prober.ping(address(), 0, TIMEOUT).await, PingOutcome::Error("busy".into()));
        for sequence in 1..4 {
            assert_eq!(prober.ping(address(), sequence, TIMEOUT).await, PingOutcome::Reply { rtt: ms(2) });
        }
        let first = prober.connect(target(502), TIMEOUT).await;
        assert_eq!((first.state, first.time, first.detail.as_deref()), (ConnectState::Refused, ms(5), Some("first")));
        let second = prober.connect(target(502), TIMEOUT).await;
        assert_eq!((second.state, second.time), (ConnectState::Open, ms(9)));
        assert_ne!(first.local_address, second.local_address);
        assert_eq!(prober.connect(target(503), TIMEOUT).await.state, ConnectState::TimedOut, "as late as the time-out is too late");
        let probes: Vec<_> = prober.calls().iter().map(|call| call.probe).collect();
        assert_eq!(probes[..2], [Probe::Ping(address(), 0), Probe::Ping(address(), 1)]);
        assert_eq!(probes[4..], [Probe::Connect(target(502)), Probe::Connect(target(502)), Probe::Connect(target(503))]);
    }

    #[tokio::test(start_paused = true)]
    async fn connects_at_the_same_time_are_counted_by_address_and_in_all() {
        let other = SocketAddr::from(([192, 0, 2, 8], 502));
        let prober = FakeProber::new();
        join(prober.connect(target(502), TIMEOUT), join(prober.connect(target(503), TIMEOUT), prober.connect(other, TIMEOUT)))
            .await;
        prober.connect(other, TIMEOUT).await;
        assert_eq!((prober.most_connects(), prober.most_connects_to(address()), prober.most_connects_to(other.ip())), (3, 2, 1));
        assert_eq!(prober.connects_running(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_cancelled_call_runs_no_longer_and_has_no_end() {
        let prober = FakeProber::new();
        let cancelled = tokio::time::timeout(Duration::from_secs(1), prober.connect(target(502), TIMEOUT)).await;
        assert!(cancelled.is_err());
        assert_eq!(prober.connects_running(), 0);
        assert!(prober.calls()[0].ended.is_none());
    }
}
