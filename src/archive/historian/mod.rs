//! The way of archived snapshots to a historian: a queue on disk for each sink, and the sinks: a directory that another service ships from,
//! a store that speaks S3, a server that takes files by HTTP `PUT`.

mod directory;
mod outbox;
mod parcel;
mod put;
mod s3;
mod settings;

pub use outbox::Outbox;
pub use parcel::Parcel;
pub use settings::{SinkKind, SinkSettings};

use async_trait::async_trait;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::time::timeout;

/// Why a sink did not take a parcel.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Nobody was there, it broke off, or there was no room: it may go well later.
    #[error("{0}")]
    Unreachable(String),
    /// It was understood and not wanted: credentials, a bucket, a setting must be changed.
    #[error("{0}")]
    Refused(String),
}

/// A place that takes parcels. Taking the same one twice does no harm: the second replaces the first.
#[async_trait]
pub trait Sink: Send + Sync {
    /// Brings a parcel there under this file name. When it returns, it is there whole; when it fails or is dropped, it is not.
    ///
    /// # Errors
    /// Why not, in words without secrets.
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError>;
}

/// The sink that these settings describe. Files of secrets are read each time something is sent.
pub fn sink(settings: &SinkSettings) -> Box<dyn Sink> {
    let settings = settings.clone();
    match settings.kind {
        SinkKind::Directory => Box::new(directory::Directory::new(settings)),
        SinkKind::Http => Box::new(put::HttpPut(settings)),
        SinkKind::S3 => Box::new(s3::S3(settings)),
    }
}

/// So long nothing may move.
const STALL: Duration = Duration::from_secs(300);

fn stalled() -> SinkError {
    SinkError::Unreachable(format!("nothing has moved for {} s", STALL.as_secs()))
}

/// Waits for as long as `progress` grows.
async fn while_it_moves<T>(work: impl Future<Output = T>, progress: &AtomicU64) -> Result<T, SinkError> {
    tokio::pin!(work);
    let mut before = progress.load(Relaxed);
    loop {
        if let Ok(done) = timeout(STALL, &mut work).await {
            return Ok(done);
        }
        let now = progress.load(Relaxed);
        if now == before {
            return Err(stalled());
        }
        before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::{Instant, sleep};

    #[tokio::test(start_paused = true)]
    async fn what_is_slow_may_take_for_ever_and_what_stands_still_may_not() {
        let progress = AtomicU64::new(0);
        let slow = async {
            for _ in 0..100 {
                sleep(STALL / 2).await;
                progress.fetch_add(1, Relaxed);
            }
        };
        while_it_moves(slow, &progress).await.unwrap();
        let begun = Instant::now();
        let hangs = std::future::pending::<()>();
        assert_eq!(while_it_moves(hangs, &progress).await, Err(stalled()));
        assert_eq!(begun.elapsed(), STALL);
    }
}
