//! The health of the server, as gRPC asks for it.

use std::pin::Pin;

use plimsoll_etcd::health::health_check_response::ServingStatus;
use plimsoll_etcd::health::health_server::Health;
use plimsoll_etcd::health::{HealthCheckRequest, HealthCheckResponse};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status};

use super::Etcd;

#[tonic::async_trait]
impl Health for Etcd {
    async fn check(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<HealthCheckResponse>, Status> {
        Ok(Response::new(self.serving()))
    }

    type WatchStream = Pin<Box<dyn Stream<Item = Result<HealthCheckResponse, Status>> + Send>>;

    async fn watch(
        &self,
        _request: Request<HealthCheckRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        // A disk that failed fails until the process starts again, and then this stream is over.
        let first = tokio_stream::once(Ok(self.serving()));
        Ok(Response::new(Box::pin(first.chain(tokio_stream::pending()))))
    }
}

impl Etcd {
    fn serving(&self) -> HealthCheckResponse {
        let status = if self.store.is_healthy() { ServingStatus::Serving } else { ServingStatus::NotServing };
        HealthCheckResponse { status: status.into() }
    }
}
