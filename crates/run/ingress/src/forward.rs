//! A request on its way to a pod, and its answer.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use http::header::SET_COOKIE;
use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use hyper::body::{Body, Incoming};
use plimsoll_route::affinity::Affinity;
use plimsoll_route::balance::Tried;
use plimsoll_route::settings::Protocol;

use crate::alarms::Clock;
use crate::body::{Answer, Arriving, Progress, Sending, twin};
use crate::headers::{self, Origin};
use crate::limiter::Counted;
use crate::pool::{Endpoint, Pool};
use crate::serve::{Worker, is_http2};
use crate::tunnel::Tunnel;
use crate::upstream::{ConnectError, Sender};
use crate::wire::Mover;
use crate::{Linked, mirror, page};

/// Pods that are tried for one request, as ingress-nginx does.
const TRIES: usize = 3;

/// Connections that turn out to be closed are no fault of anybody; so many are put up with.
const STALE: usize = 4;

/// Where a request goes.
pub(crate) struct Errand<'a> {
    pub(crate) route: &'a Arc<Linked>,
    pub(crate) pool: &'a Arc<Pool>,
    pub(crate) target: PathAndQuery,
    pub(crate) origin: Origin<'a>,
    /// The host that the pod is asked for.
    pub(crate) host: Option<HeaderValue>,
    /// What the pod speaks.
    pub(crate) protocol: Protocol,
    /// The pod that a cookie names.
    pub(crate) wanted: Option<String>,
    pub(crate) counted: Option<Counted>,
}

/// Sends the request to a pod, to another one if the first cannot be reached, and passes the answer on.
pub(crate) async fn forward(
    worker: &Worker,
    errand: Errand<'_>,
    mut request: Request<Incoming>,
) -> Response<Answer> {
    let settings = &errand.route.settings;
    let tunnel = if is_http2(errand.protocol) { None } else { Tunnel::of(&mut request) };
    let (parts, body) = request.into_parts();
    let body = Sending::new(body, settings.body_size, settings.send_timeout);
    let progress = body.progress();
    let Some(head) = head(parts, &errand, tunnel.as_ref()) else { return page::of(StatusCode::BAD_REQUEST) };
    let mut request = Request::from_parts(head, body);
    if tunnel.is_none() {
        reflect(worker, &errand, &mut request);
    }
    let sent = {
        let tunnels = tunnel.is_some() || request.method() == Method::CONNECT;
        let lone = !tunnels && request.body().is_end_stream();
        let mover = if lone { Mover::Asker } else { Mover::Task };
        let delivery = pin!(deliver(worker, &errand, request, mover));
        patiently(delivery, &worker.clock, settings.read_timeout, progress.as_deref()).await
    };
    match sent {
        Ok(delivered) => answer(worker, errand, delivered, tunnel),
        Err(_) if progress.is_some_and(|progress| progress.is_too_large()) => {
            page::of(StatusCode::PAYLOAD_TOO_LARGE)
        }
        Err(Failure::Nobody) => page::of(StatusCode::SERVICE_UNAVAILABLE),
        Err(Failure::Late) => page::of(StatusCode::GATEWAY_TIMEOUT),
        Err(Failure::Broken) => page::of(StatusCode::BAD_GATEWAY),
    }
}

/// Sends copies of a request to where its route wants them.
fn reflect(worker: &Worker, errand: &Errand<'_>, request: &mut Request<Sending>) {
    for mirror in &errand.route.mirrors {
        if !mirror.takes(rand::random()) {
            continue;
        }
        let (mut parts, body) = (twin(request).into_parts().0, request.body_mut().copy());
        if dress(&mut parts, mirror.protocol, errand).is_some() {
            mirror::send(worker, mirror, Request::from_parts(parts, body));
        }
    }
}

/// Waits for an answer, but not for too long: the time begins anew while a long body is on its way.
async fn patiently<T>(
    mut delivery: Pin<&mut impl Future<Output = Result<T, Failure>>>,
    clock: &Clock,
    patience: Duration,
    progress: Option<&Progress>,
) -> Result<T, Failure> {
    let mut pieces = 0;
    loop {
        tokio::select! {
            biased;
            sent = delivery.as_mut() => return sent,
            () = clock.after(patience) => match progress.map_or(0, Progress::pieces) {
                now if now > pieces => pieces = now,
                _ => return Err(Failure::Late),
            },
        }
    }
}

/// The head of the request as the pod gets it.
fn head(mut parts: Parts, errand: &Errand<'_>, tunnel: Option<&Tunnel>) -> Option<Parts> {
    headers::strip(&mut parts.headers);
    headers::forward(&mut parts.headers, &errand.origin);
    if let Some(tunnel) = tunnel {
        tunnel.ask(&mut parts.headers);
    }
    parts.extensions.clear();
    dress(&mut parts, errand.protocol, errand)?;
    Some(parts)
}

/// Puts target and host where a protocol has them.
fn dress(parts: &mut Parts, protocol: Protocol, errand: &Errand<'_>) -> Option<()> {
    let host = errand.host.clone();
    let mut uri = http::uri::Parts::default();
    uri.path_and_query = Some(errand.target.clone());
    if is_http2(protocol) {
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = host.as_ref().and_then(|host| host.to_str().ok()?.parse().ok());
        headers::set_host(&mut parts.headers, None);
        parts.version = Version::HTTP_2;
    } else {
        headers::set_host(&mut parts.headers, host);
        headers::join_cookies(&mut parts.headers);
        parts.version = Version::HTTP_11;
    }
    parts.uri = Uri::from_parts(uri).ok()?;
    Some(())
}

enum Failure {
    /// There is no pod.
    Nobody,
    /// Not in time.
    Late,
    /// The pod hung up, or cannot be reached.
    Broken,
}

struct Delivered {
    response: Response<Arriving>,
    sender: Sender,
    endpoint: Arc<Endpoint>,
}

async fn deliver(
    worker: &Worker,
    errand: &Errand<'_>,
    mut request: Request<Sending>,
    mover: Mover,
) -> Result<Delivered, Failure> {
    let (mut tried, mut stale, mut failure) = (Tried::default(), 0, Failure::Nobody);
    let mut tries = 0;
    while tries < TRIES {
        let now = worker.shared.now();
        let Some((place, endpoint)) = errand.pool.choose(errand.wanted.as_deref(), tried, now) else { break };
        let (mut sender, reused) = match connection(worker, errand, &endpoint, mover, stale < STALE).await {
            Ok(found) => found,
            Err(error) => {
                endpoint.failed(worker.shared.now());
                tracing::debug!(address = %endpoint.address, %error, "pod cannot be reached");
                failure = if matches!(error, ConnectError::Late) { Failure::Late } else { Failure::Broken };
                tried.add(place);
                tries += 1;
                continue;
            }
        };
        let twice = reused && is_repeatable(&request);
        let again = match sender.send(request, twice).await {
            Ok(response) => return Ok(Delivered { response, sender, endpoint }),
            Err(again) => again,
        };
        // Only what no pod can have begun to work on, or what may be done twice, is sent again.
        let Some(again) = again.filter(|_| stale < STALE) else { return Err(Failure::Broken) };
        worker.upstreams.forget(endpoint.address, errand.protocol);
        request = again;
        stale += 1;
        failure = Failure::Broken;
    }
    Err(failure)
}

/// A connection to the pod, and whether it was used before.
async fn connection(
    worker: &Worker,
    errand: &Errand<'_>,
    endpoint: &Endpoint,
    mover: Mover,
    reuse: bool,
) -> Result<(Sender, bool), ConnectError> {
    let settings = &errand.route.settings;
    let known = match reuse {
        true => worker.upstreams.reuse(endpoint.address, errand.protocol, mover).await,
        false => None,
    };
    if let Some(sender) = known {
        return Ok((sender, true));
    }
    // Seldom and large: in a place of its own, so that it makes no other request's state larger.
    let patience = settings.connect_timeout;
    let connecting = worker.upstreams.connect(endpoint.address, errand.protocol, mover, patience);
    let sender = Box::pin(connecting).await?;
    endpoint.reached();
    Ok((sender, false))
}

/// Whether a request may be sent twice: the pod may close a used connection while the request is on its way.
fn is_repeatable(request: &Request<Sending>) -> bool {
    let idempotent = matches!(
        *request.method(),
        Method::GET | Method::HEAD | Method::OPTIONS | Method::PUT | Method::DELETE | Method::TRACE
    );
    idempotent && request.body().is_end_stream()
}

/// The answer as the client gets it.
fn answer(
    worker: &Worker,
    errand: Errand<'_>,
    delivered: Delivered,
    tunnel: Option<Tunnel>,
) -> Response<Answer> {
    let Delivered { mut response, sender, endpoint } = delivered;
    let settings = &errand.route.settings;
    if let Some(tunnel) = tunnel {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return tunnel.open(response, errand.counted);
        }
        if let Some(refused) = tunnel.refused(response.status()) {
            return refused;
        }
    }
    headers::strip(response.headers_mut());
    *response.version_mut() = Version::HTTP_11;
    let stays = |mark: &str, affinity: &Affinity| {
        mark == endpoint.mark || !affinity.change_on_failure && errand.pool.has(mark)
    };
    if let Some(affinity) = &settings.affinity
        && errand.wanted.as_deref().is_none_or(|mark| !stays(mark, affinity))
    {
        let cookie = affinity.set(&endpoint.mark, &errand.route.path, errand.origin.encrypted);
        if let Ok(cookie) = HeaderValue::try_from(cookie) {
            response.headers_mut().append(SET_COOKIE, cookie);
        }
    }
    let lease = worker.upstreams.lease(sender, endpoint.address, errand.protocol);
    let (patience, counted) = (settings.read_timeout, errand.counted);
    response.map(|body| Answer::passed(body, patience, lease, counted))
}
