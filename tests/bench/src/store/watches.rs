//! One key, watched by 10,000, written again and again.

use std::path::Path;
use std::time::Instant;

use anyhow::Context as _;
use plimsoll_store::Options;
use tokio::task::JoinSet;

use super::{Keeper, VALUE, compare, runtime, value};

const WATCHERS: usize = 10_000;
/// etcd's watchers share streams, as those of one client do.
const STREAMS: usize = 100;
const WRITES: usize = 50;
const KEY: &str = "/registry/watched/one";

pub(super) fn run(folder: &Path, etcd: Option<&Path>) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let mut rates = Vec::new();
        for keeper in Keeper::all(folder, etcd, Options::default()).await? {
            let mut watchers = match &keeper {
                Keeper::Ours(store) => ours(store)?,
                Keeper::Etcd(etcd) => theirs(etcd).await?,
            };
            let start = Instant::now();
            for number in 0..WRITES {
                keeper.put(0, KEY, value(number as u64, VALUE)).await?;
            }
            while let Some(watcher) = watchers.join_next().await {
                watcher??;
            }
            rates.push((keeper.name(), (WATCHERS * WRITES) as f64 / start.elapsed().as_secs_f64()));
        }
        compare("events per second to 10,000 watchers", &rates, 5.0);
        Ok(())
    })
}

/// Watchers that end when they have seen everything.
type Watchers = JoinSet<anyhow::Result<()>>;

fn ours(store: &plimsoll_store::Store) -> anyhow::Result<Watchers> {
    let mut watchers = JoinSet::new();
    for _ in 0..WATCHERS {
        let mut watch = store.watch(KEY, None)?;
        watchers.spawn(async move {
            for _ in 0..WRITES {
                watch.next().await?;
            }
            Ok(())
        });
    }
    Ok(watchers)
}

async fn theirs(etcd: &super::Etcd) -> anyhow::Result<Watchers> {
    let mut watchers = JoinSet::new();
    for number in 0..STREAMS {
        let mut stream = etcd.watch(number, KEY, WATCHERS / STREAMS).await?;
        let mut seen = 0;
        watchers.spawn(async move {
            while seen < WRITES * WATCHERS / STREAMS {
                let message = stream.message().await?.context("a stream ended")?;
                seen += message.events.len();
            }
            Ok(())
        });
    }
    Ok(watchers)
}
