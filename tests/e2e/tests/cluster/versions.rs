//! The same work with kubectls of several versions: each has its own way of asking.

use plimsoll_e2e::{Background, Namespace, Outcome, found, get, run, skip};
use std::process::Command;
use std::time::Duration;

use crate::pods::{STAY, pod};
use crate::workloads::web;
use crate::{PATIENCE, Shared};

pub(crate) fn the_usual_kubectl_works(shared: &Shared) {
    Kubectl::new(&shared.cluster().namespace("kubectl-usual"), "kubectl").works();
}

pub(crate) fn kubectl_1_33_works(shared: &Shared) {
    Kubectl::new(&shared.cluster().namespace("kubectl-33"), "kubectl-1.33").works();
}

pub(crate) fn kubectl_1_35_works(shared: &Shared) {
    Kubectl::new(&shared.cluster().namespace("kubectl-35"), "kubectl-1.35").works();
}

/// A kubectl of one version in a namespace of its own.
struct Kubectl<'a> {
    space: &'a Namespace<'a>,
    program: &'static str,
}

impl<'a> Kubectl<'a> {
    fn new(space: &'a Namespace<'a>, program: &'static str) -> Self {
        if found(program).is_none() {
            skip(&format!("no {program} in PATH"));
        }
        Self { space, program }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let cluster = self.space.cluster();
        let mut command = cluster.client(self.program);
        command.arg("--cache-dir").arg(cluster.scratch().join(self.program));
        command.args(["--namespace", self.space.name()]).args(arguments);
        command
    }

    fn run(&self, arguments: &[&str], input: &str) -> Outcome {
        run(&mut self.command(arguments), input.as_bytes(), PATIENCE)
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.run(arguments, "").ok()
    }

    #[track_caller]
    fn says(&self, arguments: &[&str], parts: &[&str]) {
        let text = self.ok(arguments);
        for part in parts {
            assert!(text.contains(part), "{} {arguments:?}: no {part} in\n{text}", self.program);
        }
    }

    fn works(&self) {
        self.reads();
        self.applies();
        self.follows_workloads();
        self.reaches_into_pods();
    }

    fn reads(&self) {
        self.says(&["version"], &["Client Version: v1.", "Server Version: v1.37."]);
        self.says(&["api-resources"], &["deployments", "apps/v1", "Deployment"]);
        self.says(&["explain", "deployment.spec.replicas"], &["FIELD: replicas <integer>"]);
        self.says(&["auth", "whoami"], &["Username", "system:masters"]);
        self.says(&["auth", "can-i", "create", "pods"], &["yes"]);
        self.says(&["get", "nodes", "-o", "wide"], &[self.space.cluster().node(), "Ready"]);
    }

    fn applies(&self) {
        let map = |value: &str| {
            format!(
                "---\n{{apiVersion: v1, kind: ConfigMap, metadata: {{name: c}}, data: {{a: {value}, b: x}}}}"
            )
        };
        let applied = |value: &str| self.run(&["apply", "-f", "-"], &map(value)).ok();
        assert_eq!(applied("one").trim(), "configmap/c created");
        assert_eq!(applied("one").trim(), "configmap/c unchanged");
        let diff = self.run(&["diff", "-f", "-"], &map("two"));
        assert_eq!(diff.code, 1, "{diff:?}");
        assert!(diff.stdout.contains("-  a: one") && diff.stdout.contains("+  a: two"), "{diff:?}");
        assert_eq!(applied("two").trim(), "configmap/c configured");
        assert_eq!(self.run(&["diff", "-f", "-"], &map("two")).code, 0);
        let text = self.run(&["apply", "--server-side", "-f", "-"], &map("three")).ok();
        assert_eq!(text.trim(), "configmap/c serverside-applied");
        self.ok(&["label", "configmap", "c", "tier=high"]);
        self.ok(&["patch", "configmap", "c", "--type=merge", "-p", r#"{"data":{"b":null}}"#]);
        assert_eq!(
            self.ok(&["get", "configmap", "c", "-o", "jsonpath={.data}{.metadata.labels.tier}"]),
            r#"{"a":"three"}high"#
        );
    }

    fn follows_workloads(&self) {
        let text = self.run(&["create", "-f", "-"], &web(1, "")).ok();
        assert_eq!(text.trim(), "deployment.apps/web created");
        self.says(&["rollout", "status", "deployment/web", "--timeout=60s"], &["successfully rolled out"]);
        self.ok(&["scale", "deployment", "web", "--replicas=2"]);
        self.ok(&["wait", "deployment/web", "--for=jsonpath={.status.readyReplicas}=2", "--timeout=60s"]);
        self.says(&["get", "deployment,replicaset,pods"], &["deployment.apps/web", "2/2", "Running"]);
        self.says(&["describe", "deployment", "web"], &["2 desired", "ScalingReplicaSet"]);
        self.says(&["events", "--for=deployment/web"], &["ScalingReplicaSet"]);
        self.ok(&["delete", "deployment", "web", "--timeout=60s"]);
    }

    fn reaches_into_pods(&self) {
        self.run(&["apply", "-f", "-"], &pod("box", &format!("echo hello; {STAY}"), "", "")).ok();
        self.ok(&["wait", "pod/box", "--for=condition=Ready", "--timeout=60s"]);
        assert_eq!(self.ok(&["logs", "box"]), "hello\n");
        assert_eq!(self.run(&["exec", "-i", "box", "--", "cat"], "through").ok(), "through");
        assert_eq!(self.run(&["exec", "box", "--", "sh", "-c", "exit 7"], "").code, 7);
        let file = self.space.cluster().scratch().join(self.space.name());
        self.ok(&["cp", "box:/etc/passwd", &file.to_string_lossy()]);
        assert!(std::fs::read_to_string(&file).unwrap().starts_with("root:"));
        self.ok(&["run", "demo", "--image=plimsoll.io/demo", "--port=8080"]);
        self.ok(&["wait", "pod/demo", "--for=condition=Ready", "--timeout=60s"]);
        let mut forward = Background::start(&mut self.command(&["port-forward", "pod/demo", ":8080"]));
        let line = forward.line(PATIENCE, |line| line.starts_with("Forwarding from 127.0.0.1:"));
        let port = line.trim_start_matches("Forwarding from 127.0.0.1:").split(' ').next().unwrap();
        let address = format!("127.0.0.1:{port}").parse().unwrap();
        assert_eq!(get(address, "/", Duration::from_secs(10)).unwrap().status, 200);
        let mut watch = Background::start(&mut self.command(&["get", "pods", "--watch", "--no-headers"]));
        watch.line(PATIENCE, |line| line.starts_with("box"));
        self.ok(&["delete", "pod", "box", "demo", "--timeout=60s"]);
    }
}
