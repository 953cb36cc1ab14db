//! `plimsoll scheduler`: the scheduler as a process of its own, for any API server; and what a file tells it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{ArgAction, Args};
use plimsoll_client::{Election, Informers};
use plimsoll_document::Document;
use plimsoll_schedule::Backoff;
use plimsoll_schedule::configuration::{Configuration, ExtenderFields, KIND, LeaderElection, VERSION};
use plimsoll_scheduler::{Config, Extender};
use serde_json::{Value, json};

use crate::component::{Component, identity};
use crate::controllers::ServingArgs;

/// The name of the process where the API shows one.
const COMPONENT: &str = "kube-scheduler";
/// Its usual port.
const PORT: u16 = 10259;

/// `plimsoll scheduler`
#[derive(Args, Clone, Debug)]
pub(crate) struct Scheduler {
    /// How the API server is reached [default: clientConnection.kubeconfig of --config]
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// File that says how it decides (KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1)
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    #[command(flatten)]
    election: ElectionArgs,
    #[command(flatten)]
    serving: ServingArgs,
}

/// Which of several processes works; what is not said here is as the file says
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Leader election")]
struct ElectionArgs {
    /// Whether only the holder of a Lease works; others wait until it is free [default: true]
    #[arg(long, value_name = "BOOL", action = ArgAction::Set, num_args = 0..=1, require_equals = true,
        default_missing_value = "true")]
    leader_elect: Option<bool>,
    /// Others take the Lease when it was not renewed for so long [default: 15s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_lease_duration: Option<String>,
    /// The holder ends when it could not renew the Lease for so long [default: 10s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_renew_deadline: Option<String>,
    /// How often the Lease is renewed, or looked at [default: 2s]
    #[arg(long, value_name = "DURATION")]
    leader_elect_retry_period: Option<String>,
    /// Namespace of the Lease [default: kube-system]
    #[arg(long, value_name = "NAME")]
    leader_elect_resource_namespace: Option<String>,
    /// Name of the Lease [default: kube-scheduler]
    #[arg(long, value_name = "NAME")]
    leader_elect_resource_name: Option<String>,
}

impl ElectionArgs {
    /// Writes what they say over what a file says.
    fn lay(&self, document: &mut Value) {
        let said = [
            ("leaderElect", self.leader_elect.map(Value::Bool)),
            ("leaseDuration", self.leader_elect_lease_duration.clone().map(Value::String)),
            ("renewDeadline", self.leader_elect_renew_deadline.clone().map(Value::String)),
            ("retryPeriod", self.leader_elect_retry_period.clone().map(Value::String)),
            ("resourceNamespace", self.leader_elect_resource_namespace.clone().map(Value::String)),
            ("resourceName", self.leader_elect_resource_name.clone().map(Value::String)),
        ];
        for (field, value) in said.into_iter().filter_map(|(field, value)| Some((field, value?))) {
            document["leaderElection"][field] = value;
        }
    }
}

/// What a file says, or nothing.
fn document(file: Option<&Path>) -> anyhow::Result<Value> {
    let Some(file) = file else { return Ok(json!({"apiVersion": VERSION, "kind": KIND})) };
    let read = || -> anyhow::Result<Value> {
        let text = fs::read_to_string(file).context("read it")?;
        let json = text.trim_start().starts_with('{');
        let read = if json { Document::json(text.as_bytes())? } else { Document::yaml(&text)? };
        let twice: Vec<String> = read.duplicates.told().collect();
        ensure!(twice.is_empty(), "strict decoding error: {}", twice.join(", "));
        ensure!(read.value.is_object(), "it is no KubeSchedulerConfiguration");
        Ok(read.value)
    };
    read().with_context(|| format!("scheduler configuration {}", file.display()))
}

/// What a file tells the scheduler of an instance.
pub(crate) fn config(file: Option<&Path>) -> anyhow::Result<Config> {
    let configuration = Configuration::of(&document(file)?).context("scheduler configuration")?;
    config_of(&configuration)
}

fn config_of(configuration: &Configuration) -> anyhow::Result<Config> {
    let extender = |(at, fields): (usize, &ExtenderFields)| {
        Extender::new(fields.clone()).map_err(|why| anyhow::anyhow!("extenders[{at}]: {why}"))
    };
    let extenders =
        configuration.extenders.iter().enumerate().map(extender).collect::<anyhow::Result<Vec<_>>>();
    let seconds = |seconds: i64| Duration::from_secs(u64::try_from(seconds).unwrap_or_default());
    Ok(Config {
        profiles: configuration.profiles().context("scheduler configuration")?,
        backoff: Backoff {
            first: seconds(configuration.pod_initial_backoff_seconds),
            most: seconds(configuration.pod_max_backoff_seconds),
        },
        extenders: extenders.context("scheduler configuration")?,
        ..Config::default()
    })
}

pub(crate) fn run(options: &Scheduler) -> anyhow::Result<()> {
    let mut document = document(options.config.as_deref())?;
    options.election.lay(&mut document);
    let configuration = Configuration::of(&document).context("scheduler configuration")?;
    let config = config_of(&configuration)?;
    let said = PathBuf::from(&configuration.client_connection.kubeconfig);
    let kubeconfig = options.kubeconfig.clone().unwrap_or(said);
    ensure!(!kubeconfig.as_os_str().is_empty(), "how is the API server reached? Say --kubeconfig FILE");
    let leader = &configuration.leader_election;
    let election = election(leader, identity()?);
    let (told, metrics) = (config.metrics.clone(), config.metrics.clone());
    let component = Component {
        name: COMPONENT,
        port: PORT,
        kubeconfig: &kubeconfig,
        serving: &options.serving,
        election: leader.leader_elect.then_some(election),
        metrics: Box::new(move |accept| told.text(accept)),
        leads: &|name, leads| metrics.leads(name, leads),
    };
    component.run(async |client, term, stop| {
        let informers = Informers::new(client.clone());
        plimsoll_scheduler::run(Config { term, ..config }, informers, client, stop).await.context("scheduler")
    })
}

fn election(it: &LeaderElection, identity: String) -> Election {
    Election {
        namespace: it.resource_namespace.clone(),
        name: it.resource_name.clone(),
        identity,
        lease_duration: it.lease_duration.length(),
        renew_deadline: it.renew_deadline.length(),
        retry_period: it.retry_period.length(),
    }
}
