//! Devices that are allocated by claims: their drivers on this node, and what pods get of them.
//!
//! What enters: drivers that make themselves known ([`driver`]), pods with claims. What leaves: calls to drivers
//! before pods start and after they have ended ([`prepare`]), what drivers say of devices ([`health`]), names of devices for the engine, a record that outlives
//! the agent under upstream's name. Which claims a pod may use is decided in `plimsoll-podlife`. A driver that is not
//! there offers nothing ([`slices`]).
//!
//! Devices reach containers by their CDI names, which the engine looks up.

mod driver;
mod health;
mod prepare;
mod slices;

#[cfg(test)]
pub(crate) mod fake;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::{Container, Pod};
use plimsoll_cri::v1;
use plimsoll_podlife::claim::health::Healths;
use plimsoll_podlife::claim::{Book, Held, record, requests};
use tokio::sync::{OwnedMutexGuard, watch};

use driver::Driver;
pub(crate) use driver::register;
pub(crate) use prepare::prepare;
pub(crate) use slices::{wipe, wipe_all};

use crate::metrics::Metrics;

/// Namespace and name of a claim.
type Key = (String, String);

/// The claims in use on this node.
pub(crate) struct Claims {
    record: PathBuf,
    book: Mutex<Book>,
    /// By name; of several the newest comes last.
    drivers: Mutex<BTreeMap<String, Vec<Driver>>>,
    /// Held while a claim is prepared or taken back.
    turns: Mutex<HashMap<Key, Arc<tokio::sync::Mutex<()>>>>,
    /// Counts drivers as they come.
    arrivals: watch::Sender<u64>,
    healths: Mutex<Healths>,
    /// Where they are kept for the next agent.
    health_record: PathBuf,
    /// Counts changes of devices.
    changes: watch::Sender<u64>,
    metrics: Arc<Metrics>,
}

impl Claims {
    /// Takes up what was there before.
    ///
    /// # Errors
    /// The record is damaged: what drivers prepared would never be taken back.
    pub(crate) fn open(folder: &Path, metrics: Arc<Metrics>) -> Result<Self, String> {
        let path = folder.join("dra_manager_state");
        let book = match std::fs::read_to_string(&path) {
            Ok(text) => record::read(&text).map_err(|error| format!("{}: {error}", path.display()))?,
            Err(_) => Book::default(),
        };
        Ok(Self {
            record: path,
            book: Mutex::new(book),
            drivers: Mutex::default(),
            turns: Mutex::default(),
            arrivals: watch::channel(0).0,
            healths: Mutex::new(health::kept(&folder.join(health::RECORD))),
            health_record: folder.join(health::RECORD),
            changes: watch::channel(0).0,
            metrics,
        })
    }

    fn book(&self) -> MutexGuard<'_, Book> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells of every driver that comes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<u64> {
        self.arrivals.subscribe()
    }

    /// What the engine is told for a container.
    ///
    /// # Errors
    /// A claim was never prepared.
    pub(crate) fn devices(&self, pod: &Pod, container: &Container) -> Result<Vec<v1::CdiDevice>, String> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let book = self.book();
        let mut devices = Vec::new();
        for (claim, requests) in requests(pod, container)? {
            let names = book.cdi(namespace, &claim, &requests)?;
            devices.extend(names.into_iter().map(|name| v1::CdiDevice { name }));
        }
        Ok(devices)
    }

    /// What a container uses.
    pub(crate) fn held(&self, pod: &Pod, container: &Container) -> Vec<Held> {
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let names = requests(pod, container).unwrap_or_default().into_keys();
        let book = self.book();
        names.filter_map(|name| book.get(namespace, &name).cloned()).collect()
    }

    /// How many claims each driver has a part in, and how many there are, under `<any>`.
    pub(crate) fn in_use(&self) -> BTreeMap<String, i64> {
        let book = self.book();
        let mut counts = BTreeMap::from([("<any>".to_owned(), 0)]);
        for held in book.all() {
            *counts.entry("<any>".to_owned()).or_default() += 1;
            for driver in held.claim.drivers.keys() {
                *counts.entry(driver.clone()).or_default() += 1;
            }
        }
        counts
    }

    /// Waits for the turn of some claims. Who needs several takes them in one order.
    async fn turns(&self, keys: &BTreeSet<Key>) -> Vec<OwnedMutexGuard<()>> {
        let mut turns = Vec::new();
        for key in keys {
            let turn = {
                let mut all = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                all.retain(|_, turn| Arc::strong_count(turn) > 1);
                all.entry(key.clone()).or_default().clone()
            };
            turns.push(turn.lock_owned().await);
        }
        turns
    }

    fn save(&self) -> Result<(), String> {
        let text = record::write(&self.book());
        write(&self.record, &text, std::fs::File::sync_all).map_err(|error| error.to_string())
    }
}

/// Writes a record so that there is always a whole one.
fn write(path: &Path, text: &str, settle: fn(&std::fs::File) -> io::Result<()>) -> io::Result<()> {
    let fresh = path.with_extension("new");
    let mut file = std::fs::File::create(&fresh)?;
    file.write_all(text.as_bytes())?;
    settle(&file)?;
    std::fs::rename(&fresh, path)
}
