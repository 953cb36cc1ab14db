//! The part of the table that Gateways make: listeners by port, their routes by host, rules in their order.

use std::collections::HashMap;
use std::sync::Arc;

use super::attachments::{Backend, Resolved};
use super::changes::{Changes, Redirection, rewrite};
use super::drafts::{RouteDraft, RuleDraft};
use super::matching::{Asked, Match};
use super::plan::{Gate, Plan, Routed};
use crate::draft::SecretKey;
use crate::hosts::Hosts;
use crate::settings::Protocol;
use crate::table::{Links, Route, Target};

/// Backends of a rule, each with its share of the requests.
pub struct Shares<L: Links> {
    /// Where they go.
    pub all: Vec<Share<L>>,
    total: u32,
}

/// A backend and its share.
pub struct Share<L: Links> {
    weight: u32,
    /// Where requests go, and what is spoken there; none if they fail.
    pub to: Option<(L::Backend, Protocol)>,
    /// What is changed for this backend.
    pub changes: Arc<Changes>,
}

/// Where copies of requests go.
pub struct Mirror<L: Links> {
    some: u32,
    all: u32,
    /// Where they go.
    pub to: L::Backend,
    /// What is spoken there.
    pub protocol: Protocol,
}

impl<L: Links> Shares<L> {
    /// The backend of the next request; none if no backend has a share. `draw` is any number.
    pub fn choose(&self, draw: u32) -> Option<&Share<L>> {
        let mut rest = draw.checked_rem(self.total)?;
        self.all.iter().find(|share| match rest.checked_sub(share.weight) {
            Some(less) => {
                rest = less;
                false
            }
            None => true,
        })
    }
}

impl<L: Links> Mirror<L> {
    /// Whether the next request is copied. `draw` is any number.
    pub fn takes(&self, draw: u32) -> bool {
        draw.checked_rem(self.all).is_some_and(|place| place < self.some)
    }
}

/// Matches of a host, in the order in which they count.
type Rules<L> = Vec<(Match, Arc<Route<L>>)>;

/// Where TLS ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Here: pods get what is in it.
    Here,
    /// In the pod.
    Pod,
}

/// Connections that are passed on without a look inside.
pub struct Stream<L: Links> {
    /// Where TLS ends.
    pub ending: Ending,
    /// Where they go; nowhere if there is no route.
    pub shares: Option<Arc<Shares<L>>>,
}

enum Served<L: Links> {
    Requests(Hosts<Rules<L>>),
    Streams(Ending, Hosts<Arc<Shares<L>>>),
}

struct Port<L: Links> {
    listeners: Hosts<Served<L>>,
    /// Whether any of them serves streams.
    streams: bool,
    certificates: Hosts<SecretKey>,
}

/// All listeners.
pub(crate) struct Gates<L: Links> {
    ports: HashMap<u16, Port<L>>,
}

impl<L: Links> Default for Gates<L> {
    fn default() -> Self {
        Self { ports: HashMap::new() }
    }
}

impl<L: Links> Gates<L> {
    pub(crate) fn of(plan: &Plan, links: &mut L) -> Self {
        let mut gates = Self::default();
        for gate in &plan.gates {
            let new = || Port { listeners: Hosts::default(), streams: false, certificates: Hosts::default() };
            let port = gates.ports.entry(gate.port).or_insert_with(new);
            if let Some(secret) = &gate.certificate {
                port.certificates.entry(&gate.hostname, || secret.clone());
            }
            port.streams |= gate.ending.is_some();
            port.listeners.entry(&gate.hostname, || match gate.ending {
                None => Served::Requests(routes(gate, links)),
                Some(ending) => Served::Streams(ending, streams(gate, links)),
            });
        }
        gates
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The route of a request: only the listener with the most exact host name is asked.
    pub(crate) fn find(&self, port: u16, asked: &Asked<'_>) -> Option<&Arc<Route<L>>> {
        let Served::Requests(listener) = self.ports.get(&port)?.listeners.all(asked.host).next()? else {
            return None;
        };
        let mut rules = listener.all(asked.host).flatten();
        rules.find(|(matching, _)| matching.fits(asked)).map(|(_, route)| route)
    }

    /// Whether connections to a port may be streams.
    pub(crate) fn has_streams(&self, port: u16) -> bool {
        self.ports.get(&port).is_some_and(|port| port.streams)
    }

    /// What is done with a connection for a name, if it is a stream.
    pub(crate) fn stream(&self, port: u16, name: &str) -> Option<Stream<L>> {
        match self.ports.get(&port)?.listeners.all(name).next()? {
            Served::Requests(_) => None,
            Served::Streams(ending, routes) => {
                Some(Stream { ending: *ending, shares: routes.all(name).next().cloned() })
            }
        }
    }

    pub(crate) fn certificate(&self, port: u16, host: &str) -> Option<&SecretKey> {
        self.ports.get(&port)?.certificates.all(host).next()
    }
}

/// The backends of each name; the oldest route has it.
fn streams<L: Links>(gate: &Gate, links: &mut L) -> Hosts<Arc<Shares<L>>> {
    let mut routes: Vec<&Routed> = gate.routes.iter().collect();
    routes.sort_by(|one, other| one.route.age().cmp(&other.route.age()));
    let mut out = Hosts::default();
    for Routed { hosts, rules, .. } in routes {
        let Some(rule) = rules.first() else { continue };
        let shares = Arc::new(shares(&rule.backends, links));
        for host in hosts {
            out.entry(host, || shares.clone());
        }
    }
    out
}

fn routes<L: Links>(gate: &Gate, links: &mut L) -> Hosts<Rules<L>> {
    let mut found: Vec<(&str, &RouteDraft, &Match, &RuleDraft, &Resolved)> = Vec::new();
    for Routed { route, hosts, rules } in &gate.routes {
        for host in hosts {
            for (rule, resolved) in route.rules.iter().zip(rules.iter()) {
                found.extend(rule.matches.iter().map(|one| (host.as_str(), &**route, one, rule, resolved)));
            }
        }
    }
    // Rules of one route stay in their order.
    found.sort_by(|(_, one_route, one, ..), (_, other_route, other, ..)| {
        one.rank().cmp(&other.rank()).then_with(|| one_route.age().cmp(&other_route.age()))
    });
    let mut out: Hosts<Rules<L>> = Hosts::default();
    for (host, draft, matching, rule, resolved) in found {
        let route = Arc::new(route(host, draft, matching, rule, resolved, links));
        out.entry(host, Vec::new).push((matching.clone(), route));
    }
    out
}

fn route<L: Links>(
    host: &str,
    draft: &RouteDraft,
    matching: &Match,
    rule: &RuleDraft,
    resolved: &Resolved,
    links: &mut L,
) -> Route<L> {
    let path = matching.path.text().to_owned();
    let only = match resolved.backends.as_slice() {
        [Backend { to: Some((key, _)), .. }] => key.service.clone(),
        _ => String::new(),
    };
    let filters = &rule.filters;
    let target = match &filters.redirect {
        Some(redirect) => Target::Redirect(Redirection::of(redirect, &matching.path)),
        None => Target::Shares(shares(&resolved.backends, links)),
    };
    let mirror = |(some, all, key, protocol): &(u32, u32, crate::BackendKey, Protocol), links: &mut L| {
        Mirror { some: *some, all: *all, to: links.backend(key), protocol: *protocol }
    };
    Route {
        meter: links.meter(&draft.owner, host, &path, &only),
        owner: draft.owner.clone(),
        host: host.to_owned(),
        path,
        service: only,
        settings: rule.settings.clone(),
        certified: false,
        target,
        changes: filters.changes.clone(),
        mirrors: resolved.mirrors.iter().map(|one| mirror(one, links)).collect(),
        rewrite: filters.path.as_ref().map(|change| rewrite(change, &matching.path)),
        limiter: None,
    }
}

fn shares<L: Links>(backends: &[Backend], links: &mut L) -> Shares<L> {
    let share = |Backend { weight, to, changes }: &Backend| Share {
        weight: *weight,
        to: to.as_ref().map(|(key, protocol)| (links.backend(key), *protocol)),
        changes: changes.clone(),
    };
    let all: Vec<Share<L>> = backends.iter().map(share).collect();
    let total = all.iter().map(|share| share.weight).sum();
    Shares { all, total }
}
