//! What systemd is told of this service: that it is ready, that it lives, how it is, that it ends.
//!
//! Everything goes to the socket in `$NOTIFY_SOCKET` (sd_notify(3)); without that variable nothing here does anything. The word of life
//! (`WATCHDOG=1`) is not given by a clock alone: it is withheld while one of the tasks without which the service is deaf or dumb is
//! gone, or is stuck in one piece of work so that nothing else of it gets its turn. Then systemd kills the process and starts it anew.

use futures::future::BoxFuture;
use sd_notify::NotifyState;
use std::{
    env,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;

/// How often systemd is told how the service is, if it does not ask for signs of life.
const STATUS_PERIOD: Duration = Duration::from_secs(10);
/// No `$WATCHDOG_USEC` makes the service do nothing but give signs of life.
const SHORTEST_PERIOD: Duration = Duration::from_millis(10);

/// The service manager that started this process, if there is one.
pub(super) struct Supervisor {
    /// Half of the time within which it wants a sign of life.
    beat: Option<Duration>,
    is_there: bool,
}

impl Supervisor {
    /// The one that the environment tells of.
    pub(super) fn from_env() -> Self {
        Self {
            beat: sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(SHORTEST_PERIOD)),
            is_there: env::var_os("NOTIFY_SOCKET").is_some_and(|path| !path.is_empty()),
        }
    }

    /// The service answers from now on.
    pub(super) fn ready(&self, status: &str) {
        self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
    }

    /// The service ends in order. The last sign of life gives it the whole time of the watchdog to do so.
    pub(super) fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// Gives signs of life for as long as all pulses beat, and says how the service is when that changes. Runs until it is dropped.
    pub(super) async fn keep_told(&self, pulses: &[(&'static str, Pulse)], status: impl Fn() -> String) {
        if !self.is_there {
            return std::future::pending().await;
        }
        let mut told = String::new();
        let mut period = tokio::time::interval(self.beat.unwrap_or(STATUS_PERIOD));
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if let Some(beat) = self.beat {
                match pulses.iter().find(|(_, pulse)| pulse.is_stuck(beat)) {
                    None => self.tell(&[NotifyState::Watchdog]),
                    Some((task, _)) => tracing::error!(task, "a part of netdiag is stuck; systemd gets no sign of life"),
                }
            }
            let status = status();
            if status != told {
                self.tell(&[NotifyState::Status(&status)]);
                told = status;
            }
        }
    }

    fn tell(&self, states: &[NotifyState<'_>]) {
        // A manager that cannot be reached is no reason to fail: it decides by itself what to do with a service it hears nothing of.
        if self.is_there
            && let Err(error) = sd_notify::notify(states)
        {
            tracing::warn!(%error, "systemd cannot be told how the service is");
        }
    }
}

/// Whether a task gets on with its work; seen from outside.
#[derive(Clone, Debug)]
pub(super) struct Pulse(Arc<Turn>);

#[derive(Debug)]
struct Turn {
    epoch: Instant,
    /// When its current turn began, in milliseconds since `epoch`; `IDLE` between turns, `GONE` after the last.
    began: AtomicU64,
}

const IDLE: u64 = u64::MAX;
const GONE: u64 = u64::MAX - 1;

impl Pulse {
    /// Wraps a task's work, so that its pulse can be felt. A task that waits is well, however long; one that keeps its turn is not.
    pub(super) fn of(work: impl Future<Output = ()> + Send + 'static) -> (Self, impl Future<Output = ()> + Send + 'static) {
        let pulse = Self(Arc::new(Turn { epoch: Instant::now(), began: AtomicU64::new(IDLE) }));
        (pulse.clone(), Felt { work: Box::pin(work), pulse })
    }

    /// Whether the task is gone, or has kept its turn for longer than this.
    fn is_stuck(&self, limit: Duration) -> bool {
        match self.0.began.load(Ordering::Relaxed) {
            IDLE => false,
            GONE => true,
            began => self.0.epoch.elapsed().saturating_sub(Duration::from_millis(began)) > limit,
        }
    }

    fn set(&self, began: u64) {
        self.0.began.store(began, Ordering::Relaxed);
    }
}

struct Felt {
    work: BoxFuture<'static, ()>,
    pulse: Pulse,
}

impl Future for Felt {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let now = self.pulse.0.epoch.elapsed().as_millis();
        self.pulse.set(u64::try_from(now).unwrap_or(0));
        let polled = self.work.as_mut().poll(context);
        self.pulse.set(if polled.is_ready() { GONE } else { IDLE });
        polled
    }
}

impl Drop for Felt {
    /// Also a task that broke off, or was ended, has no pulse.
    fn drop(&mut self) {
        self.pulse.set(GONE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_millis(50);

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_task_that_waits_is_well_and_one_that_keeps_its_turn_is_not() {
        let (waiting, work) = Pulse::of(std::future::pending());
        let _waits = tokio::spawn(work);
        let (release, held) = std::sync::mpsc::channel::<()>();
        let (busy, work) = Pulse::of(async move {
            let _ = held.recv();
            std::future::pending().await
        });
        let _blocks = tokio::spawn(work);
        tokio::time::sleep(LIMIT * 4).await;
        assert!(!waiting.is_stuck(LIMIT));
        assert!(busy.is_stuck(LIMIT));
        assert!(!busy.is_stuck(Duration::from_secs(60)), "a long turn is not yet a stuck one");
        drop(release);
        tokio::time::sleep(LIMIT).await;
        assert!(!busy.is_stuck(LIMIT), "it goes on and is well again");
    }

    #[tokio::test]
    async fn a_task_that_ended_broke_off_or_was_dropped_has_no_pulse() {
        let (ended, work) = Pulse::of(async {});
        work.await;
        let (broken, work) = Pulse::of(async { panic!("a fault") });
        tokio::spawn(work).await.unwrap_err();
        let (dropped, work) = Pulse::of(std::future::pending());
        drop(work);
        let (unstarted, _work) = Pulse::of(std::future::pending());
        for (pulse, stuck) in [(ended, true), (broken, true), (dropped, true), (unstarted, false)] {
            assert_eq!(pulse.is_stuck(Duration::from_secs(60)), stuck);
        }
    }
}
