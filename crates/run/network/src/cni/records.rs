//! What each sandbox was connected with, on disk and in memory.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use plimsoll_kernel::pod_network::{Attach, NetworkError, PortMapping};
use plimsoll_netplan::cni::Capabilities;
use plimsoll_netplan::digest;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The names of the capabilities that are told.
const NAMES: [&str; 4] = ["portMappings", "bandwidth", "ipRanges", "io.kubernetes.cri.pod-annotations"];

/// What a sandbox was connected with.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Record {
    pub(super) id: String,
    namespace: String,
    name: String,
    uid: String,
    pub(super) netns: PathBuf,
    /// The list of plugins, as it was.
    pub(super) configuration: String,
    /// Where they are.
    pub(super) programs: Vec<PathBuf>,
    told: Vec<(String, Value)>,
    /// HostPorts that no plugin of the list sees to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<PortMapping>,
    /// What the last plugin answered; nothing until it did.
    pub(super) result: Value,
}

impl Record {
    pub(super) fn new(
        request: &Attach,
        configuration: String,
        programs: Vec<PathBuf>,
        told: Vec<(String, Value)>,
    ) -> Self {
        Self {
            id: request.sandbox_id.clone(),
            namespace: request.namespace.clone(),
            name: request.name.clone(),
            uid: request.uid.clone(),
            netns: request.netns.clone(),
            configuration,
            programs,
            told,
            ports: Vec::new(),
            result: Value::Null,
        }
    }

    /// Namespace and name of the pod.
    pub(super) fn key(&self) -> (String, String) {
        (self.namespace.clone(), self.name.clone())
    }

    /// Who it is for, as other engines tell plugins.
    pub(super) fn arguments(&self) -> String {
        format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            self.namespace, self.name, self.id, self.uid
        )
    }

    pub(super) fn capabilities(&self) -> Capabilities {
        let of = |name: &'static str| {
            let told = self.told.iter().find(|(told, _)| told == name);
            told.map(|(_, value)| (name, value.clone()))
        };
        Capabilities(NAMES.into_iter().filter_map(of).collect())
    }
}

/// The records of all sandboxes that plugins connected.
#[derive(Debug)]
pub(super) struct Records {
    folder: PathBuf,
    records: BTreeMap<String, Record>,
}

impl Records {
    pub(super) fn open(folder: &Path) -> Result<Self, NetworkError> {
        let failed = |error| NetworkError::io(format!("folder {}", folder.display()), error);
        std::fs::create_dir_all(folder).map_err(failed)?;
        let mut records = BTreeMap::new();
        for entry in std::fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            let bytes = std::fs::read(&path).map_err(failed)?;
            match serde_json::from_slice::<Record>(&bytes) {
                Ok(record) => drop(records.insert(record.id.clone(), record)),
                // Cut off by a crash of the machine, which no sandbox survived.
                Err(error) => {
                    tracing::warn!(file = %path.display(), %error, "removing an unreadable record of a sandbox");
                    std::fs::remove_file(&path).map_err(failed)?;
                }
            }
        }
        Ok(Self { folder: folder.to_owned(), records })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.records.values()
    }

    pub(super) fn get(&self, id: &str) -> Option<&Record> {
        self.records.get(id)
    }

    /// Writes a record beside the old one and puts it in its place.
    pub(super) fn keep(&mut self, record: &Record) -> Result<(), String> {
        let (path, new) = (self.path(&record.id), self.folder.join("new"));
        let write = || {
            std::fs::write(&new, serde_json::to_vec(record)?)?;
            std::fs::rename(&new, &path)
        };
        write().map_err(|error| format!("{}: {error}", path.display()))?;
        self.records.insert(record.id.clone(), record.clone());
        Ok(())
    }

    pub(super) fn forget(&mut self, id: &str) -> Result<(), String> {
        let path = self.path(id);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(format!("{}: {error}", path.display()))
            }
            _ => {
                self.records.remove(id);
                Ok(())
            }
        }
    }

    fn path(&self, id: &str) -> PathBuf {
        self.folder.join(format!("{:016x}.json", digest(id.as_bytes())))
    }
}
