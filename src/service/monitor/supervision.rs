//! What keeps the monitor going: whatever of it breaks off is begun again, with an alarm.

use super::{
    Command,
    filing::{self, Judge},
    lock,
};
use crate::{api::Event, service::replies::Core};
use futures::FutureExt as _;
use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Mutex, Weak,
        mpsc::{Receiver, RecvTimeoutError},
    },
    time::{Duration, Instant},
};

/// How long after it broke off it is begun again.
const REST: Duration = Duration::from_secs(5);

/// How the monitor ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to.
    Stopped,
    /// It could not begin, which has been told: the disk is not there yet, say.
    NotBegun,
    /// By a fault of its own.
    BrokeOff(String),
}

/// Runs the monitor until it is told to stop.
pub(super) fn run(core: &Weak<Core>, commands: Receiver<Command>) {
    let broke_off = |why: String| {
        let Some(core) = core.upgrade() else { return };
        core.monitor.ends_recording();
        filing::alarm(&core, format!("the monitor is begun again, for it broke off; please report this: {why}"));
    };
    let judge = Mutex::new(Judge::new(Instant::now()));
    let work = |commands: &_| {
        let _works = Works::begin(core);
        filing::run(core, commands, &judge)
    };
    again_and_again(&Mutex::new(commands), REST, work, broke_off);
    // It may have been told to stop while nobody was there to write it down.
    if let Some(core) = core.upgrade() {
        core.monitor.remember_what_waits(&core.settings.state_dir);
    }
}

/// While this is there, the monitor works; however that ends, it rests.
struct Works<'a>(&'a Weak<Core>);

impl<'a> Works<'a> {
    fn begin(core: &'a Weak<Core>) -> Self {
        let works = Self(core);
        works.set_rests(false);
        works
    }

    fn set_rests(&self, rests: bool) {
        if let Some(core) = self.0.upgrade() {
            core.monitor.set_rests(rests);
        }
    }
}

impl Drop for Works<'_> {
    fn drop(&mut self) {
        self.set_rests(true);
    }
}

/// Does some work until it ends in order or the word to stop comes.
fn again_and_again(
    commands: &Mutex<Receiver<Command>>,
    rest: Duration,
    mut work: impl FnMut(&Mutex<Receiver<Command>>) -> Ended,
    broke_off: impl Fn(String),
) {
    loop {
        let ended = catch_unwind(AssertUnwindSafe(|| work(commands)));
        match ended.unwrap_or_else(|panic| Ended::BrokeOff(format!("the filing broke off: {}", said(&*panic)))) {
            Ended::Stopped => return,
            Ended::NotBegun => {}
            Ended::BrokeOff(why) => broke_off(why),
        }
        let again_at = Instant::now() + rest;
        let commands = lock(commands);
        loop {
            match commands.recv_timeout(again_at.saturating_duration_since(Instant::now())) {
                Ok(Command::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                // What is switched and set stands in the view; the rest has nobody to do it.
                Ok(_) => {}
                Err(RecvTimeoutError::Timeout) => break,
            }
        }
    }
}

/// Runs a task for ever: begins it again, with an alarm, when it breaks off.
pub(super) async fn kept_going<F: Future<Output = ()>>(what: String, core: Weak<Core>, mut begin: impl FnMut() -> F) {
    while let Err(panic) = AssertUnwindSafe(begin()).catch_unwind().await {
        let Some(core) = core.upgrade() else { return };
        let message = format!("{what} is begun again, for it broke off; please report this: {}", said(&*panic));
        tracing::error!("{message}");
        core.post_row(Event::ALARM, message);
        drop(core);
        tokio::time::sleep(REST).await;
    }
}

/// What a panic said.
pub(super) fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without words")
}

/// Does some work whose panic must not end what is around it: that is an alarm, which says what `broke_off`.
pub(super) fn guarded<T>(core: &Core, broke_off: &str, work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work));
    let told = |panic: &(dyn Any + Send)| filing::alarm(core, format!("{broke_off}; please report this: {}", said(panic)));
    done.inspect_err(|panic| told(&**panic)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        api::{ErrorCode, Snapshot, SnapshotState, UtcTime},
        service::monitor::testing::core,
    };
    use std::sync::{Arc, mpsc::sync_channel};

    const AT_ONCE: Duration = Duration::from_millis(1);

    #[tokio::test(flavor = "multi_thread")]
    async fn what_had_begun_and_is_nowhere_when_the_monitor_is_begun_again_was_not_recorded_and_that_is_told() {
        let dir = tempfile::tempdir().unwrap();
        let core = core(dir.path());
        // The recording broke off before it was told of one, and before it opened the file of the other.
        let triggered = core.monitor.begin_triggered("the inverter tripped".to_owned()).unwrap().snapshot_id;
        lock(&core.monitor.view).begin("20261123T114500.000Z", UtcTime::from_unix_ns(0), None).unwrap();
        let (sender, commands) = sync_channel(1);
        sender.send(Command::Stop).unwrap();
        let judge = Mutex::new(Judge::new(Instant::now()));
        assert_eq!(filing::run(&Arc::downgrade(&core), &Mutex::new(commands), &judge), Ended::Stopped);
        let view = lock(&core.monitor.view);
        assert!(!view.knows(&triggered) && view.counts().open == 0, "{:?}", view.snapshot(&triggered));
        let told = view.last_problem().unwrap();
        assert!(told.contains("the inverter tripped") && told.contains("broke off"), "{told}");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn while_the_monitor_cannot_begin_a_pin_and_a_delete_are_refused_with_the_reason() {
        let dir = tempfile::tempdir().unwrap();
        let core = core(dir.path());
        let filed = Snapshot { state: SnapshotState::Archived, ..Snapshot::opened("a".into(), UtcTime::from_unix_ns(0)) };
        lock(&core.monitor.view).put(filed);
        std::fs::write(dir.path().join("monitor"), "a file where a folder should be").unwrap();
        core.monitor.start(&core);
        let begun = Instant::now();
        while lock(&core.monitor.view).last_problem().is_none() || core.monitor.pin("a", true).is_ok() {
            assert!(begun.elapsed() < Duration::from_secs(60));
            std::thread::sleep(AT_ONCE);
        }
        lock(&core.monitor.view).pin("a", false);
        for refused in [core.monitor.pin("a", true), core.monitor.delete("a")] {
            let refused = refused.unwrap_err();
            assert!(refused.code == ErrorCode::Unavailable && refused.message.contains("monitor"), "{refused:?}");
        }
        assert!(!core.monitor.snapshot("a").unwrap().pinned);
        core.monitor.stop();
    }

    #[test]
    fn what_breaks_off_is_begun_again_and_told_and_what_ends_is_not() {
        let (_sender, commands) = sync_channel(1);
        let told = Mutex::new(Vec::new());
        let mut turns = 0;
        let work = |_: &Mutex<Receiver<Command>>| {
            turns += 1;
            match turns {
                1 => panic!("a fault"),
                2 => Ended::NotBegun,
                3 => Ended::BrokeOff("the recording broke off".into()),
                _ => Ended::Stopped,
            }
        };
        again_and_again(&Mutex::new(commands), AT_ONCE, work, |why| lock(&told).push(why));
        assert_eq!(turns, 4);
        assert_eq!(*lock(&told), ["the filing broke off: a fault", "the recording broke off"]);
    }

    #[test]
    fn the_word_to_stop_is_heard_while_it_rests_also_after_a_panic_of_who_listened() {
        let (sender, commands) = sync_channel(4);
        sender.send(Command::Look).unwrap();
        sender.send(Command::Stop).unwrap();
        let work = |commands: &Mutex<Receiver<Command>>| {
            let _listens = commands.lock();
            panic!("a fault")
        };
        let begun = Instant::now();
        again_and_again(&Mutex::new(commands), Duration::from_secs(600), work, drop);
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
