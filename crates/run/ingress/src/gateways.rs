//! The Gateway API as the cluster has it: read here, decided in `decide/route`, its status written by [`crate::told`].

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Node, Service};
use k8s_openapi::jiff::Timestamp;
use plimsoll_client::{Informer, Informers, Object};
use plimsoll_route::gateway::{
    GRPCRoute, Gateway, GatewayClass, HTTPRoute, Plan, Ports, ReferenceGrant, RouteDraft, RouteKind,
    TLSRoute, World, plan,
};
use plimsoll_route::{SecretKey, gateway};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::Config;
use crate::definitions::{self, Definition};
use crate::listen::States;
use crate::status::addresses;

/// Kinds that may not be there are waited for so long.
const PATIENCE: Duration = Duration::from_secs(5);

type Key = (RouteKind, String, String);

/// The objects that decide about Gateways.
pub(crate) struct Gateways {
    definitions: Informer<Definition>,
    classes: Informer<GatewayClass>,
    gateways: Informer<Gateway>,
    http: Informer<HTTPRoute>,
    grpc: Informer<GRPCRoute>,
    tls: Informer<TLSRoute>,
    grants: Informer<ReferenceGrant>,
    namespaces: Informer<Namespace>,
    nodes: Informer<Node>,
    /// With the version of each route.
    drafts: HashMap<Key, (String, Arc<RouteDraft>)>,
    node_name: String,
    ports: Ports,
    /// Rings at every change.
    bell: Arc<Notify>,
    /// Whether all was read once. Where somebody removed the kinds that never happens, and Ingresses go on without.
    complete: Arc<AtomicBool>,
    _listening: JoinSet<()>,
}

/// What is known beside the objects of the Gateway API.
pub(crate) struct Surroundings<'a> {
    pub(crate) services: &'a Informer<Service>,
    pub(crate) certificate: &'a dyn Fn(&SecretKey) -> Result<Option<String>, String>,
    pub(crate) states: &'a States,
}

impl Gateways {
    pub(crate) fn new(informers: &Informers, config: &Config) -> Self {
        let (bell, complete) = (Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let mut all = Self {
            definitions: definitions::informer(informers),
            classes: informers.informer(),
            gateways: informers.informer(),
            http: informers.informer(),
            grpc: informers.informer(),
            tls: informers.informer(),
            grants: informers.informer(),
            namespaces: informers.informer(),
            nodes: informers.informer(),
            drafts: HashMap::new(),
            node_name: config.node_name.clone(),
            ports: Ports { http: config.http.port(), https: config.https.port() },
            bell,
            complete,
            _listening: JoinSet::new(),
        };
        let mut listening = JoinSet::new();
        listen(&all.definitions, &all.bell, &mut listening);
        listen(&all.classes, &all.bell, &mut listening);
        listen(&all.gateways, &all.bell, &mut listening);
        listen(&all.http, &all.bell, &mut listening);
        listen(&all.grpc, &all.bell, &mut listening);
        listen(&all.tls, &all.bell, &mut listening);
        listen(&all.grants, &all.bell, &mut listening);
        listen(&all.namespaces, &all.bell, &mut listening);
        listen(&all.nodes, &all.bell, &mut listening);
        listening.spawn(all.synced());
        all._listening = listening;
        all
    }

    fn synced(&self) -> impl Future<Output = ()> + Send + 'static {
        let (classes, gateways, grants) = (self.classes.clone(), self.gateways.clone(), self.grants.clone());
        let (http, grpc, tls) = (self.http.clone(), self.grpc.clone(), self.tls.clone());
        let (namespaces, nodes, definitions) =
            (self.namespaces.clone(), self.nodes.clone(), self.definitions.clone());
        let (bell, complete) = (self.bell.clone(), self.complete.clone());
        async move {
            definitions.synced().await;
            classes.synced().await;
            gateways.synced().await;
            http.synced().await;
            grants.synced().await;
            namespaces.synced().await;
            nodes.synced().await;
            // Older bundles have not all of these in these versions.
            let _ = tokio::time::timeout(PATIENCE, async { tokio::join!(grpc.synced(), tls.synced()) }).await;
            complete.store(true, Ordering::Relaxed);
            bell.notify_one();
        }
    }

    /// Waits for a change.
    pub(crate) async fn changed(&self) {
        self.bell.notified().await;
    }

    /// Whether Services and Secrets matter to anybody.
    pub(crate) fn any(&self) -> bool {
        !self.gateways.is_empty()
    }

    /// What is to be done now.
    pub(crate) fn plan(&mut self, around: &Surroundings<'_>) -> Plan {
        if !self.complete.load(Ordering::Relaxed) {
            return Plan::default();
        }
        let routes = self.read();
        let labels = |namespace: &str| -> BTreeMap<String, String> {
            let found = self.namespaces.get("", namespace);
            found.and_then(|namespace| namespace.metadata.labels.clone()).unwrap_or_default()
        };
        let node = addresses(self.nodes.get("", &self.node_name).as_deref());
        let addresses: Vec<String> = node.into_iter().filter_map(|address| address.ip).collect();
        let definitions = self.definitions.list();
        let versions: Vec<_> = definitions.iter().map(|one| (one.name(), one.version.as_deref())).collect();
        plan(&World {
            definitions: &versions,
            classes: &self.classes.list(),
            gateways: &self.gateways.list(),
            routes: &routes,
            grants: &self.grants.list(),
            labels: &labels,
            service: &|namespace, name| around.services.get(namespace, name),
            certificate: around.certificate,
            port: &|port| around.states.get(&port).cloned(),
            ingress: self.ports,
            addresses: &addresses,
            now: Timestamp::now(),
        })
    }

    /// Reads the routes that changed.
    fn read(&mut self) -> Vec<Arc<RouteDraft>> {
        let mut known = std::mem::take(&mut self.drafts);
        for route in self.http.list() {
            self.keep(&mut known, RouteKind::Http, &*route, RouteDraft::of_http);
        }
        for route in self.grpc.list() {
            self.keep(&mut known, RouteKind::Grpc, &*route, RouteDraft::of_grpc);
        }
        for route in self.tls.list() {
            self.keep(&mut known, RouteKind::Tls, &*route, RouteDraft::of_tls);
        }
        self.drafts.values().map(|(_, draft)| draft.clone()).collect()
    }

    fn keep<K: Object>(
        &mut self,
        known: &mut HashMap<Key, (String, Arc<RouteDraft>)>,
        kind: RouteKind,
        route: &K,
        read: impl Fn(&K) -> RouteDraft,
    ) {
        let key = (kind, route.namespace().to_owned(), route.name().to_owned());
        let version = route.resource_version();
        let same = known.remove(&key).filter(|(known, _)| known == version);
        let draft = same.unwrap_or_else(|| (version.to_owned(), Arc::new(read(route))));
        self.drafts.insert(key, draft);
    }
}

fn listen<K: Object>(informer: &Informer<K>, bell: &Arc<Notify>, tasks: &mut JoinSet<()>) {
    let (mut changes, bell) = (informer.subscribe(), bell.clone());
    tasks.spawn(async move {
        while changes.recv().await.is_some() {
            bell.notify_one();
        }
    });
}

/// The class that every cluster has.
pub(crate) fn class() -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "gateway.networking.k8s.io/v1", "kind": "GatewayClass", "metadata": {"name": "plimsoll"},
        "spec": {"controllerName": gateway::CONTROLLER},
    })
}
