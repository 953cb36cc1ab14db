//! Prints what a whole cluster on this machine takes: time to start, time from a pod's creation to
//! Running, memory and processor use at rest, time of a large table.
//!
//! Run it by hand on a release build: `cargo run --release -p plimsoll-bench -- target/…/release/plimsoll`.

mod instance;
mod pods;
mod rest;
mod table;

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

use instance::Instance;

/// Print figures of a whole cluster on this machine
#[derive(Debug, Parser)]
struct Options {
    /// The program to measure
    plimsoll: PathBuf,
    /// Pods created one after the other
    #[arg(long, default_value_t = 20)]
    single: usize,
    /// Pods created at once
    #[arg(long, default_value_t = 30)]
    burst: usize,
    /// Seconds of rest to measure
    #[arg(long, default_value_t = 20)]
    rest: u64,
    /// Pods in the table
    #[arg(long, default_value_t = 1000)]
    table: usize,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let folder = tempfile::Builder::new().prefix("plimsoll-bench-").tempdir()?;
    let instance = Instance::new(&options.plimsoll, folder.path())?;
    println!("first start to Ready      {:>8} ms", instance.up()?);
    instance.stop()?;
    println!("restart to Ready          {:>8} ms", instance.up()?);
    rest::measure(&instance, Duration::from_secs(options.rest)).await?;
    let client = instance.client().await?;
    pods::one_by_one(&client, options.single).await?;
    pods::at_once(&client, options.burst).await?;
    table::measure(&client, options.table).await
}
