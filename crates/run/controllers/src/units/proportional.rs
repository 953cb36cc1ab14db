//! Wires the ProportionalAutoscaler: nodes, the usual workloads and other autoscalers are watched; a target of another
//! kind is asked for now and then.

use std::sync::Arc;

use k8s_openapi::Metadata;
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Node, ReplicationController};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Informer, Object};
use plimsoll_reconcile::action::{Action, Failure};
use plimsoll_reconcile::proportional::{self, Observed, ProportionalAutoscaler, Reference};

use super::scale::Scales;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

struct Autoscaler {
    scales: Scales,
    all: Informer<ProportionalAutoscaler>,
    hpas: Informer<HorizontalPodAutoscaler>,
    nodes: Informer<Node>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let informers = &context.informers;
    let all = informers.informer::<ProportionalAutoscaler>();
    let (hpas, nodes) = (informers.informer::<HorizontalPodAutoscaler>(), informers.informer::<Node>());
    let (same_target, of_hpa, of_nodes) = (all.clone(), all.clone(), all.clone());
    let unit = unit
        .input(&all, move |one| {
            let others = that_scale(&same_target, one.namespace(), &one.spec.scale_target_ref);
            std::iter::once(Key::of(one)).chain(others.filter(|key| *key != Key::of(one))).collect()
        })
        .input(&hpas, move |hpa| that_scale(&of_hpa, hpa.namespace(), &target_of(hpa)).collect())
        .input(&nodes, move |_| of_nodes.list().iter().map(|one| Key::of(&**one)).collect());
    let unit = target::<Deployment>(context, unit, &all);
    let unit = target::<ReplicaSet>(context, unit, &all);
    let unit = target::<StatefulSet>(context, unit, &all);
    let unit = target::<ReplicationController>(context, unit, &all);
    let autoscaler = Arc::new(Autoscaler { scales: Scales::new(context), all, hpas, nodes });
    let reporting = autoscaler.clone();
    Ok(unit
        .decide_async(move |key, now| {
            let autoscaler = autoscaler.clone();
            async move { autoscaler.decide(&key, now).await }
        })
        .report(move |key, now, failure| reporting.report(key, now, failure)))
}

/// Changes of such workloads lead to the autoscalers that scale them.
fn target<K>(context: &Context, unit: Unit, all: &Informer<ProportionalAutoscaler>) -> Unit
where
    K: Object + kube::Resource<DynamicType = ()> + k8s_openapi::Resource + Metadata<Ty = ObjectMeta>,
{
    let all = all.clone();
    unit.input(&context.informers.informer::<K>(), move |object| {
        let reference = Reference {
            api_version: K::API_VERSION.to_owned(),
            kind: K::KIND.to_owned(),
            name: Object::name(object).to_owned(),
        };
        that_scale(&all, Object::namespace(object), &reference).collect()
    })
}

/// The autoscalers that scale a workload: a namespace has few.
fn that_scale(
    all: &Informer<ProportionalAutoscaler>,
    namespace: &str,
    target: &Reference,
) -> impl Iterator<Item = Key> {
    let mut found = all.list_in(namespace);
    found.retain(|one| one.spec.scale_target_ref == *target);
    found.into_iter().map(|one| Key::of(&*one))
}

fn target_of(hpa: &HorizontalPodAutoscaler) -> Reference {
    let of = &hpa.spec.scale_target_ref;
    Reference {
        api_version: of.api_version.clone().unwrap_or_else(|| "v1".to_owned()),
        kind: of.kind.clone(),
        name: of.name.clone(),
    }
}

fn is_watched(target: &Reference) -> bool {
    match target.api_version.as_str() {
        "apps/v1" => ["Deployment", "ReplicaSet", "StatefulSet"].contains(&target.kind.as_str()),
        "v1" => target.kind == "ReplicationController",
        _ => false,
    }
}

impl Autoscaler {
    async fn decide(&self, key: &Key, now: Timestamp) -> Vec<Action> {
        let Some(autoscaler) = self.all.get(&key.namespace, &key.name) else { return Vec::new() };
        let target = &autoscaler.spec.scale_target_ref;
        let scale = self.scales.of(&key.namespace, &target.api_version, &target.kind, &target.name).await;
        proportional::decide(
            &Observed {
                autoscaler: &autoscaler,
                scale: scale.as_ref().map_err(String::as_str),
                is_watched: is_watched(target),
                nodes: &self.nodes.list(),
                rival: self.rival(&autoscaler).as_deref(),
            },
            now,
        )
    }

    fn report(&self, key: &Key, now: Timestamp, failure: &Failure) -> Vec<Action> {
        let Some(autoscaler) = self.all.get(&key.namespace, &key.name) else { return Vec::new() };
        let observed = Observed {
            autoscaler: &autoscaler,
            scale: Err(&failure.message),
            is_watched: is_watched(&autoscaler.spec.scale_target_ref),
            nodes: &self.nodes.list(),
            rival: None,
        };
        proportional::report(&observed, now, failure)
    }

    /// Who scales the same target and goes first: any HorizontalPodAutoscaler, or an older autoscaler.
    fn rival(&self, autoscaler: &ProportionalAutoscaler) -> Option<String> {
        let (namespace, target) = (autoscaler.namespace(), &autoscaler.spec.scale_target_ref);
        let hpas = self.hpas.list_in(namespace);
        let hpa = hpas.iter().find(|hpa| target_of(hpa) == *target);
        let of_hpa = hpa.map(|hpa| format!("HorizontalPodAutoscaler {}", hpa.name()));
        of_hpa.or_else(|| {
            let others = self.all.list_in(namespace);
            let older = others.iter().find(|other| proportional::precedes(other, autoscaler));
            older.map(|older| format!("ProportionalAutoscaler {}", older.name()))
        })
    }
}
