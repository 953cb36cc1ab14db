//! `plimsoll simulate`: nodes that run pods without processes, for any API server; and the same in `plimsoll up`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use anyhow::Context;
use clap::{Arg, Args};
use plimsoll_client::Informers;
use plimsoll_meta::duration;
use plimsoll_meta::name::{is_dns1123_subdomain, is_label_value, is_qualified_name};
use plimsoll_meta::quantity::Quantity;
use plimsoll_podlife::simulated::Manner;
use plimsoll_podlife::simulated::address::MOST_NODES;
use plimsoll_podlife::simulated::node::Fleet;
use plimsoll_simulate::{Config, Simulation};
use tokio_util::sync::CancellationToken;

use crate::{log, up};

/// What flags are called in `up` alone.
const PREFIX: &str = "simulated-";

/// `plimsoll simulate`
#[derive(Args, Clone, Debug)]
pub(crate) struct Simulate {
    /// How the API server is reached
    #[arg(long, value_name = "FILE")]
    kubeconfig: PathBuf,
    #[command(flatten)]
    simulated: SimulatedArgs,
}

/// Nodes that run pods without processes
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Simulated nodes")]
pub(crate) struct SimulatedArgs {
    /// How many there are
    #[arg(long, value_name = "COUNT", default_value_t = 0, value_parser = count)]
    pub(crate) simulated_nodes: usize,
    /// Over how many zones they are spread
    #[arg(long, value_name = "COUNT", default_value = "1")]
    simulated_zones: std::num::NonZeroUsize,
    /// What each has, beside or instead of cpu=32,memory=256Gi,pods=110,ephemeral-storage=100Gi
    #[arg(long, value_name = "AMOUNTS", default_value = "", hide_default_value = true)]
    simulated_capacity: Capacity,
    /// How their names begin
    #[arg(long, value_name = "NAME", default_value = "sim", value_parser = prefix)]
    simulated_name_prefix: String,
    /// How long a bound pod takes to run
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    simulated_start_delay: Duration,
    /// How long a pod runs that is to end, or that fails
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration::parse)]
    simulated_run_time: Duration,
    /// How long a deleted pod takes to end
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = duration::parse)]
    simulated_stop_delay: Duration,
    /// How many of the runs fail, 0 to 1
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    simulated_failure_rate: f64,
    /// How many of the nodes give no sign of life at a time, 0 to 1; which ones changes every five minutes
    #[arg(long, value_name = "SHARE", default_value = "0", value_parser = share)]
    simulated_node_failure_rate: f64,
    /// For how long a node's sign of life counts; it gives one four times as often
    #[arg(long, value_name = "DURATION", default_value = "40s", value_parser = lease)]
    simulated_lease_duration: Duration,
    /// Chooses which pods and nodes fail
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    simulated_seed: u64,
}

impl SimulatedArgs {
    /// What they ask for, if anything.
    pub(crate) fn config(&self) -> Option<Config> {
        if self.simulated_nodes == 0 {
            return None;
        }
        let mut capacity = Fleet::usual_capacity();
        capacity.extend(self.simulated_capacity.0.clone());
        let fleet = Fleet {
            prefix: self.simulated_name_prefix.clone(),
            count: self.simulated_nodes,
            zones: self.simulated_zones.get(),
            capacity,
        };
        let manner = Manner {
            start: self.simulated_start_delay,
            run: self.simulated_run_time,
            stop: self.simulated_stop_delay,
            failures: self.simulated_failure_rate,
            silences: self.simulated_node_failure_rate,
            seed: self.simulated_seed,
        };
        Some(Config {
            fleet,
            manner,
            lease: self.simulated_lease_duration,
            version: plimsoll_apiserver::VERSION,
        })
    }
}

/// The flag of `up` as `simulate` calls it.
pub(crate) fn shorten(flag: Arg) -> Arg {
    match flag.get_long().and_then(|name| name.strip_prefix(PREFIX)).map(str::to_owned) {
        // Names of flags live as long as the process.
        Some(name) => flag.long(&*name.leak()),
        None => flag,
    }
}

pub(crate) fn run(options: &Simulate) -> anyhow::Result<()> {
    let config = options.simulated.config().context("how many nodes? Say --nodes COUNT")?;
    log::begin(log::Reader::File, log::Format::Text);
    up::runtime()?.block_on(async {
        let shutdown = CancellationToken::new();
        up::stop_on_signal(shutdown.clone())?;
        let client = plimsoll_client::connect_kubeconfig(&options.kubeconfig).await?;
        let registered = Simulation::register(config, Informers::new(client.clone()), client);
        if let Some(simulation) = shutdown.run_until_cancelled(registered).await {
            println!("{} nodes are registered", options.simulated.simulated_nodes);
            simulation.run(shutdown.clone()).await;
        }
        Ok(())
    })
}

fn count(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|error| format!("{error}"))?;
    if count > MOST_NODES { Err(format!("at most {MOST_NODES}")) } else { Ok(count) }
}

fn lease(text: &str) -> Result<Duration, String> {
    let lease = duration::parse(text)?;
    if lease.as_secs() == 0 { Err("must be a second at least".to_owned()) } else { Ok(lease) }
}

/// With a number behind it, it names a node, and is the value of its label `kubernetes.io/hostname`.
fn prefix(text: &str) -> Result<String, String> {
    let last = format!("{text}-{MOST_NODES}");
    is_dns1123_subdomain(&last).and_then(|()| is_label_value(&last)).map_err(|found| found.join("; "))?;
    Ok(text.to_owned())
}

fn share(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("must be between 0 and 1".to_owned()) }
}

/// Amounts of resources by their names.
#[derive(Clone, Debug, PartialEq)]
struct Capacity(BTreeMap<String, Quantity>);

impl FromStr for Capacity {
    type Err = String;

    /// Reads `cpu=4,memory=8Gi`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut capacity = BTreeMap::new();
        for pair in text.split(',').filter(|pair| !pair.is_empty()) {
            let (name, amount) = pair.split_once('=').ok_or("expected NAME=AMOUNT,…")?;
            let wrong = |why: &str| Err(format!("{name}: {why}"));
            let amount: Quantity = amount.parse().map_err(|error| format!("{name}: {error}"))?;
            if let Err(found) = is_qualified_name(name) {
                return wrong(&found.join("; "));
            }
            if amount.sign() < 0 {
                return wrong("must not be negative");
            }
            if (name == "pods" || name.contains('/')) && amount.milli() % 1000 != 0 {
                return wrong("must be an integer");
            }
            if capacity.insert(name.to_owned(), amount).is_some() {
                return wrong("is said twice");
            }
        }
        Ok(Self(capacity))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn amounts_and_shares_are_read_strictly() {
        let capacity: Capacity = "cpu=4,memory=1Gi,example.com/gpu=2".parse().unwrap();
        assert_eq!(capacity.0["example.com/gpu"], Quantity::from_units(2));
        let part: Capacity = "cpu=500m,memory=1.5Gi,pods=110".parse().unwrap();
        assert_eq!(part.0.len(), 3);
        for wrong in
            ["cpu", "cpu=-1", "cpu=x", "cpu=1,cpu=2", "pods=1.5", "example.com/gpu=500m", "a/b/c=1", "=1"]
        {
            assert!(wrong.parse::<Capacity>().is_err(), "{wrong}");
        }
        assert_eq!(prefix("big.sim").as_deref(), Ok("big.sim"));
        for wrong in ["A_b", "", "-a", "a..b", &"a".repeat(60)] {
            assert!(prefix(wrong).is_err(), "{wrong}");
        }
        assert_eq!(share("0.5"), Ok(0.5));
        assert!(share("1.5").is_err() && share("NaN").is_err() && count("16385").is_err());
    }
}
