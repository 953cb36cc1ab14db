//! `forward`: who knows the names that this resolver does not.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::syntax::Directive;
use super::{Fault, duration, is_in_zone, zone_name};

/// The port of DNS over TLS.
const ENCRYPTED_PORT: u16 = 853;

/// Upstream servers of one directive; CoreDNS takes no more.
const MOST_SERVERS: usize = 15;

/// An upstream server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Server {
    /// At this address.
    Address(SocketAddr),
    /// At this address, over TLS.
    Encrypted(SocketAddr),
    /// Those of this node's `resolv.conf`.
    Node,
}

/// How servers that are asked over TLS prove who they are.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct Tls {
    /// The name in their certificates; without it, their address.
    pub server_name: Option<Box<str>>,
    /// Certificates (PEM) of those who vouch for them; without it, whom the system trusts.
    pub authorities: Option<Box<str>>,
}

/// Which server is asked first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Policy {
    /// Any.
    #[default]
    Random,
    /// Each in turn.
    RoundRobin,
    /// Always the first that works.
    Sequential,
}

/// Whom to ask for names of a zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    zone: Box<str>,
    except: Vec<Box<str>>,
    /// The servers, one at least.
    pub servers: Vec<Server>,
    /// Which is asked first.
    pub policy: Policy,
    /// Whether only TCP is used.
    pub force_tcp: bool,
    /// Whom to believe to be a server that is asked over TLS.
    pub tls: Tls,
    /// Failures in a row after which a server is asked only when no other works; 0: it always counts as working.
    pub most_failures: u32,
    /// How often a server that fails is tried.
    pub health_check: Duration,
}

impl Forward {
    /// Whether a name, in lower case without its last dot, is this directive's.
    pub fn holds(&self, name: &str) -> bool {
        is_in_zone(name, &self.zone) && !self.except.iter().any(|zone| is_in_zone(name, zone))
    }

    pub(super) fn read(line: &Directive, files: &BTreeMap<String, String>) -> Result<Self, Fault> {
        let [zone, servers @ ..] = line.arguments() else { return Err(line.fault("forward needs a zone")) };
        let mut forward = Self {
            zone: zone_name(zone).into(),
            except: Vec::new(),
            servers: Vec::new(),
            policy: Policy::Random,
            force_tcp: false,
            tls: Tls::default(),
            most_failures: 2,
            health_check: Duration::from_millis(500),
        };
        for text in servers {
            forward.servers.push(server(text).map_err(|message| line.fault(message))?);
        }
        if forward.servers.is_empty() {
            return Err(line.fault("forward needs a server"));
        }
        if forward.servers.len() > MOST_SERVERS {
            return Err(line.fault(format!("more than {MOST_SERVERS} TOs configured: {}", servers.len())));
        }
        for option in &line.body {
            forward.option(option, files)?;
        }
        Ok(forward)
    }

    fn option(&mut self, option: &Directive, files: &BTreeMap<String, String>) -> Result<(), Fault> {
        let arguments = option.arguments();
        let first = arguments.first().map(String::as_str);
        let number = || {
            let text = first.unwrap_or_default();
            text.parse::<u32>().map_err(|_| option.fault(format!("{}: {text:?} is no number", option.name())))
        };
        match option.name() {
            "except" => self.except.extend(arguments.iter().map(|zone| zone_name(zone).into())),
            "force_tcp" => self.force_tcp = true,
            "max_fails" => self.most_failures = number()?,
            "health_check" => self.health_check = duration(option, first.unwrap_or_default())?,
            "policy" => {
                self.policy = match first {
                    Some("random") => Policy::Random,
                    Some("round_robin") => Policy::RoundRobin,
                    Some("sequential") => Policy::Sequential,
                    _ => return Err(option.fault(format!("unknown policy '{}'", first.unwrap_or_default()))),
                };
            }
            // More than we ask at once wait for their turn.
            "max_concurrent" => drop(number()?),
            "prefer_udp" | "expire" | "next" | "failfast_all_unhealthy_upstreams" | "failover" => {}
            "max_idle_conns" | "max_connect_attempts" | "max_age" => {}
            "tls_servername" => match first {
                Some(name) => self.tls.server_name = Some(name.trim_end_matches('.').into()),
                None => return Err(option.fault("tls_servername needs a name")),
            },
            "tls" => self.tls.authorities = authorities(option, files)?,
            name => return Err(option.fault(format!("unknown property '{name}'"))),
        }
        Ok(())
    }
}

/// The file of `tls CA`. Keys of our own would be for everybody to read.
fn authorities(option: &Directive, files: &BTreeMap<String, String>) -> Result<Option<Box<str>>, Fault> {
    let path = match option.arguments() {
        [] => return Ok(None),
        [path] => path,
        _ => return Err(option.fault("tls: certificates of clients are not offered")),
    };
    let base = path.rsplit('/').next().unwrap_or(path);
    let text = files.get(base).ok_or_else(|| option.fault(format!("tls: there is no file {base:?}")))?;
    Ok(Some(text.as_str().into()))
}

fn server(text: &str) -> Result<Server, String> {
    let (rest, port, server): (_, _, fn(SocketAddr) -> Server) = match text.split_once("://") {
        Some(("tls", rest)) => (rest, ENCRYPTED_PORT, Server::Encrypted),
        Some(("dns", rest)) => (rest, super::PORT, Server::Address),
        Some(_) => return Err(format!("{text:?}: only DNS and DNS over TLS are offered")),
        None => (text, super::PORT, Server::Address),
    };
    if let Ok(address) = rest.parse::<IpAddr>() {
        return Ok(server(SocketAddr::new(address, port)));
    }
    if let Ok(address) = rest.parse::<SocketAddr>() {
        return Ok(server(address));
    }
    match text {
        "/etc/resolv.conf" => Ok(Server::Node),
        _ if text.starts_with('/') => Err(format!("{text:?}: the only file to be named is /etc/resolv.conf")),
        _ => Err(format!("not an IP address or file: {text:?}")),
    }
}
