//! A server that takes files by HTTP `PUT` (RFC 9110, section 9.3.4), such as WebDAV.

use super::{Parcel, Sink, SinkError, SinkSettings, while_it_moves};
use crate::http::{answer, client, described, parse_url, secret};
use async_trait::async_trait;
use futures::stream;
use reqwest::{Body, StatusCode, Url, header};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

pub(super) struct HttpPut(pub SinkSettings);

#[async_trait]
impl Sink for HttpPut {
    async fn put(&self, file_name: &str, parcel: Arc<Parcel>) -> Result<(), SinkError> {
        let settings = &self.0;
        let url = settings.url.as_deref().and_then(|base| below(base, file_name));
        let url = url.ok_or_else(|| SinkError::Refused("its url cannot be used".to_owned()))?;
        let (base, ca_file) = (url.clone(), settings.ca_file.clone());
        let client = tokio::task::spawn_blocking(move || client(&base, ca_file.as_deref())).await;
        let client = client.map_err(|error| SinkError::Unreachable(error.to_string()))?.map_err(SinkError::Refused)?;
        let moved = Arc::new(AtomicU64::new(0));
        let pieces = stream::unfold((parcel.pieces(), Arc::clone(&moved)), |(mut pieces, moved)| async {
            let piece = pieces.recv().await?;
            moved.fetch_add(1, Relaxed);
            Some((piece, (pieces, moved)))
        });
        let request = client
            .put(url)
            .header(header::CONTENT_TYPE, "application/x-tar")
            .header(header::CONTENT_LENGTH, parcel.tar_bytes())
            .body(Body::wrap_stream(pieces));
        let request = match (&settings.token_file, &settings.username, &settings.password_file) {
            (Some(token), ..) => request.bearer_auth(secret(token).await.map_err(SinkError::Refused)?),
            (None, Some(user), Some(file)) => request.basic_auth(user, Some(secret(file).await.map_err(SinkError::Refused)?)),
            _ => request,
        };
        let sent = async {
            let response = request.send().await.map_err(|error| SinkError::Unreachable(described(&error.without_url())))?;
            judged(response.status(), &answer(response).await)
        };
        while_it_moves(sent, &moved).await?
    }
}

fn below(base: &str, file_name: &str) -> Option<Url> {
    let mut url = parse_url(base)?;
    url.path_segments_mut().ok()?.pop_if_empty().push(file_name);
    Some(url)
}

/// What an answer means.
fn judged(status: StatusCode, told: &str) -> Result<(), SinkError> {
    let problem = |what: &str| format!("{what} ({status}{}{told})", if told.is_empty() { "" } else { ": " });
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => {
            Err(SinkError::Unreachable(problem("it has too much to do")))
        }
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(SinkError::Refused(problem("it lets this user write nothing there")))
        }
        StatusCode::NOT_FOUND | StatusCode::CONFLICT => Err(SinkError::Refused(problem("the folder of the url is not there"))),
        StatusCode::PAYLOAD_TOO_LARGE => Err(SinkError::Refused(problem("it takes no file of this size"))),
        status if status.is_redirection() => Err(SinkError::Refused(problem("it refers to another address; set that one"))),
        status if status.is_client_error() => Err(SinkError::Refused(problem("it refuses this"))),
        _ => Err(SinkError::Unreachable(problem("it has failed"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_lies_below_the_url_with_or_without_a_slash() {
        for base in ["http://store/a/b", "http://store/a/b/"] {
            assert_eq!(below(base, "h_1.tar").unwrap().as_str(), "http://store/a/b/h_1.tar");
        }
        assert_eq!(below("http://store", "h 1.tar").unwrap().as_str(), "http://store/h%201.tar");
    }

    #[test]
    fn only_what_time_can_mend_is_tried_again_soon() {
        let is_refused = |status: u16| match judged(StatusCode::from_u16(status).unwrap(), "because") {
            Ok(()) => None,
            Err(error) => {
                assert!(error.to_string().contains("because"));
                Some(matches!(error, SinkError::Refused(_)))
            }
        };
        for (status, expected) in [
            (200, None),
            (201, None),
            (204, None),
            (301, Some(true)),
            (401, Some(true)),
            (404, Some(true)),
            (408, Some(false)),
            (413, Some(true)),
            (429, Some(false)),
            (500, Some(false)),
            (503, Some(false)),
            (507, Some(false)),
        ] {
            assert_eq!(is_refused(status), expected, "{status}");
        }
    }
}
