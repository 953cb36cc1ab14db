//! A part of the control plane as a process of its own: one of several works, the others stand by.

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use plimsoll_client::{Election, EventRecorder, Term};
use tokio_util::sync::CancellationToken;

use crate::controllers::ServingArgs;
use crate::serving::{Process, Text};
use crate::{log, up};

/// How long after the end of its Lease a process that neither renews it nor ends is healthy still.
const EXPIRED: Duration = Duration::from_secs(20);

/// Such a process.
pub(crate) struct Component<'a> {
    /// Its name where the API shows one.
    pub(crate) name: &'static str,
    /// Its usual port.
    pub(crate) port: u16,
    pub(crate) kubeconfig: &'a Path,
    pub(crate) serving: &'a ServingArgs,
    /// None: it works whoever else does.
    pub(crate) election: Option<Election>,
    pub(crate) metrics: Box<Text>,
    /// Is told whether it holds the Lease of this name.
    pub(crate) leads: &'a dyn Fn(&str, bool),
}

impl Component<'_> {
    /// Runs until a signal, and works while it may: by the Lease's term, or for ever.
    pub(crate) fn run(
        self,
        work: impl AsyncFnOnce(kube::Client, Term, CancellationToken) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        log::begin(log::Reader::File, self.serving.logging_format);
        let runtime = up::runtime()?;
        let outcome = runtime.block_on(self.stand(work));
        // Nothing that is still under way may act: the term is over.
        runtime.shutdown_background();
        outcome
    }

    async fn stand(
        self,
        work: impl AsyncFnOnce(kube::Client, Term, CancellationToken) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let shutdown = CancellationToken::new();
        up::stop_on_signal(shutdown.clone())?;
        let client = plimsoll_client::connect_kubeconfig(self.kubeconfig).await?;
        let held = Arc::new(OnceLock::<Term>::new());
        let renewed = held.clone();
        let patience = self.election.as_ref().map(Election::patience).unwrap_or_default() + EXPIRED;
        let process = Process {
            name: self.name,
            port: self.port,
            client: client.clone(),
            works: Box::new(move || renewed.get().is_none_or(|term| !term.overdue(patience))),
            metrics: self.metrics,
        };
        process.serve(self.serving, &shutdown).await?;
        let Some(election) = self.election else {
            return work(client, Term::default(), shutdown).await;
        };
        (self.leads)(&election.name, false);
        let events = EventRecorder::new(client.clone(), self.name, None);
        let mut ended = Ok(());
        let led = election.lead(client.clone(), &events, shutdown, async |stop, term| {
            (self.leads)(&election.name, true);
            let _ = held.set(term.clone());
            ended = work(client, term, stop).await;
        });
        led.await?;
        ended
    }
}

/// Two processes on one machine are two.
pub(crate) fn identity() -> anyhow::Result<String> {
    let host = nix::unistd::gethostname().context("name of the host")?;
    Ok(format!("{}_{}", host.to_string_lossy(), uuid::Uuid::new_v4()))
}
