//! Which providers count for which resource.

use crate::provider::{self, OpenError, Opened, Provider};

/// A configuration that was read and checked.
#[derive(Debug)]
pub struct Rules {
    pub(crate) entries: Vec<Entry>,
}

/// The providers of one resource, or of all resources of a group, or of all.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) group: String,
    /// `*` for every resource.
    pub(crate) resource: String,
    pub(crate) providers: Vec<Provider>,
}

/// The providers that count for a resource.
#[derive(Clone, Copy, Debug)]
pub struct Chain<'r>(Option<&'r [Provider]>);

impl Rules {
    /// What counts for a resource: its own rule, else that of its group, else that of all.
    pub fn of(&self, group: &str, resource: &str) -> Chain<'_> {
        let find = |group: &str, resource: &str| {
            self.entries.iter().find(|entry| entry.group == group && entry.resource == resource)
        };
        let found = find(group, resource).or_else(|| find(group, "*")).or_else(|| find("*", "*"));
        Chain(found.map(|entry| entry.providers.as_slice()))
    }
}

impl Chain<'_> {
    /// The value as it is stored under `path`; none: as it is. `random` fills its argument.
    pub fn seal(&self, path: &str, plain: &[u8], random: &mut dyn FnMut(&mut [u8])) -> Option<Vec<u8>> {
        provider::seal(self.0?, path, plain, random)
    }

    /// The value that is stored under `path` in this form.
    ///
    /// # Errors
    /// When no key reads it.
    pub fn open(&self, path: &str, stored: &[u8]) -> Result<Opened, OpenError> {
        match self.0 {
            Some(providers) => provider::open(providers, path, stored),
            None => provider::open_plain(stored),
        }
    }
}
