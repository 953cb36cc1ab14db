//! The record of who has which processors, in upstream's format: either agent goes on where the other ended
//! (kubelet: pkg/kubelet/cm/cpumanager/state/checkpoint.go).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::CpuSet;

/// Who has which processors.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Those that everybody shares.
    pub shared: CpuSet,
    /// Those of containers alone, by pod and container.
    pub entries: BTreeMap<String, BTreeMap<String, CpuSet>>,
}

/// Why a record is not used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// It is no record, or not what was written.
    #[error("checkpoint is corrupted: {0}")]
    Text(String),
    /// It was written by another policy.
    #[error("configured policy {configured:?} differs from state checkpoint policy {found:?}")]
    Policy {
        /// The policy now.
        configured: String,
        /// The policy then.
        found: String,
    },
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    policy_name: String,
    #[serde(alias = "defaultCPUSet")]
    default_cpu_set: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    entries: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default)]
    checksum: u64,
}

impl State {
    /// The record for a file.
    #[must_use]
    pub fn write(&self, policy: &str) -> String {
        let texts = |sets: &BTreeMap<String, CpuSet>| -> BTreeMap<String, String> {
            sets.iter().map(|(name, cpus)| (name.clone(), cpus.to_string())).collect()
        };
        let mut record = Record {
            policy_name: policy.to_owned(),
            default_cpu_set: self.shared.to_string(),
            entries: self.entries.iter().map(|(uid, sets)| (uid.clone(), texts(sets))).collect(),
            checksum: 0,
        };
        record.checksum = u64::from(record.sum());
        serde_json::to_string(&record).unwrap_or_default()
    }

    /// Reads a record of this policy.
    ///
    /// # Errors
    /// It is damaged, or another policy's.
    pub fn read(text: &str, policy: &str) -> Result<Self, Corrupt> {
        let broken = |error: &dyn std::fmt::Display| Corrupt::Text(error.to_string());
        let record: Record = serde_json::from_str(text).map_err(|error| broken(&error))?;
        if record.checksum != 0 && record.checksum != u64::from(record.sum()) {
            return Err(broken(&"its checksum is another"));
        }
        if record.policy_name != policy {
            return Err(Corrupt::Policy { configured: policy.to_owned(), found: record.policy_name });
        }
        let set = |text: &String| text.parse::<CpuSet>().map_err(|error| broken(&error));
        let mut state = Self { shared: set(&record.default_cpu_set)?, entries: BTreeMap::new() };
        for (uid, sets) in &record.entries {
            let own = state.entries.entry(uid.clone()).or_default();
            for (name, text) in sets {
                own.insert(name.clone(), set(text)?);
            }
        }
        Ok(state)
    }
}

impl Record {
    /// FNV-1a of how Go's `spew` prints the record without its sum.
    fn sum(&self) -> u32 {
        let mut text = format!(
            "(*state.CPUManagerCheckpoint){{PolicyName:(string){} DefaultCPUSet:(string){} \
             Entries:(map[string]map[string]string)map[",
            self.policy_name, self.default_cpu_set
        );
        for (at, (uid, sets)) in self.entries.iter().enumerate() {
            let sets: Vec<String> = sets.iter().map(|(name, cpus)| format!("{name}:{cpus}")).collect();
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{uid}:map[{}]", if at == 0 { "" } else { " " }, sets.join(" "));
        }
        text.push_str("] Checksum:(checksum.Checksum)0}");
        text.bytes().fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}
