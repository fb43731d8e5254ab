//! What systemd is told of this service: that it is ready, that it lives, how it is, that it ends.
//!
//! Everything goes to the socket in `$NOTIFY_SOCKET` (sd_notify(3)); without that variable nothing here does anything. The word of life
//! (`WATCHDOG=1`) is not given by a clock alone: it is withheld while one of the tasks without which the service is deaf or dumb is
//! gone, or is stuck in one piece of work so that nothing else of it gets its turn; the same goes for the monitor's threads. Then systemd
//! kills the process and starts it anew.
//!
//! A manager that does not read keeps nobody waiting: what its socket does not take at once is told again later, or not at all.

use futures::future::BoxFuture;
use sd_notify::NotifyState;
use std::{
    env,
    ffi::OsString,
    future::Future,
    io,
    os::{
        linux::net::SocketAddrExt as _,
        unix::{
            ffi::OsStrExt as _,
            net::{SocketAddr, UnixDatagram},
        },
    },
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
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
    /// Its socket: a path, or after `@` a name that is in no file system.
    socket: Option<OsString>,
    /// It could not be told yet that the service is ready.
    ready_is_due: AtomicBool,
    /// It has been told in the log that it cannot be told.
    is_deaf: AtomicBool,
}

impl Supervisor {
    /// The one that the environment tells of.
    pub(super) fn from_env() -> Self {
        Self {
            beat: sd_notify::watchdog_enabled().map(|limit| (limit / 2).max(SHORTEST_PERIOD)),
            socket: env::var_os("NOTIFY_SOCKET").filter(|path| !path.is_empty()),
            ready_is_due: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
        }
    }

    /// The service answers from now on.
    pub(super) fn ready(&self, status: &str) {
        let is_told = self.tell(&[NotifyState::Ready, NotifyState::Status(status)]);
        self.ready_is_due.store(!is_told, Ordering::Relaxed);
    }

    /// The service ends in order. The last sign of life gives it the whole time of the watchdog to do so.
    pub(super) fn stopping(&self, status: &str) {
        self.tell(&[NotifyState::Stopping, NotifyState::Watchdog, NotifyState::Status(status)]);
    }

    /// Gives signs of life for as long as all pulses beat, and says how the service is when that changes. With each pulse stands how long
    /// a turn may take, if that is longer than the manager's patience. Runs until it is dropped.
    pub(super) async fn keep_told(&self, pulses: &[(&'static str, Pulse, Duration)], status: impl Fn() -> String) {
        if self.socket.is_none() {
            return std::future::pending().await;
        }
        let mut told = String::new();
        let mut period = tokio::time::interval(self.beat.unwrap_or(STATUS_PERIOD));
        period.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            period.tick().await;
            if self.ready_is_due.load(Ordering::Relaxed) {
                self.ready("ready");
            }
            if let Some(beat) = self.beat {
                match pulses.iter().find(|(_, pulse, patience)| pulse.is_stuck(beat.max(*patience))) {
                    None => {
                        self.tell(&[NotifyState::Watchdog]);
                    }
                    Some((task, ..)) => tracing::error!(task, "a part of netdiag is stuck; systemd gets no sign of life"),
                }
            }
            let status = status();
            if status != told && self.tell(&[NotifyState::Status(&status)]) {
                told = status;
            }
        }
    }

    /// Tells it without waiting. False: it did not hear.
    fn tell(&self, states: &[NotifyState<'_>]) -> bool {
        let Some(socket) = &self.socket else { return true };
        let lines: String = states.iter().map(|state| format!("{state}\n")).collect();
        let told = send(socket, lines.as_bytes());
        // A manager that cannot be reached is no reason to fail: it decides by itself what to do with a service it hears nothing of.
        if let Err(error) = &told
            && !self.is_deaf.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(%error, "systemd cannot be told how the service is");
        }
        if told.is_ok() {
            self.is_deaf.store(false, Ordering::Relaxed);
        }
        told.is_ok()
    }
}

fn send(socket: &OsString, message: &[u8]) -> io::Result<()> {
    let bytes = socket.as_bytes();
    let address = match bytes.strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(socket)?,
    };
    let sender = UnixDatagram::unbound()?;
    sender.set_nonblocking(true)?;
    sender.send_to_addr(message, &address).map(drop)
}

/// Whether a task, or a thread, gets on with its work; seen from outside.
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

    /// That of a thread, which tells itself when a turn begins and when it waits.
    pub(super) fn of_thread() -> Self {
        Self(Arc::new(Turn { epoch: Instant::now(), began: AtomicU64::new(IDLE) }))
    }

    /// A turn, until what is given is dropped.
    pub(super) fn turn(&self) -> InTurn {
        self.begins();
        InTurn(self.clone())
    }

    /// A turn begins, unless one is going on. True: it begins now.
    pub(super) fn begins(&self) -> bool {
        let now = u64::try_from(self.0.epoch.elapsed().as_millis()).unwrap_or(0);
        self.0.began.compare_exchange(IDLE, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }

    /// No turn is going on.
    pub(super) fn pauses(&self) {
        self.set(IDLE);
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

/// A turn of a thread that is going on.
#[must_use]
pub(super) struct InTurn(Pulse);

impl Drop for InTurn {
    fn drop(&mut self) {
        self.0.pauses();
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

    #[test]
    fn a_thread_that_keeps_its_turn_is_stuck_and_one_that_waits_or_broke_off_is_not() {
        let pulse = Pulse::of_thread();
        assert!(!pulse.is_stuck(Duration::ZERO));
        let turn = pulse.turn();
        assert!(!pulse.begins(), "a turn is going on");
        std::thread::sleep(LIMIT);
        assert!(pulse.is_stuck(LIMIT / 2) && !pulse.is_stuck(Duration::from_secs(60)));
        drop(turn);
        assert!(!pulse.is_stuck(Duration::ZERO));
        let thread = pulse.clone();
        std::thread::spawn(move || {
            let _turn = thread.turn();
            panic!("a fault")
        })
        .join()
        .unwrap_err();
        assert!(!pulse.is_stuck(Duration::ZERO), "whoever begins it again sees to that");
    }

    /// The kernel takes some datagrams for who does not read, and no more.
    #[test]
    fn a_manager_that_does_not_read_keeps_nobody_waiting() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let supervisor = Supervisor {
            beat: None,
            socket: Some(path.into_os_string()),
            ready_is_due: AtomicBool::new(false),
            is_deaf: AtomicBool::new(false),
        };
        let begun = Instant::now();
        let told = (0..10_000).take_while(|_| supervisor.tell(&[NotifyState::Watchdog])).count();
        assert!(told < 10_000 && begun.elapsed() < Duration::from_secs(5), "{told} in {:?}", begun.elapsed());
        supervisor.ready("on the bus");
        assert!(supervisor.ready_is_due.load(Ordering::Relaxed));
        let mut datagram = [0; 100];
        for _ in 0..told {
            assert_eq!(manager.recv(&mut datagram).unwrap(), "WATCHDOG=1\n".len());
        }
        supervisor.ready("on the bus");
        assert!(!supervisor.ready_is_due.load(Ordering::Relaxed));
        let length = manager.recv(&mut datagram).unwrap();
        assert_eq!(&datagram[..length], b"READY=1\nSTATUS=on the bus\n");
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
