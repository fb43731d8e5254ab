//! How a device is there on its port: serving, refusing, dropping, resetting.

use super::{
    counters::{Counters, Ending},
    device::{Behaviour, DeviceSpec, Speaks},
    dnp3_outstation::{self, Outstation},
    modbus_server::{self, Manner},
};
use socket2::{Domain, Socket, Type};
use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::timeout,
};

/// How many connections may wait to be accepted by a device that serves.
const BACKLOG: i32 = 64;

/// How long a connection attempt to a full queue may go unanswered until the queue is known to be full.
const DROP_IS_SURE_AFTER: Duration = Duration::from_millis(250);

/// What holds a device's port.
#[derive(Debug)]
pub(super) enum Presence {
    /// A task serves it.
    Serving(JoinHandle<()>),
    /// A socket has the port but does not listen: connects are refused, and nobody else can take the port.
    Refusing { _bound: Socket },
    /// A socket listens whose queue is full of connections that nobody accepts: the kernel drops further SYNs.
    Full { _listener: Socket, _queued: Vec<TcpStream> },
    /// There is no host, or none that the lab serves on.
    Absent,
}

impl Drop for Presence {
    fn drop(&mut self) {
        if let Self::Serving(task) = self {
            task.abort();
        }
    }
}

/// Puts a device on a port of `address`; with `any_port`, on another one when its own is taken. Returns the port that it has.
///
/// Must run in the namespace that has the address.
pub(super) async fn start(
    spec: DeviceSpec,
    address: Ipv4Addr,
    port: u16,
    any_port: bool,
    counters: Arc<Counters>,
) -> io::Result<(Presence, u16)> {
    if !spec.behaviour.takes_port() {
        return Ok((Presence::Absent, port));
    }
    let socket = match bind(address, port) {
        Err(error) if any_port && error.kind() == io::ErrorKind::AddrInUse => bind(address, 0)?,
        bound => bound?,
    };
    let place = socket.local_addr()?.as_socket().ok_or(io::ErrorKind::AddrNotAvailable)?;
    let presence = match &spec.behaviour {
        Behaviour::RefusesPort => Presence::Refusing { _bound: socket },
        Behaviour::DropsConnections => fill_queue(socket, place).await?,
        _ => {
            let listener = listen(socket)?;
            Presence::Serving(tokio::spawn(serve(listener, spec, counters)))
        }
    };
    Ok((presence, place.port()))
}

async fn serve(listener: TcpListener, spec: DeviceSpec, counters: Arc<Counters>) {
    let name = spec.name.clone();
    let outcome = match (spec.speaks, spec.behaviour) {
        (_, Behaviour::ResetsOnAccept) => reset_each(listener, &counters).await,
        (Speaks::Modbus { unit_ids }, behaviour) => {
            let manner = match behaviour {
                Behaviour::Slow(delay) => Manner::After(delay),
                Behaviour::Exceptions { registers, code } => Manner::Refusing(registers, code),
                Behaviour::NeverAnswers => Manner::Never,
                _ => Manner::Promptly,
            };
            modbus_server::serve(listener, unit_ids, manner, spec.most_connections, counters).await
        }
        (Speaks::Dnp3 { master, station, unsolicited }, behaviour) => {
            let answers_after = match behaviour {
                Behaviour::NeverAnswers => None,
                Behaviour::Slow(delay) => Some(delay),
                _ => Some(Duration::ZERO),
            };
            dnp3_outstation::serve(listener, Outstation { master, station, unsolicited, answers_after }, counters).await
        }
    };
    if let Err(error) = outcome {
        tracing::error!(device = name, %error, "a device of the lab stopped serving");
    }
}

fn bind(address: Ipv4Addr, port: u16) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&SocketAddr::from((address, port)).into())?;
    Ok(socket)
}

fn listen(socket: Socket) -> io::Result<TcpListener> {
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    TcpListener::from_std(socket.into())
}

/// Accepts and resets, as an overloaded or half-configured device does.
async fn reset_each(listener: TcpListener, counters: &Arc<Counters>) -> io::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        // A close with a linger time of 0 is a reset.
        stream.set_zero_linger()?;
        counters.watch(stream).ended(Ending::ThrownOut);
    }
}

/// Listens with the shortest queue and fills it with own connections, until one gets no answer: that is what "dropped" means.
async fn fill_queue(socket: Socket, place: SocketAddr) -> io::Result<Presence> {
    socket.listen(0)?;
    let mut queued = Vec::new();
    // A queue of length 0 holds one connection; a kernel with other ideas gets a few more chances.
    for _ in 0..8 {
        match timeout(DROP_IS_SURE_AFTER, TcpStream::connect(place)).await {
            Ok(connected) => queued.push(connected?),
            Err(_) => return Ok(Presence::Full { _listener: socket, _queued: queued }),
        }
    }
    Err(io::Error::other("this kernel accepts connections for a full queue, so the port cannot be made to drop them"))
}
