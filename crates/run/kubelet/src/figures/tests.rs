//! Figures of real groups and of ones that stand for version 2's.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command};

use k8s_openapi::api::core::v1::Pod;
use plimsoll_cri::v1;
use plimsoll_kernel::cgroup::{Cgroup, Hierarchy};
use serde_json::json;

use super::disk::{Disk, Used};
use super::group::{Depth, Kind, all};
use super::hardware::Hardware;
use super::owner::Owners;
use super::{cadvisor, resource};
use crate::machine::Machine;

fn owners(pod_path: &str) -> Owners {
    let labels = |container: &str| {
        let mut labels = HashMap::from([
            ("io.kubernetes.pod.name".to_owned(), "web".to_owned()),
            ("io.kubernetes.pod.namespace".to_owned(), "ns".to_owned()),
            ("io.kubernetes.pod.uid".to_owned(), "u1".to_owned()),
        ]);
        if !container.is_empty() {
            labels.insert("io.kubernetes.container.name".to_owned(), container.to_owned());
        }
        labels
    };
    let sandbox = v1::PodSandbox {
        id: "s1".into(),
        labels: labels(""),
        created_at: 5_000_000_000,
        ..Default::default()
    };
    let image = v1::ImageSpec { user_specified_image: "demo:1".into(), ..Default::default() };
    let container = v1::Container {
        id: "c1".into(),
        labels: labels("main"),
        image: Some(image),
        created_at: 7_500_000_000,
        ..Default::default()
    };
    let mut owners = Owners::of_engine(vec![sandbox], vec![container], "pause:1");
    let pod: Pod = serde_json::from_value(
        json!({"metadata": {"name": "web", "namespace": "ns", "uid": "u1"}, "spec": {"containers": []}}),
    )
    .unwrap();
    owners.add_pod(pod_path.to_owned(), &pod);
    owners
}

fn text(machine: &Cgroup, pods: &Cgroup, pod_path: &str) -> String {
    let mut measured = all(machine, pods, &owners(pod_path), Depth::All);
    for it in measured.iter_mut().filter(|it| it.kind == Kind::Container) {
        it.layer = Some(Used { bytes: 4096, inodes: 2 });
    }
    let disk = Disk::of(std::path::Path::new("/"), jiff::Timestamp::now());
    cadvisor::write(
        &measured,
        disk.as_ref(),
        Hardware { version: String::new(), machine: "machine_cpu_cores{} 1\n".into() },
    )
}

/// The value of a series, whose time is not compared.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series))?;
    line.split_whitespace().next()?.parse().ok()
}

#[test]
fn version_2_is_told_of_under_cadvisors_names() {
    let temp = tempfile::tempdir().unwrap();
    let put = |file: &str, text: &str| {
        let path = temp.path().join(file.trim_start_matches('/'));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    for group in ["", "kubepods", "kubepods/podu1", "kubepods/podu1/s1", "kubepods/podu1/c1"] {
        put(
            &format!("{group}/memory.stat"),
            "anon 1000\nfile 300\ninactive_file 700\npgfault 9\npgmajfault 1\n",
        );
        put(&format!("{group}/memory.current"), "5000\n");
        put(&format!("{group}/memory.max"), "8000\n");
        put(
            &format!("{group}/cpu.stat"),
            "usage_usec 1500000\nuser_usec 1000000\nnr_periods 4\nnr_throttled 2\nthrottled_usec 250000\n",
        );
        put(&format!("{group}/cpu.max"), "max 100000\n");
        put(
            &format!("{group}/cpu.pressure"),
            "some avg10=0.00 total=2000000\nfull avg10=0.00 total=1000000\n",
        );
        put(&format!("{group}/pids.current"), "3\n");
        put(&format!("{group}/cgroup.procs"), "");
        put(&format!("{group}/io.stat"), "999:7 rbytes=10 wbytes=20 rios=1 wios=2\n");
    }
    put("kubepods/podu1/c1/cpu.max", "50000 100000\n");
    put("kubepods/podu1/c1/inner/memory.stat", "anon 1\n");
    let tree = Hierarchy::v2(temp.path());
    let text = text(&tree.group("/"), &tree.group("/kubepods"), "/kubepods/podu1");

    let own = "id=\"/kubepods/podu1/c1\",image=\"demo:1\"";
    let names = "name=\"c1\",namespace=\"ns\",pod=\"web\"";
    for (series, expected) in [
        (format!("container_cpu_usage_seconds_total{{container=\"main\",cpu=\"total\",{own},{names}}}"), 1.5),
        (format!("container_cpu_user_seconds_total{{container=\"main\",{own},{names}}}"), 1.0),
        (format!("container_cpu_cfs_periods_total{{container=\"main\",{own},{names}}}"), 4.0),
        (format!("container_cpu_cfs_throttled_seconds_total{{container=\"main\",{own},{names}}}"), 0.25),
        (format!("container_memory_working_set_bytes{{container=\"main\",{own},{names}}}"), 4300.0),
        (format!("container_memory_rss{{container=\"main\",{own},{names}}}"), 1000.0),
        (format!("container_memory_cache{{container=\"main\",{own},{names}}}"), 300.0),
        (
            format!("container_memory_failures_total{{container=\"main\",failure_type=\"pgmajfault\",{own},{names},scope=\"hierarchy\"}}"),
            1.0,
        ),
        (format!("container_fs_writes_total{{container=\"main\",device=\"999:7\",{own},{names}}}"), 2.0),
        (
            format!("container_blkio_device_usage_total{{container=\"main\",device=\"999:7\",{own},major=\"999\",minor=\"7\",name=\"c1\",namespace=\"ns\",operation=\"Write\",pod=\"web\"}}"),
            20.0,
        ),
        (format!("container_pressure_cpu_waiting_seconds_total{{container=\"main\",{own},{names}}}"), 2.0),
        (format!("container_spec_cpu_quota{{container=\"main\",{own},{names}}}"), 50_000.0),
        (format!("container_spec_memory_limit_bytes{{container=\"main\",{own},{names}}}"), 8000.0),
        (format!("container_start_time_seconds{{container=\"main\",{own},{names}}}"), 7.0),
        (format!("container_threads{{container=\"main\",{own},{names}}}"), 3.0),
        (
            "container_memory_usage_bytes{container=\"\",id=\"/kubepods/podu1/s1\",image=\"pause:1\",name=\"s1\",namespace=\"ns\",pod=\"web\"}".into(),
            5000.0,
        ),
        (
            "container_memory_usage_bytes{container=\"\",id=\"/kubepods/podu1\",image=\"\",name=\"\",namespace=\"ns\",pod=\"web\"}".into(),
            5000.0,
        ),
        (
            "container_memory_usage_bytes{container=\"\",id=\"/kubepods\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}".into(),
            5000.0,
        ),
        ("container_memory_usage_bytes{container=\"\",id=\"/\",image=\"\",name=\"\",namespace=\"\",pod=\"\"}".into(), 5000.0),
        ("container_scrape_error".into(), 0.0),
        ("machine_cpu_cores{}".into(), 1.0),
    ] {
        assert_eq!(value(&text, &series), Some(expected), "{series}\n{text}");
    }
    assert!(text.contains("# TYPE container_cpu_usage_seconds_total counter\n"));
    assert!(
        !text.contains("cfs_periods_total{container=\"\""),
        "groups without a quota have no such periods"
    );
    assert!(!text.contains("inner"), "groups within containers are theirs");
    let layer =
        text.lines().find(|line| line.starts_with("container_fs_usage_bytes{container=\"main\"")).unwrap();
    assert!(layer.contains("} 4096 "), "{layer}");
}

/// A process in a group of its own; both go with it.
struct Running(Child, Cgroup);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
        while self.1.pids().is_ok_and(|pids| !pids.is_empty()) {
            std::thread::yield_now();
        }
        let _ = self.1.remove();
    }
}

#[test]
fn figures_agree_with_the_kernels_files() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("skipped: control groups need root");
        return;
    }
    let tree = Hierarchy::detect().unwrap();
    let root = format!("/plimsoll-figures-test-{}", std::process::id());
    let group = tree.group(&format!("{root}/podu1/c1"));
    group.create().unwrap();
    let script = "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done; read x";
    let child = Command::new("sh").args(["-c", script]).stdin(std::process::Stdio::piped()).spawn().unwrap();
    group.add(i32::try_from(child.id()).unwrap()).unwrap();
    let _running = Running(child, tree.group(&root));

    let before = group.stats().unwrap();
    let measured = all(&tree.group("/"), &tree.group(&root), &owners(&format!("{root}/podu1")), Depth::All);
    let after = group.stats().unwrap();
    let it = measured.iter().find(|it| it.kind == Kind::Container).unwrap();
    let used = it.account.stats.cpu.usage_nanos;
    assert!((before.cpu.usage_nanos..=after.cpu.usage_nanos).contains(&used));
    assert_eq!((it.labels.container.as_str(), it.account.processes.len()), ("main", 1));
    assert!(it.open.files >= 3 && it.open.limit.is_some(), "{:?}", it.open);
    assert_eq!(it.account.stats.pids.current, after.pids.current);
    let kinds: Vec<Kind> = measured.iter().map(|it| it.kind).collect();
    assert_eq!(kinds, [Kind::Machine, Kind::Other, Kind::Pod, Kind::Container]);

    let short = all(&tree.group("/"), &tree.group(&root), &owners(&format!("{root}/podu1")), Depth::Usage);
    let machine = Machine::detect(std::path::Path::new("/"), None);
    let text = resource::write(&Ok(short), 0, &machine);
    let cpu =
        value(&text, "container_cpu_usage_seconds_total{container=\"main\",namespace=\"ns\",pod=\"web\"}");
    assert!(cpu.unwrap() >= before.cpu.usage_nanos as f64 / 1e9, "{text}");
    assert!(value(&text, "pod_memory_working_set_bytes{namespace=\"ns\",pod=\"web\"}").is_some(), "{text}");
    assert!(value(&text, "node_cpu_usage_seconds_total").unwrap() > 0.0, "{text}");
    assert_eq!(value(&text, "resource_scrape_error"), Some(0.0));
    assert_eq!(value(&resource::write(&Err(()), 0, &machine), "resource_scrape_error"), Some(1.0));
}
