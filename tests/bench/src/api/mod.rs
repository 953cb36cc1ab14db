//! The API server with its store, alone: no scheduler and no controllers, as one would measure
//! kube-apiserver with etcd.
//!
//! The server is a process of its own (this program again), so that the kernel counts its time and
//! memory apart from the client's. Clients speak TLS with a certificate of a user whom RBAC lets do
//! it through a binding; connections stay open.

pub(crate) mod connection;
pub(crate) mod lines;
pub(crate) mod load;
mod memory;
mod objects;
mod reads;
pub(crate) mod server;
mod watches;
mod webhooks;
mod writes;

use anyhow::bail;

use connection::Endpoint;
use server::ApiServer;

/// One case: its name on the command line, and what it does with a fresh server.
struct Case {
    name: &'static str,
    run: fn(&ApiServer) -> anyhow::Result<()>,
}

const CASES: &[Case] = &[
    Case { name: "configmaps", run: writes::config_maps },
    Case { name: "pods", run: writes::pods },
    Case { name: "gets", run: reads::gets },
    Case { name: "list", run: reads::list },
    Case { name: "watch", run: watches::many_updates },
    Case { name: "fanout", run: watches::fan_out },
    Case { name: "idle", run: watches::idle },
    Case { name: "webhook", run: webhooks::one },
    Case { name: "memory", run: memory::pods },
];

/// The names of all cases.
pub(crate) fn names() -> Vec<&'static str> {
    CASES.iter().map(|case| case.name).collect()
}

/// Runs the named cases, or all.
pub(crate) fn run(wanted: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| !names().contains(name)) {
        bail!("no case {unknown:?}; there are {}", names().join(", "));
    }
    for case in CASES.iter().filter(|case| wanted.is_empty() || wanted.contains(&case.name)) {
        (case.run)(&ApiServer::start()?)?;
    }
    Ok(())
}

/// Runs the client's side of a case.
fn client<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?.block_on(work)
}

/// The server as the benchmark's user, whom RBAC is asked about, sees it.
fn endpoint(server: &ApiServer) -> anyhow::Result<Endpoint> {
    Endpoint::new(server.address(), server.pki(), "bench")
}
