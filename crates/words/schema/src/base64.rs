//! Where base64 text is wrong, as Go's decoder counts it.

/// Index of the byte that Go's standard decoder complains about; `None` if there is none.
///
/// Line ends are skipped; the last group is padded, and nothing follows the padding.
pub(crate) fn first_error(text: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        match group(text, at) {
            Group::Full(next) => at = next,
            Group::Last => return None,
            Group::Wrong(index) => return Some(index),
        }
    }
}

enum Group {
    /// Four letters; the next group begins here.
    Full(usize),
    /// The text is over.
    Last,
    Wrong(usize),
}

fn group(text: &[u8], mut at: usize) -> Group {
    let mut letters = 0;
    while letters < 4 {
        let Some(&byte) = text.get(at) else {
            return if letters == 0 { Group::Last } else { Group::Wrong(at - letters) };
        };
        at += 1;
        match byte {
            b'\n' | b'\r' => {}
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/' => letters += 1,
            b'=' if letters >= 2 => return padding(text, at, letters),
            _ => return Group::Wrong(at - 1),
        }
    }
    Group::Full(at)
}

/// What follows the first `=`, which stands before `at`.
fn padding(text: &[u8], at: usize, letters: usize) -> Group {
    let skip =
        |from: usize| (from..text.len()).find(|&at| !matches!(text[at], b'\n' | b'\r')).unwrap_or(text.len());
    let mut at = at;
    if letters == 2 {
        at = skip(at);
        match text.get(at) {
            Some(b'=') => at += 1,
            Some(_) => return Group::Wrong(at - 1),
            None => return Group::Wrong(text.len()),
        }
    }
    let rest = skip(at);
    if rest == text.len() { Group::Last } else { Group::Wrong(rest) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_stand_where_go_sees_them() {
        for (text, error) in [
            ("", None),
            ("Yg==", None),
            ("YWI=", None),
            ("YWJj\nYWJj", None),
            ("!!", Some(0)),
            ("YWJj!", Some(4)),
            ("Y", Some(0)),
            ("Yg", Some(0)),
            ("Yg=", Some(3)),
            ("Yg=a", Some(2)),
            ("Yg==Yg==", Some(4)),
            ("YWI=x", Some(4)),
            ("=", Some(0)),
        ] {
            assert_eq!(first_error(text.as_bytes()), error, "{text}");
        }
    }
}
