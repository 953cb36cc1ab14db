//! Pulls and pushes against a real registry: Debian's `docker-registry`.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use plimsoll_oci::{Auth, Error, ImageStore, Phase, Progress, ProgressFn, Registries};

const BINARY: &str = "docker-registry";
/// `user` with the password `pass`.
const PASSWORDS: &str = "user:$2y$05$abcdefghijklmnopqrstuuZFBUbfXoM8LFiPx8LYlO/sXZB/Cwk3K\n";

/// A registry on a port of its own; ends when dropped.
struct Registry {
    process: Child,
    port: u16,
}

impl Registry {
    fn start(dir: &Path, auth: Option<&Path>) -> Option<Self> {
        let port = free_port();
        let auth = auth.map_or(String::new(), |path| {
            format!("auth:\n  htpasswd:\n    realm: test\n    path: {}\n", path.display())
        });
        let config = format!(
            "version: 0.1\nlog:\n  level: error\nstorage:\n  filesystem:\n    rootdirectory: {}\n\
             http:\n  addr: 127.0.0.1:{port}\n{auth}",
            dir.join("registry").display()
        );
        fs::write(dir.join("config.yml"), config).unwrap();
        let command = Command::new(BINARY)
            .arg("serve")
            .arg(dir.join("config.yml"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match command {
            Ok(process) => process,
            Err(error) => {
                eprintln!("skipped: {BINARY}: {error}");
                return None;
            }
        };
        let registry = Self { process, port };
        let begun = Instant::now();
        while TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not listen");
            std::thread::sleep(Duration::from_millis(20));
        }
        Some(registry)
    }

    fn name(&self, path: &str) -> String {
        format!("127.0.0.1:{}/{path}", self.port)
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn quiet() -> ProgressFn {
    Arc::new(|_| {})
}

/// A layer with one file.
fn layer(name: &str, content: &[u8]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(0o644);
    tar.append_data(&mut header, name, content).unwrap();
    tar.into_inner().unwrap()
}

/// An image of several layers, as `docker save` writes it.
fn archive(tag: &str, contents: &[&[u8]]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    let layers: Vec<Vec<u8>> =
        contents.iter().enumerate().map(|(n, content)| layer(&format!("file{n}"), content)).collect();
    let ids: Vec<String> = layers.iter().map(|layer| plimsoll_oci::Digest::of(layer).to_string()).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" },
        "os": "linux", "config": {"Cmd": ["/x"]}, "rootfs": {"type": "layers", "diff_ids": ids},
    });
    let names: Vec<String> = (0..layers.len()).map(|n| format!("{n}.tar")).collect();
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": [tag], "Layers": names}]);
    for (name, layer) in names.iter().zip(&layers) {
        add(name, layer);
    }
    add("config.json", config.to_string().as_bytes());
    add("manifest.json", manifest.to_string().as_bytes());
    tar.into_inner().unwrap()
}

fn store(dir: &Path, name: &str) -> ImageStore {
    ImageStore::open(dir.join(name)).unwrap()
}

/// Bytes that do not compress and repeat.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_go_and_come_back() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), None) else { return };
    let here = store(dir.path(), "here");
    let name = registry.name("team/app:v1");
    let big = noise(3 << 20);
    let image =
        here.load_stream(archive(&name, &[b"one", &big, b"three"]).as_slice()).unwrap().remove(0).image;
    let digest = here.push(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    let by_digest = format!("{}@{digest}", registry.name("team/app"));
    assert_eq!(here.resolve(&by_digest).unwrap().id, image.id);

    let there = store(dir.path(), "there");
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let progress: ProgressFn = Arc::new(move |progress: Progress| keep.lock().unwrap().push(progress));
    let pulled = there.pull(&name, &Auth::Anonymous, &Registries::default(), progress).await.unwrap();
    assert_eq!((pulled.id, pulled.manifest()), (image.id, digest));
    assert_eq!(pulled.repo_tags, std::slice::from_ref(&name));
    assert_eq!(pulled.repo_digests, std::slice::from_ref(&by_digest));
    assert!(fs::read(pulled.layer_dirs[1].join("file1")).unwrap() == big);
    let seen = seen.lock().unwrap().clone();
    assert!(seen.iter().any(|p| p.phase == Phase::Transfer && p.done == p.total && p.total > 3 << 20));
    assert!(seen.iter().any(|p| p.phase == Phase::Unpacking));

    // Again: nothing is transferred. By digest: no tag is made.
    let again = there.pull(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    assert_eq!(again.id, image.id);
    let third = store(dir.path(), "third");
    let pinned = third.pull(&by_digest, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    assert_eq!((pinned.repo_tags.len(), pinned.repo_digests.clone()), (0, vec![by_digest]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn interrupted_downloads_go_on() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), None) else { return };
    let here = store(dir.path(), "here");
    let big = noise(5 << 20);
    let name = registry.name("big:1");
    here.load_stream(archive(&name, &[&big]).as_slice()).unwrap();
    here.push(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();

    // Between them stands somebody who hangs up after each mebibyte.
    let port = free_port();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    let target = registry.port;
    std::thread::spawn(move || listener.incoming().flatten().for_each(|client| hang_up(client, target)));
    let there = store(dir.path(), "there");
    let through = format!("127.0.0.1:{port}/big:1");
    let pulled = there.pull(&through, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    assert!(fs::read(pulled.layer_dirs[0].join("file0")).unwrap() == big);

    // A part that an earlier try left is used; a wrong one is found out and not kept.
    let blob = here.list()[0].clone();
    let layer = fs::read_dir(here.root().join("blobs/sha256"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.metadata().unwrap().len() > 5 << 20)
        .unwrap();
    let bytes = fs::read(&layer).unwrap();
    let third = store(dir.path(), "third");
    let partial = third.root().join("partial").join(layer.file_name().unwrap());
    fs::write(&partial, vec![0; 1 << 20]).unwrap();
    let error = third.pull(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap_err();
    assert!(matches!(error, Error::Mismatch { .. }), "{error}");
    assert!(!partial.exists());
    fs::write(&partial, &bytes[..bytes.len() - 1]).unwrap();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let keep = seen.clone();
    let progress: ProgressFn = Arc::new(move |progress: Progress| keep.lock().unwrap().push(progress));
    assert_eq!(
        third.pull(&name, &Auth::Anonymous, &Registries::default(), progress).await.unwrap().id,
        blob.id
    );
    let first = seen.lock().unwrap().iter().find(|p| p.total as usize == bytes.len()).copied().unwrap();
    assert_eq!((first.phase, first.done as usize), (Phase::Transfer, bytes.len() - 1));
}

/// Passes requests on, and at most so much of the answers.
fn hang_up(mut client: TcpStream, port: u16) {
    std::thread::spawn(move || {
        let mut server = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
        std::thread::spawn(move || std::io::copy(&mut from_client, &mut to_server));
        let mut left = 1usize << 20;
        let mut buffer = [0; 16 << 10];
        while let Ok(count @ 1..) = server.read(&mut buffer) {
            let count = count.min(left);
            left -= count;
            if client.write_all(&buffer[..count]).is_err() || left == 0 {
                break;
            }
        }
        let _ = client.shutdown(std::net::Shutdown::Both);
        let _ = server.shutdown(std::net::Shutdown::Both);
    });
}

/// The files of a registry, by their sizes.
fn files_below(folder: &Path, found: &mut Vec<(u64, std::path::PathBuf)>) {
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let meta = entry.metadata().unwrap();
        if meta.is_dir() {
            files_below(&entry.path(), found);
        } else {
            found.push((meta.len(), entry.path()));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_layer_is_refused_until_it_is_mended() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), None) else { return };
    let (here, there) = (store(dir.path(), "here"), store(dir.path(), "there"));
    let name = registry.name("damaged:1");
    let image = here.load_stream(archive(&name, &[&noise(1 << 20)]).as_slice()).unwrap().remove(0).image;
    here.push(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    let mut files = Vec::new();
    files_below(&dir.path().join("registry"), &mut files);
    let (length, layer) = files.into_iter().max().unwrap();
    let good = fs::read(&layer).unwrap();
    fs::write(&layer, vec![7; usize::try_from(length).unwrap()]).unwrap();
    let error = there.pull(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap_err();
    let text = error.to_string();
    assert!(text.starts_with("downloaded blob: content has digest sha256:"), "{text}");
    assert!(there.list().is_empty(), "nothing of it is kept");
    fs::write(&layer, good).unwrap();
    let pulled = there.pull(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    assert_eq!(pulled.id, image.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn registries_want_credentials() {
    let dir = tempfile::tempdir().unwrap();
    let passwords = dir.path().join("passwords");
    fs::write(&passwords, PASSWORDS).unwrap();
    let Some(registry) = Registry::start(dir.path(), Some(&passwords)) else { return };
    let here = store(dir.path(), "here");
    let name = registry.name("private:1");
    here.load_stream(archive(&name, &[b"secret"]).as_slice()).unwrap();
    let registries = Registries::default();
    let right = Auth::Basic { user: "user".into(), password: "pass".into() };
    let wrong = Auth::Basic { user: "user".into(), password: "nope".into() };
    for auth in [Auth::Anonymous, wrong] {
        let error = here.push(&name, &auth, &registries, quiet()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized { .. }), "{auth:?}: {error}");
        let error = store(dir.path(), "no").pull(&name, &auth, &registries, quiet()).await.unwrap_err();
        assert!(error.to_string().contains("unauthorized: authentication required"), "{auth:?}: {error}");
    }
    here.push(&name, &right, &registries, quiet()).await.unwrap();
    store(dir.path(), "there").pull(&name, &right, &registries, quiet()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_are_those_that_users_know() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), None) else { return };
    let here = store(dir.path(), "here");
    let pull = async |name: &str| {
        let answer = here.pull(name, &Auth::Anonymous, &Registries::default(), quiet()).await;
        answer.unwrap_err().to_string()
    };
    let missing = registry.name("nope:1");
    assert_eq!(pull(&missing).await, format!("manifest for {missing} not found: manifest unknown"));
    let closed = format!("127.0.0.1:{}", free_port());
    assert_eq!(
        pull(&format!("{closed}/x:1")).await,
        format!("registry {closed} cannot be reached: connection refused")
    );
    assert!(pull("No/Such Name").await.starts_with("invalid reference format"));
    let error = here.push("nope", &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap_err();
    assert_eq!(error.to_string(), "no such image: docker.io/library/nope:latest");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mirrors_are_asked_first() {
    let dir = tempfile::tempdir().unwrap();
    let Some(registry) = Registry::start(dir.path(), None) else { return };
    let here = store(dir.path(), "here");
    let name = registry.name("library/hello:1");
    let image = here.load_stream(archive(&name, &[b"hi"]).as_slice()).unwrap().remove(0).image;
    here.push(&name, &Auth::Anonymous, &Registries::default(), quiet()).await.unwrap();
    let dead = format!("127.0.0.1:{}", free_port());
    let mirrors = [("docker.io".to_owned(), vec![dead, format!("127.0.0.1:{}", registry.port)])].into();
    let registries = Registries { mirrors, ..Registries::default() };
    let there = store(dir.path(), "there");
    there.pull("hello:1", &Auth::Anonymous, &registries, quiet()).await.unwrap();
    assert_eq!(there.resolve("docker.io/library/hello:1").unwrap().id, image.id);
}
