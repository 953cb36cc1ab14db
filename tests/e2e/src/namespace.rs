//! A namespace of a shared cluster: tests do not meet.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::command::{Background, Outcome};

/// A namespace, deleted when dropped.
#[derive(Debug)]
pub struct Namespace<'a> {
    cluster: &'a Cluster,
    name: String,
}

impl<'a> Namespace<'a> {
    pub(crate) fn new(cluster: &'a Cluster, name: &str) -> Self {
        Self { cluster, name: name.to_owned() }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The cluster it is in.
    pub fn cluster(&self) -> &'a Cluster {
        self.cluster
    }

    /// kubectl in this namespace, not started yet.
    pub fn kubectl_command(&self, arguments: &[&str]) -> Command {
        self.cluster.kubectl_command(&[&["--namespace", self.name.as_str()], arguments].concat())
    }

    /// Runs kubectl in this namespace.
    pub fn kubectl(&self, arguments: &[&str]) -> Outcome {
        self.cluster.kubectl(&[&["--namespace", self.name.as_str()], arguments].concat())
    }

    /// Runs kubectl in this namespace with `input` on its standard input.
    pub fn kubectl_with(&self, arguments: &[&str], input: &[u8]) -> Outcome {
        self.cluster.kubectl_with(&[&["--namespace", self.name.as_str()], arguments].concat(), input)
    }

    /// Runs `kubectl ARGUMENTS -f -` in this namespace with manifests in YAML.
    pub fn manifests(&self, arguments: &[&str], text: &str) -> Outcome {
        self.cluster.manifests(&[&["--namespace", self.name.as_str()], arguments].concat(), text)
    }

    /// Starts kubectl in this namespace and goes on.
    pub fn follow(&self, arguments: &[&str]) -> Background {
        Background::start(&mut self.kubectl_command(arguments))
    }

    /// Applies manifests, which must succeed.
    #[track_caller]
    pub fn apply(&self, manifests: &str) -> String {
        self.manifests(&["apply"], manifests).ok()
    }

    /// Runs `script` by the shell of `pod`, which must succeed.
    #[track_caller]
    pub fn sh(&self, pod: &str, script: &str) -> String {
        self.kubectl(&["exec", pod, "--", "sh", "-c", script]).ok()
    }

    /// The objects below `path`, such as `pods` or `pods?labelSelector=app%3Dweb` (core) or
    /// `apps/v1/deployments`.
    pub fn list(&self, path: &str) -> Vec<Value> {
        let list = self.cluster.api(&self.path(path));
        list.and_then(|mut list| Some(list["items"].as_array_mut()?.split_off(0))).unwrap_or_default()
    }

    /// One object: `pods/web` or `apps/v1/deployments/web`.
    pub fn object(&self, path: &str) -> Option<Value> {
        self.cluster.api(&self.path(path))
    }

    fn path(&self, path: &str) -> String {
        let plain = path.split('?').next().unwrap_or_default();
        match plain.split('/').collect::<Vec<_>>()[..] {
            [group, version, _] | [group, version, _, _] if version.starts_with('v') => {
                let rest = &path[group.len() + version.len() + 2..];
                format!("/apis/{group}/{version}/namespaces/{}/{rest}", self.name)
            }
            _ => format!("/api/v1/namespaces/{}/{path}", self.name),
        }
    }

    /// Waits for a condition in this namespace.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, look: impl FnMut() -> Option<T>) -> T {
        self.cluster.wait(what, look)
    }

    /// Waits until `object` looks as `wanted` says, and returns it.
    #[track_caller]
    pub fn wait_object(&self, what: &str, path: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.cluster.wait(&format!("{path}: {what}"), || self.object(path).filter(|object| wanted(object)))
    }

    /// Waits until a pod is ready.
    #[track_caller]
    pub fn wait_ready(&self, pod: &str) -> Value {
        self.wait_object("ready", &format!("pods/{pod}"), |pod| {
            condition(pod, "Ready").as_deref() == Some("True")
        })
    }

    /// Waits until a pod ended and returns it.
    #[track_caller]
    pub fn wait_ended(&self, pod: &str) -> Value {
        self.wait_object("ended", &format!("pods/{pod}"), |pod| {
            matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed"))
        })
    }

    /// Waits until an object is gone.
    #[track_caller]
    pub fn wait_gone(&self, path: &str) {
        self.cluster.wait(&format!("{path}: gone"), || self.object(path).is_none().then_some(()));
    }

    /// Waits for an event about `object` with this reason.
    #[track_caller]
    pub fn wait_event(&self, object: &str, reason: &str) -> Value {
        self.cluster.wait(&format!("an event {reason} about {object}"), || {
            let mut events = self.list("events").into_iter();
            events.find(|event| event["involvedObject"]["name"] == object && event["reason"] == reason)
        })
    }

    /// Waits until the Deployment is rolled out, as kubectl sees it.
    #[track_caller]
    pub fn rollout(&self, deployment: &str) -> String {
        self.kubectl(&["rollout", "status", &format!("deployment/{deployment}"), "--timeout=90s"]).ok()
    }

    /// Names of the pods with this label, ready ones only.
    pub fn ready_pods(&self, app: &str) -> Vec<String> {
        let pods = self.list(&format!("pods?labelSelector=app%3D{app}"));
        let ready = pods.iter().filter(|pod| {
            condition(pod, "Ready").as_deref() == Some("True")
                && pod["metadata"]["deletionTimestamp"].is_null()
        });
        ready.filter_map(|pod| Some(pod["metadata"]["name"].as_str()?.to_owned())).collect()
    }

    /// Repeats kubectl until `wanted` accepts its output.
    #[track_caller]
    pub fn until(&self, arguments: &[&str], limit: Duration, wanted: impl Fn(&str) -> bool) -> String {
        self.cluster.wait_for(&format!("kubectl {}", arguments.join(" ")), limit, || {
            Some(self.kubectl(arguments))
                .filter(|outcome| outcome.code == 0)
                .map(|outcome| outcome.stdout)
                .filter(|text| wanted(text))
        })
    }
}

/// The status of a condition.
fn condition(object: &Value, name: &str) -> Option<String> {
    let conditions = object["status"]["conditions"].as_array()?;
    Some(conditions.iter().find(|condition| condition["type"] == name)?["status"].as_str()?.to_owned())
}

impl Drop for Namespace<'_> {
    fn drop(&mut self) {
        // A failed test's namespace is gone with its cluster; what is in it goes on meanwhile.
        if !std::thread::panicking() {
            self.cluster.kubectl(&["delete", "namespace", &self.name, "--wait=false"]);
        }
    }
}
