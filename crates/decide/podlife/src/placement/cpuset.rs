//! Sets of processors or memory nodes, as the kernel and users write them.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

/// A set of numbers, `0-3,7`.
///
/// ```
/// use plimsoll_podlife::placement::CpuSet;
/// let set: CpuSet = "7,0-2".parse().expect("a list of ranges");
/// assert_eq!(set.to_string(), "0-2,7");
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CpuSet(BTreeSet<u32>);

/// Why a text is no set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("strconv.Atoi: parsing {0:?}: invalid syntax")]
pub struct NoSet(String);

impl CpuSet {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether this one is among them.
    #[must_use]
    pub fn contains(&self, number: u32) -> bool {
        self.0.contains(&number)
    }

    /// They in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> {
        self.0.iter().copied()
    }

    /// Those of both.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.0.union(&other.0).copied().collect()
    }

    /// Those that both have.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.0.intersection(&other.0).copied().collect()
    }

    /// Those that the other has not.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.0.difference(&other.0).copied().collect()
    }

    /// Whether the other has them all.
    #[must_use]
    pub fn is_subset(&self, other: &Self) -> bool {
        self.0.is_subset(&other.0)
    }
}

impl FromIterator<u32> for CpuSet {
    fn from_iter<T: IntoIterator<Item = u32>>(numbers: T) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl FromStr for CpuSet {
    type Err = NoSet;

    fn from_str(text: &str) -> Result<Self, NoSet> {
        let number = |word: &str| word.parse::<u32>().map_err(|_| NoSet(word.to_owned()));
        let mut set = BTreeSet::new();
        for range in text.trim().split(',').filter(|_| !text.trim().is_empty()) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let (first, last) = (number(first)?, number(last)?);
            // No machine has more; a larger one would only fill memory.
            if last < first || last > 65_535 {
                return Err(NoSet(range.to_owned()));
            }
            set.extend(first..=last);
        }
        Ok(Self(set))
    }
}

impl fmt::Display for CpuSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ranges: Vec<(u32, u32)> = Vec::new();
        for number in self.iter() {
            match ranges.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                _ => ranges.push((number, number)),
            }
        }
        let words = ranges.into_iter().map(|(first, last)| match first == last {
            true => first.to_string(),
            false => format!("{first}-{last}"),
        });
        f.write_str(&words.collect::<Vec<_>>().join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_are_read_and_written_in_ranges() {
        for (text, shown) in [("", ""), ("3", "3"), ("0-1,4,2", "0-2,4"), ("0,2,4-5\n", "0,2,4-5")] {
            assert_eq!(text.parse::<CpuSet>().map(|set| set.to_string()).as_deref(), Ok(shown), "{text}");
        }
        for text in ["a", "1-", "3-1", ",", "0-99999999"] {
            assert!(text.parse::<CpuSet>().is_err(), "{text}");
        }
    }
}
