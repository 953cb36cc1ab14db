//! The text of a Corefile: server blocks, directives with their arguments and nested lines, imports.

use std::collections::BTreeMap;

use super::Fault;

/// Imports inside imports; more is a circle.
const DEEPEST_IMPORT: usize = 8;
/// Words of all files together; more is no configuration.
const MOST_WORDS: usize = 100_000;

/// One line: a word with what follows it, and the lines in braces after it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Directive {
    pub(super) line: usize,
    pub(super) words: Vec<String>,
    pub(super) body: Vec<Directive>,
}

impl Directive {
    pub(super) fn name(&self) -> &str {
        self.words.first().map_or("", String::as_str)
    }

    pub(super) fn arguments(&self) -> &[String] {
        self.words.get(1..).unwrap_or_default()
    }

    pub(super) fn fault(&self, message: impl Into<String>) -> Fault {
        Fault { line: self.line, message: message.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Word {
    line: usize,
    text: String,
    quoted: bool,
}

impl Word {
    fn is(&self, brace: &str) -> bool {
        !self.quoted && self.text == brace
    }
}

/// Reads the server blocks of `text`. `files` are those that `import` may name, by their base names.
pub(super) fn parse(text: &str, files: &BTreeMap<String, String>) -> Result<Vec<Directive>, Fault> {
    let mut reader = Reader { files, snippets: BTreeMap::new(), words: 0 };
    let blocks = reader.read(text, 0)?;
    Ok(blocks.into_iter().filter(|block| !block.name().starts_with('(')).collect())
}

struct Reader<'a> {
    files: &'a BTreeMap<String, String>,
    snippets: BTreeMap<String, Vec<Directive>>,
    words: usize,
}

impl Reader<'_> {
    fn read(&mut self, text: &str, depth: usize) -> Result<Vec<Directive>, Fault> {
        let words = words(text)?;
        self.words += words.len();
        if self.words > MOST_WORDS {
            return Err(Fault { line: 1, message: format!("more than {MOST_WORDS} words") });
        }
        let mut at = 0;
        let lines = lines(&words, &mut at, 0)?;
        self.imported(lines, depth)
    }

    /// The lines with those in place of each `import`; snippets are remembered on the way.
    fn imported(&mut self, lines: Vec<Directive>, depth: usize) -> Result<Vec<Directive>, Fault> {
        let mut out = Vec::new();
        for mut line in lines {
            if line.name() != "import" {
                line.body = self.imported(std::mem::take(&mut line.body), depth)?;
                let snippet = line.name().strip_prefix('(').and_then(|name| name.strip_suffix(')'));
                if let Some(name) = snippet {
                    self.snippets.insert(name.to_owned(), line.body.clone());
                }
                out.push(line);
                continue;
            }
            if depth >= DEEPEST_IMPORT {
                return Err(line.fault("imports go in a circle"));
            }
            let [pattern] = line.arguments() else { return Err(line.fault("import takes one argument")) };
            if let Some(snippet) = self.snippets.get(pattern) {
                out.extend(snippet.clone());
                continue;
            }
            for text in self.named(pattern) {
                out.extend(self.read(&text, depth + 1)?);
            }
        }
        Ok(out)
    }

    /// The files whose base names are like that of the pattern, in their order.
    fn named(&self, pattern: &str) -> Vec<String> {
        let base = pattern.rsplit('/').next().unwrap_or(pattern);
        let (before, after) =
            base.split_once('*').map_or((base, None), |(before, after)| (before, Some(after)));
        let like = |name: &str| match after {
            None => name == before,
            Some(after) => {
                name.len() >= before.len() + after.len() && name.starts_with(before) && name.ends_with(after)
            }
        };
        self.files.iter().filter(|(name, _)| like(name)).map(|(_, text)| text.clone()).collect()
    }
}

fn words(text: &str) -> Result<Vec<Word>, Fault> {
    let mut words = Vec::new();
    for (index, content) in text.lines().enumerate() {
        let line = index + 1;
        let mut rest = content.trim_start();
        while !rest.is_empty() && !rest.starts_with('#') {
            let (text, after, quoted) = match rest.strip_prefix('"') {
                Some(inner) => {
                    let end =
                        inner.find('"').ok_or(Fault { line, message: "a quote is not closed".into() })?;
                    (&inner[..end], &inner[end + 1..], true)
                }
                None => {
                    let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
                    (&rest[..end], &rest[end..], false)
                }
            };
            words.push(Word { line, text: text.to_owned(), quoted });
            rest = after.trim_start();
        }
    }
    Ok(words)
}

/// Lines up to the brace that closes them, or to the end at the outermost level.
fn lines(words: &[Word], at: &mut usize, depth: usize) -> Result<Vec<Directive>, Fault> {
    let mut out: Vec<Directive> = Vec::new();
    while let Some(word) = words.get(*at) {
        let fault = |message: &str| Fault { line: word.line, message: message.to_owned() };
        *at += 1;
        if word.is("}") {
            return if depth > 0 { Ok(out) } else { Err(fault("unexpected \"}\"")) };
        }
        if word.is("{") {
            let owner = out.last_mut().filter(|line| line.body.is_empty() && depth < DEEPEST_IMPORT);
            owner.ok_or_else(|| fault("unexpected \"{\""))?.body = lines(words, at, depth + 1)?;
            continue;
        }
        // Zones of a block may stand on several lines, each but the last ending with a comma.
        let goes_on = out.last().is_some_and(|line| {
            line.body.is_empty()
                && (line.line == word.line
                    || (depth == 0 && line.words.last().is_some_and(|last| last.ends_with(','))))
        });
        match out.last_mut().filter(|_| goes_on) {
            Some(line) => {
                line.words.push(word.text.clone());
                line.line = word.line;
            }
            None => out.push(Directive { line: word.line, words: vec![word.text.clone()], body: Vec::new() }),
        }
    }
    if depth > 0 {
        let line = words.last().map_or(1, |word| word.line);
        return Err(Fault { line, message: "a \"{\" is not closed".into() });
    }
    Ok(out)
}
