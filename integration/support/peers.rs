//! Real third-party peers: Python scripts around pymodbus and opendnp3, in `integration/peers`.

use super::{SLOWER, needs};
use netdiag::lab::Namespace;
use serde_json::Value;
use std::{
    env, fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// How long a peer may take to be ready, and to end.
const READY_WITHIN: Duration = Duration::from_secs(20);
const ENDED_WITHIN: Duration = Duration::from_secs(3);

/// A Python interpreter that has the peers' packages: `$NETDIAG_PEERS_PYTHON`, or the one of `target/peers`.
pub struct Peers {
    python: PathBuf,
}

impl Peers {
    /// Finds the interpreter; [`needs::missing`] if there is none.
    pub fn find() -> Option<Self> {
        let python = match env::var_os("NETDIAG_PEERS_PYTHON") {
            Some(python) => PathBuf::from(python),
            None => Path::new(env!("CARGO_MANIFEST_DIR")).join("target/peers/bin/python"),
        };
        if python.exists() {
            return Some(Self { python });
        }
        needs::missing(&format!("no third-party peers: no interpreter at {}", python.display()));
        None
    }

    /// A program that came with the peers' packages.
    pub fn program(&self, name: &str) -> PathBuf {
        self.python.with_file_name(name)
    }

    /// Starts `integration/peers/<script>` in `namespace` and waits until it serves.
    pub fn start(&self, namespace: &Namespace, script: &str, place: SocketAddr, options: &[&str]) -> Peer {
        let mut command = Command::new(&self.python);
        command
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("integration/peers").join(script))
            .args(["--address", &place.ip().to_string(), "--port", &place.port().to_string()])
            .args(options)
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = namespace.start_process(command).unwrap();
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().unwrap());
        let events = Arc::<Events>::default();
        let filled = Arc::clone(&events);
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                match serde_json::from_str(&line) {
                    Ok(event) => filled.push(event),
                    Err(error) => eprintln!("a peer said `{line}`, which is no event: {error}"),
                }
            }
        });
        let peer = Peer { name: script.to_owned(), child, stdin, events };
        peer.wait_for("ready", READY_WITHIN, |event| event["event"] == "ready");
        peer
    }
}

#[derive(Default)]
struct Events {
    all: Mutex<Vec<Value>>,
    more: Condvar,
}

impl Events {
    fn push(&self, event: Value) {
        self.all.lock().unwrap().push(event);
        self.more.notify_all();
    }
}

/// A running peer. Dropping it ends its process.
pub struct Peer {
    name: String,
    child: Child,
    stdin: Option<ChildStdin>,
    events: Arc<Events>,
}

impl Peer {
    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What it has said so far.
    pub fn events(&self) -> Vec<Value> {
        self.events.all.lock().unwrap().clone()
    }

    /// How many of its events so far are so.
    pub fn count(&self, is_so: impl Fn(&Value) -> bool) -> usize {
        self.events().iter().filter(|event| is_so(event)).count()
    }

    /// How often its channel has been in this state (`OPEN`, `CLOSED`, ...).
    pub fn channel_states(&self, state: &str) -> usize {
        self.count(|event| event["event"] == "channel" && event["state"] == state)
    }

    /// Waits for an event that is so, among those that came already too; panics if there is none within `limit`.
    pub fn wait_for(&self, what: &str, limit: Duration, is_so: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_count(what, limit, 1, is_so)
    }

    /// Waits until `count` events are so, and returns the last of them; panics if they do not come within `limit`.
    pub fn wait_for_count(&self, what: &str, limit: Duration, count: usize, is_so: impl Fn(&Value) -> bool) -> Value {
        let limit = limit * SLOWER;
        let deadline = Instant::now() + limit;
        let mut all = self.events.all.lock().unwrap();
        loop {
            if let Some(event) = all.iter().filter(|event| is_so(event)).nth(count - 1) {
                return event.clone();
            }
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "{} did not within {limit:?}: {what}; it said {all:#?}", self.name);
            all = self.events.more.wait_timeout(all, left).unwrap().0;
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // The end of its stdin tells a peer to end; it does so too when this process is killed.
        drop(self.stdin.take());
        let deadline = Instant::now() + ENDED_WITHIN;
        while matches!(self.child.try_wait(), Ok(None)) {
            if Instant::now() > deadline {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a process of that id runs (a zombie does not).
pub fn is_running(id: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}
