//! Builds from start to end. They mount, so they need root.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::sync::Mutex;

use super::*;

/// A store, a context with files, and what the last build told.
struct Bench {
    _dir: tempfile::TempDir,
    store: ImageStore,
    context: PathBuf,
    told: Mutex<Vec<String>>,
}

impl Bench {
    fn new() -> Option<Self> {
        if !nix::unistd::Uid::effective().is_root() {
            eprintln!("skipped: needs root");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        let context = dir.path().join("context");
        fs::create_dir(&context).unwrap();
        Some(Self { _dir: dir, store, context, told: Mutex::default() })
    }

    fn file(&self, path: &str, content: impl AsRef<[u8]>) -> &Self {
        let path = self.context.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
        self
    }

    fn build(&self, dockerfile: &str) -> Result<Arc<Image>> {
        self.build_with(dockerfile, BuildOptions::default())
    }

    fn build_with(&self, dockerfile: &str, options: BuildOptions) -> Result<Arc<Image>> {
        self.file("Dockerfile", dockerfile);
        self.told.lock().unwrap().clear();
        let options = BuildOptions { context: self.context.clone(), ..options };
        let base = |name: &str| self.store.find(name);
        self.store.build(&options, &Namespaces, &base, &|event| {
            let text = match event {
                Event::Cached => "cached".into(),
                Event::Output(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Event::Warning(text) => format!("warning: {text}"),
                _ => return,
            };
            self.told.lock().unwrap().push(text);
        })
    }

    fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// The files of an image as they would be mounted: `path` or `path=content`, later layers win.
fn files(image: &Image) -> BTreeMap<String, String> {
    fn walk(root: &Path, dir: &Path, all: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().display().to_string();
            let metadata = path.symlink_metadata().unwrap();
            if metadata.is_dir() {
                walk(root, &path, all);
                all.entry(name + "/").or_default();
            } else if metadata.is_file() {
                let large = metadata.len() > 4096;
                let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
                all.insert(name, if large { "large".into() } else { text(fs::read(&path).unwrap()) });
            } else if metadata.is_symlink() {
                all.insert(name, format!("-> {}", fs::read_link(&path).unwrap().display()));
            } else if metadata.rdev() == 0 {
                let below = format!("{name}/");
                all.retain(|other, _| *other != name && !other.starts_with(&below));
            }
        }
    }
    let mut all = BTreeMap::new();
    image.layer_dirs.iter().for_each(|layer| walk(layer, layer, &mut all));
    all
}

fn names(image: &Image) -> Vec<String> {
    let all = files(image).into_iter();
    all.map(|(name, content)| if content.is_empty() { name } else { format!("{name}={content}") }).collect()
}

fn config(bench: &Bench, image: &Image) -> serde_json::Value {
    let document: serde_json::Value =
        serde_json::from_slice(&bench.store.configuration(image).unwrap()).unwrap();
    document["config"].clone()
}

/// FROM scratch with busybox as its only program.
fn busybox(bench: &Bench) -> Option<&Bench> {
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).find_map(|folder| fs::read(folder.join("busybox")).ok());
    match found {
        Some(bytes) => {
            bench.file("busybox", bytes);
            let program = bench.context.join("busybox");
            fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
            Some(bench)
        }
        None => {
            eprintln!("skipped: no busybox in PATH");
            None
        }
    }
}

const SYSTEM: &str =
    "FROM scratch AS system\nCOPY busybox /bin/busybox\nRUN [\"/bin/busybox\", \"--install\", \"/bin\"]\n";

#[test]
fn copies_follow_dockers_rules() {
    let Some(bench) = Bench::new() else { return };
    bench
        .file("a.txt", "a")
        .file("b.txt", "b")
        .file("dir/x", "x")
        .file("dir/sub/y", "y")
        .file("dir/z.log", "z");
    symlink("x", bench.context.join("dir/link")).unwrap();
    symlink("../../../etc/passwd", bench.context.join("dir/escape")).unwrap();
    bench.file(".dockerignore", "*.md\ndir/*.log\n").file("README.md", "no");
    let rows: &[(&str, &[&str])] = &[
        ("COPY a.txt /", &["a.txt=a"]),
        ("COPY a.txt /b", &["b=a"]),
        ("COPY a.txt /b/", &["b/", "b/a.txt=a"]),
        ("COPY a.txt b.txt /d/", &["d/", "d/a.txt=a", "d/b.txt=b"]),
        ("COPY *.txt /d/", &["d/", "d/a.txt=a", "d/b.txt=b"]),
        ("COPY [ab].txt /d/", &["d/", "d/a.txt=a", "d/b.txt=b"]),
        (
            "COPY dir /d",
            &["d/", "d/escape=-> ../../../etc/passwd", "d/link=-> x", "d/sub/", "d/sub/y=y", "d/x=x"],
        ),
        ("COPY dir/ /", &["escape=-> ../../../etc/passwd", "link=-> x", "sub/", "sub/y=y", "x=x"]),
        ("COPY dir/sub dir/x /d/", &["d/", "d/x=x", "d/y=y"]),
        ("COPY dir/link /d", &["d=x"]),
        ("COPY ../../a.txt /", &["a.txt=a"]),
        ("WORKDIR /w\nCOPY a.txt .", &["w/", "w/a.txt=a"]),
        ("WORKDIR /w\nWORKDIR v\nCOPY a.txt u", &["w/", "w/v/", "w/v/u=a"]),
        ("ENV D=/e\nCOPY a.txt $D/${N:-name}", &["e/", "e/name=a"]),
        ("COPY <<EOF /f\n$HOME-\"x\"\nEOF", &["f=-\"x\"\n"]),
        ("COPY <<'EOF' <<two /d/\n$HOME\nEOF\n2\ntwo", &["d/", "d/EOF=$HOME\n", "d/two=2\n"]),
    ];
    for (text, want) in rows {
        let image = bench.build(&format!("FROM scratch\n{text}")).unwrap();
        assert_eq!(names(&image), *want, "{text}");
    }
    for (text, want) in [
        ("COPY nope /", "\"nope\": not found"),
        ("COPY README.md /", "\"README.md\": not found"),
        ("COPY *.md /", "\"*.md\": not found"),
        ("COPY a.txt b.txt /d", "the destination must be a directory"),
        ("COPY --chmod=x a.txt /", "invalid chmod"),
        ("COPY --chown=web a.txt /", "unable to find user web"),
        ("COPY --from=nope a /", "--from=nope: no such image: nope"),
        ("COPY dir/escape /", "not found"),
    ] {
        let error = bench.build(&format!("FROM scratch\n{text}")).unwrap_err().to_string();
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn copies_set_owner_and_mode() {
    let Some(bench) = Bench::new() else { return };
    bench.file("etc/passwd", "web:x:7:8::/:/\n").file("tool", "#!").file("dir/x", "");
    std::os::unix::fs::chown(bench.context.join("tool"), Some(1000), Some(1000)).unwrap();
    fs::set_permissions(bench.context.join("tool"), fs::Permissions::from_mode(0o750)).unwrap();
    let text = "FROM scratch AS one\nCOPY etc /etc\nCOPY tool /plain\nCOPY --chown=web tool /named\n\
                COPY --chown=5 --chmod=4711 tool /new/number\nCOPY --chown=3:4 dir /d\n\
                FROM scratch\nCOPY --from=one /named /d/x /from/\nCOPY --from=0 / /all";
    let image = bench.build(text).unwrap();
    let attributes = |path: &str| {
        let layer = image.layer_dirs.iter().rev().find(|layer| layer.join(path).exists()).unwrap();
        let file = layer.join(path).metadata().unwrap();
        (file.uid(), file.gid(), file.mode() & 0o7777)
    };
    for (path, want) in [
        ("all/plain", (0, 0, 0o750)),
        ("all/named", (7, 8, 0o750)),
        ("all/new", (5, 5, 0o755)),
        ("all/new/number", (5, 5, 0o4711)),
        ("all/d/x", (3, 4, 0o644)),
        ("from/named", (7, 8, 0o750)),
        ("from/x", (3, 4, 0o644)),
    ] {
        assert_eq!(attributes(path), want, "{path}");
    }
}

#[test]
fn add_unpacks_archives() {
    let Some(bench) = Bench::new() else { return };
    bench
        .file("in/a", "1")
        .file("in/b/c", "2")
        .file("plain", "not an archive")
        .file("x.tar.xz", "\u{fd}7zXZ");
    let mut archive =
        tar::Builder::new(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast()));
    archive.append_dir_all(".", bench.context.join("in")).unwrap();
    bench.file("a.tgz", archive.into_inner().unwrap().finish().unwrap());
    let image = bench.build("FROM scratch\nADD a.tgz plain /d/\nCOPY a.tgz /d/").unwrap();
    let all = bench.store.find(&image.id.to_string()).unwrap();
    let listed: Vec<String> = all.layer_dirs.iter().flat_map(|layer| walk_names(layer)).collect();
    assert_eq!(listed, ["d", "d/a", "d/b", "d/b/c", "d/plain", "d", "d/a.tgz"]);
}

fn walk_names(root: &Path) -> Vec<String> {
    fn walk(root: &Path, dir: &Path, out: &mut Vec<String>) {
        let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        for path in paths {
            out.push(path.strip_prefix(root).unwrap().display().to_string());
            if path.symlink_metadata().unwrap().is_dir() {
                walk(root, &path, out);
            }
        }
    }
    let mut out = Vec::new();
    walk(root, root, &mut out);
    out
}

#[test]
fn instructions_make_the_configuration() {
    let Some(bench) = Bench::new() else { return };
    let text = "ARG V=1\nFROM scratch\nARG V\nARG W=w$V\nENV A=\"a b\" B=$W\nENV B=x C=$B PATH=/p:$PATH\n\
        LABEL l=\"m n\" v=${V}\nMAINTAINER me\nUSER 1:2\nWORKDIR /w\nEXPOSE 80 90-91/udp\nVOLUME /v /u\n\
        STOPSIGNAL SIGINT\nSHELL [\"/bin/x\", \"-e\"]\nCMD run $A\nENTRYPOINT [\"/e\", \"$A\"]\n\
        HEALTHCHECK --interval=5s --retries=2 CMD ok";
    let options = BuildOptions {
        arguments: BTreeMap::from([("V".into(), "9".into()), ("UNUSED".into(), "1".into())]),
        tags: vec!["cfg:1".into()],
        ..BuildOptions::default()
    };
    let image = bench.build_with(text, options).unwrap();
    assert_eq!(bench.told(), ["warning: build argument UNUSED was not used"]);
    assert_eq!(bench.store.resolve("cfg:1").unwrap().id, image.id);
    let want = serde_json::json!({
        "Env": ["PATH=/p:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "A=a b", "B=x", "C=w9"],
        "Labels": {"l": "m n", "v": "9"},
        "User": "1:2",
        "WorkingDir": "/w",
        "ExposedPorts": {"80/tcp": {}, "90/udp": {}, "91/udp": {}},
        "Volumes": {"/v": {}, "/u": {}},
        "StopSignal": "SIGINT",
        "Shell": ["/bin/x", "-e"],
        "Cmd": ["/bin/x", "-e", "run $A"],
        "Entrypoint": ["/e", "$A"],
        "Healthcheck": {"Test": ["CMD-SHELL", "ok"], "Interval": 5_000_000_000_u64, "Retries": 2},
    });
    assert_eq!(config(&bench, &image), want);

    // A stage that goes on from it: ENTRYPOINT resets the CMD that was not its own.
    let next = bench.build("FROM cfg:1\nENTRYPOINT [\"/f\"]\nENV A=").unwrap();
    let got = config(&bench, &next);
    assert_eq!((got.get("Cmd"), got["Entrypoint"][0].as_str()), (None, Some("/f")));
    assert_eq!(got["Env"][1], "A=");
}

#[test]
fn runs_commands_in_a_root_of_their_own() {
    let Some(bench) = Bench::new() else { return };
    let Some(bench) = busybox(&bench) else { return };
    let text = format!(
        "{SYSTEM}ARG WHO=nobody\nENV GREETING=hello\nWORKDIR /work\n\
         RUN echo $GREETING $WHO $(pwd) $(id -u) $$ $(hostname) > out && rm /bin/yes && mkdir /empty\n\
         USER 12:34\nRUN echo $(id -u):$(id -g) $HOME; ls -d /proc/1 /dev/null /sys/kernel; \
         test ! -e /proc/2000000 && (echo x > /proc/sys/kernel/hostname) 2>&1; true\n\
         USER 0\nRUN mount -t tmpfs x /mnt || echo no mount\nRUN true\n"
    );
    let image = bench.build(&text).unwrap();
    let files = files(&image);
    assert_eq!(files["work/out"], "hello nobody /work 0 1 build\n");
    assert!(files.contains_key("empty/") && files.contains_key("bin/sh") && !files.contains_key("bin/yes"));
    let told = bench.told().concat();
    assert!(told.contains("12:34 /\n"), "{told}");
    assert!(told.contains("/dev/null") && told.contains("/sys/kernel") && told.contains("/proc/1"), "{told}");
    assert!(told.contains("no mount"), "{told}");
    // What only had to be there for the mounts is in no layer, and a step without changes makes none.
    assert_eq!(image.layer_dirs.len(), 4, "{told}");
    for name in ["proc/", "sys/", "dev/", "etc/", "etc/resolv.conf"] {
        assert!(!files.contains_key(name), "{name}");
    }
    let last = walk_names(image.layer_dirs.last().unwrap());
    assert_eq!(last, ["bin", "bin/yes", "empty", "work", "work/out"]);

    let error = bench.build(&format!("{SYSTEM}RUN echo before; exit 3")).unwrap_err().to_string();
    assert!(error.contains("non-zero code: 3"), "{error}");
    assert!(bench.told().contains(&"before\n".to_owned()));
    let error = bench.build("FROM scratch\nRUN true").unwrap_err().to_string();
    assert!(error.contains("\"/bin/sh\": executable file not found"), "{error}");
    let error = bench.build(&format!("{SYSTEM}USER web\nRUN true")).unwrap_err().to_string();
    assert!(error.contains("unable to find user web"), "{error}");
    // Nothing of it is left mounted.
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    assert!(!table.contains(bench.store.root().to_str().unwrap()));
}

#[test]
fn heredocs_run_as_scripts() {
    let Some(bench) = Bench::new() else { return };
    let Some(bench) = busybox(&bench) else { return };
    let text = format!(
        "{SYSTEM}RUN <<EOF\nset -e\nx=1\necho one $x > /one\nEOF\n\
         RUN cat > /two <<EOF && echo three > /three\nit's $HOME\nEOF\n\
         RUN mkdir /tmp && chmod 1777 /tmp\nRUN <<EOF\n#!/bin/ash -e\necho \"it's $0\" | sed 's/[.].*//' > /four\nEOF"
    );
    let image = bench.build(&text).unwrap();
    let files = files(&image);
    assert_eq!(
        (files["one"].as_str(), files["two"].as_str(), files["three"].as_str()),
        ("one 1\n", "it's /root\n", "three\n")
    );
    assert!(files["four"].starts_with("it's /tmp/tmp"), "{}", files["four"]);
    assert!(!files.keys().any(|name| name.starts_with("tmp/tmp")));
}

#[test]
fn stages_that_nobody_needs_are_not_built() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "1");
    let text = "FROM scratch AS broken\nCOPY missing /\nFROM scratch AS one\nCOPY a /one\n\
                FROM one AS two\nCOPY --from=one /one /two\nFROM two AS last\nENV X=1";
    let image = bench.build(text).unwrap();
    assert_eq!(names(&image), ["one=1", "two=1"]);
    let options = BuildOptions { target: Some("One".into()), ..BuildOptions::default() };
    assert_eq!(names(&bench.build_with(text, options).unwrap()), ["one=1"]);
    let options = BuildOptions { target: Some("nope".into()), ..BuildOptions::default() };
    assert!(bench.build_with(text, options).unwrap_err().to_string().contains("\"nope\" could not be found"));
}

#[test]
fn the_cache_follows_content() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "1").file("b", "1").file("unused", "1");
    let text = "FROM scratch\nCOPY a /\nENV X=1\nCOPY b /";
    let first = bench.build(text).unwrap();
    assert_eq!(bench.told(), Vec::<String>::new());
    bench.file("unused", "2").file("a", "1");
    let second = bench.build(text).unwrap();
    assert_eq!((bench.told(), second.id), (vec!["cached".to_owned(), "cached".into()], first.id));
    bench.file("b", "2");
    let third = bench.build(text).unwrap();
    assert_eq!(bench.told(), ["cached"]);
    assert_eq!(names(&third), ["a=1", "b=2"]);
    // What a failed build has done is not done again.
    bench.build("FROM scratch\nCOPY b /first\nCOPY nope /").unwrap_err();
    bench.build("FROM scratch\nCOPY b /first\nCOPY a /").unwrap();
    assert_eq!(bench.told(), ["cached"]);
    // A change at the bottom makes everything above it new.
    bench.file("a", "2");
    bench.build(text).unwrap();
    assert_eq!(bench.told(), Vec::<String>::new());
    let options = BuildOptions { no_cache: true, ..BuildOptions::default() };
    bench.build_with(text, options).unwrap();
    assert_eq!(bench.told(), Vec::<String>::new());

    // Removing images keeps what the cache needs; a full disk does not.
    for image in bench.store.list() {
        bench.store.remove(&image.id.to_string(), &|_| false).unwrap();
    }
    bench.build(text).unwrap();
    assert_eq!(bench.told(), ["cached", "cached"]);
    for image in bench.store.list() {
        bench.store.remove(&image.id.to_string(), &|_| false).unwrap();
    }
    // Nothing is collected while a program that another test starts still holds a copy of the lock.
    let collected = (0..500).any(|_| {
        bench.store.collect_garbage(crate::Keep::OnlyImages).unwrap();
        let done = bench.store.disk_usage().unwrap().layers <= 4096;
        if !done {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        done
    });
    assert!(collected);
    bench.build(text).unwrap();
    assert_eq!(bench.told(), Vec::<String>::new());
}

#[test]
fn the_same_input_gives_the_same_image() {
    let text = "FROM scratch\nCOPY . /app/src\nWORKDIR /app/out\nCOPY dir/x /app/out/y\nENTRYPOINT [\"/x\"]";
    let ids: Vec<_> = (0..2)
        .filter_map(|_| {
            let bench = Bench::new()?;
            bench.file("dir/x", "x").file("y", "y");
            let time = std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000);
            bench.file("Dockerfile", text);
            for path in ["dir/x", "dir", "y", "Dockerfile", "."] {
                File::open(bench.context.join(path)).unwrap().set_modified(time).unwrap();
            }
            bench.file(".dockerignore", "Dockerfile\n.dockerignore\n");
            File::open(&bench.context).unwrap().set_modified(time).unwrap();
            let arguments = BTreeMap::from([(EPOCH.to_owned(), "1000000".to_owned())]);
            let options = BuildOptions { arguments, ..BuildOptions::default() };
            let manifest = bench.build_with(text, options).unwrap().manifest();
            // The clock must show another second for the next one.
            let second = crate::store::now();
            while crate::store::now() == second {
                std::thread::sleep(std::time::Duration::from_millis(20));
            }
            Some(manifest)
        })
        .collect();
    assert!(ids.windows(2).all(|pair| pair[0] == pair[1]), "{ids:?}");
}

#[test]
fn built_images_travel() {
    let Some(bench) = Bench::new() else { return };
    bench.file("a", "1").file("b", "2");
    let options = BuildOptions { tags: vec!["x:1".into()], ..BuildOptions::default() };
    let image = bench.build_with("FROM scratch\nCOPY a b /d/\nCOPY a /d/b\nCMD [\"/d/a\"]", options).unwrap();
    let archive = bench.context.join("x.tar");
    bench.store.save(&["x:1"], &archive).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let other = ImageStore::open(dir.path()).unwrap();
    let loaded = other.load(&archive).unwrap().remove(0).image;
    assert_eq!((loaded.id, loaded.manifest(), files(&loaded)), (image.id, image.manifest(), files(&image)));
    let history =
        serde_json::from_slice::<serde_json::Value>(&other.configuration(&loaded).unwrap()).unwrap();
    let lines: Vec<&str> =
        history["history"].as_array().unwrap().iter().filter_map(|h| h["created_by"].as_str()).collect();
    assert_eq!(lines, ["COPY a b /d/", "COPY a /d/b", "CMD [\"/d/a\"]"]);
}
