//! When a container's log is rotated, and which of its files stay (kubelet: pkg/kubelet/logs, v1.37).
//!
//! ```text
//! 0.log                        what the container writes to
//! 0.log.20260102-030405        the last one: whoever reads it may finish
//! 0.log.20260102-030400.gz     older ones
//! ```

use std::time::Duration;

/// The end of the name of a compressed log.
pub const COMPRESSED: &str = ".gz";
/// The end of the name of one that is being compressed.
pub const UNFINISHED: &str = ".tmp";
/// A log that grows is looked at this often at most …
pub const SOON: Duration = Duration::from_millis(100);
/// … and at least.
pub const LATE: Duration = Duration::from_secs(2);

/// What becomes of the files beside a log that is about to be rotated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Upkeep {
    /// Left over, or more than may stay.
    pub remove: Vec<String>,
    /// Those that were read by whoever follows.
    pub compress: Vec<String>,
}

/// Decides over the names of rotated files, so that with the present log and the one that takes its place there
/// are at most `most`.
#[must_use]
pub fn upkeep(names: &[String], most: usize) -> Upkeep {
    let unused = |name: &String| {
        name.ends_with(UNFINISHED)
            || !name.ends_with(COMPRESSED) && names.contains(&format!("{name}{COMPRESSED}"))
    };
    let (mut remove, mut kept): (Vec<String>, Vec<String>) = names.iter().cloned().partition(unused);
    // Names tell the age, whether compressed or not.
    kept.sort_by(|one, other| age(one).cmp(age(other)));
    let excess = kept.len().saturating_sub(most.saturating_sub(2));
    remove.extend(kept.drain(..excess));
    let compress = kept.into_iter().filter(|name| !name.ends_with(COMPRESSED)).collect();
    Upkeep { remove, compress }
}

fn age(name: &str) -> &str {
    name.strip_suffix(COMPRESSED).unwrap_or(name)
}

/// When a log that grew by `grown` bytes in `time` has to be looked at again: halfway to the limit.
#[must_use]
pub fn next_look(size: u64, grown: u64, time: Duration, limit: u64) -> Duration {
    let left = limit.saturating_sub(size);
    let nanos = time.as_nanos().saturating_mul(u128::from(left)) / u128::from(grown.max(1)) / 2;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).clamp(SOON, LATE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_of_rotated_files() {
        let cases = [
            ("", 5, "", ""),
            ("l.1", 5, "", "l.1"),
            ("l.2 l.1.gz", 5, "", "l.2"),
            ("l.2.gz l.2 l.3.tmp", 5, "l.2 l.3.tmp", ""),
            ("l.1.gz l.2.gz l.3.gz l.4", 5, "l.1.gz", "l.4"),
            ("l.1.gz l.1.001 l.1.002", 4, "l.1.gz", "l.1.001 l.1.002"),
            ("l.1 l.2", 2, "l.1 l.2", ""),
        ];
        for (names, most, remove, compress) in cases {
            let names: Vec<_> = names.split_whitespace().map(str::to_owned).collect();
            let upkeep = upkeep(&names, most);
            assert_eq!(upkeep.remove.join(" "), remove, "{names:?}");
            assert_eq!(upkeep.compress.join(" "), compress, "{names:?}");
        }
    }

    #[test]
    fn busy_logs_are_looked_at_more_often() {
        let second = Duration::from_secs(1);
        let limit = 10 << 20;
        let cases = [
            (0, 100, second, LATE),
            (0, 100 << 20, second, SOON),
            (0, 10 << 20, second, Duration::from_millis(500)),
            (5 << 20, 10 << 20, second, Duration::from_millis(250)),
            (limit, 1, second, SOON),
            (0, 0, second, LATE),
        ];
        for (size, grown, time, expected) in cases {
            assert_eq!(next_look(size, grown, time, limit), expected, "{size} {grown}");
        }
    }
}
