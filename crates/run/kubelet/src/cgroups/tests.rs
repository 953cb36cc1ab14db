//! Golden files: pods, and every file that the agent writes for them, of both versions and drivers.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use plimsoll_podlife::cgroup::reserved::Enforced;
use plimsoll_podlife::cgroup::{PERIOD, Reservation};
use serde_json::{Value, json};

use super::*;

const MI: i64 = 1 << 20;

/// Every file below `folder`.
fn files(folder: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    collect(folder, folder, &mut found);
    found
}

fn collect(base: &Path, dir: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()) {
        if entry.is_dir() {
            collect(base, &entry, found);
        } else {
            let name = entry.strip_prefix(base).unwrap().display().to_string();
            found.insert(name, fs::read_to_string(&entry).unwrap());
        }
    }
}

fn amounts(pairs: &[(&str, &str)]) -> List {
    pairs.iter().map(|(name, amount)| ((*name).to_owned(), amount.parse().unwrap())).collect()
}

fn plan(driver: Driver) -> Plan {
    let reserved = Settings {
        system: amounts(&[("cpu", "500m"), ("memory", "512Mi")]),
        enforced: [Enforced::Pods, Enforced::SystemReserved].into(),
        ..Settings::default()
    };
    Plan { driver, root: "/".into(), reserved, kube_group: String::new(), system_group: "/system".into() }
}

fn machine(version: Version) -> Machine {
    Machine {
        version,
        memory: 4096 * MI,
        allocatable: 3584 * MI,
        period: Some(PERIOD),
        pids: Some(100),
        reservation: Reservation::Tiered,
        ..Machine::default()
    }
}

fn spec(value: Value) -> PodSpec {
    serde_json::from_value(value).unwrap()
}

fn pods() -> [(&'static str, PodSpec); 4] {
    let container = |requests: Value, limits: Value| json!({"name": "c", "resources": {"requests": requests, "limits": limits}});
    let firm = json!({"cpu": "1", "memory": "64Mi"});
    [
        ("a-1", spec(json!({"containers": [container(firm.clone(), firm)]}))),
        (
            "b-1",
            spec(json!({
                "initContainers": [
                    {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "100m", "memory": "16Mi"}}},
                    container(json!({"cpu": "2"}), json!({})),
                ],
                "containers": [container(json!({"cpu": "250m", "memory": "32Mi"}), json!({"memory": "128Mi"}))],
            })),
        ),
        ("c-1", spec(json!({"containers": [{"name": "c"}]}))),
        (
            "d-1",
            spec(json!({
                "resources": {"requests": {"cpu": "1", "memory": "64Mi"}, "limits": {"cpu": "2", "memory": "256Mi"}},
                "containers": [{"name": "c"}],
            })),
        ),
    ]
}

/// Makes the groups of the four pods in a folder that stands for the kernel's.
fn written(root: &Path, version: Version, driver: Driver) -> Cgroups {
    let hierarchy = match version {
        Version::V1 => {
            for controller in ["cpu", "memory", "pids"] {
                fs::create_dir_all(root.join(controller)).unwrap();
            }
            Hierarchy::v1(root)
        }
        Version::V2 => Hierarchy::v2(root),
    };
    let plan = plan(driver);
    let capacity = amounts(&[("cpu", "2"), ("memory", "4Gi")]);
    let system = driver.path(&["system"]);
    assert!(matches!(
        Cgroups::new(hierarchy.clone(), &plan, &capacity, machine(version)),
        Err(Error::Missing { owner: "System", .. })
    ));
    hierarchy.group(&system).create().unwrap();
    let cgroups = Cgroups::new(hierarchy, &plan, &capacity, machine(version)).unwrap();
    let pods = pods();
    for (uid, spec) in &pods {
        cgroups.make(spec, uid, cgroups.rules()).unwrap();
    }
    let mut sum = Sum::default();
    pods.iter().for_each(|(uid, spec)| sum.set(uid, Some(spec)));
    cgroups.weigh(&sum, &mut None).unwrap();
    cgroups
}

fn golden(rows: &[(&str, &[(&str, &str)])]) -> BTreeMap<String, String> {
    let file = |dir: &str, (name, value): &(&str, &str)| (format!("{dir}/{name}"), (*value).to_owned());
    rows.iter().flat_map(|(dir, files)| files.iter().map(move |it| file(dir, it))).collect()
}

/// What version 1 has, by the folders of pods' parents.
fn golden_v1(
    all: &str,
    burstable: &str,
    idle: &str,
    system: &str,
    pod: fn(&str, &str) -> String,
) -> BTreeMap<String, String> {
    let cpu = |dir: &str| format!("cpu/{dir}");
    let memory = |dir: &str| format!("memory/{dir}");
    let (a, b, c, d) = (pod(all, "a-1"), pod(burstable, "b-1"), pod(idle, "c-1"), pod(burstable, "d-1"));
    let mut rows: BTreeMap<String, String> = golden(&[
        // 1500m are left of 2 processors, 3584Mi of 4Gi.
        (&cpu(all), &[("cpu.shares", "1536")]),
        (&memory(all), &[("memory.limit_in_bytes", "3758096384")]),
        (&cpu(system), &[("cpu.shares", "512")]),
        (&memory(system), &[("memory.limit_in_bytes", "536870912")]),
        // 2100m of the second pod's largest moment, 1000m of the fourth.
        (&cpu(burstable), &[("cpu.shares", "3174")]),
        (&cpu(idle), &[("cpu.shares", "2")]),
        (
            &cpu(&a),
            &[("cpu.shares", "1024"), ("cpu.cfs_quota_us", "100000"), ("cpu.cfs_period_us", "100000")],
        ),
        (&memory(&a), &[("memory.limit_in_bytes", "67108864")]),
        (&cpu(&b), &[("cpu.shares", "2150")]),
        (&cpu(&c), &[("cpu.shares", "2")]),
        (
            &cpu(&d),
            &[("cpu.shares", "1024"), ("cpu.cfs_quota_us", "200000"), ("cpu.cfs_period_us", "100000")],
        ),
        (&memory(&d), &[("memory.limit_in_bytes", "268435456")]),
    ]);
    rows.extend([a, b, c, d].map(|dir| (format!("pids/{dir}/pids.max"), "100".to_owned())));
    rows
}

#[test]
fn files_of_version_1() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), Version::V1, Driver::Cgroupfs);
    let pod = |parent: &str, uid: &str| format!("{parent}/pod{uid}");
    let expected = golden_v1("kubepods", "kubepods/burstable", "kubepods/besteffort", "system", pod);
    assert_eq!(files(temp.path()), expected);
}

#[test]
fn files_of_version_1_under_names_of_systemd() {
    let temp = tempfile::tempdir().unwrap();
    let cgroups = written(temp.path(), Version::V1, Driver::Systemd);
    let pod = |parent: &str, uid: &str| {
        let unit = parent.rsplit('/').next().unwrap().trim_end_matches(".slice");
        format!("{parent}/{unit}-pod{}.slice", uid.replace('-', "_"))
    };
    let (burstable, idle) =
        ("kubepods.slice/kubepods-burstable.slice", "kubepods.slice/kubepods-besteffort.slice");
    assert_eq!(files(temp.path()), golden_v1("kubepods.slice", burstable, idle, "system.slice", pod));
    // Groups of pods that are gone are found by their units.
    let strangers = cgroups.strangers(|uid| uid != "d-1");
    let found: Vec<_> = strangers.iter().map(Cgroup::path).collect();
    assert_eq!(found, [format!("/{burstable}/kubepods-burstable-podd_1.slice")]);
}

#[test]
fn files_of_version_2() {
    let temp = tempfile::tempdir().unwrap();
    written(temp.path(), Version::V2, Driver::Cgroupfs);
    assert_eq!(
        files(temp.path()),
        golden(&[
            ("kubepods", &[("cpu.weight", "138"), ("memory.max", "3758096384"), ("memory.min", "184549376")]),
            ("system", &[("cpu.weight", "59"), ("memory.max", "536870912")]),
            ("kubepods/burstable", &[("cpu.weight", "247"), ("memory.low", "117440512")]),
            ("kubepods/besteffort", &[("cpu.weight", "1")]),
            (
                "kubepods/poda-1",
                &[
                    ("cpu.weight", "100"),
                    ("cpu.max", "100000 100000"),
                    ("memory.max", "67108864"),
                    ("memory.min", "67108864"),
                    ("pids.max", "100"),
                ]
            ),
            (
                "kubepods/burstable/podb-1",
                &[("cpu.weight", "181"), ("memory.low", "50331648"), ("pids.max", "100")]
            ),
            ("kubepods/besteffort/podc-1", &[("cpu.weight", "1"), ("pids.max", "100")]),
            (
                "kubepods/burstable/podd-1",
                &[
                    ("cpu.weight", "100"),
                    ("cpu.max", "200000 100000"),
                    ("memory.low", "67108864"),
                    ("memory.max", "268435456"),
                    ("pids.max", "100"),
                ]
            ),
        ])
    );
}
