//! Ranges of user ids for pods with user namespaces of their own (kubelet: pkg/kubelet/userns).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// How many ids each pod gets.
pub const LENGTH: u32 = 65536;

/// The ids of one pod, as they are written down in its folder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mappings {
    /// User ids.
    pub uid_mappings: Vec<Mapping>,
    /// Group ids.
    pub gid_mappings: Vec<Mapping>,
}

/// Ids inside, and what they are outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Mapping {
    /// The first id outside.
    pub host_id: u32,
    /// The first id inside.
    pub container_id: u32,
    /// How many.
    pub length: u32,
}

impl Mappings {
    /// Ids from 0 inside to `first` outside.
    #[must_use]
    pub fn from(first: u32) -> Self {
        let all = vec![Mapping { host_id: first, container_id: 0, length: LENGTH }];
        Self { uid_mappings: all.clone(), gid_mappings: all }
    }

    /// The first id outside, when these are such mappings as [`Mappings::from`] makes.
    ///
    /// # Errors
    /// When they are not.
    pub fn first(&self) -> Result<u32, String> {
        match (&self.uid_mappings[..], &self.gid_mappings[..]) {
            ([uid], [gid]) if uid == gid && uid.container_id == 0 && uid.length == LENGTH => {
                if uid.host_id == 0 || uid.host_id % LENGTH != 0 {
                    return Err(format!("host id {} is not the first of a range of {LENGTH}", uid.host_id));
                }
                Ok(uid.host_id)
            }
            _ => Err(format!("one mapping of {LENGTH} users and groups is needed")),
        }
    }
}

/// The first ids of the ranges that are taken.
#[derive(Clone, Debug, Default)]
pub struct Ranges {
    taken: BTreeSet<u32>,
    most: u32,
}

impl Ranges {
    /// Ranges for so many pods. The first range is the node's own.
    #[must_use]
    pub fn new(pods: u32) -> Self {
        Self { taken: BTreeSet::new(), most: pods }
    }

    /// Takes the lowest range that is free.
    ///
    /// # Errors
    /// When none is.
    pub fn take(&mut self) -> Result<u32, String> {
        let all = (1..=self.most).filter_map(|number| number.checked_mul(LENGTH));
        let free = all.into_iter().find(|first| !self.taken.contains(first));
        let first = free.ok_or("could not find an empty slot to allocate a user namespace")?;
        self.taken.insert(first);
        Ok(first)
    }

    /// Takes a range that a pod has already. False when another one has it.
    pub fn keep(&mut self, first: u32) -> bool {
        self.taken.insert(first)
    }

    /// Gives a range back.
    pub fn free(&mut self, first: u32) {
        self.taken.remove(&first);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_apart_and_come_back() {
        let mut ranges = Ranges::new(3);
        assert!(ranges.keep(2 * LENGTH), "a pod from before has it");
        assert!(!ranges.keep(2 * LENGTH), "two pods cannot have it");
        assert_eq!((ranges.take().unwrap(), ranges.take().unwrap()), (LENGTH, 3 * LENGTH));
        assert_eq!(ranges.take().unwrap_err(), "could not find an empty slot to allocate a user namespace");
        ranges.free(LENGTH);
        assert_eq!(ranges.take().unwrap(), LENGTH);
    }

    #[test]
    fn mappings_as_they_are_written_down() {
        let mappings = Mappings::from(131_072);
        let text = serde_json::to_string(&mappings).unwrap();
        assert_eq!(
            text,
            "{\"uidMappings\":[{\"hostId\":131072,\"containerId\":0,\"length\":65536}],\
             \"gidMappings\":[{\"hostId\":131072,\"containerId\":0,\"length\":65536}]}"
        );
        assert_eq!(serde_json::from_str::<Mappings>(&text).unwrap().first(), Ok(131_072));
        assert!(Mappings::from(1000).first().is_err());
        let two = Mappings {
            uid_mappings: [mappings.uid_mappings.clone(), mappings.uid_mappings.clone()].concat(),
            ..mappings
        };
        assert!(two.first().is_err());
    }
}
