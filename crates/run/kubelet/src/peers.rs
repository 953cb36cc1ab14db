//! The agents of other nodes, who are asked when their data planes have dropped a pod.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, StatusCode};
use k8s_openapi::api::core::v1::Node;
use plimsoll_client::{Informer, Informers};
use plimsoll_podlife::traffic::peer;
use plimsoll_remote::{Authorities, Identity, Remote, SystemNames, client_tls};
use tokio::time::Instant;

/// Where it is asked.
pub(crate) const PATH: &str = "droppedEndpoints";
/// In a larger cluster to ask everybody costs more than to wait a little longer.
const MOST: usize = 128;
/// Who does not answer in this time is waited for no more: it may be gone, and not yet known to be.
const PATIENCE: Duration = Duration::from_secs(2);
/// Bytes of an answer.
const ANSWER: usize = 1024;
/// Certificates are renewed: they are read again after this time.
const FRESH: Duration = Duration::from_secs(60);

/// Files of the certificate and key that a node's agent shows to others.
#[derive(Clone, Debug)]
pub struct PeerIdentity {
    /// PEM of the certificate.
    pub certificate: PathBuf,
    /// PEM of its key; may be the same file.
    pub key: PathBuf,
}

/// All of them.
pub(crate) struct Peers {
    nodes: Informer<Node>,
    own: String,
    identity: PeerIdentity,
    remote: Mutex<Option<(Remote, Instant)>>,
}

/// Why nothing is known of a node.
type Unheard = String;

impl Peers {
    pub(crate) fn new(informers: &Informers, own: &str, identity: PeerIdentity) -> Self {
        let nodes = informers.informer::<Node>();
        Self { nodes, own: own.to_owned(), identity, remote: Mutex::default() }
    }

    /// Asks all of them; each answer comes when that node has dropped the pod, or is an error, by `end` at the latest.
    pub(crate) fn ask(&self, uid: &str, end: Instant) -> Vec<BoxFuture<'static, Result<(), Unheard>>> {
        let all: Vec<_> = self.nodes.list().iter().filter_map(|node| peer(node, &self.own)).collect();
        if all.is_empty() {
            return Vec::new();
        }
        let unheard = |why: String| vec![async { Err(why) }.boxed()];
        if all.len() > MOST {
            return unheard(format!("{} nodes are too many to be asked", all.len()));
        }
        let remote = match self.remote() {
            Ok(remote) => remote,
            Err(error) => return unheard(error),
        };
        let patience = end.saturating_duration_since(Instant::now()).min(PATIENCE);
        all.into_iter()
            .map(|address| ask(remote.clone(), address, uid.to_owned(), patience).boxed())
            .collect()
    }

    fn remote(&self) -> Result<Remote, Unheard> {
        let mut known = self.remote.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((remote, since)) = &*known
            && since.elapsed() < FRESH
        {
            return Ok(remote.clone());
        }
        let read =
            |path: &PathBuf| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
        let identity =
            Identity { certificate: read(&self.identity.certificate)?, key: read(&self.identity.key)? };
        // Their certificates may be their own: an agent that nobody gave one makes it. What they answer is no secret.
        let tls = client_tls(&Authorities::Anybody, Some(&identity)).map_err(|error| error.to_string())?;
        let remote = Remote::new(tls, Arc::new(SystemNames), ANSWER);
        *known = Some((remote.clone(), Instant::now()));
        Ok(remote)
    }
}

async fn ask(remote: Remote, address: SocketAddr, uid: String, patience: Duration) -> Result<(), Unheard> {
    let request = Request::get(format!("https://{address}/{PATH}/{uid}")).body(Bytes::new());
    let request = request.map_err(|error| format!("{address}: {error}"))?;
    match remote.send(request, patience).await {
        Ok(answer) if answer.status() == StatusCode::OK => Ok(()),
        Ok(answer) => Err(format!("{address}: {}", answer.status())),
        Err(error) => Err(format!("{address}: {error}")),
    }
}
