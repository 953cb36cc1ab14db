//! Static pods: they come from files and an address, and the API only shows them.
//!
//! What leaves is the set of pods that there are to be; [`crate::pods`] runs them, [`mirror`] shows them.

mod address;
mod folder;
mod mirror;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_document::Document;
use plimsoll_podlife::static_pod::{FullName, Origin, full_name, read};
use serde_json::Value;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use address::Address;
use folder::Folder;
pub(crate) use mirror::run as show;

/// A document is at most so large (kubelet: maxConfigLength).
const LONGEST: usize = 10 << 20;

/// The static pods of the node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Statics {
    /// By namespace and name.
    pub(crate) pods: BTreeMap<FullName, Arc<Pod>>,
    /// Whether every source was read at least once: until then nobody knows what is missing.
    pub(crate) complete: bool,
}

/// Reads the sources again and again until `stop`.
pub(crate) async fn run(agent: Arc<Agent>, statics: watch::Sender<Statics>, stop: CancellationToken) {
    let config = &agent.config;
    let mut folder = config.static_pod_path.clone().map(|path| Folder::new(path, config.file_check));
    let mut address = config
        .static_pod_url
        .clone()
        .map(|url| Address::new(url, config.static_pod_url_header.clone(), config.http_check));
    loop {
        let mut found = Vec::new();
        if let Some(folder) = &mut folder {
            found.extend(folder.read(&config.node_name));
        }
        if let Some(address) = &mut address {
            found.extend(address.pods(&config.node_name).await);
        }
        let complete =
            folder.as_ref().is_none_or(Folder::is_read) && address.as_ref().is_none_or(Address::is_read);
        statics.send_if_modified(|statics| statics.renew(found, complete));
        tokio::select! {
            () = stop.cancelled() => return,
            () = wait(folder.as_mut()) => {}
            () = due(address.as_ref()) => {}
        }
    }
}

async fn wait(folder: Option<&mut Folder>) {
    match folder {
        Some(folder) => folder.changed().await,
        None => std::future::pending().await,
    }
}

async fn due(address: Option<&Address>) {
    match address {
        Some(address) => address.due().await,
        None => std::future::pending().await,
    }
}

impl Statics {
    /// Takes in what there is now. Pods that stay keep the time when they were first seen.
    fn renew(&mut self, found: Vec<Pod>, complete: bool) -> bool {
        let mut pods = BTreeMap::new();
        for pod in found {
            let name = full_name(&pod);
            let known = self.pods.get(&name).filter(|known| known.metadata.uid == pod.metadata.uid).cloned();
            pods.insert(name, known.unwrap_or_else(|| Arc::new(pod)));
        }
        let same = |a: &BTreeMap<FullName, Arc<Pod>>, b: &BTreeMap<FullName, Arc<Pod>>| {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && Arc::ptr_eq(a.1, b.1))
        };
        let changed = self.complete != complete || !same(&self.pods, &pods);
        (self.pods, self.complete) = (pods, complete);
        changed
    }
}

/// The pods of a text; JSON is YAML, too.
fn pods(text: &[u8], origin: Origin<'_>, node: &str) -> Result<Vec<Pod>, String> {
    read(value(text)?, origin, node, Timestamp::now())
}

fn value(text: &[u8]) -> Result<Value, String> {
    if text.len() > LONGEST {
        return Err(format!("longer than {LONGEST} bytes"));
    }
    if let Ok(document) = Document::json(text) {
        return Ok(document.value);
    }
    let text = std::str::from_utf8(text).map_err(|error| error.to_string())?;
    Document::yaml(text).map(|document| document.value).map_err(|error| error.to_string())
}
