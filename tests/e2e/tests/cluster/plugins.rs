//! Pods that CNI plugins connect: addresses, Services, hostPorts, policies and restarts are as ever.

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use plimsoll_e2e::{Block, Cluster, Namespace, found, get};
use serde_json::{Value, json};

use crate::network::{REQUEST, SERVICE};
use crate::pods::{STAY, pod};
use crate::workloads::web;
use crate::{BUSYBOX, Shared};

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: friends}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: friend}}}]}]
";

/// The plugins' folders, and the cluster that has them.
struct Stage {
    folder: tempfile::TempDir,
    cluster: Cluster,
    block: Block,
}

impl Stage {
    fn start() -> Self {
        let (folder, block) = (tempfile::tempdir().unwrap(), Block::free());
        let conf = folder.path().join("net.d");
        fs::create_dir(&conf).unwrap();
        let plugins =
            found("host-local").expect("CNI plugins in PATH; ./test takes them from Debian's package");
        let (four, bin) = (block.four(), plugins.parent().unwrap());
        let cluster = Cluster::prepare(&[
            &format!("--cluster-cidr={four}.0.0/17"),
            &format!("--service-cluster-ip-range={four}.128.0/17"),
            &format!("--cni-conf-dir={}", conf.display()),
            &format!("--cni-bin-dir={}", bin.display()),
        ]);
        let stage = Self { folder, cluster, block };
        stage.configure(&stage.list());
        stage.cluster.up();
        stage.cluster.busybox(BUSYBOX);
        stage
    }

    /// A bridge whose addresses are none of the node's own range.
    fn list(&self) -> String {
        let (four, data) = (self.block.four(), self.folder.path().join("ipam"));
        let ranges = json!([[{"subnet": format!("{four}.77.0/24")}]]);
        json!({"cniVersion": "1.0.0", "name": "pods", "plugins": [{
            "type": "bridge", "bridge": self.bridge(), "isGateway": true, "hairpinMode": true,
            "ipam": {"type": "host-local", "dataDir": data, "ranges": ranges, "routes": [{"dst": "0.0.0.0/0"}]},
        }]})
        .to_string()
    }

    fn bridge(&self) -> String {
        format!("cni{}", self.block.four().replace('.', "-"))
    }

    fn configure(&self, list: &str) {
        fs::write(self.folder.path().join("net.d/10-pods.conflist"), list).unwrap();
    }

    /// The addresses that the plugin holds for pods.
    fn held(&self) -> Vec<String> {
        held(&self.folder.path().join("ipam/pods"))
    }

    /// Waits until the node says this of itself.
    fn wait_node(&self, ready: &str, message: &str) {
        let path = format!("/api/v1/nodes/{}", self.cluster.node());
        self.cluster.wait(&format!("the node is ready: {ready}, {message}"), || {
            let node = self.cluster.api(&path)?;
            let conditions = node["status"]["conditions"].as_array()?;
            let said = conditions.iter().find(|one| one["type"] == "Ready")?;
            let message = said["message"].as_str().is_some_and(|said| said.contains(message));
            (said["status"] == ready && message).then_some(())
        });
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        self.cluster.down(&[]);
        let _ = std::process::Command::new("ip").args(["link", "delete", &self.bridge()]).status();
    }
}

fn held(folder: &Path) -> Vec<String> {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let names = files.map(|file| file.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.parse::<IpAddr>().is_ok()).collect()
}

fn address(pod: &Value) -> String {
    pod["status"]["podIP"].as_str().unwrap().to_owned()
}

fn asks(space: &Namespace<'_>, from: &str, url: &str) -> bool {
    let script = format!("timeout 2 wget -q -O - http://{url}/ 2>/dev/null || true");
    space.kubectl(&["exec", from, "--", "sh", "-c", &script]).stdout.starts_with("pod: web")
}

pub(crate) fn plugins_connect_pods_instead_of_the_network(_: &Shared) {
    let stage = Stage::start();
    let space = stage.cluster.namespace("plugins");
    let port = std::net::TcpListener::bind("0.0.0.0:0").unwrap().local_addr().unwrap().port();
    let clients = format!("{}---\n{}", pod("friend", STAY, "", ""), pod("stranger", STAY, "", ""));
    let web = web(1, "").replace("containerPort: 8080", &format!("containerPort: 8080, hostPort: {port}"));
    space.apply(&(web + SERVICE + "\n---\n" + &clients));
    space.rollout("web");
    let clients = ["friend", "stranger"].map(|name| address(&space.wait_ready(name)));
    let server = space.ready_pods("web").remove(0);
    let server = address(&space.object(&format!("pods/{server}")).unwrap());
    let within = format!("{}.77.", stage.block.four());
    for address in clients.iter().chain([&server]) {
        assert!(address.starts_with(&within) && stage.held().contains(address), "{address}");
    }

    // By the Service and its name, by the pod, and by the node's port.
    let service = space.object("services/web").unwrap()["spec"]["clusterIP"].as_str().unwrap().to_owned();
    let urls = ["web".to_owned(), service.clone(), format!("{server}:8080")];
    for url in &urls {
        space.wait(&format!("{url} answers"), || asks(&space, "stranger", url).then_some(()));
    }
    let gateway: IpAddr = format!("{within}1").parse().unwrap();
    for address in [SocketAddr::new(service.parse().unwrap(), 80), SocketAddr::new(gateway, port)] {
        space.wait(&format!("{address} answers"), || get(address, "/", REQUEST).ok());
    }

    // Policies hold for what passes the plugin's bridge.
    space.apply(POLICY);
    let kept_out = |from: &str| urls.iter().all(|url| !asks(&space, from, url));
    space.wait("the stranger is kept out", || kept_out("stranger").then_some(()));
    assert!(urls.iter().all(|url| asks(&space, "friend", url)));

    // A start of the program later all is as it was.
    stage.cluster.kill();
    stage.cluster.up();
    assert!(kept_out("stranger") && asks(&space, "friend", "web"));
    let same = ["friend", "stranger"].map(|name| address(&space.object(&format!("pods/{name}")).unwrap()));
    assert_eq!(same, clients);

    // What is broken is told, and heals.
    stage.configure("{");
    stage.wait_node(
        "False",
        "NetworkReady=false reason:NetworkPluginNotReady message:Network plugin returns error: ",
    );
    stage.configure(&stage.list());
    stage.wait_node("True", "");
    space.kubectl(&["delete", "networkpolicy", "friends"]).ok();
    space.wait("the stranger is let in", || asks(&space, "stranger", "web").then_some(()));

    // Who goes gives its address back.
    space.kubectl(&["delete", "pod", "stranger", "--wait=false"]).ok();
    space.wait_gone("pods/stranger");
    space.wait("the address is given back", || (!stage.held().contains(&clients[1])).then_some(()));
    space.apply(&pod("later", STAY, "", ""));
    assert!(address(&space.wait_ready("later")).starts_with(&within));
    stage.cluster.down(&[]);
    assert_eq!(stage.held(), Vec::<String>::new());
}
