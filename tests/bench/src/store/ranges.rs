//! Lists of 1,000 keys of 1 KB, by 8 readers.

use std::path::Path;
use std::time::{Duration, Instant};

use plimsoll_store::Options;

use super::{Keeper, VALUE, compare, runtime, value};

const KEYS: usize = 1_000;
const READERS: usize = 8;
const RUN: Duration = Duration::from_secs(3);
const PREFIX: &str = "/registry/ranges/";

pub(super) fn run(folder: &Path, etcd: Option<&Path>) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut rates = Vec::new();
        for keeper in Keeper::all(folder, etcd, Options::default()).await? {
            fill(&keeper).await?;
            rates.push((keeper.name(), load(&keeper).await?));
        }
        compare("ranges of 1,000 keys per second", &rates, 5.0);
        Ok(())
    })
}

async fn fill(keeper: &Keeper) -> anyhow::Result<()> {
    let put = |number: usize| {
        let keeper = keeper.clone();
        let bytes = value(number as u64, VALUE);
        tokio::spawn(async move { keeper.put(number, &format!("{PREFIX}{number:06}"), bytes).await })
    };
    for put in (0..KEYS).map(put).collect::<Vec<_>>() {
        put.await??;
    }
    Ok(())
}

async fn load(keeper: &Keeper) -> anyhow::Result<f64> {
    let start = Instant::now();
    let reader = |number: usize| {
        let keeper = keeper.clone();
        tokio::spawn(async move {
            let mut count = 0;
            while start.elapsed() < RUN {
                anyhow::ensure!(range(&keeper, number).await? == KEYS * VALUE, "something is missing");
                count += 1;
            }
            Ok(count)
        })
    };
    let mut count = 0;
    for reader in (0..READERS).map(reader).collect::<Vec<_>>() {
        count += reader.await??;
    }
    Ok(f64::from(count) / start.elapsed().as_secs_f64())
}

/// Reads all; how many bytes the values have.
async fn range(keeper: &Keeper, reader: usize) -> anyhow::Result<usize> {
    Ok(match keeper {
        Keeper::Ours(store) => {
            // Lets others run, as a reader that waits for the network does.
            tokio::task::yield_now().await;
            store.range(PREFIX, None, 0, None)?.entries.iter().map(|entry| entry.value.len()).sum()
        }
        Keeper::Etcd(etcd) => etcd.range(reader, PREFIX).await?,
    })
}
