//! Having claims prepared for pods, and taken back after them.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::ResourceClaim;
use kube::Api;
use plimsoll_plugins::dra as wire;
use plimsoll_podlife::claim::{Claim, Device, claim, used};

use super::driver::Driver;
use super::{Claims, Key};
use crate::agent::Agent;

/// Claims by driver.
type Batches = BTreeMap<String, Vec<Claim>>;

/// Has the claims of a pod prepared.
///
/// # Errors
/// Why they are not, in upstream's words.
pub(crate) async fn prepare(agent: &Agent, pod: &Pod) -> Result<(), String> {
    let spec = pod.spec.as_ref();
    let extended = pod.status.as_ref().and_then(|status| status.extended_resource_claim_status.as_ref());
    if spec.is_none_or(|spec| spec.resource_claims.is_none()) && extended.is_none() {
        return Ok(());
    }
    let begun = Instant::now();
    let result = try_prepare(agent, pod).await;
    agent.metrics.claims_handled("PrepareResources", result.is_err(), begun.elapsed());
    result.map_err(|why| format!("prepare dynamic resources: {why}"))
}

async fn try_prepare(agent: &Agent, pod: &Pod) -> Result<(), String> {
    let claims = fetch(agent, pod).await?;
    let of = &agent.claims;
    // Nothing is noted before all drivers are there: what has no driver could not be taken back.
    let mut drivers: BTreeMap<String, Driver> = BTreeMap::new();
    for name in claims.iter().flat_map(|claim| claim.drivers.keys()) {
        drivers.insert(name.clone(), of.driver(name)?);
    }
    let _turns = of.turns(&claims.iter().map(key).collect()).await;
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut due: Vec<&Claim> = Vec::new();
    for claim in &claims {
        if of.book().enter(uid, claim)? {
            due.push(claim);
        }
    }
    of.save().map_err(|why| format!("checkpoint ResourceClaim cache: {why}"))?;
    for (name, batch) in batches(&due) {
        if let Some(driver) = drivers.get(&name) {
            ask(of, driver, &batch).await?;
        }
    }
    due.iter().for_each(|claim| of.book().prepared(&claim.namespace, &claim.name));
    of.save().map_err(|why| format!("checkpoint ResourceClaim state: {why}"))
}

/// The claims of a pod, as far as it may use them.
async fn fetch(agent: &Agent, pod: &Pod) -> Result<Vec<Claim>, String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let objects = Api::<ResourceClaim>::namespaced(agent.client.clone(), namespace);
    let mut claims = Vec::new();
    for used in used(pod)? {
        let object = objects.get(&used.name).await.map_err(|error| {
            let why = match error {
                kube::Error::Api(status) => status.message.clone(),
                other => other.to_string(),
            };
            format!("fetch ResourceClaim {}: {why}", used.name)
        })?;
        claims.push(claim(pod, &used, &object)?);
    }
    Ok(claims)
}

/// Asks a driver for its part of claims.
async fn ask(of: &Claims, driver: &Driver, batch: &[Claim]) -> Result<(), String> {
    let answers = driver.prepare(batch.iter().map(told).collect()).await?;
    for (uid, answer) in &answers {
        let claim = batch
            .iter()
            .find(|claim| claim.uid == *uid)
            .ok_or_else(|| format!("NodePrepareResources returned result for unknown claim UID {uid}"))?;
        if !answer.error.is_empty() {
            return Err(format!(
                "NodePrepareResources failed for ResourceClaim {}: {}",
                claim.name, answer.error
            ));
        }
        let devices = answer.devices.iter().map(device).collect();
        of.book().add(&claim.namespace, &claim.name, &driver.name, devices);
    }
    match batch.len() - answers.len() {
        0 => Ok(()),
        skipped => Err(format!("NodePrepareResources skipped {skipped} ResourceClaims")),
    }
}

impl Claims {
    /// Has the claims of a pod taken back that nobody else uses.
    ///
    /// # Errors
    /// Why they are not, in upstream's words. What is taken back already is not asked for again.
    pub(crate) async fn unprepare(&self, uid: &str) -> Result<(), String> {
        if !self.book().uses(uid) {
            return Ok(());
        }
        let begun = Instant::now();
        let result = self.try_unprepare(uid).await;
        self.metrics.claims_handled("UnprepareResources", result.is_err(), begun.elapsed());
        result.map_err(|why| format!("unprepare dynamic resources: {why}"))
    }

    async fn try_unprepare(&self, uid: &str) -> Result<(), String> {
        let keys: BTreeSet<Key> = {
            let book = self.book();
            book.all().filter(|held| held.pods.contains(uid)).map(|held| key(&held.claim)).collect()
        };
        let _turns = self.turns(&keys).await;
        let last = self.book().leave(uid);
        for (name, batch) in batches(&last.iter().collect::<Vec<_>>()) {
            let answers = self.driver(&name)?.unprepare(batch.iter().map(told).collect()).await?;
            for (uid, answer) in &answers {
                let claim = batch.iter().find(|claim| claim.uid == *uid).ok_or_else(|| {
                    format!("NodeUnprepareResources returned result for unknown claim UID {uid}")
                })?;
                if !answer.error.is_empty() {
                    return Err(format!(
                        "NodeUnprepareResources failed for ResourceClaim {}: {}",
                        claim.name, answer.error
                    ));
                }
            }
            let skipped = batch.len() - answers.len();
            if skipped > 0 {
                return Err(format!("NodeUnprepareResources skipped {skipped} ResourceClaims"));
            }
        }
        last.iter().for_each(|claim| self.book().taken_back(claim));
        self.save().map_err(|why| format!("checkpoint ResourceClaim state: {why}"))
    }

    /// Has the claims of pods taken back that are not there any more.
    pub(crate) async fn reconcile(&self, is_there: impl Fn(&str) -> bool) {
        let strangers = self.book().strangers(is_there);
        for uid in strangers {
            if let Err(why) = self.unprepare(&uid).await {
                tracing::info!(pod = uid, why, "claims of a pod that is gone are not taken back yet");
            }
        }
    }
}

fn batches(claims: &[&Claim]) -> Batches {
    let mut batches = Batches::new();
    for claim in claims {
        for driver in claim.drivers.keys() {
            batches.entry(driver.clone()).or_default().push((*claim).clone());
        }
    }
    batches
}

fn key(claim: &Claim) -> Key {
    (claim.namespace.clone(), claim.name.clone())
}

fn told(claim: &Claim) -> wire::Claim {
    wire::Claim { namespace: claim.namespace.clone(), uid: claim.uid.clone(), name: claim.name.clone() }
}

fn device(told: &wire::Device) -> Device {
    Device {
        pool: told.pool_name.clone(),
        name: told.device_name.clone(),
        share: told.share_id.clone(),
        requests: told.request_names.clone(),
        cdi: told.cdi_device_ids.clone(),
    }
}
