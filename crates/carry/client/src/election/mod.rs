//! Several processes, one of which works: whoever holds a Lease.
//!
//! What enters: a Lease's name and who wants it. What leaves: a [`Term`] while it is held, which everything that
//! writes asks before each request. A process that was stopped for long finds its term over before it does anything.

mod record;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use kube::Api;
use kube::api::PostParams;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::{EventRecorder, EventType};
use record::Seen;

/// Those who wait look again after the retry period and up to this part of it more, by chance.
const JITTER: f64 = 1.2;

/// Which Lease, who wants it, and for how long it lasts.
#[derive(Clone, Debug)]
pub struct Election {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Who wants it; no two processes share an identity.
    pub identity: String,
    /// Others take it when they have not seen it renewed for so long.
    pub lease_duration: Duration,
    /// The holder gives up when it could not renew it for so long; shorter than the lease.
    pub renew_deadline: Duration,
    /// How often it is renewed, and how often others look at it.
    pub retry_period: Duration,
}

/// Why the work ended early.
#[derive(Debug, thiserror::Error)]
pub enum ElectionError {
    /// The Lease could not be renewed in time; somebody else may hold it by now.
    #[error("leaderelection lost")]
    Lost,
}

/// Whether this process may still act. Clones are the same; the default one never ends.
#[derive(Clone, Debug, Default)]
pub struct Term {
    until: Option<Arc<Mutex<Instant>>>,
}

impl Term {
    /// Whether it may act now.
    pub fn holds(&self) -> bool {
        self.until
            .as_ref()
            .is_none_or(|until| Instant::now() < *until.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it ended more than `by` ago.
    pub fn overdue(&self, by: Duration) -> bool {
        self.until
            .as_ref()
            .is_some_and(|until| Instant::now() > *until.lock().unwrap_or_else(PoisonError::into_inner) + by)
    }

    fn extend(&self, end: Instant) {
        if let Some(until) = &self.until {
            *until.lock().unwrap_or_else(PoisonError::into_inner) = end;
        }
    }
}

impl Election {
    /// How long after the end of a term others may still have to wait.
    pub fn patience(&self) -> Duration {
        self.lease_duration.saturating_sub(self.renew_deadline)
    }

    /// Waits for the Lease, then works until `shutdown`. The work gets a token that asks it to end and its term;
    /// when it has ended the Lease is free at once for others.
    ///
    /// # Errors
    /// When the Lease is lost: the work is dropped where it is.
    pub async fn lead<F>(
        &self,
        client: kube::Client,
        events: &EventRecorder,
        shutdown: CancellationToken,
        work: impl FnOnce(CancellationToken, Term) -> F,
    ) -> Result<(), ElectionError>
    where
        F: Future<Output = ()>,
    {
        let mut candidate = Candidate::new(self, client);
        if shutdown.run_until_cancelled(candidate.acquire()).await.is_none() {
            return Ok(());
        }
        candidate.tell(events, "became leader");
        let term = candidate.term.clone();
        let ended = tokio::select! {
            () = work(shutdown, term) => true,
            () = candidate.keep() => false,
        };
        candidate.tell(events, "stopped leading");
        if !ended {
            return Err(ElectionError::Lost);
        }
        candidate.release().await;
        Ok(())
    }
}

/// One who wants the Lease, or has it.
struct Candidate<'a> {
    election: &'a Election,
    api: Api<Lease>,
    lease: Option<Lease>,
    seen: Seen,
    term: Term,
}

impl<'a> Candidate<'a> {
    fn new(election: &'a Election, client: kube::Client) -> Self {
        let api = Api::namespaced(client, &election.namespace);
        let term = Term { until: Some(Arc::new(Mutex::new(Instant::now()))) };
        Self { election, api, lease: None, seen: Seen::default(), term }
    }

    async fn acquire(&mut self) {
        loop {
            if self.attempt().await {
                return;
            }
            let pause = self.election.retry_period;
            tokio::time::sleep(pause + pause.mul_f64(JITTER * rand::random::<f64>())).await;
        }
    }

    /// Renews it until that fails for too long.
    async fn keep(&mut self) {
        loop {
            let deadline = Instant::now() + self.election.renew_deadline;
            let renewed = async {
                loop {
                    tokio::time::sleep(self.election.retry_period).await;
                    if self.attempt().await {
                        return;
                    }
                }
            };
            if timeout_at(deadline, renewed).await.is_err() {
                tracing::error!(lease = self.election.name, "failed to renew lease");
                return;
            }
        }
    }

    /// Tries to take it or to keep it, once; gives whether it is held.
    async fn attempt(&mut self) -> bool {
        let sent = Instant::now();
        match self.write().await {
            Ok(held) => {
                if held {
                    self.term.extend(sent + self.election.renew_deadline);
                }
                held
            }
            Err(error) => {
                // What was known may be old.
                self.lease = None;
                tracing::debug!(lease = self.election.name, %error, "a lease could not be written");
                false
            }
        }
    }

    async fn write(&mut self) -> Result<bool, kube::Error> {
        let Election { name, namespace, identity, lease_duration, .. } = self.election;
        // The holder need not look: if somebody else wrote, the server refuses.
        let mine = |lease: &Lease| {
            lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_ref()) == Some(identity)
        };
        let known = match self.lease.take().filter(mine) {
            Some(lease) => Some(lease),
            None => self.api.get_opt(name).await?,
        };
        if let Some(spec) = known.as_ref().and_then(|lease| lease.spec.as_ref()) {
            self.seen.see(spec, Instant::now());
        }
        if known.is_some() && self.seen.is_taken(identity, Instant::now()) {
            return Ok(false);
        }
        let before = known.as_ref().and_then(|lease| lease.spec.as_ref());
        let spec = Some(record::held(before, identity, *lease_duration, Timestamp::now()));
        let written = match known {
            Some(lease) => self.api.replace(name, &PostParams::default(), &Lease { spec, ..lease }).await?,
            None => {
                let metadata = ObjectMeta {
                    name: Some(name.clone()),
                    namespace: Some(namespace.clone()),
                    ..ObjectMeta::default()
                };
                self.api.create(&PostParams::default(), &Lease { metadata, spec }).await?
            }
        };
        self.lease = Some(written);
        Ok(true)
    }

    /// Lets others have it at once.
    async fn release(mut self) {
        self.term.extend(Instant::now());
        let Some(lease) = self.lease.take() else { return };
        let spec = lease.spec.as_ref().map(|spec| record::released(spec, Timestamp::now()));
        let write = async {
            self.api.replace(&self.election.name, &PostParams::default(), &Lease { spec, ..lease }).await
        };
        match tokio::time::timeout(self.election.renew_deadline, write).await {
            Ok(Ok(_)) => {}
            Ok(Err(error)) => tracing::warn!(lease = self.election.name, %error, "failed to release lease"),
            Err(_) => tracing::warn!(lease = self.election.name, "failed to release lease in time"),
        }
    }

    fn tell(&self, events: &EventRecorder, what: &str) {
        let about = ObjectReference {
            api_version: Some("coordination.k8s.io/v1".to_owned()),
            kind: Some("Lease".to_owned()),
            namespace: Some(self.election.namespace.clone()),
            name: Some(self.election.name.clone()),
            uid: self.lease.as_ref().and_then(|lease| lease.metadata.uid.clone()),
            ..ObjectReference::default()
        };
        let message = format!("{} {what}", self.election.identity);
        events.event(&about, EventType::Normal, "LeaderElection", message);
    }
}
