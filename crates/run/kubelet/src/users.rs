//! Ranges of users for the pods of this node, each written down in its pod's folder.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use k8s_openapi::api::core::v1::Pod;
use plimsoll_podlife::user_range::{Mappings, Ranges};

use crate::config::Config;

/// The file in a pod's folder.
const FILE: &str = "userns";

/// Who has which range.
pub(crate) struct Users {
    pods: PathBuf,
    state: Mutex<State>,
}

struct State {
    ranges: Ranges,
    held: HashMap<String, u32>,
}

impl Users {
    /// Takes over what the pods from before have.
    pub(crate) fn load(config: &Config) -> Self {
        let pods = config.data_dir.join("pods");
        let mut state = State { ranges: Ranges::new(config.max_pods), held: HashMap::new() };
        for entry in fs::read_dir(&pods).into_iter().flatten().flatten() {
            let uid = entry.file_name().to_string_lossy().into_owned();
            match read(&entry.path()) {
                Ok(None) => {}
                Ok(Some(first)) if state.ranges.keep(first) => drop(state.held.insert(uid, first)),
                Ok(Some(first)) => tracing::warn!(pod = uid, first, "two pods have the same range of users"),
                Err(why) => tracing::warn!(pod = uid, why, "a pod's range of users cannot be read"),
            }
        }
        Self { pods, state: Mutex::new(state) }
    }

    /// The users of a pod that asks for its own; the same ones each time.
    pub(crate) fn of(&self, pod: &Pod, supported: bool) -> Result<Option<Mappings>, String> {
        let spec = pod.spec.as_ref();
        if spec.and_then(|spec| spec.host_users) != Some(false) {
            return Ok(None);
        }
        if !supported {
            return Err(match spec.and_then(|spec| spec.runtime_class_name.as_deref()) {
                None | Some("") => {
                    "can't set `spec.hostUsers: false`, runtime does not support user namespaces".into()
                }
                Some(class) => format!(
                    "can't set `spec.hostUsers: false`, RuntimeClass handler \"{class}\" does not support user namespaces"
                ),
            });
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = state.held.get(uid) {
            return Ok(Some(Mappings::from(*first)));
        }
        let mappings = Mappings::from(state.ranges.take()?);
        let first = mappings.first()?;
        // Written down before anything is made with it.
        if let Err(why) = write(&self.pods.join(uid), &mappings) {
            state.ranges.free(first);
            return Err(why);
        }
        state.held.insert(uid.to_owned(), first);
        Ok(Some(mappings))
    }

    /// Gives back the range of a pod that is gone.
    pub(crate) fn free(&self, uid: &str) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(first) = state.held.remove(uid) {
            state.ranges.free(first);
        }
    }
}

fn read(folder: &Path) -> Result<Option<u32>, String> {
    let Ok(bytes) = fs::read(folder.join(FILE)) else { return Ok(None) };
    let mappings: Mappings = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    mappings.first().map(Some)
}

fn write(folder: &Path, mappings: &Mappings) -> Result<(), String> {
    let text = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(text)?;
    let bytes = serde_json::to_vec(mappings).map_err(|error| error.to_string())?;
    let fresh = folder.join(format!("{FILE}.new"));
    fs::write(&fresh, bytes).and_then(|()| fs::rename(&fresh, folder.join(FILE))).map_err(text)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn pod(uid: &str, host_users: Value) -> Pod {
        let spec = json!({"containers": [], "hostUsers": host_users});
        serde_json::from_value(json!({"metadata": {"uid": uid}, "spec": spec})).unwrap()
    }

    #[test]
    fn ranges_are_remembered() {
        let temp = tempfile::tempdir().unwrap();
        let ip = "192.0.2.1".parse().unwrap();
        let mut config = Config::new("n", temp.path().to_owned(), temp.path().join("cri.sock"), ip);
        config.max_pods = 2;
        let own = json!(false);
        let users = Users::load(&config);
        assert_eq!(users.of(&pod("a", json!(null)), true), Ok(None));
        assert_eq!(users.of(&pod("a", json!(true)), true), Ok(None));
        assert_eq!(users.of(&pod("a", own.clone()), true), Ok(Some(Mappings::from(65536))));
        assert_eq!(users.of(&pod("b", own.clone()), true), Ok(Some(Mappings::from(131_072))));
        assert_eq!(
            users.of(&pod("c", own.clone()), true).unwrap_err(),
            "could not find an empty slot to allocate a user namespace"
        );
        fs::remove_dir_all(temp.path().join("pods/a")).unwrap();
        users.free("a");
        let users = Users::load(&config);
        assert_eq!(
            users.of(&pod("c", own.clone()), true),
            Ok(Some(Mappings::from(65536))),
            "that of the one gone"
        );
        assert_eq!(users.of(&pod("b", own.clone()), true), Ok(Some(Mappings::from(131_072))), "as before");
        assert_eq!(
            users.of(&pod("d", own), false).unwrap_err(),
            "can't set `spec.hostUsers: false`, runtime does not support user namespaces"
        );
    }
}
