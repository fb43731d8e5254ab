//! What every edge to an HTTP server needs: clients that wait for nothing for ever, secrets that stand in files, and errors in words.

use reqwest::{Certificate, Client, ClientBuilder, Response, Url, redirect};
use std::{error::Error, path::Path, time::Duration};

/// How long a connection may take.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// How much of an error's text is told, and how much of an answer is read for it.
const TOLD_CHARACTERS: usize = 200;
const ANSWER_MAX_BYTES: usize = 16 << 10;

/// Makes *ring* the cryptography of all TLS connections of this process. May be called again and again.
pub fn install_crypto() {
    // The first one stays; it is the same.
    let _ = rustls::crypto::ring::default_provider().install_default();
}

/// A client for one server. `ca_file` has the certificates (PEM) of authorities that the host does not know.
///
/// # Errors
/// In words: the file of certificates, or what of the host's own cannot be used.
pub fn client(url: &Url, ca_file: Option<&Path>) -> Result<Client, String> {
    install_crypto();
    // Redirects could take the credentials elsewhere.
    let builder = Client::builder()
        .user_agent(concat!("netdiag/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_PATIENCE);
    let builder = match ca_file {
        // Without encryption the host's certificates need not be there.
        _ if url.scheme() == "http" => builder.tls_certs_only([]),
        Some(path) => builder.tls_certs_merge(certificates(path)?),
        None => builder,
    };
    ClientBuilder::build(builder).map_err(|error| described(&error.without_url()))
}

fn certificates(path: &Path) -> Result<Vec<Certificate>, String> {
    let unusable = |error: &dyn Error| format!("the certificates {} cannot be used: {error}", path.display());
    let pem = std::fs::read(path).map_err(|error| unusable(&error))?;
    Certificate::from_pem_bundle(&pem).map_err(|error| unusable(&error))
}

/// A url of http or https with a host.
pub fn parse_url(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
}

/// A url as it may be told: without user, password, parameters.
pub fn told_url(text: &str) -> String {
    let Some(mut url) = parse_url(text) else { return "not a url of http or https".to_owned() };
    // These fail for urls without a host only.
    let _ = (url.set_username(""), url.set_password(None));
    url.set_fragment(None);
    url.set_query(None);
    url.to_string()
}

/// The one line that a file of a secret holds. Read anew each time, for it may be changed.
///
/// # Errors
/// In words, without what stands there.
pub async fn secret(path: &Path) -> Result<String, String> {
    let text = tokio::fs::read_to_string(path).await.map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    let secret = text.trim();
    let is_legal = !secret.is_empty() && secret.chars().all(|c| c.is_ascii_graphic() || c == ' ');
    if is_legal { Ok(secret.to_owned()) } else { Err(format!("{} must hold one line of ASCII characters", path.display())) }
}

/// What the server says about it, in short.
pub async fn answer(mut response: Response) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < ANSWER_MAX_BYTES
        && let Ok(Some(chunk)) = response.chunk().await
    {
        bytes.extend_from_slice(&chunk);
    }
    let text = String::from_utf8_lossy(&bytes);
    let error = serde_json::from_str::<serde_json::Value>(&text).ok();
    let error = error.as_ref().and_then(|json| json.get("error").or_else(|| json.get("message"))?.as_str());
    short(error.unwrap_or(&text))
}

/// At most so much of a text, on one line.
pub fn short(text: &str) -> String {
    text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).take(TOLD_CHARACTERS).collect()
}

/// An error with its causes; what is below says why.
pub fn described(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(because) = cause {
        let because_text = because.to_string();
        // Some repeat what is below them.
        if !text.contains(&because_text) {
            text.push_str(": ");
            text.push_str(&because_text);
        }
        cause = because.source();
    }
    text
}

/// What is at the bottom of an error: what the system or the server said.
pub fn root_cause<'a>(mut error: &'a (dyn Error + 'static)) -> &'a (dyn Error + 'static) {
    while let Some(cause) = error.source() {
        error = cause;
    }
    error
}

/// The name of this host.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_told_without_its_secrets() {
        assert_eq!(told_url("https://me:hunter2@store.site/a/b?token=hunter2#hunter2"), "https://store.site/a/b");
        assert_eq!(told_url("ftp://me:hunter2@store.site/"), "not a url of http or https");
    }

    #[tokio::test]
    async fn a_secret_is_one_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(secret(&path).await.unwrap(), "hunter2");
        for wrong in ["", "hunter2\nhunter3", "höhle"] {
            std::fs::write(&path, wrong).unwrap();
            let error = secret(&path).await.unwrap_err();
            assert!(error.contains("one line") && !error.contains("hunter"), "{error}");
        }
    }

    #[test]
    fn certificates_that_cannot_be_used_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca.pem");
        let url = parse_url("https://store.site/").unwrap();
        let error = client(&url, Some(&path)).unwrap_err();
        assert!(error.contains("ca.pem") && error.contains("No such file"), "{error}");
    }
}
