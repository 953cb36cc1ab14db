//! The ingress of a node beside Debian's nginx as a proxy: requests per second, the slowest answers and processor
//! time for each request, over connections that stay open; then what another client feels of one that asks for more than
//! it may, and 1,000 Ingresses that change under full load.
//!
//! All proxies pass on to the same server of a page and are asked by `wrk`, which has to be installed, one after the
//! other in several rounds. Without `nginx` ours is alone.

mod abuse;
mod played;
mod servers;
mod wrk;

use std::net::SocketAddr;

use anyhow::Context as _;

use crate::report;
pub(crate) use servers::{COMMAND, PAGE, serve, serve_page};
use servers::{Server, certificate};
use wrk::Figures;

/// Every server is asked so many times, in turn with the others.
const ROUNDS: usize = 3;
const MANY: usize = 1_000;

/// Measures all.
pub(crate) fn run() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    certificate(folder.path())?;
    let page = Server::page()?;
    let ours = Server::ours(&page, folder.path(), 1)?;
    let nginx = Server::nginx(&page, folder.path())?;
    for (name, pick) in [("HTTP", Server::plain as fn(&Server) -> String), ("TLS", Server::encrypted)] {
        let (mut our_rounds, mut its_rounds) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            our_rounds.push(ours.measure(&pick(&ours), 5)?);
            if let Some(nginx) = &nginx {
                its_rounds.push(nginx.measure(&pick(nginx), 5)?);
            }
        }
        compare(name, Figures::median(our_rounds).context("no rounds")?, Figures::median(its_rounds));
    }
    abuse::measure(&ours)?;
    drop((ours, nginx));
    under_change(&page, folder.path())
}

fn compare(name: &str, ours: Figures, nginx: Option<Figures>) {
    type Row = (&'static str, fn(&Figures) -> f64, &'static str);
    let rows: [Row; 3] = [
        ("requests per second", |figures| figures.rate, "at least"),
        ("p99 in microseconds", |figures| figures.worst, "at most"),
        ("processor time per request in microseconds", |figures| figures.cost, "at most"),
    ];
    for (what, of, bound) in rows {
        let what = format!("{name}: {what}");
        let aim = nginx.as_ref().map_or("none".to_owned(), |nginx| {
            format!("{bound} nginx' {:.1}; ratio {:.2}", of(nginx), of(&ours) / of(nginx))
        });
        report(&what, &format!("{:.1}", of(&ours)), &aim);
    }
    let failed = ours.failed + nginx.map_or(0, |nginx| nginx.failed);
    report(&format!("{name}: failed requests"), &failed.to_string(), "0");
}

/// Many Ingresses, at rest and while one after the other changes.
fn under_change(page: &Server, folder: &std::path::Path) -> anyhow::Result<()> {
    let mut ours = Server::ours(page, folder, MANY)?;
    let still = ours.measure(&ours.plain(), 15)?;
    ours.begin_changes();
    let moved = ours.measure(&ours.plain(), 15)?;
    let what = format!("{MANY} Ingresses, {} changes a second", servers::CHANGES);
    report(&format!("{what}: failed requests"), &moved.failed.to_string(), "0");
    for (name, moved, still) in
        [("p99 in microseconds", moved.worst, still.worst), ("requests per second", moved.rate, still.rate)]
    {
        report(&format!("{what}: {name}"), &format!("{moved:.1}"), &format!("{still:.1}, without changes"));
    }
    Ok(())
}

fn free() -> anyhow::Result<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}
