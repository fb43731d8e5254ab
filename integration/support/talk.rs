//! A conversation to record: a Modbus server, and a client that asks it fifty times a second.

use std::{
    io::{Read as _, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// The address of the server.
pub const DEVICE: &str = "127.0.0.2";

/// The conversation; it ends when this is dropped.
pub struct Talk {
    /// The server's port.
    pub port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    is_silent: AtomicBool,
    excepts: AtomicBool,
    has_ended: AtomicBool,
}

impl Talk {
    pub fn begin() -> Self {
        let listener = TcpListener::bind((DEVICE, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let (answers, asks) = (Arc::clone(&state), Arc::clone(&state));
        thread::spawn(move || answer(listener.accept().unwrap().0, &answers));
        thread::spawn(move || ask(TcpStream::connect((DEVICE, port)).unwrap(), &asks));
        Self { port, state }
    }

    /// The server answers no more; the client asks on.
    pub fn fall_silent(&self) {
        self.state.is_silent.store(true, Ordering::Relaxed);
    }

    /// The next answer is an exception.
    pub fn except_once(&self) {
        self.state.excepts.store(true, Ordering::Relaxed);
    }

    /// It goes on for as long as the tests do. Gives the port.
    pub fn for_ever(self) -> u16 {
        let port = self.port;
        std::mem::forget(self);
        port
    }
}

impl Drop for Talk {
    fn drop(&mut self) {
        self.state.has_ended.store(true, Ordering::Relaxed);
    }
}

fn answer(mut stream: TcpStream, state: &State) {
    let mut request = [0; 12];
    while stream.read_exact(&mut request).is_ok() {
        if state.is_silent.load(Ordering::Relaxed) {
            continue;
        }
        let [high, low, .., unit] = *request.first_chunk::<7>().unwrap();
        let response: &[u8] = match state.excepts.swap(false, Ordering::Relaxed) {
            true => &[high, low, 0, 0, 0, 3, unit, 0x83, 2],
            false => &[high, low, 0, 0, 0, 5, unit, 3, 2, 0, 7],
        };
        if stream.write_all(response).is_err() {
            return;
        }
    }
}

fn ask(mut stream: TcpStream, state: &State) {
    stream.set_nonblocking(true).unwrap();
    for id in 0_u16.. {
        let [high, low] = id.to_be_bytes();
        if stream.write_all(&[high, low, 0, 0, 0, 6, 1, 3, 0, 0, 0, 1]).is_err() {
            return;
        }
        thread::sleep(Duration::from_millis(20));
        // Whether there is an answer or not; one that is left unread would have the connection reset at its end.
        let _ = stream.read(&mut [0; 512]);
        if state.has_ended.load(Ordering::Relaxed) {
            return;
        }
    }
}
