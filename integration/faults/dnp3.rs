//! Either end of a DNP3 connection, fragment by fragment.

use netdiag::protocol::{
    Step,
    dnp3::{Application, LinkFunction, LinkHeader, Pushed, Reassembler, frames, step},
};
use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
    time::Duration,
};

/// Link addresses.
pub const MASTER: u16 = 1;
pub const STATION: u16 = 10;

pub struct End {
    stream: TcpStream,
    header: LinkHeader,
    next_segment: u8,
    received: Vec<u8>,
    reassembler: Reassembler,
}

impl End {
    pub fn master(stream: TcpStream) -> Self {
        Self::new(stream, LinkHeader::from_master(LinkFunction::UnconfirmedUserData, STATION, MASTER))
    }

    pub fn outstation(stream: TcpStream) -> Self {
        Self::new(stream, LinkHeader::from_outstation(LinkFunction::UnconfirmedUserData, MASTER, STATION))
    }

    fn new(stream: TcpStream, header: LinkHeader) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, header, next_segment: 0, received: Vec::new(), reassembler: Reassembler::default() }
    }

    pub fn send(&mut self, application: Application, objects: &[u8]) {
        self.stream.write_all(&frames(self.header, self.next_segment, &application.bytes(objects))).unwrap();
        self.next_segment += 1;
    }

    /// The next fragment: its header and its objects. `None` if none comes for so long, or the connection ends.
    pub fn receive(&mut self, patience: Duration) -> Option<(Application, Vec<u8>)> {
        self.stream.set_read_timeout(Some(patience)).unwrap();
        loop {
            match step(&self.received) {
                Step::Frame { frame, length } => {
                    let mut user_data = Vec::new();
                    frame.user_data(&mut user_data);
                    self.received.drain(..length);
                    if let Pushed::Fragment(fragment) | Pushed::AfterLoss(fragment) = self.reassembler.push(&user_data) {
                        let (application, objects) = Application::decode(fragment).expect("a whole header");
                        return Some((application, objects.to_vec()));
                    }
                }
                Step::NeedMore => {
                    let mut bytes = [0; 1024];
                    match self.stream.read(&mut bytes) {
                        Ok(0) | Err(_) => return None,
                        Ok(length) => self.received.extend_from_slice(&bytes[..length]),
                    }
                }
                Step::Skip { error, .. } => panic!("no frame: {error}"),
            }
        }
    }

    /// Says that nothing more comes, and waits for the other end to say so.
    pub fn close(mut self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
        while self.receive(Duration::from_secs(2)).is_some() {}
    }
}
