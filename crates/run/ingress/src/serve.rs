//! One request: its route, whether it may pass, and where it goes.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::{CONTENT_TYPE, HOST};
use http::uri::{Authority, PathAndQuery};
use http::{HeaderValue, Method, Request, Response, StatusCode, Version};
use hyper::body::{Body, Incoming};
use plimsoll_route::enter::{self, Facts, Refusal};
use plimsoll_route::gateway::{self, Changes, Redirection, Share};
use plimsoll_route::settings::Protocol;
use plimsoll_route::{Target, client, host_of, is_host, normal};

use crate::alarms::Clock;
use crate::body::Answer;
use crate::forward::{Errand, forward};
use crate::headers::{self, Origin};
use crate::limiter::Counted;
use crate::links::Linker;
use crate::metrics::Metered;
use crate::pool::Pool;
use crate::upstream::Upstreams;
use crate::{Linked, Shared, page, tunnel};

/// A worker: what its requests use.
pub(crate) struct Worker {
    pub(crate) shared: Arc<Shared>,
    pub(crate) upstreams: Arc<Upstreams>,
    pub(crate) clock: Clock,
}

/// What is known of a client's connection.
pub(crate) struct Peer {
    pub(crate) address: IpAddr,
    /// The address as headers have it.
    pub(crate) text: HeaderValue,
    pub(crate) encrypted: bool,
    /// The port that it came to.
    pub(crate) port: u16,
    /// Whether Ingresses are served there.
    ingress: bool,
    /// Whether it is a proxy that is believed.
    pub(crate) trusted: bool,
}

impl Peer {
    pub(crate) fn new(shared: &Shared, address: SocketAddr, encrypted: bool, port: u16) -> Self {
        let address = address.ip().to_canonical();
        let trusted = client::within(&shared.config.trusted, address);
        Self {
            address,
            text: header(address),
            encrypted,
            port,
            ingress: shared.serves_ingresses(port),
            trusted,
        }
    }
}

fn header(address: IpAddr) -> HeaderValue {
    HeaderValue::try_from(address.to_string()).expect("addresses are plain text")
}

/// Who sent a request.
struct Sender {
    address: IpAddr,
    text: HeaderValue,
    encrypted: bool,
}

impl Sender {
    fn of(shared: &Shared, peer: &Peer, request: &Request<Incoming>) -> Self {
        if !peer.trusted {
            return Self { address: peer.address, text: peer.text.clone(), encrypted: peer.encrypted };
        }
        let chain = headers::texts(request.headers(), headers::FORWARDED_FOR);
        let address = client::address(peer.address, chain, &shared.config.trusted);
        let told = headers::text(request.headers(), "x-forwarded-proto");
        let encrypted = told.map_or(peer.encrypted, |scheme| scheme.eq_ignore_ascii_case("https"));
        Self { address, text: header(address), encrypted }
    }
}

/// Answers a request, and counts it.
pub(crate) async fn serve(worker: &Worker, peer: &Peer, mut request: Request<Incoming>) -> Response<Metered> {
    tunnel::normalize(&mut request);
    let (begun, method) = (Instant::now(), request.method().clone());
    let host = host_header(&request);
    let name = host_of(host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default());
    let path = sound(&request, host.as_ref())
        .and_then(|()| normal(request.uri().path()).map(Cow::into_owned).ok_or(StatusCode::BAD_REQUEST));
    let grpc = is_grpc(&request);
    let route = path.as_ref().ok().and_then(|path| find(worker, peer, &name, path, &request));
    let meter = route.as_ref().map_or(&worker.shared.nobody, |route| &route.meter);
    let response = match (&path, &route) {
        (Err(status), _) => page::of(*status),
        (_, None) => page::nobody(),
        (Ok(path), Some(route)) => {
            let asked = Asked { host: host.clone(), name: &name, path };
            answer(worker, peer, asked, route, request).await
        }
    };
    let status = response.status();
    let response = match (grpc, response.body()) {
        (true, Answer::Whole(_)) if status.is_client_error() || status.is_server_error() => {
            page::for_grpc(status)
        }
        _ => response,
    };
    response.map(|answer| Metered::new(answer, meter, &method, status, begun))
}

/// Refuses what nginx refuses, too: other methods than those that are for pods, and what names no host, or several
/// (RFC 9112, 3.2).
fn sound(request: &Request<Incoming>, host: Option<&HeaderValue>) -> Result<(), StatusCode> {
    if matches!(*request.method(), Method::CONNECT | Method::TRACE) {
        return Err(StatusCode::METHOD_NOT_ALLOWED);
    }
    let mut named = request.headers().get_all(HOST).iter().skip(1);
    let missing = request.version() == Version::HTTP_11 && host.is_none();
    let usable = host.is_none_or(|host| host.to_str().is_ok_and(is_host));
    if missing || named.next().is_some() || !usable { Err(StatusCode::BAD_REQUEST) } else { Ok(()) }
}

fn is_grpc(request: &Request<Incoming>) -> bool {
    let kind = || request.headers().get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    request.version() == Version::HTTP_2 && kind().is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

fn find(
    worker: &Worker,
    peer: &Peer,
    host: &str,
    path: &str,
    request: &Request<Incoming>,
) -> Option<Arc<Linked>> {
    let headers = |name: &str| headers::values(request.headers(), name);
    let (query, method) = (request.uri().query(), request.method().as_str());
    let asked = gateway::Asked { host, path, query, method, headers: &headers };
    worker.shared.routes.load().find_at(peer.port, peer.ingress, &asked).cloned()
}

/// What a request asks for.
struct Asked<'a> {
    /// The host as it was sent.
    host: Option<HeaderValue>,
    /// The host and path that rules are compared with.
    name: &'a str,
    path: &'a str,
}

async fn answer(
    worker: &Worker,
    peer: &Peer,
    asked: Asked<'_>,
    route: &Arc<Linked>,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    let Asked { host, name, path } = asked;
    let sender = Sender::of(&worker.shared, peer, &request);
    let counted = match admit(worker, route, &sender, &request) {
        Ok(counted) => counted,
        Err(Refused::Limit(turn)) => {
            // Whoever asks again as soon as it is refused takes the processor from others.
            if !turn.is_zero() {
                tokio::time::sleep(turn).await;
            }
            let status = StatusCode::from_u16(worker.shared.config.limit_status);
            return page::of(status.unwrap_or(StatusCode::SERVICE_UNAVAILABLE));
        }
        Err(Refused::Rule(Refusal::Redirect)) => {
            return page::redirect(StatusCode::PERMANENT_REDIRECT, &elsewhere(worker, name, &request));
        }
        Err(Refused::Rule(refusal)) => return page::of(status(refusal)),
    };
    if let Some(answer) = preflight(route, &request) {
        return answer;
    }
    let wanted = route.settings.affinity.as_ref();
    let wanted = wanted.and_then(|affinity| headers::cookie(request.headers(), &affinity.name));
    let way = match choose(route, wanted, &request) {
        Ok(way) => way,
        Err(redirection) => {
            let sent = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
            let location = redirection.location(sender.encrypted, peer.port, name, path, sent);
            return page::redirect(
                StatusCode::from_u16(redirection.status).unwrap_or(StatusCode::FOUND),
                &location,
            );
        }
    };
    let Some(Way { pool, protocol, changes }) = way else {
        return page::of(StatusCode::INTERNAL_SERVER_ERROR);
    };
    let query = request.uri().query();
    let target = match &route.rewrite {
        Some(rewrite) => rewrite.apply(path, query).and_then(|text| PathAndQuery::try_from(text).ok()),
        None => request.uri().path_and_query().cloned(),
    };
    let target = target.unwrap_or_else(|| PathAndQuery::from_static("/"));
    let cors = route.changes.cors.as_ref().zip(headers::text(request.headers(), "origin"));
    let cors = cors.map(|(cors, origin)| cors.answer(origin)).unwrap_or_default();
    let other = route.changes.host.as_deref().and_then(|host| HeaderValue::from_str(host).ok());
    let errand = Errand {
        host: other.or_else(|| host.clone()),
        protocol,
        wanted: wanted.map(str::to_owned),
        pool,
        target,
        origin: Origin {
            client: &sender.text,
            host,
            encrypted: sender.encrypted,
            port: peer.port,
            trusted: peer.trusted,
        },
        counted,
        route,
    };
    for changes in [Some(&route.changes), changes].into_iter().flatten() {
        headers::change(request.headers_mut(), &changes.request);
    }
    let mut sent = pin!(forward(worker, errand, request));
    let mut response = match route.settings.request_timeout {
        None => sent.await,
        Some(limit) => tokio::time::timeout(limit, sent.as_mut())
            .await
            .unwrap_or_else(|_| page::of(StatusCode::GATEWAY_TIMEOUT)),
    };
    headers::extend(response.headers_mut(), cors);
    for changes in [changes, Some(&route.changes)].into_iter().flatten() {
        headers::change(response.headers_mut(), &changes.response);
    }
    response
}

/// The answer to a script that asks first, where the rules say who may.
fn preflight(route: &Linked, request: &Request<Incoming>) -> Option<Response<Answer>> {
    let text = |name: &str| headers::text(request.headers(), name);
    let cors = route.changes.cors.as_ref().filter(|_| request.method() == Method::OPTIONS)?;
    let (origin, method) = text("origin").zip(text("access-control-request-method"))?;
    let mut answer = page::empty();
    let told = cors.preflight(origin, method, text("access-control-request-headers"));
    headers::extend(answer.headers_mut(), told);
    Some(answer)
}

enum Refused {
    Rule(Refusal),
    /// Too much, which the client is told after this time.
    Limit(Duration),
}

fn admit(
    worker: &Worker,
    route: &Linked,
    sender: &Sender,
    request: &Request<Incoming>,
) -> Result<Option<Counted>, Refused> {
    let facts = Facts {
        encrypted: sender.encrypted,
        certified: route.certified,
        client: sender.address,
        length: request.body().size_hint().exact(),
    };
    enter::check(&route.settings, &facts).map_err(Refused::Rule)?;
    match &route.limiter {
        Some(limiter) if limiter.limits.count(sender.address) => {
            limiter.enter(sender.address, worker.shared.now()).map(Some).map_err(Refused::Limit)
        }
        _ => Ok(None),
    }
}

fn status(refusal: Refusal) -> StatusCode {
    match refusal {
        Refusal::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Refusal::Redirect => StatusCode::PERMANENT_REDIRECT,
        Refusal::Forbidden => StatusCode::FORBIDDEN,
        Refusal::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The host that is asked for: HTTP/2 has it in the target, HTTP/1.1 in a header.
fn host_header(request: &Request<Incoming>) -> Option<HeaderValue> {
    let authority = request.uri().authority().map(Authority::as_str);
    let named = authority.and_then(|authority| HeaderValue::from_str(authority).ok());
    named.or_else(|| request.headers().get(HOST).cloned())
}

fn elsewhere(worker: &Worker, host: &str, request: &Request<Incoming>) -> String {
    let target = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    match worker.shared.config.https.port() {
        443 => format!("https://{host}{target}"),
        port => format!("https://{host}:{port}{target}"),
    }
}

/// Where a request goes.
struct Way<'a> {
    pool: &'a Arc<Pool>,
    protocol: Protocol,
    /// What is changed for this backend only.
    changes: Option<&'a Arc<Changes>>,
}

/// The backend, its canary, or one of several; none where requests fail, or a redirection. `wanted` is the pod that a
/// cookie names.
fn choose<'a>(
    route: &'a Linked,
    wanted: Option<&str>,
    request: &Request<Incoming>,
) -> Result<Option<Way<'a>>, &'a Redirection> {
    let pool = match &route.target {
        Target::Redirect(redirection) => return Err(redirection),
        Target::Shares(shares) => {
            let way = |share: &'a Share<Linker>| {
                let (pool, protocol) = share.to.as_ref()?;
                Some(Way { pool, protocol: *protocol, changes: Some(&share.changes) })
            };
            return Ok(shares.choose(rand::random()).and_then(way));
        }
        Target::One(pool, None) => pool,
        Target::One(main, Some((canary, other))) => {
            let header = |name: &str| headers::text(request.headers(), name);
            let cookie = |name: &str| headers::cookie(request.headers(), name);
            let mut known = [main, other].into_iter();
            let bound = wanted.filter(|_| canary.sticky).and_then(|mark| known.find(|pool| pool.has(mark)));
            let free = || if canary.takes(header, cookie, rand::random()) { other } else { main };
            bound.unwrap_or_else(free)
        }
    };
    Ok(Some(Way { pool, protocol: route.settings.protocol, changes: None }))
}

/// Whether a backend speaks HTTP/2.
pub(crate) fn is_http2(protocol: Protocol) -> bool {
    matches!(protocol, Protocol::Grpc | Protocol::Grpcs)
}
