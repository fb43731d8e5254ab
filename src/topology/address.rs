//! What stands where an address should.

use std::net::{IpAddr, Ipv4Addr};

/// What a config's `ip_address` is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HostText {
    /// An IP address; `*.*.*.*`, as DNP3 configs have it, is `0.0.0.0`.
    Address(IpAddr),
    /// A host name, to be resolved.
    Name,
    /// Nothing.
    Missing,
    /// It holds a token of a template.
    Template,
    /// A stand-in for an address, such as `10.x.x.x` or `????`.
    Placeholder,
    /// None of these, with the reason.
    Invalid(&'static str),
}

/// Says what an address text is. The name service is not asked.
pub(super) fn classify(text: &str) -> HostText {
    if let Ok(address) = text.parse::<IpAddr>() {
        return HostText::Address(address);
    }
    if text.is_empty() {
        return HostText::Missing;
    }
    if has_template_token(text) {
        return HostText::Template;
    }
    let labels: Vec<&str> = text.strip_suffix('.').unwrap_or(text).split('.').collect();
    if text == "*" || (labels.len() == 4 && labels.iter().all(|label| *label == "*")) {
        return HostText::Address(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    }
    let is_number = |label: &&str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_digit());
    let is_blank =
        |label: &&str| !label.is_empty() && label.bytes().all(|byte| matches!(byte, b'x' | b'X' | b'?' | b'#' | b'*' | b'_'));
    if labels.iter().any(is_blank) && labels.iter().all(|label| is_blank(label) || is_number(label))
        || text.contains(['?', '<', '>'])
    {
        return HostText::Placeholder;
    }
    if labels.last().is_some_and(is_number) {
        return HostText::Invalid("it is not four numbers from 0 to 255 without leading zeros");
    }
    let is_label = |label: &&str| {
        (1..=63).contains(&label.len()) && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    if text.len() <= 253 && labels.iter().all(is_label) {
        return HostText::Name;
    }
    HostText::Invalid("a host name has only letters, digits, `-`, `_` and dots")
}

/// Whether a text holds a token that a generator should have replaced: `##name##` or `{{NAME}}`.
pub(super) fn has_template_token(text: &str) -> bool {
    text.contains("##") || text.contains("{{")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_addresses_names_and_stand_ins_apart() {
        let v4 = |text: &str| HostText::Address(text.parse().unwrap());
        assert_eq!(classify("192.168.112.13"), v4("192.168.112.13"));
        assert_eq!(classify("fd00::10"), v4("fd00::10"));
        assert_eq!(classify("*.*.*.*"), v4("0.0.0.0"));
        assert_eq!(classify(""), HostText::Missing);
        for name in ["bms-one.local", "localhost", "pcs_1", "x1.example", "10gate"] {
            assert_eq!(classify(name), HostText::Name, "{name}");
        }
        for token in ["192.168.114.##ip##", "{{IP_ADDRESS}}"] {
            assert_eq!(classify(token), HostText::Template, "{token}");
        }
        for stand_in in ["10.x.x.x", "????", "x.x.x.x", "10.0.0.X", "<ip>", "192.168.*.*"] {
            assert_eq!(classify(stand_in), HostText::Placeholder, "{stand_in}");
        }
        for wrong in ["192.168.1", "192.168.1.256", "192.168.001.010", "10.0.0.1 ", "a b", "a..b", "é", &"a".repeat(300)] {
            assert!(matches!(classify(wrong), HostText::Invalid(_)), "{wrong}");
        }
    }
}
