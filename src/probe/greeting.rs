//! What a service says to someone who has just connected: the banner of a secure shell, the status line of a web server.
//!
//! Only the first line is of interest. It tells that the right kind of program answers on the port, and not just that something listens.

use crate::api::{Greeting, GreetingState};
use std::{net::SocketAddr, time::Duration};

/// How much is read at most while waiting for the line; a secure shell may talk before its banner (RFC 4253, section 4.2).
pub(super) const MAX_BYTES: usize = 8 << 10;
/// The longest line that is repeated to people.
const MAX_SHOWN: usize = 120;

/// A service that is known by its first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Service {
    /// A secure shell: it speaks first.
    Ssh,
    /// A web server: it is asked for the head of its first page.
    Http,
}

impl Service {
    /// What is sent to make it speak; a secure shell needs nothing.
    pub(super) fn request(self, target: SocketAddr) -> Option<String> {
        let version = env!("CARGO_PKG_VERSION");
        match self {
            Self::Ssh => None,
            // RFC 9110, section 9.3.2: the answer to HEAD has no content, so there is little to read before the close.
            Self::Http => Some(format!(
                "HEAD / HTTP/1.1\r\nHost: {target}\r\nUser-Agent: netdiag/{version}\r\nAccept: */*\r\nConnection: close\r\n\r\n"
            )),
        }
    }

    /// Judges what has arrived, and gives the line as it may be shown; `None`: more is needed. `is_end`: no more will come.
    pub fn judge(self, received: &[u8], is_end: bool) -> Option<(GreetingState, Option<String>)> {
        let found = match self {
            Self::Ssh => lines(received, is_end).find(|line| line.starts_with(b"SSH-")).map(|line| (GreetingState::Answered, line)),
            Self::Http => lines(received, is_end).next().map(|line| match is_status_line(line) {
                true => (GreetingState::Answered, line),
                false => (GreetingState::Unexpected, line),
            }),
        };
        // An alert in place of a line: a web server that wants TLS (RFC 8446, section 5.1).
        if self == Self::Http && received.starts_with(&[0x15, 0x03]) {
            return Some((GreetingState::Answered, Some("a TLS alert: the server speaks https".to_owned())));
        }
        match found {
            Some((state, line)) => Some((state, Some(shown(line)))),
            None if received.len() >= MAX_BYTES || (is_end && !received.is_empty()) => {
                Some((GreetingState::Unexpected, Some(shown(received.split(|&byte| byte == b'\n').next().unwrap_or_default()))))
            }
            None if is_end => Some((GreetingState::Closed, None)),
            None => None,
        }
    }
}

/// The whole lines; at the end also a last one without an end of line.
fn lines(received: &[u8], is_end: bool) -> impl Iterator<Item = &[u8]> {
    let whole = if is_end { received.len() } else { received.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1) };
    let whole = received.get(..whole).unwrap_or_default();
    whole.split(|&byte| byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line)).filter(|line| !line.is_empty())
}

/// `HTTP/1.1 200 OK` (RFC 9112, section 4).
fn is_status_line(line: &[u8]) -> bool {
    line.strip_prefix(b"HTTP/")
        .and_then(|rest| rest.split(|&byte| byte == b' ').nth(1))
        .is_some_and(|code| code.len() == 3 && code.iter().all(u8::is_ascii_digit))
}

/// A line as people may see it: what is no printable character becomes a dot.
fn shown(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    text.trim().chars().take(MAX_SHOWN).map(|c| if c.is_control() { '.' } else { c }).collect()
}

/// A greeting after this time.
pub(super) fn greeting(state: GreetingState, text: Option<String>, time: Duration) -> Greeting {
    Greeting { state, text, time_ms: (time.as_secs_f64() * 1e6).round() / 1e3 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn judged(service: Service, received: &str, is_end: bool) -> Option<(GreetingState, String)> {
        service.judge(received.as_bytes(), is_end).map(|(state, text)| (state, text.unwrap_or_default()))
    }

    #[test]
    fn a_banner_may_follow_other_lines() {
        let answered = |text: &str| Some((GreetingState::Answered, text.to_owned()));
        assert_eq!(judged(Service::Ssh, "SSH-2.0-OpenSSH_9.2\r\n", false), answered("SSH-2.0-OpenSSH_9.2"));
        assert_eq!(judged(Service::Ssh, "Keep out!\r\nSSH-2.0-x\r\n", false), answered("SSH-2.0-x"));
        assert_eq!(judged(Service::Ssh, "SSH-2.0-Op", false), None, "half a line");
        assert_eq!(judged(Service::Ssh, "SSH-2.0-Op", true), answered("SSH-2.0-Op"));
        assert_eq!(judged(Service::Ssh, "Keep out!\r\n", false), None);
        assert_eq!(judged(Service::Ssh, "220 mail ready\r\n", true).unwrap().0, GreetingState::Unexpected);
        assert_eq!(judged(Service::Ssh, "", true).unwrap().0, GreetingState::Closed);
    }

    #[test]
    fn a_status_line_of_any_code_is_an_answer() {
        for line in ["HTTP/1.1 200 OK", "HTTP/1.0 404 Not Found", "HTTP/1.1 503"] {
            assert_eq!(
                judged(Service::Http, &format!("{line}\r\nServer: x\r\n"), false),
                Some((GreetingState::Answered, line.to_owned()))
            );
        }
        for line in ["HTTP/1.1", "HTTP/1.1 20 OK", "SSH-2.0-x", "HTTP/1.1 2000 OK"] {
            assert_eq!(judged(Service::Http, &format!("{line}\n"), false).unwrap().0, GreetingState::Unexpected, "{line}");
        }
        let (state, text) = Service::Http.judge(&[0x15, 3, 1, 0, 2, 2, 70], false).unwrap();
        assert_eq!((state, text.unwrap().contains("https")), (GreetingState::Answered, true));
    }

    #[test]
    fn a_service_that_talks_without_end_is_not_waited_for() {
        let talk = "x".repeat(MAX_BYTES);
        assert_eq!(judged(Service::Ssh, &talk, false).unwrap().0, GreetingState::Unexpected);
        assert_eq!(judged(Service::Http, &talk, false).unwrap().1.len(), MAX_SHOWN);
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged_and_never_shown_raw(received: Vec<u8>, is_end: bool) {
            for service in [Service::Ssh, Service::Http] {
                if let Some((_, Some(text))) = service.judge(&received, is_end) {
                    prop_assert!(!text.chars().any(char::is_control));
                }
            }
        }
    }
}
