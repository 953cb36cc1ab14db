//! What is told of images that are pulled and removed.

use std::time::Duration;

use plimsoll_metrics::Histogram;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use super::Distribution;

/// Seconds of pulls.
const PULLS: &[f64] = &[
    1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 180.0, 240.0, 300.0, 360.0, 480.0, 600.0, 900.0, 1200.0, 1800.0,
    2700.0, 3600.0,
];
const MEGABYTE: u64 = 1 << 20;
const GIGABYTE: u64 = 1 << 30;
/// From how many bytes on images are called what.
const SIZES: [(u64, &str); 12] = [
    (100 * GIGABYTE, "GT100GB"),
    (60 * GIGABYTE, "60GB-100GB"),
    (40 * GIGABYTE, "40GB-60GB"),
    (30 * GIGABYTE, "30GB-40GB"),
    (20 * GIGABYTE, "20GB-30GB"),
    (10 * GIGABYTE, "10GB-20GB"),
    (5 * GIGABYTE, "5GB-10GB"),
    (GIGABYTE, "1GB-5GB"),
    (500 * MEGABYTE, "500MB-1GB"),
    (100 * MEGABYTE, "100MB-500MB"),
    (10 * MEGABYTE, "10MB-100MB"),
    (1, "0-10MB"),
];

/// Why images are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Removal {
    /// They were unused for too long.
    Age,
    /// The disk is full.
    Space,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Size {
    image_size_in_bytes: &'static str,
}

#[derive(Clone, Copy, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// All of it.
pub(super) struct Images {
    pulls: Distribution<Size>,
    removed: Family<Reason, Counter>,
}

impl Default for Images {
    fn default() -> Self {
        Self { pulls: Family::new_with_constructor(|| Histogram::new(PULLS)), removed: Family::default() }
    }
}

impl Images {
    /// Adds the series to those of the agent.
    pub(super) fn register(&self, all: &mut Registry) {
        all.register(
            "image_pull_duration_seconds",
            "[ALPHA] Duration in seconds to pull an image.",
            self.pulls.clone(),
        );
        all.register(
            "image_garbage_collected",
            "[ALPHA] Total number of images garbage collected by the kubelet, whether through disk usage or image age.",
            self.removed.clone(),
        );
    }

    pub(super) fn pulled(&self, bytes: u64, took: Duration) {
        let size = SIZES.iter().find(|(from, _)| bytes >= *from).map_or("N/A", |(_, word)| word);
        self.pulls.get_or_create(&Size { image_size_in_bytes: size }).observe(took.as_secs_f64());
    }

    pub(super) fn removed(&self, why: Removal, count: usize) {
        let reason = match why {
            Removal::Age => "age",
            Removal::Space => "space",
        };
        self.removed.get_or_create(&Reason { reason }).inc_by(u64::try_from(count).unwrap_or(u64::MAX));
    }
}
