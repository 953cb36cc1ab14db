//! Watches: many updates, many watchers, and many that see nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::task::JoinSet;

use super::connection::{Call, Endpoint};
use super::load::{milliseconds, percentile, spread};
use super::objects::{self, MAPS};
use super::server::ApiServer;
use crate::report;

const UPDATES: usize = 2_000;
/// Writers of those updates.
const WRITERS: usize = 16;
/// Streams of one connection, as client-go has them at most.
const STREAMS: usize = 250;
const IDLE: usize = 10_000;
const LIMIT: Duration = Duration::from_secs(60);

async fn open(endpoint: &Endpoint, count: usize) -> anyhow::Result<Vec<Incoming>> {
    let path = format!("{MAPS}?watch=true&sendInitialEvents=false&resourceVersionMatch=NotOlderThan");
    let mut watches = Vec::new();
    for _ in 0..count {
        watches.push(endpoint.connect().await?.watch(&path).await?);
    }
    Ok(watches)
}

fn update(number: usize) -> Call {
    Call::patch(format!("{MAPS}/map-{}", number % 100), format!(r#"{{"data":{{"key":"update {number}"}}}}"#))
}

/// Events of which the last byte is in these bytes.
fn ends(bytes: &[u8]) -> usize {
    bytes.iter().filter(|byte| **byte == b'\n').count()
}

/// 2,000 updates, each seen by 100 watchers.
pub(crate) fn many_updates(server: &ApiServer) -> anyhow::Result<()> {
    const WATCHERS: usize = 100;
    super::client(async {
        let endpoint = super::endpoint(server)?;
        spread(server, &endpoint, 16, 0..100, objects::config_map).await?;
        let mut seeing = JoinSet::new();
        let (before, started) = (server.processor_time(), Instant::now());
        for mut watch in open(&endpoint, WATCHERS).await? {
            seeing.spawn(async move {
                let mut seen = 0;
                while seen < UPDATES {
                    let Some(frame) = watch.frame().await else { bail!("a watch ended") };
                    seen += frame?.data_ref().map_or(0, |data| ends(data));
                }
                Ok(())
            });
        }
        let (opened, opening) = (Instant::now(), server.processor_time() - before);
        spread(server, &endpoint, WRITERS, 0..UPDATES, update).await?;
        while let Some(one) = tokio::time::timeout(LIMIT, seeing.join_next()).await? {
            one??;
        }
        let events = (UPDATES * WATCHERS) as f64;
        let processor = server.processor_time() - before - opening;
        let rate = events / opened.elapsed().as_secs_f64();
        report("2,000 updates seen by 100 watchers", &format!("{rate:.0} events/s"), "none");
        report("  processor time, the updates' own included", &format!("{processor:.2} s"), "1.24 s");
        let opening = format!("{:.1} ms", milliseconds(opened - started) / WATCHERS as f64);
        report("  opening a watch and its connection", &opening, "none");
        Ok(())
    })
}

/// One update after the other, each seen by 1,000 watchers.
pub(crate) fn fan_out(server: &ApiServer) -> anyhow::Result<()> {
    const WATCHERS: usize = 1_000;
    const ROUNDS: usize = 30;
    super::client(async {
        let endpoint = super::endpoint(server)?;
        spread(server, &endpoint, 1, 0..100, objects::config_map).await?;
        let begun = Instant::now();
        let seen = Arc::new(AtomicUsize::new(0));
        let mut seeing = JoinSet::new();
        for mut watch in open(&endpoint, WATCHERS).await? {
            let seen = Arc::clone(&seen);
            seeing.spawn(async move {
                let mut times = Vec::new();
                while times.len() < ROUNDS {
                    let Some(frame) = watch.frame().await else { bail!("a watch ended") };
                    for _ in 0..frame?.data_ref().map_or(0, |data| ends(data)) {
                        times.push(begun.elapsed());
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }
                Ok(times)
            });
        }
        let mut writer = endpoint.connect().await?;
        let before = server.processor_time();
        let mut sent = Vec::new();
        for round in 0..ROUNDS {
            sent.push(begun.elapsed());
            writer.call(&update(round)).await?;
            let deadline = Instant::now() + LIMIT;
            while seen.load(Ordering::Relaxed) < (round + 1) * WATCHERS {
                ensure!(Instant::now() < deadline, "watchers miss an update");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
        let processor = (server.processor_time() - before) / ROUNDS as f64;
        let mut latencies = Vec::new();
        while let Some(times) = seeing.join_next().await {
            latencies.extend(times??.into_iter().zip(&sent).map(|(at, sent)| at.saturating_sub(*sent)));
        }
        latencies.sort_unstable();
        let tail = milliseconds(percentile(&latencies, 99));
        report("one update to 1,000 watchers, 99 % within", &format!("{tail:.1} ms"), "100 ms");
        report("  processor time of each update", &format!("{:.1} ms", processor * 1000.0), "none");
        Ok(())
    })
}

/// 10,000 watches that see nothing.
pub(crate) fn idle(server: &ApiServer) -> anyhow::Result<()> {
    super::client(async {
        let endpoint = super::endpoint(server)?;
        let before = server.resident();
        let watches = open(&endpoint, 1_000).await?;
        let each = (server.resident() - before) / 1_000.0 / 1024.0;
        report("1,000 idle watches on connections of their own", &format!("{each:.1} KB"), "bounded");
        drop(watches);
        let before = server.resident();
        let call = Call::get(format!("{MAPS}?watch=true&resourceVersion=1"));
        let (mut connections, mut watches) = (Vec::new(), Vec::new());
        for _ in 0..IDLE / STREAMS {
            let mut connection = endpoint.connect_h2().await?;
            for _ in 0..STREAMS {
                connection.ready().await?;
                let mut request = call.request()?;
                *request.uri_mut() = format!("https://localhost{}", call.path).parse()?;
                let response = connection.send_request(request).await?;
                ensure!(response.status().is_success(), "watch: {}", response.status());
                watches.push(response.into_body());
            }
            connections.push(connection);
        }
        let each = (server.resident() - before) / IDLE as f64 / 1024.0;
        report("10,000 idle watches, 250 a connection, memory each", &format!("{each:.1} KB"), "bounded");
        let used = server.processor_time();
        tokio::time::sleep(Duration::from_secs(10)).await;
        let used = (server.processor_time() - used) / 10.0 * 100.0;
        report("  processor use", &format!("{used:.2} %"), "0 %");
        Ok(())
    })
}
