//! Files of environment variables that containers leave for others (kubelet: env files, KEP 3721).
//!
//! ```text
//! # a comment
//! ADDRESS='192.0.2.1'
//! TEXT='may have
//! lines'
//! ```

/// The value of a variable in a file; none when the file does not declare it. The last declaration counts.
///
/// # Errors
/// The number of a line that is none of the above.
pub(crate) fn lookup(text: &str, key: &str) -> Result<Option<String>, usize> {
    let mut found = None;
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(found);
        }
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, rest)| rest);
            continue;
        }
        let (name, value, after) =
            declaration(rest).ok_or_else(|| text[..text.len() - rest.len()].matches('\n').count() + 1)?;
        if name == key {
            found = Some(value.to_owned());
        }
        rest = after;
    }
}

/// The name, the value, and what follows on later lines.
fn declaration(text: &str) -> Option<(&str, &str, &str)> {
    let (name, rest) = text.split_once('=')?;
    let name = name.trim_end_matches([' ', '\t']);
    if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let (value, rest) = rest.trim_start_matches([' ', '\t']).strip_prefix('\'')?.split_once('\'')?;
    let (end, rest) = rest.split_once('\n').unwrap_or((rest, ""));
    end.trim().is_empty().then_some((name, value, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn declarations() {
        let text = "\n# A='no'\nA='1'\n  B = ' two  '  \nC='line\n\n# no comment\nA=no'\nEMPTY=''\nD='last'";
        let cases = [
            ("A", Some("1")),
            ("B", Some(" two  ")),
            ("C", Some("line\n\n# no comment\nA=no")),
            ("EMPTY", Some("")),
            ("D", Some("last")),
            ("E", None),
        ];
        for (key, value) in cases {
            assert_eq!(lookup(text, key), Ok(value.map(str::to_owned)), "{key}");
        }
        assert_eq!(lookup("A='1'\nA='2'\n", "A"), Ok(Some("2".into())));
        assert_eq!(lookup("", "A"), Ok(None));
    }

    #[test]
    fn what_is_no_declaration() {
        for (text, line) in [
            ("A=1", 1),
            ("A=\"1\"", 1),
            ("\nA='1' x", 2),
            ("A='1'\n\nA", 3),
            ("A='open\n\n", 1),
            ("='1'", 1),
            ("A B='1'", 1),
        ] {
            assert_eq!(lookup(text, "A"), Err(line), "{text}");
        }
    }
}
