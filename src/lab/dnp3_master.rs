use super::client::PollOutcome;
use std::{io, time::Duration};
use tokio::net::TcpStream;
pub(super) struct Dnp3Session;
impl Dnp3Session {
    pub(super) fn new(_: TcpStream, _: u16, _: u16) -> Self {
        Self
    }
    pub(super) async fn integrity_poll(&mut self, _: Duration) -> io::Result<PollOutcome> {
        Err(io::ErrorKind::Unsupported.into())
    }
    pub(super) async fn listen(&mut self, _: Duration) -> io::Result<()> {
        Ok(())
    }
}
