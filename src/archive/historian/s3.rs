//! A store that speaks S3: Amazon's, or one of its kind on site.

use super::{Parcel, Sink, SinkError, SinkSettings};
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

/// What is longer goes in parts of this size, the least that S3 takes.
const PART: usize = 5 << 20;
/// Parts on their way at a time.
const PARTS_AHEAD: usize = 1;
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How long one part may take: enough over a line of 64 kbit/s.
const PART_PATIENCE: Duration = Duration::from_secs(900);

pub(super) struct S3(pub SinkSettings);

#[async_trait]
impl Sink for S3 {
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError> {
        let settings = self.0.clone();
        let place = Path::from_iter(settings.prefix.split('/').filter(|part| !part.is_empty()).chain([file_name]));
        let store = tokio::task::spawn_blocking(move || store(&settings)).await;
        let store = store.map_err(|error| SinkError::Unreachable(error.to_string()))?.map_err(SinkError::Refused)?;
        send(&store, &place, &parcel).await
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

async fn in_parts(upload: Box<dyn MultipartUpload>, pieces: Receiver<io::Result<Bytes>>) -> Result<(), SinkError> {
    let mut upload = WriteMultipart::new_with_chunk_size(upload, PART);
    if let Err(error) = all_parts(&mut upload, pieces).await {
        // What it has of it is of no use; that it cannot be told so is no news.
        let _ = timeout(CONNECT_PATIENCE, upload.abort()).await;
        return Err(error);
    }
    // Each request has its own limit of time.
    upload.finish().await.map(drop).map_err(|error| judged(&error))
}

async fn all_parts(upload: &mut WriteMultipart, mut pieces: Receiver<io::Result<Bytes>>) -> Result<(), SinkError> {
    while let Some(piece) = pieces.recv().await {
        let piece = piece.map_err(|error| unread(&error))?;
        upload.wait_for_capacity(PARTS_AHEAD).await.map_err(|error| judged(&error))?;
        upload.put(piece);
    }
    // So that what fails here is taken back, too.
    upload.wait_for_capacity(1).await.map_err(|error| judged(&error))
}

fn unread(error: &io::Error) -> SinkError {
    // Not the store's fault: the others have their turn first.
    SinkError::Refused(format!("the snapshot cannot be read: {error}"))
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
        .with_timeout(PART_PATIENCE)
        .with_allow_http(settings.url.as_deref().is_some_and(|url| url.starts_with("http://")));
    if let Some(path) = &settings.ca_file {
        let unusable = |error: &dyn std::error::Error| format!("the certificates {} cannot be used: {error}", path.display());
        let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
        for certificate in Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))? {
            options = options.with_root_certificate(certificate);
        }
    }
    // Never asked of a metadata service, as Amazon's own tools would: that is traffic that a plant does not expect.
    let Keys { id, secret, token } = match &settings.credentials_file {
        Some(path) => keys(path)?,
        None => keys_of_environment(|name| std::env::var(name).ok())?,
    };
    let mut builder = AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret);
    if let Some(token) = token {
        builder = builder.with_token(token);
    }
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

fn keys_of_environment(value: impl Fn(&str) -> Option<String>) -> Result<Keys, String> {
    let needed = |name: &str| {
        let missing = || format!("no `credentials_file` is set, and there is no {name} in the environment");
        value(name).filter(|value| !value.is_empty()).ok_or_else(missing)
    };
    Ok(Keys { id: needed("AWS_ACCESS_KEY_ID")?, secret: needed("AWS_SECRET_ACCESS_KEY")?, token: value("AWS_SESSION_TOKEN") })
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
        let error = keys_of_environment(|name| (name == "AWS_ACCESS_KEY_ID").then(|| "AKID".to_owned())).err().unwrap();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY") && !error.contains("AKID"), "{error}");
        assert!(keys_of_environment(|_| Some("x".to_owned())).is_ok());
    }
}
