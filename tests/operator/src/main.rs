//! An operator with kube-rs: a ConfigMap for each Boat by server-side apply, its status, events, and unloading
//! before it goes.
//!
//! What enters: `KUBECONFIG`, and as arguments a namespace and the name of this process. What leaves: writes to
//! the API, and a line for each thing done, since the end-to-end tests read that. Of several processes the one
//! that has the Lease works.

mod boat;
mod lease;
mod reconcile;

use std::future::ready;
use std::sync::Arc;

use anyhow::Context;
use futures::StreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{Api, Client};
use kube_runtime::events::{Recorder, Reporter};
use kube_runtime::{Controller, WatchStreamExt, reflector, watcher};

use boat::Boat;
use reconcile::Crew;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut arguments = std::env::args().skip(1);
    let (space, name) =
        arguments.next().zip(arguments.next()).context("a namespace and a name are missing")?;
    let client = Client::try_default().await?;
    let leases = Api::namespaced(client.clone(), &space);
    lease::acquire(&leases, &name).await;
    println!("{name} works");
    tokio::select! {
        () = lease::keep(leases, name.clone()) => anyhow::bail!("the lease is lost"),
        () = work(client, &space, name) => Ok(()),
    }
}

/// Reconciles boats when they, their lists or the harbours change.
async fn work(client: Client, space: &str, name: String) {
    let boats: Api<Boat> = Api::namespaced(client.clone(), space);
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), space);
    let (harbours, writer) = reflector::store();
    let labelled = watcher::Config::default().labels("harbour").streaming_lists();
    let moved = reflector(writer, watcher(maps.clone(), labelled)).default_backoff().touched_objects();
    let reporter = Reporter { controller: "boats".into(), instance: Some(name) };
    let crew = Crew { recorder: Recorder::new(client.clone(), reporter), client, harbours };
    Controller::new(boats, watcher::Config::default().streaming_lists())
        .owns(maps, watcher::Config::default())
        .reconcile_all_on(moved.filter_map(|moved| ready(moved.ok().map(drop))))
        .run(reconcile::reconcile, reconcile::retry, Arc::new(crew))
        .filter_map(|done| ready(done.err()))
        .for_each(async |error| eprintln!("{error}"))
        .await;
}
