//! `template`: replies that are written from the name that was asked for.

use std::net::IpAddr;

use regex::{Captures, Regex};

use super::syntax::Directive;
use super::{Fault, is_in_zone, zone_name};
use crate::dns::{Kind, Rcode};

/// The lifetime of records that name none, in seconds.
const LIFETIME: u32 = 3600;

/// Longest name, in characters.
const LONGEST: usize = 253;

/// One directive.
#[derive(Debug, Clone)]
pub struct Template {
    /// None: all.
    kind: Option<Kind>,
    zones: Vec<Box<str>>,
    /// The first that finds the name, with its last dot, fills the answers.
    patterns: Vec<Regex>,
    answers: Vec<Vec<Piece>>,
    rcode: Rcode,
    /// The zones in which names that no pattern finds may be known elsewhere; none means nowhere.
    fall_through: Option<Vec<Box<str>>>,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Plain(String),
    Name,
    Zone,
    Type,
    Class,
    Match(usize),
    Group(String),
}

/// A reply that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written {
    /// How the query ends.
    pub rcode: Rcode,
    /// The records, in their order.
    pub records: Vec<Record>,
}

/// A record that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Whose record it is, without the last dot.
    pub owner: String,
    /// For how long it may be kept, in seconds.
    pub lifetime: u32,
    /// What it says.
    pub data: Data,
}

/// What a record says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Data {
    /// An address.
    Address(IpAddr),
    /// Another name: `CNAME`, `PTR` or `NS`.
    Name(Kind, String),
    /// Text.
    Text(String),
}

/// What the first template that counts says of a name in lower case without its last dot; nothing if none does.
pub fn written(templates: &[Template], name: &str, kind: Kind) -> Option<Written> {
    let whole = format!("{name}.");
    for template in templates {
        let Some(zone) = template.zones.iter().find(|zone| is_in_zone(name, zone)) else { continue };
        if template.kind.is_some_and(|wanted| wanted != kind && kind != Kind::Any) {
            continue;
        }
        let found = template.patterns.iter().find_map(|pattern| pattern.captures(&whole));
        let Some(found) = found else {
            if template.fall_through.iter().flatten().any(|zone| is_in_zone(name, zone)) {
                continue;
            }
            return Some(Written { rcode: Rcode::NameError, records: Vec::new() });
        };
        let fill = Fill { name: &whole, zone, kind, found: &found };
        let records = template.answers.iter().map(|answer| record(&fill.text(answer))).collect();
        let failed = Written { rcode: Rcode::ServerFailure, records: Vec::new() };
        return Some(match records {
            Some(records) => Written { rcode: template.rcode, records },
            None => failed,
        });
    }
    None
}

/// What fills an answer.
struct Fill<'a> {
    name: &'a str,
    zone: &'a str,
    kind: Kind,
    found: &'a Captures<'a>,
}

impl Fill<'_> {
    fn text(&self, pieces: &[Piece]) -> String {
        let mut text = String::new();
        for piece in pieces {
            match piece {
                Piece::Plain(plain) => text.push_str(plain),
                Piece::Name => text.push_str(self.name),
                Piece::Zone => {
                    text.push_str(self.zone);
                    text.push('.');
                }
                Piece::Type => text.push_str(&self.kind.name()),
                Piece::Class => text.push_str("IN"),
                Piece::Match(index) => {
                    text.push_str(self.found.get(*index).map_or("", |group| group.as_str()))
                }
                Piece::Group(name) => text.push_str(self.found.name(name).map_or("", |group| group.as_str())),
            }
        }
        text
    }
}

/// Reads `NAME [TTL] [IN] TYPE DATA`.
fn record(text: &str) -> Option<Record> {
    let mut words = text.split_whitespace().peekable();
    let owner = bare(words.next()?)?;
    let mut lifetime = LIFETIME;
    while let Some(word) =
        words.next_if(|word| word.parse::<u32>().is_ok() || word.eq_ignore_ascii_case("IN"))
    {
        lifetime = word.parse().unwrap_or(lifetime);
    }
    let kind = Kind::named(words.next()?)?;
    let data = match kind {
        Kind::A => Data::Address(words.next()?.parse().ok().filter(IpAddr::is_ipv4)?),
        Kind::Aaaa => Data::Address(words.next()?.parse().ok().filter(IpAddr::is_ipv6)?),
        Kind::Cname | Kind::Ptr | Kind::Ns => Data::Name(kind, bare(words.next()?)?),
        Kind::Txt => Data::Text(text.split_once('"')?.1.strip_suffix('"')?.to_owned()),
        _ => return None,
    };
    let rest = kind == Kind::Txt || words.next().is_none();
    rest.then_some(Record { owner, lifetime, data })
}

/// A name without its last dot, if it can stand in a message.
fn bare(name: &str) -> Option<String> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = name.len() <= LONGEST && name.split('.').all(|label| (1..=63).contains(&label.len()));
    fits.then(|| name.to_owned())
}

/// Reads a directive. What is beyond this resolver is told as left out, and the directive has no effect.
pub(super) fn read(line: &Directive, left_out: &mut Vec<String>) -> Result<Option<Template>, Fault> {
    let [class, wanted, zones @ ..] = line.arguments() else {
        return Err(line.fault("template needs a class and a type"));
    };
    let mut lacks = |what: String| {
        left_out.push(format!("line {}: template: {what} is not offered", line.line));
        Ok(None)
    };
    let kind = Kind::named(wanted).ok_or_else(|| line.fault(format!("invalid RR type {wanted:?}")))?;
    match class.to_ascii_uppercase().as_str() {
        "IN" | "ANY" => {}
        "CH" | "HS" | "CS" => return lacks(format!("class {class}")),
        _ => return Err(line.fault(format!("invalid query class {class}"))),
    }
    let zones_of = |words: &[String]| match words {
        [] => vec!["".into()],
        words => words.iter().map(|zone| zone_name(zone).into()).collect::<Vec<Box<str>>>(),
    };
    let mut template = Template {
        kind: (kind != Kind::Any).then_some(kind),
        zones: zones_of(zones),
        patterns: Vec::new(),
        answers: Vec::new(),
        rcode: Rcode::NoError,
        fall_through: None,
    };
    for option in &line.body {
        let arguments = option.arguments();
        match option.name() {
            "match" if arguments.is_empty() => return Err(option.fault("match needs a pattern")),
            "match" => {
                for text in arguments {
                    let pattern = Regex::new(text);
                    template
                        .patterns
                        .push(pattern.map_err(|error| option.fault(format!("{text:?}: {error}")))?);
                }
            }
            "answer" => {
                for text in arguments {
                    match pieces(text) {
                        Some(pieces) => template.answers.push(pieces),
                        None => return lacks(format!("answer {text:?}")),
                    }
                }
            }
            "rcode" => {
                let code = arguments.first().map_or("", String::as_str);
                template.rcode =
                    rcode(code).ok_or_else(|| option.fault(format!("unknown response code {code}")))?;
            }
            "fallthrough" => template.fall_through = Some(zones_of(arguments)),
            "ederror" | "upstream" => {}
            name @ ("additional" | "authority") => return lacks(format!("{name:?}")),
            name => return Err(option.fault(format!("unknown property '{name}'"))),
        }
    }
    if template.patterns.is_empty() {
        template.patterns.push(Regex::new(".*").map_err(|error| line.fault(error.to_string()))?);
    }
    Ok(Some(template))
}

fn rcode(text: &str) -> Option<Rcode> {
    Some(match text.to_ascii_uppercase().as_str() {
        "NOERROR" => Rcode::NoError,
        "FORMERR" => Rcode::FormatError,
        "SERVFAIL" => Rcode::ServerFailure,
        "NXDOMAIN" => Rcode::NameError,
        "NOTIMP" => Rcode::NotImplemented,
        "REFUSED" => Rcode::Refused,
        _ => return None,
    })
}

/// The pieces of a text of Go's templates that does no more than name what was found.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let (mut pieces, mut rest) = (Vec::new(), text);
    while let Some((plain, after)) = rest.split_once("{{") {
        let (inside, after) = after.split_once("}}")?;
        pieces.push(Piece::Plain(plain.to_owned()));
        pieces.push(piece(inside.trim())?);
        rest = after;
    }
    pieces.push(Piece::Plain(rest.to_owned()));
    Some(pieces)
}

fn piece(inside: &str) -> Option<Piece> {
    let number = |word: &str| word.trim_matches('"').parse().ok().map(Piece::Match);
    match inside.split_whitespace().collect::<Vec<_>>().as_slice() {
        [".Name"] => Some(Piece::Name),
        [".Zone"] => Some(Piece::Zone),
        [".Type"] => Some(Piece::Type),
        [".Class"] => Some(Piece::Class),
        ["index", ".Match" | ".Group", place] => number(place),
        [word] => {
            let group = word.strip_prefix(".Group.")?;
            let named = !group.is_empty() && group.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
            named.then(|| Piece::Group(group.to_owned()))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use std::collections::BTreeMap;

    use super::super::Rules;
    use super::*;

    fn told(corefile: &str, name: &str, kind: Kind) -> String {
        let rules = Rules::parse(&format!(". {{\n{corefile}\n}}\n"), &BTreeMap::new()).unwrap();
        match written(&rules.block(name).unwrap().templates, name, kind) {
            None => "-".to_owned(),
            Some(written) => {
                let records =
                    written.records.iter().map(|it| format!(" {} {} {:?}", it.owner, it.lifetime, it.data));
                format!("{:?}{}", written.rcode, records.collect::<String>())
            }
        }
    }

    #[test]
    fn replies_are_written_from_names() {
        let nothing = "template IN AAAA .";
        let blocked = "template ANY ANY ads.example {\n rcode NXDOMAIN\n}";
        let address = r#"template IN A example.net {
            match (^|[.])ip-10-(?P<b>[0-9]*)-(?P<c>[0-9]*)-([0-9]*)[.]example[.]net[.]$
            answer "{{ .Name }} 60 IN A 10.{{ .Group.b }}.{{ .Group.c }}.{{ index .Match 4 }}"
            fallthrough
        }"#;
        let strict = address.replace("fallthrough", "");
        let alias = "template IN ANY example.com {\n match ^(.*)[.]example[.]com[.]$\n \
                     answer \"{{ .Name }} {{ .Class }} CNAME {{ index .Match 1 }}.example.org.\"\n}";
        let wrong = "template IN A example.net {\n answer \"{{ .Name }} 60 IN A {{ .Name }}\"\n}";
        for (corefile, name, kind, expected) in [
            (nothing, "www.example.org", Kind::Aaaa, "NoError"),
            (nothing, "www.example.org", Kind::A, "-"),
            (blocked, "a.ads.example", Kind::Txt, "NameError"),
            (blocked, "example", Kind::Txt, "-"),
            (
                address,
                "ip-10-1-2-3.example.net",
                Kind::A,
                "NoError ip-10-1-2-3.example.net 60 Address(10.1.2.3)",
            ),
            (address, "ip-10-1-2-3.example.net", Kind::Aaaa, "-"),
            (address, "www.example.net", Kind::A, "-"),
            (&strict, "www.example.net", Kind::A, "NameError"),
            (address, "ip-10-1-2-999.example.net", Kind::A, "ServerFailure"),
            (alias, "a.example.com", Kind::A, "NoError a.example.com 3600 Name(Cname, \"a.example.org\")"),
            (wrong, "a.example.net", Kind::A, "ServerFailure"),
        ] {
            assert_eq!(told(corefile, name, kind), expected, "{corefile} {name}");
        }
    }

    #[test]
    fn faults_and_what_is_beyond() {
        let read = |text: &str| Rules::parse(&format!(". {{\n{text}\n}}\n"), &BTreeMap::new());
        for (text, fault) in [
            ("template IN", "template needs a class and a type"),
            ("template IN NONSENSE", "invalid RR type \"NONSENSE\""),
            ("template XX A", "invalid query class XX"),
            ("template IN A {\n rcode NEVER\n}", "unknown response code NEVER"),
            ("template IN A {\n match (\n}", "\"(\": regex parse error"),
            ("template IN A {\n tell\n}", "unknown property 'tell'"),
        ] {
            assert!(read(text).unwrap_err().message.starts_with(fault), "{text}: {:?}", read(text));
        }
        for text in [
            "template CH ANY",
            "template IN A {\n answer \"{{ .Meta \\\"x\\\" }}\"\n}",
            "template IN A {\n authority x\n}",
        ] {
            let rules = read(text).unwrap();
            assert_eq!((rules.left_out().len(), rules.block("a").unwrap().templates.len()), (1, 0), "{text}");
        }
        for kind in ["TYPE65", "HTTPS", "MX", "a"] {
            assert_eq!(read(&format!("template IN {kind}")).unwrap().left_out().len(), 0, "{kind}");
        }
    }
}
