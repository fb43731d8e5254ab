//! Network namespaces that have no name in the file system: each is held by a thread, and is gone when the thread is, however the
//! process ends.

use super::{LabError, wiring::Wires};
use nix::{
    errno::Errno,
    sched::{CloneFlags, unshare},
    unistd::{getgid, getuid},
};
use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    process::{Child, Command},
    sync::mpsc,
    thread,
    time::Duration,
};
use tokio::{runtime, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// How long a namespace that is dropped waits for closures that still run in it.
const CLOSURES_MAY_TAKE: Duration = Duration::from_millis(200);

/// A network namespace, and a thread in it with a runtime of its own.
///
/// Sockets that its futures and closures make belong to the namespace, and so do processes that its closures start. Dropping it ends
/// the thread and everything that runs there; its links go with it.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    file: File,
    runtime: runtime::Handle,
    end: CancellationToken,
    thread: Option<thread::JoinHandle<()>>,
}

impl Namespace {
    /// A new namespace, with nothing in it but its loopback, switched on. `name` names the thread and stands in errors.
    ///
    /// # Errors
    /// When the kernel or the rights of the user do not allow it.
    pub fn new(name: &str) -> Result<Self, LabError> {
        let namespace = Self::start(name, || unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| LabError::Namespace(errno.into())))?;
        namespace.wait(async { Wires::open()?.up("lo").await })??;
        Ok(namespace)
    }

    /// The namespace that the calling thread is in, with a thread and a runtime of its own beside the caller's.
    ///
    /// # Errors
    /// When the thread or its runtime cannot be made.
    pub fn current(name: &str) -> Result<Self, LabError> {
        Self::start(name, || Ok(()))
    }

    fn start(name: &str, enter: impl FnOnce() -> Result<(), LabError> + Send + 'static) -> Result<Self, LabError> {
        let thread_error = |source| LabError::Thread { name: name.to_owned(), source };
        let (started, has_started) = mpsc::sync_channel(1);
        let end = CancellationToken::new();
        let until = end.clone();
        let thread_name = name.to_owned();
        let thread = thread::Builder::new()
            .name(format!("ns {name}"))
            .spawn(move || {
                let opened = enter().and_then(|()| open(&thread_name));
                match opened {
                    Ok((runtime, file)) => {
                        let _ = started.send(Ok((runtime.handle().clone(), file)));
                        runtime.block_on(until.cancelled());
                        runtime.shutdown_timeout(CLOSURES_MAY_TAKE);
                    }
                    Err(error) => drop(started.send(Err(error))),
                }
            })
            .map_err(thread_error)?;
        let (runtime, file) = has_started.recv().map_err(|_| LabError::Ended(name.to_owned()))??;
        Ok(Self { name: name.to_owned(), file, runtime, end, thread: Some(thread) })
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Starts a future in the namespace and returns at once. It ends with the namespace.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.runtime.spawn(future)
    }

    /// Runs a future in the namespace and blocks the calling thread until it is done.
    ///
    /// # Errors
    /// When the future panicked, or the namespace's thread has ended.
    pub fn wait<F>(&self, future: F) -> Result<F::Output, LabError>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let (done, is_done) = mpsc::sync_channel(1);
        self.runtime.spawn(async move {
            let _ = done.send(future.await);
        });
        is_done.recv().map_err(|_| LabError::Ended(self.name.clone()))
    }

    /// Runs a closure that may block on another thread of the namespace, and blocks the calling thread until it is done.
    ///
    /// # Errors
    /// When the closure panicked, or the namespace's thread has ended.
    pub fn run<T, C>(&self, closure: C) -> Result<T, LabError>
    where
        T: Send + 'static,
        C: FnOnce() -> T + Send + 'static,
    {
        // The pool's thread is started by the namespace's own thread, and a new thread is where its parent is.
        let ended = || LabError::Ended(self.name.clone());
        self.wait(async move { tokio::task::spawn_blocking(closure).await })?.map_err(|_| ended())
    }

    /// Starts a process in the namespace.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start_process(&self, mut command: Command) -> Result<Child, LabError> {
        let thread_error = |source| LabError::Thread { name: self.name.clone(), source };
        self.run(move || command.spawn())?.map_err(thread_error)
    }

    /// Sets a kernel setting of the namespace: `sysctl("net/ipv4/icmp_echo_ignore_all", "1")`.
    ///
    /// # Errors
    /// When there is no such setting, or it does not take the value.
    pub fn sysctl(&self, setting: &str, value: &str) -> Result<(), LabError> {
        let path = format!("/proc/sys/{setting}");
        let value = value.to_owned();
        self.run(move || {
            // The kernel finds the setting of the namespace that the *thread* is in, whichever mount of /proc this is.
            fs::write(&path, &value).map_err(|source| LabError::Sysctl { path, value, source })
        })?
    }

    /// The number by which netlink moves a link here; valid while the namespace lives.
    pub(super) fn raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        self.end.cancel();
        if let Some(thread) = self.thread.take() {
            // A panic of that thread has been printed already; there is nothing to add to it here.
            let _ = thread.join();
        }
    }
}

fn open(name: &str) -> Result<(runtime::Runtime, File), LabError> {
    let thread_error = |source| LabError::Thread { name: name.to_owned(), source };
    let file = File::open("/proc/thread-self/ns/net").map_err(LabError::Namespace)?;
    let runtime = runtime::Builder::new_current_thread().enable_all().build().map_err(thread_error)?;
    Ok((runtime, file))
}

/// Moves the calling thread into a network of its own, in which there is only a loopback.
///
/// Threads and processes that it starts from then on are there too; threads that exist already are not, so a program calls this
/// before it builds its runtime, and a test as its first line. Without root it asks for a user namespace as well, which the kernel
/// gives only to a process of one thread, and only where it is allowed.
///
/// # Errors
/// When the kernel or the rights of the user do not allow it.
pub fn enter_private() -> Result<(), LabError> {
    match unshare(CloneFlags::CLONE_NEWNET) {
        Ok(()) => {}
        Err(Errno::EPERM) => enter_private_as_user().map_err(LabError::Namespace)?,
        Err(errno) => return Err(LabError::Namespace(errno.into())),
    }
    Namespace::current("private")?.wait(async { Wires::open()?.up("lo").await })?
}

/// The same without root: in a new user namespace, in which this user is root.
fn enter_private_as_user() -> io::Result<()> {
    let (user, group) = (getuid(), getgid());
    unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNET)?;
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}
