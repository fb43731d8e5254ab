//! A store that speaks S3: Amazon's, or one of its kind on site.

use super::{Parcel, Sink, SinkError, SinkSettings, patience};
use crate::http::{described, install_crypto, root_cause, short};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use object_store::{
    Attribute, Attributes, Certificate, ClientOptions, Error, MultipartUpload, ObjectStore, PutOptions, PutPayload, RetryConfig,
    WriteMultipart,
    aws::{AmazonS3, AmazonS3Builder},
    path::Path,
};
use std::{io, path::Path as FilePath, sync::Arc, time::Duration};
use tokio::{sync::mpsc::Receiver, time::timeout};

/// What is longer goes in parts of this size. S3 wants 5 MiB at least.
const PART: usize = 8 << 20;
/// Parts on their way at a time.
const PARTS_AHEAD: usize = 1;
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

pub(super) struct S3(pub SinkSettings);

#[async_trait]
impl Sink for S3 {
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError> {
        let (settings, bytes) = (self.0.clone(), parcel.tar_bytes());
        let place = Path::from_iter(settings.prefix.split('/').filter(|part| !part.is_empty()).chain([file_name]));
        let store = tokio::task::spawn_blocking(move || store(&settings)).await;
        let store = store.map_err(|error| SinkError::Unreachable(error.to_string()))?.map_err(SinkError::Refused)?;
        let sent = timeout(patience(bytes), send(&store, &place, &parcel)).await;
        sent.map_err(|_| SinkError::Unreachable(format!("it did not take {bytes} bytes within {} s", patience(bytes).as_secs())))?
    }
}

async fn send(store: &AmazonS3, place: &Path, parcel: &Arc<Parcel>) -> Result<(), SinkError> {
    let mut pieces = parcel.pieces();
    let attributes = Attributes::from_iter([(Attribute::ContentType, "application/x-tar")]);
    if parcel.tar_bytes() <= PART as u64 {
        let mut whole = BytesMut::new();
        while let Some(piece) = pieces.recv().await {
            whole.extend_from_slice(&piece.map_err(|error| unread(&error))?);
        }
        let payload = PutPayload::from(Bytes::from(whole));
        let options = PutOptions { attributes, ..PutOptions::default() };
        return store.put_opts(place, payload, options).await.map(drop).map_err(|error| judged(&error));
    }
    let upload = store.put_multipart_opts(place, attributes.into()).await.map_err(|error| judged(&error))?;
    in_parts(upload, pieces).await
}

async fn in_parts(upload: Box<dyn MultipartUpload>, mut pieces: Receiver<io::Result<Bytes>>) -> Result<(), SinkError> {
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
    while let Some(piece) = pieces.recv().await {
        let put = match piece {
            Ok(piece) => upload.wait_for_capacity(PARTS_AHEAD).await.map(|()| upload.put(piece)).map_err(|error| judged(&error)),
            Err(error) => Err(unread(&error)),
        };
        if let Err(error) = put {
            // What it has of it is of no use; that it cannot be told so is no news.
            let _ = upload.abort().await;
            return Err(error);
        }
    }
    upload.finish().await.map(drop).map_err(|error| judged(&error))
}

fn unread(error: &io::Error) -> SinkError {
    SinkError::Unreachable(format!("the snapshot cannot be read: {error}"))
}

/// What an error means.
fn judged(error: &Error) -> SinkError {
    let told = short(&root_cause(error).to_string());
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
            SinkError::Refused(format!("it lets this user write nothing there ({told})"))
        }
        Error::NotFound { .. } => SinkError::Refused(format!("the bucket is not there ({told})")),
        _ => SinkError::Unreachable(told),
    }
}

/// Blocks on the disk.
fn store(settings: &SinkSettings) -> Result<AmazonS3, String> {
    install_crypto();
    let mut options = ClientOptions::new()
        .with_connect_timeout(CONNECT_PATIENCE)
        // A part that goes out on a connection that the store is just closing is lost.
        .with_pool_max_idle_per_host(0)
        .with_timeout(patience(PART as u64))
        .with_allow_http(settings.url.as_deref().is_some_and(|url| url.starts_with("http://")));
    if let Some(path) = &settings.ca_file {
        let unusable = |error: &dyn std::error::Error| format!("the certificates {} cannot be used: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))? {
            options = options.with_root_certificate(certificate);
        }
    }
    // Without keys of its own: what the environment gives, as with Amazon's own tools.
    let mut builder = match &settings.credentials_file {
        Some(path) => {
            let Keys { id, secret, token } = keys(path)?;
            let builder = AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret);
            token.into_iter().fold(builder, AmazonS3Builder::with_token)
        }
        None => AmazonS3Builder::from_env(),
    };
    if let Some(url) = &settings.url {
        builder = builder.with_endpoint(url.trim_end_matches('/'));
    }
    builder
        .with_bucket_name(settings.bucket.clone().unwrap_or_default())
        .with_region(settings.region.clone().unwrap_or_else(|| "us-east-1".to_owned()))
        .with_client_options(options)
        // The queue tries again, and tells that it does.
        .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
        .build()
        .map_err(|error| described(&error))
}

/// Credentials. No `Debug`: they are told to nobody.
struct Keys {
    id: String,
    secret: String,
    token: Option<String>,
}

/// Reads `aws_access_key_id = …`, `aws_secret_access_key = …` and maybe `aws_session_token = …`, as in Amazon's credentials file with one
/// profile.
fn keys(path: &FilePath) -> Result<Keys, String> {
    let text = std::fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let value = |key: &str| {
        let mut pairs = text.lines().filter_map(|line| line.split_once('=')).map(|(name, value)| (name.trim(), value.trim()));
        pairs.find(|(name, value)| *name == key && !value.is_empty()).map(|(_, value)| value.to_owned())
    };
    let needed = |key: &str| value(key).ok_or_else(|| format!("{} has no line `{key} = …`", path.display()));
    Ok(Keys { id: needed("aws_access_key_id")?, secret: needed("aws_secret_access_key")?, token: value("aws_session_token") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_stand_in_the_form_that_amazon_uses() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, "[default]\n# ours\naws_access_key_id = AKID\naws_secret_access_key=s=e/c+\n").unwrap();
        let Keys { id, secret, token } = keys(&path).map_err(|error| panic!("{error}")).unwrap();
        assert_eq!((id.as_str(), secret.as_str(), token), ("AKID", "s=e/c+", None));
        std::fs::write(&path, "aws_access_key_id = AKID\n").unwrap();
        let error = keys(&path).err().unwrap();
        assert!(error.contains("aws_secret_access_key") && !error.contains("AKID"), "{error}");
    }
}
