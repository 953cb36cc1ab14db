//! Golden values: pods, and what the kernel is told of them.
#![expect(clippy::unwrap_used, reason = "tests")]

use super::class::Sum;
use super::name::{Driver, of_pod};
use super::reserved::{Enforced, Owner};
use super::*;
use crate::qos::{class, oom_score_adj};
use serde_json::{Value, json};

const GI: i64 = 1 << 30;
const MI: i64 = 1 << 20;

fn v1() -> Machine {
    Machine { period: Some(PERIOD), memory: 8 * GI, ..Machine::default() }
}

fn v2() -> Machine {
    Machine { version: Version::V2, allocatable: 7 * GI, ..v1() }
}

fn spec(value: Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn files(values: &Values) -> Vec<(&str, &str)> {
    values.unified.iter().map(|(file, value)| (file.as_str(), value.as_str())).collect()
}

fn resources(requests: [&str; 2], limits: [&str; 2]) -> Value {
    let list = |values: [&str; 2]| {
        let pairs = ["cpu", "memory"].into_iter().zip(values).filter(|(_, value)| !value.is_empty());
        pairs.map(|(name, value)| (name.to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()
    };
    json!({"requests": list(requests), "limits": list(limits)})
}

#[test]
fn golden_values_of_one_container_pods() {
    let cases = [
        // requests, limits, class, shares, quota, memory, oom score on a machine of 8 Gi
        (["", ""], ["", ""], "BestEffort", 2, None, None, 1000),
        (["100m", "128Mi"], ["", ""], "Burstable", 102, None, None, 985),
        (["100m", "128Mi"], ["200m", "256Mi"], "Burstable", 102, Some(20_000), Some(GI / 4), 985),
        (["", ""], ["1", "1Gi"], "Guaranteed", 1024, Some(100_000), Some(GI), -997),
        (["500m", "1Gi"], ["500m", "1Gi"], "Guaranteed", 512, Some(50_000), Some(GI), -997),
        (["500m", "1Gi"], ["0.5", "1024Mi"], "Guaranteed", 512, Some(50_000), Some(GI), -997),
        (["", "8Gi"], ["", ""], "Burstable", 2, None, None, 2),
        (["1m", ""], ["", ""], "Burstable", 2, None, None, 999),
        (["", "1Gi"], ["5m", ""], "Burstable", 5, Some(1000), None, 875),
        (["", ""], ["", "64Mi"], "Burstable", 2, None, Some(64 << 20), 1000 - 1),
        (["300", ""], ["", ""], "Burstable", 262_144, None, None, 999),
    ];
    for (requests, limits, qos, shares, quota, memory, oom) in cases {
        let spec = spec(json!({"containers": [{"name": "c", "resources": resources(requests, limits)}]}));
        let case = format!("{requests:?} {limits:?}");
        assert_eq!(class(&spec).as_str(), qos, "{case}");
        let values = container(&spec, &spec.containers[0], &v1());
        assert_eq!((values.shares, values.quota, values.memory), (Some(shares), quota, memory), "{case}");
        assert_eq!(oom_score_adj(&spec, &spec.containers[0], 8 * GI), oom, "{case}");
        let values = pod(&spec, &Machine { pids: Some(100), ..v1() });
        assert_eq!((values.shares, values.quota, values.memory), (Some(shares), quota, memory), "{case}");
    }
}

#[test]
fn pods_take_the_largest_moment_and_are_limited_only_when_all_are() {
    let spec: PodSpec = serde_json::from_value(json!({
        "overhead": {"cpu": "10m"},
        "initContainers": [
            {"name": "a", "resources": resources(["2", "1Mi"], ["2", "1Mi"])},
            {"name": "side", "restartPolicy": "Always", "resources": resources(["300m", "1Mi"], ["1", "1Mi"])},
            {"name": "b", "resources": resources(["1900m", "1Mi"], ["2", "1Mi"])},
        ],
        "containers": [
            {"name": "c", "resources": resources(["500m", "1Mi"], ["500m", ""])},
            {"name": "d", "resources": resources(["500m", "1Mi"], ["500m", "1Mi"])},
        ],
    }))
    .unwrap();
    let values = pod(&spec, &v1());
    assert_eq!(values.shares, Some(2210 * 1024 / 1000));
    assert_eq!(values.quota, Some(301_000));
    assert_eq!(values.memory, None);
    assert_eq!(of_pod(&spec, "u"), ["burstable", "podu"]);
    assert_eq!(sum(&[&spec, &spec]).levels(&v1()).burstable.shares, Some(4420 * 1024 / 1000));
}

#[test]
fn pod_level_resources_and_huge_pages() {
    let spec: PodSpec = serde_json::from_value(json!({
        "resources": resources(["1", "1Gi"], ["1", "1Gi"]),
        "containers": [{"name": "c", "resources": {"limits": {"hugepages-2Mi": "4Mi"}}}],
    }))
    .unwrap();
    assert_eq!(class(&spec), Class::Guaranteed);
    let values = pod(&spec, &v1());
    assert_eq!((values.shares, values.quota, values.memory), (Some(1024), Some(100_000), Some(GI)));
    let values = container(&spec, &spec.containers[0], &v1());
    assert_eq!(values.memory, Some(GI));
    assert_eq!(values.huge_pages, BTreeMap::from([("2MB".to_owned(), 4 << 20)]));
}

#[test]
fn huge_pages_of_sizes_that_nothing_asks_for_are_closed() {
    let machine = Machine { page_sizes: vec!["2MB".into(), "1GB".into()], ..v1() };
    let spec = spec(json!({"containers": [
        {"name": "c", "resources": {"requests": {"hugepages-2Mi": "4Mi"}, "limits": {"hugepages-2Mi": "4Mi"}}},
        {"name": "d", "resources": {"limits": {"hugepages-2Mi": "6Mi", "cpu": "1"}}},
    ]}));
    let pages = |values: Values| values.huge_pages.into_iter().collect::<Vec<_>>();
    assert_eq!(pages(pod(&spec, &machine)), [("1GB".to_owned(), 0), ("2MB".to_owned(), 10 * MI)]);
    let first = container(&spec, &spec.containers[0], &machine);
    assert_eq!(pages(first), [("1GB".to_owned(), 0), ("2MB".to_owned(), 4 * MI)]);
    assert_eq!(pages(class::made(&machine)), [("1GB".to_owned(), 1 << 62), ("2MB".to_owned(), 1 << 62)]);
}

#[test]
fn limits_of_processors_can_be_switched_off_and_have_another_period() {
    let spec = spec(json!({"containers": [{"name": "c", "resources": resources(["", ""], ["2", "1Gi"])}]}));
    let of = |period| {
        let values = container(&spec, &spec.containers[0], &Machine { period, ..v1() });
        (values.quota, values.period)
    };
    assert_eq!(of(Some(PERIOD)), (Some(200_000), Some(100_000)));
    assert_eq!(of(Some(10_000)), (Some(20_000), Some(10_000)));
    assert_eq!(of(None), (None, None));
}

#[test]
fn memory_of_version_2_is_protected_by_class_and_slowed_down_before_the_limit() {
    let tiered = Machine { reservation: Reservation::Tiered, throttling: Some(0.9), ..v2() };
    for (requests, limits, at_pod, at_container) in [
        (["1", "1Gi"], ["1", "1Gi"], vec![("memory.min", "1073741824")], vec![("memory.min", "1073741824")]),
        (
            ["", "128Mi"],
            ["", "256Mi"],
            vec![("memory.low", "134217728")],
            vec![("memory.high", "255012864"), ("memory.low", "134217728")],
        ),
        // Without a limit the way leads to what the node has: 1Gi + 0.9 * 6Gi.
        (
            ["", "1Gi"],
            ["", ""],
            vec![("memory.low", "1073741824")],
            vec![("memory.high", "6871945216"), ("memory.low", "1073741824")],
        ),
        (["", ""], ["", ""], vec![], vec![("memory.high", "6764572672")]),
    ] {
        let spec = spec(json!({"containers": [{"name": "c", "resources": resources(requests, limits)}]}));
        assert_eq!(files(&pod(&spec, &tiered)), at_pod, "{requests:?} {limits:?}");
        let values = container(&spec, &spec.containers[0], &tiered);
        assert_eq!(files(&values), at_container, "{requests:?} {limits:?}");
        for machine in [v2(), Machine { version: Version::V1, ..tiered.clone() }] {
            assert_eq!(files(&container(&spec, &spec.containers[0], &machine)), []);
        }
    }
}

#[test]
fn containers_of_version_2_die_as_a_whole_unless_told_otherwise() {
    let spec = spec(json!({"containers": [{"name": "c"}]}));
    let group = vec![("memory.oom.group", "1")];
    for (machine, single, expected) in [
        (v2(), None, group.clone()),
        (v2(), Some(false), group),
        (v2(), Some(true), vec![]),
        (v1(), None, vec![]),
        (v1(), Some(true), vec![]),
    ] {
        let machine = Machine { victims: Victims::of(single, machine.version), ..machine };
        let values = container(&spec, &spec.containers[0], &machine);
        assert_eq!(files(&values), expected, "{:?} {single:?}", machine.version);
        assert_eq!(files(&pod(&spec, &machine)), [], "{:?} {single:?}", machine.version);
    }
}

#[test]
fn levels_protect_what_the_pods_below_them_ask_for() {
    let firm =
        spec(json!({"containers": [{"name": "c", "resources": resources(["1", "128Mi"], ["1", "128Mi"])}]}));
    let elastic =
        spec(json!({"containers": [{"name": "c", "resources": resources(["1", "128Mi"], ["2", ""])}]}));
    let idle = spec(json!({"containers": [{"name": "c"}]}));
    let tiered = Machine { reservation: Reservation::Tiered, ..v2() };
    let mut sum = sum(&[&firm, &elastic, &idle]);
    let of = |machine: &Machine| sum.levels(machine);
    let found = of(&tiered);
    assert_eq!(files(&found.pods), [("memory.min", "268435456")]);
    assert_eq!(
        (files(&found.burstable), found.burstable.shares),
        (vec![("memory.low", "134217728")], Some(1024))
    );
    // What another agent left is taken back.
    assert_eq!(
        (files(&of(&v2()).pods), files(&of(&v2()).burstable)),
        (vec![("memory.min", "0")], vec![("memory.low", "0")])
    );
    assert_eq!(files(&of(&v1()).pods), []);
    // Pods change, and end.
    sum.set("1", Some(&idle));
    assert_eq!(files(&sum.levels(&tiered).pods), [("memory.min", "134217728")]);
    ["0", "1", "2", "2"].into_iter().for_each(|uid| sum.set(uid, None));
    assert_eq!(sum.levels(&v1()).burstable.shares, Some(2));
    assert_eq!(files(&sum.levels(&tiered).pods), [("memory.min", "0")]);
}

fn sum(pods: &[&PodSpec]) -> Sum {
    let mut sum = Sum::default();
    pods.iter().enumerate().for_each(|(uid, spec)| sum.set(&uid.to_string(), Some(spec)));
    sum
}

#[test]
fn burstable_pods_may_swap_in_proportion_to_their_request() {
    let limited = Machine { swap: 4 * GI, swapping: Swap::Limited, ..v2() };
    let of = |requests, limits, machine: &Machine| {
        let spec = spec(json!({"containers": [{"name": "c", "resources": resources(requests, limits)}]}));
        container(&spec, &spec.containers[0], machine).unified.get("memory.swap.max").cloned()
    };
    let none = ["", ""];
    assert_eq!(of(["", "2Gi"], none, &limited).as_deref(), Some("1073741824"));
    assert_eq!(of(["", "1Gi"], ["", "2Gi"], &limited).as_deref(), Some("536870912"));
    for (requests, limits) in
        [(none, none), (["1", "1Gi"], ["1", "1Gi"]), (["1", "1Gi"], ["", "1Gi"]), (["1", ""], none)]
    {
        assert_eq!(of(requests, limits, &limited).as_deref(), Some("0"), "{requests:?} {limits:?}");
    }
    assert_eq!(
        of(["", "2Gi"], none, &Machine { swapping: Swap::No, ..limited.clone() }).as_deref(),
        Some("0")
    );
    assert_eq!(of(["", "2Gi"], none, &Machine { version: Version::V1, ..limited }), None);
}

#[test]
fn a_machine_with_swap_is_refused() {
    let head = "Filename\tType\tSize\tUsed\tPriority\n";
    assert_eq!(swap::refusal(head), None);
    assert_eq!(swap::refusal(""), None);
    let told = swap::refusal(&format!("{head}/dev/dm-1 partition 16760828 0 -2\n")).unwrap();
    assert!(told.starts_with("running with swap on is not supported, please disable swap or set"), "{told}");
    assert!(told.ends_with("Priority /dev/dm-1 partition 16760828 0 -2]"), "{told}");
}

#[test]
fn both_drivers_name_the_same_tree() {
    let burstable = spec(json!({"containers": [{"name": "c", "resources": resources(["1", ""], ["", ""])}]}));
    let (idle, firm) = (
        spec(json!({"containers": [{"name": "c"}]})),
        spec(json!({"containers": [{"name": "c", "resources": resources(["", ""], ["1", "1Gi"])}]})),
    );
    for (spec, plain, unit) in [
        (
            &burstable,
            "/kubepods/burstable/pod1-2",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1_2.slice",
        ),
        (
            &idle,
            "/kubepods/besteffort/pod1-2",
            "/kubepods.slice/kubepods-besteffort.slice/kubepods-besteffort-pod1_2.slice",
        ),
        (&firm, "/kubepods/pod1-2", "/kubepods.slice/kubepods-pod1_2.slice"),
    ] {
        let names = of_pod(spec, "1-2");
        let names: Vec<&str> = ["kubepods"].into_iter().chain(names.iter().map(String::as_str)).collect();
        assert_eq!(Driver::Cgroupfs.path(&names), plain);
        assert_eq!(Driver::Systemd.path(&names), unit);
    }
    assert_eq!(Driver::Systemd.path(&[]), "/");
    for (driver, written, names) in [
        (Driver::Cgroupfs, "/", vec![]),
        (Driver::Cgroupfs, "/a/b-c", vec!["a", "b-c"]),
        (Driver::Systemd, "/a/b", vec!["a", "b"]),
        (Driver::Systemd, "system.slice", vec!["system"]),
        (Driver::Systemd, "/a.slice/a-b_c.slice", vec!["a", "b-c"]),
    ] {
        assert_eq!(driver.parse(written), names, "{written}");
    }
}

#[test]
fn what_is_reserved_is_enforced_on_its_own_groups() {
    let list = |pairs: &[(&str, &str)]| -> reserved::List {
        pairs.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect()
    };
    let capacity =
        list(&[("cpu", "4"), ("memory", "8Gi"), ("pid", "1000"), ("pods", "110"), ("hugepages-2Mi", "8Mi")]);
    let machine = Machine { page_sizes: vec!["2MB".into()], ..v1() };
    let mut settings = reserved::Settings {
        kube: list(&[("cpu", "200m"), ("memory", "500Mi"), ("pid", "100")]),
        system: list(&[("cpu", "300m"), ("memory", "1Gi")]),
        cpus: None,
        enforced: Enforced::ALL.iter().map(|(enforced, _)| *enforced).collect(),
    };
    let pods = settings.pods(&capacity, &machine);
    assert_eq!((pods.shares, pods.memory, pods.pids), (Some(3584), Some(8 * GI - GI - 500 * MI), Some(900)));
    assert_eq!(pods.huge_pages["2MB"], 8 * MI);
    let found = settings.groups(&machine);
    let shown: Vec<_> = found.iter().map(|(owner, it)| (*owner, it.shares, it.memory, it.pids)).collect();
    assert_eq!(
        shown,
        [
            (Owner::System, Some(307), Some(GI), None),
            (Owner::Kube, Some(204), Some(500 * MI), Some(100)),
            (Owner::System, Some(307), None, None),
            (Owner::Kube, Some(204), None, None),
        ]
    );
    // Processors that are named count instead of those of the lists.
    settings.cpus = Some(2);
    assert_eq!(settings.pods(&capacity, &machine).shares, Some(2048));
    assert_eq!(settings.groups(&machine)[1].1.shares, None);
    settings.enforced.clear();
    assert_eq!(settings.pods(&capacity, &machine).shares, Some(4096));
    assert!(settings.groups(&machine).is_empty());
}

#[test]
fn sidecars_go_after_those_they_serve_and_pods_share_what_they_ask_for_as_a_whole() {
    let pod = spec(json!({
        "initContainers": [
            {"name": "once", "resources": {"requests": {"memory": "1Gi"}}},
            {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"memory": "1Gi"}}},
        ],
        "containers": [
            {"name": "c", "resources": {"requests": {"memory": "2Gi"}}},
            {"name": "d", "resources": {"requests": {"memory": "4Gi"}}},
        ],
    }));
    let init = pod.init_containers.as_ref().unwrap();
    let score = |container: &Container| oom_score_adj(&pod, container, 8 * GI);
    assert_eq!([score(&init[0]), score(&init[1])], [875, 750]);
    assert_eq!([score(&pod.containers[0]), score(&pod.containers[1])], [750, 500]);
    let whole = spec(json!({
        "resources": {"requests": {"memory": "4Gi"}},
        "containers": [{"name": "c", "resources": {"requests": {"memory": "2Gi"}}}, {"name": "d"}],
    }));
    let score = |container: &Container| oom_score_adj(&whole, container, 8 * GI);
    assert_eq!([score(&whole.containers[0]), score(&whole.containers[1])], [625, 875]);
    let critical = spec(json!({"priorityClassName": "system-node-critical", "containers": [{"name": "c"}]}));
    assert_eq!(oom_score_adj(&critical, &critical.containers[0], 8 * GI), -997);
}
