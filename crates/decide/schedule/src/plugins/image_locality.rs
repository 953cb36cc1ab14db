//! A pod rather goes where its images already are, less so when few nodes have them: else all
//! pods would crowd there.

use super::MAX_SCORE;
use crate::needs::Needs;
use crate::node::Node;
use crate::snapshot::Snapshot;

const MEBIBYTE: i64 = 1024 * 1024;
/// Images that are smaller than this together do not count.
const THRESHOLD: i64 = 23 * MEBIBYTE;
/// Each container's image counts up to this.
const MAX_PER_CONTAINER: i64 = 1000 * MEBIBYTE;

pub(super) fn score(needs: &Needs, node: &Node, snapshot: &Snapshot) -> i64 {
    if node.images.is_empty() {
        return 0;
    }
    let present = needs.images.iter().filter(|name| node.images.contains_key(*name));
    let sum: i64 = present
        .filter_map(|name| snapshot.image(name))
        .map(|image| (image.bytes as f64 * (image.nodes as f64 / snapshot.nodes() as f64)) as i64)
        .sum();
    let most = MAX_PER_CONTAINER * i64::try_from(needs.images.len()).unwrap_or(1);
    MAX_SCORE * (sum.clamp(THRESHOLD, most.max(THRESHOLD)) - THRESHOLD) / (most - THRESHOLD).max(1)
}
