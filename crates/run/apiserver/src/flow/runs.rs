//! The requests of a level that run now.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use plimsoll_flow::width::Width;

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Row {
    pub(super) schema: String,
    pub(super) flow: String,
    pub(super) width: Width,
    pub(super) arrived: Instant,
    pub(super) started: Instant,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<(u64, HashMap<u64, Row>)>);

impl Runs {
    fn lock(&self) -> MutexGuard<'_, (u64, HashMap<u64, Row>)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request begins; the number is for its end.
    pub(super) fn begin(&self, row: Row) -> u64 {
        let mut runs = self.lock();
        runs.0 += 1;
        let number = runs.0;
        runs.1.insert(number, row);
        number
    }

    /// A request has ended.
    pub(super) fn end(&self, number: u64) {
        self.lock().1.remove(&number);
    }

    /// Those that run, the oldest first.
    pub(super) fn rows(&self) -> Vec<Row> {
        let mut rows: Vec<(u64, Row)> =
            self.lock().1.iter().map(|(number, row)| (*number, row.clone())).collect();
        rows.sort_by_key(|(number, _)| *number);
        rows.into_iter().map(|(_, row)| row).collect()
    }
}
