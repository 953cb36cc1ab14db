//! Requests and answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConfig;

use crate::connect::{Connector, Resolve};
use crate::error::RemoteError;

/// Connections that nobody uses are closed after this time.
const IDLE: Duration = Duration::from_secs(90);

/// A client of servers that share trust and identity. Clones share connections.
#[derive(Clone)]
pub struct Remote {
    client: Client<Connector, Full<Bytes>>,
    limit: usize,
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Remote")
    }
}

impl Remote {
    /// A client that takes answers of at most `limit` bytes.
    #[must_use]
    pub fn new(mut tls: ClientConfig, names: Arc<dyn Resolve>, limit: usize) -> Self {
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let connector = Connector { tls: Arc::new(tls), names };
        let client = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(IDLE)
            .pool_timer(TokioTimer::new())
            .build(connector);
        Self { client, limit }
    }

    /// Sends a request, whose URI is absolute, and takes the whole answer before the deadline.
    ///
    /// # Errors
    /// When there is no answer, or not in time, or it is too large.
    pub async fn send(
        &self,
        request: Request<Bytes>,
        deadline: Duration,
    ) -> Result<Response<Bytes>, RemoteError> {
        tokio::time::timeout(deadline, self.exchange(request)).await.unwrap_or(Err(RemoteError::Deadline))
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, RemoteError> {
        let answer =
            self.client.request(request.map(Full::new)).await.map_err(|error| RemoteError::of(&error))?;
        let (parts, body) = answer.into_parts();
        match Limited::new(body, self.limit).collect().await {
            Ok(body) => Ok(Response::from_parts(parts, body.to_bytes())),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                Err(RemoteError::TooLarge(self.limit))
            }
            Err(error) => Err(RemoteError::of(&*error)),
        }
    }
}
