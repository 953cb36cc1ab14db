//! What is counted of a look at an autoscaler, in the words of upstream's metrics.

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What became of the target.
    pub change: Change,
    /// What went wrong.
    pub trouble: Trouble,
    /// The same for each metric, in their order.
    pub metrics: Vec<(Change, Trouble)>,
}

/// Whether something asks for more replicas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Change {
    /// As many as before.
    #[default]
    None,
    /// More.
    Up,
    /// Fewer.
    Down,
}

impl Change {
    pub(super) fn of(before: i32, after: i32) -> Self {
        match after.cmp(&before) {
            std::cmp::Ordering::Equal => Self::None,
            std::cmp::Ordering::Greater => Self::Up,
            std::cmp::Ordering::Less => Self::Down,
        }
    }

    /// Upstream's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Up => "scale_up",
            Self::Down => "scale_down",
        }
    }
}

/// Whether something went wrong, and whose fault that is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Trouble {
    /// Nothing did.
    #[default]
    None,
    /// Something that was asked did not answer, or not as it should.
    Internal,
    /// The autoscaler cannot be understood.
    Spec,
}

impl Trouble {
    /// Upstream's word.
    pub fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Internal => "internal",
            Self::Spec => "spec",
        }
    }
}
