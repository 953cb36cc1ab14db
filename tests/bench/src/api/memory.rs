//! What objects cost in memory.

use super::load::spread;
use super::objects;
use super::server::ApiServer;
use crate::report;

/// 5,000 pods, then 100,000.
pub(crate) fn pods(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        let idle = server.resident();
        report("resident memory, idle", &format!("{:.1} MB", idle / 1e6), "none");
        let mut made = 0;
        for (count, each_aim, aim) in [(5_000, "10 KB", "none"), (100_000, "10 KB", "1,200 MB")] {
            spread(server, &endpoint, 32, made..count, objects::pod).await?;
            made = count;
            let now = server.resident();
            report(&format!("resident memory, {count} pods"), &format!("{:.1} MB", now / 1e6), aim);
            let each = (now - idle) / count as f64 / 1024.0;
            report("  each over the idle process", &format!("{each:.2} KB"), each_aim);
        }
        Ok(())
    })
}
