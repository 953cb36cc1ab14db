//! What the annotations of an Ingress ask for, in the words of ingress-nginx.

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;
use regex::{Regex, RegexBuilder};

use crate::affinity::Affinity;
use crate::canary::{Canary, Header, Value};
use crate::limits::{Limits, Rate};
use crate::read;

/// What the annotations' names begin with.
pub const PREFIX: &str = "nginx.ingress.kubernetes.io/";

/// A compiled pattern may take so much memory: it comes from users.
const PATTERN_BYTES: usize = 1 << 20;

/// What a backend speaks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// HTTP/1.1
    #[default]
    Http,
    /// HTTP/1.1 over TLS, with whatever certificate.
    Https,
    /// HTTP/2 in the clear, as gRPC servers do.
    Grpc,
    /// HTTP/2 over TLS.
    Grpcs,
}

/// When plain requests are sent to the encrypted port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Redirect {
    /// Not at all.
    Never,
    /// Where the host has a certificate.
    WithCertificate,
    /// Whether it has one or not.
    Always,
}

/// The settings of an Ingress.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Plain requests.
    pub redirect: Redirect,
    /// Bytes of a request's body, unless any number.
    pub body_size: Option<u64>,
    /// Time to connect to a pod.
    pub connect_timeout: Duration,
    /// Time until an answer begins, whatever is tried.
    pub request_timeout: Option<Duration>,
    /// Time between two pieces of an answer.
    pub read_timeout: Duration,
    /// Time between two pieces of a request.
    pub send_timeout: Duration,
    /// The cookie that keeps clients with their pod.
    pub affinity: Option<Affinity>,
    /// Who may ask; everybody if empty.
    pub allowed: Vec<IpNet>,
    /// Who may not.
    pub denied: Vec<IpNet>,
    /// Of an Ingress that is a canary: who goes there.
    pub canary: Option<Canary>,
    /// What the pods speak.
    pub protocol: Protocol,
    /// For each client.
    pub limits: Limits,
    /// Other paths for the pods.
    pub rewrite: Option<String>,
    /// Whether paths are patterns; rewriting makes them so, too.
    pub patterns: bool,
    /// A rule that protects cannot be read: nothing passes.
    pub unusable: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            redirect: Redirect::WithCertificate,
            body_size: Some(1 << 20),
            connect_timeout: Duration::from_secs(5),
            request_timeout: None,
            read_timeout: Duration::from_secs(60),
            send_timeout: Duration::from_secs(60),
            affinity: None,
            allowed: Vec::new(),
            denied: Vec::new(),
            canary: None,
            protocol: Protocol::Http,
            limits: Limits::default(),
            rewrite: None,
            patterns: false,
            unusable: false,
        }
    }
}

impl Settings {
    /// Reads annotations. What is wrong with them is told by name and problem; its default counts instead.
    pub fn of(annotations: &BTreeMap<String, String>) -> (Self, Vec<(String, String)>) {
        let mut reader = Reader { annotations, seen: Vec::new(), problems: Vec::new() };
        let base = Self::default();
        let size = reader.get("proxy-body-size", read::size);
        let mut settings = Self {
            redirect: reader.redirect(),
            body_size: size.map_or(base.body_size, |size| (size > 0).then_some(size)),
            connect_timeout: reader
                .get("proxy-connect-timeout", read::seconds)
                .unwrap_or(base.connect_timeout),
            request_timeout: None,
            read_timeout: reader.get("proxy-read-timeout", read::seconds).unwrap_or(base.read_timeout),
            send_timeout: reader.get("proxy-send-timeout", read::seconds).unwrap_or(base.send_timeout),
            affinity: reader.affinity(),
            allowed: Vec::new(),
            denied: Vec::new(),
            canary: reader.canary(),
            protocol: reader.get("backend-protocol", protocol).unwrap_or_default(),
            limits: reader.limits(),
            rewrite: reader.text("rewrite-target").filter(|target| !target.is_empty()),
            patterns: reader.get("use-regex", read::switch).unwrap_or_default(),
            unusable: false,
        };
        settings.patterns |= settings.rewrite.is_some();
        // Whoever protects a backend must not find it open for a slip of the pen.
        let before = reader.problems.len();
        let allowed = reader.get("whitelist-source-range", read::ranges);
        settings.allowed = reader.get("allowlist-source-range", read::ranges).or(allowed).unwrap_or_default();
        settings.denied = reader.get("denylist-source-range", read::ranges).unwrap_or_default();
        settings.unusable = reader.problems.len() > before;
        reader.unknown();
        (settings, reader.problems)
    }
}

/// A pattern at the beginning of paths, as nginx' `location ~*` compares it.
pub fn path_pattern(path: &str) -> Result<Regex, String> {
    pattern(&format!("^{path}"), true)
}

pub(crate) fn pattern(text: &str, any_case: bool) -> Result<Regex, String> {
    let built = RegexBuilder::new(text).case_insensitive(any_case).size_limit(PATTERN_BYTES).build();
    built.map_err(|error| format!("is no pattern: {error}"))
}

fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" | "AUTO_HTTP" => Ok(Protocol::Http),
        "HTTPS" => Ok(Protocol::Https),
        "GRPC" => Ok(Protocol::Grpc),
        "GRPCS" => Ok(Protocol::Grpcs),
        _ => Err("must be HTTP, HTTPS, GRPC or GRPCS".to_owned()),
    }
}

/// Whether clients stay with the canary that they had, or with the pod that is none.
fn canary_behavior(text: &str) -> Result<bool, String> {
    match text {
        "sticky" => Ok(true),
        "legacy" => Ok(false),
        _ => Err("must be sticky or legacy".to_owned()),
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    /// The names that mean something.
    seen: Vec<&'static str>,
    problems: Vec<(String, String)>,
}

impl Reader<'_> {
    fn text(&mut self, name: &'static str) -> Option<String> {
        self.seen.push(name);
        self.annotations.get(&format!("{PREFIX}{name}")).map(|value| value.trim().to_owned())
    }

    fn get<T>(&mut self, name: &'static str, read: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.text(name)?;
        match read(&text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.problems.push((format!("{PREFIX}{name}"), format!("{text:?}: {problem}")));
                None
            }
        }
    }

    fn redirect(&mut self) -> Redirect {
        let usual = self.get("ssl-redirect", read::switch).unwrap_or(true);
        match (self.get("force-ssl-redirect", read::switch), usual) {
            (Some(true), _) => Redirect::Always,
            (_, true) => Redirect::WithCertificate,
            (_, false) => Redirect::Never,
        }
    }

    fn affinity(&mut self) -> Option<Affinity> {
        let cookie = |text: &str| (text == "cookie").then_some(()).ok_or_else(|| "must be cookie".to_owned());
        let wanted = self.get("affinity", cookie);
        self.seen.push("affinity-mode");
        let age = self.get("session-cookie-max-age", read::number);
        let affinity = Affinity {
            name: self.get("session-cookie-name", cookie_word).unwrap_or_else(|| "INGRESSCOOKIE".to_owned()),
            path: self.get("session-cookie-path", cookie_word),
            domain: self.get("session-cookie-domain", cookie_word),
            // Both say how many seconds.
            max_age: self.get("session-cookie-expires", read::number).or(age),
            same_site: self.get("session-cookie-samesite", same_site),
            secure: self.get("session-cookie-secure", read::switch),
            change_on_failure: self.get("session-cookie-change-on-failure", read::switch).unwrap_or_default(),
        };
        wanted.map(|()| Affinity { max_age: age.or(affinity.max_age), ..affinity })
    }

    fn canary(&mut self) -> Option<Canary> {
        let wanted = self.get("canary", read::switch).unwrap_or_default();
        let name = self.text("canary-by-header");
        let text = self.text("canary-by-header-value").map(Value::Text);
        let found = self.get("canary-by-header-pattern", |text| pattern(text, false)).map(Value::Pattern);
        let value = text.or(found).unwrap_or(Value::Always);
        let canary = Canary {
            header: name.filter(|name| !name.is_empty()).map(|name| Header { name, value }),
            cookie: self.text("canary-by-cookie").filter(|name| !name.is_empty()),
            weight: self.get("canary-weight", read::number).unwrap_or_default(),
            total: self.get("canary-weight-total", read::number).unwrap_or(100),
            sticky: self.get("affinity-canary-behavior", canary_behavior) != Some(false),
        };
        wanted.then_some(canary)
    }

    fn limits(&mut self) -> Limits {
        let burst = self.get("limit-burst-multiplier", read::number).filter(|times| *times > 0).unwrap_or(5);
        let rate = |amount: u32| Rate { amount, burst: amount.saturating_mul(burst) };
        let positive = |amount: &u32| *amount > 0;
        let exempt = self.get("limit-whitelist", read::ranges);
        Limits {
            connections: self.get("limit-connections", read::number).filter(positive),
            per_second: self.get("limit-rps", read::number).filter(positive).map(rate),
            per_minute: self.get("limit-rpm", read::number).filter(positive).map(rate),
            exempt: self.get("limit-allowlist", read::ranges).or(exempt).unwrap_or_default(),
        }
    }

    /// Tells of annotations that do nothing here.
    fn unknown(&mut self) {
        let names = self.annotations.keys().filter_map(|name| name.strip_prefix(PREFIX));
        let unknown: Vec<_> = names.filter(|name| !self.seen.contains(name)).collect();
        for name in unknown {
            self.problems.push((format!("{PREFIX}{name}"), "is not supported and does nothing".to_owned()));
        }
    }
}

fn cookie_word(text: &str) -> Result<String, String> {
    let usable = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b';');
    usable.then(|| text.to_owned()).ok_or_else(|| "cannot stand in a cookie".to_owned())
}

fn same_site(text: &str) -> Result<String, String> {
    let known = ["Strict", "Lax", "None"].into_iter().find(|known| known.eq_ignore_ascii_case(text));
    known.map(str::to_owned).ok_or_else(|| "must be Strict, Lax or None".to_owned())
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
