//! A cluster of simulated nodes, and a client that watches it without getting in its way.

use std::time::{Duration, Instant};

use anyhow::Context;
use plimsoll_e2e::Cluster;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::api::connection::{Call, Connection, Endpoint};
use crate::api::lines::Lines;
use crate::process::{processor_time, resident};
use crate::report;

/// Nothing should take longer.
const LIMIT: Duration = Duration::from_secs(600);

/// The cluster.
pub(crate) struct Simulated {
    cluster: Cluster,
    pub(crate) endpoint: Endpoint,
}

/// What something cost.
pub(crate) struct Cost {
    pub(crate) time: Duration,
    /// Seconds of the program's processor time.
    processor: f64,
}

impl Simulated {
    /// Starts a cluster with so many nodes, and reports that.
    pub(crate) fn start(nodes: usize) -> anyhow::Result<Self> {
        Self::start_with(nodes, &[])
    }

    /// As [`start`](Self::start), with more flags.
    pub(crate) fn start_with(nodes: usize, more: &[&str]) -> anyhow::Result<Self> {
        let count = nodes.to_string();
        let flags = ["--no-node", "--simulated-nodes", &count, "--simulated-zones", "3"];
        let cluster = Cluster::prepare(&[&flags, more].concat());
        let took = cluster.up();
        report(&format!("start with {nodes} simulated nodes"), &format!("{took} ms"), "none");
        let endpoint = Endpoint::new(cluster.listen(), cluster.data().join("pki"), "admin")?;
        Ok(Self { cluster, endpoint })
    }

    /// Runs the client's side.
    pub(crate) fn client<T>(&self, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
        tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
    }

    /// Reports the part of a core that the program uses while nothing happens.
    pub(crate) async fn rest(&self, what: &str, aim: &str) {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let (before, span) = (processor_time(self.cluster.process_id()), Duration::from_secs(10));
        tokio::time::sleep(span).await;
        let used = (processor_time(self.cluster.process_id()) - before) / span.as_secs_f64();
        report(what, &format!("{:.1} %", used * 100.0), aim);
    }

    /// Does something and tells what it cost.
    pub(crate) async fn cost(&self, work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Cost> {
        let (before, begun) = (processor_time(self.cluster.process_id()), Instant::now());
        tokio::time::timeout(LIMIT, work).await.context("it takes too long")??;
        Ok(Cost { time: begun.elapsed(), processor: processor_time(self.cluster.process_id()) - before })
    }

    /// Reports the memory of everything: API server, store, scheduler, controllers and nodes.
    pub(crate) fn report_memory(&self) {
        let memory = resident(self.cluster.process_id());
        report("  resident memory", &format!("{:.0} MB", memory / 1e6), "under 4000 MB of 100,000 pods");
    }

    /// Sends calls, 32 at a time.
    pub(crate) async fn send(&self, calls: Vec<Call>) -> anyhow::Result<()> {
        let share = calls.len().div_ceil(32).max(1);
        let sending = calls.chunks(share).map(|calls| async move {
            let mut connection = self.endpoint.connect().await?;
            for call in calls {
                connection.call(call).await?;
            }
            anyhow::Ok(())
        });
        futures::future::try_join_all(sending).await.map(drop)
    }

    /// Watches from now on.
    pub(crate) async fn watch(&self, path: &str) -> anyhow::Result<Lines> {
        let mut connection: Connection = self.endpoint.connect().await?;
        let body = connection.watch(path).await?;
        Ok(Lines::new(body, connection))
    }
}

impl Cost {
    /// Prints the time, and the processor time below it.
    pub(crate) fn report(&self, what: &str, aim: &str) {
        report(what, &format!("{:.2} s", self.time.as_secs_f64()), aim);
        report("  processor time", &format!("{:.2} s", self.processor), "none");
    }
}

/// What an event of a watch tells of an object.
#[derive(Deserialize)]
pub(crate) struct Event<T> {
    pub(crate) r#type: String,
    pub(crate) object: T,
}

/// Reads events until `is_last` says so.
pub(crate) async fn follow<T: DeserializeOwned>(
    lines: &mut Lines,
    mut is_last: impl FnMut(Event<T>) -> bool,
) -> anyhow::Result<()> {
    while !is_last(serde_json::from_slice(&lines.next().await?)?) {}
    Ok(())
}
