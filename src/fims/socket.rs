//! The socket: whole packets in and out of a `SOCK_SEQPACKET` connection, never blocking.

use super::codec::MAX_PACKET_LEN;
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, getsockopt, recv, send, setsockopt, sockopt};
use std::io;
use std::os::fd::RawFd;
use std::time::Duration;
use tokio_seqpacket::UnixSeqpacket;

/// What the kernel keeps of a send buffer for itself: a packet may have this much less than `SO_SNDBUF`.
const SEND_BUFFER_OVERHEAD: usize = 32;

/// A receive buffer up to this size is kept for the next packet; a larger one is given back, so that hundreds of clients that each
/// sent one large packet do not hold hundreds of megabytes.
const KEPT_BUFFER: usize = 256 * 1024;

/// What came out of a socket.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Received<'a> {
    /// One packet.
    Packet(&'a [u8]),
    /// A packet of this many bytes, more than the bus carries; it was thrown away unread.
    TooLong(usize),
    /// The other end is gone. (An empty packet looks the same; nobody who speaks FIMS sends one.)
    Closed,
}

/// Takes packets from one socket into one buffer, which grows to what is needed.
#[derive(Debug, Default)]
pub(super) struct PacketReader {
    buffer: Vec<u8>,
}

/// [`Received`] without the borrow.
enum Taken {
    Packet(usize),
    TooLong(usize),
    Closed,
}

impl PacketReader {
    /// Waits for the next packet. Safe to cancel: a packet is either still in the socket or returned.
    pub(super) async fn receive(&mut self, socket: &UnixSeqpacket) -> io::Result<Received<'_>> {
        let taken = loop {
            let mut ready = socket.as_async_fd().readable().await?;
            match ready.try_io(|fd| self.take(std::os::fd::AsRawFd::as_raw_fd(fd.get_ref()))) {
                Ok(taken) => break taken?,
                Err(_would_block) => continue,
            }
        };
        Ok(match taken {
            Taken::Packet(len) => self.buffer.get(..len).map_or(Received::Closed, Received::Packet),
            Taken::TooLong(len) => Received::TooLong(len),
            Taken::Closed => Received::Closed,
        })
    }

    fn take(&mut self, fd: RawFd) -> io::Result<Taken> {
        let peek = || recv(fd, &mut [], MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_PEEK | MsgFlags::MSG_TRUNC);
        // When the other end closes with packets of ours unread, this error comes before the packets that it had sent.
        let len = match peek() {
            Err(Errno::ECONNRESET) => peek()?,
            other => other?,
        };
        if len == 0 {
            return Ok(Taken::Closed);
        }
        if len > MAX_PACKET_LEN {
            recv(fd, &mut [], MsgFlags::MSG_DONTWAIT)?;
            return Ok(Taken::TooLong(len));
        }
        if self.buffer.len() < len || (self.buffer.len() > KEPT_BUFFER && len <= KEPT_BUFFER) {
            self.buffer = vec![0; len.next_power_of_two().clamp(4096, MAX_PACKET_LEN)];
        }
        let len = recv(fd, &mut self.buffer, MsgFlags::MSG_DONTWAIT)?;
        Ok(if len == 0 { Taken::Closed } else { Taken::Packet(len) })
    }
}

/// Sends a whole packet now or not at all. `WouldBlock` means that the queue is full: nothing was sent, the connection is good.
pub(super) fn try_send(socket: &UnixSeqpacket, packet: &[u8]) -> io::Result<()> {
    send(socket.as_raw_fd(), packet, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL)?;
    Ok(())
}

/// Sends a whole packet, waiting a bounded time for room in the queue; `WouldBlock` if there came none. Safe to cancel: the packet
/// was sent only if this returned.
pub(super) async fn send_within(socket: &UnixSeqpacket, packet: &[u8], patience: Duration) -> io::Result<()> {
    match try_send(socket, packet) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
        done => return done,
    }
    let wait = async {
        loop {
            let mut ready = socket.as_async_fd().writable().await?;
            match ready.try_io(|_| try_send(socket, packet)) {
                Ok(done) => return done,
                Err(_would_block) => continue,
            }
        }
    };
    tokio::time::timeout(patience, wait).await.unwrap_or_else(|_| Err(io::ErrorKind::WouldBlock.into()))
}

/// Makes the send buffer large enough for the longest packet, if the kernel lets us, and returns the longest packet that can be sent,
/// in bytes. Without privileges `net.core.wmem_max` is the limit (the kernel doubles what is asked for).
pub(super) fn grow_send_buffer(socket: &UnixSeqpacket) -> io::Result<usize> {
    let needed = MAX_PACKET_LEN + SEND_BUFFER_OVERHEAD;
    if getsockopt(socket, sockopt::SndBuf)? < needed {
        setsockopt(socket, sockopt::SndBuf, &MAX_PACKET_LEN)?;
    }
    if getsockopt(socket, sockopt::SndBuf)? < needed {
        // Only root may; others keep what they got.
        let _ = setsockopt(socket, sockopt::SndBufForce, &MAX_PACKET_LEN);
    }
    Ok(getsockopt(socket, sockopt::SndBuf)?.saturating_sub(SEND_BUFFER_OVERHEAD).min(MAX_PACKET_LEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn packets_keep_their_boundaries_whatever_their_size() {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        assert_eq!(grow_send_buffer(&a).unwrap(), MAX_PACKET_LEN, "as root, or with a large wmem_max");
        let mut reader = PacketReader::default();
        for len in [1, 4096, 4097, 300_000, 5, MAX_PACKET_LEN, 300_000, 7] {
            let packet: Vec<u8> = (0..len).map(|n| n as u8).collect();
            try_send(&a, &packet).unwrap();
            assert_eq!(reader.receive(&b).await.unwrap(), Received::Packet(&packet));
        }
        assert!(reader.buffer.len() <= KEPT_BUFFER, "a large buffer is given back");
    }

    #[tokio::test]
    async fn a_packet_over_the_limit_is_thrown_away_and_the_next_one_read() {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        setsockopt(&a, sockopt::SndBufForce, &(4 * MAX_PACKET_LEN)).unwrap();
        try_send(&a, &vec![0; MAX_PACKET_LEN + 1]).unwrap();
        try_send(&a, b"next").unwrap();
        let mut reader = PacketReader::default();
        assert_eq!(reader.receive(&b).await.unwrap(), Received::TooLong(MAX_PACKET_LEN + 1));
        assert_eq!(reader.buffer.len(), 0);
        assert_eq!(reader.receive(&b).await.unwrap(), Received::Packet(b"next"));
    }

    #[tokio::test]
    async fn what_was_sent_before_a_hang_up_is_still_read() {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        try_send(&b, b"never read by a").unwrap();
        try_send(&a, b"last words").unwrap();
        drop(a);
        let mut reader = PacketReader::default();
        assert_eq!(reader.receive(&b).await.unwrap(), Received::Packet(b"last words"));
        assert_eq!(reader.receive(&b).await.unwrap(), Received::Closed);
    }

    #[tokio::test]
    async fn a_full_queue_is_waited_for_and_then_given_up() {
        let (a, b) = UnixSeqpacket::pair().unwrap();
        let mut sent = 0;
        while try_send(&a, &[0; 1000]).is_ok() {
            sent += 1;
        }
        let error = send_within(&a, b"late", Duration::from_millis(20)).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let drain = async {
            let mut reader = PacketReader::default();
            for _ in 0..sent {
                reader.receive(&b).await.unwrap();
            }
            assert_eq!(reader.receive(&b).await.unwrap(), Received::Packet(b"in time"));
        };
        let (outcome, ()) = tokio::join!(send_within(&a, b"in time", Duration::from_secs(5)), drain);
        outcome.unwrap();
    }
}
