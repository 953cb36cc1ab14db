//! Synced writes of 1 KB by 1, 64 and 1,000 clients that each wait for the last before the next.

use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_store::Options;

use super::{Keeper, VALUE, compare, runtime, value};
use crate::report;

const RUN: Duration = Duration::from_secs(4);
/// How many clients, and how many times etcd's rate is the aim.
const CLIENTS: &[(usize, f64)] = &[(1, 1.0), (64, 5.0), (1_000, 5.0)];

pub(super) fn run(folder: &Path, etcd: Option<&Path>) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let keepers = Keeper::all(folder, etcd, Options::default()).await?;
        for (clients, factor) in CLIENTS {
            let mut figures = Vec::new();
            for keeper in &keepers {
                figures.push((keeper.name(), load(keeper, *clients).await?));
            }
            let rates: Vec<_> = figures.iter().map(|(name, took)| (*name, rate(took))).collect();
            compare(&format!("puts per second, {clients} clients"), &rates, *factor);
            for (name, took) in &figures {
                let aim = if *name == "etcd" { "-" } else { "no more than etcd's" };
                let label = format!("{name}: p99 of puts, {clients} clients");
                report(&label, &format!("{:.2} ms", at(took, 0.99) * 1e3), aim);
            }
        }
        Ok(())
    })
}

/// How long each write took, in seconds, ascending.
async fn load(keeper: &Keeper, clients: usize) -> anyhow::Result<Vec<f64>> {
    let start = Instant::now();
    let client = |number: usize| {
        let keeper = keeper.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while start.elapsed() < RUN {
                let key = format!("/registry/load/{number}-{}", took.len() % 100);
                let bytes = value((number * 7919 + took.len()) as u64, VALUE);
                let since = Instant::now();
                keeper.put(number, &key, bytes).await?;
                took.push(since.elapsed().as_secs_f64());
            }
            anyhow::Ok(took)
        })
    };
    let clients: Vec<_> = (0..clients).map(client).collect();
    let mut took = Vec::new();
    for client in clients {
        took.extend(client.await??);
    }
    took.sort_by(f64::total_cmp);
    Ok(took)
}

fn rate(took: &[f64]) -> f64 {
    took.len() as f64 / RUN.as_secs_f64()
}

fn at(took: &[f64], share: f64) -> f64 {
    took.get((took.len() as f64 * share) as usize).copied().unwrap_or_default()
}
