//! How many processes and threads pods may have, so that none takes the last that a node can start.

/// At most so many are kept from pods, and no more than an eighth of all.
const SPARED: i64 = 4096;
/// Parts that what is left for pods has; one pod gets no more than one, unless the settings say so.
const PARTS: i64 = 4;

/// The limits of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tasks {
    /// Of all pods together, before what is reserved by settings.
    pub pods: i64,
    /// Of one pod.
    pub pod: i64,
}

impl Tasks {
    /// The limits of a node that can have `most` tasks.
    #[must_use]
    pub fn of(most: i64) -> Self {
        let pods = most - (most / 8).min(SPARED);
        Self { pods, pod: pods / PARTS }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_cannot_take_all() {
        for (most, pods, pod) in
            [(800, 700, 175), (32_768, 28_672, 7168), (4_194_304, 4_190_208, 1_047_552), (0, 0, 0)]
        {
            assert_eq!(Tasks::of(most), Tasks { pods, pod }, "{most}");
        }
    }
}
