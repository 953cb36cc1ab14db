//! Prints what things cost in time and memory on this machine. It judges nothing.
//!
//! Run by hand with the release build, on a machine that does nothing else meanwhile:
//!
//! ```text
//! cargo build --release -p plimsoll -p plimsoll-bench
//! target/*/release/plimsoll-bench cluster          # a whole cluster; as root
//! target/*/release/plimsoll-bench node             # a node with many pods; as root
//! target/*/release/plimsoll-bench node --kubeconfig FILE [IMAGE]  # how pods come and go on another cluster
//! target/*/release/plimsoll-bench agent            # the node agent's own memory; as root, with containerd
//! target/*/release/plimsoll-bench probes           # what 1,000 probes a second cost; as root
//! target/*/release/plimsoll-bench dns              # the resolver beside dnsmasq and unbound
//! target/*/release/plimsoll-bench ingress          # the ingress beside nginx, asked by wrk
//! target/*/release/plimsoll-bench rollout          # 100,000 requests while pods are replaced; as root
//! target/*/release/plimsoll-bench rollout 10       # ten times
//! target/*/release/plimsoll-bench rollout 1 200    # once, under 200 requests a second instead of 2,000
//! target/*/release/plimsoll-bench workloads        # 5,000 pods of one Deployment, and others; as root
//! target/*/release/plimsoll-bench services         # 10,000 Services in the kernel; as root
//! target/*/release/plimsoll-bench decide           # the scheduler's decisions about 5,000 nodes, without an API
//! target/*/release/plimsoll-bench schedule         # 5,000 pods for 1,000 nodes; as root
//! target/*/release/plimsoll-bench schedule 5000 10000          # or 100000, for memory
//! target/*/release/plimsoll-bench schedule 5000 5000 anti-host # other pods: anti-zone, preferred, spread, spread-soft
//! target/*/release/plimsoll-bench schedule 1000 5000 stuck     # while 10,000 others fit nowhere
//! target/*/release/plimsoll-bench schedule 1000 2000 storm     # important pods for a full cluster
//! target/*/release/plimsoll-bench api              # the API server with its store, all cases
//! target/*/release/plimsoll-bench api gets list    # some of them
//! target/*/release/plimsoll-bench store            # the store beside etcd (from PATH, or --etcd FILE)
//! target/*/release/plimsoll-bench store puts churn # some of it
//! ```
//!
//! Each line names what was measured, the figure, and the aim.

mod api;
mod cluster;
mod decide;
mod dns;
mod ingress;
mod node;
mod probes;
mod process;
mod rollout;
mod schedule;
mod services;
mod simulated;
mod store;
mod storm;
mod workloads;

use std::process::ExitCode;

// The same as the program's, so that memory is comparable.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let outcome = match words.as_slice() {
        [] | ["cluster"] => {
            cluster::run();
            Ok(())
        }
        ["probes"] => {
            probes::run();
            Ok(())
        }
        ["node"] => node::run(),
        ["agent"] => node::run_apart(),
        ["node", "--kubeconfig", path, image @ ..] if image.len() < 2 => {
            node::run_on(path, image.first().unwrap_or(&node::IMAGE))
        }
        ["dns"] => dns::run(),
        [dns::COMMAND, address, api] => dns::serve(address, api),
        ["ingress"] => ingress::run(),
        [ingress::COMMAND, words @ ..] => ingress::serve(words),
        [ingress::PAGE, address] => ingress::serve_page(address),
        ["rollout", numbers @ ..] if numbers.len() < 3 => rollout::of(numbers),
        ["workloads", cases @ ..] => workloads::run(cases),
        ["decide"] => {
            decide::run(5_000);
            Ok(())
        }
        ["services"] => services::run(),
        ["schedule"] => schedule::run(1_000, 5_000, "plain"),
        ["schedule", nodes, pods, case @ ..] if case.len() < 2 => numbers(nodes, pods)
            .and_then(|(nodes, pods)| schedule::run(nodes, pods, case.first().unwrap_or(&"plain"))),
        [api::server::COMMAND, folder, address] => api::server::serve(folder, address),
        ["api", cases @ ..] => api::run(cases),
        [store::COMMAND, folder] => store::reopen(folder),
        ["store", cases @ ..] => store::run(cases),
        _ => Err(anyhow::anyhow!(
            "usage: plimsoll-bench [cluster | agent | node [--kubeconfig FILE [IMAGE]] | probes | dns | ingress | rollout [TIMES [RATE]] | workloads | services | decide | schedule [NODES PODS [CASE]] | store [--etcd FILE] [CASE]… | api [{}]…]",
            api::names().join(" | ")
        )),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("plimsoll-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn numbers(nodes: &str, pods: &str) -> anyhow::Result<(usize, usize)> {
    Ok((nodes.parse()?, pods.parse()?))
}

/// One figure with its aim.
fn report(what: &str, figure: &str, aim: &str) {
    println!("{what:<52} {figure:>16}   (aim: {aim})");
}
