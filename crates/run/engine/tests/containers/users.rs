//! A pod whose users are others outside.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};

use plimsoll_cri::v1::{IdMapping, Mount, NamespaceMode, NamespaceOption, UserNamespace};

use crate::machine::{Machine, namespaces, pod, shell};

const FIRST: u32 = 131_072;

fn options() -> NamespaceOption {
    let ids = vec![IdMapping { host_id: FIRST, container_id: 0, length: 65_536 }];
    let mut users = UserNamespace { uids: ids.clone(), gids: ids, ..UserNamespace::default() };
    users.set_mode(NamespaceMode::Pod);
    NamespaceOption { userns_options: Some(users), ..namespaces() }
}

pub(crate) async fn users_of_its_own() {
    let machine = Machine::new().await;
    let volume = machine.folder.join("closed/volume");
    fs::create_dir_all(&volume).unwrap();
    fs::write(volume.join("given"), "x").unwrap();
    // What leads to the volume is closed to all but the machine's root.
    fs::set_permissions(machine.folder.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    let mut config = pod("own");
    let mut main = shell(
        "cat /proc/self/uid_map; id -u; ls -ln /data /bin/busybox; touch /data/made /made && \
         echo again > /dev/stdout; hostname; sleep 100",
    );
    let security = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).unwrap();
    security.namespace_options = Some(options());
    let security = main.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).unwrap();
    security.namespace_options = Some(options());
    let ids = options().userns_options.unwrap().uids;
    main.mounts = vec![Mount {
        container_path: "/data".to_owned(),
        host_path: volume.display().to_string(),
        uid_mappings: ids.clone(),
        gid_mappings: ids,
        ..Mount::default()
    }];
    let sandbox = machine.engine.run_sandbox(config, "").await.unwrap();
    let id = machine.container(&sandbox, main).await;
    assert_eq!(machine.sh(&id, "id -u; id -g").await, "0\n0\n");
    for _ in 0..1000 {
        if machine.log(&sandbox).contains(" own") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let log = machine.log(&sandbox);
    assert!(log.contains("131072"), "the range is the pod's: {log}");
    assert!(log.contains("stdout F again"), "its streams are its own: {log}");
    let owners = log.lines().filter(|line| line.contains("given") || line.contains("busybox"));
    for line in owners {
        assert!(line.contains(" 0        0 "), "root owns what root owned: {line}");
    }
    let owner = |path: std::path::PathBuf| fs::metadata(path).map(|meta| (meta.uid(), meta.gid())).unwrap();
    assert_eq!(owner(volume.join("made")), (0, 0), "volumes are written to as the machine's root would");
    let upper = machine.config.data_dir.join(format!("engine/sandboxes/{sandbox}/containers/{id}/upper"));
    assert_eq!(owner(upper.join("made")), (FIRST, FIRST), "and what is the container's is the pod's");
    let seen = machine
        .sh(
            &id,
            "cat /etc/hostname; ls -ln /etc/hosts; cat /sys/kernel/mm/x 2>/dev/null; \
         grep -c . /proc/self/mountinfo",
        )
        .await;
    assert!(seen.starts_with("own\n"), "{seen}");
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    machine.finish().await;
}
