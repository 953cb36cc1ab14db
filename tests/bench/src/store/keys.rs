//! 1,000,000 keys: how long a process takes to open them, and what it holds beside their values.

use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use plimsoll_store::{Change, Expect, Options, Store, Value};

use super::{runtime, value};
use crate::process::resident;
use crate::report;

/// The word that opens a store in a process of its own.
pub(crate) const COMMAND: &str = "open-store";

const KEYS: usize = 1_000_000;
const TOGETHER: usize = 10_000;
const SIZE: usize = 256;

pub(super) fn run(folder: &Path, _: Option<&Path>) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let store = Store::open(&folder.join("store"), Options::default())?;
        for first in (0..KEYS).step_by(TOGETHER) {
            let put = |number: usize| {
                let key = format!("/registry/pods/namespace-{}/pod-{number:07}", number % 100);
                (key, Expect::Absent, Change::Put(Value::plain(value(number as u64, SIZE))))
            };
            store.commit_many((first..first + TOGETHER).map(put).collect()).await?;
        }
        anyhow::Ok(())
    })?;
    let output = Command::new(std::env::current_exe()?).arg(COMMAND).arg(folder.join("store")).output()?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout)?;
    let mut figures = text.split_whitespace().map(str::parse::<f64>);
    let mut next = || figures.next().context("a figure is missing")?.context("not a figure");
    let (seconds, bytes) = (next()?, next()?);
    report("1,000,000 keys: start", &format!("{seconds:.2} s"), "2 s");
    report("1,000,000 keys: memory beyond values, a key", &format!("{bytes:.0} bytes"), "300 bytes");
    Ok(())
}

/// Opens a store and prints the seconds that took, and the bytes held for each key beside its value.
pub(crate) fn reopen(folder: &str) -> anyhow::Result<()> {
    let before = resident(std::process::id());
    let since = Instant::now();
    let store = Store::open(Path::new(folder), Options::default())?;
    let seconds = since.elapsed().as_secs_f64();
    let held = resident(std::process::id()) - before - (KEYS * SIZE) as f64;
    anyhow::ensure!(store.count("") == KEYS, "{} keys", store.count(""));
    println!("{seconds} {}", held / KEYS as f64);
    Ok(())
}
