//! Prints commits a second, and what reads, watchers and a restart cost.
//!
//! `cargo run --release -p plimsoll-store --example commits [DIRECTORY]`
#![expect(clippy::unwrap_used, reason = "a benchmark stops at the first failure")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use plimsoll_store::{Change, Expect, Options, Store, Value};

fn main() {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let [open, folder] = &arguments[..]
        && open == "open"
    {
        return reopen(&PathBuf::from(folder));
    }
    let scratch = || std::env::temp_dir().join(format!("commits-{}", std::process::id()));
    let folder = arguments.first().map_or_else(scratch, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let started = Instant::now();
    let store = Store::open(&folder, Options { compaction_interval: None, ..Options::default() }).unwrap();
    println!("open an empty store: {:?}", started.elapsed());
    runtime.block_on(measure(&store));
    drop(store);
    // A new process: what this one has freed would count as resident.
    let new = std::env::current_exe().unwrap();
    Command::new(new).arg("open").arg(&folder).status().unwrap();
    std::fs::remove_dir_all(folder).unwrap();
}

fn reopen(folder: &Path) {
    let (before, started) = (resident(), Instant::now());
    let store = Store::open(folder, Options::default()).unwrap();
    let (time, keys) = (started.elapsed(), store.range("", None, 0, None).unwrap().entries);
    let values: usize = keys.iter().map(|entry| entry.value.len()).sum();
    println!(
        "open {} keys with {} MiB of values: {time:?}, {} MiB resident",
        keys.len(),
        values >> 20,
        resident() - before
    );
}

async fn measure(store: &Store) {
    for clients in [1, 16, 64, 1000] {
        commits(store, clients, Duration::from_secs(3)).await;
    }
    fan_out(store, 1000, 500).await;
    list(store);
    churn(store, 50_000, 4).await;
}

fn value() -> Value {
    Value::spliced(r#"{"metadata":{"resourceVersion":""#, format!(r#""}},"data":"{}"}}"#, "x".repeat(950)))
}

async fn commits(store: &Store, clients: usize, time: Duration) {
    let (started, cpu) = (Instant::now(), processor());
    let mut tasks = tokio::task::JoinSet::new();
    for client in 0..clients {
        let store = store.clone();
        tasks.spawn(async move {
            let mut waits = Vec::new();
            while started.elapsed() < time {
                let (asked, number) = (Instant::now(), waits.len());
                let key = format!("/registry/configmaps/bench-{clients}/{client}-{number}");
                store.commit(&key, Expect::Absent, Change::Put(value())).await.unwrap();
                waits.push(asked.elapsed());
            }
            waits
        });
    }
    let mut waits: Vec<_> = tasks.join_all().await.concat();
    waits.sort_unstable();
    let rate = waits.len() as f64 / started.elapsed().as_secs_f64();
    let each = (processor() - cpu).as_secs_f64() * 1e6 / waits.len() as f64;
    let p = |share: usize| waits[(waits.len() - 1) * share / 100];
    println!(
        "{clients} clients: {rate:.0} commits/s, p50 {:?}, p99 {:?}, {each:.1} µs of processor each",
        p(50),
        p(99)
    );
}

async fn fan_out(store: &Store, watchers: usize, updates: usize) {
    let (seen, mut tasks) = (Arc::new(AtomicUsize::new(0)), tokio::task::JoinSet::new());
    for _ in 0..watchers {
        let (mut watch, seen) = (store.watch("/registry/watched/", None).unwrap(), Arc::clone(&seen));
        tasks.spawn(async move {
            for _ in 0..updates {
                watch.next().await.unwrap();
                seen.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let (started, cpu) = (Instant::now(), processor());
    for _ in 0..updates {
        store.commit("/registry/watched/key", Expect::Any, Change::Put(value())).await.unwrap();
    }
    tasks.join_all().await;
    let events = seen.load(Ordering::Relaxed) as f64;
    let rate = events / started.elapsed().as_secs_f64();
    println!(
        "{watchers} watchers: {rate:.0} events/s, {:.2} µs of processor each",
        (processor() - cpu).as_secs_f64() * 1e6 / events
    );
}

fn list(store: &Store) {
    let started = Instant::now();
    let page = store.range("/registry/configmaps/", None, 0, None).unwrap();
    println!("list {} keys: {:?}", page.entries.len(), started.elapsed());
    let started = Instant::now();
    for _ in 0..1000 {
        store.range("/registry/configmaps/", None, 500, None).unwrap();
    }
    println!("page of 500 keys: {:?}", started.elapsed() / 1000);
}

/// Writes the same keys over and over, with compaction as often as an interval would.
async fn churn(store: &Store, keys: usize, rounds: usize) {
    println!("before churn: {} MiB on disk, {} MiB resident", store.disk_space().unwrap() >> 20, resident());
    for round in 1..=rounds {
        let (before, mut tasks) = (store.revision(), tokio::task::JoinSet::new());
        for client in 0..64 {
            let store = store.clone();
            tasks.spawn(async move {
                let mut longest = Duration::ZERO;
                for number in (client..keys).step_by(64) {
                    let (key, asked) = (format!("/registry/churn/{number}"), Instant::now());
                    store.commit(&key, Expect::Any, Change::Put(value())).await.unwrap();
                    longest = longest.max(asked.elapsed());
                }
                longest
            });
        }
        let started = Instant::now();
        store.compact(before).await.unwrap();
        let compaction = started.elapsed();
        let longest = tasks.join_all().await.into_iter().max().unwrap();
        let disk = store.disk_space().unwrap() >> 20;
        println!("churn {round}: {disk} MiB on disk, longest wait {longest:?}, compaction {compaction:?}");
    }
}

/// Processor time of this process.
fn processor() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    // utime and stime, in hundredths of a second.
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// Resident memory in MiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
}
