//! Who is asked again when the object changed after it was asked.

use std::collections::HashSet;

/// What the first round of a request came to.
///
/// A webhook or policy with `IfNeeded` is asked a second time when another one, or a built-in step
/// of the second round, changed the object after it. Nobody is asked for the first time then.
#[derive(Debug, Default)]
pub struct Reinvocation {
    asked: HashSet<String>,
    again: HashSet<String>,
}

impl Reinvocation {
    /// The judge saw the object and wants to see changes that come later.
    pub fn saw(&mut self, id: &str) {
        self.asked.insert(id.to_owned());
    }

    /// The object changed: whoever saw it before must see it again.
    pub fn changed(&mut self) {
        self.again.extend(self.asked.drain());
    }

    /// Must this one be asked in the second round?
    pub fn wants(&self, id: &str) -> bool {
        self.again.contains(id)
    }

    /// Does anybody have to be asked again?
    pub fn is_needed(&self) -> bool {
        !self.again.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_earlier_judges_are_asked_again() {
        let mut rounds = Reinvocation::default();
        rounds.changed();
        rounds.saw("first");
        assert!(!rounds.is_needed());
        rounds.changed();
        rounds.saw("second");
        assert_eq!((rounds.wants("first"), rounds.wants("second")), (true, false));
    }
}
