//! How long another client waits while one asks for more than it may.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

use super::servers::{LIMITED, Server};
use super::wrk;
use crate::report;

/// The other client asks so often, which is half of what it may.
const PACE: Duration = Duration::from_micros(2_500);
const SECONDS: u64 = 5;

/// What the other client saw.
struct Waits {
    /// Microseconds, in order.
    all: Vec<f64>,
    failed: usize,
}

impl Waits {
    fn worst(&self) -> f64 {
        self.all.get(self.all.len() * 99 / 100).copied().unwrap_or_default()
    }
}

/// The other client alone, then beside 64 connections that ask all the time.
pub(crate) fn measure(ours: &Server) -> anyhow::Result<()> {
    let alone = other(ours.http())?;
    let url = format!("{}{LIMITED}", ours.plain());
    let storm = std::thread::spawn(move || wrk::ask(&url, SECONDS + 2));
    std::thread::sleep(Duration::from_secs(1));
    let beside = other(ours.http())?;
    let storm = storm.join().map_err(|_| anyhow::anyhow!("the storm broke off"))??;
    report(
        "one client's storm: requests, and how many of them are refused",
        &format!("{:.0}, {}", storm.requests, storm.failed),
        "most",
    );
    report("one client's storm: failed requests of another client", &beside.failed.to_string(), "0");
    report(
        "one client's storm: p99 in microseconds of another client",
        &format!("{:.1}", beside.worst()),
        &format!("{:.1}, without the storm", alone.worst()),
    );
    Ok(())
}

/// Asks from an address of its own.
fn other(server: SocketAddr) -> anyhow::Result<Waits> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((Ipv4Addr::new(127, 0, 0, 3), 0).into())?;
        let mut stream = socket.connect(server).await?;
        stream.set_nodelay(true)?;
        let mut waits = Waits { all: Vec::new(), failed: 0 };
        let (begun, mut ticks) = (Instant::now(), tokio::time::interval(PACE));
        while begun.elapsed() < Duration::from_secs(SECONDS) {
            ticks.tick().await;
            let asked = Instant::now();
            waits.failed += usize::from(!answered(&mut stream).await?);
            waits.all.push(asked.elapsed().as_secs_f64() * 1e6);
        }
        waits.all.sort_by(f64::total_cmp);
        Ok(waits)
    })
}

/// Whether the answer to a request is a good one.
async fn answered(stream: &mut TcpStream) -> anyhow::Result<bool> {
    let request = format!("GET /{LIMITED} HTTP/1.1\r\nHost: a.example\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut bytes = Vec::with_capacity(4096);
    loop {
        anyhow::ensure!(stream.read_buf(&mut bytes).await? > 0, "the connection was closed");
        let Some(head) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let text = String::from_utf8_lossy(&bytes[..head]).to_ascii_lowercase();
        let length = text.lines().find_map(|line| line.strip_prefix("content-length:"));
        let length: usize = length.context("an answer without length")?.trim().parse()?;
        if bytes.len() >= head + 4 + length {
            return Ok(text.starts_with("http/1.1 200"));
        }
    }
}
