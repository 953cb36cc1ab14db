//! What a `Corefile` asks of this resolver: stub domains, upstream servers, names of its own, rewriting, caching.
//!
//! Server blocks and their most common plugins are read as CoreDNS reads them.
//! What the resolver does anyway (metrics, health, reload, spreading of
//! addresses) is accepted; a plugin that CoreDNS has and this resolver has not is
//! told as a [`Rules::left_out`]; anything else is a [`Fault`].

mod forward;
pub mod hosts;
mod rewrite;
mod syntax;
mod template;

use std::collections::BTreeMap;
use std::time::Duration;

pub use forward::{Forward, Policy, Server, Tls};
use hosts::Hosts;
pub use rewrite::{Rewrite, rewritten};
pub use template::{Data, Record, Template, Written, written};

use syntax::Directive;

/// Why a Corefile cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Corefile:{line}: {message}")]
pub struct Fault {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// The file that is used when there is none.
pub const DEFAULT: &str = ".:53 {
    errors
    kubernetes cluster.local in-addr.arpa ip6.arpa {
        pods insecure
        fallthrough in-addr.arpa ip6.arpa
        ttl 5
    }
    prometheus :9153
    forward . /etc/resolv.conf
    cache 300 {
        serve_stale
    }
    loop
    reload
    loadbalance
}
";

const PORT: u16 = 53;

/// Plugins whose work is done here without being asked for.
const DONE: &[&str] = &[
    "any",
    "autopath",
    "bind",
    "bufsize",
    "cancel",
    "debug",
    "errors",
    "health",
    "loadbalance",
    "local",
    "loop",
    "metadata",
    "minimal",
    "multisocket",
    "nsid",
    "pprof",
    "prometheus",
    "ready",
    "reload",
    "timeouts",
    "trace",
];

/// Plugins that CoreDNS has and this resolver has not.
const ABSENT: &[&str] = &[
    "acl",
    "auto",
    "azure",
    "chaos",
    "clouddns",
    "dns64",
    "dnssec",
    "dnstap",
    "erratic",
    "etcd",
    "file",
    "geoip",
    "grpc",
    "header",
    "k8s_external",
    "route53",
    "secondary",
    "sign",
    "tls",
    "transfer",
    "tsig",
    "view",
    "whoami",
];

/// How queries are treated, by the zone they are in.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Longest zones first.
    blocks: Vec<(Box<str>, std::sync::Arc<Block>)>,
    left_out: Vec<String>,
    lifetime: u32,
    pods: Pods,
}

/// Whether names such as `10-0-0-1.NAMESPACE.pod.ZONE` are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pods {
    /// For any address, without asking whether there is such a pod.
    Insecure,
    /// Not at all.
    Disabled,
}

/// What a server block says.
#[derive(Debug, Clone, Default)]
pub struct Block {
    /// Its first zone, as metrics name it: `.` or `example.org.`.
    pub zone: Box<str>,
    /// Who knows what this resolver does not; the first whose zone holds a name counts.
    pub forwards: Vec<Forward>,
    /// Names told here.
    pub hosts: Option<Hosts>,
    /// Replies that are written from names.
    pub templates: Vec<Template>,
    /// Names that are asked for under another.
    pub rewrites: Vec<Rewrite>,
    /// How long others' replies are kept; without it, not at all.
    pub cache: Option<Caching>,
    /// Whether each query is logged.
    pub log: bool,
}

/// How long others' replies are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caching {
    /// The longest for replies that name records.
    pub success: Duration,
    /// The longest for replies that say there are none.
    pub denial: Duration,
    /// How long after that they may be told when nobody can be asked.
    pub stale: Duration,
}

impl Rules {
    /// Reads a Corefile; `files` are those it may import, by base name.
    ///
    /// # Errors
    /// With the line that cannot be understood.
    pub fn parse(text: &str, files: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let mut rules = Self { blocks: Vec::new(), left_out: Vec::new(), lifetime: 5, pods: Pods::Insecure };
        for directive in syntax::parse(text, files)? {
            rules.add(&directive, files)?;
        }
        if rules.blocks.is_empty() {
            return Err(Fault { line: 1, message: "there is no server block for port 53".into() });
        }
        // Nearer zones are longer; a stable sort keeps the first of two that are the same.
        rules.blocks.sort_by_key(|(zone, _)| std::cmp::Reverse(zone.len()));
        Ok(rules)
    }

    /// The block for a name in lower case without its last dot.
    pub fn block(&self, name: &str) -> Option<&std::sync::Arc<Block>> {
        self.blocks.iter().find(|(zone, _)| is_in_zone(name, zone)).map(|(_, block)| block)
    }

    /// All blocks, longest zones first.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.blocks.iter().map(|(_, block)| &**block)
    }

    /// What was read and has no effect, in words.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }

    /// The lifetime of the cluster's own records, in seconds.
    pub fn lifetime(&self) -> u32 {
        self.lifetime
    }

    /// Whether pods have names.
    pub fn pods(&self) -> Pods {
        self.pods
    }

    fn add(&mut self, directive: &Directive, files: &BTreeMap<String, String>) -> Result<(), Fault> {
        let mut zones = Vec::new();
        for word in &directive.words {
            match zone_of_key(word.trim_end_matches(',')) {
                None if word == "," => {}
                None => return Err(directive.fault(format!("{word:?} is no zone"))),
                Some((zone, PORT)) => zones.push(zone),
                Some((_, port)) => self.left_out.push(format!(
                    "line {}: {word:?}: this resolver answers on port {PORT}, not on {port}",
                    directive.line
                )),
            }
        }
        let block = std::sync::Arc::new(self.block_of(directive, &zones, files)?);
        self.blocks.extend(zones.into_iter().map(|zone| (zone.into(), block.clone())));
        Ok(())
    }

    fn block_of(
        &mut self,
        directive: &Directive,
        zones: &[String],
        files: &BTreeMap<String, String>,
    ) -> Result<Block, Fault> {
        let zone = format!("{}.", zones.first().map_or("", String::as_str)).into();
        let mut block = Block { zone, ..Block::default() };
        for line in &directive.body {
            match line.name() {
                "forward" => block.forwards.push(Forward::read(line, files)?),
                "hosts" => block.hosts = Some(Hosts::read(line, files)?),
                "rewrite" => block.rewrites.extend(rewrite::read(line, &mut self.left_out)?),
                "template" => block.templates.extend(template::read(line, &mut self.left_out)?),
                "cache" => block.cache = Some(caching(line)?),
                "log" => block.log = true,
                "kubernetes" => self.kubernetes(line)?,
                name if DONE.contains(&name) => {}
                name if ABSENT.contains(&name) => {
                    self.left_out.push(format!("line {}: plugin {name:?} is not offered", line.line));
                }
                name => return Err(line.fault(format!("Unknown directive '{name}'"))),
            }
        }
        Ok(block)
    }

    fn kubernetes(&mut self, line: &Directive) -> Result<(), Fault> {
        for option in &line.body {
            let argument = option.arguments().first().map(String::as_str);
            match (option.name(), argument) {
                ("pods", Some("disabled")) => self.pods = Pods::Disabled,
                ("pods", Some("insecure")) => self.pods = Pods::Insecure,
                ("pods", Some("verified")) => {
                    self.pods = Pods::Insecure;
                    self.left_out
                        .push(format!("line {}: \"pods verified\" is taken as insecure", option.line));
                }
                ("ttl", Some(seconds)) => match seconds.parse() {
                    Ok(seconds @ 0..=3600) => self.lifetime = seconds,
                    _ => return Err(option.fault(format!("ttl must be in range [0, 3600]: {seconds}"))),
                },
                (
                    "fallthrough" | "endpoint_pod_names" | "endpoint" | "tls" | "kubeconfig"
                    | "apiserver_qps",
                    _,
                )
                | ("apiserver_burst" | "apiserver_max_inflight" | "startup_timeout", _) => {}
                (
                    "namespaces" | "labels" | "namespace_labels" | "noendpoints" | "ignore" | "multicluster",
                    _,
                ) => {
                    let name = option.name();
                    self.left_out
                        .push(format!("line {}: {name:?} of kubernetes is not offered", option.line));
                }
                (name, _) => return Err(option.fault(format!("unknown property '{name}'"))),
            }
        }
        Ok(())
    }
}

/// Whether a name is a zone or below it; both in lower case, without a last dot.
pub(super) fn is_in_zone(name: &str, zone: &str) -> bool {
    match name.strip_suffix(zone) {
        Some(rest) => zone.is_empty() || rest.is_empty() || rest.ends_with('.'),
        None => false,
    }
}

/// A zone in lower case without its last dot; the root is empty.
fn zone_name(text: &str) -> String {
    text.trim_end_matches('.').to_ascii_lowercase()
}

/// Zone and port of a block's key, such as `.:53`, `dns://example.org` or `10.0.0.0/24`.
fn zone_of_key(key: &str) -> Option<(String, u16)> {
    let key = match key.split_once("://") {
        Some(("dns", rest)) => rest,
        // Other transports have ports of their own.
        Some(("tls", rest)) => return Some((zone_name(rest), 853)),
        Some(("grpc" | "https" | "https3", rest)) => return Some((zone_name(rest), 443)),
        Some(("quic", rest)) => return Some((zone_name(rest), 853)),
        Some(_) => return None,
        None => key,
    };
    let (zone, port) = match key.rsplit_once(':') {
        Some((zone, port)) if !zone.contains(':') => (zone, port.parse().ok()?),
        _ => (key, PORT),
    };
    if zone.is_empty() {
        return (key.starts_with(':')).then(|| (String::new(), port));
    }
    match zone.contains('/') {
        true => Some((reverse_zone(zone.parse().ok()?), port)),
        false => Some((zone_name(zone), port)),
    }
}

/// The zone of a network's addresses; networks that end inside a label get the next larger zone.
fn reverse_zone(network: ipnet::IpNet) -> String {
    match network {
        ipnet::IpNet::V4(network) => {
            let octets = network.network().octets();
            let labels = octets[..usize::from(network.prefix_len() / 8)].iter().rev();
            labels.map(|octet| format!("{octet}.")).collect::<String>() + "in-addr.arpa"
        }
        ipnet::IpNet::V6(network) => {
            let digits = format!("{:032x}", u128::from(network.network()));
            let labels = digits[..usize::from(network.prefix_len() / 4)].chars().rev();
            labels.map(|digit| format!("{digit}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

fn caching(line: &Directive) -> Result<Caching, Fault> {
    let mut caching = Caching {
        success: Duration::from_secs(3600),
        denial: Duration::from_secs(1800),
        stale: Duration::ZERO,
    };
    if let Some(seconds) = line.arguments().first().and_then(|word| word.parse::<u64>().ok()) {
        if seconds == 0 {
            return Err(line.fault("cache TTL can not be zero or negative: 0"));
        }
        caching.success = caching.success.min(Duration::from_secs(seconds));
        caching.denial = caching.denial.min(Duration::from_secs(seconds));
    }
    for option in &line.body {
        let arguments = option.arguments();
        match option.name() {
            name @ ("success" | "denial") => {
                let seconds = match arguments.get(1) {
                    Some(word) => {
                        Some(word.parse().map_err(|_| option.fault(format!("{word:?} is no TTL")))?)
                    }
                    None => None,
                };
                let place = if name == "success" { &mut caching.success } else { &mut caching.denial };
                *place = seconds.map_or(*place, Duration::from_secs);
            }
            "serve_stale" => {
                let hour = Duration::from_secs(3600);
                caching.stale = arguments.first().map_or(Ok(hour), |word| duration(option, word))?;
            }
            "disable" => match arguments.first().map(String::as_str) {
                Some("success") => caching.success = Duration::ZERO,
                Some("denial") => caching.denial = Duration::ZERO,
                _ => return Err(option.fault("cache type for disable must be \"success\" or \"denial\"")),
            },
            "prefetch" | "servfail" | "keepttl" => {}
            name => return Err(option.fault(format!("unknown property '{name}'"))),
        }
    }
    Ok(caching)
}

/// A duration as Go writes it.
fn duration(line: &Directive, text: &str) -> Result<Duration, Fault> {
    plimsoll_meta::duration::parse(text).map_err(|error| line.fault(format!("{text:?}: {error}")))
}

#[cfg(test)]
mod tests;
