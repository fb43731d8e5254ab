//! Any bytes as a request to the service: method, uri and body, parted by zeros.

use netdiag::service::route;

pub fn run(bytes: &[u8]) {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (method, path) = (text(), text());
    let _ = route("/netdiag", &method, &format!("/netdiag{path}"), parts.next());
}
