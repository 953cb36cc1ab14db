//! Following what drivers tell of the health of their devices.
//!
//! What enters: streams of drivers. What leaves: [`Claims`] that know it, and pods that are told of a change. How long it
//! is believed is decided in `plimsoll-podlife`.

use std::path::Path;
use std::sync::{MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod, ResourceStatus};
use plimsoll_plugins::dra_health::dra_resource_health_client::DraResourceHealthClient;
use plimsoll_plugins::dra_health::{
    DeviceHealth, HealthStatus, NodeWatchResourcesRequest, NodeWatchResourcesResponse,
};
use plimsoll_plugins::dra_health_v1alpha1::dra_resource_health_client::DraResourceHealthClient as OlderClient;
use plimsoll_podlife::claim::health::{Healths, Report};
use plimsoll_podlife::claim::{health_record, words};
use plimsoll_podlife::device::Health;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::Claims;

/// How long to wait after a stream has ended.
const AGAIN: Duration = Duration::from_secs(5);

/// The file of what was said, under upstream's name.
pub(super) const RECORD: &str = "dra_health_state";

/// What drivers said to the agent before this one, as far as it still holds.
pub(super) fn kept(record: &Path) -> Healths {
    let Ok(text) = std::fs::read_to_string(record) else { return Healths::default() };
    health_record::read(&text, Instant::now(), Timestamp::now()).unwrap_or_else(|error| {
        tracing::warn!(record = %record.display(), error, "what was known of devices is lost");
        Healths::default()
    })
}

impl Claims {
    pub(super) fn healths(&self) -> MutexGuard<'_, Healths> {
        self.healths.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every change of devices.
    pub(crate) fn subscribe_to_health(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// How the devices are that a container has by claims.
    pub(crate) fn statuses(&self, pod: &Pod, container: &Container) -> Vec<ResourceStatus> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let (book, healths, now) = (self.book(), self.healths(), Instant::now());
        let status = |(word, request, name): (String, String, String)| {
            healths.status(&word, &request, &book.get(namespace, &name)?.claim, now)
        };
        words(pod, container).into_iter().filter_map(status).collect()
    }

    /// Keeps it and tells of it. A machine that goes down takes the devices' state with it: nothing waits for the disk.
    fn health_changed(&self) {
        let text = health_record::write(&self.healths(), Instant::now(), Timestamp::now());
        if let Err(error) = super::write(&self.health_record, &text, |_| Ok(())) {
            tracing::warn!(%error, "what is known of devices is not kept");
        }
        self.changes.send_modify(|count| *count += 1);
    }
}

/// Follows a driver until it is gone.
pub(super) async fn follow(claims: Weak<Claims>, driver: String, channel: Channel, gone: CancellationToken) {
    let lost = || {
        if let Some(claims) = claims.upgrade() {
            claims.healths().forget(&driver);
            claims.health_changed();
        }
    };
    let following = async {
        loop {
            match open(channel.clone()).await {
                Ok(stream) => hear(&claims, &driver, stream).await,
                Err(status) if status.code() == Code::Unimplemented => return,
                Err(status) => tracing::debug!(driver, %status, "a DRA driver does not tell of its devices"),
            }
            lost();
            tokio::time::sleep(AGAIN).await;
        }
    };
    tokio::select! {
        () = following => {}
        () = gone.cancelled() => lost(),
    }
}

/// Asks under the newest name that the driver knows.
async fn open(channel: Channel) -> Result<Streaming<NodeWatchResourcesResponse>, Status> {
    let request = NodeWatchResourcesRequest {};
    match DraResourceHealthClient::new(channel.clone()).node_watch_resources(request).await {
        Err(status) if status.code() == Code::Unimplemented => {
            OlderClient::new(channel).node_watch_resources(request).await
        }
        answer => answer,
    }
    .map(tonic::Response::into_inner)
}

async fn hear(claims: &Weak<Claims>, driver: &str, mut stream: Streaming<NodeWatchResourcesResponse>) {
    loop {
        let stale = claims.upgrade().and_then(|claims| claims.healths().stale_at(driver, Instant::now()));
        let overdue = async {
            match stale {
                // Just after it, so that it is not believed any more.
                Some(at) => tokio::time::sleep_until((at + Duration::from_millis(1)).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = stream.message() => {
                let (Ok(Some(told)), Some(claims)) = (told, claims.upgrade()) else { return };
                let reports = told.devices.into_iter().map(report).collect();
                if claims.healths().report(driver, reports, Instant::now()) {
                    claims.health_changed();
                }
            }
            () = overdue => if let Some(claims) = claims.upgrade() { claims.health_changed() },
        }
    }
}

fn report(told: DeviceHealth) -> Report {
    let health = match told.health() {
        HealthStatus::Healthy => Health::Healthy,
        HealthStatus::Unhealthy => Health::Unhealthy,
        HealthStatus::Unknown => Health::Unknown,
    };
    let device = told.device.unwrap_or_default();
    Report {
        pool: device.pool_name,
        name: device.device_name,
        health,
        message: told.message,
        seconds: told.health_check_timeout_seconds,
    }
}
