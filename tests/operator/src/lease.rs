//! One process of the operator works, others wait: a Lease says which.
//!
//! What enters is the name of this process; what leaves is the moment from which it may work, and the one from
//! which it must not any more.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Error};

/// The Lease's name.
const NAME: &str = "boats";
/// How long the Lease holds without being renewed, in seconds.
const SECONDS: i32 = 2;
/// How often it is renewed, or looked at.
const INTERVAL: Duration = Duration::from_millis(400);

/// Waits until `holder` has the Lease; says once who else has it.
pub(crate) async fn acquire(leases: &Api<Lease>, holder: &str) {
    let mut said = None;
    loop {
        match attempt(leases, holder).await {
            Ok(None) => return,
            Ok(Some(other)) if said.as_ref() != Some(&other) => {
                println!("waits for {other}");
                said = Some(other);
            }
            Ok(Some(_)) => {}
            Err(error) => eprintln!("the lease cannot be had: {error}"),
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

/// Renews the Lease until someone else has it. A server that does not answer gives it to nobody else, either.
pub(crate) async fn keep(leases: Api<Lease>, holder: String) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        match attempt(&leases, &holder).await {
            Ok(None) => {}
            Ok(Some(other)) => break println!("lost the lease to {other}"),
            Err(error) => eprintln!("the lease cannot be renewed: {error}"),
        }
    }
}

/// Takes or renews the Lease; who has it when that is someone else.
async fn attempt(leases: &Api<Lease>, holder: &str) -> Result<Option<String>, Error> {
    let now = Timestamp::now();
    let Some(mut lease) = leases.get_opt(NAME).await? else {
        let metadata = ObjectMeta { name: Some(NAME.into()), ..ObjectMeta::default() };
        let lease = Lease { metadata, spec: Some(held(holder, now)) };
        return leases.create(&PostParams::default(), &lease).await.map(|_| None);
    };
    let spec = lease.spec.get_or_insert_default();
    match spec.holder_identity.clone() {
        Some(other) if other != holder && !expired(spec, now) => return Ok(Some(other)),
        Some(same) if same == holder => spec.renew_time = Some(MicroTime(now)),
        _ => {
            let transitions = spec.lease_transitions.unwrap_or_default() + 1;
            *spec = LeaseSpec { lease_transitions: Some(transitions), ..held(holder, now) };
        }
    }
    // The resourceVersion that was read goes along: of two that take it one gets a conflict.
    leases.replace(NAME, &PostParams::default(), &lease).await.map(|_| None)
}

fn held(holder: &str, now: Timestamp) -> LeaseSpec {
    LeaseSpec {
        holder_identity: Some(holder.into()),
        lease_duration_seconds: Some(SECONDS),
        acquire_time: Some(MicroTime(now)),
        renew_time: Some(MicroTime(now)),
        ..LeaseSpec::default()
    }
}

fn expired(spec: &LeaseSpec, now: Timestamp) -> bool {
    let seconds = SignedDuration::from_secs(spec.lease_duration_seconds.unwrap_or_default().into());
    spec.renew_time.as_ref().is_none_or(|time| time.0 + seconds < now)
}
