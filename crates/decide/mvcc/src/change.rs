//! What a writer asks for.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::Revision;

/// Bytes to commit.
#[derive(Clone, Debug)]
pub struct Value {
    /// How the committed bytes come about.
    pub body: Body,
    /// After this time the key deletes itself.
    pub ttl: Option<Duration>,
}

/// How the committed bytes come about.
#[derive(Clone, Debug)]
pub enum Body {
    /// These bytes.
    Plain(Bytes),
    /// `head`, the decimal digits of the commit's revision, `tail`: so an object is encoded once
    /// and still carries its own revision.
    Spliced {
        /// Everything before the revision.
        head: Bytes,
        /// Everything after it.
        tail: Bytes,
    },
}

impl Value {
    /// A value that does not mention its revision.
    pub fn plain(bytes: impl Into<Bytes>) -> Self {
        Self { body: Body::Plain(bytes.into()), ttl: None }
    }

    /// A value with its revision between `head` and `tail`.
    pub fn spliced(head: impl Into<Bytes>, tail: impl Into<Bytes>) -> Self {
        Self { body: Body::Spliced { head: head.into(), tail: tail.into() }, ttl: None }
    }

    /// The same value, deleting itself after `ttl`.
    #[must_use]
    pub fn with_ttl(mut self, ttl: Option<Duration>) -> Self {
        self.ttl = ttl;
        self
    }

    /// How many bytes it is, give or take the digits of a revision.
    #[must_use]
    pub fn size(&self) -> usize {
        match &self.body {
            Body::Plain(bytes) => bytes.len(),
            Body::Spliced { head, tail } => head.len() + tail.len(),
        }
    }

    /// The bytes as committed at `revision`.
    #[must_use]
    pub fn at(&self, revision: Revision) -> Bytes {
        match &self.body {
            Body::Plain(bytes) => bytes.clone(),
            Body::Spliced { head, tail } => splice(head, revision, tail),
        }
    }
}

/// One exact allocation: `Bytes` takes a full vector over as it is.
fn splice(head: &[u8], revision: Revision, tail: &[u8]) -> Bytes {
    let mut digits = [0; 20];
    let digits = decimal(revision.0.unsigned_abs(), &mut digits);
    let mut bytes = Vec::with_capacity(head.len() + digits.len() + tail.len());
    bytes.extend_from_slice(head);
    bytes.extend_from_slice(digits);
    bytes.extend_from_slice(tail);
    bytes.into()
}

fn decimal(mut number: u64, room: &mut [u8; 20]) -> &[u8] {
    let mut start = room.len();
    loop {
        start -= 1;
        room[start] = b'0' + u8::try_from(number % 10).expect("a digit is below ten");
        number /= 10;
        if number == 0 {
            return &room[start..];
        }
    }
}

/// What must be true of the key for the change to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing. (A deletion still needs something to delete.)
    Any,
    /// The key does not exist.
    Absent,
    /// The key was last changed at this revision.
    Revision(Revision),
}

/// What happens to the key.
#[derive(Clone, Debug)]
pub enum Change {
    /// It gets this value.
    Put(Value),
    /// It goes; the value is the final state that watchers see.
    Delete(Value),
}

impl Change {
    /// The value it carries.
    #[must_use]
    pub fn value(&self) -> &Value {
        match self {
            Self::Put(value) | Self::Delete(value) => value,
        }
    }
}

/// One change of a transaction.
#[derive(Clone, Debug)]
pub struct Step {
    /// The full key.
    pub key: Arc<str>,
    /// The precondition.
    pub expect: Expect,
    /// The change.
    pub change: Change,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_revision_stands_between_head_and_tail() {
        for (head, revision, tail, committed) in [
            ("{\"v\":\"", 7, "\"}", "{\"v\":\"7\"}"),
            ("", 1_234_567, "", "1234567"),
            ("a", i64::MAX, "b", "a9223372036854775807b"),
        ] {
            let value = Value::spliced(head, tail);
            assert_eq!(value.at(Revision(revision)), committed);
        }
        assert_eq!(Value::plain("as is").at(Revision(9)), "as is");
    }
}
