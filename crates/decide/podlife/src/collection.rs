//! Unused images: which are removed, and when (kubelet: pkg/kubelet/images/image_gc_manager.go).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// When images are removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Percent of the file system in use from which images are removed.
    pub high: u8,
    /// Percent in use down to which they are.
    pub low: u8,
    /// How long an image is known before it may be removed.
    pub minimum_age: Duration,
    /// How long an image may be unused; for ever when absent.
    pub maximum_age: Option<Duration>,
}

impl Default for Policy {
    fn default() -> Self {
        Self { high: 85, low: 70, minimum_age: Duration::from_secs(120), maximum_age: None }
    }
}

/// Why a policy makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The upper threshold is no percentage.
    #[error("invalid HighThresholdPercent {0}, must be in range [0-100]")]
    High(u8),
    /// The lower threshold is no percentage.
    #[error("invalid LowThresholdPercent {0}, must be in range [0-100]")]
    Low(u8),
    /// They are the wrong way round.
    #[error("LowThresholdPercent {low} can not be higher than HighThresholdPercent {high}")]
    Order {
        /// The lower one.
        low: u8,
        /// The upper one.
        high: u8,
    },
}

impl Policy {
    /// Checks the thresholds.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn check(&self) -> Result<(), Refused> {
        match (self.high, self.low) {
            (high, _) if high > 100 => Err(Refused::High(high)),
            (_, low) if low > 100 => Err(Refused::Low(low)),
            (high, low) if low > high => Err(Refused::Order { low, high }),
            _ => Ok(()),
        }
    }

    /// How many bytes must be freed when so much of a file system is left.
    #[must_use]
    pub fn excess(&self, available: i64, capacity: i64) -> Option<i64> {
        if capacity <= 0 {
            return None;
        }
        // Rounded as upstream does: towards less that is free.
        let used = 100 - available.clamp(0, capacity) * 100 / capacity;
        let goal = capacity * (100 - i64::from(self.low)) / 100;
        (used >= i64::from(self.high)).then(|| goal - available)
    }
}

/// An image of the engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// The engine's id of it.
    pub id: String,
    /// Bytes.
    pub size: i64,
    /// Whether it must stay in any case.
    pub pinned: bool,
}

/// What is known of the images of a node.
#[derive(Clone, Debug, Default)]
pub struct Images {
    known: BTreeMap<String, Record>,
}

#[derive(Clone, Debug)]
struct Record {
    size: i64,
    pinned: bool,
    found: Timestamp,
    /// The beginning of time for those that never were in use.
    used: Timestamp,
}

impl Images {
    /// Takes in which images there are and which of them containers use.
    pub fn observe(&mut self, images: &[Image], used: &BTreeSet<String>, now: Timestamp) {
        self.known.retain(|id, _| images.iter().any(|image| image.id == *id));
        for image in images {
            let record = self.known.entry(image.id.clone()).or_insert(Record {
                size: image.size,
                pinned: image.pinned,
                found: now,
                used: Timestamp::UNIX_EPOCH,
            });
            (record.size, record.pinned) = (image.size, image.pinned);
            if used.contains(&image.id) {
                record.used = now;
            }
        }
    }

    /// The images to remove so that at least so many bytes get free, those first that were unused longest,
    /// and how many bytes that frees at most.
    #[must_use]
    pub fn to_free(&self, bytes: i64, policy: &Policy, now: Timestamp) -> (Vec<Image>, i64) {
        let old = |record: &Record| now.duration_since(record.found) >= signed(policy.minimum_age);
        let mut freed = 0;
        let mut chosen = Vec::new();
        for (id, record) in self.unused(now).into_iter().filter(|(_, record)| old(record)) {
            if freed >= bytes {
                break;
            }
            freed += record.size;
            chosen.push(Image { id: id.clone(), size: record.size, pinned: false });
        }
        (chosen, freed)
    }

    /// The images that nobody used for longer than the policy allows. Those that never were in use count
    /// from when they were found.
    #[must_use]
    pub fn outdated(&self, policy: &Policy, now: Timestamp) -> Vec<Image> {
        let Some(age) = policy.maximum_age else { return Vec::new() };
        let is_outdated = |record: &Record| now.duration_since(record.used.max(record.found)) > signed(age);
        let unused = self.unused(now).into_iter().filter(|(_, record)| is_outdated(record));
        unused.map(|(id, record)| Image { id: id.clone(), size: record.size, pinned: false }).collect()
    }

    /// Those that are not in use now and not pinned, unused longest first.
    fn unused(&self, now: Timestamp) -> Vec<(&String, &Record)> {
        let mut unused: Vec<_> =
            self.known.iter().filter(|(_, record)| !record.pinned && record.used < now).collect();
        unused.sort_by_key(|(_, record)| (record.used, record.found));
        unused
    }
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    const GI: i64 = 1 << 30;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn image(id: &str, size: i64) -> Image {
        Image { id: id.into(), size, pinned: id.starts_with("pinned") }
    }

    fn used(ids: &[&str]) -> BTreeSet<String> {
        ids.iter().map(|id| (*id).to_owned()).collect()
    }

    fn ids(images: &[Image]) -> Vec<&str> {
        images.iter().map(|image| image.id.as_str()).collect()
    }

    #[test]
    fn between_the_thresholds_nothing_happens() {
        let policy = Policy::default();
        for (available, expected) in [
            (100 * GI, None),
            (16 * GI, None),
            (15 * GI, Some(15 * GI)),
            (5 * GI, Some(25 * GI)),
            (0, Some(30 * GI)),
        ] {
            assert_eq!(policy.excess(available, 100 * GI), expected, "{available}");
        }
        assert_eq!(policy.excess(0, 0), None);
    }

    #[test]
    fn unused_longest_go_first_and_pinned_used_and_young_ones_stay() {
        let mut images = Images::default();
        let mut there =
            vec![image("a", 10), image("b", 20), image("c", 30), image("pinned", 40), image("never", 5)];
        images.observe(&there, &used(&["a", "b", "c", "pinned"]), at(0));
        images.observe(&there, &used(&["a", "b"]), at(300));
        there.push(image("young", 50));
        images.observe(&there, &used(&["a"]), at(600));
        let policy = Policy::default();
        let free = |bytes| {
            let (chosen, freed) = images.to_free(bytes, &policy, at(600));
            (ids(&chosen).join(" "), freed)
        };
        assert_eq!(free(0), (String::new(), 0));
        assert_eq!(free(1), ("never".into(), 5));
        assert_eq!(free(6), ("never c".into(), 35));
        assert_eq!(free(1000), ("never c b".into(), 55));
        there.retain(|image| image.id != "never");
        images.observe(&there, &used(&["a"]), at(610));
        assert_eq!(ids(&images.to_free(1, &policy, at(610)).0), ["c"]);
    }

    #[test]
    fn images_grow_too_old() {
        let mut images = Images::default();
        let there = [image("a", 1), image("b", 1), image("never", 1)];
        images.observe(&there, &used(&["a", "b"]), at(0));
        images.observe(&there, &used(&["a"]), at(100));
        images.observe(&there, &used(&[]), at(150));
        let policy = Policy { maximum_age: Some(Duration::from_secs(60)), ..Policy::default() };
        assert_eq!(ids(&images.outdated(&policy, at(150))), ["never", "b"]);
        assert_eq!(images.outdated(&Policy::default(), at(99_999)), []);
    }

    #[test]
    fn thresholds_are_percentages_in_order() {
        let policy = |high, low| Policy { high, low, ..Policy::default() };
        assert_eq!(policy(85, 85).check(), Ok(()));
        assert_eq!(
            policy(101, 0).check().unwrap_err().to_string(),
            "invalid HighThresholdPercent 101, must be in range [0-100]"
        );
        assert_eq!(
            policy(10, 20).check().unwrap_err().to_string(),
            "LowThresholdPercent 20 can not be higher than HighThresholdPercent 10"
        );
    }
}
