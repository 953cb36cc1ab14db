//! What is wrong with YAML, in the words of the reader that clients know.
//!
//! What enters is the parser's own report; what leaves is one line, `yaml: line 2: …`. Words that have no
//! counterpart stay as they are.

/// The first document of a text; readers of bodies stop behind it.
pub(crate) fn first_document(text: &str) -> &str {
    let mut at = 0;
    let mut is_begun = false;
    for line in text.split_inclusive('\n') {
        let content = line.trim_end();
        let is_mark = content == "---" || content.starts_with("--- ");
        if is_begun && (is_mark || content == "...") {
            return &text[..at];
        }
        is_begun |= !content.is_empty() && !content.starts_with('#') && !content.starts_with('%');
        at += line.len();
    }
    text
}

/// The report of the parser about `text` in those words.
pub(crate) fn in_words(report: &str, text: &str) -> String {
    let first = report.lines().next().unwrap_or_default();
    let first = first.strip_prefix("error: ").unwrap_or(first);
    let Some((line, column, why)) = placed(first) else { return format!("yaml: {first}") };
    let place = if line > 1 || why.starts_with("unclosed bracket") {
        format!("line {line}: ")
    } else {
        String::new()
    };
    format!("yaml: {place}{}", words(why, text, line, column))
}

/// `line 2 column 3: why` in its parts.
fn placed(report: &str) -> Option<(usize, usize, &str)> {
    let (place, why) = report.split_once(": ")?;
    let (line, column) = place.strip_prefix("line ")?.split_once(" column ")?;
    Some((line.parse().ok()?, column.parse().ok()?, why))
}

fn words(why: &str, text: &str, line: usize, column: usize) -> String {
    let node = "did not find expected node content";
    let is_cut = text.trim_end().ends_with([':', ',', '{', '[']);
    match why {
        _ if why.starts_with("unclosed bracket '['") && !is_cut => {
            "did not find expected ',' or ']'".to_owned()
        }
        _ if why.starts_with("unclosed bracket") && !is_cut => "did not find expected ',' or '}'".to_owned(),
        _ if why.starts_with("unclosed bracket") => node.to_owned(),
        "unclosed quote" => "found unexpected end of stream".to_owned(),
        _ if why.starts_with("tabs disallowed") => "found character that cannot start any token".to_owned(),
        "alias references unknown anchor" => {
            format!("unknown anchor '{}' referenced", alias(text, line, column))
        }
        _ if why.starts_with("unexpected character") => "control characters are not allowed".to_owned(),
        _ if why.contains("surrogate") => "found invalid Unicode character escape code".to_owned(),
        _ if why.starts_with("invalid trailing content") => "did not find expected ',' or '}'".to_owned(),
        "invalid !!binary base64" => "!!binary value contains invalid base64 data".to_owned(),
        // What was being read is not told.
        _ if why.starts_with("while ") => why.split_once(", ").map_or(why, |(_, cause)| cause).to_owned(),
        _ => why.to_owned(),
    }
}

/// The name of the alias at a place.
fn alias(text: &str, line: usize, column: usize) -> &str {
    let line = text.lines().nth(line.saturating_sub(1)).unwrap_or_default();
    let start = line.char_indices().nth(column.saturating_sub(1)).map_or(line.len(), |(at, _)| at);
    let name = line[start..].trim_start_matches('*');
    name.split([' ', ',', ']', '}', ':']).next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use plimsoll_document::Document;

    #[test]
    fn words_are_those_of_gos_reader() {
        for (text, message) in [
            ("a: b: c", "yaml: mapping values are not allowed in this context"),
            ("a:\n\t- b", "yaml: line 2: found character that cannot start any token"),
            ("a: *x", "yaml: unknown anchor 'x' referenced"),
            ("{a: 1", "yaml: line 1: did not find expected ',' or '}'"),
            ("{\"metadata\":", "yaml: line 1: did not find expected node content"),
            ("%", "yaml: could not find expected directive name"),
            ("\"a", "yaml: found unexpected end of stream"),
            ("a: \"\\q\"", "yaml: found unknown escape character"),
        ] {
            let report = Document::yaml(text).expect_err(text).to_string();
            assert_eq!(in_words(&report, text), message, "{report}");
        }
    }

    #[test]
    fn only_the_first_document_counts() {
        for (text, expected) in [
            ("a: 1", "a: 1"),
            ("---\na: 1\n---\nb: 2\n", "---\na: 1\n"),
            ("# x\n---\na: 1\n...\n", "# x\n---\na: 1\n"),
            ("a: --- b\n", "a: --- b\n"),
        ] {
            assert_eq!(first_document(text), expected);
        }
    }
}
