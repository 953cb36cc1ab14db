//! Every check of a configuration, in upstream's order and words (pkg/scheduler/apis/config/validation).

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::TopologySpreadConstraint;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name::is_qualified_name;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::arguments::{
    BalancedAllocationArgs, DefaultPreemptionArgs, DynamicResourcesArgs, FitArgs, InterPodAffinityArgs,
    NodeAffinityArgs, ScoringStrategy, ShapePoint, SpreadArgs, VolumeBindingArgs, with_defaults,
};
use super::fields::{
    Configuration, ExtenderFields, LeaderElection, PluginConfig, PluginSet, PluginsFields, ProfileFields,
};
use super::{Refused, VERSION, decode, selectors};
use crate::plugin::Plugin;

/// Plugins that were taken away.
const GONE: [&str; 4] = ["AzureDiskLimits", "CinderLimits", "EBSLimits", "GCEPDLimits"];

type Problems = Vec<FieldError>;

/// What is wrong with a configuration.
///
/// # Errors
/// Arguments of a plugin that cannot be read.
pub(super) fn problems(it: &Configuration) -> Result<Vec<String>, Refused> {
    let mut problems = Problems::new();
    let root = Path::root;
    if it.client_connection.burst < 0 {
        let field = root("clientConnection").child("burst");
        problems.push(FieldError::invalid(
            &field,
            &json!(it.client_connection.burst),
            "must be non-negative",
        ));
    }
    election(&it.leader_election, &mut problems);
    if it.parallelism <= 0 {
        let detail = "should be an integer value greater than zero";
        problems.push(FieldError::invalid(&root("parallelism"), &json!(it.parallelism), detail));
    }
    profiles(&it.profiles, &mut problems)?;
    percentage(&root("percentageOfNodesToScore"), it.percentage_of_nodes_to_score, &mut problems);
    let (first, most) = (it.pod_initial_backoff_seconds, it.pod_max_backoff_seconds);
    if first <= 0 {
        let field = root("podInitialBackoffSeconds");
        problems.push(FieldError::invalid(&field, &json!(first), "must be greater than 0"));
    }
    if most < first {
        let detail = "must be greater than or equal to PodInitialBackoffSeconds";
        problems.push(FieldError::invalid(&root("podMaxBackoffSeconds"), &json!(most), detail));
    }
    extenders(&it.extenders, &mut problems);
    Ok(problems.iter().map(ToString::to_string).collect())
}

fn election(it: &LeaderElection, problems: &mut Problems) {
    if !it.leader_elect {
        return;
    }
    let path = Path::root("leaderElection");
    let spans = [
        ("leaseDuration", &it.lease_duration),
        ("renewDeadline", &it.renew_deadline),
        ("retryPeriod", &it.retry_period),
    ];
    for (name, span) in spans {
        if !span.is_positive() {
            problems.push(FieldError::invalid(&path.child(name), &json!(span), "must be greater than zero"));
        }
    }
    if it.lease_duration.length() <= it.renew_deadline.length() {
        let detail = "LeaseDuration must be greater than RenewDeadline";
        problems.push(FieldError::invalid(&path.child("leaseDuration"), &json!(it.renew_deadline), detail));
    }
    if it.resource_lock != "leases" {
        let detail = "resourceLock value must be \"leases\"";
        problems.push(FieldError::invalid(&path.child("resourceLock"), &json!(it.resource_lock), detail));
    }
}

fn percentage(path: &Path, given: Option<i32>, problems: &mut Problems) {
    if let Some(percentage) = given.filter(|percentage| !(0..=100).contains(percentage)) {
        problems.push(FieldError::invalid(path, &json!(percentage), "not in valid range [0-100]"));
    }
}

fn profiles(profiles: &[ProfileFields], problems: &mut Problems) -> Result<(), Refused> {
    let path = Path::root("profiles");
    let mut seen = BTreeMap::new();
    for (at, profile) in profiles.iter().enumerate() {
        let path = path.index(at);
        let name = profile.scheduler_name.clone().unwrap_or_default();
        if name.is_empty() {
            problems.push(FieldError::required(&path.child("schedulerName"), ""));
        }
        percentage(&path.child("percentageOfNodesToScore"), profile.percentage_of_nodes_to_score, problems);
        if let Some(plugins) = &profile.plugins {
            gone(plugins, &path.child("plugins"), problems);
        }
        arguments(&profile.plugin_config, &path.child("pluginConfig"), problems)?;
        if let Some(first) = seen.insert(name, at) {
            let other = format!("profiles[{first}].schedulerName");
            problems.push(FieldError::duplicate(&path.child("schedulerName"), &json!(other)));
        }
    }
    let sorts = |profile: &ProfileFields| profile.plugins.clone().unwrap_or_default().queue_sort;
    let Some(first) = profiles.first().map(sorts) else { return Ok(()) };
    if first.enabled.len() > 1 {
        let path = path.index(0).child("plugins").child("queueSort").child("Enabled");
        let detail = "only one queue sort plugin can be enabled";
        problems.push(FieldError::invalid(&path, &json!(first.enabled.len()), detail));
    }
    for (at, profile) in profiles.iter().enumerate().skip(1) {
        if sorts(profile) != first {
            let path = path.index(at).child("plugins").child("queueSort");
            problems.push(FieldError::invalid(
                &path,
                &json!(sorts(profile)),
                "must be the same for all profiles",
            ));
        }
    }
    Ok(())
}

fn gone(plugins: &PluginsFields, path: &Path, problems: &mut Problems) {
    // Under `multiPoint` they are merely not there.
    let sets: [(&str, &PluginSet); 12] = [
        ("preEnqueue", &plugins.pre_enqueue),
        ("queueSort", &plugins.queue_sort),
        ("preFilter", &plugins.pre_filter),
        ("filter", &plugins.filter),
        ("postFilter", &plugins.post_filter),
        ("preScore", &plugins.pre_score),
        ("score", &plugins.score),
        ("reserve", &plugins.reserve),
        ("permit", &plugins.permit),
        ("preBind", &plugins.pre_bind),
        ("bind", &plugins.bind),
        ("postBind", &plugins.post_bind),
    ];
    for (name, set) in sets {
        for (at, plugin) in
            set.enabled.iter().enumerate().filter(|(_, one)| GONE.contains(&one.name.as_str()))
        {
            problems.push(taken_away(&path.child(name).child("enabled").index(at), &plugin.name));
        }
    }
}

fn taken_away(path: &Path, name: &str) -> FieldError {
    // Upstream names the version of the core group there.
    let detail = format!("was invalid in version \"v1\" (KubeSchedulerConfiguration is version {VERSION:?})");
    FieldError::invalid(path, &json!(name), detail)
}

fn arguments(configs: &[PluginConfig], path: &Path, problems: &mut Problems) -> Result<(), Refused> {
    let mut seen = BTreeSet::new();
    for (at, config) in configs.iter().enumerate() {
        let path = path.index(at);
        if !seen.insert(&config.name) {
            problems.push(FieldError::duplicate(&path, &json!(config.name)));
        }
        if GONE.contains(&config.name.as_str()) {
            problems.push(taken_away(&path, &config.name));
        } else if let Some(plugin) = Plugin::named(&config.name) {
            check(plugin, config, &path.child("args"), problems)?;
        }
    }
    Ok(())
}

fn check(plugin: Plugin, config: &PluginConfig, path: &Path, problems: &mut Problems) -> Result<(), Refused> {
    match plugin {
        Plugin::DefaultPreemption => preemption(&read(config)?, path, problems),
        Plugin::InterPodAffinity => {
            let args: InterPodAffinityArgs = read(config)?;
            if !(0..=100).contains(&args.hard_pod_affinity_weight) {
                let field = path.child("hardPodAffinityWeight");
                let value = json!(args.hard_pod_affinity_weight);
                problems.push(FieldError::invalid(&field, &value, "not in valid range [0, 100]"));
            }
        }
        Plugin::NodeAffinity => {
            let args: NodeAffinityArgs = read(config)?;
            if let Some(affinity) = args.added_affinity {
                selectors::check(&affinity, &path.child("addedAffinity"), problems);
            }
        }
        Plugin::NodeResourcesBalancedAllocation => {
            let mut args: BalancedAllocationArgs = read(config)?;
            with_defaults(&mut args.resources);
            let mut seen = BTreeSet::new();
            for (at, resource) in args.resources.iter().enumerate() {
                let path = path.child("resources").index(at);
                if !seen.insert(&resource.name) {
                    problems.push(FieldError::duplicate(&path.child("name"), &json!(resource.name)));
                }
                if resource.weight != 1 {
                    problems.push(FieldError::invalid(
                        &path.child("weight"),
                        &json!(resource.weight),
                        "must be 1",
                    ));
                }
            }
        }
        Plugin::NodeResourcesFit => fit(&read(config)?, path, problems),
        Plugin::PodTopologySpread => spread(&read(config)?, path, problems),
        Plugin::VolumeBinding => volume_binding(&read(config)?, path, problems),
        Plugin::DynamicResources => dynamic_resources(&read(config)?, path, problems),
        _ => {}
    }
    Ok(())
}

/// The arguments of a plugin, strictly.
fn read<T: DeserializeOwned + Serialize>(config: &PluginConfig) -> Result<T, Refused> {
    let name = &config.name;
    let refused = |problem: String| Refused(vec![format!("decoding args for plugin {name:?}: {problem}")]);
    let mut args = config.args.clone();
    let version = args.remove("apiVersion").unwrap_or_else(|| json!(VERSION));
    let kind = args.remove("kind").unwrap_or_else(|| json!(format!("{name}Args")));
    if version != VERSION || kind != format!("{name}Args") {
        let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let (kind, version) = (text(&kind), text(&version));
        return Err(refused(format!(
            "args for plugin {name} were not of type {name}Args.kubescheduler.config.k8s.io, got {kind}.{version}"
        )));
    }
    let mut unknown = Vec::new();
    let read = decode(&Value::Object(args), "", &mut unknown).map_err(refused)?;
    match &unknown[..] {
        [] => Ok(read),
        several => {
            let Refused(all) = refused(format!("strict decoding error: {}", several.join(", ")));
            Err(Refused(all.into_iter().map(|problem| format!("strict decoding error: {problem}")).collect()))
        }
    }
}

fn preemption(args: &DefaultPreemptionArgs, path: &Path, problems: &mut Problems) {
    let (percentage, absolute) = (args.min_candidate_nodes_percentage, args.min_candidate_nodes_absolute);
    let percent_path = path.child("minCandidateNodesPercentage");
    let absolute_path = path.child("minCandidateNodesAbsolute");
    if !(0..=100).contains(&percentage) {
        problems.push(FieldError::invalid(&percent_path, &json!(percentage), "not in valid range [0, 100]"));
    }
    if absolute < 0 {
        problems.push(FieldError::invalid(&absolute_path, &json!(absolute), "not in valid range [0, inf)"));
    }
    if percentage == 0 && absolute == 0 {
        let same_time = |other: &str| format!("cannot be zero at the same time as {other}");
        problems.push(FieldError::invalid(&percent_path, &json!(0), same_time("minCandidateNodesAbsolute")));
        problems.push(FieldError::invalid(
            &absolute_path,
            &json!(0),
            same_time("minCandidateNodesPercentage"),
        ));
    }
}

fn fit(args: &FitArgs, path: &Path, problems: &mut Problems) {
    for (at, name) in args.ignored_resources.iter().enumerate() {
        label_name(&path.child("ignoredResources").index(at), name, problems);
    }
    for (at, group) in args.ignored_resource_groups.iter().enumerate() {
        let path = path.child("ignoredResourceGroups").index(at);
        if group.contains('/') {
            problems.push(FieldError::invalid(&path, &json!(group), "resource group name can't contain '/'"));
        }
        label_name(&path, group, problems);
    }
    if let Some(given) = &args.scoring_strategy {
        scoring(given, &path.child("scoringStrategy"), problems);
    }
}

fn scoring(given: &ScoringStrategy, path: &Path, problems: &mut Problems) {
    let types = ["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"];
    if !types.contains(&given.r#type.as_str()) {
        problems.push(FieldError::not_supported(&path.child("type"), &json!(given.r#type), &types));
    }
    let mut resources = given.resources.clone();
    with_defaults(&mut resources);
    for (at, resource) in resources.iter().enumerate().filter(|(_, one)| !(1..=100).contains(&one.weight)) {
        let detail = format!("resource weight of {} not in valid range (0, 100]", resource.name);
        let field = path.child("resources").index(at).child("weight");
        problems.push(FieldError::invalid(&field, &json!(resource.weight), detail));
    }
    let field = path.child("requestedToCapacityRatio");
    match (&given.requested_to_capacity_ratio, given.r#type == "RequestedToCapacityRatio") {
        (Some(ratio), true) => shape(&ratio.shape, &field.child("shape"), problems),
        (None, true) => {
            let detail = "must be specified when type is RequestedToCapacityRatio";
            problems.push(FieldError::required(&field, detail));
        }
        (Some(_), false) => {
            let detail = "must be nil when type is not RequestedToCapacityRatio";
            problems.push(FieldError::forbidden(&field, detail));
        }
        (None, false) => {}
    }
}

fn shape(points: &[ShapePoint], path: &Path, problems: &mut Problems) {
    if points.is_empty() {
        problems.push(FieldError::required(path, "at least one point must be specified"));
        return;
    }
    let unsorted = (1..points.len()).find(|at| points[at - 1].utilization >= points[*at].utilization);
    if let Some(at) = unsorted {
        let detail = "values must be sorted in increasing order";
        let field = path.index(at).child("utilization");
        problems.push(FieldError::invalid(&field, &json!(points[at].utilization), detail));
    }
    for (at, point) in points.iter().enumerate() {
        for (name, value, most) in [("utilization", point.utilization, 100), ("score", point.score, 10)] {
            if !(0..=most).contains(&value) {
                let detail = format!("not in valid range [0, {most}]");
                problems.push(FieldError::invalid(&path.index(at).child(name), &json!(value), detail));
            }
        }
    }
}

fn spread(args: &SpreadArgs, path: &Path, problems: &mut Problems) {
    let defaulting = path.child("defaultingType");
    let (kind, constraints) = (args.defaulting_type.as_str(), &args.default_constraints);
    if !["System", "List"].contains(&kind) {
        problems.push(FieldError::not_supported(&defaulting, &json!(kind), &["System", "List"]));
    } else if kind == "System" && !constraints.is_empty() {
        problems.push(FieldError::invalid(
            &defaulting,
            &json!(kind),
            "when .defaultConstraints are not empty",
        ));
    }
    let path = path.child("defaultConstraints");
    for (at, one) in constraints.iter().enumerate() {
        constraint(one, &path.index(at), problems);
        let same = |other: &TopologySpreadConstraint| {
            other.topology_key == one.topology_key && other.when_unsatisfiable == one.when_unsatisfiable
        };
        if constraints[..at].iter().any(same) {
            let value = format!("{{{}, {}}}", one.topology_key, one.when_unsatisfiable);
            problems.push(FieldError::duplicate(&path.index(at), &json!(value)));
        }
    }
}

fn constraint(one: &TopologySpreadConstraint, path: &Path, problems: &mut Problems) {
    if one.max_skew <= 0 {
        let field = path.child("maxSkew");
        problems.push(FieldError::invalid(&field, &json!(one.max_skew), "not in valid range (0, inf)"));
    }
    let field = path.child("topologyKey");
    if one.topology_key.is_empty() {
        problems.push(FieldError::required(&field, "can not be empty"));
    } else {
        label_name(&field, &one.topology_key, problems);
    }
    let field = path.child("whenUnsatisfiable");
    let actions = ["DoNotSchedule", "ScheduleAnyway"];
    match one.when_unsatisfiable.as_str() {
        "" => problems.push(FieldError::required(&field, "can not be empty")),
        known if actions.contains(&known) => {}
        other => problems.push(FieldError::not_supported(&field, &json!(other), &actions)),
    }
    if one.label_selector.is_some() {
        let detail = "constraint must not define a selector, as they deduced for each pod";
        problems.push(FieldError::forbidden(&path.child("labelSelector"), detail));
    }
}

fn volume_binding(args: &VolumeBindingArgs, path: &Path, problems: &mut Problems) {
    if args.bind_timeout_seconds < 0 {
        let detail = "invalid BindTimeoutSeconds, should not be a negative value";
        let field = path.child("bindTimeoutSeconds");
        problems.push(FieldError::invalid(&field, &json!(args.bind_timeout_seconds), detail));
    }
    if let Some(shape) = &args.shape {
        let detail = "unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring";
        problems.push(FieldError::invalid(&path.child("shape"), &json!(shape), detail));
    }
}

fn dynamic_resources(args: &DynamicResourcesArgs, path: &Path, problems: &mut Problems) {
    if let Some(span) = args.filter_timeout.as_ref().filter(|span| span.is_negative()) {
        let field = path.child("filterTimeout");
        problems.push(FieldError::invalid(&field, &json!(span), "must be zero or positive"));
    }
    if let Some(span) = args.binding_timeout.as_ref().filter(|span| span.length().as_secs() < 1) {
        let field = path.child("bindingTimeout");
        problems.push(FieldError::invalid(&field, &json!(span), "must be at least 1 second"));
    }
}

/// As metav1validation.ValidateLabelName.
pub(super) fn label_name(path: &Path, name: &str, problems: &mut Problems) {
    let found = is_qualified_name(name).err().unwrap_or_default();
    problems.extend(found.into_iter().map(|detail| FieldError::invalid(path, &json!(name), detail)));
}

fn extenders(extenders: &[ExtenderFields], problems: &mut Problems) {
    let path = Path::root("extenders");
    let mut managed = BTreeSet::new();
    for (at, extender) in extenders.iter().enumerate() {
        let path = path.index(at);
        if !extender.prioritize_verb.is_empty() && extender.weight <= 0 {
            let detail = "must have a positive weight applied to it";
            problems.push(FieldError::invalid(&path.child("weight"), &json!(extender.weight), detail));
        }
        for (at, resource) in extender.managed_resources.iter().enumerate() {
            let field = path.child("managedResources").index(at).child("name");
            let before = problems.len();
            label_name(&field, &resource.name, problems);
            if problems.len() == before && !is_extended(&resource.name) {
                let detail = "is an invalid extended resource name";
                problems.push(FieldError::invalid(&field, &json!(resource.name), detail));
            }
            if !managed.insert(&resource.name) {
                let detail = "duplicate extender managed resource name";
                problems.push(FieldError::invalid(&field, &json!(resource.name), detail));
            }
        }
    }
    let binders = extenders.iter().filter(|extender| !extender.bind_verb.is_empty()).count();
    if binders > 1 {
        let value = json!(format!("found {binders} extenders implementing bind"));
        problems.push(FieldError::invalid(&path, &value, "only one extender can implement bind"));
    }
}

/// A resource with a name of somebody else's.
fn is_extended(name: &str) -> bool {
    let native = !name.contains('/') || name.contains("kubernetes.io/");
    !native && !name.starts_with("requests.") && is_qualified_name(&format!("requests.{name}")).is_ok()
}
