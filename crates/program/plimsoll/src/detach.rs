//! Going on in the background.

use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};

use crate::progress::Progress;

/// Set in the program that runs in the background.
pub(crate) const MARK: &str = "PLIMSOLL_DETACHED";

/// Starts this very command again in a session of its own, shows its progress and returns when it is ready.
pub(crate) fn detach(directory: &Path) -> anyhow::Result<()> {
    let folder = directory.join("log");
    fs::create_dir_all(&folder).with_context(|| format!("make {}", folder.display()))?;
    let path = folder.join("plimsoll.log");
    let log = File::options()
        .create(true)
        .append(true)
        .open(&path)
        .with_context(|| format!("open {}", path.display()))?;
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.arg0("plimsoll").args(std::env::args_os().skip(1)).env(MARK, "1");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).process_group(0);
    let mut child = command.spawn().context("start in the background")?;
    let lines = BufReader::new(child.stdout.take().context("read what the background says")?).lines();
    let progress = Progress::begin();
    for line in lines.map_while(Result::ok) {
        progress.line(&line);
        if line.starts_with("ready in ") {
            return Ok(());
        }
    }
    let status = child.wait().context("wait for the background")?;
    let text = fs::read_to_string(&path).unwrap_or_default();
    let last: Vec<&str> = text.lines().rev().take(5).collect();
    for line in last.iter().rev() {
        eprintln!("{line}");
    }
    bail!("it ended before it was ready ({status}); see {}", path.display())
}
