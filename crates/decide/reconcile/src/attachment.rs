//! Volumes of CSI drivers are attached to nodes whose pods use them, and detached when no pod does
//! (kube-controller-manager: pkg/controller/volume/attachdetach, v1.37).
//!
//! A volume is attached by a VolumeAttachment, which the driver's attacher carries out. What is attached is written
//! into the node's status, and crossed out there before it is detached, so that no agent takes it up meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, Pod};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::action::{Action, Create, Patch, Resource, Severity, Target};
use crate::{node, pod, pod_gc};

/// How long a silent node may take to unmount before the volume is taken from it.
const MOST_UNMOUNT: SignedDuration = SignedDuration::from_mins(6);

/// A node, what its pods use and what is attached to it.
pub struct Observed<'a> {
    /// The node's name.
    pub name: &'a str,
    /// The node, if there is one.
    pub node: Option<&'a Node>,
    /// Volumes that have to be attached, with the pods of this node that use them.
    pub wanted: &'a [(Arc<PersistentVolume>, Vec<Arc<Pod>>)],
    /// All attachments to this node.
    pub attachments: &'a [Arc<VolumeAttachment>],
    /// Finds a volume by name.
    pub volume: &'a dyn Fn(&str) -> Option<Arc<PersistentVolume>>,
    /// Whether a volume is attached to another node.
    pub elsewhere: &'a dyn Fn(&str) -> bool,
    /// Since when an attachment has been unwanted.
    pub unwanted_since: &'a dyn Fn(&str) -> Timestamp,
}

/// The nodes for which exclusive volumes are being attached: caches show an attachment only some time after it
/// was made, and meanwhile another node must not get the volume.
#[derive(Debug, Default)]
pub struct Promises(HashMap<String, String>);

impl Promises {
    /// Takes back what was promised to a node and is not wanted there any more.
    fn settle(&mut self, observed: &Observed<'_>) {
        let wanted = |title: &str| observed.wanted.iter().any(|(volume, _)| self::title(volume) == title);
        self.0.retain(|title, node| node != observed.name || wanted(title));
    }

    /// Whether the node gets the volume; it is promised then.
    fn give(&mut self, title: &str, node: &str) -> bool {
        self.0.entry(title.to_owned()).or_insert_with(|| node.to_owned()) == node
    }
}

fn title(volume: &PersistentVolume) -> &str {
    volume.metadata.name.as_deref().unwrap_or_default()
}

/// The name of a volume's attachment to a node.
pub fn name(volume: &PersistentVolume, node: &str) -> Option<String> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    let digest = Sha256::digest(format!("{}{}{node}", csi.volume_handle, csi.driver));
    Some(digest.iter().fold("csi-".to_owned(), |name, byte| format!("{name}{byte:02x}")))
}

/// The name by which nodes know a volume.
fn unique_name(volume: &PersistentVolume) -> Option<String> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    Some(format!("kubernetes.io/csi/{}^{}", csi.driver, csi.volume_handle))
}

/// Whether a pod needs its volumes on its node.
pub fn needs(pod: &Pod) -> bool {
    !pod::node(pod).is_empty() && !pod::finished(pod)
}

/// The volume of an attachment.
pub fn volume_of(attachment: &VolumeAttachment) -> Option<&str> {
    attachment.spec.source.persistent_volume_name.as_deref()
}

fn attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

/// Attachments of a node that none of its pods needs.
pub fn unwanted<'a>(observed: &'a Observed<'_>) -> impl Iterator<Item = &'a Arc<VolumeAttachment>> {
    let wanted: BTreeSet<String> =
        observed.wanted.iter().filter_map(|(volume, _)| name(volume, observed.name)).collect();
    // Others may attach what they like under names of their own.
    observed.attachments.iter().filter(move |one| {
        let named = one.metadata.name.as_deref().unwrap_or_default();
        named.starts_with("csi-") && !wanted.contains(named)
    })
}

/// What to do about a node.
pub fn decide(observed: &Observed<'_>, promises: &mut Promises, now: Timestamp) -> Vec<Action> {
    promises.settle(observed);
    let wanted = observed.wanted.iter();
    let mut actions: Vec<Action> =
        wanted.flat_map(|(volume, pods)| observed.attach(volume, pods, promises)).collect();
    let (mut leaving, mut waits) = (Vec::new(), None::<Duration>);
    for attachment in unwanted(observed).filter(|one| one.metadata.deletion_timestamp.is_none()) {
        match observed.may_detach(attachment, now) {
            Detach::Now => leaving.push(attachment),
            Detach::After(wait) => waits = Some(waits.map_or(wait, |known| known.min(wait))),
            Detach::Later => {}
        }
    }
    actions.extend(observed.tell_node(&leaving));
    actions.extend(leaving.iter().map(|attachment| Action::from(Action::delete(&***attachment))));
    actions.extend(waits.map(Action::RequeueAfter));
    actions
}

enum Detach {
    Now,
    After(Duration),
    /// When something changes.
    Later,
}

impl Observed<'_> {
    fn attach(&self, volume: &PersistentVolume, pods: &[Arc<Pod>], promises: &mut Promises) -> Vec<Action> {
        let (Some(name), Some(_)) = (name(volume, self.name), self.node) else { return Vec::new() };
        let known = self.attachments.iter().find(|one| one.metadata.name.as_deref() == Some(name.as_str()));
        let title = title(volume);
        if let Some(known) = known {
            let error = known.status.as_ref().and_then(|status| status.attach_error.as_ref());
            let Some(error) = error.filter(|_| !attached(known)) else { return Vec::new() };
            let why = error.message.clone().unwrap_or_default();
            let message = format!("AttachVolume.Attach failed for volume {title:?} : {why}");
            return tell(pods, Severity::Warning, "FailedAttachVolume", &message);
        }
        if is_exclusive(volume) && ((self.elsewhere)(title) || !promises.give(title, self.name)) {
            let message = format!(
                "Multi-Attach error for volume {title:?} Volume is already exclusively attached to one node and can't be attached to another"
            );
            let mut actions = tell(pods, Severity::Warning, "FailedAttachVolume", &message);
            actions.push(Action::RequeueAfter(Duration::from_secs(10)));
            return actions;
        }
        let driver = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).map(|csi| csi.driver.clone());
        vec![
            Create {
                resource: Resource::of::<VolumeAttachment>(),
                namespace: String::new(),
                object: json!({"apiVersion": "storage.k8s.io/v1", "kind": "VolumeAttachment", "metadata": {"name": name},
                    "spec": {"attacher": driver, "nodeName": self.name, "source": {"persistentVolumeName": title}}}),
                made: None,
                refused: None,
            }
            .into(),
        ]
    }

    /// Whether the node does not use the volume any more, or cannot be waited for.
    fn may_detach(&self, attachment: &VolumeAttachment, now: Timestamp) -> Detach {
        let Some(on) = self.node else { return Detach::Now };
        let volume = volume_of(attachment).and_then(self.volume);
        let name = volume.as_deref().and_then(unique_name);
        let in_use = on.status.as_ref().and_then(|status| status.volumes_in_use.as_ref());
        if name.is_none_or(|name| in_use.is_none_or(|all| !all.contains(&name))) || pod_gc::out_of_service(on)
        {
            return Detach::Now;
        }
        if node::ready(on) {
            return Detach::Later;
        }
        let since = (self.unwanted_since)(attachment.metadata.name.as_deref().unwrap_or_default());
        match MOST_UNMOUNT - now.duration_since(since) {
            left if left.is_positive() => Detach::After(Duration::try_from(left).unwrap_or_default()),
            _ => Detach::Now,
        }
    }

    /// The node's own list: what is attached, without what is about to leave.
    fn tell_node(&self, leaving: &[&Arc<VolumeAttachment>]) -> Vec<Action> {
        let Some(on) = self.node else { return Vec::new() };
        let mut volumes = BTreeMap::new();
        for attachment in self.attachments.iter().filter(|one| attached(one)) {
            let stays = attachment.metadata.deletion_timestamp.is_none()
                && !leaving.iter().any(|one| Arc::ptr_eq(one, attachment));
            let volume = volume_of(attachment).and_then(self.volume).filter(|_| stays);
            if let Some(name) = volume.as_deref().and_then(unique_name) {
                volumes.insert(name, attachment);
            }
        }
        let before =
            on.status.as_ref().and_then(|status| status.volumes_attached.clone()).unwrap_or_default();
        let before: BTreeSet<_> = before.into_iter().map(|one| one.name).collect();
        if before.iter().eq(volumes.keys()) {
            return Vec::new();
        }
        let list: Vec<Value> = volumes.keys().map(|name| json!({"name": name, "devicePath": ""})).collect();
        let body = json!({"metadata": {"uid": on.metadata.uid}, "status": {"volumesAttached": list}});
        let write = Patch { target: Target::of(on), subresource: Some("status"), body, guard: None };
        let fresh = self.wanted.iter().filter(|(volume, _)| {
            unique_name(volume).is_some_and(|name| volumes.contains_key(&name) && !before.contains(&name))
        });
        let told = fresh.flat_map(|(volume, pods)| {
            let message = format!("AttachVolume.Attach succeeded for volume {:?}", title(volume));
            tell(pods, Severity::Normal, "SuccessfulAttachVolume", &message)
        });
        std::iter::once(Action::Patch(Box::new(write))).chain(told).collect()
    }
}

/// Whether only one node may have the volume at a time.
fn is_exclusive(volume: &PersistentVolume) -> bool {
    let modes = volume.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    !modes.is_empty() && modes.iter().all(|mode| mode == "ReadWriteOnce" || mode == "ReadWriteOncePod")
}

fn tell(pods: &[Arc<Pod>], severity: Severity, reason: &'static str, message: &str) -> Vec<Action> {
    pods.iter().map(|pod| Action::event(&**pod, severity, reason, message)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, object, summary};

    fn volume(mode: &str) -> Arc<PersistentVolume> {
        Arc::new(object(json!({"metadata": {"name": "v"},
            "spec": {"accessModes": [mode], "csi": {"driver": "d", "volumeHandle": "h"}}})))
    }

    const KNOWN: &str = "kubernetes.io/csi/d^h";

    fn on(ready: &str, used: &[&str], attached: &[&str], taint: Option<&str>) -> Node {
        let taints: Vec<_> = taint.iter().map(|key| json!({"key": key, "effect": "NoExecute"})).collect();
        let attached: Vec<_> = attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
        object(json!({"metadata": {"name": "n"}, "spec": {"taints": taints}, "status": {
            "conditions": [{"type": "Ready", "status": ready}], "volumesInUse": used, "volumesAttached": attached}}))
    }

    fn attachment(status: Value) -> Arc<VolumeAttachment> {
        let name = name(&volume("ReadWriteOnce"), "n");
        Arc::new(object(json!({"metadata": {"name": name, "uid": "a"}, "status": status,
            "spec": {"attacher": "d", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})))
    }

    fn decided(
        on: Option<&Node>,
        wanted: bool,
        attachments: &[Arc<VolumeAttachment>],
        elsewhere: bool,
    ) -> Vec<String> {
        let pod: Pod = object(json!({"metadata": {"name": "p"}, "spec": {"containers": []}}));
        let wanted: Vec<_> =
            wanted.then(|| (volume("ReadWriteOnce"), vec![Arc::new(pod)])).into_iter().collect();
        let observed = Observed {
            name: "n",
            node: on,
            wanted: &wanted,
            attachments,
            volume: &|name| (name == "v").then(|| volume("ReadWriteOnce")),
            elsewhere: &|_| elsewhere,
            unwanted_since: &|_| at(0),
        };
        decide(&observed, &mut Promises::default(), at(300)).iter().map(summary).collect()
    }

    #[test]
    fn volumes_are_attached_where_pods_need_them() {
        let done = attachment(json!({"attached": true}));
        let short = |name: Option<String>| name.unwrap_or_default();
        let create = format!("create VolumeAttachment {}", short(name(&volume(""), "n")));
        let told = format!(
            r#"patch Node/status n {{"status":{{"volumesAttached":[{{"devicePath":"","name":"{KNOWN}"}}]}}}}"#
        );
        let cases = [
            (on("True", &[], &[], None), vec![], false, vec![create.as_str()]),
            (
                on("True", &[], &[], None),
                vec![],
                true,
                vec![
                    r#"event FailedAttachVolume Multi-Attach error for volume "v" Volume is already exclusively attached to one node and can't be attached to another"#,
                    "again 10s",
                ],
            ),
            (on("True", &[], &[], None), vec![attachment(json!({"attached": false}))], false, vec![]),
            (
                on("True", &[], &[], None),
                vec![attachment(json!({"attached": false, "attachError": {"message": "no"}}))],
                false,
                vec![r#"event FailedAttachVolume AttachVolume.Attach failed for volume "v" : no"#],
            ),
            (
                on("True", &[KNOWN], &[], None),
                vec![done.clone()],
                false,
                vec![
                    told.as_str(),
                    r#"event SuccessfulAttachVolume AttachVolume.Attach succeeded for volume "v""#,
                ],
            ),
            (on("True", &[KNOWN], &[KNOWN], None), vec![done], false, vec![]),
        ];
        for (at, (node, attachments, elsewhere, expected)) in cases.into_iter().enumerate() {
            assert_eq!(decided(Some(&node), true, &attachments, elsewhere), expected, "{at}");
        }
        assert!(decided(None, true, &[], false).is_empty(), "there is no such node");
    }

    #[test]
    fn a_volume_is_promised_to_one_node_at_a_time() {
        let pod: Pod = object(json!({"metadata": {"name": "p"}, "spec": {"containers": []}}));
        let pod = Arc::new(pod);
        let mut promises = Promises::default();
        // No cache shows any attachment yet.
        let mut look = |name: &str, mode: &str, wants: bool| {
            let wanted: Vec<_> = wants.then(|| (volume(mode), vec![pod.clone()])).into_iter().collect();
            let node: Node = object(json!({"metadata": {"name": name}}));
            let observed = Observed {
                name,
                node: Some(&node),
                wanted: &wanted,
                attachments: &[],
                volume: &|_| None,
                elsewhere: &|_| false,
                unwanted_since: &|_| at(0),
            };
            let told = decide(&observed, &mut promises, at(0));
            told.iter().any(|action| matches!(action, Action::Create(_)))
        };
        let steps = [
            ("a", "ReadWriteOnce", true, true),
            ("b", "ReadWriteOnce", true, false),
            ("a", "ReadWriteOnce", true, true),
            ("b", "ReadWriteMany", true, true),
            ("a", "ReadWriteOnce", false, false),
            ("b", "ReadWriteOnce", true, true),
            ("a", "ReadWriteOnce", true, false),
        ];
        for (number, (node, mode, wants, expected)) in steps.into_iter().enumerate() {
            assert_eq!(look(node, mode, wants), expected, "step {number}");
        }
    }

    #[test]
    fn volumes_are_detached_when_the_node_let_go_of_them() {
        let done = [attachment(json!({"attached": true}))];
        let gone = format!("delete VolumeAttachment {}", name(&volume(""), "n").unwrap_or_default());
        let crossed = r#"patch Node/status n {"status":{"volumesAttached":[]}}"#.to_owned();
        let leaves = vec![crossed, gone.clone()];
        let cases = [
            (Some(on("True", &[KNOWN], &[KNOWN], None)), vec![]),
            (Some(on("True", &[], &[KNOWN], None)), leaves.clone()),
            (Some(on("Unknown", &[KNOWN], &[KNOWN], None)), vec!["again 60s".to_owned()]),
            (Some(on("Unknown", &[KNOWN], &[KNOWN], Some(node::OUT_OF_SERVICE))), leaves),
            (None, vec![gone]),
        ];
        for (at, (node, expected)) in cases.into_iter().enumerate() {
            assert_eq!(decided(node.as_ref(), false, &done, false), expected, "{at}");
        }
    }
}
