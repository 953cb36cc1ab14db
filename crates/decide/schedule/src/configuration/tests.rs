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
            "profiles[0].plugins.filter.enabled[0]: Invalid value: \"EBSLimits\": was invalid in version \"v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
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

/// Fields that the table before does not have.
#[test]
fn each_field_is_checked() {
    let config = |path: &str, name: &str, args: Value, expected: &str| {
        let document = json!({"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]});
        (document, format!("profiles[0].pluginConfig[0].args.{path}: {expected}"))
    };
    let fit = |path: &str, args: Value, expected: &str| config(path, "NodeResourcesFit", args, expected);
    let shape = |path: &str, points: Value, expected: &str| {
        let strategy =
            json!({"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": points}});
        let path = format!("scoringStrategy.requestedToCapacityRatio.{path}");
        fit(&path, json!({"scoringStrategy": strategy}), expected)
    };
    let spread = |path: &str, constraint: Value, expected: &str| {
        let mut one = json!({"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway"});
        one.as_object_mut().unwrap().extend(constraint.as_object().unwrap().clone());
        let args = json!({"defaultingType": "List", "defaultConstraints": [one]});
        config(&format!("defaultConstraints[0].{path}"), "PodTopologySpread", args, expected)
    };
    let added = |path: &str, affinity: Value, expected: &str| {
        config(&format!("addedAffinity.{path}"), "NodeAffinity", json!({"addedAffinity": affinity}), expected)
    };
    let preferred = |path: &str, term: Value, expected: &str| {
        let list = "preferredDuringSchedulingIgnoredDuringExecution";
        let affinity = json!({list: [{"weight": 1, "preference": term}]});
        added(&format!("{list}[0].{path}"), affinity, expected)
    };
    let label = |operator: &str, values: Value, expected: &str| {
        let term = json!({"matchExpressions": [{"key": "k", "operator": operator, "values": values}]});
        preferred("matchExpressions[0].values", term, expected)
    };
    let plain = |document: Value, expected: &str| (document, expected.to_owned());
    let plugins = |plugins: Value, expected: &str| {
        let start = "initializing profiles: creating profile for scheduler name default-scheduler: ";
        (json!({"profiles": [{"plugins": plugins}]}), format!("{start}{expected}"))
    };
    const NAME: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
        alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
        '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";
    let table = [
        plain(
            json!({"leaderElection": {"leaseDuration": "-1s", "renewDeadline": "-2s"}}),
            "[leaderElection.leaseDuration: Invalid value: \"-1s\": must be greater than zero, leaderElection.renewDeadline: Invalid value: \"-2s\": must be greater than zero, leaderElection.leaseDuration: Invalid value: \"-2s\": LeaseDuration must be greater than RenewDeadline]",
        ),
        plain(
            json!({"profiles": [{"percentageOfNodesToScore": -1}]}),
            "profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]",
        ),
        plain(
            json!({"profiles": [{"pluginConfig": [{"name": "NodePorts"}, {"name": "NodePorts"}]}]}),
            "profiles[0].pluginConfig[1]: Duplicate value: \"NodePorts\"",
        ),
        plain(
            json!({"profiles": [{"pluginConfig": [{"name": "CinderLimits"}]}]}),
            "profiles[0].pluginConfig[0]: Invalid value: \"CinderLimits\": was invalid in version \"v1\" (KubeSchedulerConfiguration is version \"kubescheduler.config.k8s.io/v1\")",
        ),
        plain(
            json!({"profiles": [{"plugins": {"queueSort": {"enabled": [{"name": "PrioritySort"}, {"name": "Other"}]}}}]}),
            "profiles[0].plugins.queueSort.Enabled: Invalid value: 2: only one queue sort plugin can be enabled",
        ),
        plugins(
            json!({"multiPoint": {"enabled": [{"name": "EBSLimits"}]}}),
            "plugin \"EBSLimits\" does not exist",
        ),
        plugins(
            json!({"queueSort": {"disabled": [{"name": "*"}]}}),
            "only one queue sort plugin required for profile with scheduler name \"default-scheduler\", but got 0",
        ),
        plugins(
            json!({"bind": {"disabled": [{"name": "*"}]}}),
            "at least one bind plugin is needed for profile with scheduler name \"default-scheduler\"",
        ),
        plugins(
            json!({"score": {"enabled": [{"name": "NodeAffinity"}, {"name": "NodeAffinity"}]}}),
            "plugin \"NodeAffinity\" already registered as \"ScorePlugin\"",
        ),
        config(
            "minCandidateNodesAbsolute",
            "DefaultPreemption",
            json!({"minCandidateNodesAbsolute": -1}),
            "Invalid value: -1: not in valid range [0, inf)",
        ),
        config(
            "bindTimeoutSeconds",
            "VolumeBinding",
            json!({"bindTimeoutSeconds": -5}),
            "Invalid value: -5: invalid BindTimeoutSeconds, should not be a negative value",
        ),
        config(
            "filterTimeout",
            "DynamicResources",
            json!({"filterTimeout": "-1s"}),
            "Invalid value: \"-1s\": must be zero or positive",
        ),
        config(
            "bindingTimeout",
            "DynamicResources",
            json!({"bindingTimeout": "900ms"}),
            "Invalid value: \"900ms\": must be at least 1 second",
        ),
        config(
            "resources[1].name",
            "NodeResourcesBalancedAllocation",
            json!({"resources": [{"name": "cpu"}, {"name": "cpu"}]}),
            "Duplicate value: \"cpu\"",
        ),
        config(
            "resources[0].weight",
            "NodeResourcesBalancedAllocation",
            json!({"resources": [{"name": "cpu", "weight": 2}]}),
            "Invalid value: 2: must be 1",
        ),
        fit(
            "ignoredResources[0]",
            json!({"ignoredResources": ["a b"]}),
            &format!("Invalid value: \"a b\": {NAME}"),
        ),
        fit(
            "ignoredResourceGroups[0]",
            json!({"ignoredResourceGroups": ["x.io/y"]}),
            "Invalid value: \"x.io/y\": resource group name can't contain '/'",
        ),
        fit(
            "scoringStrategy.requestedToCapacityRatio",
            json!({"scoringStrategy": {"type": "LeastAllocated", "requestedToCapacityRatio": {}}}),
            "Forbidden: must be nil when type is not RequestedToCapacityRatio",
        ),
        shape("shape", json!([]), "Required value: at least one point must be specified"),
        shape(
            "shape[1].utilization",
            json!([{"utilization": 5}, {"utilization": 5}]),
            "Invalid value: 5: values must be sorted in increasing order",
        ),
        shape(
            "shape[0].utilization",
            json!([{"utilization": 101}]),
            "Invalid value: 101: not in valid range [0, 100]",
        ),
        shape("shape[0].score", json!([{"score": 11}]), "Invalid value: 11: not in valid range [0, 10]"),
        config(
            "defaultingType",
            "PodTopologySpread",
            json!({"defaultingType": "Mine"}),
            "Unsupported value: \"Mine\": supported values: \"System\", \"List\"",
        ),
        config(
            "defaultingType",
            "PodTopologySpread",
            json!({"defaultConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}]}),
            "Invalid value: \"System\": when .defaultConstraints are not empty",
        ),
        spread("topologyKey", json!({"topologyKey": ""}), "Required value: can not be empty"),
        spread("topologyKey", json!({"topologyKey": "a b"}), &format!("Invalid value: \"a b\": {NAME}")),
        spread("whenUnsatisfiable", json!({"whenUnsatisfiable": ""}), "Required value: can not be empty"),
        spread(
            "labelSelector",
            json!({"labelSelector": {}}),
            "Forbidden: constraint must not define a selector, as they deduced for each pod",
        ),
        label("In", json!([]), "Invalid value: []: for 'in', 'notin' operators, values set can't be empty"),
        label(
            "Exists",
            json!(["a"]),
            "Invalid value: [\"a\"]: values set must be empty for exists and does not exist",
        ),
        preferred(
            "matchExpressions[0].values[0]",
            json!({"matchExpressions": [{"key": "k", "operator": "Gt", "values": ["four"]}]}),
            "Invalid value: \"four\": for 'Gt', 'Lt' operators, the value must be an integer",
        ),
        preferred(
            "matchFields[0].operator",
            json!({"matchFields": [{"key": "metadata.name", "operator": "Exists"}]}),
            "Unsupported value: \"Exists\": supported values: \"In\", \"NotIn\"",
        ),
        preferred(
            "matchFields[0].values",
            json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["a", "b"]}]}),
            "Required value: must have one element",
        ),
        plain(
            json!({"extenders": [{"managedResources": [{"name": "x.io/a b"}]}]}),
            &format!("extenders[0].managedResources[0].name: Invalid value: \"x.io/a b\": {NAME}"),
        ),
        plain(
            json!({"extenders": [{"managedResources": [{"name": "x.io/a"}]}, {"managedResources": [{"name": "x.io/a"}]}]}),
            "extenders[1].managedResources[0].name: Invalid value: \"x.io/a\": duplicate extender managed resource name",
        ),
        plain(
            json!({"extenders": [{"tlsConfig": {"caData": "", "color": "red"}}]}),
            "strict decoding error: unknown field \"extenders[0].tlsConfig.color\"",
        ),
    ];
    for (more, expected) in table {
        assert_eq!(read(more.clone()).unwrap_err(), expected, "{more}");
    }
    // What cannot be read is told with its path, too.
    for (more, path) in [
        (json!({"extenders": [{"httpTimeout": "soon"}]}), "extenders[0].httpTimeout: "),
        (json!({"leaderElection": {"leaderElect": "yes"}}), "leaderElection.leaderElect: "),
        (
            json!({"profiles": [{"plugins": {"score": {"enabled": [{"name": 7}]}}}]}),
            "profiles[0].plugins.score.enabled[0].name: ",
        ),
    ] {
        let told = read(more).unwrap_err();
        assert!(told.starts_with(path), "{told}");
    }
}
