#![expect(clippy::unwrap_used, reason = "tests")]

use serde_json::{Value, json};

use super::*;
use crate::plugin::{Plugin, Point};
use crate::profile::{Resource, Share, SpreadDefaults, Strategy};

fn document(more: Value) -> Value {
    let mut all = json!({"apiVersion": VERSION, "kind": KIND});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    all
}

fn read(more: Value) -> Result<Vec<Profile>, String> {
    let configuration = Configuration::of(&document(more)).map_err(|refused| refused.to_string())?;
    configuration.profiles().map_err(|refused| refused.to_string())
}

fn with_plugins(plugins: Value) -> Result<Profile, String> {
    Ok(read(json!({"profiles": [{"plugins": plugins}]}))?.remove(0))
}

fn with_args(name: &str, args: Value) -> Result<Profile, String> {
    Ok(read(json!({"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]}))?.remove(0))
}

#[test]
fn nothing_said_is_the_usual_profile() {
    assert_eq!(read(json!({})).unwrap(), [Profile::default()]);
    assert_eq!(with_plugins(json!({"multiPoint": {}})).unwrap(), Profile::default());
    let whole = Configuration::of(&document(json!({}))).unwrap();
    assert_eq!((whole.parallelism, whole.client_connection.burst), (16, 100));
    assert_eq!(whole.leader_election.resource_name, "kube-scheduler");
}

#[test]
fn plugins_on_and_off() {
    let profile = with_plugins(json!({
        "score": {"disabled": [{"name": "ImageLocality"}], "enabled": [{"name": "NodeAffinity", "weight": 7}]},
        "filter": {"disabled": [{"name": "*"}], "enabled": [{"name": "NodePorts"}]},
        "postFilter": {"disabled": [{"name": "DefaultPreemption"}]},
    }))
    .unwrap();
    let weights = [Plugin::ImageLocality, Plugin::NodeAffinity, Plugin::TaintToleration];
    assert_eq!(weights.map(|plugin| profile.weight(plugin)), [0, 7, 3]);
    assert!(profile.filters.has(Plugin::NodePorts) && !profile.filters.has(Plugin::NodeResourcesFit));
    assert!(!profile.preempts() && profile.acts(Plugin::SchedulingGates, Point::PreEnqueue));

    let off_everywhere = json!({"multiPoint": {"disabled": [{"name": "PodTopologySpread"}, {"name": "SchedulingGates"}],
        "enabled": [{"name": "TaintToleration", "weight": 10}]}});
    let profile = with_plugins(off_everywhere).unwrap();
    assert_eq!(profile.weight(Plugin::PodTopologySpread), 0);
    assert!(
        !profile.filters.has(Plugin::PodTopologySpread)
            && !profile.acts(Plugin::SchedulingGates, Point::PreEnqueue)
    );
    assert_eq!(profile.weight(Plugin::TaintToleration), 10);

    let only = json!({"multiPoint": {"disabled": [{"name": "*"}], "enabled": [{"name": "PrioritySort"}, {"name": "DefaultBinder"}]}});
    let profile = with_plugins(only).unwrap();
    assert!(Plugin::ALL.iter().all(|plugin| profile.weight(*plugin) == 0 && !profile.filters.has(*plugin)));
}

#[test]
fn what_a_plugin_lacks_that_is_off_where_it_prepares() {
    let off = |point: &str, plugin: &str| {
        with_plugins(json!({point: {"disabled": [{"name": plugin}]}})).unwrap().flaw()
    };
    for (point, plugin, expected) in [
        ("preFilter", "NodeAffinity", None),
        ("preFilter", "VolumeZone", None),
        ("preScore", "NodeResourcesFit", None),
        ("permit", "*", None),
        ("postBind", "*", None),
        ("preBind", "VolumeBinding", None),
        ("reserve", "*", None),
        (
            "preFilter",
            "NodePorts",
            Some(
                "running \"NodePorts\" filter plugin: reading \"PreFilterNodePorts\" from cycleState: not found",
            ),
        ),
        (
            "preScore",
            "InterPodAffinity",
            Some(
                "running Score plugins: plugin \"InterPodAffinity\" failed with: failed to read \
                 \"PreScoreInterPodAffinity\" from cycleState: not found",
            ),
        ),
    ] {
        assert_eq!(off(point, plugin).as_deref(), expected, "{point} {plugin}");
    }
    // Off altogether, it lacks nothing.
    let all = json!({"preFilter": {"disabled": [{"name": "NodePorts"}]}, "filter": {"disabled": [{"name": "NodePorts"}]}});
    assert_eq!(with_plugins(all).unwrap().flaw(), None);
    let kept = with_plugins(json!({"preBind": {"disabled": [{"name": "VolumeBinding"}]}})).unwrap();
    assert!(
        !kept.acts(Plugin::VolumeBinding, Point::PreBind) && kept.acts(Plugin::VolumeBinding, Point::Reserve)
    );
}

#[test]
fn arguments_reach_their_plugins() {
    let fit = with_args(
        "NodeResourcesFit",
        json!({"ignoredResourceGroups": ["x.io"], "scoringStrategy": {"type": "RequestedToCapacityRatio",
            "resources": [{"name": "cpu", "weight": 3}, {"name": "x.io/gpu"}],
            "requestedToCapacityRatio": {"shape": [{"utilization": 0, "score": 0}, {"utilization": 100, "score": 10}]}}}),
    )
    .unwrap()
    .fit;
    assert_eq!(fit.strategy, Strategy::RequestedToCapacityRatio(vec![(0, 0), (100, 100)]));
    assert_eq!((&fit.resources[1].resource, fit.resources[1].weight), (&Resource::named("x.io/gpu"), 1));
    assert!(fit.ignores("x.io/gpu") && !fit.ignores("y.io/gpu"));

    let constraint = json!({"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"});
    let args = json!({"defaultingType": "List", "defaultConstraints": [constraint]});
    let SpreadDefaults::List(list) = with_args("PodTopologySpread", args).unwrap().spread else {
        panic!("a list")
    };
    assert!(list[0].hard && list[0].max_skew == 2);

    let affinity =
        with_args("InterPodAffinity", json!({"ignorePreferredTermsOfExistingPods": true})).unwrap().affinity;
    assert_eq!((affinity.hard_weight, affinity.heeds_preferences), (1, false));
    assert_eq!(
        with_args("DefaultPreemption", json!({"minCandidateNodesAbsolute": 7})).unwrap().candidates.absolute,
        7
    );
    assert_eq!(
        with_args("VolumeBinding", json!({"bindTimeoutSeconds": 9})).unwrap().bind_timeout.as_secs(),
        9
    );
    assert_eq!(
        with_args("DynamicResources", json!({"bindingTimeout": "90s"})).unwrap().device_timeout.as_secs(),
        90
    );
    let shares = |more: Value| read(more).unwrap().remove(0).share;
    assert_eq!(shares(json!({"percentageOfNodesToScore": 0})), Share::Adaptive);
    let both = json!({"percentageOfNodesToScore": 0, "profiles": [{"percentageOfNodesToScore": 30}]});
    assert_eq!(shares(both), Share::Percent(30));
}

#[test]
fn everything_wrong_is_named() {
    let profile = |profile: Value| json!({"profiles": [profile]});
    let args = |name: &str, args: Value| profile(json!({"pluginConfig": [{"name": name, "args": args}]}));
    let plugins = |plugins: Value| profile(json!({"plugins": plugins}));
    let fit = |strategy: Value| args("NodeResourcesFit", json!({"scoringStrategy": strategy}));
    let spread = |constraint: Value| {
        args("PodTopologySpread", json!({"defaultingType": "List", "defaultConstraints": [constraint]}))
    };
    let added = |requirement: Value| {
        args(
            "NodeAffinity",
            json!({"addedAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
        {"nodeSelectorTerms": [{"matchExpressions": [requirement]}]}}}),
        )
    };
    let table = [
        (
            json!({"parallelism": 0}),
            "parallelism: Invalid value: 0: should be an integer value greater than zero",
        ),
        (
            json!({"colour": 1, "profiles": [{"plugins": {"score": {"enabled": [{"name": "ImageLocality", "wait": 1}]}}}]}),
            "strict decoding error: unknown field \"colour\", unknown field \"profiles[0].plugins.score.enabled[0].wait\"",
        ),
        (json!({"parallelism": "many"}), "parallelism: invalid type: string \"many\", expected i32"),
        (
            json!({"percentageOfNodesToScore": 101}),
            "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        ),
        (
            json!({"podInitialBackoffSeconds": 0}),
            "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0",
        ),
        (
            json!({"podMaxBackoffSeconds": 0}),
            "podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        (
            json!({"clientConnection": {"burst": -1}}),
            "clientConnection.burst: Invalid value: -1: must be non-negative",
        ),
        (
            json!({"leaderElection": {"leaderElect": true, "leaseDuration": "5s"}}),
            "leaderElection.leaseDuration: Invalid value: \"10s\": LeaseDuration must be greater than RenewDeadline",
        ),
        (
            json!({"leaderElection": {"leaderElect": true, "resourceLock": "configmaps"}}),
            "leaderElection.resourceLock: Invalid value: \"configmaps\": resourceLock value must be \"leases\"",
        ),
        (
            json!({"leaderElection": {"leaderElect": true, "retryPeriod": "-2s"}}),
            "leaderElection.retryPeriod: Invalid value: \"-2s\": must be greater than zero",
        ),
        (json!({"profiles": [{}, {"schedulerName": "b"}]}), "profiles[0].schedulerName: Required value"),
        (
            json!({"profiles": [{"schedulerName": "b"}, {"schedulerName": "b"}]}),
            "profiles[1].schedulerName: Duplicate value: \"profiles[0].schedulerName\"",
        ),
        (
            plugins(json!({"score": {"enabled": [{"name": "Nice"}]}})),
            "initializing profiles: creating profile for scheduler name default-scheduler: ScorePlugin \"Nice\" does not exist",
        ),
        (
            plugins(json!({"multiPoint": {"enabled": [{"name": "Nice"}]}})),
            "initializing profiles: creating profile for scheduler name default-scheduler: plugin \"Nice\" does not exist",
        ),
        (
            plugins(json!({"bind": {"enabled": [{"name": "NodePorts"}]}})),
            "initializing profiles: creating profile for scheduler name default-scheduler: plugin \"NodePorts\" does not extend BindPlugin plugin",
        ),
        (
            plugins(json!({"filter": {"enabled": [{"name": "EBSLimits"}]}})),
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"kubescheduler.config.k8s.io/v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
        ),
        (
            args("InterPodAffinity", json!({"hardPodAffinityWeight": 101})),
            "profiles[0].pluginConfig[0].args.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]",
        ),
        (
            args("InterPodAffinity", json!({"weight": 1})),
            "strict decoding error: decoding args for plugin \"InterPodAffinity\": strict decoding error: unknown field \"weight\"",
        ),
        (
            args("InterPodAffinity", json!({"kind": "NodeAffinityArgs"})),
            "decoding args for plugin \"InterPodAffinity\": args for plugin InterPodAffinity were not of type InterPodAffinityArgs.kubescheduler.config.k8s.io, got NodeAffinityArgs.kubescheduler.config.k8s.io/v1",
        ),
        (
            args("DefaultPreemption", json!({"minCandidateNodesPercentage": -1})),
            "profiles[0].pluginConfig[0].args.minCandidateNodesPercentage: Invalid value: -1: not in valid range [0, 100]",
        ),
        (
            fit(json!({"type": "Best"})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.type: Unsupported value: \"Best\": supported values: \"LeastAllocated\", \"MostAllocated\", \"RequestedToCapacityRatio\"",
        ),
        (
            fit(json!({"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 101}]})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]",
        ),
        (
            fit(json!({"type": "RequestedToCapacityRatio"})),
            "profiles[0].pluginConfig[0].args.scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio",
        ),
        (
            spread(json!({"maxSkew": 0, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"})),
            "profiles[0].pluginConfig[0].args.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        ),
        (
            spread(json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "Never"})),
            "profiles[0].pluginConfig[0].args.defaultConstraints[0].whenUnsatisfiable: Unsupported value: \"Never\": supported values: \"DoNotSchedule\", \"ScheduleAnyway\"",
        ),
        (
            added(json!({"key": "k", "operator": "Like"})),
            "profiles[0].pluginConfig[0].args.addedAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms[0].matchExpressions[0].operator: Unsupported value: \"Like\": supported values: \"In\", \"NotIn\", \"Exists\", \"DoesNotExist\", \"Gt\", \"Lt\"",
        ),
        (
            args("VolumeBinding", json!({"bindTimeoutSeconds": -1})),
            "profiles[0].pluginConfig[0].args.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value",
        ),
        (
            json!({"extenders": [{"prioritizeVerb": "p"}]}),
            "extenders[0].weight: Invalid value: 0: must have a positive weight applied to it",
        ),
        (
            json!({"extenders": [{"bindVerb": "b"}, {"bindVerb": "b"}]}),
            "extenders: Invalid value: \"found 2 extenders implementing bind\": only one extender can implement bind",
        ),
        (
            json!({"extenders": [{"managedResources": [{"name": "cpu"}]}]}),
            "extenders[0].managedResources[0].name: Invalid value: \"cpu\": is an invalid extended resource name",
        ),
        (
            json!({"parallelism": 0, "podInitialBackoffSeconds": 11}),
            "[parallelism: Invalid value: 0: should be an integer value greater than zero, podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds]",
        ),
    ];
    for (more, expected) in table {
        assert_eq!(read(more.clone()).unwrap_err(), expected, "{more}");
    }
    let other = Configuration::of(&json!({"kind": "Pod", "apiVersion": "v1"})).unwrap_err().to_string();
    assert!(other.starts_with("no kind \"Pod\" is registered for version \"v1\""), "{other}");
}
