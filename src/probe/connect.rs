//! One TCP connection, opened and closed as a well-behaved client does it.
//!
//! There are controllers with four connection slots that never forgive a client which vanishes. So a connection that opened always ends
//! with our FIN, and what the device has to say is read before the close: a close over unread bytes would send a reset. An attempt
//! that has not opened ends without a packet.

use super::{
    ConnectOutcome, Service,
    greeting::greeting,
    words::{When, errno, explain},
};
use crate::api::{ConnectState, Greeting, GreetingState};
use nix::errno::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use std::{
    io::{self, Read},
    net::{Shutdown, SocketAddr},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, timeout, timeout_at},
};

/// How long to look at an open connection before we close it: twice the handshake, so that what a device does at once (a reset, a close,
/// a greeting) can have arrived, but within these bounds.
const LOOK_MIN: Duration = Duration::from_millis(20);
const LOOK_MAX: Duration = Duration::from_millis(200);

/// How long and how much to read after our FIN.
const DRAIN_TIME: Duration = Duration::from_millis(500);
const DRAIN_BYTES: usize = 64 << 10;

/// The longest that a service is waited for to greet.
const GREETING_MAX: Duration = Duration::from_secs(5);

/// Opens and closes one connection. It takes at most `time_limit`, and when the connection opens, less than 0.7 s more. With a service
/// to be heard it may take `time_limit` once more.
pub(super) async fn connect(target: SocketAddr, time_limit: Duration, service: Option<Service>) -> ConnectOutcome {
    let began = Instant::now();
    let (connection, local) = match begin(target) {
        Ok(begun) => begun,
        Err((error, local_address)) => {
            let when = if local_address.is_some() { When::AfterSending } else { When::BeforeSending };
            return failed(&error, when, began.elapsed(), local_address);
        }
    };
    let local_address = Some(local);
    match timeout(time_limit, connection.opened()).await {
        Err(_) => {
            let detail = Some(format!("no answer within {} ms", time_limit.as_millis()));
            return ConnectOutcome { state: ConnectState::TimedOut, time: began.elapsed(), local_address, greeting: None, detail };
        }
        Ok(Err(error)) => return failed(&error, When::AfterSending, began.elapsed(), local_address),
        Ok(Ok(())) => {}
    }
    let time = began.elapsed();
    let open = |greeting, detail| ConnectOutcome { state: ConnectState::Open, time, local_address, greeting, detail };
    let ended = match service {
        Some(service) => {
            let mut connection = connection;
            let greeting = connection.hear(service, target, time_limit.min(GREETING_MAX)).await;
            let noticed = Vec::new();
            connection.close(noticed).await.map(|detail| open(Some(greeting), detail))
        }
        None => connection.look_and_close((time * 2).clamp(LOOK_MIN, LOOK_MAX)).await.map(|detail| open(None, detail)),
    };
    ended.unwrap_or_else(|error| failed(&error, When::AfterSending, began.elapsed(), local_address))
}

/// Sends the SYN. The error comes with the local address if a packet was sent all the same.
fn begin(target: SocketAddr) -> Result<(Connection, SocketAddr), (io::Error, Option<SocketAddr>)> {
    let nothing_sent = |error| (error, None);
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new(Domain::for_address(target), kind, Some(Protocol::TCP)).map_err(nothing_sent)?;
    let result = socket.connect(&target.into());
    // The kernel chose source address and port when it looked up the route, and keeps them when the attempt fails.
    let local = socket
        .local_addr()
        .ok()
        .and_then(|local| local.as_socket())
        .filter(|local| local.port() != 0 && !local.ip().is_unspecified());
    if let Err(error) = result
        && !matches!(errno(&error), Some(Errno::EINPROGRESS | Errno::EINTR))
    {
        return Err((error, local));
    }
    let local = match local {
        Some(local) => local,
        // It failed between the two calls, as on loopback, where the answer comes at once.
        None => {
            return Err((
                socket.take_error().ok().flatten().unwrap_or_else(|| io::Error::other("the local address is not known")),
                None,
            ));
        }
    };
    let stream = TcpStream::from_std(socket.into()).map_err(|error| (error, Some(local)))?;
    Ok((Connection { stream }, local))
}

/// A connection of ours, open or opening. However it ends, it ends gracefully: see its `Drop`.
struct Connection {
    stream: TcpStream,
}

impl Connection {
    /// Waits until the connection is open, or has failed.
    async fn opened(&self) -> io::Result<()> {
        self.stream.writable().await?;
        match self.stream.take_error()? {
            Some(error) => Err(error),
            None => self.stream.peer_addr().map(|_| ()),
        }
    }

    /// Watches the open connection for a moment, then closes it: our FIN, and reading to the end of what the device sends, within
    /// bounds. Returns what was noticed; the error is that the device broke the connection before we closed it.
    async fn look_and_close(mut self, look: Duration) -> io::Result<Option<String>> {
        let mut received = 0;
        let look_end = Instant::now() + look;
        let closed_at_once = match timeout_at(look_end, self.read_to_end(&mut received)).await {
            Err(_) => false,
            Ok(Ok(ended)) => ended,
            Ok(Err(error)) => return Err(error),
        };
        let mut noticed = Vec::new();
        if received > 0 {
            noticed.push(format!("the device sent {received} bytes unasked"));
        }
        if closed_at_once {
            noticed.push("the device closed the connection at once".to_owned());
        }
        if let Some(error) = self.stream.take_error()? {
            return Err(error);
        }
        self.close(noticed).await
    }

    /// Hears how a service greets. That the device breaks the connection meanwhile is part of the greeting.
    async fn hear(&mut self, service: Service, target: SocketAddr, time_limit: Duration) -> Greeting {
        let began = Instant::now();
        let end = began + time_limit;
        if let Some(request) = service.request(target)
            && !matches!(timeout_at(end, self.stream.write_all(request.as_bytes())).await, Ok(Ok(())))
        {
            return greeting(GreetingState::Closed, None, began.elapsed());
        }
        let mut received = Vec::new();
        let mut buffer = [0; 1024];
        loop {
            let (is_end, is_late) = match timeout_at(end, self.stream.read(&mut buffer)).await {
                Ok(Ok(bytes @ 1..)) => {
                    received.extend_from_slice(buffer.get(..bytes).unwrap_or_default());
                    (false, false)
                }
                Ok(Ok(0) | Err(_)) => (true, false),
                Err(_) => (!received.is_empty(), true),
            };
            match service.judge(&received, is_end) {
                Some((state, text)) => return greeting(state, text, began.elapsed()),
                None if is_late => return greeting(GreetingState::Silent, None, began.elapsed()),
                None => {}
            }
        }
    }

    /// Our FIN, and reading to the end of what the device sends, within bounds. Adds what is noticed.
    async fn close(mut self, mut noticed: Vec<String>) -> io::Result<Option<String>> {
        match self.stream.shutdown().await {
            // It closed first, as a web server does that was told to.
            Err(error) if !matches!(errno(&error), Some(Errno::ENOTCONN)) => return Err(error),
            _ => {}
        }
        match timeout(DRAIN_TIME, self.read_to_end(&mut 0)).await {
            Err(_) => noticed.push(format!("the device did not close its side within {} ms", DRAIN_TIME.as_millis())),
            Ok(Err(error)) if is_reset(&error) => noticed.push("the device answered our close with a reset".to_owned()),
            Ok(Err(error)) => noticed.push(explain(&error, When::AfterSending)),
            Ok(Ok(true)) => {}
            Ok(Ok(false)) => noticed.push("the device kept sending after our close".to_owned()),
        }
        Ok((!noticed.is_empty()).then(|| noticed.join("; ")))
    }

    /// Reads and forgets. `true` at the end of the stream, `false` when enough was read.
    async fn read_to_end(&mut self, received: &mut usize) -> io::Result<bool> {
        let mut buffer = [0; 2048];
        while *received < DRAIN_BYTES {
            match self.stream.read(&mut buffer).await? {
                0 => return Ok(true),
                bytes => *received += bytes,
            }
        }
        Ok(false)
    }
}

impl Drop for Connection {
    /// Also when the future is dropped in the middle: the FIN first, then whatever has arrived is read, so that the close sends no
    /// reset. On a connection that has not opened this sends nothing.
    fn drop(&mut self) {
        let socket = SockRef::from(&self.stream);
        let _ = socket.shutdown(Shutdown::Write);
        let mut buffer = [0; 2048];
        for _ in 0..DRAIN_BYTES / buffer.len() {
            if !matches!((&*socket).read(&mut buffer), Ok(1..)) {
                break;
            }
        }
    }
}

/// A broken connection; the second number is that of a reset after a FIN of the other side.
fn is_reset(error: &io::Error) -> bool {
    matches!(errno(error), Some(Errno::ECONNRESET | Errno::EPIPE))
}

fn failed(error: &io::Error, when: When, time: Duration, local_address: Option<SocketAddr>) -> ConnectOutcome {
    let state = state_of(error);
    let detail = match state {
        ConnectState::Refused => None,
        ConnectState::Reset => Some("the device opened the connection and broke it at once".to_owned()),
        _ => Some(explain(error, when)),
    };
    ConnectOutcome { state, time, local_address, greeting: None, detail }
}

/// What an error number of the kernel says about the attempt. An ICMP "port unreachable" looks like a reset here, and a dead neighbour like
/// a router's "host unreachable"; only a capture tells them apart.
fn state_of(error: &io::Error) -> ConnectState {
    match errno(error) {
        Some(Errno::ECONNREFUSED) => ConnectState::Refused,
        Some(Errno::ETIMEDOUT) => ConnectState::TimedOut,
        Some(Errno::ECONNRESET | Errno::EPIPE) => ConnectState::Reset,
        Some(
            Errno::EHOSTUNREACH
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::ENETDOWN
            | Errno::ENONET
            | Errno::ENOPROTOOPT
            | Errno::EACCES
            | Errno::EPERM,
        ) => ConnectState::Unreachable,
        _ => ConnectState::Error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_numbers_become_states() {
        for (errno, state) in [
            (Errno::ECONNREFUSED, ConnectState::Refused),
            (Errno::ETIMEDOUT, ConnectState::TimedOut),
            (Errno::EHOSTUNREACH, ConnectState::Unreachable),
            (Errno::ENETUNREACH, ConnectState::Unreachable),
            (Errno::EACCES, ConnectState::Unreachable),
            (Errno::EPERM, ConnectState::Unreachable),
            (Errno::ECONNRESET, ConnectState::Reset),
            (Errno::EMFILE, ConnectState::Error),
            (Errno::EADDRNOTAVAIL, ConnectState::Error),
            (Errno::EINVAL, ConnectState::Error),
        ] {
            assert_eq!(state_of(&io::Error::from_raw_os_error(errno as i32)), state, "{errno}");
        }
        assert_eq!(state_of(&io::Error::other("no number")), ConnectState::Error);
    }

    #[test]
    fn errors_of_this_host_say_what_to_do() {
        let outcome = failed(&io::Error::from_raw_os_error(Errno::EMFILE as i32), When::BeforeSending, Duration::ZERO, None);
        assert_eq!(outcome.state, ConnectState::Error);
        assert!(outcome.detail.unwrap().contains("LimitNOFILE"));
    }
}
