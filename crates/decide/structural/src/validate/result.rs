//! What one step of validation found.

use plimsoll_meta::field::FieldError;

/// Errors, and how many checks were passed on the way: of several failed alternatives the one with the most
/// is the one that was probably meant.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) errors: Vec<FieldError>,
    pub(crate) matches: usize,
}

impl Findings {
    pub(crate) fn add(&mut self, error: FieldError) {
        if !self.errors.contains(&error) {
            self.errors.push(error);
        }
    }

    pub(crate) fn count(&mut self) {
        self.matches += 1;
    }

    pub(crate) fn merge(&mut self, other: Findings) {
        self.matches += other.matches;
        for error in other.errors {
            self.add(error);
        }
    }

    /// The result of a whole group of checks.
    pub(crate) fn check(&mut self, other: Findings) {
        self.merge(other);
        self.count();
    }
}
