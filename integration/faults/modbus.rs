//! A Modbus TCP server that does what it is told with each request, and a client. Bytes are written by hand (MBAP header).

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::mpsc,
    thread::{self, JoinHandle},
    time::Duration,
};

pub const UNIT: u8 = 7;
/// Reads two holding registers at offset 100.
const READ: [u8; 5] = [3, 0, 100, 0, 2];
/// The exception "server device failure".
pub const FAILURE: u8 = 4;

/// After an answer a client waits until it is acknowledged, which Linux puts off for 40 ms: else a request that is lost takes the
/// acknowledgement with it, and both sides send again.
const PAUSE: Duration = Duration::from_millis(120);

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Well,
    /// In two segments.
    InParts,
    After(Duration),
    Never,
    Twice,
    Exception,
    OtherUnit,
    OtherId,
}

/// The identifier of the transaction of the request of that number, and the one that a wrong answer has.
pub const fn id_of(number: u16) -> u16 {
    0x0100 + number
}
pub const fn other_id_of(number: u16) -> u16 {
    0x5100 + number
}

pub fn adu(id: u16, unit: u8, pdu: &[u8]) -> Vec<u8> {
    let length = u16::try_from(pdu.len() + 1).unwrap();
    [&id.to_be_bytes()[..], &[0, 0], &length.to_be_bytes(), &[unit], pdu].concat()
}

pub fn request(number: u16) -> Vec<u8> {
    adu(id_of(number), UNIT, &READ)
}

pub fn read_adu(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 6];
    stream.read_exact(&mut bytes).ok()?;
    let length = usize::from(u16::from_be_bytes([bytes[4], bytes[5]]));
    bytes.resize(6 + length, 0);
    stream.read_exact(&mut bytes[6..]).unwrap();
    Some(bytes)
}

/// Answers the requests of one client, each as the script says, and those behind its end well; ends when the client closes.
pub fn serve(listener: TcpListener, script: &'static [Answer]) -> JoinHandle<()> {
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.set_nodelay(true).unwrap();
        let mut later = Vec::new();
        for number in 0.. {
            let Some(bytes) = read_adu(&mut stream) else { break };
            assert_eq!(bytes, request(number), "the server got something else");
            let [high, low] = number.to_be_bytes();
            let answer = |id, unit| adu(id, unit, &[3, 4, high, low, low, high]);
            let good = answer(id_of(number), UNIT);
            match script.get(usize::from(number)).copied().unwrap_or(Answer::Well) {
                Answer::Well => stream.write_all(&good).unwrap(),
                Answer::InParts => {
                    stream.write_all(&good[..9]).unwrap();
                    stream.write_all(&good[9..]).unwrap();
                }
                Answer::After(delay) => {
                    let mut stream = stream.try_clone().unwrap();
                    later.push(thread::spawn(move || {
                        thread::sleep(delay);
                        stream.write_all(&good).unwrap();
                    }));
                }
                Answer::Never => {}
                Answer::Twice => {
                    stream.write_all(&good).unwrap();
                    stream.write_all(&good).unwrap();
                }
                Answer::Exception => stream.write_all(&adu(id_of(number), UNIT, &[0x83, FAILURE])).unwrap(),
                Answer::OtherUnit => stream.write_all(&answer(id_of(number), UNIT + 1)).unwrap(),
                Answer::OtherId => stream.write_all(&answer(other_id_of(number), UNIT)).unwrap(),
            }
        }
        later.into_iter().for_each(|thread| thread.join().unwrap());
    })
}

/// A client, and what it was answered.
pub struct Client {
    stream: TcpStream,
    answers: mpsc::Receiver<Vec<u8>>,
    next: u16,
}

impl Client {
    pub fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        let (answered, answers) = mpsc::channel();
        let mut incoming = stream.try_clone().unwrap();
        thread::spawn(move || {
            while let Some(bytes) = read_adu(&mut incoming) {
                let _ = answered.send(bytes);
            }
        });
        Self { stream, answers, next: 0 }
    }

    /// Asks, whether or not the request before was answered.
    pub fn ask(&mut self) {
        self.stream.write_all(&request(self.next)).unwrap();
        self.next += 1;
    }

    /// Waits for an answer, whatever it is.
    pub fn answer(&mut self) -> Vec<u8> {
        self.answers.recv_timeout(Duration::from_secs(8)).expect("an answer")
    }

    /// Asks and waits for the answer to this request, so many times.
    pub fn poll(&mut self, times: usize) {
        for _ in 0..times {
            self.ask();
            let answer = self.answer();
            assert_eq!(answer[..2], id_of(self.next - 1).to_be_bytes());
            thread::sleep(PAUSE);
        }
    }

    /// Says that no more requests come.
    pub fn close(self) {
        self.stream.shutdown(Shutdown::Write).unwrap();
    }
}
