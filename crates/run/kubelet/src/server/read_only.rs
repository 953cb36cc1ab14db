//! The port without authentication (`readOnlyPort`): figures and pods, for whoever can reach it. Off by default.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Body, Server, health, plain};
use crate::metrics;

impl Server {
    /// Serves until `stop`.
    pub(crate) async fn run_read_only(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((socket, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            let server = self.clone();
            let service = service_fn(move |request| {
                let server = server.clone();
                async move { Ok::<_, Infallible>(server.answer_anyone(&request).await) }
            });
            let serve = async move {
                // Clients that go away are no news.
                let _ = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(socket), service)
                    .await;
            };
            tokio::spawn(stop.clone().run_until_cancelled_owned(serve));
        }
    }

    async fn answer_anyone(&self, request: &Request<Incoming>) -> Response<Body> {
        let parts: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        let _counted =
            self.agent.metrics.asked(&metrics::Request { method: request.method().as_str(), path: &parts });
        if let Some(well) = health::wellness(&parts) {
            return well;
        }
        let told = self.tell(request, &parts).await;
        told.unwrap_or_else(|| plain(StatusCode::NOT_FOUND, "404 page not found"))
    }
}
