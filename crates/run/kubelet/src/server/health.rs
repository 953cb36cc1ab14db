//! A port that only says whether the agent is well, to whoever asks.

use std::convert::Infallible;
use std::future::ready;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use futures::FutureExt as _;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Body, plain};

/// Makes the listening socket of a port without encryption.
pub(crate) fn bind_plain(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::from_std(plimsoll_kernel::listen::tcp(address)?)
}

/// Says whether the agent is well until `stop`.
pub(crate) async fn health(listener: TcpListener, stop: CancellationToken) {
    serve_plain(listener, stop, |request| ready(answer(&request))).await;
}

/// Answers whoever asks on a port without encryption until `stop`.
pub(super) async fn serve_plain<A, F>(listener: TcpListener, stop: CancellationToken, answer: A)
where
    A: Fn(Request<Incoming>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((socket, _)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let answer = answer.clone();
        let service = service_fn(move |request| answer(request).map(Ok::<_, Infallible>));
        let serve = async move {
            // Clients that go away are no news.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service)
                .await;
        };
        tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
    }
}

fn answer(request: &Request<Incoming>) -> Response<Body> {
    let parts: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
    wellness(&parts).unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "404 page not found"))
}

/// The answer for a path that asks after the agent's health. An agent that answers is well: its parts end
/// the process when they end.
pub(super) fn wellness(parts: &[&str]) -> Option<Response<Body>> {
    match parts {
        ["healthz"] | ["healthz", "ping" | "log" | "syncloop"] => Some(plain(StatusCode::OK, "ok")),
        _ => None,
    }
}
