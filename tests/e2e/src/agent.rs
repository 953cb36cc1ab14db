//! `plimsoll kubelet`: a node agent as a process of its own.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::cluster::{Cluster, program};
use crate::command::run;
use crate::containerd::Containerd;
use crate::machine::{remove_groups, unmount_below};

/// Longest run of a helping command.
const COMMAND: Duration = Duration::from_secs(60);

/// A node agent on a containerd. It ends when dropped; so does what it mounted.
#[derive(Debug)]
pub struct Agent {
    root: PathBuf,
    listen: SocketAddr,
    node: String,
    cgroup: String,
    process: Mutex<Option<Child>>,
}

impl Agent {
    /// An agent of a node that is not started yet, with more lines for its KubeletConfiguration.
    #[track_caller]
    pub fn prepare(cluster: &Cluster, engine: &Containerd, node: &str, config: &str) -> Self {
        let root = cluster.scratch().join("agents").join(node);
        fs::create_dir_all(root.join("manifests")).expect("make a directory");
        let listen =
            TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("find a free port");
        let cgroup = format!("/plimsoll-e2e-{}-{node}", cluster.node());
        // Containers outlive the agent, and their groups with them.
        engine.remove_at_end(&cgroup);
        let config = format!(
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\naddress: 127.0.0.1\n\
             port: {port}\nhealthzPort: 0\ncgroupRoot: {cgroup}\nclusterDomain: cluster.local\n\
             staticPodPath: manifests\nfileCheckFrequency: 1s\nhttpCheckFrequency: 1s\npodLogsDir: {logs}\n\
             containerRuntimeEndpoint: unix://{socket}\n\
             authentication: {{x509: {{clientCAFile: {authority}}}}}\n\
             evictionHard: {{nodefs.available: 1%, imagefs.available: 1%}}\n{config}",
            port = listen.port(),
            logs = root.join("logs").display(),
            socket = engine.socket().display(),
            authority = cluster.data().join("pki/ca.crt").display(),
        );
        fs::write(root.join("kubelet.yaml"), config).expect("write a file");
        Self { root, listen, node: node.to_owned(), cgroup, process: Mutex::default() }
    }

    /// Its folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of its static pods.
    pub fn manifests(&self) -> PathBuf {
        self.root.join("manifests")
    }

    /// Where it serves its API.
    pub fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Its process.
    #[track_caller]
    pub fn process_id(&self) -> u32 {
        self.process.lock().unwrap_or_else(PoisonError::into_inner).as_ref().expect("the agent runs").id()
    }

    /// What it wrote to standard error.
    pub fn log(&self) -> String {
        fs::read_to_string(self.root.join("log")).unwrap_or_default()
    }

    /// Starts it, with more options.
    #[track_caller]
    pub fn start(&self, options: &[&str]) {
        let log =
            File::options().create(true).append(true).open(self.root.join("log")).expect("open the log");
        let child = Command::new(program())
            .args(["kubelet", "--hostname-override", &self.node, "--node-ip", "127.0.0.1", "--root-dir"])
            .arg(&self.root)
            .arg("--config")
            .arg(self.root.join("kubelet.yaml"))
            .args(options)
            .env("PLIMSOLL_LOG", "info,plimsoll_kubelet=debug")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("start an agent");
        *self.process.lock().unwrap_or_else(PoisonError::into_inner) = Some(child);
    }

    /// Starts it for a cluster, where it gets its certificates, and waits until its node is ready.
    #[track_caller]
    pub fn join(&self, cluster: &Cluster) {
        let [bootstrap, own] =
            ["bootstrap", "kubeconfig"].map(|name| self.root.join(name).to_string_lossy().into_owned());
        fs::write(&bootstrap, invite(cluster)).expect("write a file");
        self.start(&["--bootstrap-kubeconfig", &bootstrap, "--kubeconfig", &own]);
        let node = format!("/api/v1/nodes/{}", self.node);
        cluster.wait("the node of the agent is ready", || {
            let node = cluster.api(&node)?;
            let conditions = node["status"]["conditions"].as_array()?;
            conditions.iter().any(|it| it["type"] == "Ready" && it["status"] == "True").then_some(())
        });
    }

    /// Sends it a signal and waits until it has ended.
    #[track_caller]
    pub fn end(&self, signal: &str) -> ExitStatus {
        let mut process = self.process.lock().unwrap_or_else(PoisonError::into_inner);
        let mut child = process.take().expect("the agent runs");
        run(Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]), b"", COMMAND).ok();
        child.wait().expect("wait for the agent")
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        if let Some(mut child) = self.process.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            eprintln!("--- agent\n{}", self.log());
        }
        unmount_below(&self.root);
        remove_groups(&self.cgroup);
    }
}

/// Lets nodes with a token ask for certificates, which are approved at once: a kubeconfig with the token.
pub(crate) fn invite(cluster: &Cluster) -> String {
    let binding = |name: &str, role: &str, group: &str| {
        format!(
            "---\napiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\nmetadata: {{name: {name}}}\n\
             roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: '{role}'}}\n\
             subjects: [{{apiGroup: rbac.authorization.k8s.io, kind: Group, name: '{group}'}}]\n"
        )
    };
    let requests = "system:certificates.k8s.io:certificatesigningrequests";
    let manifest = "apiVersion: v1\nkind: Secret\nmetadata: {name: bootstrap-token-abcdef, namespace: kube-system}\n\
                    type: bootstrap.kubernetes.io/token\n\
                    stringData: {token-id: abcdef, token-secret: 0123456789abcdef, usage-bootstrap-authentication: 'true'}\n"
        .to_owned()
        + &binding("e2e-ask", "system:node-bootstrapper", "system:bootstrappers")
        + &binding("e2e-first", &format!("{requests}:nodeclient"), "system:bootstrappers")
        + &binding("e2e-renew", &format!("{requests}:selfnodeclient"), "system:nodes");
    cluster.manifests(&["apply"], &manifest).ok();
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: it\n\
         clusters: [{{name: it, cluster: {{server: 'https://{}', certificate-authority: {}}}}}]\n\
         users: [{{name: it, user: {{token: abcdef.0123456789abcdef}}}}]\n\
         contexts: [{{name: it, context: {{cluster: it, user: it}}}}]\n",
        cluster.listen(),
        cluster.data().join("pki/ca.crt").display(),
    )
}
