//! PriorityLevelConfigurations: how many requests of a kind may run.

use serde_json::Value;

/// A priority level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// Its name.
    pub name: String,
    /// Its uid; empty when it is not stored.
    pub uid: String,
    /// Its part of the server's concurrency.
    pub shares: u32,
    /// How much of that others may borrow, in percent.
    pub lendable: u32,
    /// Whether and how it is limited.
    pub kind: LevelKind,
}

/// Whether a level is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LevelKind {
    /// Its requests always run.
    Exempt,
    /// Its requests need seats.
    Limited {
        /// How much it may borrow, in percent of what it has; `None` is no limit.
        borrowing: Option<u32>,
        /// What happens to requests beyond the limit.
        response: Response,
    },
}

/// What happens to requests beyond the limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Response {
    /// They are turned away.
    Reject,
    /// They wait.
    Queue {
        /// How many queues there are.
        queues: usize,
        /// How many of them a flow may wait in.
        hand: usize,
        /// How many requests may wait in one.
        length: usize,
    },
}

impl Level {
    /// Reads an object that validation has let pass.
    pub fn read(object: &Value) -> Self {
        let spec = &object["spec"];
        let number = |value: &Value| value.as_u64().and_then(|number| u32::try_from(number).ok());
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let exempt = spec["type"] == "Exempt";
        let own = if exempt { &spec["exempt"] } else { &spec["limited"] };
        let queuing = &own["limitResponse"]["queuing"];
        let size = |field: &str, default| {
            number(&queuing[field]).filter(|size| *size > 0).map_or(default, |size| size as usize)
        };
        let response = match own["limitResponse"]["type"].as_str() {
            Some("Queue") => Response::Queue {
                queues: size("queues", 64),
                hand: size("handSize", 8),
                length: size("queueLengthLimit", 50),
            },
            _ => Response::Reject,
        };
        Self {
            name: text(&object["metadata"]["name"]),
            uid: text(&object["metadata"]["uid"]),
            shares: number(&own["nominalConcurrencyShares"]).unwrap_or(if exempt { 0 } else { 30 }),
            lendable: number(&own["lendablePercent"]).unwrap_or_default().min(100),
            kind: match exempt {
                true => LevelKind::Exempt,
                false => LevelKind::Limited { borrowing: number(&own["borrowingLimitPercent"]), response },
            },
        }
    }

    /// How many queues a flow of this level may wait in.
    pub fn hand(&self) -> Option<usize> {
        match self.kind {
            LevelKind::Limited { response: Response::Queue { hand, .. }, .. } => Some(hand),
            _ => None,
        }
    }
}
