//! Whose group is whose, from what the engine and the API list.

use std::collections::HashMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;

use super::group::Kind;

/// What a group is called in the labels of its series.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Labels {
    pub(super) container: String,
    pub(super) image: String,
    /// The engine's id.
    pub(super) name: String,
    pub(super) namespace: String,
    pub(super) pod: String,
}

/// Who a group belongs to.
#[derive(Clone, Debug)]
pub(super) struct Owner {
    pub(super) kind: Kind,
    pub(super) labels: Labels,
    pub(super) uid: String,
    /// When the engine made it.
    pub(super) created: Option<Timestamp>,
}

/// The owners of groups.
#[derive(Debug, Default)]
pub(super) struct Owners {
    /// Sandboxes and containers by id.
    by_id: HashMap<String, Owner>,
    /// Pods by the path of their group.
    by_path: HashMap<String, Owner>,
}

impl Owners {
    /// What the engine has; `pause` is the image of sandboxes, about which the interface says nothing.
    pub(super) fn of_engine(
        sandboxes: Vec<v1::PodSandbox>,
        containers: Vec<v1::Container>,
        pause: &str,
    ) -> Self {
        let mut owners = Self::default();
        for it in sandboxes {
            owners.add(it.id, it.labels, it.created_at, Kind::Sandbox, pause.to_owned());
        }
        for it in containers {
            let image = it.image.unwrap_or_default();
            let named = Some(image.user_specified_image).filter(|name| !name.is_empty());
            owners.add(it.id, it.labels, it.created_at, Kind::Container, named.unwrap_or(image.image));
        }
        owners
    }

    fn add(
        &mut self,
        id: String,
        mut labels: HashMap<String, String>,
        created: i64,
        kind: Kind,
        image: String,
    ) {
        let mut take = |name: &str| labels.remove(name).unwrap_or_default();
        let owner = Owner {
            kind,
            uid: take(plimsoll_cri::POD_UID),
            labels: Labels {
                container: take(plimsoll_cri::CONTAINER_NAME),
                image,
                name: id.clone(),
                namespace: take(plimsoll_cri::POD_NAMESPACE),
                pod: take(plimsoll_cri::POD_NAME),
            },
            created: Timestamp::from_nanosecond(i128::from(created)).ok(),
        };
        self.by_id.insert(id, owner);
    }

    /// A pod of the API and the path of its group.
    pub(super) fn add_pod(&mut self, path: String, pod: &Pod) {
        let text = |text: &Option<String>| text.clone().unwrap_or_default();
        let meta = &pod.metadata;
        let labels = Labels { namespace: text(&meta.namespace), pod: text(&meta.name), ..Labels::default() };
        let owner = Owner { kind: Kind::Pod, labels, uid: text(&meta.uid), created: None };
        self.by_path.insert(path, owner);
    }

    /// Who owns the group at `path`.
    pub(super) fn get(&self, path: &str) -> Option<&Owner> {
        self.by_path.get(path).or_else(|| self.by_id.get(container_id(path)))
    }
}

/// The engine's id in a group's path: `/a/b/ID`, or `/a/b/cri-containerd-ID.scope` as systemd has it.
fn container_id(path: &str) -> &str {
    let last = path.rsplit('/').next().unwrap_or_default();
    match last.strip_suffix(".scope") {
        Some(unit) => unit.rsplit('-').next().unwrap_or_default(),
        None => last.strip_prefix("crio-").unwrap_or(last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_name_groups_in_their_own_ways() {
        for (path, id) in [
            ("/kubepods/burstable/pod1/abc", "abc"),
            ("/kubepods.slice/kubepods-pod1.slice/cri-containerd-abc.scope", "abc"),
            ("/kubepods.slice/kubepods-pod1.slice/crio-abc.scope", "abc"),
            ("/kubepods/pod1/crio-abc", "abc"),
            ("/", ""),
        ] {
            assert_eq!(container_id(path), id, "{path}");
        }
    }
}
