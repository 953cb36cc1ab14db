//! A real cluster of etcd as the store. Skipped where `etcd` (of Debian's etcd-server) is not in PATH.
#![expect(clippy::unwrap_used, reason = "tests")]

mod unfit;

use std::net::TcpListener;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use plimsoll_etcd::etcdserverpb::RangeRequest;
use plimsoll_etcd::etcdserverpb::kv_client::KvClient;
use plimsoll_etcd::mvccpb::KeyValue;
use plimsoll_pki::{Authority, Purpose, Request};
use plimsoll_store::{
    Alarm, Change, Cluster, Entry, EventKind, Expect, Membership, Options, Owner, Page, Revision, Store,
    StoreError, Value, Watch, WatchItem, examine, restore, restore_etcd,
};
use tempfile::TempDir;

/// Members on ports of this machine.
struct Etcd {
    members: Vec<Member>,
    _folder: TempDir,
}

struct Member {
    command: Command,
    endpoint: String,
    child: Child,
}

impl Etcd {
    /// None where there is no etcd.
    fn start(count: usize, flags: &[&str]) -> Option<Self> {
        Self::start_in(count, flags, |_, _, _| {})
    }

    /// The same; `prepare` is told of each member's directory, its name, and all members.
    fn start_in(count: usize, flags: &[&str], prepare: impl Fn(&Path, &str, &str)) -> Option<Self> {
        let path = std::env::var_os("PATH")?;
        let program: PathBuf =
            std::env::split_paths(&path).map(|folder| folder.join("etcd")).find(|file| file.is_file())?;
        let folder = tempfile::tempdir().unwrap();
        let secure = flags.iter().any(|flag| flag.starts_with("--cert-file"));
        let scheme = |url: String| if secure { url.replace("http:", "https:") } else { url };
        let addresses: Vec<_> = (0..count).map(|_| (scheme(free()), free())).collect();
        let cluster: Vec<_> =
            addresses.iter().enumerate().map(|(number, (_, peer))| format!("m{number}={peer}")).collect();
        let member = |(number, (serve, peer)): (usize, &(String, String))| {
            let data = folder.path().join(number.to_string());
            prepare(&data, &format!("m{number}"), &cluster.join(","));
            let mut command = Command::new(&program);
            command
                .arg(format!("--name=m{number}"))
                .arg(format!("--data-dir={}", data.display()))
                .args([format!("--listen-client-urls={serve}"), format!("--advertise-client-urls={serve}")])
                .args([format!("--listen-peer-urls={peer}"), format!("--initial-advertise-peer-urls={peer}")])
                .arg(format!("--initial-cluster={}", cluster.join(",")))
                .args(["--heartbeat-interval=50", "--election-timeout=500"])
                .args(flags)
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let child = command.spawn().unwrap();
            Member { command, endpoint: serve.clone(), child }
        };
        let members = addresses.iter().enumerate().map(member).collect();
        Some(Self { members, _folder: folder })
    }

    async fn store(&self) -> Store {
        let endpoints = self.members.iter().map(|member| member.endpoint.clone()).collect();
        let options = Options { compaction_interval: None, ..Options::default() };
        Store::connect(&Cluster::plain(endpoints, place), options).await.unwrap()
    }

    fn kill(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.child.kill().unwrap();
        member.child.wait().unwrap();
    }

    fn restart(&mut self, number: usize) {
        let member = &mut self.members[number];
        member.child = member.command.spawn().unwrap();
    }

    /// The number of the member that leads.
    fn leader(&self, store: &Store) -> usize {
        let known = store.members();
        let leader = known.iter().find(|member| member.id == member.leader).unwrap();
        self.members.iter().position(|member| member.endpoint == leader.endpoint).unwrap()
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.child.kill();
            let _ = member.child.wait();
        }
    }
}

fn free() -> String {
    format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap())
}

/// Values are `revision=…;`.
fn place(bytes: &[u8]) -> Option<Range<usize>> {
    let end = bytes.iter().position(|byte| *byte == b';')?;
    bytes.starts_with(b"revision=").then_some(9..end)
}

fn value(text: &str) -> Value {
    Value::spliced("revision=", format!(";{text}"))
}

fn put(text: &str) -> Change {
    Change::Put(value(text))
}

/// What a watch says next, as `+key revision` or `-key revision`, and the value.
async fn next(watch: &mut Watch) -> (String, String) {
    let item = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap().unwrap();
    let WatchItem::Event(event) = item;
    let sign = if event.kind == EventKind::Put { '+' } else { '-' };
    let text = String::from_utf8(event.entry.value.to_vec()).unwrap();
    (format!("{sign}{} {}", event.entry.key, event.revision().0), text)
}

#[tokio::test(flavor = "multi_thread")]
async fn etcd_keeps_what_the_embedded_log_would() {
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    let (store, other) = (etcd.store().await, etcd.store().await);
    let mut watch = other.watch("/registry/a/", Some(other.revision())).unwrap();

    let one = store.commit("/registry/a/1", Expect::Absent, put("one")).await.unwrap();
    assert_eq!(one.value, format!("revision={};one", one.modified));
    assert_eq!((one.create, one.version), (one.modified, 1));
    assert_eq!(store.get("/registry/a/1").unwrap().value, one.value, "who writes reads it");
    let taken = store.commit("/registry/a/1", Expect::Absent, put("again")).await.unwrap_err();
    assert!(matches!(taken, StoreError::Precondition { current: Some(entry) } if entry.value == one.value));

    // All steps are one revision, and a watcher gets all of them.
    let steps = |expect| {
        let step = |name: &str, expect| (format!("/registry/a/{name}"), expect, put(name));
        vec![step("2", Expect::Absent), step("3", Expect::Absent), step("1", expect)]
    };
    let refused = store.commit_many(steps(Expect::Revision(Revision(1)))).await.unwrap_err();
    assert!(matches!(refused, StoreError::PreconditionAt { step: 2, current: Some(_) }), "{refused}");
    let many = store.commit_many(steps(Expect::Revision(one.modified))).await.unwrap();
    let at = many[0].modified;
    assert!(many.iter().all(|entry| entry.modified == at) && many[2].version == 2);
    let gone =
        store.commit("/registry/a/2", Expect::Revision(at), Change::Delete(value("last"))).await.unwrap();
    let nothing = store.commit("/registry/a/2", Expect::Any, Change::Delete(value("last"))).await;
    assert!(matches!(nothing, Err(StoreError::Precondition { current: None })));

    let expected = [
        (format!("+/registry/a/1 {}", one.modified), format!("revision={};one", one.modified)),
        (format!("+/registry/a/2 {at}"), format!("revision={at};2")),
        (format!("+/registry/a/3 {at}"), format!("revision={at};3")),
        (format!("+/registry/a/1 {at}"), format!("revision={at};1")),
        (format!("-/registry/a/2 {}", gone.modified), format!("revision={};2", gone.modified)),
    ];
    for expected in expected {
        assert_eq!(next(&mut watch).await, expected);
    }

    // The past is read from memory.
    other.catch_up().await.unwrap();
    assert_eq!(other.get_at("/registry/a/1", one.modified).unwrap().unwrap().value, one.value);
    let page = other.range("/registry/a/", None, 2, Some(at)).unwrap();
    assert_eq!((page.entries.len(), page.more, page.revision), (2, true, at));
    let rest = other.range("/registry/a/", Some(&page.entries[1].key), 2, Some(at)).unwrap();
    assert_eq!(&*rest.entries[0].key, "/registry/a/3");

    // What others write is there when it is asked for, and revisions go on with keys that are not ours.
    for number in 0..20 {
        let written = store.commit("/registry/b/1", Expect::Any, put(&number.to_string())).await.unwrap();
        other.catch_up().await.unwrap();
        assert_eq!(other.get("/registry/b/1").unwrap().modified, written.modified);
    }

    let short = value("short").with_ttl(Some(Duration::from_millis(900)));
    store.commit("/registry/a/9", Expect::Absent, Change::Put(short)).await.unwrap();
    assert!(next(&mut watch).await.0.starts_with("+/registry/a/9"));
    assert!(next(&mut watch).await.0.starts_with("-/registry/a/9"), "its time is over");

    let (members, advice) =
        examine(&Cluster::plain(vec![etcd.members[0].endpoint.clone()], place)).await.unwrap();
    assert_eq!((members.len(), members[0].id), (1, members[0].leader));
    assert!(advice.iter().all(|advice| advice.contains("percentile")), "{advice:?}");
    let folder = tempfile::tempdir().unwrap();
    let (copy, made) = (folder.path().join("copy"), folder.path().join("made"));
    let summary = store.save(&copy, "c").await.unwrap();
    // The embedded log takes it over.
    restore(&copy, &made, Some(Owner { cluster: "c", place }), 1000).unwrap();
    let log = Store::open(&made, Options::default()).unwrap();
    assert_eq!(log.revision().0, summary.revision.0 + 1000);
    let rows = |store: &Store| {
        let row = |entry: &Arc<Entry>| (entry.key.to_string(), entry.modified, entry.value.clone());
        store.range("/registry/", None, 0, None).unwrap().entries.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows(&log), rows(&store));
    // And etcd its.
    log.save_for_etcd(&copy, "c").await.unwrap();
    let (data, peer) = (folder.path().join("etcd"), free());
    let flags = [
        "--name=m0".to_owned(),
        format!("--initial-cluster=m0={peer}"),
        format!("--initial-advertise-peer-urls={peer}"),
    ];
    let restored = Command::new("etcdctl")
        .env("ETCDCTL_API", "3")
        .args(["snapshot", "restore"])
        .arg(&copy)
        .arg(format!("--data-dir={}", data.display()))
        .args(&flags)
        .output();
    if let Ok(restored) = restored {
        assert!(restored.status.success(), "{restored:?}");
        let serve = free();
        let mut process = Command::new("etcd")
            .arg(format!("--data-dir={}", data.display()))
            .args(&flags)
            .args([format!("--listen-client-urls={serve}"), format!("--advertise-client-urls={serve}")])
            .arg(format!("--listen-peer-urls={peer}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let found = Store::connect(&Cluster::plain(vec![serve], place), Options::default()).await;
        let found = found.map(|found| (found.revision(), rows(&found)));
        process.kill().unwrap();
        process.wait().unwrap();
        assert_eq!(found.unwrap(), (log.revision(), rows(&log)));
    }
    // A server that comes now has everything, and no past but etcd's.
    let late = etcd.store().await;
    let keys = |page: &Page| page.entries.iter().map(|entry| entry.key.to_string()).collect::<Vec<_>>();
    let again = late.range("/registry/a/", None, 2, Some(at)).unwrap();
    assert_eq!((keys(&again), again.more, again.remaining, again.revision), (keys(&page), true, 1, at));
    assert_eq!(again.entries[0].value, page.entries[0].value);
    let end = late.range("/registry/a/", Some(&again.entries[1].key), 0, Some(at)).unwrap();
    assert_eq!((keys(&end), end.more), (keys(&rest), false));
    store.compact(store.revision()).await.unwrap();
    store.reclaim().await.unwrap();
    let gone = late.range("/registry/a/", None, 2, Some(at));
    assert!(matches!(gone, Err(StoreError::Compacted { .. })));
    assert_eq!(late.count("/registry/"), store.count("/registry/"));
    assert!(matches!(late.watch("/", Some(one.modified)), Err(StoreError::Compacted { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn members_may_fail_without_a_lost_or_doubled_event() {
    let Some(mut etcd) = Etcd::start(3, &[]) else { return };
    let store = etcd.store().await;
    let mut watch = store.watch("/registry/n/", Some(store.revision())).unwrap();
    let mut written = Vec::new();
    for round in 0..3 {
        let victim = if round == 0 { (etcd.leader(&store) + 1) % 3 } else { etcd.leader(&store) };
        for number in 0..30 {
            if number == 10 {
                etcd.kill(victim);
            }
            let key = format!("/registry/n/{round}-{number}");
            // What is not known to have happened is tried again, as a client would.
            let entry = loop {
                match store.commit(&key, Expect::Absent, put("x")).await {
                    Ok(entry) => break entry,
                    Err(StoreError::Precondition { current: Some(entry) }) => break entry,
                    Err(StoreError::Unavailable(_)) => {}
                    Err(other) => panic!("{other}"),
                }
            };
            written.push(format!("+{key} {}", entry.modified.0));
        }
        etcd.restart(victim);
        until(|| store.members().len() == 3 && store.members().iter().all(|member| member.leader != 0)).await;
        store.catch_up().await.unwrap();
    }
    for expected in written {
        assert_eq!(next(&mut watch).await.0, expected);
    }
    assert!(watch.ready().is_none(), "nothing comes twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_cluster_finds_room_again() {
    let Some(etcd) = Etcd::start(1, &["--quota-backend-bytes=16777216"]) else { return };
    let store = etcd.store().await;
    let text = "x".repeat(500_000);
    let mut refused = false;
    for _ in 0..200 {
        match store.commit("/registry/big", Expect::Any, put(&text)).await {
            Ok(_) => {}
            Err(StoreError::NoSpace) => {
                refused = true;
                break;
            }
            Err(other) => panic!("{other}"),
        }
    }
    assert!(refused, "etcd has no quota");
    let mut alarm = store.alarm();
    tokio::time::timeout(Duration::from_secs(20), alarm.wait_for(|alarm| *alarm == Alarm::None))
        .await
        .unwrap()
        .unwrap();
    store.commit("/registry/big", Expect::Any, put(&text)).await.unwrap();
    assert_eq!(store.stats().unwrap().recoveries, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn members_and_clients_show_certificates() {
    let folder = tempfile::tempdir().unwrap();
    let ca = Authority::ensure(folder.path(), "ca", "etcd-ca").unwrap();
    let member = Request {
        purpose: Purpose::Both,
        addresses: vec!["127.0.0.1".parse().unwrap()],
        ..Request::client("member", &[])
    };
    let member = ca.ensure_issued(folder.path(), "member", &member).unwrap();
    let client = ca.ensure_issued(folder.path(), "client", &Request::client("apiserver", &[])).unwrap();
    let flags = [
        format!("--cert-file={}", member.certificate.display()),
        format!("--key-file={}", member.key.display()),
        format!("--trusted-ca-file={}", ca.certificate().display()),
        "--client-cert-auth".to_owned(),
    ];
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let Some(etcd) = Etcd::start(1, &flags) else { return };
    let cluster = Cluster {
        endpoints: vec![etcd.members[0].endpoint.clone()],
        authority: Some(ca.certificate().into()),
        identity: Some((client.certificate, client.key)),
        place,
    };
    let store = Store::connect(&cluster, Options::default()).await.unwrap();
    store.commit("/registry/a/1", Expect::Absent, put("one")).await.unwrap();
    assert_eq!(examine(&cluster).await.unwrap().0.len(), 1);
    let nobody = Cluster { identity: None, ..cluster.clone() };
    let refused = Store::connect(&nobody, Options::default()).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("--datastore-certfile"), "{refused}");
    let stranger = Authority::ensure(folder.path(), "other", "other-ca").unwrap();
    let doubted = Cluster { authority: Some(stranger.certificate().into()), ..cluster };
    let refused = Store::connect(&doubted, Options::default()).await.map(|_| ()).unwrap_err().to_string();
    assert!(refused.contains("certificate"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_the_store_is_refused() {
    let refusal = async |endpoint: &str| {
        let cluster = Cluster::plain(vec![endpoint.to_owned()], place);
        Store::connect(&cluster, Options::default()).await.map(|_| ()).unwrap_err().to_string()
    };
    assert!(refusal("ftp://x:1").await.contains("begins with neither http"));
    let nobody = refusal(&free()).await;
    assert!(nobody.contains("does not serve") && nobody.contains("refused"), "{nobody}");
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    let store = etcd.store().await;
    let foreign = Change::Put(Value::plain("k8s"));
    // Not even who wrote it can read it.
    let _ = store.commit("/registry/pods/x", Expect::Absent, foreign).await;
    let found = refusal(&etcd.members[0].endpoint).await;
    assert!(found.contains("\"/registry/pods/x\" that Plimsoll did not write"), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_becomes_a_cluster_of_etcd() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("copy");
    let store = Store::open(&folder.path().join("store"), Options::default()).unwrap();
    for number in 0..500 {
        store.commit(&format!("/registry/s/{}", number % 300), Expect::Any, put("x")).await.unwrap();
    }
    store.commit("/registry/s/7", Expect::Any, Change::Delete(value("gone"))).await.unwrap();
    let short = value("short").with_ttl(Some(Duration::from_secs(900)));
    store.commit("/registry/short", Expect::Absent, Change::Put(short)).await.unwrap();
    let summary = store.save(&file, "c").await.unwrap();
    let members = |list: &str| Membership::read("m0", list, "etcd-cluster").unwrap();
    let taken = restore_etcd(&file, folder.path(), &members("m0=http://x"), 0).unwrap_err();
    assert!(matches!(taken, StoreError::NotEmpty { .. }));
    let etcd = Etcd::start_in(3, &[], |data, name, list| {
        let membership = Membership { name: name.to_owned(), ..members(list) };
        restore_etcd(&file, data, &membership, 1000).unwrap();
        assert_eq!(
            std::fs::read_dir(data.parent().unwrap()).unwrap().count(),
            1 + name[1..].parse::<usize>().unwrap()
        );
    });
    let Some(etcd) = etcd else { return };
    let found = etcd.store().await;
    let rows = |store: &Store| {
        let row = |entry: &Arc<Entry>| (entry.key.to_string(), entry.modified, entry.value.clone());
        store.range("/registry/s/", None, 0, None).unwrap().entries.iter().map(row).collect::<Vec<_>>()
    };
    assert_eq!(rows(&found), rows(&store));
    assert!(found.revision().0 >= summary.revision.0 + 1000);
    assert!(matches!(found.watch("/", Some(summary.revision)), Err(StoreError::Compacted { .. })));
    found.commit("/registry/s/7", Expect::Absent, put("again")).await.unwrap();
    // etcd has no keys that expire by themselves.
    assert!(pair(&etcd.members[0].endpoint, "/registry/short").await.lease != 0);
}

/// A machine that does nothing for half of the time, as one whose disk is too slow; well again when dropped.
struct Slow {
    process: Pid,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Slow {
    fn start(process: u32) -> Self {
        const TIME: Duration = Duration::from_millis(40);
        let process = Pid::from_raw(process as i32);
        let stop = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                for signal in [Signal::SIGSTOP, Signal::SIGCONT] {
                    kill(process, signal).unwrap();
                    std::thread::sleep(TIME);
                }
            }
        });
        Self { process, stop, thread: Some(thread) }
    }
}

impl Drop for Slow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        let _ = self.thread.take().map(JoinHandle::join);
        let _ = kill(self.process, Signal::SIGCONT);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_disk_loses_nothing_and_is_named_with_its_remedy() {
    let Some(etcd) = Etcd::start(3, &[]) else { return };
    let store = etcd.store().await;
    let mut watch = store.watch("/registry/s/", Some(store.revision())).unwrap();
    // The leader's syncs hold every write up.
    let slow = &etcd.members[etcd.leader(&store)];
    let slowness = Slow::start(slow.child.id());
    for number in 0..250 {
        store.commit(&format!("/registry/s/{number:03}"), Expect::Absent, put("x")).await.unwrap();
    }
    for number in 0..250 {
        assert!(next(&mut watch).await.0.starts_with(&format!("+/registry/s/{number:03} ")));
    }
    let endpoints = etcd.members.iter().map(|member| member.endpoint.clone()).collect();
    let cluster = Cluster::plain(endpoints, place);
    let named = |advice: &String| advice.starts_with(&slow.endpoint) && advice.contains("--wal-dir");
    // How many of the syncs are slow depends on when they meet the stops.
    let started = Instant::now();
    loop {
        let (_, advice) = examine(&cluster).await.unwrap();
        if advice.iter().any(named) {
            break;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "{advice:?}");
        for _ in 0..50 {
            store.commit("/registry/more", Expect::Any, put("x")).await.unwrap();
        }
    }
    drop(slowness);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_several_servers_compacts() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let Some(etcd) = Etcd::start(1, &[]) else { return };
    let since = Instant::now();
    let mut stores = Vec::new();
    for _ in 0..3 {
        let options = Options { compaction_interval: Some(INTERVAL), ..Options::default() };
        let cluster = Cluster::plain(vec![etcd.members[0].endpoint.clone()], place);
        stores.push(Store::connect(&cluster, options).await.unwrap());
    }
    let first = stores[0].commit("/registry/c", Expect::Any, put("x")).await.unwrap().modified;
    let late = etcd.store().await;
    // Whoever came later than a revision asks etcd for it.
    until(|| {
        let page = late.range("/registry/", None, 0, Some(Revision(first.0 - 1)));
        matches!(page, Err(StoreError::Compacted { .. }))
    })
    .await;
    // Each turn is one server's: it writes their key once.
    let turns = pair(&etcd.members[0].endpoint, "compact_rev_key").await.version;
    assert!(
        turns >= 2 && turns <= 2 + (since.elapsed().as_millis() / INTERVAL.as_millis()) as i64,
        "{turns}"
    );
    for store in &stores {
        store.commit("/registry/c", Expect::Any, put("y")).await.unwrap();
    }
}

/// A key as etcd has it.
async fn pair(endpoint: &str, key: &str) -> KeyValue {
    let mut client = KvClient::connect(endpoint.to_owned()).await.unwrap();
    let request = RangeRequest { key: key.to_owned().into(), ..RangeRequest::default() };
    client.range(request).await.unwrap().into_inner().kvs.remove(0)
}

async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..600 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it does not come about");
}
