//! Wires the controllers of claims on devices, and of devices' taints.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{DeviceTaintRule, ResourceClaim, ResourceClaimTemplate, ResourceSlice};
use k8s_openapi::jiff::Timestamp;
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
    let (rules_of_pod, rules_of_claim) = (rules.clone(), rules.clone());
    let all_users = |claims: &Informer<ResourceClaim>| -> Vec<Key> {
        claims.list().iter().flat_map(|claim| users(claim)).collect()
    };
    let unit = unit
        .input(&pods, move |pod| match resource_claim::claims(pod) {
            [] => Vec::new(),
            _ => [Key::of(pod)].into_iter().chain(all_rules(&rules_of_pod)).collect(),
        })
        .input(&claims, move |claim| users(claim).into_iter().chain(all_rules(&rules_of_claim)).collect())
        .input(&slices, move |_| all_users(&by_slice))
        .input(&rules, move |rule| all_users(&by_rule).into_iter().chain([Key::of(rule)]).collect());
    let state = Taints { pods, claims, slices, rules, doomed: Mutex::default() };
    // Rules, unlike pods, are in no namespace.
    Ok(unit.decide(move |key, now| match key.namespace.as_str() {
        "" => state.decide_rule(&key.name, now),
        _ => state.decide_pod(key, now),
    }))
}

fn all_rules(rules: &Informer<DeviceTaintRule>) -> Vec<Key> {
    rules.list().iter().map(|rule| Key::of(&**rule)).collect()
}

struct Taints {
    pods: Informer<Pod>,
    claims: Informer<ResourceClaim>,
    slices: Informer<ResourceSlice>,
    rules: Informer<DeviceTaintRule>,
    doomed: Mutex<Doomed>,
}

/// What became, and is to become, of pods.
#[derive(Default)]
struct Doomed {
    /// Ids of pods whose time is not over yet.
    waiting: HashMap<Key, String>,
    /// Ids of pods that were asked to go, and of the rules that are the reason.
    going: HashMap<Key, (String, Vec<String>)>,
    /// How many pods went, by the ids of rules.
    gone: HashMap<String, usize>,
}

impl Doomed {
    /// Counts the pods that were asked to go, once they do.
    fn count(&mut self, pods: &Informer<Pod>) {
        let goes = |key: &Key, uid: &str| {
            let found = pods.get(&key.namespace, &key.name);
            !found.is_some_and(|found| found.uid() == uid && !pod::deleting(&found))
        };
        for (_, (_, rules)) in self.going.extract_if(|key, (uid, _)| goes(key, uid)) {
            for rule in rules {
                *self.gone.entry(rule).or_default() += 1;
            }
        }
    }
}

impl Taints {
    fn decide_pod(&self, key: &Key, now: Timestamp) -> Vec<Action> {
        let found = self.pods.get(&key.namespace, &key.name);
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        doomed.count(&self.pods);
        let before = doomed.waiting.remove(key);
        let Some(pod) = found else { return Vec::new() };
        let names = resource_claim::claims(&pod).iter();
        let names = names.filter_map(|claim| resource_claim::name(&pod, claim));
        let claims: Vec<_> = names.filter_map(|name| self.claims.get(&key.namespace, name)).collect();
        let (slices, rules) = (self.slices.list(), self.rules.list());
        let observed =
            device_taint_eviction::Observed { pod: &pod, claims: &claims, slices: &slices, rules: &rules };
        let mut actions = device_taint_eviction::decide(&observed, now);
        if matches!(actions[..], [Action::RequeueAfter(_)]) {
            doomed.waiting.insert(key.clone(), pod.uid().to_owned());
        } else if !actions.is_empty() {
            let rules = device_taint_eviction::rules_ending(&observed);
            doomed.going.insert(key.clone(), (pod.uid().to_owned(), rules));
        } else if pod::active(&pod) && before.as_deref() == Some(pod.uid()) {
            actions.push(device_taint_eviction::spared(&pod));
        }
        actions
    }

    fn decide_rule(&self, name: &str, now: Timestamp) -> Vec<Action> {
        let rule = self.rules.get("", name);
        let mut doomed = self.doomed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(rule) = rule else {
            let known = self.rules.list();
            doomed.gone.retain(|uid, _| known.iter().any(|rule| rule.uid() == uid));
            return Vec::new();
        };
        doomed.count(&self.pods);
        let (claims, slices) = (self.claims.list(), self.slices.list());
        device_taint_eviction::decide_rule(
            &device_taint_eviction::ObservedRule {
                rule: &rule,
                claims: &claims,
                slices: &slices,
                pod: &|namespace, name| self.pods.get(namespace, name),
                evicted: doomed.gone.get(rule.uid()).copied().unwrap_or_default(),
            },
            now,
        )
    }
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use crate::testing::Memory;
    use crate::tests::play;

    const RULE: &str = "/apis/resource.k8s.io/v1/devicetaintrules/broken";

    #[tokio::test(start_paused = true)]
    async fn rules_tell_what_became_of_the_pods_that_they_end() {
        let server = Memory::default();
        let pod = "/api/v1/namespaces/ns/pods/p";
        let device = json!({"request": "r", "driver": "d", "pool": "pool", "device": "gpu"});
        server.put(
            "/apis/resource.k8s.io/v1/namespaces/ns/resourceclaims/c",
            json!({"metadata": {"name": "c", "namespace": "ns"}, "spec": {}, "status": {
                "allocation": {"devices": {"results": [device]}},
                "reservedFor": [{"resource": "pods", "name": "p", "uid": "p"}]}}),
        );
        server.put(
            pod,
            json!({"metadata": {"name": "p", "namespace": "ns", "uid": "p"}, "status": {"phase": "Running"},
                "spec": {"nodeName": "n", "containers": [],
                    "resourceClaims": [{"name": "r", "resourceClaimName": "c"}]}}),
        );
        let rule = |effect: &str, generation: i64, status: &Value| {
            json!({"metadata": {"name": "broken", "uid": "rule", "generation": generation}, "status": status,
                "spec": {"deviceSelector": {"driver": "d"},
                    "taint": {"key": "k", "effect": effect, "timeAdded": "2024-01-01T00:00:00Z"}}})
        };
        let told = || {
            let condition = server.get(RULE).unwrap()["status"]["conditions"][0].clone();
            format!("{}: {}", condition["reason"].as_str().unwrap(), condition["message"].as_str().unwrap())
        };
        server.put(RULE, rule("None", 1, &json!({})));
        play(&server, "device-taint-eviction-controller", 60).await;
        assert!(told().contains(" 1 pod would be evicted in 1 namespace if "), "{}", told());
        assert!(server.get(pod).is_some());
        server.put(RULE, rule("NoExecute", 2, &server.get(RULE).unwrap()["status"]));
        // The last word was some time ago.
        let age = async {
            tokio::time::sleep(std::time::Duration::from_secs(30)).await;
            let mut told = server.get(RULE).unwrap();
            told["status"]["conditions"][0]["lastTransitionTime"] = json!("2024-01-01T00:00:00Z");
            server.put(RULE, told);
        };
        tokio::join!(play(&server, "device-taint-eviction-controller", 60), age);
        assert!(server.get(pod).unwrap()["metadata"]["deletionTimestamp"].is_string());
        assert_eq!(told(), "Completed: 1 pod evicted since starting the controller.");
    }
}
