//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use plimsoll_podlife::configuration::Configuration;

use crate::access::AccessArgs;
use crate::controllers::Controllers;
use crate::demo::DemoArgs;
use crate::doctor::Doctor;
use crate::image::ImageCommand;
use crate::ingress::IngressArgs;
use crate::kubelet::Kubelet;
use crate::kubelet::common::CommonArgs;
use crate::limits::LimitArgs;
use crate::log::Format;
use crate::network::NetworkArgs;
use crate::ranges::Ranges;
use crate::safeguards::SafeguardArgs;
use crate::scheduler::Scheduler;
use crate::simulate::{Simulate, SimulatedArgs};
use crate::store::{StoreArgs, StoreCommand};
use crate::why::Why;
use crate::{controllers, demo, doctor, down, image, kubelet, scheduler, simulate, store, up, why};

/// Kubernetes in one program
#[derive(Debug, Parser)]
#[command(name = "plimsoll", version = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.37.0)"), arg_required_else_help = true)]
pub(crate) struct Command {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start a cluster on this machine, or bring a stopped one back
    Up(Box<Up>),
    /// Stop a cluster and everything that it runs, and leave nothing behind
    Down(Down),
    /// Run the node agent alone, for any API server and any container engine
    Kubelet(Box<Kubelet>),
    /// Run the controllers alone, for any API server
    Controllers(Box<Controllers>),
    /// Run the scheduler alone, for any API server
    Scheduler(Box<Scheduler>),
    /// Play nodes that run pods without processes, for any API server
    Simulate(Simulate),
    /// Tell of any cluster what will hurt later
    Doctor(Doctor),
    /// Tell of any cluster why a pod waits, node by node, and what would help
    Why(Why),
    /// Ask, tidy, check, copy and restore the state of an instance, or serve a state as an etcd
    Store(StoreCommand),
    /// Build, load, save, pull, push, tag, list and remove images of an instance
    Image(ImageCommand),
    /// Serve the web pages of the demo image
    Demo(DemoArgs),
    /// Print the version
    Version,
}

/// The data directory of an instance.
#[derive(Args, Clone, Debug)]
pub(crate) struct DataDir {
    /// Where the instance keeps everything
    #[arg(long, value_name = "DIR", default_value = "/var/lib/plimsoll")]
    pub(crate) data_dir: PathBuf,
}

/// `plimsoll up`
#[derive(Args, Clone, Debug)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) instance: DataDir,
    /// Address of the API server
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:6443")]
    pub(crate) listen: SocketAddr,
    /// Where the administrator's kubeconfig is written [default: DIR/admin.kubeconfig]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Name of this node [default: the host's name]
    #[arg(long, value_name = "NAME")]
    pub(crate) node_name: Option<String>,
    /// Run the control plane alone
    #[arg(long)]
    pub(crate) no_node: bool,
    /// Return when the cluster is ready and leave it running (log in DIR/log/)
    #[arg(long)]
    pub(crate) detach: bool,
    /// Range of pod addresses, or one of each family; chosen at the first start, kept afterwards
    #[arg(long, value_name = "CIDR,…", visible_alias = "cluster-cidr")]
    pub(crate) pod_cidr: Option<Ranges>,
    /// Prefix length of each node's part of the pod addresses [default: 24, of IPv6 64]
    #[arg(long, value_name = "BITS")]
    pub(crate) node_cidr_mask_size: Option<u8>,
    /// Range of Service addresses, or one of each family; chosen at the first start, kept afterwards
    #[arg(long, value_name = "CIDR,…", visible_alias = "service-cluster-ip-range")]
    pub(crate) service_cidr: Option<Ranges>,
    /// Control group that all pods are in; chosen at the first start, kept afterwards
    #[arg(long, value_name = "PATH")]
    pub(crate) cgroup_root: Option<String>,
    /// Whether a machine with swap is refused: what is swapped out is slow, and no limit counts it
    #[arg(
        long,
        value_name = "BOOL",
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        default_missing_value = "true"
    )]
    pub(crate) fail_swap_on: bool,
    /// Features that are on or off unlike by default: CBORServingAndStorage
    #[arg(
        long,
        value_name = "NAME=BOOL,…",
        default_value = "",
        hide_default_value = true,
        help_heading = "API server"
    )]
    pub(crate) feature_gates: plimsoll_apiserver::Features,
    #[command(flatten)]
    pub(crate) agent: AgentArgs,
    #[command(flatten)]
    pub(crate) safeguards: SafeguardArgs,
    #[command(flatten)]
    pub(crate) access: AccessArgs,
    #[command(flatten)]
    pub(crate) limits: LimitArgs,
    #[command(flatten)]
    pub(crate) store: StoreArgs,
    #[command(flatten)]
    pub(crate) network: NetworkArgs,
    #[command(flatten)]
    pub(crate) ingress: IngressArgs,
    /// Longest life of certificates that the cluster signs for approved requests
    #[arg(long, value_name = "DURATION", default_value = "8760h", value_parser = plimsoll_meta::duration::parse,
        help_heading = "Controllers")]
    pub(crate) cluster_signing_duration: Duration,
    /// Which controllers run: * are all, NAME one more, -NAME one less; -* are none
    #[arg(long, value_name = "NAME,…", default_value = "*", value_parser = controllers::selection,
        allow_hyphen_values = true, help_heading = "Controllers")]
    pub(crate) controllers: plimsoll_controllers::Selection,
    /// How long a node may be silent before it is not ready
    #[arg(long, value_name = "DURATION", default_value = "50s", value_parser = plimsoll_meta::duration::parse,
        help_heading = "Controllers")]
    pub(crate) node_monitor_grace_period: Duration,
    /// File that says how pods find their nodes (KubeSchedulerConfiguration of kubescheduler.config.k8s.io/v1)
    #[arg(long, value_name = "FILE", help_heading = "Scheduler")]
    pub(crate) scheduler_config: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) simulated: SimulatedArgs,
}

/// Settings of the node agent of an instance
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Node agent")]
pub(crate) struct AgentArgs {
    /// File with its configuration (KubeletConfiguration of kubelet.config.k8s.io/v1beta1)
    #[arg(long, value_name = "FILE")]
    pub(crate) kubelet_config: Option<PathBuf>,
    /// Folder of files that change parts of it: *.conf in the order of their names
    #[arg(long, value_name = "DIR")]
    pub(crate) kubelet_config_dir: Option<PathBuf>,
    /// Format of the program's own log [default: that of the configuration]
    #[arg(long, value_enum, value_name = "FORMAT")]
    logging_format: Option<Format>,
    #[command(flatten)]
    pub(crate) common: CommonArgs,
}

impl AgentArgs {
    /// How the log is written.
    pub(crate) fn log_format(&self, settings: &Configuration) -> Format {
        self.logging_format.unwrap_or_else(|| Format::of(&settings.logging.format))
    }
}

/// `plimsoll down`
#[derive(Args, Clone, Debug)]
pub(crate) struct Down {
    #[command(flatten)]
    pub(crate) instance: DataDir,
    /// Keep the objects and images, so that the next `up` brings the cluster back
    #[arg(long)]
    pub(crate) keep_data: bool,
}

/// Reads this process's command line; ends the process when it is wrong.
pub(crate) fn parse() -> Command {
    let matches = command().get_matches();
    Command::from_arg_matches(&matches).unwrap_or_else(|error| error.exit())
}

/// All commands. `simulate` has the flags of `up` about simulated nodes, under shorter names.
fn command() -> clap::Command {
    Command::command().mut_subcommand("simulate", |command| command.mut_args(simulate::shorten))
}

pub(crate) fn run(command: Command) -> anyhow::Result<()> {
    match command.action {
        Action::Up(options) => up::run(&options),
        Action::Down(options) => down::run(&options),
        Action::Kubelet(options) => kubelet::run(&options),
        Action::Controllers(options) => controllers::run(&options),
        Action::Scheduler(options) => scheduler::run(&options),
        Action::Simulate(options) => simulate::run(&options),
        Action::Doctor(options) => doctor::run(&options),
        Action::Why(options) => why::run(&options),
        Action::Image(command) => image::run(command),
        Action::Store(command) => store::run(&command),
        Action::Demo(options) => demo::run(options),
        Action::Version => {
            println!("plimsoll {}\nKubernetes {}", env!("CARGO_PKG_VERSION"), plimsoll_apiserver::VERSION);
            Ok(())
        }
    }
}

/// The flags of `up` and their values in this process.
pub(crate) fn flags() -> Vec<(String, String)> {
    let (all, matches) = (command(), command().try_get_matches_from(std::env::args_os()));
    let (Some(up), Ok(matches)) = (all.find_subcommand("up"), matches) else {
        return Vec::new();
    };
    let Some(matches) = matches.subcommand_matches("up") else { return Vec::new() };
    let value = |id: &str| {
        let values = matches.try_get_raw(id).ok().flatten().into_iter().flatten();
        values.map(|value| value.to_string_lossy().into_owned()).collect::<Vec<_>>().join(",")
    };
    let named = |arg: &clap::Arg| Some((arg.get_long()?.to_owned(), value(arg.get_id().as_str())));
    up.get_arguments().filter_map(named).collect()
}
