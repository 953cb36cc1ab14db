//! Wires the HorizontalPodAutoscaler: scales and metrics are asked for when an autoscaler is looked at.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::autoscaling::v2::{HorizontalPodAutoscaler, HorizontalPodAutoscalerSpec};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Informer, Object as _};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::{Action, Failure};
use plimsoll_reconcile::autoscale::{self, Change, Memory, Observed, Reading, Scale, Settings, Trouble};
use tokio::time::Instant;

use super::metrics::Metrics;
use super::scale::Scales;
use crate::metrics::Looked;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// What is remembered of an autoscaler.
#[derive(Clone, Default)]
struct Known {
    memory: Memory,
    /// When it was looked at last, and what it said then.
    looked: Option<(Timestamp, HorizontalPodAutoscalerSpec)>,
    scale: Option<Scale>,
    /// The last look, which counts once it is known whether what it asked for could be written.
    uncounted: Option<Looked>,
}

struct Autoscaler {
    scales: Scales,
    metrics: Metrics,
    hpas: Informer<HorizontalPodAutoscaler>,
    pods: Informer<Pod>,
    settings: Settings,
    told: Arc<crate::Metrics>,
    known: Mutex<HashMap<Key, Known>>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let hpas = context.informers.informer::<HorizontalPodAutoscaler>();
    let pods = context.informers.informer::<Pod>();
    let unit = unit.input(&hpas, |hpa| vec![Key::of(hpa)]).reads(&pods).reads_every_kind();
    let autoscaler = Arc::new(Autoscaler {
        scales: Scales::new(context),
        metrics: Metrics::new(context.client.clone(), context.kinds()),
        hpas,
        pods,
        settings: context.config.autoscaling,
        told: context.config.metrics.clone(),
        known: Mutex::default(),
    });
    let reporting = autoscaler.clone();
    Ok(unit
        .decide_async(move |key, now| {
            let autoscaler = autoscaler.clone();
            async move { autoscaler.decide(&key, now).await }
        })
        .report(move |key, now, failure| reporting.report(key, now, failure)))
}

impl Autoscaler {
    fn known(&self, key: &Key) -> Known {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned().unwrap_or_default()
    }

    fn remember(&self, key: &Key, known: Known) {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone(), known);
    }

    async fn decide(&self, key: &Key, now: Timestamp) -> Vec<Action> {
        let Some(hpa) = self.hpas.get(&key.namespace, &key.name) else {
            return self.forget(key);
        };
        let mut known = self.known(key);
        if let Some(wait) = self.left(&known, &hpa.spec, now) {
            return vec![Action::RequeueAfter(wait)];
        }
        let told = &self.told.autoscaling;
        known.uncounted.take().iter().for_each(|looked| told.looked(looked));
        let began = Instant::now();
        known.looked = Some((now, hpa.spec.clone()));
        let scale = self.scale(&hpa).await;
        known.scale = scale.as_ref().ok().cloned();
        self.remember(key, known.clone());
        let selector = scale.as_ref().map(|scale| scale.selector.as_str()).unwrap_or_default();
        let pods = self.selected(&key.namespace, selector);
        let (readings, asked) = match selector {
            "" => Default::default(),
            _ => self.read(&hpa, selector).await,
        };
        let observed = Observed {
            hpa: &hpa,
            scale: scale.as_ref().map_err(String::as_str),
            pods: &pods,
            rivals: &self.rivals(key, &pods),
            readings: &readings,
            settings: &self.settings,
        };
        let (actions, outcome) = autoscale::decide(&observed, &mut known.memory, now);
        let now_wanted = actions.iter().rev().find_map(desired);
        let before = || hpa.status.as_ref().map(|status| status.desired_replicas);
        told.wants(key, now_wanted.or_else(before));
        known.uncounted = Some(Looked { outcome, took: began.elapsed(), asked });
        self.remember(key, known);
        told.count(self.hpas.len());
        actions
    }

    fn forget(&self, key: &Key) -> Vec<Action> {
        let gone = self.known.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        let told = &self.told.autoscaling;
        gone.and_then(|known| known.uncounted).iter().for_each(|looked| told.looked(looked));
        told.wants(key, None);
        told.count(self.hpas.len());
        Vec::new()
    }

    fn report(&self, key: &Key, now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(hpa) = self.hpas.get(&key.namespace, &key.name) else { return Vec::new() };
        let mut known = self.known(key);
        let Some(scale) = known.scale.clone() else { return Vec::new() };
        if let Some(looked) = &mut known.uncounted {
            looked.outcome.trouble = Trouble::Internal;
            if matches!(&failure.action, Action::Patch(patch) if patch.subresource == Some("scale")) {
                looked.outcome.change = Change::None;
            }
        }
        let observed = Observed {
            hpa: &hpa,
            scale: Ok(&scale),
            pods: &[],
            rivals: &[],
            readings: &[],
            settings: &self.settings,
        };
        let actions = autoscale::report(&observed, &mut known.memory, now, failure);
        self.remember(key, known);
        actions
    }

    /// How long until its next turn; its own status is no reason to look at it again.
    fn left(&self, known: &Known, spec: &HorizontalPodAutoscalerSpec, now: Timestamp) -> Option<Duration> {
        let (at, _) = known.looked.as_ref().filter(|(_, then)| then == spec)?;
        // A clock that was set back must not hold it up.
        let passed = Duration::try_from(now.duration_since(*at)).ok()?;
        self.settings.period.checked_sub(passed).filter(|left| !left.is_zero())
    }

    async fn scale(&self, hpa: &HorizontalPodAutoscaler) -> Result<Scale, String> {
        let of = &hpa.spec.scale_target_ref;
        self.scales.of(hpa.namespace(), of.api_version.as_deref().unwrap_or("v1"), &of.kind, &of.name).await
    }

    fn selected(&self, namespace: &str, selector: &str) -> Vec<Arc<Pod>> {
        let Some(labels) = Labels::parse(selector).ok().filter(|_| !selector.is_empty()) else {
            return Vec::new();
        };
        let mut pods = self.pods.list_in(namespace);
        pods.retain(|pod| labels.matches_map(pod.metadata.labels.as_ref()));
        pods
    }

    /// Other autoscalers that select one of these pods, as far as their targets' selectors are known.
    fn rivals(&self, key: &Key, pods: &[Arc<Pod>]) -> Vec<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let others = known.iter().filter(|(other, _)| other.namespace == key.namespace && *other != key);
        let selects = |known: &Known| {
            let selector = known.scale.as_ref().map(|scale| scale.selector.as_str()).unwrap_or_default();
            let labels = Labels::parse(selector).ok().filter(|_| !selector.is_empty());
            labels
                .is_some_and(|labels| pods.iter().any(|pod| labels.matches_map(pod.metadata.labels.as_ref())))
        };
        let mut rivals: Vec<_> = others
            .filter(|(_, known)| selects(known))
            .map(|(key, _)| format!("{}/{}", key.namespace, key.name))
            .collect();
        rivals.sort();
        rivals
    }

    /// What the metrics say, and how long each took to ask.
    async fn read(
        &self,
        hpa: &HorizontalPodAutoscaler,
        selector: &str,
    ) -> (Vec<Reading>, Vec<(String, Duration)>) {
        let (mut readings, mut asked) = (Vec::new(), Vec::new());
        for spec in hpa.spec.metrics.iter().flatten() {
            let began = Instant::now();
            readings.push(self.metrics.read(hpa.namespace(), selector, spec).await);
            asked.push((spec.type_.clone(), began.elapsed()));
        }
        (readings, asked)
    }
}

/// The number of replicas that an action writes into a status.
fn desired(action: &Action) -> Option<i32> {
    let Action::Patch(patch) = action else { return None };
    patch.body["status"]["desiredReplicas"].as_i64().and_then(|replicas| replicas.try_into().ok())
}
