//! Any bytes as a request to the service: method, uri and body, parted by zeros.
#![no_main]

use libfuzzer_sys::fuzz_target;
use netdiag::service::route;

fuzz_target!(|bytes: &[u8]| {
    let mut parts = bytes.splitn(3, |byte| *byte == 0);
    let mut text = || String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
    let (method, path) = (text(), text());
    let _ = route("/netdiag", &method, &format!("/netdiag{path}"), parts.next());
});
