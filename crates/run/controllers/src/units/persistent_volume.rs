//! Wires what binds claims and volumes, and what tells of claims that grow.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use plimsoll_client::{Informer, Object as _};
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::persistent_volume::{Claim, Volume, decide_claim, decide_volume, settled};
use plimsoll_reconcile::{ephemeral_volume, pod, volume_expansion};
use plimsoll_volume::{claim_class, claims_of, default_class, is_bound, is_default, volume_class};

use super::indexes;
use crate::unit::{Key, Unit};
use crate::{Context, Error};

const UNBOUND: &str = "unbound claims by class";
const NAMED: &str = "claims by the volume they name";
const FREE: &str = "free volumes by class";
const CLAIMED: &str = "volumes by the claim they are for";

/// How long to wait when the server does not say whether a claim is there.
const RETRY: std::time::Duration = std::time::Duration::from_secs(1);

fn volume_name(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref()?.volume_name.as_deref().filter(|name| !name.is_empty())
}

fn claimed(volume: &PersistentVolume) -> Option<Key> {
    let owner = volume.spec.as_ref()?.claim_ref.as_ref()?;
    Some(Key::new(owner.namespace.as_deref()?, owner.name.as_deref()?))
}

fn place(namespace: &str, name: &str) -> String {
    format!("{namespace}/{name}")
}

fn add_indexes(claims: &Informer<PersistentVolumeClaim>, volumes: &Informer<PersistentVolume>) {
    claims.add_index(UNBOUND, |claim| match is_bound(claim) {
        true => Vec::new(),
        false => vec![claim_class(claim).to_owned()],
    });
    claims.add_index(NAMED, |claim| volume_name(claim).map(str::to_owned).into_iter().collect());
    volumes.add_index(FREE, |volume| match claimed(volume) {
        Some(_) => Vec::new(),
        None => vec![volume_class(volume).to_owned()],
    });
    volumes.add_index(CLAIMED, |volume| {
        claimed(volume).map(|key| place(&key.namespace, &key.name)).into_iter().collect()
    });
}

/// What the binder looks at.
struct Binder {
    client: kube::Client,
    claims: Informer<PersistentVolumeClaim>,
    volumes: Informer<PersistentVolume>,
    classes: Informer<StorageClass>,
    pods: Informer<Pod>,
}

/// The binder. Keys of claims have a namespace, those of volumes have none.
pub(crate) fn binder(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let state = Arc::new(Binder {
        client: context.client.clone(),
        claims: context.informers.informer(),
        volumes: context.informers.informer(),
        classes: context.informers.informer(),
        pods: context.informers.informer(),
    });
    add_indexes(&state.claims, &state.volumes);
    indexes::claims(&state.pods);
    let (of_claim, of_volume, of_class, of_pod) =
        (state.volumes.clone(), state.claims.clone(), state.claims.clone(), state.claims.clone());
    let unit = unit
        .input(&state.claims, move |claim| {
            let mut keys = vec![Key::of(claim)];
            keys.extend(volume_name(claim).map(|name| Key::new("", name)));
            let for_it = of_claim.indexed(CLAIMED, &place(claim.namespace(), claim.name()));
            keys.extend(for_it.iter().map(|volume| Key::of(&**volume)));
            keys
        })
        .input(&state.volumes, move |volume| {
            let mut keys = vec![Key::of(volume)];
            let interested = match claimed(volume) {
                Some(key) => {
                    keys.push(key);
                    Vec::new()
                }
                None => of_volume.indexed(UNBOUND, volume_class(volume)),
            };
            let named = of_volume.indexed(NAMED, volume.name());
            keys.extend(interested.iter().chain(&named).map(|claim| Key::of(&**claim)));
            keys
        })
        .input(&state.classes, move |class| {
            let mut claims = of_class.indexed(UNBOUND, class.name());
            if is_default(class) {
                claims.extend(of_class.indexed(UNBOUND, ""));
            }
            claims.iter().map(|claim| Key::of(&**claim)).collect()
        })
        .input(&state.pods, move |pod| {
            if !pod::node(pod).is_empty() {
                return Vec::new();
            }
            let claims = claims_of(pod).filter_map(|name| of_pod.get(pod.namespace(), &name));
            claims.filter(|claim| !is_bound(claim)).map(|claim| Key::of(&*claim)).collect()
        });
    Ok(unit.decide_async(move |key, _| {
        let state = state.clone();
        async move {
            match key.namespace.is_empty() {
                true => state.volume(&key.name).await,
                false => state.claim(&key),
            }
        }
    }))
}

impl Binder {
    fn claim(&self, key: &Key) -> Vec<Action> {
        let Some(claim) = self.claims.get(&key.namespace, &key.name) else { return Vec::new() };
        let place = place(&key.namespace, &key.name);
        decide_claim(&Claim {
            claim: &claim,
            volume: &|name| self.volumes.get("", name),
            free: &|| {
                let mut volumes = self.volumes.indexed(FREE, claim_class(&claim));
                volumes.extend(self.volumes.indexed(CLAIMED, &place));
                volumes
            },
            class: &|name| self.classes.get("", name),
            default: &|| default_class(&self.classes.list()).cloned(),
            waiting: &|| {
                let pods = indexes::using(&self.pods, &key.namespace, &key.name);
                let waiting = pods.iter().filter(|pod| pod::node(pod).is_empty() && !pod::finished(pod));
                waiting.map(|pod| pod.name().to_owned()).collect()
            },
        })
    }

    async fn volume(&self, name: &str) -> Vec<Action> {
        let Some(volume) = self.volumes.get("", name) else { return Vec::new() };
        match self.owner(&volume).await {
            Ok(claim) => decide_volume(&Volume { volume: &volume, claim: claim.as_deref() }),
            Err(error) => {
                tracing::debug!(volume = name, %error, "claim not found out, trying again");
                vec![Action::RequeueAfter(RETRY)]
            }
        }
    }

    /// The claim of a volume. The cache may be late: only the server's word releases a volume, or frees one
    /// that goes from a claim that does not name it yet.
    async fn owner(
        &self,
        volume: &PersistentVolume,
    ) -> Result<Option<Arc<PersistentVolumeClaim>>, kube::Error> {
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
        let (Some(key), Some(uid)) = (claimed(volume), owner.and_then(|owner| owner.uid.as_ref())) else {
            return Ok(None);
        };
        let is_it = |claim: &PersistentVolumeClaim| claim.metadata.uid.as_ref() == Some(uid);
        let cached = self.claims.get(&key.namespace, &key.name).filter(|claim| is_it(claim));
        let goes = volume.metadata.deletion_timestamp.is_some();
        let known = cached.as_ref().is_some_and(|claim| !goes || volume_name(claim).is_some());
        if known || uid.is_empty() || settled(volume) {
            return Ok(cached);
        }
        let api = kube::Api::<PersistentVolumeClaim>::namespaced(self.client.clone(), &key.namespace);
        Ok(api.get_opt(&key.name).await?.filter(is_it).map(Arc::new))
    }
}

/// Claims that pods have for themselves.
pub(crate) fn ephemeral(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let pods = context.informers.informer::<Pod>();
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let owns = |pod: &Pod| {
        let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
        volumes.into_iter().any(|volume| volume.ephemeral.is_some())
    };
    let of_claim = pods.clone();
    indexes::claims(&pods);
    let unit = unit.input(&pods, move |pod| if owns(pod) { vec![Key::of(pod)] } else { Vec::new() }).input(
        &claims,
        move |claim| {
            let pods = indexes::using(&of_claim, claim.namespace(), claim.name());
            pods.iter().filter(|pod| owns(pod)).map(|pod| Key::of(&**pod)).collect()
        },
    );
    Ok(unit.decide(move |key, _| {
        let Some(pod) = pods.get(&key.namespace, &key.name) else { return Vec::new() };
        ephemeral_volume::decide(&pod, &|name| claims.get(&key.namespace, name))
    }))
}

/// Claims that are to grow.
pub(crate) fn expansion(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let claims = context.informers.informer::<PersistentVolumeClaim>();
    let volumes = context.informers.informer::<PersistentVolume>();
    let unit = unit
        .input(&claims, |claim| match is_bound(claim) && volume_expansion::wants_more(claim) {
            true => vec![Key::of(claim)],
            false => Vec::new(),
        })
        .reads(&volumes);
    Ok(unit.decide(move |key, _| {
        let Some(claim) = claims.get(&key.namespace, &key.name) else { return Vec::new() };
        let volume = volume_name(&claim).and_then(|name| volumes.get("", name));
        volume.map(|volume| volume_expansion::decide(&claim, &volume)).unwrap_or_default()
    }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests;
