//! What a cluster takes when nothing happens.

use std::fs;
use std::time::Duration;

use anyhow::Context;

use crate::instance::Instance;

/// Ticks of a processor second, as `/proc/PID/stat` counts.
const TICKS: f64 = 100.0;

pub(crate) async fn measure(instance: &Instance, time: Duration) -> anyhow::Result<()> {
    let pid = instance.pid()?;
    // What the start left to do is not rest.
    tokio::time::sleep(Duration::from_secs(5)).await;
    let before = ticks(pid)?;
    tokio::time::sleep(time).await;
    let used = (ticks(pid)? - before) / TICKS / time.as_secs_f64() * 100.0;
    println!("processor at rest         {used:>8.2} % of a core");
    for (name, what) in [("VmRSS", "resident memory at rest  "), ("RssAnon", "  of it private          ")] {
        println!("{what} {:>8.1} MB", memory(pid, name)?);
    }
    Ok(())
}

/// Ticks of user and system time.
fn ticks(pid: u32) -> anyhow::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("read the process's times")?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok()).unwrap_or_default();
    Ok(field(11) + field(12))
}

/// A line of `/proc/PID/status` in MB.
fn memory(pid: u32, name: &str) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).context("read the process's memory")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .context("find the line")?;
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").parse().context("read the line")?;
    Ok(kilobytes * 1024.0 / 1e6)
}
