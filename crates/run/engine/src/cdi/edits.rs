//! What a device changes in a container's document.

use std::path::{Path, PathBuf};

use plimsoll_cri::v1::Device as Wanted;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::spec::user::User;
use crate::spec::{HostDevice, SpecError, host_devices};

/// When hooks run.
const HOOKS: [&str; 6] =
    ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Changes of one device, or of several together.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Edits {
    /// `NAME=VALUE`.
    pub(crate) env: Vec<String>,
    device_nodes: Vec<Node>,
    pub(crate) mounts: Vec<MountEdit>,
    pub(crate) hooks: Vec<Hook>,
    /// Groups that the processes are in, too.
    #[serde(rename = "additionalGids")]
    pub(crate) groups: Vec<u32>,
    pub(crate) intel_rdt: Option<IntelRdt>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
struct Node {
    /// In the container.
    path: String,
    /// On the machine, if it is another one.
    host_path: String,
    #[serde(rename = "type")]
    kind: String,
    major: Option<u32>,
    minor: Option<u32>,
    file_mode: Option<u32>,
    permissions: String,
    uid: Option<u32>,
    gid: Option<u32>,
}

/// A mount as the runtime understands it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct MountEdit {
    pub(crate) host_path: String,
    pub(crate) container_path: String,
    pub(crate) options: Vec<String>,
    #[serde(rename = "type")]
    pub(crate) kind: String,
}

/// A program of the machine that has a part in the start.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct Hook {
    pub(crate) hook_name: String,
    pub(crate) path: PathBuf,
    pub(crate) args: Vec<String>,
    pub(crate) env: Vec<String>,
    pub(crate) timeout: Option<i64>,
}

/// A share of the processor's cache and of the memory's bandwidth.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct IntelRdt {
    #[serde(rename = "closID", skip_serializing_if = "String::is_empty")]
    clos_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    l3_cache_schema: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mem_bw_schema: String,
    #[serde(rename = "enableCMT", skip_serializing_if = "std::ops::Not::not")]
    enable_cmt: bool,
    #[serde(rename = "enableMBM", skip_serializing_if = "std::ops::Not::not")]
    enable_mbm: bool,
}

impl Edits {
    /// Adds the changes of another device.
    pub(super) fn extend(&mut self, more: &Self) {
        self.env.extend(more.env.iter().cloned());
        self.device_nodes.extend(more.device_nodes.iter().cloned());
        self.mounts.extend(more.mounts.iter().cloned());
        self.hooks.extend(more.hooks.iter().cloned());
        self.groups.extend(more.groups.iter().copied());
        if more.intel_rdt.is_some() {
            self.intel_rdt.clone_from(&more.intel_rdt);
        }
    }

    /// Whether all of it makes sense.
    pub(super) fn check(&self) -> Result<(), String> {
        if let Some(bad) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(format!("invalid environment variable {bad:?}"));
        }
        self.device_nodes.iter().try_for_each(Node::check)?;
        for mount in &self.mounts {
            if mount.host_path.is_empty() {
                return Err("invalid mount, empty host path".into());
            }
            if mount.container_path.is_empty() {
                return Err("invalid mount, empty container path".into());
            }
        }
        self.hooks.iter().try_for_each(Hook::check)?;
        let class = self.intel_rdt.as_ref().map_or("", |it| it.clos_id.as_str());
        if class.len() >= 4096 || class == "." || class == ".." || class.contains(['/', '\n']) {
            return Err(format!("invalid clos ID {class:?}"));
        }
        Ok(())
    }

    /// The device files for a user's container.
    pub(crate) fn devices(&self, user: &User) -> Result<Vec<HostDevice>, SpecError> {
        self.device_nodes.iter().map(|node| node.found(user)).collect()
    }

    /// The hooks as the runtime's document has them; none if there are none.
    pub(crate) fn hooks(&self) -> Option<Value> {
        let mut all = Map::new();
        for hook in &self.hooks {
            let list = all.entry(hook.hook_name.clone()).or_insert_with(|| json!([]));
            if let Some(list) = list.as_array_mut() {
                list.push(hook.value());
            }
        }
        (!all.is_empty()).then_some(Value::Object(all))
    }
}

impl Node {
    fn check(&self) -> Result<(), String> {
        let path = &self.path;
        if path.is_empty() {
            return Err("invalid (empty) device path".into());
        }
        if !matches!(self.kind.as_str(), "" | "b" | "c" | "u" | "p") {
            return Err(format!("device {path:?}: invalid type {:?}", self.kind));
        }
        if self.permissions.chars().any(|c| !"rwm".contains(c)) {
            return Err(format!("device {path:?}: invalid permissions {:?}", self.permissions));
        }
        Ok(())
    }

    /// The device of the machine; what the specification says of it counts more.
    fn found(&self, user: &User) -> Result<HostDevice, SpecError> {
        let own = |id: u32| (id > 0).then_some(id);
        let access = if self.permissions.is_empty() { "rwm" } else { &self.permissions };
        let said = self.kind.chars().next().zip(self.major).zip(self.minor);
        let mut device = match said {
            Some(((kind, major), minor)) if self.file_mode.is_some() => HostDevice {
                path: self.path.clone(),
                kind: if kind == 'u' { 'c' } else { kind },
                major,
                minor,
                mode: 0o666,
                uid: 0,
                gid: 0,
                access: access.to_owned(),
            },
            _ => self.look(access)?,
        };
        if let Some(((kind, major), minor)) = said {
            (device.kind, device.major, device.minor) = (if kind == 'u' { 'c' } else { kind }, major, minor);
        }
        device.mode = self.file_mode.map_or(device.mode, |mode| mode & 0o7777);
        device.uid = self.uid.or(own(user.uid)).unwrap_or(device.uid);
        device.gid = self.gid.or(own(user.gid)).unwrap_or(device.gid);
        Ok(device)
    }

    fn look(&self, access: &str) -> Result<HostDevice, SpecError> {
        let host_path = if self.host_path.is_empty() { &self.path } else { &self.host_path };
        let refused = |reason: &str| SpecError::Device { path: host_path.clone(), reason: reason.to_owned() };
        if Path::new(host_path).is_dir() {
            return Err(refused("is no device"));
        }
        let wanted = Wanted {
            host_path: host_path.clone(),
            container_path: self.path.clone(),
            permissions: access.to_owned(),
        };
        host_devices(&[wanted], false)?.pop().ok_or_else(|| refused("is no device"))
    }
}

impl Hook {
    fn check(&self) -> Result<(), String> {
        let name = &self.hook_name;
        if !HOOKS.contains(&name.as_str()) {
            return Err(format!("invalid hook name {name:?}"));
        }
        if self.path.as_os_str().is_empty() {
            return Err("invalid hook, empty path".into());
        }
        if let Some(bad) = self.env.iter().find(|entry| !entry.contains('=')) {
            return Err(format!("invalid hook environment variable {bad:?}"));
        }
        // Nothing of the runtime is left at a container's end that would run it.
        if name == "poststop" {
            return Err("hooks of the name \"poststop\" are not supported by this engine".into());
        }
        Ok(())
    }

    fn value(&self) -> Value {
        let mut value = json!({"path": self.path});
        for (name, list) in [("args", &self.args), ("env", &self.env)] {
            if !list.is_empty() {
                value[name] = json!(list);
            }
        }
        if let Some(timeout) = self.timeout {
            value["timeout"] = json!(timeout);
        }
        value
    }
}
