//! `.dockerignore`, and the patterns that it shares with COPY.

/// Which files of the context do not exist for the build.
#[derive(Clone, Debug, Default)]
pub(super) struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    pattern: Pattern,
    /// `!pattern`: what it matches exists again.
    except: bool,
}

impl Ignore {
    /// Reads the lines of a `.dockerignore`; the last rule that matches counts.
    pub(super) fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (except, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let parts: Vec<&str> = pattern.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
            (!parts.is_empty()).then(|| Rule { pattern: Pattern::new(&parts.join("/")), except })
        };
        Self { rules: text.trim_start_matches('\u{feff}').lines().filter_map(rule).collect() }
    }

    /// Whether the path, relative to the context, is left out: itself or a directory above it.
    pub(super) fn ignores(&self, path: &str) -> bool {
        let mut ignored = false;
        for rule in &self.rules {
            // Only a rule of the other kind can change the answer.
            if rule.except == ignored && prefixes(path).any(|prefix| rule.pattern.matches(prefix)) {
                ignored = !rule.except;
            }
        }
        ignored
    }

    /// Whether something below an ignored directory may exist again.
    pub(super) fn has_exceptions(&self) -> bool {
        self.rules.iter().any(|rule| rule.except)
    }
}

/// `a`, `a/b`, `a/b/c` of `a/b/c`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(end, _)| &path[..end]).chain([path])
}

/// A pattern of Go's `filepath.Match`, and `**` for any number of directories.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    tokens: Vec<Token>,
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Literal(char),
    /// `?`
    One,
    /// `*`
    Many,
    /// `**` at the end
    Everything,
    /// `**/`
    Directories,
    /// `[a-z]`, `[^a-z]`
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
}

impl Pattern {
    pub(super) fn new(text: &str) -> Self {
        let mut tokens = Vec::new();
        let mut rest = text.chars().peekable();
        while let Some(c) = rest.next() {
            tokens.push(match c {
                '*' if rest.next_if_eq(&'*').is_some() => {
                    while rest.next_if_eq(&'*').is_some() {}
                    rest.next_if_eq(&'/');
                    if rest.peek().is_some() { Token::Directories } else { Token::Everything }
                }
                '*' => Token::Many,
                '?' => Token::One,
                '\\' => Token::Literal(rest.next().unwrap_or('\\')),
                '[' => class(&mut rest).unwrap_or(Token::Literal('[')),
                other => Token::Literal(other),
            });
        }
        Self { tokens }
    }

    /// Whether the text has characters that mean something in patterns.
    pub(super) fn is_pattern(text: &str) -> bool {
        text.contains(['*', '?', '[', '\\'])
    }

    /// Follows all ways through the pattern at once: no text takes more than
    /// its length times the pattern's.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut states = vec![false; self.tokens.len() + 1];
        states[0] = true;
        self.skip_empty(&mut states, true);
        for c in text.chars() {
            let mut next = vec![false; states.len()];
            for (at, token) in self.tokens.iter().enumerate().filter(|(at, _)| states[*at]) {
                match token {
                    Token::Literal(wanted) if *wanted == c => next[at + 1] = true,
                    Token::One if c != '/' => next[at + 1] = true,
                    Token::Class { negated, ranges } if c != '/' => {
                        let inside = ranges.iter().any(|(low, high)| (*low..=*high).contains(&c));
                        next[at + 1] |= inside != *negated;
                    }
                    Token::Many if c != '/' => next[at] = true,
                    Token::Everything | Token::Directories => next[at] = true,
                    _ => {}
                }
            }
            states = next;
            self.skip_empty(&mut states, c == '/');
        }
        states[self.tokens.len()]
    }

    /// Tokens that may stand for nothing. Directories end where a name begins.
    fn skip_empty(&self, states: &mut [bool], at_name: bool) {
        for (at, token) in self.tokens.iter().enumerate() {
            let empty = match token {
                Token::Many | Token::Everything => true,
                Token::Directories => at_name,
                _ => false,
            };
            if states[at] && empty {
                states[at + 1] = true;
            }
        }
    }
}

/// The rest of a class after `[`; nothing if it is not closed.
fn class(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) -> Option<Token> {
    let mut ahead = rest.clone();
    let negated = ahead.next_if(|c| matches!(c, '^' | '!')).is_some();
    let mut ranges = Vec::new();
    loop {
        let low = match ahead.next()? {
            ']' if !ranges.is_empty() => break,
            '\\' => ahead.next()?,
            other => other,
        };
        let high = match ahead.next_if_eq(&'-') {
            Some(_) => ahead.next()?,
            None => low,
        };
        ranges.push((low, high));
    }
    *rest = ahead;
    Some(Token::Class { negated, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_in_go() {
        let rows = [
            ("a", "a", true),
            ("a", "b", false),
            ("*", "a.txt", true),
            ("*", "a/b", false),
            ("*.go", "x.go", true),
            ("a*b*c", "aXbYc", true),
            ("a?c", "abc", true),
            ("a?c", "a/c", false),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("[^a-c]x", "dx", true),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("[", "[", true),
            ("**", "a/b/c", true),
            ("**/c", "c", true),
            ("**/c", "a/b/c", true),
            ("**/c", "a/bc", false),
            ("a/**", "a/b/c", true),
            ("a/**/c", "a/c", true),
            ("a/**/c", "a/x/y/c", true),
            ("a/**/c", "ac", false),
            ("**/*.go", "a/b.go", true),
            ("*/b", "a/b", true),
            ("", "", true),
        ];
        for (pattern, text, want) in rows {
            assert_eq!(Pattern::new(pattern).matches(text), want, "{pattern} {text}");
        }
        // Backtracking would not come back from this one.
        assert!(!Pattern::new(&("a*".repeat(40) + "b")).matches(&"a".repeat(4000)));
    }

    #[test]
    fn the_last_matching_rule_counts() {
        let ignore = Ignore::parse(
            "# comment\n\n/target\n*.log\n!keep.log\ndocs\n!docs/README.md\n**/tmp\n  spaced  \n",
        );
        for (path, want) in [
            ("target", true),
            ("target/debug/x", true),
            ("src/target", false),
            ("a.log", true),
            ("keep.log", false),
            ("docs/x", true),
            ("docs/README.md", false),
            ("a/b/tmp/c", true),
            ("spaced", true),
            ("src/main.rs", false),
        ] {
            assert_eq!(ignore.ignores(path), want, "{path}");
        }
        assert!(ignore.has_exceptions());
        let everything = Ignore::parse("*\n!src\n");
        assert!(everything.ignores("x") && !everything.ignores("src/a") && everything.ignores("y/src"));
    }
}
