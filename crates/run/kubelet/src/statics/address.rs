//! Static pods of an address.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_podlife::static_pod::Origin;
use plimsoll_remote::{Authorities, Remote, SystemNames, client_tls};
use tokio::time::Instant;

use super::LONGEST;

/// An answer has to come within this time.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where pods are fetched from once in a while.
pub(super) struct Address {
    url: String,
    headers: BTreeMap<String, Vec<String>>,
    period: Duration,
    next: Instant,
    /// What the last good answer said.
    last: Vec<Pod>,
    read: bool,
    remote: Option<Remote>,
}

impl Address {
    pub(super) fn new(url: String, headers: BTreeMap<String, Vec<String>>, period: Duration) -> Self {
        Self { url, headers, period, next: Instant::now(), last: Vec::new(), read: false, remote: None }
    }

    /// Whether there was an answer yet.
    pub(super) fn is_read(&self) -> bool {
        self.read
    }

    /// Ends when it is to be asked again.
    pub(super) async fn due(&self) {
        tokio::time::sleep_until(self.next).await;
    }

    /// The pods; those of the last good answer when there is none now.
    pub(super) async fn pods(&mut self, node: &str) -> Vec<Pod> {
        if self.next <= Instant::now() {
            self.next = Instant::now() + self.period;
            match self.fetch(node).await {
                Ok(pods) => (self.last, self.read) = (pods, true),
                Err(error) => tracing::warn!(url = self.url, error, "Failed to read pods from URL"),
            }
        }
        self.last.clone()
    }

    async fn fetch(&mut self, node: &str) -> Result<Vec<Pod>, String> {
        let remote = match &self.remote {
            Some(remote) => remote,
            None => {
                let tls = client_tls(&Authorities::System, None).map_err(|error| error.to_string())?;
                self.remote.insert(Remote::new(tls, Arc::new(SystemNames), LONGEST))
            }
        };
        let mut request = Request::get(&self.url);
        for (name, values) in &self.headers {
            for value in values {
                request = request.header(name, value);
            }
        }
        let request = request.body(Bytes::new()).map_err(|error| error.to_string())?;
        let answer = remote.send(request, PATIENCE).await.map_err(|error| error.to_string())?;
        if !answer.status().is_success() {
            return Err(format!("{}: {}", self.url, answer.status()));
        }
        if answer.body().is_empty() {
            return Err(format!("zero-length data received from {}", self.url));
        }
        super::pods(answer.body(), Origin::Url(&self.url), node)
    }
}
