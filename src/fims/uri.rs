//! The rules for uris: segments, parents, and which characters a subscription may hold.
//!
//! A uri is a path of segments. Empty segments do not count, so `/a//b/` is the same place as `/a/b`, and `/` is the parent of all.

/// Whether a subscription to this uri is valid: it begins with `/` and holds only `-` `.` `/` `0-9` `A-Z` `_` `a-z`.
pub fn is_valid_subscription(uri: &[u8]) -> bool {
    uri.first() == Some(&b'/')
        && uri.iter().all(|byte| matches!(byte, b'-' | b'.' | b'/' | b'0'..=b'9' | b'A'..=b'Z' | b'_' | b'a'..=b'z'))
}

/// The segments of a uri, empty ones left out.
pub fn segments(uri: &[u8]) -> impl Iterator<Item = &[u8]> {
    uri.split(|&byte| byte == b'/').filter(|segment| !segment.is_empty())
}

/// The one way to write a uri: `/` before each segment and nothing else; the root is empty.
pub fn normalise(uri: &[u8]) -> Vec<u8> {
    let mut normal = Vec::with_capacity(uri.len());
    for segment in segments(uri) {
        normal.push(b'/');
        normal.extend_from_slice(segment);
    }
    normal
}

/// Whether `uri` is `parent` or lies under it, by whole segments.
pub fn is_under(uri: &[u8], parent: &[u8]) -> bool {
    let mut uri = segments(uri);
    segments(parent).all(|segment| uri.next() == Some(segment))
}

/// The uri itself and all its parents, from the root (empty) down. `normal` must be in the form of [`normalise`].
pub fn ancestors(normal: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = (0..normal.len()).filter(|&at| normal.get(at) == Some(&b'/')).chain((!normal.is_empty()).then_some(normal.len()));
    let root: &[u8] = &[];
    std::iter::once(root).chain(ends.filter(|&end| end > 0).filter_map(|end| normal.get(..end)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_under_every_parent_by_whole_segments() {
        for parent in ["/", "/a", "/a/b", "/a/b/c", "/a/b/c/", "//a"] {
            assert!(is_under(b"/a/b/c", parent.as_bytes()), "{parent}");
        }
        for other in ["/a/b/c/d", "/b", "/a/b/cc", "/a/bb"] {
            assert!(!is_under(b"/a/b/c", other.as_bytes()), "{other}");
        }
        assert!(!is_under(b"/ab", b"/a"));
    }

    #[test]
    fn ancestors_are_listed_once_from_the_root() {
        let all: Vec<&[u8]> = ancestors(b"/a/bc/d").collect();
        assert_eq!(all, [b"".as_slice(), b"/a", b"/a/bc", b"/a/bc/d"]);
        assert_eq!(ancestors(b"").count(), 1);
    }

    #[test]
    fn normal_form_drops_empty_segments() {
        assert_eq!(normalise(b"//a///b/"), b"/a/b");
        assert_eq!(normalise(b"a"), b"/a");
        assert_eq!(normalise(b"/"), b"");
    }

    #[test]
    fn subscriptions_hold_only_the_allowed_characters() {
        assert!(is_valid_subscription(b"/netdiag/modbus_192.168.112.13_502/A-z"));
        assert!(is_valid_subscription(b"/"));
        for bad in ["", "a", "/bad uri", "/a:b", "/a%b", "/a\0", "/\u{e9}", "/a,b", "/a@"] {
            assert!(!is_valid_subscription(bad.as_bytes()), "{bad:?}");
        }
    }
}
