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
use std::{sync::Arc, time::Duration};

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
        SinkKind::Directory => Box::new(directory::Directory(settings)),
        SinkKind::Http => Box::new(put::HttpPut(settings)),
        SinkKind::S3 => Box::new(s3::S3(settings)),
    }
}

/// How long the whole of so many bytes may take: half a minute, and a second for each 128 KiB.
fn patience(bytes: u64) -> Duration {
    Duration::from_secs(30_u64.saturating_add(bytes >> 17))
}
