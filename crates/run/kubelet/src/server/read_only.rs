//! The port without authentication (`readOnlyPort`): figures and pods, for whoever can reach it. Off by default.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::{Body, Server, health, plain};
use crate::metrics;

impl Server {
    /// Serves until `stop`.
    pub(crate) async fn run_read_only(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        let answer = move |request: Request<Incoming>| {
            let server = self.clone();
            async move { server.answer_anyone(&request).await }
        };
        health::serve_plain(listener, stop, answer).await;
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
