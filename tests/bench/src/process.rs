//! What the kernel counts about a process.

use std::fs;

/// The kernel counts processor time in these parts of a second.
const TICKS: f64 = 100.0;

/// Seconds of processor time that a process used.
pub(crate) fn processor_time(id: u32) -> f64 {
    let ticks = |number| field(id, number).unwrap_or_default();
    (ticks(11) + ticks(12)) / TICKS
}

/// A field of what the kernel tells of a process, after its name in parentheses, which may contain spaces.
fn field(id: u32, number: usize) -> Option<f64> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(number)?.parse().ok()
}

/// Seconds of processor time that a process and its children used.
pub(crate) fn family_time(id: u32) -> f64 {
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let family = all.filter(|other| *other == id || field(*other, 1) == Some(id.into()));
    family.map(processor_time).sum()
}

/// Bytes of memory that a process holds.
pub(crate) fn resident(id: u32) -> f64 {
    status(id, "VmRSS:")
}

/// Bytes of memory that a process holds and that are not those of files, such as the program itself.
pub(crate) fn anonymous(id: u32) -> f64 {
    status(id, "RssAnon:")
}

fn status(id: u32, field: &str) -> f64 {
    let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}

/// Bytes of memory that a process holds; what it shares with others is shared out among them.
pub(crate) fn proportional(id: u32) -> f64 {
    let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|text| text.parse::<f64>().ok()).unwrap_or_default() * 1024.0
}
