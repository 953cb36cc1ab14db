//! From the fields of a profile to what decides.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::arguments::{
    BalancedAllocationArgs, DefaultPreemptionArgs, DynamicResourcesArgs, FitArgs, InterPodAffinityArgs,
    NodeAffinityArgs, ResourceSpec, SpreadArgs, VolumeBindingArgs, with_defaults,
};
use super::fields::{Configuration, PluginSet, PluginsFields, ProfileFields};
use super::{Refused, decode};
use crate::plugin::{Plugin, Point};
use crate::profile::{
    Added, AffinityRules, Candidates, DefaultConstraint, Fit, Plugins, Profile, Resource, Share,
    SpreadDefaults, Strategy, Weighed,
};
use crate::terms::NodeTerm;

/// Plugins that are on at a point, with the weights that they were given.
type Enabled = BTreeMap<Plugin, i64>;

pub(super) fn profile(fields: &ProfileFields, whole: &Configuration) -> Result<Profile, Refused> {
    let name = fields.scheduler_name.clone().unwrap_or_default();
    let plugins = fields.plugins.clone().unwrap_or_default();
    let refused = |problem: String| {
        Refused(vec![format!("initializing profiles: creating profile for scheduler name {name}: {problem}")])
    };
    let multi = multi_point(&plugins.multi_point).map_err(refused)?;
    let at = |point| at(point, &plugins, &multi).map_err(refused);
    if at(Point::QueueSort)?.is_empty() {
        return Err(refused(
            "only one queue sort plugin required for profile with scheduler name ".to_owned()
                + &format!("{name:?}, but got 0"),
        ));
    }
    if at(Point::Bind)?.is_empty() {
        return Err(refused(
            "at least one bind plugin is needed for profile with scheduler name ".to_owned()
                + &format!("{name:?}"),
        ));
    }
    let mut points = [Plugins::default(); Point::ALL.len()];
    for point in Point::ALL {
        points[point as usize] = at(point)?.into_keys().collect();
    }
    let mut profile = Profile {
        scheduler_name: name.clone(),
        filters: points[Point::Filter as usize],
        points,
        share: share(fields.percentage_of_nodes_to_score.or(whole.percentage_of_nodes_to_score)),
        ..Profile::default()
    };
    let scores = at(Point::Score)?;
    for plugin in Plugin::ALL {
        profile.weights[plugin as usize] = scores.get(&plugin).copied().unwrap_or(0);
    }
    for config in &fields.plugin_config {
        if let Some(plugin) = Plugin::named(&config.name) {
            take(&mut profile, plugin, config.args.clone().into()).map_err(refused)?;
        }
    }
    let managed = whole.extenders.iter().flat_map(|extender| &extender.managed_resources);
    profile.fit.ignored.extend(managed.filter(|one| one.ignored_by_scheduler).map(|one| one.name.clone()));
    Ok(profile)
}

/// Explicitly none asks for the formula; nothing said leaves it to the program.
fn share(percentage: Option<i32>) -> Share {
    match percentage.map(usize::try_from) {
        None => Share::All,
        Some(Ok(0)) | Some(Err(_)) => Share::Adaptive,
        Some(Ok(percent)) => Share::Percent(percent),
    }
}

/// The plugins that are on wherever they have a say.
fn multi_point(set: &PluginSet) -> Result<Enabled, String> {
    let off =
        |plugin: &Plugin| set.disabled.iter().any(|one| one.name == "*" || one.name == plugin.to_string());
    let mut enabled: Enabled = Plugin::ALL
        .into_iter()
        .filter(|plugin| !off(plugin))
        .map(|plugin| (plugin, plugin.weight()))
        .collect();
    let mut seen = BTreeSet::new();
    for entry in &set.enabled {
        let plugin =
            Plugin::named(&entry.name).ok_or_else(|| format!("plugin {:?} does not exist", entry.name))?;
        if !seen.insert(plugin) {
            return Err(format!("plugin {:?} already registered as \"MultiPoint\"", entry.name));
        }
        enabled.insert(plugin, weight(entry.weight));
    }
    Ok(enabled)
}

fn weight(given: Option<i32>) -> i64 {
    match given {
        None | Some(0) => 1,
        Some(weight) => i64::from(weight),
    }
}

fn at(point: Point, plugins: &PluginsFields, multi: &Enabled) -> Result<Enabled, String> {
    let set = set_of(plugins, point);
    let off =
        |plugin: &Plugin| set.disabled.iter().any(|one| one.name == "*" || one.name == plugin.to_string());
    let mut enabled: Enabled = multi
        .iter()
        .filter(|(plugin, _)| plugin.points().contains(&point) && !off(plugin))
        .map(|(plugin, weight)| (*plugin, *weight))
        .collect();
    let mut seen = BTreeSet::new();
    for entry in &set.enabled {
        let name = &entry.name;
        let plugin = Plugin::named(name).ok_or_else(|| format!("{point} {name:?} does not exist"))?;
        if !plugin.points().contains(&point) {
            return Err(format!("plugin {name:?} does not extend {point} plugin"));
        }
        if !seen.insert(plugin) {
            return Err(format!("plugin {name:?} already registered as {:?}", point.to_string()));
        }
        enabled.insert(plugin, weight(entry.weight));
    }
    Ok(enabled)
}

fn set_of(plugins: &PluginsFields, point: Point) -> &PluginSet {
    match point {
        Point::PreEnqueue => &plugins.pre_enqueue,
        Point::QueueSort => &plugins.queue_sort,
        Point::PreFilter => &plugins.pre_filter,
        Point::Filter => &plugins.filter,
        Point::PostFilter => &plugins.post_filter,
        Point::PreScore => &plugins.pre_score,
        Point::Score => &plugins.score,
        Point::Reserve => &plugins.reserve,
        Point::Permit => &plugins.permit,
        Point::PreBind => &plugins.pre_bind,
        Point::Bind => &plugins.bind,
        Point::PostBind => &plugins.post_bind,
    }
}

/// Takes the arguments of a plugin, which validation has seen.
fn take(profile: &mut Profile, plugin: Plugin, mut args: serde_json::Value) -> Result<(), String> {
    if let Some(fields) = args.as_object_mut() {
        fields.remove("apiVersion");
        fields.remove("kind");
    }
    let mut none = Vec::new();
    match plugin {
        Plugin::DefaultPreemption => {
            let args: DefaultPreemptionArgs = decode(&args, "", &mut none)?;
            let count = |count: i32| usize::try_from(count).unwrap_or(0);
            profile.candidates = Candidates {
                percentage: count(args.min_candidate_nodes_percentage),
                absolute: count(args.min_candidate_nodes_absolute),
            };
        }
        Plugin::InterPodAffinity => {
            let args: InterPodAffinityArgs = decode(&args, "", &mut none)?;
            profile.affinity = AffinityRules {
                hard_weight: i64::from(args.hard_pod_affinity_weight),
                heeds_preferences: !args.ignore_preferred_terms_of_existing_pods,
            };
        }
        Plugin::NodeAffinity => profile.added = added(decode(&args, "", &mut none)?),
        Plugin::NodeResourcesBalancedAllocation => {
            let mut args: BalancedAllocationArgs = decode(&args, "", &mut none)?;
            with_defaults(&mut args.resources);
            profile.balanced = weighed(args.resources);
        }
        Plugin::NodeResourcesFit => profile.fit = fit(decode(&args, "", &mut none)?),
        Plugin::PodTopologySpread => {
            let args: SpreadArgs = decode(&args, "", &mut none)?;
            profile.spread = spread(&args);
        }
        Plugin::VolumeBinding => {
            let args: VolumeBindingArgs = decode(&args, "", &mut none)?;
            profile.bind_timeout = Duration::from_secs(u64::try_from(args.bind_timeout_seconds).unwrap_or(0));
        }
        Plugin::DynamicResources => {
            let args: DynamicResourcesArgs = decode(&args, "", &mut none)?;
            if let Some(timeout) = args.binding_timeout {
                profile.device_timeout = timeout.length();
            }
        }
        _ => {}
    }
    Ok(())
}

fn added(args: NodeAffinityArgs) -> Added {
    let affinity = args.added_affinity.unwrap_or_default();
    let required = affinity.required_during_scheduling_ignored_during_execution;
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.unwrap_or_default();
    Added {
        required: required.map(|selector| selector.node_selector_terms.iter().map(NodeTerm::of).collect()),
        preferred: preferred.iter().map(|term| (term.weight, NodeTerm::of(&term.preference))).collect(),
    }
}

fn weighed(resources: Vec<ResourceSpec>) -> Vec<Weighed> {
    let one = |spec: ResourceSpec| Weighed { resource: Resource::named(&spec.name), weight: spec.weight };
    resources.into_iter().map(one).collect()
}

fn fit(args: FitArgs) -> Fit {
    let mut scoring = args.scoring_strategy.unwrap_or_default();
    with_defaults(&mut scoring.resources);
    let shape = scoring.requested_to_capacity_ratio.unwrap_or_default().shape;
    // A shape's scores go up to 10.
    let points = shape.iter().map(|point| (i64::from(point.utilization), 10 * i64::from(point.score)));
    Fit {
        strategy: match scoring.r#type.as_str() {
            "MostAllocated" => Strategy::MostAllocated,
            "RequestedToCapacityRatio" => Strategy::RequestedToCapacityRatio(points.collect()),
            _ => Strategy::LeastAllocated,
        },
        resources: weighed(scoring.resources),
        ignored: args.ignored_resources.into_iter().collect(),
        ignored_groups: args.ignored_resource_groups.into_iter().collect(),
    }
}

fn spread(args: &SpreadArgs) -> SpreadDefaults {
    if args.defaulting_type != "List" {
        return SpreadDefaults::System;
    }
    let constraints = args.default_constraints.iter().map(|one| DefaultConstraint {
        max_skew: i64::from(one.max_skew),
        topology: one.topology_key.clone(),
        hard: one.when_unsatisfiable == "DoNotSchedule",
    });
    SpreadDefaults::List(constraints.collect())
}
