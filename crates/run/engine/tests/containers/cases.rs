//! What containers must do.

use std::fs;
use std::future::Future;
use std::io::{Read, Write};
use std::pin::Pin;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_cri::v1::security_profile::ProfileType;
use plimsoll_cri::v1::{
    Capability, ContainerState, Int64Value, LinuxContainerSecurityContext, NamespaceMode,
};
use plimsoll_cri::v1::{PodSandboxState, PodSandboxStatusRequest, runtime_service_server::RuntimeService};
use plimsoll_engine::Engine;

use crate::machine::{Machine, end, pod, processes, shell, status};

pub(crate) type Case = fn() -> Pin<Box<dyn Future<Output = ()>>>;

/// Every case with its name.
pub(crate) const ALL: [(&str, Case); 16] = [
    ("exit_code_and_log", || Box::pin(exit_code_and_log())),
    ("what_a_container_sees", || Box::pin(what_a_container_sees())),
    ("users_and_confinement", || Box::pin(users_and_confinement())),
    ("devices_by_name", || Box::pin(devices_by_name())),
    ("users_of_its_own", || Box::pin(crate::users::users_of_its_own())),
    ("missing_programs", || Box::pin(missing_programs())),
    ("stopping", || Box::pin(stopping())),
    ("out_of_memory", || Box::pin(out_of_memory())),
    ("exec_and_attach", || Box::pin(exec_and_attach())),
    ("streams", || Box::pin(streams())),
    ("a_terminal", || Box::pin(a_terminal())),
    ("the_machines_namespaces_and_new_limits", || Box::pin(the_machines_namespaces_and_new_limits())),
    ("shared_processes", || Box::pin(shared_processes())),
    ("adoption", || Box::pin(adoption())),
    ("a_killed_shim", || Box::pin(a_killed_shim())),
    ("speed", || Box::pin(speed())),
];

async fn exit_code_and_log() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "echo hello; echo oops >&2; printf last; exit 7").await;
    let status = machine.end(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (7, "Error"));
    assert!(status.started_at > 0 && status.finished_at >= status.started_at);
    let log = machine.log(&sandbox);
    let lines: Vec<&str> =
        log.lines().filter_map(|line| line.split_once(' ').map(|(_, rest)| rest)).collect();
    for expected in ["stdout F hello", "stderr F oops", "stdout P last"] {
        assert!(lines.contains(&expected), "{expected} in {log}");
    }
    machine.engine.remove_container(&id).await.unwrap();
    machine.engine.remove_container(&id).await.unwrap();
    machine.engine.stop_sandbox(&sandbox).await.unwrap();
    machine.engine.stop_sandbox(&sandbox).await.unwrap();
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    assert_eq!(processes(&machine.folder.display().to_string()), Vec::<String>::new());
    assert!(fs::read_dir(machine.config.data_dir.join("engine/sandboxes")).unwrap().next().is_none());
    machine.finish().await;
}

async fn devices_by_name() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let (folder, told) = (machine.folder.join("cdi"), machine.folder.join("told"));
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("note"), "of the driver\n").unwrap();
    let text = format!(
        "cdiVersion: 0.7.0\nkind: example.com/gpu\ncontainerEdits:\n  env: [DRIVER=here]\n  mounts:\n  \
         - {{hostPath: {}, containerPath: /lib/note, options: [ro]}}\n  hooks:\n  \
         - {{hookName: createRuntime, path: /bin/sh, args: [sh, -c, 'cat > {}']}}\ndevices:\n- name: '0'\n  \
         containerEdits:\n    additionalGids: [77]\n    deviceNodes:\n    \
         - {{path: /dev/gpu0, hostPath: /dev/null, fileMode: 384, uid: 5}}\n",
        folder.join("note").display(),
        told.display(),
    );
    fs::write(folder.join("gpu.yaml"), text).unwrap();
    let named = |name: &str, script: &str| {
        let mut config = shell(script);
        config.cdi_devices = vec![plimsoll_cri::v1::CdiDevice { name: name.to_owned() }];
        config
    };
    let script =
        "echo $DRIVER; cat /lib/note; ls -ln /dev/gpu0 | tr -s ' '; id -G; echo x >/dev/gpu0 && echo written";
    let id = machine.container(&sandbox, named("example.com/gpu=0", script)).await;
    assert_eq!(machine.end(&id).await.exit_code, 0);
    let log = machine.log(&sandbox);
    let said: Vec<&str> = log.lines().filter_map(|line| line.split(" F ").nth(1)).collect();
    assert_eq!(said[..2], ["here", "of the driver"], "{log}");
    assert!(said[2].starts_with("crw------- 1 5 0 1, 3 ") && said[2].ends_with("/dev/gpu0"), "{log}");
    assert_eq!(said[3..], ["0 77", "written"], "{log}");
    let state: serde_json::Value = serde_json::from_str(&fs::read_to_string(&told).unwrap()).unwrap();
    assert_eq!(state["id"], id);
    let refused = machine.engine.create_container(&sandbox, named("example.com/gpu=1", "true"), None).await;
    let problem = "CDI device injection failed: unresolvable CDI devices example.com/gpu=1";
    assert_eq!(refused.unwrap_err().to_string(), problem);
    machine.finish().await;
}

async fn what_a_container_sees() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let mut config = shell("sleep 100");
    config.envs = vec![plimsoll_cri::v1::KeyValue { key: "COLOUR".to_owned(), value: "blue=1".to_owned() }];
    config.working_dir = "/tmp".to_owned();
    let id = machine.container(&sandbox, config).await;
    assert_eq!(
        machine.sh(&id, "hostname; echo $COLOUR; echo $HOME; pwd").await,
        "web\nblue=1\n/root\n/tmp\n"
    );
    assert_eq!(machine.sh(&id, "cat /proc/1/cmdline | tr '\\0' ' '").await, "sleep 100 ");
    assert_eq!(machine.sh(&id, "ls -d /proc/[0-9]* | grep -c /proc/1").await, "1\n");
    let memory = machine
        .sh(&id, "ls /sys/fs/cgroup/memory/memory.usage_in_bytes; cat /sys/fs/cgroup/cpu/cpu.shares")
        .await;
    if fs::exists("/sys/fs/cgroup/memory").unwrap() {
        assert_eq!(memory, "/sys/fs/cgroup/memory/memory.usage_in_bytes\n512\n");
    }
    assert_eq!(
        machine.sh(&id, "cat /etc/resolv.conf").await,
        fs::read_to_string("/etc/resolv.conf").unwrap()
    );
    assert!(machine.sh(&id, "echo x > /proc/sys/kernel/hostname").await.contains("ead-only"));
    assert_eq!(machine.sh(&id, "echo x > /dev/null; ls -l /dev/shm; echo ok").await, "total 0\nok\n");
    machine.finish().await;
}

async fn users_and_confinement() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let with = |change: fn(&mut LinuxContainerSecurityContext)| {
        let mut config = shell("sleep 100");
        if let Some(security) = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()) {
            change(security);
        }
        config
    };
    let usual = machine.container(&sandbox, with(|_| {})).await;
    assert_eq!(
        machine
            .sh(&usual, "id -u; id -g; cat /proc/self/status | grep -E 'CapEff|Seccomp:|NoNewPrivs'")
            .await,
        "0\n0\nCapEff:\t00000000a80425fb\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    // Mounting and new namespaces are refused by filter and by capability.
    assert!(
        machine
            .sh(&usual, "unshare -m true; mount -t tmpfs x /tmp; echo done")
            .await
            .contains("not permitted")
    );
    let web = machine
        .container(
            &sandbox,
            with(|security| {
                security.run_as_user = Some(Int64Value { value: 33 });
                security.no_new_privs = true;
                security.readonly_rootfs = true;
                security.supplemental_groups = vec![77];
                security.capabilities =
                    Some(Capability { drop_capabilities: vec!["ALL".to_owned()], ..Default::default() });
            }),
        )
        .await;
    assert_eq!(
        machine.sh(&web, "id -u; id -G; cat /proc/self/status | grep -E 'CapBnd|Seccomp:|NoNewPrivs'").await,
        "33\n33 50 77\nCapBnd:\t0000000000000000\nNoNewPrivs:\t1\nSeccomp:\t2\n"
    );
    assert!(machine.sh(&web, "echo x > /tmp/x").await.contains("ead-only"));
    let privileged = machine
        .container(
            &sandbox,
            with(|security| {
                security.privileged = true;
                if let Some(seccomp) = &mut security.seccomp {
                    seccomp.set_profile_type(ProfileType::Unconfined);
                }
            }),
        )
        .await;
    assert_eq!(machine.sh(&privileged, "mount -t tmpfs x /tmp && echo mounted").await, "mounted\n");
    assert_eq!(machine.sh(&privileged, "cat /proc/self/status | grep Seccomp:").await, "Seccomp:\t0\n");
    machine.finish().await;
}

async fn missing_programs() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let mut config = shell("");
    for (program, message) in [
        ("nosuch", "exec: \"nosuch\": executable file not found in $PATH"),
        ("/bin/nosuch", "exec: \"/bin/nosuch\": stat /bin/nosuch: no such file or directory"),
        ("/etc/passwd", "exec: \"/etc/passwd\": permission denied"),
    ] {
        config.command = vec![program.to_owned()];
        let id = machine.engine.create_container(&sandbox, config.clone(), None).await.unwrap();
        let error = machine.engine.start_container(&id).await.unwrap_err();
        assert_eq!(error.to_string(), message);
        let status = machine.status(&id).await;
        assert_eq!(
            (status.exit_code, status.reason.as_str(), status.message.as_str()),
            (128, "StartError", message)
        );
    }
    config.command = vec!["broken".to_owned()];
    let id = machine.container(&sandbox, config.clone()).await;
    assert_eq!(machine.end(&id).await.exit_code, 255);
    assert!(
        machine.log(&sandbox).contains("stderr F exec /bin/broken: exec format error"),
        "{}",
        machine.log(&sandbox)
    );
    config.command = ["sh", "-c", "cd /not && touch /not/there/x && exit 7"].map(str::to_owned).to_vec();
    config.working_dir = "/not/there".to_owned();
    let id = machine.container(&sandbox, config.clone()).await;
    assert_eq!(machine.end(&id).await.exit_code, 7, "a folder to start in is made");
    config.command = Vec::new();
    let error = machine.engine.create_container(&sandbox, config, None).await.unwrap_err();
    assert_eq!(error.to_string(), "no command specified");
    let running = machine.script(&sandbox, "sleep 100").await;
    let error = machine.engine.exec_sync(&running, &["nosuch".to_owned()], None).await.unwrap_err();
    assert!(error.to_string().contains("exec: \"nosuch\": executable file not found in $PATH"), "{error}");
    machine.finish().await;
}

async fn stopping() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    // The first process of a namespace does not hear the signal before its handler is there, and gets it again.
    let script = "touch /tmp/ready; sleep 0.5; trap 'exit 3' TERM; while :; do sleep 0.1; done";
    let polite = machine.script(&sandbox, script).await;
    machine.sh(&polite, "while [ ! -e /tmp/ready ]; do sleep 0.01; done").await;
    let begin = Instant::now();
    machine.engine.stop_container(&polite, Duration::from_secs(20)).await.unwrap();
    assert_eq!(machine.status(&polite).await.exit_code, 3);
    assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    let stubborn =
        machine.script(&sandbox, "trap '' TERM; touch /tmp/ready; while :; do sleep 0.1; done").await;
    machine.sh(&stubborn, "while [ ! -e /tmp/ready ]; do sleep 0.01; done").await;
    let begin = Instant::now();
    machine.engine.stop_container(&stubborn, Duration::from_millis(300)).await.unwrap();
    assert!(begin.elapsed() >= Duration::from_millis(300));
    assert_eq!(machine.status(&stubborn).await.exit_code, 137);
    machine.finish().await;
}

async fn out_of_memory() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let mut config = shell("dd if=/dev/zero of=/dev/null bs=64M count=1; tail /dev/zero");
    if let Some(resources) = config.linux.as_mut().and_then(|linux| linux.resources.as_mut()) {
        resources.memory_limit_in_bytes = 16 << 20;
    }
    config.command = ["tail", "/dev/zero"].map(str::to_owned).to_vec();
    let id = machine.container(&sandbox, config).await;
    let status = machine.end(&id).await;
    assert_eq!((status.exit_code, status.reason.as_str()), (137, "OOMKilled"));
    machine.finish().await;
}

async fn exec_and_attach() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let mut config = shell("while read line; do echo got $line; done; echo end");
    config.stdin = true;
    config.stdin_once = true;
    let id = machine.container(&sandbox, config).await;
    let command = ["sh", "-c", "cat; echo err >&2; exit 9"].map(str::to_owned);
    let mut session = machine.engine.exec(&id, &command, false, true).await.unwrap();
    let mut stdin = fs::File::from(session.stdin.take().unwrap());
    stdin.write_all(b"through").unwrap();
    drop(stdin);
    let read = |fd| {
        let mut text = String::new();
        fs::File::from(fd).read_to_string(&mut text).unwrap();
        text
    };
    assert_eq!(read(session.stdout.take().unwrap()), "through");
    assert_eq!(read(session.stderr.take().unwrap()), "err\n");
    assert_eq!(session.wait().await.unwrap(), 9);

    let command = ["sleep", "100"].map(str::to_owned);
    let error = machine.engine.exec_sync(&id, &command, Some(Duration::from_millis(200))).await.unwrap_err();
    assert!(error.to_string().contains("exceeded"));

    let mut session = machine.engine.exec(&id, &["sh".to_owned()], true, true).await.unwrap();
    session.resize(100, 40).unwrap();
    let mut terminal = fs::File::from(session.terminal.take().unwrap());
    terminal.write_all(b"stty size; exit 4\n").unwrap();
    assert_eq!(session.wait().await.unwrap(), 4);
    let mut said = vec![0; 4096];
    let length = terminal.read(&mut said).unwrap();
    let mut text = String::from_utf8_lossy(&said[..length]).into_owned();
    while let Ok(length @ 1..) = terminal.read(&mut said) {
        text.push_str(&String::from_utf8_lossy(&said[..length]));
    }
    assert!(text.contains("40 100"), "{text}");

    let attached = machine.engine.attach(&id).await.unwrap();
    let mut stdin = fs::File::from(attached.stdin.unwrap());
    stdin.write_all(b"one\n").unwrap();
    drop(stdin);
    assert_eq!(read(attached.stdout), "got one\nend\n");
    assert_eq!(machine.end(&id).await.exit_code, 0);
    assert!(machine.engine.attach(&id).await.is_err(), "it has ended");

    // Who waits for its first client loses no word, even if it says all at once and closes its streams.
    let mut config = shell("echo early; echo wrong >&2; exec >&- 2>&-; touch /spoken; read end");
    config.stdin = true;
    config.stdin_once = true;
    let id = machine.container(&sandbox, config).await;
    let spoken = ["sh", "-c", "while ! [ -e /spoken ]; do sleep 0.01; done"].map(str::to_owned);
    assert_eq!(machine.engine.exec_sync(&id, &spoken, None).await.unwrap().code, 0);
    let attached = machine.engine.attach(&id).await.unwrap();
    assert_eq!((read(attached.stdout), read(attached.stderr)), ("early\n".to_owned(), "wrong\n".to_owned()));
    let second = machine.engine.attach(&id).await.unwrap();
    drop(attached.stdin);
    assert_eq!(read(second.stdout), "", "it was told before");
    assert_eq!(machine.end(&id).await.exit_code, 1);
    machine.finish().await;
}

/// Over the real sockets: the interface, and the address that it answers with.
async fn streams() {
    use futures::{SinkExt, StreamExt};
    use plimsoll_cri::v1::runtime_service_client::RuntimeServiceClient;
    use plimsoll_cri::v1::{ExecRequest, PortForwardRequest};
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::client::IntoClientRequest;

    let machine = Machine::new().await;
    let shutdown = tokio_util::sync::CancellationToken::new();
    let engine = Engine::start(machine.config.clone(), shutdown.clone()).await.unwrap();
    let sandbox = engine.run_sandbox(pod("web"), "").await.unwrap();
    let id = engine.create_container(&sandbox, shell("sleep 100"), None).await.unwrap();
    engine.start_container(&id).await.unwrap();
    let mut client = None;
    for _ in 0..200 {
        if machine.config.socket.exists() {
            client = Some(RuntimeServiceClient::new(plimsoll_cri::connect(&machine.config.socket)));
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut client = client.unwrap();
    let connect = async |url: &str| {
        let address = url.strip_prefix("http://").unwrap();
        let (host, _) = address.split_once('/').unwrap();
        let mut request = url.replace("http://", "ws://").into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "v4.channel.k8s.io".parse().unwrap());
        let stream = tokio::net::TcpStream::connect(host).await.unwrap();
        tokio_tungstenite::client_async(request, stream).await.map(|(socket, _)| socket)
    };

    let request = ExecRequest {
        container_id: id.clone(),
        cmd: ["sh", "-c", "read x; echo got $x; exit 3"].map(str::to_owned).to_vec(),
        stdin: true,
        stdout: true,
        stderr: true,
        ..Default::default()
    };
    let url = client.exec(request).await.unwrap().into_inner().url;
    let mut socket = connect(&url).await.unwrap();
    socket.send(Message::Binary(b"\0word\n".to_vec().into())).await.unwrap();
    let (mut output, mut end) = (String::new(), String::new());
    while let Some(Ok(message)) = socket.next().await {
        let bytes = message.into_data();
        match bytes.split_first() {
            Some((1, rest)) => output.push_str(&String::from_utf8_lossy(rest)),
            Some((3, rest)) => end.push_str(&String::from_utf8_lossy(rest)),
            _ => {}
        }
    }
    assert_eq!(output, "got word\n");
    assert!(end.contains("\"ExitCode\"") && end.contains("\"3\""), "{end}");
    assert!(connect(&url).await.is_err(), "an address is good for one client");

    let server = ["sh", "-c", "echo pong | nc -l -p 7000"].map(str::to_owned);
    let _server = engine.exec(&id, &server, false, false).await.unwrap();
    let mut reply = Vec::new();
    for _ in 0..200 {
        // The server needs a moment to listen.
        if let Ok(mut stream) = engine.connect_port(&sandbox, 7000).await {
            tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut reply).await.unwrap();
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(String::from_utf8_lossy(&reply), "pong\n");
    let request = PortForwardRequest { pod_sandbox_id: sandbox.clone(), port: vec![80] };
    assert!(client.port_forward(request).await.unwrap().into_inner().url.contains("/portforward/"));
    shutdown.cancel();
    drop((client, engine));
    machine.finish().await;
}

async fn a_terminal() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let mut config = shell("tty; read line; echo got $line; stty size");
    (config.tty, config.stdin) = (true, true);
    let id = machine.container(&sandbox, config).await;
    let attached = machine.engine.attach(&id).await.unwrap();
    attached.resize(90, 30).unwrap();
    let mut stdin = fs::File::from(attached.stdin.unwrap());
    stdin.write_all(b"word\n").unwrap();
    assert_eq!(machine.end(&id).await.exit_code, 0);
    let log = machine.log(&sandbox);
    for expected in ["stdout F /dev/pts/0", "stdout F got word", "stdout F 30 90"] {
        assert!(log.contains(expected), "{expected} in {log}");
    }
    machine.finish().await;
}

async fn the_machines_namespaces_and_new_limits() {
    use plimsoll_cri::v1::{
        ContainerStatsRequest, LinuxContainerResources, NamespaceOption, PodSandboxStatsRequest,
    };
    let machine = Machine::new().await;
    let mut options = NamespaceOption::default();
    options.set_network(NamespaceMode::Node);
    options.set_pid(NamespaceMode::Node);
    options.set_ipc(NamespaceMode::Node);
    let mut config = pod("host");
    let mut main = shell("sleep 100");
    let of_pod = config.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).unwrap();
    of_pod.namespace_options = Some(options.clone());
    let of_main = main.linux.as_mut().and_then(|linux| linux.security_context.as_mut()).unwrap();
    of_main.namespace_options = Some(options);
    let sandbox = machine.engine.run_sandbox(config, "").await.unwrap();
    let id = machine.container(&sandbox, main).await;
    let of_host = |kind: &str| fs::read_link(format!("/proc/self/ns/{kind}")).unwrap().display().to_string();
    for kind in ["net", "pid", "ipc", "uts"] {
        let seen = machine.sh(&id, &format!("ls -l /proc/self/ns/{kind}")).await;
        assert!(seen.contains(&of_host(kind)), "{kind}: {seen}");
    }
    assert!(!machine.sh(&id, "ls -l /proc/self/ns/mnt").await.contains(&of_host("mnt")));

    let change =
        LinuxContainerResources { cpu_shares: 256, memory_limit_in_bytes: 64 << 20, ..Default::default() };
    machine.engine.update_container(&id, change).await.unwrap();
    let resources = machine.status(&id).await.resources.unwrap().linux.unwrap();
    assert_eq!((resources.cpu_shares, resources.memory_limit_in_bytes), (256, 64 << 20));
    let request = ContainerStatsRequest { container_id: id.clone() };
    let stats = RuntimeService::container_stats(&machine.engine, tonic::Request::new(request)).await.unwrap();
    let memory = stats.into_inner().stats.unwrap().memory.unwrap();
    assert!(memory.usage_bytes.unwrap().value > 0 && memory.available_bytes.unwrap().value < 64 << 20);
    let request = PodSandboxStatsRequest { pod_sandbox_id: sandbox.clone() };
    let stats =
        RuntimeService::pod_sandbox_stats(&machine.engine, tonic::Request::new(request)).await.unwrap();
    assert_eq!(stats.into_inner().stats.unwrap().linux.unwrap().containers.len(), 1);
    machine.engine.reopen_log(&id).await.unwrap();
    machine.finish().await;
}

async fn shared_processes() {
    let machine = Machine::new().await;
    let mut config = pod("shared");
    let share = |options: &mut plimsoll_cri::v1::NamespaceOption| options.set_pid(NamespaceMode::Pod);
    if let Some(options) = config
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
        .and_then(|security| security.namespace_options.as_mut())
    {
        share(options);
    }
    let sandbox = machine.engine.run_sandbox(config, "").await.unwrap();
    let mut config = shell("sleep 100");
    if let Some(options) = config
        .linux
        .as_mut()
        .and_then(|linux| linux.security_context.as_mut())
        .and_then(|security| security.namespace_options.as_mut())
    {
        share(options);
    }
    let id = machine.container(&sandbox, config.clone()).await;
    assert!(
        machine.sh(&id, "cat /proc/1/cmdline").await.starts_with("/pause"),
        "{}",
        machine.sh(&id, "ps").await
    );
    assert!(!machine.sh(&id, "ls /proc/1/root/ | head -n 3").await.contains("etc"));
    // A second container's end takes along what it left in the shared namespace.
    config.command = ["sh", "-c", "sleep 77 & exit 0"].map(str::to_owned).to_vec();
    let other = machine.container(&sandbox, config).await;
    assert_eq!(machine.end(&other).await.exit_code, 0);
    assert!(!machine.sh(&id, "ps").await.contains("sleep 77"));
    machine.finish().await;
}

async fn adoption() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let running =
        machine.script(&sandbox, "while [ ! -e /tmp/stop ]; do sleep 0.05; done; echo stopped; exit 5").await;
    let ends_alone = machine.script(&sandbox, "sleep 0.3; exit 6").await;
    let created = machine.engine.create_container(&sandbox, shell("exit 8"), None).await.unwrap();
    let Machine { engine, config, folder } = machine;
    drop(engine);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let engine = Engine::open(config.clone()).await.unwrap();
    assert_eq!(end(&engine, &ends_alone).await.exit_code, 6);
    assert_eq!(status(&engine, &running).await.state(), ContainerState::ContainerRunning);
    engine.start_container(&created).await.unwrap();
    assert_eq!(end(&engine, &created).await.exit_code, 8);
    let machine = Machine { engine, config, folder };
    machine.sh(&running, "echo > /tmp/stop").await;
    assert_eq!(machine.end(&running).await.exit_code, 5);
    assert!(machine.log(&sandbox).contains("stdout F stopped"));
    machine.finish().await;
}

async fn a_killed_shim() {
    let machine = Machine::new().await;
    let sandbox = machine.sandbox().await;
    let id = machine.script(&sandbox, "sleep 1000").await;
    let name = machine.config.data_dir.display().to_string();
    let shim: i32 = processes(&name).first().unwrap().parse().unwrap();
    kill(Pid::from_raw(shim), Signal::SIGKILL).unwrap();
    let status = machine.end(&id).await;
    assert_eq!((status.exit_code, status.message.as_str()), (255, "the shim process of the pod died"));
    let request = PodSandboxStatusRequest { pod_sandbox_id: sandbox.clone(), verbose: false };
    for _ in 0..200 {
        let answer =
            RuntimeService::pod_sandbox_status(&machine.engine, tonic::Request::new(request.clone())).await;
        if answer.unwrap().into_inner().status.unwrap().state() == PodSandboxState::SandboxNotready {
            break;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    machine.engine.remove_sandbox(&sandbox).await.unwrap();
    machine.finish().await;
}

async fn speed() {
    let machine = Machine::new().await;
    let (mut sandboxes, mut creates, mut starts, mut execs, mut stops) = (0.0, 0.0, 0.0, 0.0, 0.0);
    const ROUNDS: u32 = 10;
    let millis = |since: Instant| since.elapsed().as_secs_f64() * 1000.0;
    for _ in 0..ROUNDS {
        let begin = Instant::now();
        let sandbox = machine.sandbox().await;
        sandboxes += millis(begin);
        let begin = Instant::now();
        let id = machine.engine.create_container(&sandbox, shell("sleep 100"), None).await.unwrap();
        creates += millis(begin);
        let begin = Instant::now();
        machine.engine.start_container(&id).await.unwrap();
        starts += millis(begin);
        let begin = Instant::now();
        machine.sh(&id, "true").await;
        execs += millis(begin);
        let begin = Instant::now();
        machine.engine.remove_sandbox(&sandbox).await.unwrap();
        stops += millis(begin);
    }
    let sandbox = machine.sandbox().await;
    machine.script(&sandbox, "sleep 100").await;
    for pid in processes(&machine.folder.display().to_string()) {
        let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
        let memory = read("smaps_rollup");
        let lines = memory.lines().filter(|line| line.starts_with("Private") || line.starts_with("Pss:"));
        println!("{}: {}", read("comm").trim(), lines.collect::<Vec<_>>().join(" "));
    }
    let mean = |sum: f64| sum / f64::from(ROUNDS);
    println!(
        "mean ms: sandbox {:.1} create {:.1} start {:.1} exec {:.1} remove {:.1}",
        mean(sandboxes),
        mean(creates),
        mean(starts),
        mean(execs),
        mean(stops)
    );
    machine.finish().await;
}
