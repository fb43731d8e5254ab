//! The probing of a connectivity test: devices side by side, in a task of its own, so that no verdict under way holds up a probe or
//! makes it look slow.

use super::{ConnectPlan, Device, Plan, ping_report, run::TestInput};
use crate::{
    api::{ConnectReport, ConnectState, PingReport, PingState, Protocol},
    probe::{Prober, RateLimit, Service},
};
use futures::{FutureExt as _, StreamExt as _, stream};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    sync::mpsc,
    task::JoinSet,
    time::{Instant, sleep},
};

/// The pause between two pings to one address.
const PING_SPACING: Duration = Duration::from_millis(200);

/// What was probed of one endpoint.
pub(super) struct Probed {
    pub(super) index: usize,
    pub(super) ping: PingReport,
    pub(super) connect: ConnectReport,
}

/// The task that probes. It ends with this value.
#[derive(Default)]
pub(super) struct Probing {
    /// One task at most; a set, because that ends what is in it when it is dropped.
    task: JoinSet<()>,
    probed: Option<mpsc::Receiver<Probed>>,
}

impl Probing {
    /// Begins to probe every device of the plan.
    pub(super) fn start(&mut self, input: &Arc<TestInput>, prober: &Arc<dyn Prober>) {
        // It holds all that will ever be put in, so no probe waits for a verdict.
        let (outcomes, probed) = mpsc::channel(input.plan.endpoints.len().max(1));
        let prober = DeviceProber {
            input: Arc::clone(input),
            prober: Arc::clone(prober),
            rate: Arc::new(Mutex::new(RateLimit::new(input.request.max_rate_per_s))),
            outcomes,
        };
        let devices = input.plan.devices.clone();
        let concurrency = usize::try_from(input.request.concurrency).unwrap_or(usize::MAX);
        self.probed = Some(probed);
        self.task.spawn(async move {
            stream::iter(devices).for_each_concurrent(concurrency, |device| prober.clone().probe(device)).await;
        });
    }

    /// The next endpoint that was probed; `None` when all are. Safe to cancel.
    ///
    /// # Panics
    /// When the probing did: then the test failed, and has no result.
    pub(super) async fn next(&mut self) -> Option<Probed> {
        if let Some(probed) = self.probed.as_mut()?.recv().await {
            return Some(probed);
        }
        if let Some(Err(error)) = self.task.join_next().await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
        None
    }

    /// Ends what is still under way, and returns when it has ended: connects that have not opened send nothing more.
    pub(super) async fn end(&mut self) {
        self.task.shutdown().await;
    }
}

/// What is reported of the port of an endpoint that is not connected to.
pub(super) fn not_connected(plan: &Plan, index: usize) -> ConnectReport {
    match plan.endpoints.get(index).map(|planned| &planned.connect) {
        Some(ConnectPlan::Leave(state, why)) => ConnectReport::not_made(*state, Some(why.clone())),
        _ => ConnectReport::not_made(ConnectState::NotRequested, None),
    }
}

/// Probes devices: each is pinged while its ports are connected to, one after the other.
#[derive(Clone)]
struct DeviceProber {
    input: Arc<TestInput>,
    prober: Arc<dyn Prober>,
    rate: Arc<Mutex<RateLimit>>,
    outcomes: mpsc::Sender<Probed>,
}

impl DeviceProber {
    async fn probe(self, device: Device) {
        let ping = self.ping(&device).shared();
        let connects = async {
            for &index in &device.endpoints {
                let connect = match self.input.plan.endpoints.get(index).map(|planned| &planned.connect) {
                    Some(ConnectPlan::Connect(target)) => self.connect(index, *target).await,
                    _ => not_connected(&self.input.plan, index),
                };
                let probed = Probed { index, ping: ping.clone().await, connect };
                // The channel holds every endpoint; without its receiver the test has ended.
                let _ = self.outcomes.send(probed).await;
            }
        };
        futures::join!(ping.clone(), connects);
    }

    async fn ping(&self, device: &Device) -> PingReport {
        if !device.ping {
            return PingReport::not_requested(None);
        }
        let capability = &self.input.capabilities.ping;
        if !capability.available {
            return PingReport { state: PingState::Error, sent: 0, received: 0, rtt_ms: None, detail: capability.reason.clone() };
        }
        let pings = (0..self.input.request.ping_count).map(|number| async move {
            sleep(PING_SPACING * number).await;
            self.wait_for_turn().await;
            let sequence = u16::try_from(number).unwrap_or(u16::MAX);
            self.prober.ping(device.address, sequence, self.timeout()).await
        });
        ping_report(&futures::future::join_all(pings).await, capability.reason.as_deref())
    }

    async fn connect(&self, index: usize, target: SocketAddr) -> ConnectReport {
        // A field device is never spoken to; a secure shell and a web server can say what they are.
        let service = match self.input.plan.endpoints.get(index).map(|planned| planned.endpoint.protocol) {
            Some(Protocol::Ssh) => Some(Service::Ssh),
            Some(Protocol::Http) => Some(Service::Http),
            _ => None,
        };
        let mut report = ConnectReport::not_made(ConnectState::Error, None);
        for _ in 0..self.input.request.connect_attempts {
            self.wait_for_turn().await;
            let outcome = match service {
                Some(service) => self.prober.greet(target, service, self.timeout()).await,
                None => self.prober.connect(target, self.timeout()).await,
            };
            report.attempts += 1;
            report.state = outcome.state;
            report.time_ms = Some((outcome.time.as_secs_f64() * 1e6).round() / 1e3);
            (report.greeting, report.detail) = (outcome.greeting, outcome.detail);
            report.local_addresses.extend(outcome.local_address);
            if report.state == ConnectState::Open {
                break;
            }
        }
        report
    }

    async fn wait_for_turn(&self) {
        let wait = self.rate.lock().unwrap_or_else(PoisonError::into_inner).reserve(Instant::now().into_std());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.input.request.timeout_ms)
    }
}
