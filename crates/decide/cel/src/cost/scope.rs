//! Names in scope while estimating, and what is known of their sizes.

use std::collections::HashMap;

use super::CostRange;

/// What is known of a container's keys and values.
#[derive(Clone, Copy)]
pub(super) struct EntrySize {
    pub(super) is_list: bool,
    pub(super) key: CostRange,
    pub(super) value: CostRange,
}

impl EntrySize {
    pub(super) fn union(self, other: Self) -> Self {
        Self { is_list: self.is_list, key: self.key.union(other.key), value: self.value.union(other.value) }
    }
}

/// A name of a loop or a binding.
#[derive(Clone, Default)]
pub(super) struct Local {
    pub(super) path: Vec<String>,
    pub(super) size: Option<CostRange>,
    pub(super) entry: Option<EntrySize>,
}

/// Names by their innermost meaning.
#[derive(Default)]
pub(super) struct Scopes(HashMap<String, Vec<Local>>);

impl Scopes {
    pub(super) fn push(&mut self, name: &str, local: Local) {
        self.0.entry(name.to_owned()).or_default().push(local);
    }

    pub(super) fn pop(&mut self, name: &str) {
        if let Some(stack) = self.0.get_mut(name) {
            stack.pop();
        }
    }

    pub(super) fn peek(&self, name: &str) -> Option<&Local> {
        self.0.get(name)?.last()
    }
}
