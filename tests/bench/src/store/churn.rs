//! 50,000 keys updated and deleted over and over: what the disk takes, and the longest pause.
//!
//! Half an hour in one minute: history is compacted every 10 seconds instead of every 5 minutes.

use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_store::Options;

use super::{Keeper, VALUE, runtime, value};
use crate::report;

const KEYS: usize = 50_000;
const WRITERS: usize = 8;
const RUN: Duration = Duration::from_secs(60);
/// Changes per second: what 30 minutes of 100 a second are in one.
const RATE: f64 = 3_000.0;

pub(super) fn run(folder: &Path, etcd: Option<&Path>) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let options = Options {
            compaction_interval: Some(Duration::from_secs(10)),
            quota: 8 << 30,
            ..Options::default()
        };
        for keeper in Keeper::all(folder, etcd, options).await? {
            fill(&keeper).await?;
            let path = folder.join(if keeper.name() == "etcd" { "etcd" } else { "ours" });
            let (changes, pause, most) = churn(&keeper, &path).await?;
            let (live, name) = ((KEYS * VALUE) as f64, keeper.name());
            let aim = |text: &'static str| if name == "etcd" { "-" } else { text };
            report(&format!("{name}: churn, changes"), &changes.to_string(), aim("180000, all in time"));
            report(&format!("{name}: churn, disk"), &format!("{:.2} × live", most / live), aim("2 × live"));
            report(&format!("{name}: churn, pause"), &format!("{:.1} ms", pause * 1e3), aim("50 ms"));
        }
        Ok(())
    })
}

async fn fill(keeper: &Keeper) -> anyhow::Result<()> {
    for first in (0..KEYS).step_by(1_000) {
        let put = |number: usize| {
            let keeper = keeper.clone();
            tokio::spawn(async move { keeper.put(number, &key(number), value(number as u64, VALUE)).await })
        };
        for put in (first..first + 1_000).map(put).collect::<Vec<_>>() {
            put.await??;
        }
    }
    Ok(())
}

/// How many changes there were, the longest one in seconds, and the most bytes on disk in the second half.
async fn churn(keeper: &Keeper, path: &Path) -> anyhow::Result<(usize, f64, f64)> {
    let (start, turn) = (Instant::now(), Arc::new(AtomicUsize::new(0)));
    let writer = |number: usize| {
        let (keeper, turn) = (keeper.clone(), Arc::clone(&turn));
        tokio::spawn(async move {
            let mut longest = 0.0_f64;
            while start.elapsed() < RUN {
                let turn = turn.fetch_add(1, Ordering::Relaxed);
                let due = start + Duration::from_secs_f64(turn as f64 / RATE);
                tokio::time::sleep_until(due.into()).await;
                let (key, since) = (key(turn * 7919 % KEYS), Instant::now());
                // Every eighth change deletes a key and brings it back.
                if turn % 8 == 0 {
                    keeper.delete(number, &key).await.ok();
                }
                keeper.put(number, &key, value(turn as u64, VALUE)).await?;
                longest = longest.max(since.elapsed().as_secs_f64());
            }
            anyhow::Ok(longest)
        })
    };
    let writers: Vec<_> = (0..WRITERS).map(writer).collect();
    let mut most = 0_u64;
    while start.elapsed() < RUN {
        tokio::time::sleep(Duration::from_millis(500)).await;
        if start.elapsed() > RUN / 2 {
            most = most.max(size(path));
        }
    }
    let mut longest = 0.0_f64;
    for writer in writers {
        longest = longest.max(writer.await??);
    }
    Ok((turn.load(Ordering::Relaxed), longest, most as f64))
}

fn key(number: usize) -> String {
    format!("/registry/churn/{number:06}")
}

/// Bytes that the file system gave; what vanishes meanwhile has none.
fn size(path: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(path) else { return 0 };
    let found = entries.flatten().filter_map(|entry| Some((entry.path(), entry.metadata().ok()?)));
    found.map(|(path, meta)| if meta.is_dir() { size(&path) } else { meta.blocks() * 512 }).sum()
}
