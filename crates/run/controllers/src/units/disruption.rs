//! Wires the controller of PodDisruptionBudgets.

use std::collections::HashSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet, StatefulSet};
use k8s_openapi::api::autoscaling::v1::Scale;
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Informer, Object as _};
use plimsoll_meta::selector::Labels;
use plimsoll_reconcile::action::{Action, Resource, Target};
use plimsoll_reconcile::disruption::{self, Expected, Observed, Unknown};
use plimsoll_reconcile::owner::controller_of;

use crate::kinds::Kinds;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Begins the key of a pod; no budget's name has a slash.
const POD: &str = "pod/";

struct Budgets {
    budgets: Informer<PodDisruptionBudget>,
    pods: Informer<Pod>,
    scales: Scales,
}

/// Who may say how many pods there should be.
#[derive(Clone)]
struct Scales {
    client: kube::Client,
    kinds: Arc<Kinds>,
    deployments: Informer<Deployment>,
    sets: Informer<ReplicaSet>,
    stateful: Informer<StatefulSet>,
    replication: Informer<ReplicationController>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let budgets = context.informers.informer::<PodDisruptionBudget>();
    let pods = context.informers.informer::<Pod>();
    let scales = Scales {
        client: context.client.clone(),
        kinds: context.kinds(),
        deployments: context.informers.informer(),
        sets: context.informers.informer(),
        stateful: context.informers.informer(),
        replication: context.informers.informer(),
    };
    let by = || budgets.clone();
    let (of_pod, of_deployment, of_set, of_stateful, of_replication) = (by(), by(), by(), by(), by());
    let unit = unit
        .input(&budgets, |budget| vec![Key::of(budget)])
        .input(&pods, move |pod| {
            let mut all = of_pod.list_in(pod.namespace());
            all.retain(|budget| selects(budget, pod));
            let disrupted = plimsoll_reconcile::pod::condition(pod, "DisruptionTarget").is_some();
            let itself = disrupted.then(|| Key::new(pod.namespace(), &format!("{POD}{}", pod.name())));
            all.iter().map(|budget| Key::of(&**budget)).chain(itself).collect()
        })
        .input(&scales.deployments, move |one| all_in(&of_deployment, one.namespace()))
        .input(&scales.sets, move |one| all_in(&of_set, one.namespace()))
        .input(&scales.stateful, move |one| all_in(&of_stateful, one.namespace()))
        .input(&scales.replication, move |one| all_in(&of_replication, one.namespace()));
    let state = Arc::new(Budgets { budgets, pods, scales });
    Ok(unit.decide_async(move |key, now| {
        let state = state.clone();
        async move { state.decide(&key, now).await }
    }))
}

impl Budgets {
    async fn decide(&self, key: &Key, now: Timestamp) -> Vec<Action> {
        if let Some(name) = key.name.strip_prefix(POD) {
            let pod = self.pods.get(&key.namespace, name);
            return pod.map(|pod| disruption::settle(&pod, now)).unwrap_or_default();
        }
        let Some(budget) = self.budgets.get(&key.namespace, &key.name) else { return Vec::new() };
        let mut pods = self.pods.list_in(&key.namespace);
        pods.retain(|pod| selects(&budget, pod));
        let expected = if disruption::asks_controllers(&budget) {
            self.scales.expected(&pods).await
        } else {
            Ok(Expected::default())
        };
        disruption::decide(&Observed { budget: &budget, pods: &pods, expected }, now)
    }
}

/// The budgets of a namespace: few namespaces have more than one or two.
fn all_in(budgets: &Informer<PodDisruptionBudget>, namespace: &str) -> Vec<Key> {
    budgets.list_in(namespace).iter().map(|budget| Key::of(&**budget)).collect()
}

fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| Labels::from(selector).matches_map(pod.metadata.labels.as_ref()))
}

/// A controller that counts: its id, and how many pods it wants.
type Count = (String, i32);

impl Scales {
    /// The sum of what the pods' controllers want, each counted once.
    async fn expected(&self, pods: &[Arc<Pod>]) -> Result<Expected, Unknown> {
        let mut expected = Expected::default();
        let (mut asked, mut counted) = (HashSet::new(), HashSet::new());
        for pod in pods {
            let Some(owner) = controller_of(&pod.metadata) else {
                expected.unmanaged = true;
                continue;
            };
            if !asked.insert(owner.uid.clone()) {
                continue;
            }
            let count = match self.known(pod.namespace(), owner) {
                Some(count) => count,
                None => self.ask(pod.namespace(), owner).await.map_err(Unknown::Silent)?,
            };
            let missing = || Unknown::NoController(pod.name().to_owned());
            let (uid, replicas) = count.ok_or_else(missing)?;
            if counted.insert(uid) {
                expected.replicas += replicas;
            }
        }
        Ok(expected)
    }

    /// What the caches say, if it is their business: the inner part is empty when the controller is not there.
    fn known(&self, namespace: &str, owner: &OwnerReference) -> Option<Option<Count>> {
        let count = |uid: Option<&String>, replicas: Option<i32>| {
            (uid == Some(&owner.uid)).then(|| (owner.uid.clone(), replicas.unwrap_or(1)))
        };
        let name = &owner.name;
        match (owner.api_version.as_str(), owner.kind.as_str()) {
            ("apps/v1", "ReplicaSet") => {
                let set = self.sets.get(namespace, name);
                let set = set.filter(|set| set.metadata.uid.as_ref() == Some(&owner.uid));
                Some(set.and_then(|set| self.of_set(namespace, &set)))
            }
            ("apps/v1", "StatefulSet") => {
                let set = self.stateful.get(namespace, name);
                Some(set.and_then(|set| count(set.metadata.uid.as_ref(), set.spec.replicas)))
            }
            ("v1", "ReplicationController") => {
                let one = self.replication.get(namespace, name);
                let replicas = |one: &ReplicationController| one.spec.as_ref().and_then(|spec| spec.replicas);
                Some(one.and_then(|one| count(one.metadata.uid.as_ref(), replicas(&one))))
            }
            _ => None,
        }
    }

    /// A ReplicaSet's size; that of its Deployment, where it has one.
    fn of_set(&self, namespace: &str, set: &ReplicaSet) -> Option<Count> {
        let Some(owner) = controller_of(&set.metadata).filter(|owner| owner.kind == "Deployment") else {
            return Some((set.metadata.uid.clone()?, set.spec.replicas.unwrap_or(1)));
        };
        let deployment = self.deployments.get(namespace, &owner.name)?;
        let same = deployment.metadata.uid.as_ref() == Some(&owner.uid);
        same.then(|| (owner.uid.clone(), deployment.spec.replicas.unwrap_or(1)))
    }

    /// What the scale of any other kind of controller says.
    async fn ask(&self, namespace: &str, owner: &OwnerReference) -> Result<Option<Count>, String> {
        let OwnerReference { api_version, kind, name, uid, .. } = owner;
        let found = self.kinds.find(api_version, kind);
        let found =
            found.ok_or_else(|| format!("no matches for kind {kind:?} in version {api_version:?}"))?;
        let resource = found.resource;
        let place = if found.namespaced { namespace.to_owned() } else { String::new() };
        let target = Target { resource: resource.clone(), namespace: place, name: name.clone() };
        let request = http::Request::get(format!("{}/scale", target.path())).body(Vec::new());
        let request = request.map_err(|error| error.to_string())?;
        match self.client.request::<Scale>(request).await {
            Ok(scale) => {
                let replicas = scale.spec.and_then(|spec| spec.replicas).unwrap_or_default();
                Ok((scale.metadata.uid.as_ref() == Some(uid)).then(|| (uid.clone(), replicas)))
            }
            Err(kube::Error::Api(status)) if status.code == 404 => {
                self.scaled(&resource).await.map(|()| None)
            }
            Err(kube::Error::Api(status)) => Err(status.message.clone()),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Whether a kind has the scale subresource at all; if not, that is the trouble.
    async fn scaled(&self, resource: &Resource) -> Result<(), String> {
        let Resource { api_version, plural, .. } = resource;
        let listed = match api_version.contains('/') {
            true => self.client.list_api_group_resources(api_version).await,
            false => self.client.list_core_api_resources(api_version).await,
        };
        let listed = listed.map_err(|error| error.to_string())?;
        let scale = format!("{plural}/scale");
        if listed.resources.iter().any(|resource| resource.name == scale) {
            return Ok(());
        }
        let group = api_version.split_once('/').map(|(group, _)| format!(".{group}")).unwrap_or_default();
        Err(format!("{plural}{group} does not implement the scale subresource"))
    }
}
