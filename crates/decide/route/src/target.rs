//! The path of a request as rules see it: decoded, without empty and dot segments, as nginx compares it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

/// The path that rules are compared with; none for a path that leads out of the root or has a zero byte.
pub fn normal(path: &str) -> Option<Cow<'_, str>> {
    let plain = path.starts_with('/') && !path.contains('%') && !path.contains("/.") && !path.contains("//");
    if plain {
        return Some(Cow::Borrowed(path));
    }
    let decoded = percent_decode_str(path).decode_utf8_lossy();
    if decoded.contains('\0') {
        return None;
    }
    let mut kept: Vec<&str> = Vec::new();
    for segment in decoded.split('/') {
        match segment {
            "" | "." => {}
            ".." => drop(kept.pop()?),
            other => kept.push(other),
        }
    }
    let folder = decoded.ends_with('/') || decoded.ends_with("/.") || decoded.ends_with("/..");
    let mut out = String::with_capacity(decoded.len() + 1);
    for segment in &kept {
        out.push('/');
        out.push_str(segment);
    }
    if folder || kept.is_empty() {
        out.push('/');
    }
    Some(Cow::Owned(out))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_compared_decoded() {
        let table = [
            ("/a/b", Some("/a/b")),
            ("/a/", Some("/a/")),
            ("/a//b", Some("/a/b")),
            ("/a/./b/../c", Some("/a/c")),
            ("/a/..", Some("/")),
            ("/a/b/..", Some("/a/")),
            ("/%61%2fb", Some("/a/b")),
            ("/%2e%2e/x", None),
            ("/a/../../x", None),
            ("/a%00", None),
            ("/.well-known/x", Some("/.well-known/x")),
            ("/100%", Some("/100%")),
            ("", Some("/")),
            ("*", Some("/*")),
        ];
        for (path, expected) in table {
            assert_eq!(normal(path).as_deref(), expected, "{path}");
        }
    }
}
