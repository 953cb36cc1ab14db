//! `rewrite name`: names that are asked for under another.

use regex::Regex;

use super::Fault;
use super::syntax::Directive;

/// Longest name, in characters.
const LONGEST: usize = 253;

/// A rule for names. Replies tell the name that was asked for.
#[derive(Debug, Clone)]
pub struct Rewrite {
    matcher: Matcher,
    to: String,
    /// Whether the next rule sees the new name.
    goes_on: bool,
}

#[derive(Debug, Clone)]
enum Matcher {
    Exact(String),
    Prefix(String),
    Suffix(String),
    Substring(String),
    Pattern(Regex),
}

/// The name that is looked up in place of this one, which is in lower case without its last dot.
pub fn rewritten(rules: &[Rewrite], name: &str) -> Option<String> {
    let mut current = format!("{name}.");
    let mut changed = false;
    for rule in rules {
        if let Some(next) = rule.apply(&current) {
            current = next;
            changed = true;
            if !rule.goes_on {
                break;
            }
        }
    }
    let current = current.trim_end_matches('.').to_ascii_lowercase();
    (changed && current != name && current.len() <= LONGEST).then_some(current)
}

impl Rewrite {
    /// The new name of a name with its last dot.
    fn apply(&self, name: &str) -> Option<String> {
        match &self.matcher {
            Matcher::Exact(from) => (name == from).then(|| self.to.clone()),
            Matcher::Prefix(from) => {
                name.strip_prefix(from.as_str()).map(|rest| format!("{}{rest}", self.to))
            }
            Matcher::Suffix(from) => {
                name.strip_suffix(from.as_str()).map(|rest| format!("{rest}{}", self.to))
            }
            Matcher::Substring(from) => {
                name.contains(from.as_str()).then(|| name.replace(from.as_str(), &self.to))
            }
            Matcher::Pattern(pattern) => {
                let found = pattern.captures(name)?;
                let mut to = self.to.clone();
                for (index, group) in found.iter().enumerate() {
                    to = to.replace(&format!("{{{index}}}"), group.map_or("", |group| group.as_str()));
                }
                Some(to)
            }
        }
    }
}

pub(super) fn read(line: &Directive, left_out: &mut Vec<String>) -> Result<Vec<Rewrite>, Fault> {
    if !line.body.is_empty() {
        let goes_on = line.arguments().first().is_some_and(|mode| mode == "continue");
        let mut rules = Vec::new();
        for part in &line.body {
            match part.name() {
                // Replies always tell the name that was asked for.
                "answer" => {}
                _ => rules.extend(rule(part, &part.words, left_out)?.map(|rule| Rewrite { goes_on, ..rule })),
            }
        }
        return Ok(rules);
    }
    Ok(rule(line, line.arguments(), left_out)?.into_iter().collect())
}

fn rule(line: &Directive, words: &[String], left_out: &mut Vec<String>) -> Result<Option<Rewrite>, Fault> {
    let mut words: Vec<&str> = words.iter().map(String::as_str).collect();
    let goes_on = words.first() == Some(&"continue");
    if goes_on || words.first() == Some(&"stop") {
        words.remove(0);
    }
    match words.first() {
        Some(&"name") => {}
        Some(kind @ (&"type" | &"class" | &"edns0" | &"ttl" | &"rcode" | &"cname")) => {
            left_out.push(format!("line {}: \"rewrite {kind}\" is not offered", line.line));
            return Ok(None);
        }
        other => return Err(line.fault(format!("invalid rule type {:?}", other.unwrap_or(&"")))),
    }
    let (kind, from, to) = match words[1..] {
        [kind @ ("exact" | "prefix" | "suffix" | "substring" | "regex"), from, to, ..] => (kind, from, to),
        [from, to] => ("exact", from, to),
        _ => return Err(line.fault("rewrite name takes a name and another")),
    };
    let lower = from.to_ascii_lowercase();
    let whole = |text: &str| format!("{}.", text.trim_end_matches('.'));
    let (matcher, to) = match kind {
        "exact" => (Matcher::Exact(whole(&lower)), whole(to)),
        "prefix" => (Matcher::Prefix(lower), to.to_owned()),
        "suffix" => (Matcher::Suffix(whole(&lower)), whole(to)),
        "substring" => (Matcher::Substring(lower), to.to_owned()),
        _ => {
            let pattern = Regex::new(from);
            (
                Matcher::Pattern(pattern.map_err(|error| line.fault(format!("{from:?}: {error}")))?),
                to.to_owned(),
            )
        }
    };
    Ok(Some(Rewrite { matcher, to, goes_on }))
}
