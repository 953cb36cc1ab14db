//! What is under way in a pod: for the whole of it, and for each container.

use jiff::{SignedDuration, Timestamp};

use crate::effect::Alarm;
use crate::restart::{Backoff, is_pending};

/// Something that is done once and may fail.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) enum Step {
    #[default]
    Idle,
    Busy(u32),
    Done,
    Failed {
        retry: Timestamp,
        tries: u32,
    },
}

impl Step {
    /// Begins when it is time to; true when the caller has to act.
    pub(crate) fn begin(&mut self, now: Timestamp, alarm: &mut Alarm) -> bool {
        let tries = match self {
            Self::Idle => 0,
            Self::Failed { retry, tries } if !is_pending(*retry, now) => *tries,
            Self::Failed { retry, .. } => {
                alarm.at(*retry);
                return false;
            }
            Self::Busy(_) | Self::Done => return false,
        };
        *self = Self::Busy(tries);
        true
    }

    /// Waits 1 s, 2 s, 4 s … 16 s after failures.
    pub(super) fn fail(&mut self, now: Timestamp) {
        let tries = match self {
            Self::Busy(tries) | Self::Failed { tries, .. } => *tries,
            Self::Idle | Self::Done => 0,
        };
        *self = Self::Failed { retry: now + SignedDuration::from_secs(1 << tries.min(4)), tries: tries + 1 };
    }

    pub(super) fn end<E>(&mut self, result: &Result<(), E>, now: Timestamp) {
        match result {
            Ok(()) => *self = Self::Done,
            Err(_) => self.fail(now),
        }
    }
}

/// Where the pod stands as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Containers are kept running.
    Living,
    /// Containers are stopped; those that run get until then.
    Ending { deadline: Timestamp, grace: i64 },
    /// Nothing is left but the records of its containers.
    Over,
    /// Those are removed too.
    Finished,
}

/// What is under way for one container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    pub(crate) op: Op,
    pub(crate) waiting: Option<Waiting>,
    pub(crate) crash: Backoff,
    pub(crate) pull: Backoff,
    /// No new try before.
    pub(crate) retry: Option<Timestamp>,
    pub(crate) failures: u32,
    /// The end whose back-off was told to users.
    pub(crate) told: Option<Timestamp>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Op {
    #[default]
    Idle,
    Image,
    HasImage(String),
    Starting,
    PostStart(String),
    Stopping {
        id: String,
        grace: i64,
    },
}

/// Why a container does not run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Waiting {
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}
