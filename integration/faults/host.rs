//! A host with several Modbus services that can stall as a whole: a virtual machine that is paused, say, whose network card goes on.

use crate::modbus::{adu, read_adu};
use socket2::SockRef;
use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Condvar, Mutex},
    thread,
    time::Duration,
};

/// The read that is always refused: it is for this unit.
pub const REFUSED_UNIT: u8 = 255;
const ILLEGAL_ADDRESS: u8 = 2;

/// Whether the programs of the host run.
#[derive(Default)]
pub struct Host {
    is_stalled: Mutex<bool>,
    goes_on: Condvar,
}

impl Host {
    pub fn stall(&self) {
        *self.is_stalled.lock().unwrap() = true;
    }

    pub fn go_on(&self) {
        *self.is_stalled.lock().unwrap() = false;
        self.goes_on.notify_all();
    }

    /// Waits while the host is stalled.
    pub fn run(&self) {
        drop(self.goes_on.wait_while(self.is_stalled.lock().unwrap(), |is_stalled| *is_stalled).unwrap());
    }

    /// Serves so many connections, each until it ends. All of it stalls with the host.
    pub fn serve(&self, listener: &TcpListener, connections: usize) {
        thread::scope(|threads| {
            for _ in 0..connections {
                let (stream, _) = listener.accept().unwrap();
                threads.spawn(move || self.answer(stream));
            }
        });
    }

    fn answer(&self, mut stream: TcpStream) {
        stream.set_nodelay(true).unwrap();
        while let Some(request) = read_adu(&mut stream) {
            self.run();
            let [id_high, id_low, _, _, _, _, unit, function, ..] = request[..] else { panic!("a short request") };
            let id = u16::from_be_bytes([id_high, id_low]);
            let answer = match unit {
                REFUSED_UNIT => adu(id, unit, &[function | 0x80, ILLEGAL_ADDRESS]),
                _ => adu(id, unit, &[function, 2, id_high, id_low]),
            };
            if stream.write_all(&answer).is_err() {
                break;
            }
        }
    }
}

/// A client that asks on, whether it is answered or not.
pub struct Asker {
    stream: TcpStream,
    next_id: u16,
}

impl Asker {
    pub fn connect(server: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&server, Duration::from_secs(10)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut incoming = stream.try_clone().unwrap();
        thread::spawn(move || while incoming.read(&mut [0; 256]).is_ok_and(|length| length > 0) {});
        Self { stream, next_id: 0 }
    }

    /// Reads one register.
    pub fn ask(&mut self, unit: u8, function: u8) {
        self.stream.write_all(&adu(self.next_id, unit, &[function, 0, 0, 0, 1])).unwrap();
        self.next_id += 1;
    }

    /// Says that it asks no more.
    pub fn close(self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }

    /// Throws the connection away, as a client that has lost its patience does.
    pub fn give_up(self) {
        SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
        // The thread that reads holds the connection, too, until it is reset.
        SockRef::from(&self.stream).shutdown(Shutdown::Read).unwrap();
    }
}
