//! What becomes of a boat: a list of its crew, a status, an event; and unloading before it goes.
//!
//! What enters is a boat as it was last seen; what leaves are writes and a line for each of them that matters.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client, Resource, ResourceExt};
use kube_runtime::controller::Action;
use kube_runtime::events::{Event, EventType, Recorder};
use kube_runtime::finalizer::{self, Event as Stage, finalizer};
use kube_runtime::reflector::Store;
use serde_json::json;

use crate::boat::{API_VERSION, Boat};

/// Who writes, in managed fields.
const MANAGER: &str = "boats";
/// What keeps a boat until it is unloaded.
const FINALIZER: &str = "example.com/unload";

/// What a reconciliation works with.
pub(crate) struct Crew {
    pub(crate) client: Client,
    pub(crate) recorder: Recorder,
    /// ConfigMaps that tell where boats lie.
    pub(crate) harbours: Store<ConfigMap>,
}

/// Why a boat is not as it should be.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// The server says no, or nothing.
    #[error(transparent)]
    Server(#[from] kube::Error),
    /// The same, around the finalizer.
    #[error(transparent)]
    Finalizer(#[from] Box<finalizer::Error<Error>>),
}

/// Makes what a boat needs, or unloads it when it is to go.
pub(crate) async fn reconcile(boat: Arc<Boat>, crew: Arc<Crew>) -> Result<Action, Error> {
    let space = boat.namespace().unwrap_or_default();
    let boats: Api<Boat> = Api::namespaced(crew.client.clone(), &space);
    let stage = |stage| async {
        match stage {
            Stage::Apply(boat) => launch(&boats, &boat, &crew, &space).await,
            Stage::Cleanup(boat) => unload(&boat, &crew).await,
        }
    };
    Ok(finalizer(&boats, FINALIZER, boat, stage).await.map_err(Box::new)?)
}

/// Soon again, since servers come back.
pub(crate) fn retry(boat: Arc<Boat>, error: &Error, _: Arc<Crew>) -> Action {
    eprintln!("{}: {error}", boat.name_any());
    Action::requeue(Duration::from_millis(300))
}

async fn launch(boats: &Api<Boat>, boat: &Boat, crew: &Crew, space: &str) -> Result<Action, Error> {
    let name = boat.name_any();
    list(boat, crew, space).await?;
    let status = json!({"apiVersion": API_VERSION, "kind": "Boat", "status": {"phase": "Afloat", "crew": boat.spec.crew}});
    let apply = PatchParams::apply(MANAGER).force();
    // The same again changes nothing, so that the operator's own writes do not wake it for ever.
    boats.patch_status(&name, &apply, &Patch::Apply(&status)).await?;
    if boat.status.as_ref().and_then(|status| status.phase.as_deref()) != Some("Afloat") {
        tell(boat, crew, "Launched", "Launch").await?;
        println!("launched {name}");
    }
    Ok(Action::await_change())
}

/// The list of a boat's crew, which goes with the boat.
async fn list(boat: &Boat, crew: &Crew, space: &str) -> Result<(), Error> {
    let name = format!("{}-list", boat.name_any());
    let harbour =
        crew.harbours.state().first().and_then(|harbour| harbour.data.as_ref()?.get("pier").cloned());
    let list = json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": name, "ownerReferences": [boat.controller_owner_ref(&())]},
        "data": {"crew": boat.spec.crew.to_string(), "pier": harbour},
    });
    let lists: Api<ConfigMap> = Api::namespaced(crew.client.clone(), space);
    let apply = PatchParams::apply(MANAGER);
    match lists.patch(&name, &apply, &Patch::Apply(&list)).await {
        Err(kube::Error::Api(status)) if status.is_conflict() => {
            println!("takes back {name}: {}", status.message);
            lists.patch(&name, &apply.force(), &Patch::Apply(&list)).await?;
        }
        other => drop(other?),
    }
    Ok(())
}

async fn unload(boat: &Boat, crew: &Crew) -> Result<Action, Error> {
    tell(boat, crew, "Unloaded", "Unload").await?;
    println!("unloaded {}", boat.name_any());
    Ok(Action::await_change())
}

async fn tell(boat: &Boat, crew: &Crew, reason: &str, action: &str) -> Result<(), Error> {
    let event = Event {
        type_: EventType::Normal,
        reason: reason.into(),
        note: Some(format!("{} has a crew of {}", boat.name_any(), boat.spec.crew)),
        action: action.into(),
        secondary: None,
    };
    Ok(crew.recorder.publish(&event, &boat.object_ref(&())).await?)
}
