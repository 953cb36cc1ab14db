//! Ordered sets of paths into an object: what a manager owns.

mod element;
mod fields_v1;

pub use element::Element;
pub(crate) use fields_v1::{covers, touches};

use std::cmp::Ordering;

/// A set of paths, kept as a tree: every level is sorted and no branch is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Set {
    entries: Vec<(Element, Node)>,
}

/// What a [`Set`] says about one step.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Node {
    /// The path that ends here belongs to the set.
    pub(crate) member: bool,
    /// Longer paths.
    pub(crate) below: Set,
}

impl Node {
    pub(crate) const MEMBER: Node = Node { member: true, below: Set { entries: Vec::new() } };

    pub(crate) fn is_empty(&self) -> bool {
        !self.member && self.below.is_empty()
    }
}

impl Set {
    /// No path.
    pub const EMPTY: Set = Set { entries: Vec::new() };

    /// The set of these paths of field names.
    pub fn of_fields(paths: &[&[&str]]) -> Self {
        let mut set = Set::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    /// True if no path belongs to the set.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a path; the empty path is ignored because nobody owns a whole object.
    pub fn insert(&mut self, path: &[Element]) {
        let Some((first, rest)) = path.split_first() else { return };
        let node = self.entry(first);
        if rest.is_empty() {
            node.member = true;
        } else {
            node.below.insert(rest);
        }
    }

    /// True if exactly this path belongs to the set.
    pub fn contains(&self, path: &[Element]) -> bool {
        match path.split_first() {
            None => false,
            Some((first, [])) => self.get(first).is_some_and(|node| node.member),
            Some((first, rest)) => self.get(first).is_some_and(|node| node.below.contains(rest)),
        }
    }

    /// Paths of either set.
    pub fn union(&self, other: &Set) -> Set {
        self.zip(other, &mut |mine, others| match (mine, others) {
            (Some(a), Some(b)) => Node { member: a.member || b.member, below: a.below.union(&b.below) },
            (Some(node), None) | (None, Some(node)) => node.clone(),
            (None, None) => Node::default(),
        })
    }

    /// Paths of both sets.
    pub fn intersection(&self, other: &Set) -> Set {
        self.zip(other, &mut |mine, others| match (mine, others) {
            (Some(a), Some(b)) => {
                Node { member: a.member && b.member, below: a.below.intersection(&b.below) }
            }
            _ => Node::default(),
        })
    }

    /// Paths of this set that are not in the other; longer paths of this set stay.
    pub fn difference(&self, other: &Set) -> Set {
        self.zip(other, &mut |mine, others| match (mine, others) {
            (Some(a), Some(b)) => Node { member: a.member && !b.member, below: a.below.difference(&b.below) },
            (Some(node), None) => node.clone(),
            _ => Node::default(),
        })
    }

    /// Paths of this set that neither are in the other nor continue one of its paths.
    pub fn without(&self, other: &Set) -> Set {
        if other.is_empty() {
            return self.clone();
        }
        self.zip(other, &mut |mine, others| match (mine, others) {
            (Some(_), Some(b)) if b.member => Node::default(),
            (Some(a), Some(b)) => Node { member: a.member, below: a.below.without(&b.below) },
            (Some(node), None) => node.clone(),
            _ => Node::default(),
        })
    }

    /// Calls `visit` with every path: at each level those that end there, then the longer ones.
    pub fn visit(&self, visit: &mut impl FnMut(&[&Element])) {
        self.visit_below(&mut Vec::new(), visit);
    }

    fn visit_below<'s>(&'s self, path: &mut Vec<&'s Element>, visit: &mut impl FnMut(&[&Element])) {
        for (element, _) in self.entries.iter().filter(|(_, node)| node.member) {
            path.push(element);
            visit(path);
            path.pop();
        }
        for (element, node) in &self.entries {
            path.push(element);
            node.below.visit_below(path, visit);
            path.pop();
        }
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&Element, &Node)> {
        self.entries.iter().map(|(element, node)| (element, node))
    }

    pub(crate) fn get(&self, element: &Element) -> Option<&Node> {
        self.position(element.as_str()).ok().map(|at| &self.entries[at].1)
    }

    pub(crate) fn get_field(&self, name: &str) -> Option<&Node> {
        let at = self.entries.binary_search_by(|(element, _)| element.cmp_field(name)).ok()?;
        Some(&self.entries[at].1)
    }

    /// Puts a node where none was; empty nodes are left out.
    pub(crate) fn put(&mut self, element: Element, node: Node) {
        if node.is_empty() {
            return;
        }
        // Values are mostly walked in order, so that appending is the usual case.
        if self.entries.last().is_none_or(|(last, _)| *last < element) {
            self.entries.push((element, node));
            return;
        }
        match self.position(element.as_str()) {
            Ok(at) => {
                let there = &mut self.entries[at].1;
                *there = Node { member: there.member || node.member, below: there.below.union(&node.below) };
            }
            Err(at) => self.entries.insert(at, (element, node)),
        }
    }

    fn entry(&mut self, element: &Element) -> &mut Node {
        let at = match self.position(element.as_str()) {
            Ok(at) => at,
            Err(at) => {
                self.entries.insert(at, (element.clone(), Node::default()));
                at
            }
        };
        &mut self.entries[at].1
    }

    fn position(&self, element: &str) -> Result<usize, usize> {
        self.entries.binary_search_by(|(there, _)| there.as_str().cmp(element))
    }

    /// Walks two sets side by side and keeps what `join` makes of each step.
    fn zip(&self, other: &Set, join: &mut impl FnMut(Option<&Node>, Option<&Node>) -> Node) -> Set {
        let mut set = Set { entries: Vec::with_capacity(self.entries.len()) };
        let (mut left, mut right) = (self.entries.iter().peekable(), other.entries.iter().peekable());
        loop {
            let order = match (left.peek(), right.peek()) {
                (Some(a), Some(b)) => a.0.cmp(&b.0),
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (None, None) => return set,
            };
            let mine = if order.is_le() { left.next() } else { None };
            let others = if order.is_ge() { right.next() } else { None };
            let node = join(mine.map(|entry| &entry.1), others.map(|entry| &entry.1));
            if let Some((element, _)) = mine.or(others).filter(|_| !node.is_empty()) {
                set.entries.push((element.clone(), node));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(paths: &[&str]) -> Set {
        let mut set = Set::default();
        for path in paths {
            set.insert(&path.split('.').map(Element::field).collect::<Vec<_>>());
        }
        set
    }

    #[test]
    fn algebra() {
        let (a, b) = (set(&["a", "a.b", "a.c.d", "e"]), set(&["a.b", "a.c", "f"]));
        assert_eq!(a.union(&b), set(&["a", "a.b", "a.c", "a.c.d", "e", "f"]));
        assert_eq!(a.intersection(&b), set(&["a.b"]));
        assert_eq!(a.difference(&b), set(&["a", "a.c.d", "e"]));
        assert_eq!(a.without(&b), set(&["a", "e"]));
        assert_eq!(b.difference(&a), set(&["a.c", "f"]));
        assert!(a.difference(&a).is_empty());
        assert_eq!(a.intersection(&a), a);
    }

    #[test]
    fn visits_short_paths_first() {
        let mut seen = Vec::new();
        set(&["b", "a.x", "a"]).visit(&mut |path| {
            seen.push(path.iter().map(ToString::to_string).collect::<String>());
        });
        assert_eq!(seen, [".a", ".b", ".a.x"]);
    }

    #[test]
    fn membership() {
        let set = set(&["a.b"]);
        let path = [Element::field("a"), Element::field("b")];
        assert!(set.contains(&path));
        assert!(!set.contains(&path[..1]));
        assert!(set.get_field("a").is_some());
        assert!(set.get_field("b").is_none());
    }
}
