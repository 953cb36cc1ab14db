//! Logical lines: directives, comments, continuations, heredocs.

use crate::error::{Error, Result};

/// An instruction with everything that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Line {
    /// Where it begins, from 1.
    pub(crate) number: usize,
    pub(crate) text: String,
    pub(crate) heredocs: Vec<Heredoc>,
}

/// Text that stands below its instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heredoc {
    /// The word that ends it, and the name of the file that it makes.
    pub(crate) name: String,
    pub(crate) content: String,
    /// Whether variables are replaced: the word was not quoted.
    pub(crate) expand: bool,
    /// As it was introduced, `<<-"EOF"`.
    pub(crate) marker: String,
}

/// The lines of a Dockerfile and its escape character.
pub(crate) fn split(text: &str) -> Result<(Vec<Line>, char)> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut source = text.lines().enumerate().map(|(n, line)| (n + 1, line)).peekable();
    let mut escape = '\\';
    while let Some((number, line)) = source.peek().copied()
        && let Some((key, value)) = directive(line)
    {
        if key == "escape" {
            escape = match value {
                "\\" => '\\',
                "`" => '`',
                _ => return Err(wrong(number, "escape must be \\ or `")),
            };
        }
        source.next();
    }
    let mut lines = Vec::new();
    while let Some((number, first)) = source.next() {
        let first = first.trim_start();
        if first.trim().is_empty() || first.starts_with('#') {
            continue;
        }
        let mut text = String::new();
        let mut more = append(&mut text, first, escape);
        while more {
            let Some((_, next)) = source.next() else { break };
            // Comments and empty lines may stand between continued lines.
            if next.trim().is_empty() || next.trim_start().starts_with('#') {
                continue;
            }
            more = append(&mut text, next, escape);
        }
        let mut heredocs = Vec::new();
        for mut heredoc in markers(&text) {
            let tabs = heredoc.marker.starts_with("<<-");
            loop {
                let Some((_, line)) = source.next() else {
                    return Err(wrong(number, &format!("heredoc {} is not ended", heredoc.name)));
                };
                let line = if tabs { line.trim_start_matches('\t') } else { line };
                if line == heredoc.name {
                    break;
                }
                heredoc.content.push_str(line);
                heredoc.content.push('\n');
            }
            heredocs.push(heredoc);
        }
        lines.push(Line { number, text: text.trim_end().to_owned(), heredocs });
    }
    Ok((lines, escape))
}

/// `# escape=...` at the top of the file, with a key that is known.
fn directive(line: &str) -> Option<(&'static str, &str)> {
    let (key, value) = line.trim_start().strip_prefix('#')?.split_once('=')?;
    let known = ["escape", "syntax", "check"];
    let key = known.into_iter().find(|known| key.trim().eq_ignore_ascii_case(known))?;
    Some((key, value.trim()))
}

/// Adds a line; whether the next one belongs to it.
fn append(text: &mut String, line: &str, escape: char) -> bool {
    match line.trim_end().strip_suffix(escape) {
        // An escaped escape character at the end continues nothing.
        Some(rest) if !rest.ends_with(escape) => {
            text.push_str(rest);
            true
        }
        _ => {
            text.push_str(line);
            false
        }
    }
}

/// Heredocs that a RUN, COPY or ADD introduces. `<<<` is no heredoc, nor is what stands in quotes.
fn markers(text: &str) -> Vec<Heredoc> {
    let keyword = text.split_whitespace().next().unwrap_or_default();
    if !["RUN", "COPY", "ADD"].iter().any(|known| keyword.eq_ignore_ascii_case(known)) {
        return Vec::new();
    }
    let arguments = text[keyword.len()..].trim_start();
    if arguments.starts_with('[') && !arguments.contains("<<") {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut quote = None;
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '<') if text[at..].starts_with("<<<") => at += 2,
            (None, '<') => {
                if let Some((heredoc, length)) = marker(&text[at..]) {
                    found.push(heredoc);
                    at += length;
                    continue;
                }
            }
            _ => {}
        }
        at += c.len_utf8();
    }
    found
}

/// `<<EOF`, `<<-EOF`, `<<"EOF"`, `<<'EOF'` and how long it is.
fn marker(text: &str) -> Option<(Heredoc, usize)> {
    let rest = text.strip_prefix("<<")?;
    let rest = rest.strip_prefix('-').unwrap_or(rest);
    let quote = rest.chars().next().filter(|c| matches!(c, '"' | '\''));
    let word = &rest[quote.map_or(0, char::len_utf8)..];
    let end = word.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(word.len());
    let name = &word[..end];
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut length = text.len() - word.len() + end;
    if let Some(quote) = quote {
        text[length..].strip_prefix(quote)?;
        length += 1;
    }
    let marker = text[..length].to_owned();
    Some((Heredoc { name: name.into(), content: String::new(), expand: quote.is_none(), marker }, length))
}

pub(super) fn wrong(line: usize, reason: &str) -> Error {
    Error::Dockerfile { line, reason: reason.into() }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn joins_and_skips() {
        let rows: &[(&str, &[(usize, &str)])] = &[
            ("FROM a\nRUN b", &[(1, "FROM a"), (2, "RUN b")]),
            ("\n  # c\n  FROM a  \r\n", &[(3, "FROM a")]),
            ("RUN a \\\n  b \\  \n c", &[(1, "RUN a   b  c")]),
            ("RUN a \\\n# comment\n\n  b\nRUN c", &[(1, "RUN a   b"), (5, "RUN c")]),
            ("RUN a \\", &[(1, "RUN a")]),
            ("# escape=`\nRUN a `\n b\\\nRUN c", &[(2, "RUN a  b\\"), (4, "RUN c")]),
            ("# syntax=docker/dockerfile:1\n# Escape = `\nRUN a `\nb", &[(3, "RUN a b")]),
            // After anything else, a directive is a comment.
            ("# hello\n# escape=`\nRUN a \\\nb", &[(3, "RUN a b")]),
            ("\u{feff}FROM a", &[(1, "FROM a")]),
            ("RUN echo '#' # no comment", &[(1, "RUN echo '#' # no comment")]),
        ];
        for (text, want) in rows {
            let (lines, _) = split(text).unwrap();
            let got: Vec<_> = lines.iter().map(|line| (line.number, line.text.as_str())).collect();
            assert_eq!(got, *want, "{text:?}");
        }
        assert!(split("# escape=x\nFROM a").is_err());
    }

    #[test]
    fn reads_heredocs() {
        let text = "RUN <<EOF\n  a\n#b\nEOF\nCOPY <<-'one' <<two /d/\n\t1\n\tone\n$x\ntwo\nRUN cat <<<x \"<<no\"\nENV a=<<b";
        let (lines, _) = split(text).unwrap();
        let heredocs: Vec<Vec<_>> = lines
            .iter()
            .map(|line| {
                line.heredocs.iter().map(|h| (h.name.as_str(), h.content.as_str(), h.expand)).collect()
            })
            .collect();
        let want: Vec<Vec<(&str, &str, bool)>> = vec![
            vec![("EOF", "  a\n#b\n", true)],
            vec![("one", "1\n", false), ("two", "$x\n", true)],
            vec![],
            vec![],
        ];
        assert_eq!(heredocs, want);
        assert_eq!(lines[1].heredocs[0].marker, "<<-'one'");
        assert!(split("RUN <<EOF\na").unwrap_err().to_string().contains("line 1: heredoc EOF is not ended"));
    }
}
