//! Sets of completion indexes, written as `0,3-5`.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use k8s_openapi::api::core::v1::Pod;

/// The annotation (and label) with a pod's index.
pub(super) const INDEX: &str = "batch.kubernetes.io/job-completion-index";

/// The index of a pod of an indexed Job.
pub(super) fn of_pod(pod: &Pod) -> Option<usize> {
    pod.metadata.annotations.as_ref()?.get(INDEX)?.parse().ok()
}

/// A set of indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Indexes(BTreeSet<usize>);

impl Indexes {
    /// Reads the indexes below `completions`; parts that are no ranges are left out.
    pub(super) fn parse(text: &str, completions: usize) -> Self {
        let ranges = text.split(',').filter_map(|part| {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            Some((first.parse::<usize>().ok()?, last.parse::<usize>().ok()?))
        });
        Self(ranges.flat_map(|(first, last)| first..(last + 1).min(completions)).collect())
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn contains(&self, index: usize) -> bool {
        self.0.contains(&index)
    }

    pub(super) fn insert(&mut self, index: usize) {
        self.0.insert(index);
    }

    /// How many of these are in `other` too.
    pub(super) fn common(&self, other: &Self) -> usize {
        self.0.intersection(&other.0).count()
    }

    /// Ranges of three and more are written short.
    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        let mut rest = self.0.iter().copied().peekable();
        while let Some(first) = rest.next() {
            let mut last = first;
            while let Some(next) = rest.next_if_eq(&(last + 1)) {
                last = next;
            }
            let comma = if text.is_empty() { "" } else { "," };
            let written = match last - first {
                0 => write!(text, "{comma}{first}"),
                1 => write!(text, "{comma}{first},{last}"),
                _ => write!(text, "{comma}{first}-{last}"),
            };
            written.expect("strings take all");
        }
        text
    }
}

impl FromIterator<usize> for Indexes {
    fn from_iter<I: IntoIterator<Item = usize>>(indexes: I) -> Self {
        Self(indexes.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read_and_written() {
        let cases = [
            ("", 5, "", 0),
            ("0", 5, "0", 1),
            ("0,1", 5, "0,1", 2),
            ("0-3", 5, "0-3", 4),
            ("1-9", 5, "1-4", 4),
            ("x,2", 5, "2", 1),
            ("7", 5, "", 0),
        ];
        for (text, completions, written, count) in cases {
            let indexes = Indexes::parse(text, completions);
            assert_eq!((indexes.text().as_str(), indexes.len()), (written, count), "{text}");
        }
    }
}
