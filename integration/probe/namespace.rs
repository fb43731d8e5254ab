//! Network namespaces that a test makes for itself, with real links between them. They vanish with the test.

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, geteuid, gettid},
};
use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    process::Command,
    sync::mpsc,
    thread,
    time::Duration,
};

type Job = Box<dyn FnOnce() + Send>;

/// A network of its own: a thread that lives in it and does there what it is told. What it opens stays in it, wherever it is used.
pub struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: Pid,
}

impl Namespace {
    /// An empty network with a loopback.
    pub fn new() -> Self {
        assert!(geteuid().is_root(), "these tests make network namespaces, so they must run as root");
        let (jobs, queue) = mpsc::channel::<Job>();
        let (ready, made) = mpsc::channel();
        thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace");
            ready.send(gettid()).expect("the test waits");
            queue.iter().for_each(|job| job());
        });
        let namespace = Self { jobs, thread: made.recv().expect("the namespace's thread") };
        namespace.ip("link set lo up");
        namespace
    }

    /// Does `work` in this network and returns what it returns.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (done, result) = mpsc::channel();
        self.jobs.send(Box::new(move || _ = done.send(catch_unwind(AssertUnwindSafe(work))))).expect("the namespace's thread runs");
        result.recv().expect("the namespace's thread runs").unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Drives a future in this network.
    pub fn block_on<F>(&self, work: impl FnOnce() -> F + Send + 'static) -> F::Output
    where
        F: Future,
        F::Output: Send + 'static,
    {
        self.run(|| tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime").block_on(work()))
    }

    /// Runs `ip`.
    pub fn ip(&self, arguments: &str) {
        let arguments: Vec<String> = arguments.split_whitespace().map(str::to_owned).collect();
        self.run(move || {
            let output = Command::new("ip").args(&arguments).output().expect("ip (of iproute2) can be run");
            assert!(output.status.success(), "ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
        });
    }

    /// Sets a kernel setting of this network, such as `ipv4/ip_forward`.
    pub fn set(&self, name: &str, value: &'static str) {
        let path = format!("/proc/sys/net/{name}");
        self.run(move || std::fs::write(&path, value).unwrap_or_else(|error| panic!("{path}: {error}")));
    }

    /// A link to another network, with an address (and its prefix length) at each end. Both ends have the name `link`.
    pub fn link_to(&self, other: &Self, link: &str, own: &str, others: &str) {
        self.ip(&format!("link add {link} type veth peer name {link} netns {}", other.thread));
        for (namespace, address) in [(self, own), (other, others)] {
            namespace.ip(&format!("addr add {address} dev {link} {}", if address.contains(':') { "nodad" } else { "" }));
            namespace.ip(&format!("link set {link} up"));
        }
        self.wait_until_up(link);
        other.wait_until_up(link);
    }

    /// Waits until the kernel has noticed the carrier; until then it sends nothing over IPv6.
    fn wait_until_up(&self, link: &str) {
        let arguments = ["-o".to_owned(), "link".into(), "show".into(), link.into(), "up".into()];
        for _ in 0..250 {
            let arguments = arguments.clone();
            let shown = self.run(|| Command::new("ip").args(arguments).output().expect("ip (of iproute2) can be run"));
            if String::from_utf8_lossy(&shown.stdout).contains("state UP") {
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
        panic!("{link} does not come up");
    }
}
