//! Joins controller decisions to the API.
//!
//! What enters is a client and its informers; what leaves are writes to the API and Events. Each
//! controller is a row of [`catalogue::ROWS`]: its inputs and the pure decision of `plimsoll-reconcile`
//! that it calls, and what it writes. One runner ([`unit`]) carries them all. Nothing here decides.

mod catalogue;
mod executor;
mod graph;
mod kinds;
mod metrics;
mod output;
mod selection;
#[cfg(test)]
mod testing;
mod unit;
mod units;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use plimsoll_client::{Informers, Term};
use plimsoll_pki::Authority;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use catalogue::names;
pub use graph::{Graph, graph};
pub use metrics::Metrics;
pub use plimsoll_reconcile::autoscale::Settings as Autoscaling;
pub use plimsoll_reconcile::ipam::Masks;
pub use selection::Selection;

/// Keys that a controller works on at once, if nobody says.
const WORKERS: usize = 8;

/// What the controllers need to know about the cluster.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The range that nodes get their pods' addresses from, such as `10.244.0.0/16`; without it nodes
    /// get none.
    pub cluster_cidr: Option<String>,
    /// How much each node gets of it: a /24, a /64 of IPv6.
    pub node_masks: Masks,
    /// The Services' ranges, which nodes must not get where they are parts of the cluster's.
    pub service_cidrs: Vec<String>,
    /// The certificate authority of the API server, told to all pods in `kube-root-ca.crt`.
    pub ca_certificate_pem: String,
    /// Signs approved certificate requests; without it none is signed.
    pub authority: Option<Arc<Authority>>,
    /// How long such a certificate lasts at most; a year if nobody says.
    pub signing_duration: Option<std::time::Duration>,
    /// The file of the key that signs the tokens in Secrets, read for each token, since it may be replaced; without
    /// it none is made.
    pub token_key: Option<PathBuf>,
    /// Which controllers run.
    pub controllers: Selection,
    /// Keys that single controllers work on at once, by name; the others work on 8.
    pub workers: BTreeMap<&'static str, usize>,
    /// How long a node may be silent before it is not ready; 50 s if nobody says.
    pub node_monitor_grace: Option<std::time::Duration>,
    /// How many ended pods are kept, 0 for all; 12,500 if nobody says.
    pub ended_pods: Option<usize>,
    /// TCP ports of the nodes that no Service's load balancer may have; without it nodes are no load balancers, as some
    /// cloud's controllers are about.
    pub balanced_except: Option<Vec<u16>>,
    /// How autoscalers work.
    pub autoscaling: Autoscaling,
    /// Whether they may still act.
    pub term: Term,
    /// Where their queues are counted.
    pub metrics: Arc<Metrics>,
}

impl Config {
    fn workers(&self, name: &str) -> usize {
        self.workers.get(name).copied().unwrap_or(WORKERS)
    }
}

/// Why the controllers cannot run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A controller was named that does not exist.
    #[error("controller \"{0}\": unknown name")]
    UnknownController(String),
    /// The cluster's range cannot be cut into ranges for nodes.
    #[error("cluster CIDR {0}")]
    ClusterCidr(String),
    /// Two controllers would fight.
    #[error("controllers {one} and {two} would both own what {thing}")]
    TwoOwners {
        /// One of them.
        one: &'static str,
        /// The other.
        two: &'static str,
        /// What both write.
        thing: String,
    },
}

/// What a row is built from.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) client: kube::Client,
    pub(crate) informers: Informers,
    kinds: OnceLock<Arc<kinds::Kinds>>,
}

impl Context {
    /// All kinds of the server, followed from the first use on.
    pub(crate) fn kinds(&self) -> Arc<kinds::Kinds> {
        let follow = || Arc::new(kinds::Kinds::follow(self.client.clone(), self.informers.clone()));
        self.kinds.get_or_init(follow).clone()
    }
}

/// Runs the controllers until `shutdown`; decisions that have begun are carried through first.
pub async fn run(
    config: Config,
    client: kube::Client,
    informers: Informers,
    shutdown: CancellationToken,
) -> Result<(), Error> {
    let context = Arc::new(Context { config, client, informers, kinds: OnceLock::new() });
    let tracker = TaskTracker::new();
    let chosen = || catalogue::ROWS.iter().filter(|row| context.config.controllers.includes(row.name));
    output::one_owner_each(&chosen().map(|row| (row.name, row.outputs)).collect::<Vec<_>>())?;
    for row in chosen() {
        tracker.spawn(row.start(&context, shutdown.clone())?);
    }
    tracker.close();
    tracker.wait().await;
    // None may have been chosen.
    shutdown.cancelled().await;
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::time::Duration;

    use plimsoll_client::{Election, ElectionError, EventRecorder};

    use super::*;

    /// Runs some controllers for a while against a server whose watches are late.
    pub(crate) async fn play(server: &testing::Memory, controllers: &str, seconds: u64) {
        let config = Config { controllers: Selection::parse(controllers).unwrap(), ..Config::default() };
        play_as(server, config, seconds).await;
    }

    async fn play_as(server: &testing::Memory, config: Config, seconds: u64) {
        let informers = Informers::new(server.client());
        let stop = CancellationToken::new();
        let running = tokio::spawn(run(config, server.client(), informers, stop.clone()));
        tokio::time::sleep(std::time::Duration::from_secs(seconds)).await;
        stop.cancel();
        running.await.unwrap().unwrap();
    }

    fn set(replicas: u32) -> serde_json::Value {
        serde_json::json!({"apiVersion": "apps/v1", "kind": "ReplicaSet",
            "metadata": {"name": "web", "namespace": "ns", "uid": "set", "generation": 1},
            "spec": {"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
                "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": []}}}})
    }

    const SET: &str = "/apis/apps/v1/namespaces/ns/replicasets/web";
    const PODS: &str = "/api/v1/pods";

    #[tokio::test(start_paused = true)]
    async fn no_replica_is_made_or_deleted_twice_though_watches_are_late() {
        let server = testing::Memory::default();
        server.put(SET, set(5));
        play(&server, "replicaset-controller", 120).await;
        assert_eq!(server.paths(PODS).len(), 5);
        assert_eq!(server.get(SET).unwrap()["status"]["replicas"], 5);

        let mut smaller = server.get(SET).unwrap();
        smaller["spec"]["replicas"] = serde_json::json!(2);
        server.put(SET, smaller);
        play(&server, "replicaset-controller", 120).await;
        let count = |what: &str| server.log().iter().filter(|line| line.starts_with(what)).count();
        assert_eq!((server.paths(PODS).len(), count("POST /api"), count("DELETE")), (2, 5, 3));
        let writes = server.log().len();
        play(&server, "replicaset-controller", 600).await;
        assert_eq!(server.log().len(), writes, "at rest nothing is written");
    }

    /// Takes the lead as `name` as soon as it can and then runs the ReplicaSet controller.
    async fn lead(server: testing::Memory, name: &str, stop: CancellationToken) -> Result<(), ElectionError> {
        let election = Election {
            namespace: "kube-system".to_owned(),
            name: "kube-controller-manager".to_owned(),
            identity: name.to_owned(),
            lease_duration: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        };
        let controllers = Selection::parse("replicaset-controller").unwrap();
        let events = EventRecorder::new(server.client(), "test", None);
        let client = server.client();
        let work = async |stop, term| {
            let config = Config { controllers, term, ..Config::default() };
            let informers = Informers::new(server.client());
            run(config, server.client(), informers, stop).await.unwrap();
        };
        election.lead(client, &events, stop, work).await
    }

    const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/kube-controller-manager";

    fn holder(server: &testing::Memory) -> (String, i64) {
        let lease = server.get(LEASE).unwrap_or_default();
        let transitions = lease["spec"]["leaseTransitions"].as_i64().unwrap_or(-1);
        (lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned(), transitions)
    }

    #[tokio::test(start_paused = true)]
    async fn one_of_two_works_and_hands_over_when_it_is_told_to_end() {
        let server = testing::Memory::default();
        server.put(SET, set(5));
        let (stop, stop_second) = (CancellationToken::new(), CancellationToken::new());
        let first = tokio::spawn(lead(server.clone(), "a", stop.clone()));
        tokio::time::sleep(Duration::from_millis(1)).await;
        let second = tokio::spawn(lead(server.clone(), "b", stop_second.clone()));
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((holder(&server), server.paths(PODS).len()), (("a".to_owned(), 0), 5));

        let mut larger = server.get(SET).unwrap();
        larger["spec"]["replicas"] = serde_json::json!(9);
        server.put(SET, larger);
        stop.cancel();
        first.await.unwrap().unwrap();
        assert_eq!(holder(&server).0, "", "the lease is free at once");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((holder(&server), server.paths(PODS).len()), (("b".to_owned(), 1), 9));
        stop_second.cancel();
        second.await.unwrap().unwrap();
        let made = server.log().iter().filter(|line| line.starts_with("POST /api/v1")).count();
        assert_eq!(made, 9, "no pod was made twice");
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_cannot_renew_does_nothing_more_and_another_takes_over() {
        let server = testing::Memory::default();
        server.put(SET, set(5));
        let first = tokio::spawn(lead(server.clone(), "a", CancellationToken::new()));
        tokio::time::sleep(Duration::from_secs(30)).await;
        let second = tokio::spawn(lead(server.clone(), "b", CancellationToken::new()));
        // Somebody else writes the lease: what the first one knows of it is old, and what it reads is not its own.
        let mut lease = server.get(LEASE).unwrap();
        lease["spec"]["holderIdentity"] = serde_json::json!("c");
        server.put(LEASE, lease);
        assert!(matches!(first.await.unwrap(), Err(ElectionError::Lost)));
        let mut larger = server.get(SET).unwrap();
        larger["spec"]["replicas"] = serde_json::json!(9);
        server.put(SET, larger);
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(server.paths(PODS).len(), 5, "tasks of the first one are still there, but may not write");
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert_eq!((holder(&server).0, server.paths(PODS).len()), ("b".to_owned(), 9));
        second.abort();
    }

    #[tokio::test(start_paused = true)]
    async fn an_autoscaler_asks_for_metrics_and_writes_the_scale() {
        let server = testing::Memory::default();
        let old = k8s_openapi::jiff::Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_hours(1);
        let pod = |name: &str| {
            let ready = serde_json::json!([{"type": "Ready", "status": "True", "lastTransitionTime": old.to_string()}]);
            serde_json::json!({"apiVersion": "v1", "kind": "Pod",
                "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1"}}}]},
                "status": {"phase": "Running", "startTime": old.to_string(), "conditions": ready}})
        };
        let used = |name: &str| {
            serde_json::json!({"metadata": {"name": name}, "timestamp": old.to_string(), "window": "15s",
                "containers": [{"name": "c", "usage": {"cpu": "900m", "memory": "1Mi"}}]})
        };
        for name in ["a", "b"] {
            server.put(&format!("/api/v1/namespaces/ns/pods/{name}"), pod(name));
        }
        let metrics = serde_json::json!({"items": [used("a"), used("b")]});
        server.put("/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods", metrics);
        let scale = "/apis/apps/v1/namespaces/ns/deployments/web/scale";
        server.put(
            scale,
            serde_json::json!({"metadata": {"name": "web", "namespace": "ns"}, "spec": {"replicas": 2},
                "status": {"replicas": 2, "selector": "app=web"}}),
        );
        let hpa = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/web";
        let aim = serde_json::json!({"type": "Utilization", "averageUtilization": 50});
        server.put(
            hpa,
            serde_json::json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "web", "namespace": "ns", "uid": "hpa"},
                "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
                    "maxReplicas": 10, "metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": aim}}]}}),
        );
        play(&server, "horizontal-pod-autoscaler-controller", 10).await;
        assert_eq!(server.get(scale).unwrap()["spec"]["replicas"], 4);
        let status = server.get(hpa).unwrap()["status"].clone();
        assert_eq!(status["desiredReplicas"], 4, "{status}");
        assert_eq!(status["currentMetrics"][0]["resource"]["current"]["averageUtilization"], 90, "{status}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_autoscaler_goes_by_metrics_of_every_kind() {
        use serde_json::json;
        let now = k8s_openapi::jiff::Timestamp::now().to_string();
        let average = json!({"type": "AverageValue", "averageValue": "10"});
        let selector = json!({"matchLabels": {"queue": "mail"}});
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "name": "ns"});
        let of_pods = json!({"items": [
            {"describedObject": {"name": "a"}, "value": "20", "timestamp": now, "windowSeconds": 30},
            {"describedObject": {"name": "b"}, "value": "30", "timestamp": now},
        ]});
        let custom = "/apis/custom.metrics.k8s.io/v1beta1/namespaces/ns";
        let external = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ns/jobs";
        let container = json!({"items": [
            {"metadata": {"name": "a"}, "timestamp": now, "window": "15s", "containers": [
                {"name": "c", "usage": {"cpu": "15"}}, {"name": "sidecar", "usage": {"cpu": "900"}}]},
            {"metadata": {"name": "b"}, "timestamp": now, "window": "15s", "containers": [{"name": "c", "usage": {"cpu": "25"}}]},
        ]});
        // A metric, where it is served, what is served there, the size that it asks for.
        let cases = [
            (
                json!({"type": "Pods", "pods": {"metric": {"name": "depth"}, "target": average}}),
                format!("{custom}/pods/*/depth"),
                of_pods,
                5,
            ),
            (
                json!({"type": "Object", "object": {"metric": {"name": "load"}, "describedObject": namespace, "target": {"type": "Value", "value": "3"}}}),
                format!("{custom}/metrics/load"),
                json!({"items": [{"value": "9"}]}),
                6,
            ),
            (
                json!({"type": "External", "external": {"metric": {"name": "jobs", "selector": selector}, "target": average}}),
                external.to_owned(),
                json!({"items": [{"value": "33"}, {"value": "8500m"}]}),
                5,
            ),
            (
                json!({"type": "ContainerResource", "containerResource": {"name": "cpu", "container": "c", "target": average}}),
                "/apis/metrics.k8s.io/v1beta1/namespaces/ns/pods".to_owned(),
                container,
                4,
            ),
        ];
        for (metric, path, served, expected) in cases {
            let server = testing::Memory::default();
            for name in ["a", "b"] {
                let pod = json!({"apiVersion": "v1", "kind": "Pod",
                    "metadata": {"name": name, "namespace": "ns", "labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c"}]},
                    "status": {"phase": "Running", "startTime": "2020-01-01T00:00:00Z", "conditions": [
                        {"type": "Ready", "status": "True", "lastTransitionTime": "2020-01-01T00:00:00Z"}]}});
                server.put(&format!("/api/v1/namespaces/ns/pods/{name}"), pod);
            }
            let scale = "/apis/apps/v1/namespaces/ns/deployments/web/scale";
            server.put(
                scale,
                json!({"spec": {"replicas": 2}, "status": {"replicas": 2, "selector": "app=web"}}),
            );
            server.put(&path, served);
            let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
            let hpa = "/apis/autoscaling/v2/namespaces/ns/horizontalpodautoscalers/web";
            let policy = json!({"type": "Pods", "value": 10, "periodSeconds": 15});
            let behavior = json!({"scaleUp": {"policies": [policy]}, "scaleDown": {}});
            let spec = json!({"scaleTargetRef": target, "maxReplicas": 8, "metrics": [metric], "behavior": behavior});
            server.put(
                hpa,
                json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler",
                    "metadata": {"name": "web", "namespace": "ns", "uid": "hpa"}, "spec": spec}),
            );
            play(&server, "horizontal-pod-autoscaler-controller", 10).await;
            let size = server.get(scale).unwrap()["spec"]["replicas"].clone();
            let status = server.get(hpa).unwrap()["status"].clone();
            assert_eq!(size, expected, "{metric} {status}");
            assert_eq!(status["currentMetrics"][0]["type"], metric["type"], "{status}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_proportional_autoscaler_follows_nodes_and_holds_the_size() {
        use serde_json::json;
        let server = testing::Memory::default();
        let node = |name: &str| {
            let status =
                json!({"allocatable": {"cpu": "4"}, "conditions": [{"type": "Ready", "status": "True"}]});
            server.put(
                &format!("/api/v1/nodes/{name}"),
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}, "status": status}),
            );
        };
        let deployment = "/apis/apps/v1/namespaces/ns/deployments/web";
        server.put(deployment, json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "ns"}}));
        let scale = format!("{deployment}/scale");
        server.put(&scale, json!({"spec": {"replicas": 1}}));
        let path = "/apis/autoscaling.plimsoll.io/v1/namespaces/ns/proportionalautoscalers/web";
        let target = json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"});
        server.put(
            path,
            json!({"metadata": {"name": "web", "namespace": "ns", "uid": "pa"},
            "spec": {"scaleTargetRef": target, "linear": {"nodesPerReplica": 1}}}),
        );
        let size = || server.get(&scale).unwrap()["spec"]["replicas"].clone();
        ["a", "b"].iter().for_each(|name| node(name));
        play(&server, "proportional-autoscaler-controller", 10).await;
        assert_eq!(size(), 2);
        node("c");
        play(&server, "proportional-autoscaler-controller", 10).await;
        let status = server.get(path).unwrap()["status"].clone();
        assert_eq!(
            (size(), &status["nodes"], &status["cores"]),
            (json!(3), &json!(3), &json!(12)),
            "{status}"
        );
        play(&server, "proportional-autoscaler-controller", 10).await;
        let writes = server.log().len();
        play(&server, "proportional-autoscaler-controller", 600).await;
        assert_eq!(server.log().len(), writes, "at rest nothing is written");
    }

    #[tokio::test(start_paused = true)]
    async fn controllers_work_hand_in_hand() {
        let server = testing::Memory::default();
        let template = set(0)["spec"]["template"].clone();
        server.put(
            "/apis/apps/v1/namespaces/ns/deployments/web",
            serde_json::json!({"apiVersion": "apps/v1", "kind": "Deployment",
                "metadata": {"name": "web", "namespace": "ns", "uid": "deployment", "generation": 1},
                "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}}, "template": template,
                    "strategy": {"type": "RollingUpdate"}}}),
        );
        play(&server, "deployment-controller,replicaset-controller", 200).await;
        assert_eq!(server.paths("/apis/apps/v1/replicasets").len(), 1);
        assert_eq!(server.paths(PODS).len(), 3);
        let deployment = server.get("/apis/apps/v1/namespaces/ns/deployments/web").unwrap();
        assert_eq!(deployment["metadata"]["annotations"]["deployment.kubernetes.io/revision"], "1");
        assert_eq!(deployment["status"]["unavailableReplicas"], 3);
    }

    #[tokio::test(start_paused = true)]
    async fn requests_of_node_agents_are_signed_and_cleaned_up() {
        use base64::Engine;
        let base64 = base64::engine::general_purpose::STANDARD;
        let server = testing::Memory::default();
        // Written by `openssl req` for system:node:n of system:nodes, with a DNS name and an address.
        let asked = base64.encode(include_str!("testdata/agent.csr"));
        let request = |name: &str, conditions: serde_json::Value, certificate: Option<&str>| {
            serde_json::json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
                "metadata": {"name": name, "uid": name, "creationTimestamp": "2020-01-01T00:00:00Z"},
                "spec": {"request": asked, "signerName": "kubernetes.io/kubelet-serving", "username": "system:node:n",
                    "groups": ["system:nodes"], "usages": ["digital signature", "server auth"]},
                "status": {"conditions": conditions, "certificate": certificate}})
        };
        let decided = |kind: &str, at: &str| serde_json::json!([{"type": kind, "status": "True", "reason": "r", "lastUpdateTime": at, "lastTransitionTime": at}]);
        let now = k8s_openapi::jiff::Timestamp::now();
        let path = |name: &str| format!("/apis/certificates.k8s.io/v1/certificatesigningrequests/{name}");
        let old = "2020-01-01T00:00:00Z";
        for (name, conditions, certificate) in [
            ("approved", decided("Approved", &now.to_string()), None),
            ("denied", decided("Denied", old), None),
            ("issued", decided("Approved", old), Some("YQ==")),
            ("forgotten", serde_json::json!([]), None),
            ("failed", decided("Failed", &now.to_string()), None),
        ] {
            server.put(&path(name), request(name, conditions, certificate));
        }
        let folder = tempfile::tempdir().unwrap();
        let authority = plimsoll_pki::Authority::ensure(folder.path(), "ca", "test-ca").unwrap();
        let config = Config {
            controllers: Selection::parse(
                "certificatesigningrequest-signing-controller,certificatesigningrequest-cleaner-controller",
            )
            .unwrap(),
            authority: Some(Arc::new(authority)),
            signing_duration: Some(std::time::Duration::from_secs(3600)),
            ..Config::default()
        };
        play_as(&server, config, 60).await;
        let requests = server.paths("/apis/certificates.k8s.io/v1/certificatesigningrequests");
        assert_eq!(requests, [path("approved"), path("failed")], "the others' time is over");
        let signed = server.get(&path("approved")).unwrap();
        let certificate = base64.decode(signed["status"]["certificate"].as_str().unwrap()).unwrap();
        let lasts = plimsoll_pki::not_after(&certificate).unwrap() - now.as_second();
        assert!((3600..3700).contains(&lasts), "{lasts}");
    }
}
