//! A writer process is killed at odd moments; what it was told is durable must be there.

use std::path::Path;

use plimsoll_store::Revision;

use crate::child::{self, Acknowledged};

const LARGEST: usize = 3000;

/// Lets the child run until it has acknowledged `count` writes, kills it, and returns what it said.
fn run_and_kill(folder: &Path, count: usize) -> Acknowledged {
    let mut process = child::command(folder, LARGEST).spawn().unwrap();
    let mut lines = child::lines(&mut process);
    let parse = |line: String| child::parse(&line);
    let mut acknowledged: Acknowledged = lines.by_ref().filter_map(parse).take(count).collect();
    process.kill().unwrap();
    acknowledged.extend(lines.filter_map(parse));
    process.wait().unwrap();
    acknowledged
}

#[tokio::test]
async fn nothing_acknowledged_is_lost() {
    let folder = tempfile::tempdir().unwrap();
    let mut last = Revision::FIRST;
    for count in [1, 17, 120, 333, 2, 700] {
        let acknowledged = run_and_kill(folder.path(), count);
        assert!(acknowledged.len() >= count);
        let store = child::open(folder.path()).unwrap();
        assert!(store.revision() > last, "the revision goes on");
        child::check(&store, &acknowledged, LARGEST).await;
        last = store.revision();
    }
}
