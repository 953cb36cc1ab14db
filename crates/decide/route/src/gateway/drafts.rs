//! Routes of both kinds, read and checked by themselves, once for each version.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::changes::{Changes, Filters, timeouts};
use super::kinds::{BackendRef, GRPCRoute, HTTPRoute, ParentRef, TLSRoute};
use super::matching::Match;
use crate::draft::Owner;
use crate::settings::{Protocol, Redirect, Settings};

/// Who is never told that time is over waits so long.
const EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// A kind of routes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteKind {
    /// HTTPRoute
    Http,
    /// GRPCRoute
    Grpc,
    /// TLSRoute
    Tls,
}

impl RouteKind {
    /// Those that attach to listeners of a protocol.
    pub(crate) fn of(protocol: &str) -> &'static [Self] {
        match protocol {
            "HTTP" | "HTTPS" => &[Self::Http, Self::Grpc],
            "TLS" => &[Self::Tls],
            _ => &[],
        }
    }

    /// Its name in the API.
    pub fn name(self) -> &'static str {
        match self {
            Self::Http => "HTTPRoute",
            Self::Grpc => "GRPCRoute",
            Self::Tls => "TLSRoute",
        }
    }
}

/// A route, read.
#[derive(Clone, Debug)]
pub struct RouteDraft {
    /// Which kind.
    pub kind: RouteKind,
    /// Which route.
    pub owner: Owner,
    pub(crate) created: Option<Timestamp>,
    pub(crate) generation: i64,
    pub(crate) parents: Vec<ParentRef>,
    pub(crate) hostnames: Vec<String>,
    pub(crate) rules: Vec<RuleDraft>,
    /// What cannot be served of it.
    pub(crate) problem: Option<String>,
    /// As it was when it was read.
    pub(crate) status: Value,
    pub(crate) version: String,
}

/// A rule, read.
#[derive(Clone, Debug)]
pub(crate) struct RuleDraft {
    pub(crate) matches: Vec<Match>,
    pub(crate) filters: Filters,
    pub(crate) backends: Vec<(BackendRef, Arc<Changes>)>,
    pub(crate) settings: Arc<Settings>,
}

impl RouteDraft {
    /// Reads an HTTPRoute.
    pub fn of_http(route: &HTTPRoute) -> Self {
        let mut draft = Self::new(RouteKind::Http, &route.metadata, &route.status);
        draft.parents = route.spec.parent_refs.clone();
        draft.hostnames = route.spec.hostnames.clone();
        for rule in &route.spec.rules {
            let read = || {
                let matches: Vec<Match> =
                    rule.matches.iter().map(Match::of_http).collect::<Result<_, _>>()?;
                let (request, backend) = timeouts(rule)?;
                let settings = settings(Protocol::Http, request, backend);
                RuleDraft::of(matches, &rule.filters, &rule.backend_refs, settings)
            };
            draft.add(read());
        }
        draft
    }

    /// Reads a GRPCRoute.
    pub fn of_grpc(route: &GRPCRoute) -> Self {
        let mut draft = Self::new(RouteKind::Grpc, &route.metadata, &route.status);
        draft.parents = route.spec.parent_refs.clone();
        draft.hostnames = route.spec.hostnames.clone();
        for rule in &route.spec.rules {
            let read = || {
                let matches: Vec<Match> =
                    rule.matches.iter().map(Match::of_grpc).collect::<Result<_, _>>()?;
                let settings = settings(Protocol::Grpc, None, None);
                RuleDraft::of(matches, &rule.filters, &rule.backend_refs, settings)
            };
            draft.add(read());
        }
        draft
    }

    /// Reads a TLSRoute.
    pub fn of_tls(route: &TLSRoute) -> Self {
        let mut draft = Self::new(RouteKind::Tls, &route.metadata, &route.status);
        draft.parents = route.spec.parent_refs.clone();
        draft.hostnames = route.spec.hostnames.clone();
        for rule in &route.spec.rules {
            let settings = settings(Protocol::Http, None, None);
            draft.add(RuleDraft::of(Vec::new(), &[], &rule.backend_refs, settings));
        }
        draft
    }

    fn new(kind: RouteKind, meta: &ObjectMeta, status: &Value) -> Self {
        let owner = Owner {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
            uid: meta.uid.clone().unwrap_or_default(),
        };
        Self {
            kind,
            owner,
            created: meta.creation_timestamp.as_ref().map(|time| time.0),
            generation: meta.generation.unwrap_or_default(),
            parents: Vec::new(),
            hostnames: Vec::new(),
            rules: Vec::new(),
            problem: None,
            status: status.clone(),
            version: meta.resource_version.clone().unwrap_or_default(),
        }
    }

    fn add(&mut self, rule: Result<RuleDraft, String>) {
        match rule {
            Ok(rule) => self.rules.push(rule),
            Err(problem) => {
                let place = self.rules.len();
                self.problem.get_or_insert_with(|| format!("rules[{place}]: {problem}"));
            }
        }
    }

    /// Whose rules go first, where they are equally specific: the oldest's, then by name.
    pub(crate) fn age(&self) -> (Option<Timestamp>, &str, &str) {
        (self.created, &self.owner.namespace, &self.owner.name)
    }
}

impl RuleDraft {
    fn of(
        mut matches: Vec<Match>,
        filters: &[super::kinds::Filter],
        backends: &[BackendRef],
        settings: Settings,
    ) -> Result<Self, String> {
        if matches.is_empty() {
            matches.push(Match::of_http(&super::kinds::HttpMatch::default())?);
        }
        let read = |backend: &BackendRef| Ok((backend.clone(), Filters::of_backend(&backend.filters)?));
        Ok(Self {
            matches,
            filters: Filters::of(filters)?,
            backends: backends.iter().map(read).collect::<Result<_, String>>()?,
            settings: Arc::new(settings),
        })
    }
}

/// What routes say of it; zero is no limit.
fn settings(protocol: Protocol, request: Option<Duration>, backend: Option<Duration>) -> Settings {
    let limit = |time: Duration| if time.is_zero() { EVER } else { time };
    let base = Settings::default();
    Settings {
        redirect: Redirect::Never,
        body_size: None,
        protocol,
        request_timeout: request.filter(|time| !time.is_zero()),
        read_timeout: backend.map_or(base.read_timeout, limit),
        ..base
    }
}
