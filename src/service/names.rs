//! Host names, resolved side by side and within a time limit, and remembered.
//!
//! The system's resolver blocks, for half a minute if a name server is silent, and cannot be interrupted. So each lookup has a thread
//! of its own, there are a few at most, and whoever asks waits for a few seconds at most. An answer that comes later is remembered, and
//! [`Names::later`] tells that there is one.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    net::{IpAddr, ToSocketAddrs as _},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, Semaphore},
    time::{Instant, timeout_at},
};

/// How many lookups are under way at a time.
const LOOKUPS_AT_A_TIME: usize = 8;
/// How long the asker waits for all names together.
const PATIENCE: Duration = Duration::from_secs(3);

/// An address, or why there is none.
type Answer = Result<IpAddr, String>;

/// Resolves one name; blocks.
type Resolver = dyn Fn(&str) -> Answer + Send + Sync;

/// The host names that were asked for.
pub(super) struct Names {
    inner: Arc<Inner>,
}

struct Inner {
    resolver: Box<Resolver>,
    known: Mutex<Known>,
    slots: Arc<Semaphore>,
    answered: Notify,
    later: Notify,
}

#[derive(Default)]
struct Known {
    answers: HashMap<String, Answer>,
    /// The lookups under way, some of which nobody waits for any more.
    pending: HashSet<String>,
    given_up: HashSet<String>,
}

impl Names {
    /// Resolves as the site's loaders do: the first IPv4 address that the system's resolver gives.
    pub(super) fn of_system() -> Self {
        Self::new(|name| {
            let addresses = (name, 0_u16).to_socket_addrs().map_err(|error| error.to_string())?;
            addresses.map(|address| address.ip()).find(IpAddr::is_ipv4).ok_or_else(|| "it has no IPv4 address".to_owned())
        })
    }

    fn new(resolver: impl Fn(&str) -> Answer + Send + Sync + 'static) -> Self {
        let slots = Arc::new(Semaphore::new(LOOKUPS_AT_A_TIME));
        let inner =
            Inner { resolver: Box::new(resolver), known: Mutex::default(), slots, answered: Notify::new(), later: Notify::new() };
        Self { inner: Arc::new(inner) }
    }

    /// Looks all names up anew. A name that takes too long has the answer of an earlier time, if there was one.
    pub(super) async fn resolve(&self, names: &BTreeSet<String>) -> HashMap<String, Answer> {
        for name in names {
            self.inner.begin(name);
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            let answered = self.inner.answered.notified();
            if !names.iter().any(|name| self.inner.lock().pending.contains(name)) || timeout_at(deadline, answered).await.is_err() {
                break;
            }
        }
        let mut known = self.inner.lock();
        // What no config names any more is forgotten.
        known.answers.retain(|name, _| names.contains(name));
        let late = || Err(format!("the name service did not answer within {} s", PATIENCE.as_secs()));
        let mut answers = HashMap::new();
        for name in names {
            if known.pending.contains(name) {
                known.given_up.insert(name.clone());
            }
            answers.insert(name.clone(), known.answers.get(name).cloned().unwrap_or_else(late));
        }
        answers
    }

    /// Waits for an answer that came too late for whoever asked.
    pub(super) async fn later(&self) {
        self.inner.later.notified().await;
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a lookup, unless one of that name is under way.
    fn begin(self: &Arc<Self>, name: &str) {
        if !self.lock().pending.insert(name.to_owned()) {
            return;
        }
        let (inner, name) = (Arc::clone(self), name.to_owned());
        tokio::spawn(async move {
            let Ok(slot) = Arc::clone(&inner.slots).acquire_owned().await else { return };
            let (asking, asked) = (Arc::clone(&inner), name.clone());
            // A thread of its own, not one of the runtime's: the end of the service does not wait for it.
            let began = std::thread::Builder::new().name("name lookup".to_owned()).spawn(move || {
                let answer = (asking.resolver)(&asked);
                asking.finish(asked, answer);
                drop(slot);
            });
            if let Err(error) = began {
                inner.finish(name, Err(format!("it could not be looked up: {error}")));
            }
        });
    }

    fn finish(&self, name: String, answer: Answer) {
        let is_late = {
            let mut known = self.lock();
            known.pending.remove(&name);
            let was_given_up = known.given_up.remove(&name);
            let is_news = known.answers.get(&name) != Some(&answer);
            known.answers.insert(name, answer);
            was_given_up && is_news
        };
        self.answered.notify_waiters();
        if is_late {
            self.later.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[tokio::test]
    async fn names_are_resolved_side_by_side_but_not_all_at_once() {
        let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let seen = Arc::clone(&most);
        let resolver = Names::new(move |name| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            std::thread::sleep(Duration::from_millis(20));
            now.fetch_sub(1, Ordering::SeqCst);
            if name == "x7" { Err("nobody knows it".to_owned()) } else { Ok(IpAddr::from([10, 0, 0, 1])) }
        });
        let all: Vec<String> = (0..24).map(|number| format!("x{number}")).collect();
        let answers = resolver.resolve(&all.into_iter().collect()).await;
        assert_eq!((answers.len(), answers["x7"].is_err(), answers["x8"].is_ok()), (24, true, true));
        assert_eq!(seen.load(Ordering::SeqCst), LOOKUPS_AT_A_TIME);
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_name_service_holds_nobody_up_and_its_late_answer_is_told() {
        let (release, wait) = std::sync::mpsc::channel::<()>();
        let wait = Mutex::new(wait);
        let resolver = Names::new(move |name| {
            if name == "slow" {
                let _ = wait.lock().unwrap().recv();
            }
            Ok(IpAddr::from([10, 0, 0, 2]))
        });
        // A lookup that never ends, with the clock going on by itself.
        let answers = resolver.resolve(&names(&["slow"])).await;
        assert!(answers["slow"].as_ref().is_err_and(|why| why.contains("3 s")), "{answers:?}");
        tokio::time::resume();
        assert_eq!(resolver.resolve(&names(&["quick"])).await["quick"], Ok(IpAddr::from([10, 0, 0, 2])), "others are not held up");
        release.send(()).unwrap();
        resolver.later().await;
        drop(release);
        assert!(resolver.resolve(&names(&["slow"])).await["slow"].is_ok());
    }
}
