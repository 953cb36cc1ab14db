//! URLs (apiserver: pkg/cel/library/urls.go), parsed as Go's net/url does.

use std::sync::Arc;

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::{Map, Opaque, Value};

pub(super) const TABLE: &str = "
string_to_url url global string kubernetes.URL
is_url_string isURL global string bool
url_get_scheme getScheme member kubernetes.URL string
url_get_host getHost member kubernetes.URL string
url_get_hostname getHostname member kubernetes.URL string
url_get_port getPort member kubernetes.URL string
url_get_escaped_path getEscapedPath member kubernetes.URL string
url_get_query getQuery member kubernetes.URL map(string,list(string))
";

/// A URL in its parts.
#[derive(Clone, Debug, PartialEq)]
pub struct Url {
    scheme: String,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isURL", [Value::String(text)]) => bool(parse(text).is_ok()),
        ("url", [Value::String(text)]) => match parse(text) {
            Ok(url) => Ok(Value::Opaque(Opaque::Url(Arc::new(url)))),
            Err(why) => {
                let text = &**text;
                fail(format!("URL parse error during conversion from string: parse {text:?}: {why}"))
            }
        },
        (_, [Value::Opaque(Opaque::Url(url))]) => part(function, url)?,
        _ => return None,
    })
}

fn part<'a>(function: &str, url: &Url) -> Option<Evaluated<'a>> {
    let (hostname, port) = split_port(&url.host);
    let text = match function {
        "getScheme" => &url.scheme,
        "getHost" => &url.host,
        "getHostname" => hostname,
        "getPort" => port,
        "getEscapedPath" => return Some(Ok(Value::text(escaped_path(&url.path)))),
        "getQuery" => return Some(Ok(query(&url.query))),
        _ => return None,
    };
    Some(Ok(Value::text(text)))
}

fn parse(text: &str) -> Result<Url, &'static str> {
    if text.is_empty() {
        return Err("empty url");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return Err("net/url: invalid control character in URL");
    }
    let (scheme, rest) = scheme(text)?;
    let (rest, fragment) = rest.split_once('#').unwrap_or((rest, ""));
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let rooted = rest.starts_with('/');
    if !rooted && scheme.is_empty() {
        return Err("invalid URI for request");
    }
    // What follows a scheme without a slash (`mailto:a@b`) has no host and no path.
    let rest = if rooted { rest } else { "" };
    let (host, path) = match rest.strip_prefix("//") {
        Some(after) if !scheme.is_empty() || !rest.starts_with("///") => {
            let end = after.find('/').unwrap_or(after.len());
            (&after[..end], &after[end..])
        }
        _ => ("", rest),
    };
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    check_host(host)?;
    check_escapes(path)?;
    let text = |part: &str| part.to_owned();
    Ok(Url {
        scheme: scheme.to_ascii_lowercase(),
        host: text(host),
        path: text(path),
        query: text(query),
        fragment: text(fragment),
    })
}

fn scheme(text: &str) -> Result<(&str, &str), &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            '0'..='9' | '+' | '-' | '.' => return Ok(("", text)),
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok((&text[..at], &text[at + 1..])),
            _ => return Ok(("", text)),
        }
    }
    Ok(("", text))
}

fn check_host(host: &str) -> Result<(), &'static str> {
    if host.starts_with('[') && !host.contains(']') {
        return Err("missing ']' in host");
    }
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}']) {
        return Err("invalid character in host name");
    }
    let after = host.rfind(']').map_or(host, |end| &host[end + 1..]);
    match after.rsplit_once(':') {
        Some((_, port)) if !port.bytes().all(|b| b.is_ascii_digit()) => Err("invalid port after host"),
        _ => Ok(()),
    }
}

fn check_escapes(path: &str) -> Result<(), &'static str> {
    let wrong = path.split('%').skip(1).any(|after| {
        let digits = after.as_bytes();
        digits.len() < 2 || !digits[0].is_ascii_hexdigit() || !digits[1].is_ascii_hexdigit()
    });
    if wrong { Err("invalid URL escape") } else { Ok(()) }
}

fn split_port(host: &str) -> (&str, &str) {
    let (name, port) = match (host.rfind(':'), host.rfind(']')) {
        (Some(colon), Some(bracket)) if colon < bracket => (host, ""),
        (Some(colon), _) => (&host[..colon], &host[colon + 1..]),
        (None, _) => (host, ""),
    };
    (name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name), port)
}

fn escaped_path(path: &str) -> String {
    let mut escaped = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~$&+,/:;=@%!'()*".contains(&byte) {
            escaped.push(byte as char);
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

fn query<'a>(query: &str) -> Value<'a> {
    let mut fields: Vec<(String, Vec<Value<'a>>)> = Vec::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty() && !pair.contains(';')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode(name), decode(value)) else { continue };
        match fields.iter_mut().find(|(known, _)| *known == name) {
            Some((_, values)) => values.push(Value::text(value)),
            None => fields.push((name, vec![Value::text(value)])),
        }
    }
    Value::Map(Map::of_fields(fields.into_iter().map(|(name, values)| (name, Value::list(values)))))
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let (high, low) = (rest.next()? as char, rest.next()? as char);
                (high.to_digit(16)? * 16 + low.to_digit(16)?) as u8
            }
            other => other,
        });
    }
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Why `text` is no URL; nothing if it is one.
pub(super) fn problem(text: &str) -> Option<&'static str> {
    parse(text).err()
}
