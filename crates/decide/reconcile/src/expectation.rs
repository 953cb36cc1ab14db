//! What was written and may not be seen yet: the next decision waits until the caches show it.
//!
//! What enters is what each list of actions wrote and what the caches show; what leaves is whether
//! a key may be decided about. So nothing is made twice because a cache is late.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::Duration;

use crate::action::{Living, Resource};

/// How long to wait for the caches before deciding without them.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What was written.
#[derive(Clone, Debug, PartialEq)]
pub enum Written {
    /// This kind's caches must reach this version.
    Version(Resource, u64),
    /// This object must be gone, or going.
    Gone(Living),
}

impl Written {
    /// The kind that was written.
    pub fn resource(&self) -> &Resource {
        match self {
            Self::Version(resource, _) => resource,
            Self::Gone(living) => &living.target.resource,
        }
    }
}

/// What was written for each key. Times are those of a clock that only goes forward.
#[derive(Debug)]
pub struct Expectations<K> {
    of: HashMap<K, Expected>,
}

#[derive(Debug)]
struct Expected {
    written: Vec<Written>,
    since: Duration,
}

impl<K> Default for Expectations<K> {
    fn default() -> Self {
        Self { of: HashMap::new() }
    }
}

impl<K: Clone + Eq + Hash> Expectations<K> {
    /// Notes what was written for a key.
    pub fn add(&mut self, key: &K, mut written: Vec<Written>, now: Duration) {
        if written.is_empty() {
            return;
        }
        let entry = self.of.entry(key.clone());
        let entry = entry.or_insert_with(|| Expected { written: Vec::new(), since: now });
        entry.written.append(&mut written);
        entry.since = now;
    }

    /// Whether the caches show all that was written for the key, or never will.
    pub fn met(&mut self, key: &K, now: Duration, shows: impl Fn(&Written) -> bool) -> bool {
        let Some(entry) = self.of.get_mut(key) else { return true };
        entry.written.retain(|written| !shows(written));
        let met = entry.written.is_empty() || now.saturating_sub(entry.since) > PATIENCE;
        if met {
            self.of.remove(key);
        }
        met
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_waits_for_its_own_writes_and_not_for_ever() {
        let pods = || Resource::of::<k8s_openapi::api::core::v1::Pod>();
        let mut expectations = Expectations::default();
        let second = Duration::from_secs(1);
        expectations.add(&"a", vec![Written::Version(pods(), 7), Written::Version(pods(), 9)], second);
        let at = |version: u64| move |written: &Written| matches!(written, Written::Version(_, wanted) if *wanted <= version);
        assert!(expectations.met(&"b", second, at(0)), "another key");
        assert!(!expectations.met(&"a", second, at(8)));
        assert!(expectations.met(&"a", second, at(9)));
        assert!(expectations.met(&"a", second, at(0)), "nothing is left to wait for");
        expectations.add(&"a", vec![Written::Version(pods(), 11)], second);
        assert!(!expectations.met(&"a", PATIENCE, at(9)));
        assert!(expectations.met(&"a", PATIENCE + second * 2, at(9)), "patience has an end");
    }
}
