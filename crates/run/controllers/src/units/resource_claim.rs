//! Wires the controllers of claims on devices, and of devices' taints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use plimsoll_client::{Informer, Object as _};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::resource_claim::{self, ObservedClaim, ObservedPod};
use plimsoll_reconcile::{device_taint_eviction, pod};

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// Begin the keys of pods and of claims; no name has a slash.
const POD: &str = "pod/";
const CLAIM: &str = "claim/";

/// When to ask again for a pod that could not be asked for.
const AGAIN: Duration = Duration::from_secs(5);

struct Claims {
    client: kube::Client,
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    templates: Informer<ResourceClaimTemplate>,
}

pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let state = Arc::new(Claims {
        client: context.client.clone(),
        pods: context.informers.informer(),
        claims: context.informers.informer(),
        templates: context.informers.informer(),
    });
    let (of_pod, of_template) = (state.clone(), state.clone());
    let unit = unit
        .input(&state.pods, move |pod| of_pod.keys_of_pod(pod))
        .input(&state.claims, |claim| {
            let owner = resource_claim::owner(claim).map(|(name, _)| key(POD, claim.namespace(), name));
            [key(CLAIM, claim.namespace(), claim.name())].into_iter().chain(owner).collect()
        })
        .input(&state.templates, move |template| of_template.waiting(template));
    Ok(unit.decide_async(move |key, _| {
        let state = state.clone();
        async move {
            match (key.name.strip_prefix(POD), key.name.strip_prefix(CLAIM)) {
                (Some(name), _) => state.decide_pod(&key.namespace, name),
                (_, Some(name)) => state.decide_claim(&key.namespace, name).await,
                _ => Vec::new(),
            }
        }
    }))
}

/// Pods whose devices are tainted.
pub(crate) fn device_taints(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let pods = context.informers.informer::<Pod>();
    let claims = context.informers.informer::<ResourceClaim>();
    let slices = context.informers.informer::<ResourceSlice>();
    let rules = context.informers.informer::<DeviceTaintRule>();
    let (by_slice, by_rule) = (claims.clone(), claims.clone());
    let all_users = |claims: &Informer<ResourceClaim>| -> Vec<Key> {
        claims.list().iter().flat_map(|claim| users(claim)).collect()
    };
    let unit = unit
        .input(&pods, |pod| match resource_claim::claims(pod) {
            [] => Vec::new(),
            _ => vec![Key::of(pod)],
        })
        .input(&claims, users)
        .input(&slices, move |_| all_users(&by_slice))
        .input(&rules, move |_| all_users(&by_rule));
    let doomed = Mutex::new(HashMap::<Key, String>::new());
    Ok(unit.decide(move |key, now| {
        let mut doomed = doomed.lock().unwrap_or_else(PoisonError::into_inner);
        let before = doomed.remove(key);
        let Some(pod) = pods.get(&key.namespace, &key.name) else { return Vec::new() };
        let names = resource_claim::claims(&pod).iter();
        let names = names.filter_map(|claim| resource_claim::name(&pod, claim));
        let claims: Vec<_> = names.filter_map(|name| claims.get(&key.namespace, name)).collect();
        let (slices, rules) = (slices.list(), rules.list());
        let observed =
            device_taint_eviction::Observed { pod: &pod, claims: &claims, slices: &slices, rules: &rules };
        let mut actions = device_taint_eviction::decide(&observed, now);
        if matches!(actions[..], [Action::RequeueAfter(_)]) {
            doomed.insert(key.clone(), pod.uid().to_owned());
        } else if actions.is_empty() && pod::active(&pod) && before.as_deref() == Some(pod.uid()) {
            actions.push(device_taint_eviction::spared(&pod));
        }
        actions
    }))
}

/// The pods that a claim is reserved for.
fn users(claim: &ResourceClaim) -> Vec<Key> {
    let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref()).unwrap_or_default();
    let pods = users.iter().filter(|user| user.resource == "pods");
    pods.map(|user| Key::new(claim.namespace(), &user.name)).collect()
}

fn key(kind: &str, namespace: &str, name: &str) -> Key {
    Key::new(namespace, &format!("{kind}{name}"))
}

impl Claims {
    fn keys_of_pod(&self, pod: &Pod) -> Vec<Key> {
        let claims = resource_claim::claims(pod);
        if claims.is_empty() {
            return Vec::new();
        }
        let named = claims.iter().filter_map(|claim| resource_claim::name(pod, claim)).map(str::to_owned);
        let owned = self.claims.owned_by(pod.uid());
        let owned = owned.iter().map(|claim| claim.name().to_owned());
        let claims = named.chain(owned).map(|name| key(CLAIM, pod.namespace(), &name));
        [key(POD, pod.namespace(), pod.name())].into_iter().chain(claims).collect()
    }

    /// The pods that ask for a template.
    fn waiting(&self, template: &ResourceClaimTemplate) -> Vec<Key> {
        let asks = |pod: &Pod| {
            let mut claims = resource_claim::claims(pod).iter();
            claims.any(|claim| claim.resource_claim_template_name.as_deref() == Some(template.name()))
        };
        let pods = self.pods.list_in(template.namespace());
        pods.iter().filter(|pod| asks(pod)).map(|pod| key(POD, pod.namespace(), pod.name())).collect()
    }

    fn decide_pod(&self, namespace: &str, name: &str) -> Vec<Action> {
        let Some(pod) = self.pods.get(namespace, name) else { return Vec::new() };
        let claims = resource_claim::claims(&pod);
        let names = claims.iter().filter_map(|claim| resource_claim::name(&pod, claim));
        let named: HashMap<_, _> =
            names.filter_map(|name| Some((name.to_owned(), self.claims.get(namespace, name)?))).collect();
        let names = claims.iter().filter_map(|claim| claim.resource_claim_template_name.clone());
        let templates: HashMap<_, _> = names
            .filter_map(|name| {
                let found = self.templates.get(namespace, &name)?;
                Some((name, found))
            })
            .collect();
        let owned = self.claims.owned_by(pod.uid());
        resource_claim::decide_pod(&ObservedPod {
            pod: &pod,
            owned: &owned,
            named: &named,
            templates: &templates,
        })
    }

    async fn decide_claim(&self, namespace: &str, name: &str) -> Vec<Action> {
        let Some(claim) = self.claims.get(namespace, name) else { return Vec::new() };
        let mut pods = HashMap::new();
        let users = claim.status.as_ref().and_then(|status| status.reserved_for.as_deref());
        for user in users.unwrap_or_default() {
            match self.user(namespace, &user.name, &user.uid).await {
                Ok(found) => pods.extend(found.map(|pod| (user.uid.clone(), pod))),
                Err(_) => return vec![Action::RequeueAfter(AGAIN)],
            }
        }
        if let Some((name, uid)) = resource_claim::owner(&claim) {
            // One that is not known yet, or gone, is the garbage collector's business.
            let owner = self.pods.get(namespace, name).filter(|pod| pod.uid() == uid);
            pods.extend(owner.map(|pod| (uid.to_owned(), pod)));
        }
        resource_claim::decide_claim(&ObservedClaim { claim: &claim, pods: &pods })
    }

    /// A pod that uses a claim: the cache may not know it yet, so only the server's word takes it away.
    async fn user(&self, namespace: &str, name: &str, uid: &str) -> Result<Option<Arc<Pod>>, kube::Error> {
        let same = |pod: &Arc<Pod>| pod.uid() == uid;
        if let Some(found) = self.pods.get(namespace, name) {
            return Ok(Some(found).filter(same));
        }
        let asked = kube::Api::<Pod>::namespaced(self.client.clone(), namespace).get_opt(name).await?;
        Ok(asked.map(Arc::new).filter(same))
    }
}
