//! The ConfigMaps and Secrets that a pod refers to: each watched by itself, and only while it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::certificates::v1::{ClusterTrustBundle, PodCertificateRequest};
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret};
use plimsoll_client::{Delta, Filter, Informer, Informers, Object};
use plimsoll_podlife::env::{References, config_map_names, secret_names};
use plimsoll_podlife::projection::projection;
use plimsoll_podlife::spec::specs;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;

use crate::volume::volumes;

/// Longest wait for the first answer of the API.
const PATIENCE: Duration = Duration::from_secs(10);

/// The watches of one pod.
pub(crate) struct Watches {
    names: Names,
    config_maps: BTreeMap<String, Informer<ConfigMap>>,
    secrets: BTreeMap<String, Informer<Secret>>,
    trust: Option<Informer<ClusterTrustBundle>>,
    /// Requests for certificates of the node's pods.
    requests: Option<Informer<PodCertificateRequest>>,
    /// Ends with the watches.
    _forwarders: JoinSet<()>,
}

/// The names that a pod refers to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    config_maps: BTreeSet<String>,
    secrets: BTreeSet<String>,
    trust: bool,
    certificates: bool,
}

impl Names {
    pub(crate) fn of(pod: &Pod) -> Self {
        let mut names = Self::default();
        for projection in volumes(pod).filter_map(projection) {
            names.config_maps.extend(projection.config_maps().map(str::to_owned));
            names.secrets.extend(projection.secrets().map(str::to_owned));
            names.trust |= projection.shows_trust();
            names.certificates |= projection.certificates().next().is_some();
        }
        for spec in specs(pod) {
            names.config_maps.extend(config_map_names(&spec.container).map(str::to_owned));
            names.secrets.extend(secret_names(&spec.container).map(str::to_owned));
        }
        names
    }
}

impl Watches {
    /// Begins to watch; every later change of an object is told.
    pub(crate) fn new(informers: &Informers, pod: &Pod, changed: &Arc<Notify>) -> Self {
        let names = Names::of(pod);
        let namespace = pod.metadata.namespace.clone();
        let mut forwarders = JoinSet::new();
        let config_maps = watch(informers, namespace.as_ref(), &names.config_maps, changed, &mut forwarders);
        let secrets = watch(informers, namespace.as_ref(), &names.secrets, changed, &mut forwarders);
        let trust = names.trust.then(|| informers.informer::<ClusterTrustBundle>());
        if let Some(trust) = &trust {
            forwarders.spawn(forward(trust.subscribe(), changed.clone()));
        }
        let requests = names.certificates.then(|| {
            // Agents may look at those of their own node only.
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref()).unwrap_or_default();
            let fields = Some(format!("spec.nodeName={node}"));
            informers.filtered::<PodCertificateRequest>(Filter { namespace: None, labels: None, fields })
        });
        if let Some(requests) = &requests {
            forwarders.spawn(forward(requests.subscribe(), changed.clone()));
        }
        Self { names, config_maps, secrets, trust, requests, _forwarders: forwarders }
    }

    /// A request for a certificate as the API has it.
    pub(crate) async fn certificate_request(
        &self,
        namespace: &str,
        name: &str,
    ) -> Option<Arc<PodCertificateRequest>> {
        let requests = self.requests.as_ref()?;
        tokio::time::timeout(PATIENCE, requests.synced()).await.ok()?;
        requests.get(namespace, name)
    }

    /// Whether the pod still refers to the same objects.
    pub(crate) fn fit(&self, pod: &Pod) -> bool {
        self.names == Names::of(pod)
    }

    /// The objects as they are now.
    pub(crate) async fn read(&self, namespace: &str) -> Result<References, String> {
        let mut trust_bundles = Vec::new();
        if let Some(trust) = &self.trust {
            if tokio::time::timeout(PATIENCE, trust.synced()).await.is_err() {
                return Err("failed to read trust bundles: timed out waiting for the condition".into());
            }
            trust_bundles = trust.list();
        }
        Ok(References {
            trust_bundles,
            config_maps: read(&self.config_maps, namespace).await?,
            secrets: read(&self.secrets, namespace).await?,
            files: BTreeMap::new(),
            certificates: BTreeMap::new(),
        })
    }
}

fn watch<K>(
    informers: &Informers,
    namespace: Option<&String>,
    names: &BTreeSet<String>,
    changed: &Arc<Notify>,
    forwarders: &mut JoinSet<()>,
) -> BTreeMap<String, Informer<K>>
where
    K: Object + kube::Resource<DynamicType = ()>,
{
    let watch = |name: &String| {
        let fields = Some(format!("metadata.name={name}"));
        let informer =
            informers.filtered::<K>(Filter { namespace: namespace.cloned(), labels: None, fields });
        forwarders.spawn(forward(informer.subscribe(), changed.clone()));
        (name.clone(), informer)
    };
    names.iter().map(watch).collect()
}

/// Passes on that something changed after the first content is there.
async fn forward<K>(mut deltas: mpsc::UnboundedReceiver<Delta<K>>, changed: Arc<Notify>) {
    let mut synced = false;
    while let Some(delta) = deltas.recv().await {
        if matches!(delta, Delta::Synced) {
            synced = true;
        } else if synced {
            changed.notify_one();
        }
    }
}

async fn read<K: Object>(
    informers: &BTreeMap<String, Informer<K>>,
    namespace: &str,
) -> Result<BTreeMap<String, Arc<K>>, String> {
    let mut found = BTreeMap::new();
    for (name, informer) in informers {
        if tokio::time::timeout(PATIENCE, informer.synced()).await.is_err() {
            return Err(format!("failed to read \"{name}\": timed out waiting for the condition"));
        }
        found.extend(informer.get(namespace, name).map(|object| (name.clone(), object)));
    }
    Ok(found)
}
