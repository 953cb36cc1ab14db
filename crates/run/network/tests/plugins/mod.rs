//! Pods connected by CNI plugins: by a script that writes down what it is asked, and by Debian's where they are found.

use std::fs;
use std::os::fd::AsRawFd;
use std::path::{Path, PathBuf};

use plimsoll_kernel::pod_network::{Attach, PodNetwork};
use plimsoll_network::{CniNetwork, Config, ConnectedBy, Policies, cleanup, run};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::support::{Api, Pod, ask, config, namespace, on_a_machine, until};

/// A plugin that writes its command and what it reads to the file `log` beside its folder, and fails for commands
/// that the file `refuse` there has.
const RECORDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/plugins/recorder.sh");

struct Stage {
    folder: tempfile::TempDir,
    config: Config,
}

impl Stage {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        ["bin", "net.d"].iter().for_each(|name| fs::create_dir(folder.path().join(name)).unwrap());
        let config = Config { connected_by: ConnectedBy::Plugins, ..config(folder.path()) };
        Self { folder, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn script(&self, name: &str) {
        std::os::unix::fs::symlink(RECORDER, self.path("bin").join(name)).unwrap();
    }

    fn configure(&self, name: &str, list: &Value) {
        fs::write(self.path("net.d").join(name), list.to_string()).unwrap();
    }

    async fn open(&self, programs: &Path) -> CniNetwork {
        let own = ["10.42.0.1".parse().unwrap()];
        let programs = vec![self.path("nowhere"), programs.to_owned()];
        CniNetwork::open(&self.config, &own, self.path("net.d"), programs).await.unwrap()
    }

    /// What plugins were asked since the last look: the command with its program, and what it read.
    fn asked(&self) -> Vec<(String, Value)> {
        let text = fs::read_to_string(self.path("log")).unwrap_or_default();
        let _ = fs::remove_file(self.path("log"));
        let read = |line: &str| {
            let (asked, request) = line.split_once('|').unwrap();
            (asked.trim().to_owned(), serde_json::from_str(request).unwrap())
        };
        text.lines().map(read).collect()
    }
}

fn request(id: &str, netns: &fs::File) -> Attach {
    // Plugins are other processes.
    let netns_path = format!("/proc/{}/fd/{}", std::process::id(), netns.as_raw_fd());
    Attach { netns: netns_path.into(), ..Pod::request(id, netns) }
}

fn words(asked: &[(String, Value)]) -> Vec<String> {
    asked.iter().map(|(asked, _)| asked.split(' ').take(3).collect::<Vec<_>>().join(" ")).collect()
}

#[test]
fn plugins_are_asked_as_their_specification_says() {
    on_a_machine(|| async {
        let stage = Stage::new();
        let network = stage.open(&stage.path("bin")).await;
        let uninitialized = "Network plugin returns error: cni plugin not initialized";
        assert_eq!(network.trouble().await.as_deref(), Some(uninitialized));
        stage.configure(
            "10-pods.conflist",
            &json!({"cniVersion": "1.1.0", "name": "pods", "plugins": [
                {"type": "first", "capabilities": {"bandwidth": true}},
                {"type": "second", "capabilities": {"portMappings": true, "ipRanges": true}},
            ]}),
        );
        stage.configure("20-other.conf", &json!({"cniVersion": "1.0.0", "name": "other", "type": "none"}));
        stage.script("first");
        let missing = network.trouble().await.unwrap();
        assert!(
            missing.starts_with("Network plugin returns error: failed to find plugin \"second\" in path ["),
            "{missing}"
        );
        stage.script("second");
        assert_eq!(network.trouble().await, None);
        assert!(words(&stage.asked()).ends_with(&["STATUS first".to_owned(), "STATUS second".to_owned()]));

        network.set_pod_cidr(&["10.42.7.0/24".parse().unwrap()]).await.unwrap();
        let netns = namespace();
        let mut wanted = request("a", &netns);
        wanted.annotations.insert("kubernetes.io/egress-bandwidth".to_owned(), "1M".to_owned());
        wanted.port_mappings = serde_json::from_value(json!([
            {"protocol": "TCP", "containerPort": 8080, "hostPort": 80, "hostIp": null}
        ]))
        .unwrap();
        let attached = network.attach(wanted.clone()).await.unwrap();
        assert_eq!(attached.addresses, ["10.42.7.5".parse::<std::net::IpAddr>().unwrap()]);
        let asked = stage.asked();
        assert_eq!(words(&asked), ["ADD first a", "ADD second a"]);
        assert!(asked[0].0.ends_with("a eth0 IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=a;K8S_POD_INFRA_CONTAINER_ID=a;K8S_POD_UID=1"), "{asked:?}");
        assert_eq!(
            asked[0].1["runtimeConfig"],
            json!({"bandwidth": {"egressRate": 1_000_000, "egressBurst": i32::MAX}})
        );
        assert_eq!(
            asked[1].1["runtimeConfig"],
            json!({
                "portMappings": [{"hostPort": 80, "containerPort": 8080, "protocol": "tcp", "hostIP": ""}],
                "ipRanges": [[{"subnet": "10.42.7.0/24"}]],
            })
        );
        assert_eq!(asked[1].1["prevResult"]["ips"][0]["address"], "10.42.7.5/24");

        // Asked again, it is looked at; after a restart too, and who is gone is told.
        assert_eq!(network.attach(wanted.clone()).await.unwrap(), attached);
        assert_eq!(words(&stage.asked()), ["CHECK first a", "CHECK second a"]);
        let network = stage.open(&stage.path("bin")).await;
        assert_eq!(network.attached(), ["a"]);
        let asked = stage.asked();
        assert_eq!(words(&asked), ["GC first", "GC second"]);
        assert_eq!(asked[0].1["cni.dev/valid-attachments"], json!([{"containerID": "a", "ifname": "eth0"}]));

        // What was made with a list is undone with it, in reverse order, whatever the list is by then.
        fs::remove_file(stage.path("net.d").join("10-pods.conflist")).unwrap();
        network.detach("a").await.unwrap();
        network.detach("a").await.unwrap();
        let asked = stage.asked();
        assert_eq!(words(&asked), ["DEL second a", "DEL first a"]);
        assert_eq!(asked[0].1["prevResult"]["ips"][0]["address"], "10.42.7.5/24");

        // What fails is undone, and told.
        stage.configure("10-pods.conf", &json!({"cniVersion": "1.0.0", "name": "pods", "type": "first"}));
        fs::write(stage.path("refuse"), "ADD").unwrap();
        let error = network.attach(wanted.clone()).await.unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to setup network for sandbox \"a\": plugin type=\"first\" failed (add): no; not now"
        );
        assert_eq!(words(&stage.asked()), ["ADD first a", "DEL first a"]);
        fs::write(stage.path("refuse"), "DEL").unwrap();
        network.attach(wanted).await.unwrap();
        let error = network.detach("a").await.unwrap_err().to_string();
        assert_eq!(
            error,
            "failed to destroy network for sandbox \"a\": plugin type=\"first\" failed (delete): no; not now"
        );
        assert_eq!(network.attached(), ["a"], "it is tried again");
        fs::remove_file(stage.path("refuse")).unwrap();
        stage.asked();
        cleanup(stage.folder.path(), "a1b2c3").await.unwrap();
        assert_eq!(words(&stage.asked()), ["DEL first a"]);
    });
}

/// Where Debian's plugins are, if they are anywhere.
fn debians() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut folders: Vec<_> = std::env::split_paths(&path).collect();
    folders.push(PathBuf::from("/usr/lib/cni"));
    folders.into_iter().find(|folder| folder.join("host-local").is_file() && folder.join("bridge").is_file())
}

/// Opens a network of one of Debian's plugins, with two pods.
async fn connected(stage: &Stage, programs: &Path, mut plugin: Value) -> (CniNetwork, [Pod; 2]) {
    plugin["capabilities"] = json!({"ipRanges": true});
    plugin["ipam"] =
        json!({"type": "host-local", "dataDir": stage.path("ipam"), "routes": [{"dst": "0.0.0.0/0"}]});
    let list = json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [plugin]});
    stage.configure("10-pods.conflist", &list);
    let network = stage.open(programs).await;
    network.set_pod_cidr(&["10.42.7.0/24".parse().unwrap()]).await.unwrap();
    let start = async |name: &str| {
        let netns = namespace();
        let mut wanted = request(name, &netns);
        if name == "a" {
            wanted.port_mappings = serde_json::from_value(json!([
                {"protocol": "TCP", "containerPort": 8080, "hostPort": 8888, "hostIp": null}
            ]))
            .unwrap();
        }
        let attached = network.attach(wanted).await.unwrap();
        let pod = Pod { id: name.to_owned(), netns, address: attached.addresses[0], attached };
        pod.serve(8080);
        pod
    };
    let pods = [start("a").await, start("b").await];
    (network, pods)
}

#[test]
fn debians_plugins_connect_pods() {
    let Some(programs) = debians() else { return };
    let bridge = json!({"type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true});
    for plugin in [bridge, json!({"type": "ptp"})] {
        on_a_machine(|| async {
            let stage = Stage::new();
            let (network, [a, b]) = connected(&stage, &programs, plugin.clone()).await;
            assert_eq!([a.address, b.address].map(|it| it.to_string()), ["10.42.7.2", "10.42.7.3"]);
            assert_eq!(a.ask("10.42.7.3:8080"), "b to 10.42.7.2", "{plugin}");
            assert_eq!(ask("10.42.7.3:8080"), "b to 10.42.7.1", "{plugin}");
            // The kernel's filter for bridges is on in new namespaces; what is done here must do without.
            let _ = fs::write("/proc/sys/net/bridge/bridge-nf-call-iptables", "0");
            leads_to_services(&stage, &a, &b).await;
            for way in ["10.42.0.1:8888", "10.42.7.1:8888"] {
                assert!(ask(way).starts_with("a to ") && b.ask(way).starts_with("a to "), "{way}: hostPort");
            }
            obeys_policies(&network, &a, &b).await;
            network.detach("a").await.unwrap();
            assert_ne!(b.ask("10.42.7.2:8080"), "a to 10.42.7.3");
            assert_eq!(ask("10.42.0.1:8888"), "ConnectionRefused");
            cleanup(stage.folder.path(), "a1b2c3").await.unwrap();
            let held = fs::read_dir(stage.path("ipam/pods")).unwrap().flatten();
            let held: Vec<_> =
                held.filter(|file| file.file_name().to_string_lossy().starts_with("10.")).collect();
            assert!(held.is_empty(), "{held:?}");
        });
    }
}

async fn leads_to_services(stage: &Stage, a: &Pod, b: &Pod) {
    let (api, stop) = (Api::default(), CancellationToken::new());
    api.put_service("web", json!({"clusterIP": "10.43.0.1", "ports": [{"port": 80}]}));
    api.put_endpoints("web", 8080, "TCP", &[(a.address, "here")]);
    tokio::spawn(run(stage.config.clone(), api.client(), stop.clone()));
    until("the Service leads to the pod", || b.ask("10.43.0.1:80").starts_with("a to ")).await;
    until("the node reaches it", || ask("10.43.0.1:80").starts_with("a to ")).await;
    assert!(a.ask("10.43.0.1:80").starts_with("a to "), "a pod reaches itself");
    stop.cancel();
}

async fn obeys_policies(network: &CniNetwork, a: &Pod, b: &Pod) {
    let (api, stop) = (Api::default(), CancellationToken::new());
    api.put_namespace("default");
    ["a", "b"].iter().for_each(|name| api.put_pod(name, None));
    let policies = Policies::with_plugins(network).unwrap();
    let running = tokio::spawn(policies.run(api.client(), stop.clone()));
    let (to_a, to_b) = (format!("{}:8080", a.address), format!("{}:8080", b.address));
    let of_a = |rules: Value| json!({"podSelector": {"matchLabels": {"app": "a"}}, "ingress": rules});
    api.put_policy("web", of_a(json!([])));
    until("a receives nothing", || b.ask(&to_a) == "TimedOut").await;
    assert!(ask(&to_a).starts_with("a to "), "the node");
    assert!(a.ask(&to_b).starts_with("b to "), "answers");
    // Who comes later is isolated from its first packet on.
    api.put_policy(
        "late",
        json!({"podSelector": {"matchLabels": {"app": "late"}}, "policyTypes": ["Egress"]}),
    );
    api.put_pod("late", None);
    until("a policy and a pod are told", || b.ask(&to_b).starts_with("b to ")).await;
    let netns = namespace();
    let attached = network.attach(request("late", &netns)).await.unwrap();
    let late = Pod { id: "late".to_owned(), netns, address: attached.addresses[0], attached };
    assert_eq!(late.ask(&to_b), "TimedOut");
    network.detach("late").await.unwrap();
    api.put_policy("web", of_a(json!([{"from": [{"podSelector": {"matchLabels": {"app": "b"}}}]}])));
    until("b is let in", || b.ask(&to_a).starts_with("a to ")).await;
    stop.cancel();
    running.await.unwrap().unwrap();
}
