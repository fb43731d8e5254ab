//! How many connections a device takes at a time, and that it says nothing at all to whoever wants one more.
//!
//! Linux answers a connection request before the program accepts the connection, so that not to accept is not enough. While there is
//! room, the queue of the listening socket is as long as the room that is left; when there is none, a filter on that socket takes
//! nothing more. What is connected already has sockets of its own and goes on. An attempt in the moment in which another one is being accepted
//! may get into the queue all the same; it waits there, unserved, until one has left.

use socket2::{SockFilter, Socket};
use std::{
    io,
    os::fd::AsFd,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{net::TcpListener, sync::Notify};

/// A classic BPF program: take no byte of any packet.
const NOTHING: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// The room of a listening device.
#[derive(Debug)]
pub(super) struct Room {
    listener: Socket,
    most: u32,
    taken: Mutex<u32>,
    left: Notify,
}

/// The place of one connection; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Place(Arc<Room>);

impl Room {
    /// The room for so many connections on a socket that listens.
    pub(super) fn new(listener: &TcpListener, most: u32) -> io::Result<Arc<Self>> {
        let listener = Socket::from(listener.as_fd().try_clone_to_owned()?);
        let room = Self { listener, most, taken: Mutex::default(), left: Notify::new() };
        room.tell_kernel(0)?;
        Ok(Arc::new(room))
    }

    /// Takes the place of a connection that was accepted just now. Where there is none it waits for one.
    pub(super) async fn take(self: &Arc<Self>) -> io::Result<Place> {
        loop {
            let left = self.left.notified();
            if self.try_take()? {
                return Ok(Place(Arc::clone(self)));
            }
            left.await;
        }
    }

    fn try_take(&self) -> io::Result<bool> {
        let mut taken = self.taken();
        if *taken >= self.most {
            return Ok(false);
        }
        *taken += 1;
        self.tell_kernel(*taken)?;
        Ok(true)
    }

    fn tell_kernel(&self, taken: u32) -> io::Result<()> {
        match self.most.saturating_sub(taken) {
            0 => self.listener.attach_filter(&[NOTHING]),
            // A queue of length 0 holds one connection.
            left => self.listener.listen(i32::try_from(left - 1).unwrap_or(i32::MAX)),
        }
    }

    fn leave(&self) -> io::Result<()> {
        let mut taken = self.taken();
        if *taken >= self.most {
            self.listener.detach_filter()?;
        }
        *taken = taken.saturating_sub(1);
        self.tell_kernel(*taken)
    }

    fn taken(&self) -> MutexGuard<'_, u32> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Err(error) = self.0.leave() {
            tracing::error!(%error, "a device of the lab takes no more connections, though one has ended");
        }
        self.0.left.notify_one();
    }
}
