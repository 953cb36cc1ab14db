//! The record of who has which memory, in upstream's format
//! (kubelet: pkg/kubelet/cm/memorymanager/state/checkpoint.go).

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::{Block, Entries, Node};
use crate::placement::Corrupt;

/// The memory nodes and who has what of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    policy_name: String,
    /// By number of the memory node.
    #[serde(default)]
    pub machine_state: BTreeMap<u32, Node>,
    /// By pod and container.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub entries: Entries,
    #[serde(default)]
    checksum: u64,
}

impl Record {
    /// The record for a file.
    #[must_use]
    pub fn write(policy: &str, machine: &BTreeMap<u32, Node>, entries: &Entries) -> String {
        let mut record = Self {
            policy_name: policy.to_owned(),
            machine_state: machine.clone(),
            entries: entries.clone(),
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
        let record: Self = serde_json::from_str(text).map_err(|error| Corrupt::Text(error.to_string()))?;
        if record.checksum != u64::from(record.sum()) {
            return Err(Corrupt::Text("its checksum is another".to_owned()));
        }
        if record.policy_name != policy {
            return Err(Corrupt::Policy { configured: policy.to_owned(), found: record.policy_name });
        }
        Ok(record)
    }

    /// FNV-1a of how Go's `spew` prints the record without its sum.
    fn sum(&self) -> u32 {
        let nodes = words(&self.machine_state, |(id, node)| format!("{id}:<*>{}", shown_node(node)));
        let entries = words(&self.entries, |(uid, containers)| {
            let containers = words(containers, |(name, blocks)| {
                let blocks: Vec<String> = blocks.iter().map(shown_block).collect();
                format!("{name}:[{}]", blocks.join(" "))
            });
            format!("{uid}:map[{containers}]")
        });
        let text = format!(
            "(*state.MemoryManagerCheckpoint){{PolicyName:(string){} MachineState:(state.NUMANodeMap)map[{nodes}] \
             Entries:(state.ContainerMemoryAssignments)map[{entries}] Checksum:(checksum.Checksum)0}}",
            self.policy_name
        );
        text.bytes().fold(0x811c_9dc5, |sum: u32, byte| (sum ^ u32::from(byte)).wrapping_mul(0x0100_0193))
    }
}

fn words<T>(all: impl IntoIterator<Item = T>, one: impl Fn(T) -> String) -> String {
    all.into_iter().map(one).collect::<Vec<_>>().join(" ")
}

fn shown_node(node: &Node) -> String {
    let tables = words(&node.memory_map, |(name, table)| {
        let mut text = format!("{name}:<*>{{");
        let fields = [
            ("TotalMemSize", table.total),
            ("SystemReserved", table.system_reserved),
            ("Allocatable", table.allocatable),
            ("Reserved", table.reserved),
            ("Free", table.free),
        ];
        for (at, (field, value)) in fields.into_iter().enumerate() {
            // Writing to a string cannot fail.
            let _ = write!(text, "{}{field}:(uint64){value}", if at == 0 { "" } else { " " });
        }
        text + "}"
    });
    format!(
        "{{NumberOfAssignments:(int){} MemoryMap:(map[v1.ResourceName]*state.MemoryTable)map[{tables}] \
         Cells:([]int)[{}]}}",
        node.number_of_assignments,
        words(&node.cells, ToString::to_string)
    )
}

fn shown_block(block: &Block) -> String {
    format!(
        "{{NUMAAffinity:([]int)[{}] Type:(v1.ResourceName){} Size:(uint64){}}}",
        words(&block.numa_affinity, ToString::to_string),
        block.resource,
        block.size
    )
}
