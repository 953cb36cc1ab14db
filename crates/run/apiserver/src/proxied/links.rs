//! Links in pages that lead to the server behind a proxy, and where they lead through it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Range;

use html5gum::emitters::default::{DefaultEmitter, StartTag};
use html5gum::{HtmlString, Token, Tokenizer};

/// Where a server is behind a proxy.
#[derive(Clone, Debug)]
pub(super) struct Place {
    /// The proxy's own path, without a slash at its end.
    pub(super) prefix: String,
    /// The hosts by which a page may name its own server: where it was asked, and where the client asked.
    pub(super) hosts: [String; 2],
}

impl Place {
    /// What a link has to be to lead through the proxy; `None` when it may stay as it is.
    pub(super) fn moved(&self, link: &str) -> Option<String> {
        let path = match authority(link) {
            Some((host, path)) if self.hosts.iter().any(|own| own == host) => path,
            Some(_) => return None,
            None => link,
        };
        let moved = match path {
            _ if !path.starts_with('/') => return None,
            _ if path.starts_with(&self.prefix) => path.to_owned(),
            _ => format!("{}{path}", self.prefix),
        };
        (moved != link).then_some(moved)
    }

    /// A page with its links moved; `None` when it has none to move.
    pub(super) fn page(&self, page: &[u8]) -> Option<Vec<u8>> {
        let mut emitter = DefaultEmitter::<usize>::new_with_span();
        // What stands in scripts is no tag.
        emitter.naively_switch_states(true);
        let changes = Tokenizer::new_with_emitter(page, emitter).filter_map(|token| match token {
            Ok(Token::StartTag(tag)) => self.tag(tag),
            _ => None,
        });
        let (mut moved, mut done) = (Vec::with_capacity(page.len() + page.len() / 8), 0);
        for (place, tag) in changes {
            moved.extend_from_slice(page.get(done..place.start)?);
            moved.extend_from_slice(&tag);
            done = place.end;
        }
        (done > 0).then(|| {
            moved.extend_from_slice(&page[done..]);
            moved
        })
    }

    fn tag(&self, tag: StartTag<usize>) -> Option<(Range<usize>, Vec<u8>)> {
        let links = link_attributes(&tag.name);
        let mut moved = BTreeMap::new();
        for (name, value) in &tag.attributes {
            let text = std::str::from_utf8(value)
                .ok()
                .filter(|_| links.iter().any(|link| link.as_bytes() == &***name));
            if let Some(link) = text.and_then(|text| self.moved(text.trim())) {
                moved.insert(name.clone(), link);
            }
        }
        (!moved.is_empty()).then(|| (tag.span.start..tag.span.end, written(&tag, &moved)))
    }
}

/// The host (with its port) and what follows it, of a link that names one.
fn authority(link: &str) -> Option<(&str, &str)> {
    let rest = match link.split_once("://") {
        Some((scheme, rest)) if scheme.chars().all(|c| c.is_ascii_alphanumeric()) => rest,
        _ => link.strip_prefix("//")?,
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

/// The attributes of an element that are links (k8s.io/apimachinery/pkg/util/proxy: atomsToAttrs).
fn link_attributes(element: &[u8]) -> &'static [&'static str] {
    match element {
        b"a" | b"area" | b"base" | b"link" => &["href"],
        b"applet" => &["codebase"],
        b"audio" | b"embed" | b"script" | b"source" => &["src"],
        b"blockquote" | b"del" | b"ins" | b"q" => &["cite"],
        b"body" => &["background"],
        b"button" => &["formaction"],
        b"command" => &["icon"],
        b"form" => &["action"],
        b"frame" | b"iframe" => &["longdesc", "src"],
        b"head" => &["profile"],
        b"html" => &["manifest"],
        b"img" => &["longdesc", "src", "usemap"],
        b"input" => &["formaction", "src", "usemap"],
        b"object" => &["classid", "codebase", "data", "usemap"],
        b"video" => &["poster", "src"],
        _ => &[],
    }
}

/// A tag with other values for some attributes.
fn written(tag: &StartTag<usize>, moved: &BTreeMap<HtmlString, String>) -> Vec<u8> {
    let mut text = vec![b'<'];
    text.extend_from_slice(&tag.name);
    for (name, value) in &tag.attributes {
        text.push(b' ');
        text.extend_from_slice(name);
        text.extend_from_slice(b"=\"");
        let value: Cow<'_, [u8]> = match moved.get(name) {
            Some(link) => Cow::Borrowed(link.as_bytes()),
            None => Cow::Borrowed(value),
        };
        for byte in value.iter() {
            match byte {
                b'&' => text.extend_from_slice(b"&amp;"),
                b'"' => text.extend_from_slice(b"&#34;"),
                byte => text.push(*byte),
            }
        }
        text.push(b'"');
    }
    text.extend_from_slice(if tag.self_closing { b"/>" } else { b">" });
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place {
            prefix: "/api/v1/namespaces/a/pods/p/proxy".to_owned(),
            hosts: ["10.0.0.9:80".to_owned(), "localhost:8001".to_owned()],
        }
    }

    #[test]
    fn links_to_the_server_itself_lead_through_the_proxy() {
        let through = |path: &str| Some(format!("/api/v1/namespaces/a/pods/p/proxy{path}"));
        for (link, expected) in [
            ("/x", through("/x")),
            ("/x/?y=/z#/w", through("/x/?y=/z#/w")),
            ("/", through("/")),
            ("http://10.0.0.9:80/x", through("/x")),
            ("//localhost:8001/x", through("/x")),
            ("http://10.0.0.9:80", None),
            ("http://elsewhere/x", None),
            ("//elsewhere/x", None),
            ("x/y", None),
            ("#here", None),
            ("mailto:a@b", None),
            ("/api/v1/namespaces/a/pods/p/proxy/x", None),
            ("http://localhost:8001/api/v1/namespaces/a/pods/p/proxy/x", through("/x")),
            ("", None),
        ] {
            assert_eq!(place().moved(link), expected, "{link}");
        }
    }

    #[test]
    fn pages_keep_all_but_their_links() {
        let to = "/api/v1/namespaces/a/pods/p/proxy";
        for (page, expected) in [
            (
                "<a href=\"/rewriteme\">test</a>".to_owned(),
                Some(format!("<a href=\"{to}/rewriteme\">test</a>")),
            ),
            ("<p title='/x'>/x</p>".to_owned(), None),
            ("<script>a = '<a href=\"/x\">'</script>".to_owned(), None),
            ("<!-- <a href=/x> -->".to_owned(), None),
            (
                "\u{e4}<IMG alt='a&quot;b' src=/i.png><br>\n<form action='?a'>&amp;".to_owned(),
                Some(format!("\u{e4}<img alt=\"a&#34;b\" src=\"{to}/i.png\"><br>\n<form action='?a'>&amp;")),
            ),
            (
                "<link href=/a/><script src='/b?c&amp;d'></script>".to_owned(),
                Some(format!("<link href=\"{to}/a/\"><script src=\"{to}/b?c&amp;d\"></script>")),
            ),
            ("<a href=\"/cut".to_owned(), None),
        ] {
            let moved = place().page(page.as_bytes()).map(|moved| String::from_utf8(moved).expect("text"));
            assert_eq!(moved, expected, "{page}");
        }
    }
}
