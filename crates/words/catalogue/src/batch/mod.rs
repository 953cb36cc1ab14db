//! The group `batch`.

mod cron_job;
mod job;
mod job_spec;
mod schedule;

use crate::kind::{Kind, Storage};

/// The rows in the order of discovery.
pub(crate) const KINDS: &[Kind] = &[cron_job::CRON_JOB, job::JOB];

const BASE: Kind = Kind { group: "batch", ..Kind::BASE };

const fn stored(prefix: &'static str) -> Storage {
    Storage::Stored { prefix, group: "batch", version: "v1" }
}
