//! A device that serves Modbus TCP.

use super::{
    counters::Counters,
    room::{Place, Room},
};
use std::{
    collections::HashMap,
    future::Future,
    io,
    ops::RangeInclusive,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};
use tokio::net::TcpListener;
use tokio_modbus::{
    ExceptionCode, Request, Response, SlaveRequest,
    server::{Service, tcp::Server},
};

/// How many registers, and how many bits, each unit has of each table.
pub const REGISTERS_PER_UNIT: u16 = 100;

/// The register, of both register tables, that counts up once a second: the heartbeat.
pub const LIFE_SIGNAL: u16 = 0;

/// The register, of both register tables, that holds the unit id.
pub const UNIT_ID: u16 = 1;

/// The register, of both register tables, that holds the state of charge in tenths of a percent.
pub const STATE_OF_CHARGE: u16 = 2;

/// How a server answers its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Manner {
    /// At once.
    Promptly,
    /// Each one after this long.
    After(Duration),
    /// With this exception code when one of these registers is asked for.
    Refusing(RangeInclusive<u16>, u8),
    /// Not at all; the connection stays open.
    Never,
}

/// Serves the units on a listener until its future is dropped; `most_connections` at a time, if there is such a limit.
pub(super) async fn serve(
    listener: TcpListener,
    unit_ids: Vec<u8>,
    manner: Manner,
    most_connections: Option<u32>,
    counters: Arc<Counters>,
) -> io::Result<()> {
    let started = Instant::now();
    let units = Arc::new(Units { unit_ids, manner, started, written: Mutex::default(), counters: Arc::clone(&counters) });
    let room = most_connections.map(|most| Room::new(&listener, most)).transpose()?;
    let on_connected = move |stream, _| {
        let (units, room, counters) = (Arc::clone(&units), room.clone(), Arc::clone(&counters));
        async move {
            let place = match &room {
                Some(room) => Some(room.take().await?),
                None => None,
            };
            Ok(Some((Client { units, _place: place }, counters.watch(stream))))
        }
    };
    Server::new(listener).serve(&on_connected, |_| {}).await
}

/// What the units of one device hold.
struct Units {
    unit_ids: Vec<u8>,
    manner: Manner,
    started: Instant,
    written: Mutex<Written>,
    counters: Arc<Counters>,
}

/// What clients wrote, by unit id and offset; bounded, because both are.
#[derive(Default)]
struct Written {
    registers: HashMap<(u8, u16), u16>,
    coils: HashMap<(u8, u16), bool>,
}

/// One client of the device.
struct Client {
    units: Arc<Units>,
    /// Its place, where there are only so many.
    _place: Option<Place>,
}

impl Service for Client {
    type Request = SlaveRequest<'static>;
    type Response = Option<Response>;
    type Exception = ExceptionCode;
    type Future = Pin<Box<dyn Future<Output = Result<Option<Response>, ExceptionCode>> + Send>>;

    fn call(&self, request: Self::Request) -> Self::Future {
        let units = Arc::clone(&self.units);
        Box::pin(async move {
            units.counters.count_request();
            match &units.manner {
                Manner::Never => return Ok(None),
                Manner::After(delay) => tokio::time::sleep(*delay).await,
                Manner::Promptly | Manner::Refusing(..) => {}
            }
            units.answer(request.slave, request.request).map(Some)
        })
    }
}

impl Units {
    fn answer(&self, unit_id: u8, request: Request<'static>) -> Result<Response, ExceptionCode> {
        // What a gateway says of a unit that it does not know.
        if !self.unit_ids.contains(&unit_id) {
            return Err(ExceptionCode::GatewayTargetDevice);
        }
        match request {
            Request::ReadCoils(from, count) => Ok(Response::ReadCoils(self.coils(unit_id, from, count)?)),
            Request::ReadDiscreteInputs(from, count) => {
                let offsets = self.offsets(from, count)?;
                Ok(Response::ReadDiscreteInputs(offsets.map(|offset| offset % 2 == 0).collect()))
            }
            Request::ReadInputRegisters(from, count) => {
                let offsets = self.offsets(from, count)?;
                Ok(Response::ReadInputRegisters(offsets.map(|offset| self.measured(unit_id, offset)).collect()))
            }
            Request::ReadHoldingRegisters(from, count) => {
                Ok(Response::ReadHoldingRegisters(self.holding_registers(unit_id, from, count)?))
            }
            Request::WriteSingleCoil(offset, coil) => {
                self.write_coils(unit_id, offset, &[coil])?;
                Ok(Response::WriteSingleCoil(offset, coil))
            }
            Request::WriteMultipleCoils(from, coils) => {
                let count = self.write_coils(unit_id, from, &coils)?;
                Ok(Response::WriteMultipleCoils(from, count))
            }
            Request::WriteSingleRegister(offset, value) => {
                self.write_registers(unit_id, offset, &[value])?;
                Ok(Response::WriteSingleRegister(offset, value))
            }
            Request::WriteMultipleRegisters(from, values) => {
                let count = self.write_registers(unit_id, from, &values)?;
                Ok(Response::WriteMultipleRegisters(from, count))
            }
            _ => Err(ExceptionCode::IllegalFunction),
        }
    }

    fn offsets(&self, from: u16, count: u16) -> Result<std::ops::Range<u16>, ExceptionCode> {
        let end = from.checked_add(count).filter(|&end| count > 0 && end <= REGISTERS_PER_UNIT);
        let end = end.ok_or(ExceptionCode::IllegalDataAddress)?;
        match &self.manner {
            Manner::Refusing(registers, code) if (from..end).any(|offset| registers.contains(&offset)) => {
                Err(ExceptionCode::new(*code))
            }
            _ => Ok(from..end),
        }
    }

    fn holding_registers(&self, unit_id: u8, from: u16, count: u16) -> Result<Vec<u16>, ExceptionCode> {
        let offsets = self.offsets(from, count)?;
        let written = self.written();
        let value = |offset| written.registers.get(&(unit_id, offset)).copied().unwrap_or_else(|| self.measured(unit_id, offset));
        Ok(offsets.map(value).collect())
    }

    fn coils(&self, unit_id: u8, from: u16, count: u16) -> Result<Vec<bool>, ExceptionCode> {
        let offsets = self.offsets(from, count)?;
        let written = self.written();
        Ok(offsets.map(|offset| written.coils.get(&(unit_id, offset)).copied().unwrap_or(false)).collect())
    }

    fn write_registers(&self, unit_id: u8, from: u16, values: &[u16]) -> Result<u16, ExceptionCode> {
        let offsets = self.offsets(from, count_of(values)?)?;
        self.written().registers.extend(offsets.zip(values).map(|(offset, value)| ((unit_id, offset), *value)));
        count_of(values)
    }

    fn write_coils(&self, unit_id: u8, from: u16, coils: &[bool]) -> Result<u16, ExceptionCode> {
        let offsets = self.offsets(from, count_of(coils)?)?;
        self.written().coils.extend(offsets.zip(coils).map(|(offset, coil)| ((unit_id, offset), *coil)));
        count_of(coils)
    }

    /// What the device measures: the same in both register tables.
    fn measured(&self, unit_id: u8, offset: u16) -> u16 {
        // Registers are 16 bits, and a heartbeat starts again at 0.
        let seconds = (self.started.elapsed().as_secs() & 0xFFFF) as u16;
        match offset {
            LIFE_SIGNAL => seconds,
            UNIT_ID => u16::from(unit_id),
            STATE_OF_CHARGE => 500 + seconds % 100,
            other => other * 10 + u16::from(unit_id),
        }
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn count_of<T>(values: &[T]) -> Result<u16, ExceptionCode> {
    u16::try_from(values.len()).map_err(|_| ExceptionCode::IllegalDataValue)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units(manner: Manner) -> Units {
        let (started, counters) = (Instant::now(), Arc::default());
        Units { unit_ids: vec![1, 11], manner, started, written: Mutex::default(), counters }
    }

    #[test]
    fn each_unit_answers_for_itself_and_an_unknown_one_as_a_gateway_does() {
        let units = units(Manner::Promptly);
        let read = Request::ReadInputRegisters(UNIT_ID, 1);
        assert_eq!(units.answer(11, read.clone()), Ok(Response::ReadInputRegisters(vec![11])));
        assert_eq!(units.answer(12, read), Err(ExceptionCode::GatewayTargetDevice));
    }

    #[test]
    fn what_is_written_is_read_back() {
        let units = units(Manner::Promptly);
        let written = units.answer(1, Request::WriteMultipleRegisters(10, vec![7, 8].into()));
        assert_eq!(written, Ok(Response::WriteMultipleRegisters(10, 2)));
        assert_eq!(units.answer(1, Request::ReadHoldingRegisters(9, 3)), Ok(Response::ReadHoldingRegisters(vec![91, 7, 8])));
        assert_eq!(units.answer(11, Request::ReadHoldingRegisters(10, 1)), Ok(Response::ReadHoldingRegisters(vec![111])));
    }

    #[test]
    fn registers_past_the_end_and_the_refused_ones_are_exceptions() {
        let units = units(Manner::Refusing(20..=29, 4));
        let read = |from, count| units.answer(1, Request::ReadHoldingRegisters(from, count)).map(drop);
        assert_eq!(read(0, 20), Ok(()));
        assert_eq!(read(15, 6), Err(ExceptionCode::ServerDeviceFailure));
        assert_eq!(read(99, 2), Err(ExceptionCode::IllegalDataAddress));
        assert_eq!(read(0xFFFF, 1), Err(ExceptionCode::IllegalDataAddress));
    }
}
