//! Golden documents for a table of configurations.
#![expect(clippy::unwrap_used, reason = "tests")]

use plimsoll_cri::v1::security_profile::ProfileType;
use plimsoll_cri::v1::{
    Capability, Device, KeyValue, LinuxContainerConfig, MountPropagation, SecurityProfile,
};
use plimsoll_cri::v1::{HugepageLimit, LinuxContainerResources};
use plimsoll_kernel::cgroup::Limits;

use super::*;

struct Case {
    config: ContainerConfig,
    image: ImageConfig,
    namespaces: Namespaces,
    cgroups: Version,
    devices: Vec<HostDevice>,
    edits: Edits,
}

impl Case {
    fn new() -> Self {
        let mut image = ImageConfig::default();
        image.set_entrypoint(Some(vec!["/app".to_owned()]));
        image.set_cmd(Some(vec!["serve".to_owned()]));
        image.set_env(Some(vec!["LANG=C".to_owned(), "HOME=/data".to_owned()]));
        image.set_working_dir(Some("/srv".to_owned()));
        Self {
            config: ContainerConfig {
                linux: Some(LinuxContainerConfig {
                    security_context: Some(Default::default()),
                    resources: None,
                }),
                ..Default::default()
            },
            image,
            namespaces: Namespaces {
                user: None,
                network: Some("/run/netns/s".into()),
                ipc: Some("/proc/9/ns/ipc".into()),
                uts: Some("/proc/9/ns/uts".into()),
                pid: PidNamespace::Own,
            },
            cgroups: Version::V1,
            devices: Vec::new(),
            edits: Edits::default(),
        }
    }

    fn security(&mut self) -> &mut LinuxContainerSecurityContext {
        self.config.linux.as_mut().unwrap().security_context.as_mut().unwrap()
    }

    fn with<T>(&self, work: impl FnOnce(&Input<'_>) -> T) -> T {
        let sandbox = PodSandboxConfig { hostname: "web-0".to_owned(), ..Default::default() };
        let user = User { uid: 33, gid: 34, groups: vec![34, 50], home: "/srv".to_owned() };
        let files = Files {
            resolv_conf: "/s/resolv.conf".into(),
            hostname: "/s/hostname".into(),
            hosts: "/s/hosts".into(),
            shared_memory: "/s/shm".into(),
        };
        let host = Host {
            cgroups: self.cgroups,
            capabilities: ALL_CAPABILITIES
                .iter()
                .filter(|name| **name != "CAP_SYS_RESOURCE")
                .map(|name| (*name).to_owned())
                .collect(),
            open_files: 4096,
            apparmor: apparmor::Ability::None,
        };
        work(&Input {
            sandbox: &sandbox,
            config: &self.config,
            mounts: &self.config.mounts,
            image: &self.image,
            user: &user,
            namespaces: &self.namespaces,
            files: &files,
            cgroup: "/kubepods/pod1/c",
            cgroup_view: &vec![("memory".to_owned(), "/sys/fs/cgroup/memory/kubepods/pod1/c".into())],
            devices: &self.devices,
            edits: &self.edits,
            rootfs: "/c/rootfs".into(),
            host: &host,
        })
    }

    fn document(&self) -> Value {
        let document = self.with(document).unwrap();
        // What the runtime cannot read is no document.
        serde_json::from_value::<oci_spec::runtime::Spec>(document.clone()).unwrap();
        document
    }

    /// The mount at `destination`.
    fn mount(&self, destination: &str) -> Option<Value> {
        let document = self.document();
        let mounts = document["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == destination).cloned()
    }

    fn destinations(&self) -> Vec<String> {
        let document = self.document();
        let mounts = document["mounts"].as_array().unwrap();
        mounts.iter().map(|mount| mount["destination"].as_str().unwrap().to_owned()).collect()
    }
}

#[test]
fn an_ordinary_container() {
    let mut case = Case::new();
    case.security().masked_paths = vec!["/proc/kcore".to_owned()];
    case.security().readonly_paths = vec!["/proc/sys".to_owned()];
    let mut document = case.document();
    let mounts = document.as_object_mut().unwrap().remove("mounts").unwrap();
    assert_eq!(mounts.as_array().unwrap().len(), 11);
    assert_eq!(
        document,
        json!({
            "ociVersion": "1.0.2",
            "process": {
                "terminal": false,
                "user": { "uid": 33, "gid": 34, "additionalGids": [34, 50] },
                "args": ["/app", "serve"],
                "env": [DEFAULT_PATH, "HOSTNAME=web-0", "HOME=/data", "LANG=C"],
                "cwd": "/srv",
                "noNewPrivileges": false,
                "rlimits": [{ "type": "RLIMIT_NOFILE", "hard": 4096, "soft": 4096 }],
            },
            "root": { "path": "/c/rootfs", "readonly": false },
            "linux": {
                "namespaces": [
                    { "type": "mount" },
                    { "type": "network", "path": "/run/netns/s" },
                    { "type": "ipc", "path": "/proc/9/ns/ipc" },
                    { "type": "uts", "path": "/proc/9/ns/uts" },
                    { "type": "pid" },
                ],
                "devices": [],
                "cgroupsPath": "/kubepods/pod1/c",
                "rootfsPropagation": "slave",
                "maskedPaths": ["/proc/kcore"],
                "readonlyPaths": ["/proc/sys"],
            },
        })
    );
    assert_eq!(
        case.destinations(),
        [
            "/proc",
            "/dev",
            "/sys",
            "/dev/pts",
            "/dev/mqueue",
            "/etc/hosts",
            "/etc/hostname",
            "/etc/resolv.conf",
            "/dev/shm",
            "/sys/fs/cgroup",
            "/sys/fs/cgroup/memory",
        ]
    );
}

#[test]
fn commands_replace_what_the_image_says() {
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let cases: [(&[&str], &[&str], &[&str]); 4] = [
        (&[], &[], &["/app", "serve"]),
        (&[], &["help"], &["/app", "help"]),
        (&["/other"], &[], &["/other"]),
        (&["/other"], &["help"], &["/other", "help"]),
    ];
    for (command, args, expected) in cases {
        let mut case = Case::new();
        (case.config.command, case.config.args) = (text(command), text(args));
        assert_eq!(case.document()["process"]["args"], json!(expected));
    }
    let mut case = Case::new();
    case.image = ImageConfig::default();
    assert_eq!(case.with(document).unwrap_err().to_string(), "no command specified");
}

#[test]
fn a_terminal_and_an_environment_of_its_own() {
    let mut case = Case::new();
    case.config.tty = true;
    case.config.working_dir = "/work".to_owned();
    case.config.envs = vec![
        KeyValue { key: "LANG".to_owned(), value: "de".to_owned() },
        KeyValue { key: "EMPTY".to_owned(), value: String::new() },
    ];
    let process = case.document()["process"].clone();
    assert_eq!(
        process["env"],
        json!([DEFAULT_PATH, "HOSTNAME=web-0", "TERM=xterm", "HOME=/data", "LANG=de", "EMPTY="])
    );
    assert_eq!((&process["terminal"], &process["cwd"]), (&json!(true), &json!("/work")));
    let exec = exec_document(&Case::new().document()["process"], &["ls".to_owned()], true);
    assert_eq!((&exec["args"], &exec["env"][4]), (&json!(["ls"]), &json!("TERM=xterm")));
}

#[test]
fn namespaces_of_the_machine_and_of_others() {
    let mut case = Case::new();
    case.namespaces = Namespaces { user: None, network: None, ipc: None, uts: None, pid: PidNamespace::Host };
    assert_eq!(case.document()["linux"]["namespaces"], json!([{ "type": "mount" }]));
    case.namespaces.pid = PidNamespace::Of("/proc/9/ns/pid".into());
    case.cgroups = Version::V2;
    assert_eq!(
        case.document()["linux"]["namespaces"],
        json!([{ "type": "mount" }, { "type": "pid", "path": "/proc/9/ns/pid" }, { "type": "cgroup" }])
    );
    assert_eq!(case.mount("/sys/fs/cgroup").unwrap()["type"], "cgroup");
}

#[test]
fn privileged_containers_are_not_confined() {
    let mut case = Case::new();
    case.security().privileged = true;
    case.security().no_new_privs = true;
    case.security().masked_paths = vec!["/proc/kcore".to_owned()];
    let document = case.document();
    assert_eq!(document["process"]["noNewPrivileges"], false);
    assert_eq!(document["linux"]["maskedPaths"], json!([]));
    assert_eq!(case.mount("/sys").unwrap()["options"], json!(["nosuid", "noexec", "nodev", "rw"]));
    let confinement = case.with(|input| confinement(input, Vec::new())).unwrap();
    // All that the machine can give.
    assert_eq!(confinement.capabilities.len(), ALL_CAPABILITIES.len() - 1);
    let profile = SecurityProfile { profile_type: ProfileType::RuntimeDefault.into(), ..Default::default() };
    assert!(seccomp::filters(Some(&profile), true, &[]).unwrap().is_empty());
    assert_eq!(rules(&[], true).first().unwrap().to_string(), "a");
}

#[test]
fn capabilities_added_and_dropped() {
    let text = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    type Words = &'static [&'static str];
    let cases: [(Words, Words, usize, Words); 6] = [
        (&[], &[], 14, &["CAP_CHOWN", "CAP_KILL"]),
        (&["NET_ADMIN"], &[], 15, &["CAP_NET_ADMIN"]),
        (&["cap_net_admin"], &["ALL"], 1, &["CAP_NET_ADMIN"]),
        (&[], &["KILL"], 13, &["CAP_CHOWN"]),
        (&["ALL"], &["SYS_ADMIN"], ALL_CAPABILITIES.len() - 2, &["CAP_SYS_PTRACE"]),
        (&["SYS_RESOURCE"], &[], 14, &["CAP_CHOWN"]),
    ];
    for (add, drop, count, some) in cases {
        let mut case = Case::new();
        let (add_capabilities, drop_capabilities) = (text(add), text(drop));
        case.security().capabilities =
            Some(Capability { add_capabilities, drop_capabilities, ..Default::default() });
        let found = case.with(|input| confinement(input, Vec::new())).unwrap().capabilities;
        assert_eq!(found.len(), count, "{add:?} {drop:?}");
        assert!(some.iter().all(|name| found.iter().any(|has| has == name)), "{found:?}");
    }
    let mut case = Case::new();
    case.security().capabilities =
        Some(Capability { add_capabilities: text(&["FLY"]), ..Default::default() });
    let error = case.with(|input| confinement(input, Vec::new())).unwrap_err();
    assert_eq!(error.to_string(), "unknown capability to add: \"FLY\"");
}

#[test]
fn mounts_replace_and_travel() {
    let mut case = Case::new();
    let mount = |container: &str, host: &str| Mount {
        container_path: container.to_owned(),
        host_path: host.to_owned(),
        ..Default::default()
    };
    let mut shared = mount("/shared", "/h/shared");
    shared.set_propagation(MountPropagation::PropagationBidirectional);
    let read_only = Mount { readonly: true, recursive_read_only: true, ..mount("config", "/h/config") };
    case.config.mounts =
        vec![mount("/etc/hosts", "/h/hosts"), shared, read_only, mount("/dev/shm", "/h/shm")];
    case.security().readonly_rootfs = true;
    let options = |path: &str| case.mount(path).unwrap()["options"].clone();
    assert_eq!(case.mount("/etc/hosts").unwrap()["source"], "/h/hosts");
    assert_eq!(options("/shared"), json!(["rbind", "rshared", "rw"]));
    assert_eq!(options("/config"), json!(["rbind", "rprivate", "ro", "rro"]));
    assert_eq!(options("/etc/resolv.conf"), json!(["rbind", "rprivate", "ro"]));
    assert_eq!(case.destinations().iter().filter(|path| *path == "/dev/shm").count(), 1);
    assert_eq!(case.document()["linux"]["rootfsPropagation"], "shared");
    assert_eq!(case.document()["root"]["readonly"], true);
}

#[test]
fn devices_and_their_rules() {
    let mut case = Case::new();
    let wanted = Device {
        container_path: "/dev/zero2".into(),
        host_path: "/dev/zero".into(),
        permissions: "rw".into(),
    };
    case.devices = host_devices(&[wanted], false).unwrap();
    let node = case.document()["linux"]["devices"][0].clone();
    assert_eq!((&node["path"], &node["major"], &node["minor"]), (&json!("/dev/zero2"), &json!(1), &json!(5)));
    let rules = rules(&case.devices, false);
    assert_eq!(rules.first().unwrap().to_string(), "a");
    assert_eq!(rules.last().unwrap().to_string(), "c 1:5 rw");
    let missing = Device { host_path: "/dev/no-such".into(), ..Default::default() };
    assert!(host_devices(&[missing], false).unwrap_err().to_string().starts_with("device /dev/no-such: "));
}

#[test]
fn devices_change_the_document() {
    let mut case = Case::new();
    case.edits = serde_json::from_value(json!({
        "env": ["LANG=gpu", "GPU=0"],
        "mounts": [{"hostPath": "/lib/gpu", "containerPath": "/usr/lib/gpu", "options": ["ro", "nosuid"]},
            {"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs", "options": ["size=1m"]}],
        "hooks": [{"hookName": "createContainer", "path": "/bin/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 5}],
        "intelRdt": {"closID": "c", "l3CacheSchema": "L3:0=f", "enableCMT": true},
    }))
    .unwrap();
    let found = case.with(document).unwrap();
    let env: Vec<_> = found["process"]["env"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(env.contains(&"LANG=gpu") && env.contains(&"GPU=0") && !env.contains(&"LANG=C"), "{env:?}");
    let mount = |path: &str| {
        let mounts = found["mounts"].as_array().unwrap();
        mounts.iter().find(|mount| mount["destination"] == path).unwrap().clone()
    };
    assert_eq!(
        mount("/usr/lib/gpu"),
        json!({"destination": "/usr/lib/gpu", "type": "bind", "source": "/lib/gpu", "options": ["ro", "nosuid", "bind"]})
    );
    assert_eq!(
        (mount("/scratch")["type"].as_str(), mount("/scratch")["options"][0].as_str()),
        (Some("tmpfs"), Some("size=1m"))
    );
    assert_eq!(
        found["hooks"],
        json!({"createContainer": [{"path": "/bin/hook", "args": ["hook", "x"], "env": ["A=1"], "timeout": 5}]})
    );
    assert_eq!(
        found["linux"]["intelRdt"],
        json!({"closID": "c", "l3CacheSchema": "L3:0=f", "enableCMT": true})
    );
}

#[test]
fn resources_become_limits() {
    let resources = LinuxContainerResources {
        cpu_shares: 512,
        cpu_quota: 50_000,
        cpu_period: 100_000,
        memory_limit_in_bytes: 64 << 20,
        hugepage_limits: vec![HugepageLimit { page_size: "2MB".to_owned(), limit: 4 << 20 }],
        cpuset_cpus: "0-1".to_owned(),
        ..Default::default()
    };
    let found = update(&resources);
    let expected = Limits {
        cpu_shares: Some(512),
        cpu_quota: Some(50_000),
        cpu_period: Some(100_000),
        cpuset_cpus: Some("0-1".to_owned()),
        memory: Some(64 << 20),
        memory_swap: Some(64 << 20),
        hugepages: [("2MB".to_owned(), 4 << 20)].into(),
        ..Default::default()
    };
    assert_eq!(found, expected);
    assert_eq!(update(&LinuxContainerResources::default()), Limits::default());
    let mut kept = resources.clone();
    merge(&mut kept, &LinuxContainerResources { cpu_quota: -1, ..Default::default() });
    assert_eq!((kept.cpu_quota, kept.cpu_shares), (-1, 512));
}
