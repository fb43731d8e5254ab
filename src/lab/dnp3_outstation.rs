use super::counters::Counters;
use std::{io, sync::Arc, time::Duration};
use tokio::net::TcpListener;
pub(super) struct Outstation {
    pub(super) master: u16,
    pub(super) station: u16,
    pub(super) unsolicited: Option<Duration>,
    pub(super) answers_after: Option<Duration>,
}
pub(super) async fn serve(_: TcpListener, _: Outstation, _: Arc<Counters>) -> io::Result<()> {
    Ok(())
}
