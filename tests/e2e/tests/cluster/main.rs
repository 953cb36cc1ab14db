//! Plimsoll as its users meet it: the real kubectl, real containers, the machine itself.
//!
//! Most cases share one cluster and have a namespace each; those about a cluster's own life start
//! their own. Needs root, kubectl, nft and busybox-static; `./test` installs them.
#![expect(clippy::unwrap_used, reason = "tests")]

mod access;
mod autoscaling;
mod changes;
mod charts;
mod clients;
mod customs;
mod datastore;
mod engines;
mod etcd;
mod extensions;
mod families;
mod gateways;
mod hosts;
mod images;
mod ingress;
mod instance;
mod jobs;
mod kubectl;
mod looks;
mod lost;
mod network;
mod nodes;
mod operators;
mod plugins;
mod pods;
mod policies;
mod quotas;
mod refusals;
mod restart;
mod rollouts;
mod schedulers;
mod sets;
mod simulated;
mod snapshots;
mod standby;
mod versions;
mod volumes;
mod workloads;

use std::process::ExitCode;
use std::sync::OnceLock;
use std::time::Duration;

use plimsoll_e2e::{Agent, Case, Cluster, Containerd};

/// The image with a shell that cases use.
const BUSYBOX: &str = "plimsoll.test/busybox:1";

/// The same, but to be stopped by SIGUSR1.
const SIGNALLED: &str = "plimsoll.test/signalled:1";

/// Makes the images that cases use.
fn make_images(cluster: &Cluster) {
    cluster.busybox(BUSYBOX);
    let folder = cluster.scratch().join("signalled");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("Dockerfile"), format!("FROM {BUSYBOX}\nSTOPSIGNAL SIGUSR1\n")).unwrap();
    cluster.plimsoll("image build", &["--tag", SIGNALLED, &folder.to_string_lossy()]).ok();
}

/// Longer than anything that is not written down elsewhere should take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What cases share.
#[derive(Default)]
struct Shared {
    cluster: OnceLock<Cluster>,
    /// The same for a node on the other engine.
    other: OnceLock<(Agent, Containerd, Box<Shared>)>,
}

impl Shared {
    /// The shared cluster, started by the first case that wants it.
    fn cluster(&self) -> &Cluster {
        self.cluster.get_or_init(|| {
            let cluster = Cluster::start();
            make_images(&cluster);
            cluster
        })
    }

    /// What is shared by cases whose pods live on containerd.
    fn on_containerd(&self) -> &Self {
        let (_, _, shared) = self.other.get_or_init(|| {
            let cluster = Cluster::prepare(&["--no-node"]);
            cluster.up();
            make_images(&cluster);
            let (engine, agent) = engines::guest(&cluster);
            agent.join(&cluster);
            engines::approve_serving(&cluster, &agent);
            (agent, engine, Box::new(Self { cluster: cluster.into(), other: OnceLock::new() }))
        });
        shared
    }
}

/// The cases of a file, a line each: `table!(module: first, second)`.
macro_rules! table {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($(Case { name: concat!(stringify!($module), "::", stringify!($case)), run: $module::$case },)+)+]
    };
}

/// Cases that hold on either engine: those of [`table!`], and the same again on containerd.
macro_rules! twice {
    ($($module:ident: $($case:ident),+;)+) => {
        &[$($(
            Case { name: concat!(stringify!($module), "::", stringify!($case)), run: $module::$case },
            Case {
                name: concat!("containerd::", stringify!($module), "::", stringify!($case)),
                run: |shared| $module::$case(shared.on_containerd()),
            },
        )+)+]
    };
}

/// Long ones first, so that the last ones to run are short.
const CASES: &[Case<Shared>] = table! {
    restart: nothing_is_lost_when_killed_under_load, logs_and_exit_codes_outlive_a_stop;
    engines: a_node_on_containerd_stands_alone_joins_and_goes_down, pods_outlive_the_agent;
    volumes: data_outlives_pods_and_the_program;
    operators: they_outlive_a_restart_of_the_server;
    extensions: an_extension_server_serves_its_group;
    instance: down_leaves_nothing, two_instances_run_side_by_side, down_can_keep_the_data, it_can_run_detached,
        a_control_plane_runs_alone, what_is_missing_is_refused;
    datastore: etcd_keeps_the_state_while_its_members_fail, what_cannot_keep_the_state_is_refused;
    etcd: etcdctl_works_on_a_store_of_its_own, the_state_of_a_cluster_is_served_to_who_shows_a_certificate;
    snapshots: yesterday_comes_back;
    simulated: pods_live_on_simulated_nodes_and_silent_nodes_are_noticed;
    schedulers: two_schedulers_place_pods_and_say_why_they_wait, schedulers_of_one_name_never_bind_a_pod_twice;
    lost: its_pods_are_replaced_but_never_doubled;
    standby: a_second_process_takes_over_when_the_first_one_ends,
        what_a_killed_process_began_is_ended_by_the_other;
    autoscaling: a_busy_deployment_grows_and_shrinks, replicas_follow_the_size_of_the_cluster;
    ingress: an_ingress_loses_no_request;
    gateways: routes_of_a_gateway_are_served;
    charts: a_release_lives_from_install_to_uninstall;
    nodes: a_node_is_emptied_and_used_again, its_figures_are_those_of_its_pods;
    workloads: a_deployment_runs_scales_and_goes, a_rollout_can_be_undone, a_deleted_pod_is_replaced,
        a_job_runs_to_completion, a_failing_job_gives_up, orphans_stay_and_dependents_go,
        what_cannot_be_scheduled_says_why;
    rollouts: a_paused_deployment_collects_changes, a_stateful_set_keeps_order_and_goes_back,
        a_daemon_set_rolls_and_goes_back, a_quota_is_told_and_lifted, a_stalled_rollout_is_told_and_sized;
    jobs: policies_end_jobs, disruptions_count_as_the_policy_says, jobs_are_held_and_resized,
        jobs_are_started_by_the_clock_and_by_hand;
    sets: a_stateful_set_keeps_or_drops_its_claims, a_daemon_set_surges_or_waits_to_be_asked;
    hosts: pods_and_services_span_nodes;
    families: pods_and_services_have_both_and_policies_outlive_a_restart;
    plugins: plugins_connect_pods_instead_of_the_network;
    policies: policies_say_who_reaches_whom;
    network: a_rollout_loses_no_request, probes_gate_endpoints, services_are_found_from_pods, requests_are_spread, a_node_port_is_open_on_the_node,
        pods_reach_pods_and_the_node, a_service_without_endpoints_refuses, several_ports_have_names;
    access: roles_allow_and_nothing_else_does, service_accounts_speak_for_pods, nobody_anonymous_reads,
        approved_requests_get_certificates, secrets_get_tokens_of_accounts;
    images: an_image_is_built_in_stages, images_travel_by_archive, images_travel_by_registry,
        a_damaged_image_hurts_its_own_pod_alone;
    kubectl: fields_are_explained, objects_are_described, tables_have_the_usual_columns, objects_are_changed_in_every_way,
        server_side_apply_has_owners, objects_are_watched_and_waited_for, the_short_ways_work;
    quotas: each_priority_has_a_quota_of_its_own, limits_fill_in_and_hold;
    refusals: bad_manifests_get_upstreams_words;
    customs: kinds_of_users_look_like_others, objects_of_users_are_checked, objects_of_users_are_applied,
        bad_definitions_are_refused;
    changes: server_side_apply_takes_over, what_is_no_longer_applied_is_pruned, objects_are_edited,
        objects_are_replaced_and_deleted, folders_of_kustomize_are_applied, the_ways_to_set_parts_work;
    looks: lists_are_printed_in_every_way, the_api_is_read_as_it_is, users_are_told_what_they_may,
        requests_for_certificates_are_denied, pods_are_debugged;
    versions: the_usual_kubectl_works, kubectl_1_33_works, kubectl_1_35_works;
    clients: the_python_client_lists_creates_and_watches;
};

/// What pods do, whichever engine they are on.
const PODS: &[Case<Shared>] = twice! {
    pods: a_crash_loop_backs_off, a_failing_liveness_probe_restarts_the_container, too_much_memory_is_oomkilled,
        init_containers_run_in_order, a_startup_probe_holds_the_others_back, logs_follow_to_the_end,
        logs_of_the_previous_container_are_kept, commands_run_in_containers, files_are_copied_both_ways,
        ports_are_forwarded, a_pod_ends_gracefully, a_pod_that_does_not_listen_is_killed, stop_signals_are_chosen, hooks_run,
        the_environment_tells_about_the_pod, security_contexts_hold, a_missing_image_is_reported, what_cannot_start_says_why,
        a_terminal_can_be_attached, host_aliases_and_host_names,
        a_pod_is_resized_in_place;
    volumes: mounted_config_is_updated, containers_share_an_empty_dir, a_host_path_is_the_hosts,
        the_pod_can_be_read_as_files, parts_of_volumes_are_mounted, a_missing_config_map_holds_the_pod;
};

fn main() -> ExitCode {
    plimsoll_e2e::main(&[CASES, PODS].concat(), Shared::default)
}
