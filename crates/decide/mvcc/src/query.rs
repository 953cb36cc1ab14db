//! What a reader asks for, and in which order it gets it.
//!
//! The rules are etcd's (server/etcdserver/apply: range): bounds and order are applied to all keys of the span, the
//! limit to what is left; the count is that of the span.

use std::sync::Arc;

use crate::{Entry, Pick, Revision, Span};

/// What a reader asks for.
#[derive(Clone, Debug)]
pub struct Query {
    /// Which keys.
    pub span: Span,
    /// As of when; none: now.
    pub at: Option<Revision>,
    /// How many at most; 0: all.
    pub limit: usize,
    /// In which order; none: as they lie, which is by key.
    pub order: Option<(Target, Order)>,
    /// The revisions between which they were changed last.
    pub modified: Bounds,
    /// The revisions between which they came into being.
    pub created: Bounds,
}

/// What keys are compared by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// Name.
    Key,
    /// How often it was written.
    Version,
    /// When it came into being.
    Create,
    /// When it was changed last.
    Modified,
    /// Its bytes.
    Value,
    /// The lease it is attached to.
    Lease,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The least first.
    Ascending,
    /// The greatest first.
    Descending,
}

/// Both inclusive; 0: no bound.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds {
    /// Not before.
    pub least: Revision,
    /// Not after.
    pub most: Revision,
}

/// What the keys of a span are, before their versions were read.
#[derive(Debug, Default)]
pub struct Found {
    /// The versions.
    pub picks: Vec<Pick>,
    /// How many keys the span has.
    pub count: usize,
}

impl Query {
    /// All keys of a span, now.
    #[must_use]
    pub fn all(span: Span) -> Self {
        Self {
            span,
            at: None,
            limit: 0,
            order: None,
            modified: Bounds::default(),
            created: Bounds::default(),
        }
    }

    /// How many versions must be read: one more than asked for tells whether there is more.
    #[must_use]
    pub fn reach(&self) -> usize {
        match self.limit {
            0 => usize::MAX,
            _ if self.order.is_some() || self.modified.any() || self.created.any() => usize::MAX,
            limit => limit.saturating_add(1),
        }
    }

    /// Those that were asked for in their order, and whether the limit left out others.
    #[must_use]
    pub fn arrange(&self, mut entries: Vec<Arc<Entry>>) -> (Vec<Arc<Entry>>, bool) {
        entries.retain(|entry| self.modified.hold(entry.modified) && self.created.hold(entry.create));
        if let Some((target, order)) = self.order {
            entries.sort_by(|one, other| {
                let by = target.compare(one, other);
                if order == Order::Ascending { by } else { by.reverse() }
            });
        }
        let more = self.limit > 0 && entries.len() > self.limit;
        if more {
            entries.truncate(self.limit);
        }
        (entries, more)
    }
}

impl Target {
    fn compare(self, one: &Entry, other: &Entry) -> std::cmp::Ordering {
        match self {
            Self::Key => one.key.cmp(&other.key),
            Self::Version => one.version.cmp(&other.version),
            Self::Create => one.create.cmp(&other.create),
            Self::Modified => one.modified.cmp(&other.modified),
            Self::Value => one.value.cmp(&other.value),
            Self::Lease => one.lease.cmp(&other.lease),
        }
    }
}

impl Bounds {
    fn any(self) -> bool {
        self.least.0 != 0 || self.most.0 != 0
    }

    fn hold(self, revision: Revision) -> bool {
        (self.least.0 == 0 || revision >= self.least) && (self.most.0 == 0 || revision <= self.most)
    }
}
