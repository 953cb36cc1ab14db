//! Memory of guaranteed pods on certain memory nodes (kubelet: pkg/kubelet/cm/memorymanager).
//!
//! What enters: what each memory node of the machine has ([`Banks`]), what of it is reserved ([`reserved`]), pods
//! that are admitted and pods that are gone. What leaves: the memory nodes of each container ([`Memory`]).

mod policy;
mod reservation;
mod state;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub use policy::Memory;
pub use reservation::{Reservation, Reserved, reserved};
pub use state::Record;

/// The resource of ordinary memory.
pub(super) const MEMORY: &str = "memory";

/// What one memory node has, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bank {
    /// All of it, huge pages too.
    pub total: u64,
    /// In huge pages, by resource name.
    pub huge_pages: BTreeMap<String, u64>,
}

/// The memory nodes of a machine.
pub type Banks = BTreeMap<u32, Bank>;

/// What there is of one resource on one memory node, in bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Table {
    /// All.
    pub total: u64,
    /// What is kept from pods.
    pub system_reserved: u64,
    /// What pods may have.
    pub allocatable: u64,
    /// What they have.
    pub reserved: u64,
    /// What is left.
    pub free: u64,
}

/// One memory node and what was given of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Node {
    /// How many blocks lie on it.
    pub number_of_assignments: i64,
    /// By resource.
    pub memory_map: BTreeMap<String, Table>,
    /// The nodes whose blocks lie on it too; itself alone when none do.
    pub cells: Vec<u32>,
}

/// What a container has of one resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Block {
    /// The nodes.
    pub numa_affinity: Vec<u32>,
    /// The resource.
    #[serde(rename = "type")]
    pub resource: String,
    /// Bytes.
    pub size: u64,
}

/// What containers have, by pod and container.
pub type Entries = BTreeMap<String, BTreeMap<String, Vec<Block>>>;

impl Node {
    /// Takes `wanted` bytes of a resource, or what there is; the rest.
    fn take(&mut self, resource: &str, wanted: u64) -> u64 {
        let Some(table) = self.memory_map.get_mut(resource) else { return wanted };
        let taken = table.free.min(wanted);
        table.free -= taken;
        table.reserved += taken;
        wanted - taken
    }

    /// Gives back `given` bytes of a resource, or what was taken; the rest.
    fn give_back(&mut self, resource: &str, given: u64) -> u64 {
        let Some(table) = self.memory_map.get_mut(resource) else { return given };
        let returned = table.reserved.min(given);
        table.reserved -= returned;
        table.free += returned;
        given - returned
    }

    fn free(&self, resource: &str) -> u64 {
        self.memory_map.get(resource).map_or(0, |table| table.free)
    }

    fn allocatable(&self, resource: &str) -> u64 {
        self.memory_map.get(resource).map_or(0, |table| table.allocatable)
    }
}
