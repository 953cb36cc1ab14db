//! Names, ids, removal, several processes, crashes.
#![expect(clippy::unwrap_used, reason = "tests")]

use std::fs;
use std::io::Write as _;

use flate2::write::GzEncoder;

use super::*;
use crate::Keep;
use crate::document::Manifest;

/// An archive as `docker save` of old wrote it: one layer with one file.
fn docker_archive(tags: &[&str], content: &str) -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "hello", content.as_bytes());
    let layer = layer.into_inner().unwrap();
    let config = format!(
        r#"{{"architecture":"amd64","os":"linux","config":{{"Cmd":["/hello"],"Entrypoint":null,"Env":null,"ExposedPorts":null}},
            "rootfs":{{"type":"layers","diff_ids":["{}"]}}}}"#,
        Digest::of(&layer)
    );
    let manifest =
        serde_json::json!([{"Config": "config.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    append(&mut archive, "l/layer.tar", &layer);
    append(&mut archive, "config.json", config.as_bytes());
    append(&mut archive, "manifest.json", manifest.to_string().as_bytes());
    archive.into_inner().unwrap()
}

fn append(archive: &mut tar::Builder<Vec<u8>>, path: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    archive.append_data(&mut header, path, bytes).unwrap();
}

fn store() -> (tempfile::TempDir, ImageStore) {
    let dir = tempfile::tempdir().unwrap();
    let store = ImageStore::open(dir.path().join("images")).unwrap();
    (dir, store)
}

fn load(store: &ImageStore, tags: &[&str], content: &str) -> Arc<Image> {
    store.load_stream(docker_archive(tags, content).as_slice()).unwrap().remove(0).image
}

#[test]
fn finds_images_by_every_name() {
    let (_dir, store) = store();
    let image = load(&store, &["hello:1", "quay.io/x/hello:1"], "a");
    let id = image.id.to_string();
    for name in [
        "hello:1",
        "library/hello:1",
        "docker.io/library/hello:1",
        "docker.io/hello:1",
        "quay.io/x/hello:1",
        &id,
        &id[7..],
        &id[7..19],
        &image.short_id(),
    ] {
        assert_eq!(store.resolve(name).unwrap().id, image.id, "{name}");
    }
    for name in ["hello", "hello:2", "x", "", &id[7..10], "sha256:12", &"0".repeat(64), "HELLO"] {
        assert!(store.resolve(name).is_none(), "{name}");
    }
    assert_eq!(image.command(), ["/hello"]);
    assert_eq!(fs::read_to_string(image.layer_dirs[0].join("hello")).unwrap(), "a");
    assert_eq!(image.size, 1);
}

#[test]
fn a_name_belongs_to_one_image() {
    let (_dir, store) = store();
    let first = load(&store, &["x:1"], "a");
    let second = load(&store, &["x:1"], "b");
    assert_eq!(store.resolve("x:1").unwrap().id, second.id);
    assert_eq!(store.resolve(&first.id.to_string()).unwrap().repo_tags, Vec::<String>::new());
    store.tag("x:1", "y").unwrap();
    store.tag(&first.id.to_string(), "x:1").unwrap();
    assert_eq!(store.resolve("x:1").unwrap().id, first.id);
    assert_eq!(store.resolve("y:latest").unwrap().id, second.id);
    assert!(store.tag("nope", "z").is_err());
}

#[test]
fn removal_follows_names_and_use() {
    let (_dir, store) = store();
    let image = load(&store, &["x:1", "x:2"], "a");
    let layer = image.layer_dirs[0].clone();
    let used = |_: &Digest| true;
    let unused = |_: &Digest| false;
    let removed = store.remove("x:1", &used).unwrap();
    assert_eq!((removed.untagged, removed.deleted), (vec!["docker.io/library/x:1".into()], None));
    assert!(matches!(store.remove("x:2", &used), Err(Error::InUse { .. })));
    assert!(matches!(store.remove("x:1", &unused), Err(Error::NotFound(_))));
    let removed = store.remove("x:2", &unused).unwrap();
    assert_eq!(removed.deleted, Some(image.id));
    assert!(removed.freed.items >= 3, "{removed:?}");
    assert!(!layer.exists());
    assert_eq!(store.list().len(), 0);
    assert_eq!(fs::read_dir(store.root().join("blobs/sha256")).unwrap().count(), 0);
}

#[test]
fn layers_that_images_share_stay() {
    let (_dir, store) = store();
    let first = load(&store, &["x:1"], "a");
    // The same layer under another configuration.
    let config = String::from_utf8(store.configuration(&first).unwrap()).unwrap().replace("/hello", "/bye");
    let config = store.content().put_blob(config.as_bytes()).unwrap();
    let bytes = store.content().document(first.manifest()).unwrap();
    let mut manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
    manifest.config.digest = config;
    let source = Source { tags: vec![ImageName::parse("x:2").unwrap()], digests: Vec::new() };
    let second = store.import(&serde_json::to_vec(&manifest).unwrap(), &source, &|_, _| {}).unwrap();
    assert_eq!((&second.layer_dirs, second.size), (&first.layer_dirs, first.size));
    store.remove("x:1", &|_| false).unwrap();
    assert!(second.layer_dirs[0].exists());
    assert_eq!(store.resolve("x:2").unwrap().command(), ["/bye"]);
}

#[test]
fn other_processes_see_changes() {
    let (_dir, store) = store();
    let other = ImageStore::open(store.root()).unwrap();
    let image = load(&store, &["x:1"], "a");
    let seen = other.resolve("x:1").unwrap();
    assert_eq!(seen.id, image.id);
    other.remove("x:1", &|_| false).unwrap();
    assert!(store.resolve("x:1").is_none());
    assert!(Arc::ptr_eq(&seen, &seen.clone()));
}

#[test]
fn garbage_waits_for_those_who_add() {
    let (_dir, store) = store();
    let blob = store.content().put_blob(b"not yet in the index").unwrap();
    let adding = store.adding().unwrap();
    assert_eq!(store.collect_garbage(Keep::BuildCache).unwrap().items, 0);
    assert!(store.content().has_blob(blob));
    drop(adding);
    assert_eq!(store.collect_garbage(Keep::BuildCache).unwrap().items, 1);
    assert!(!store.content().has_blob(blob));
}

#[test]
fn what_a_crash_leaves_is_no_image_and_is_redone() {
    let (_dir, store) = store();
    let image = load(&store, &["x:1"], "a");
    // The layer directory is lost: the image is not offered, and loading it again repairs it.
    fs::remove_dir_all(&image.layer_dirs[0]).unwrap();
    fs::create_dir(store.root().join("tmp/.tmpabc")).unwrap();
    fs::write(store.root().join("tmp/.tmpabc/half"), "x").unwrap();
    let store = ImageStore::open(store.root()).unwrap();
    assert!(store.resolve("x:1").is_none());
    load(&store, &["x:1"], "a");
    let image = store.resolve("x:1").unwrap();
    assert_eq!(fs::read_to_string(image.layer_dirs[0].join("hello")).unwrap(), "a");
    store.collect_garbage(Keep::BuildCache).unwrap();
    assert_eq!(fs::read_dir(store.root().join("tmp")).unwrap().count(), 0);
    assert!(store.resolve("x:1").is_some());
}

#[test]
fn an_index_of_a_newer_program_is_left_alone() {
    let (_dir, store) = store();
    fs::write(store.root().join("index.json"), r#"{"version":2,"images":{}}"#).unwrap();
    let error = ImageStore::open(store.root()).unwrap_err().to_string();
    assert!(error.contains("newer program"), "{error}");
}

#[test]
fn archives_come_back_as_they_went() {
    let (dir, store) = store();
    let image = load(&store, &["x:1", "quay.io/a/b:2"], "content");
    let path = dir.path().join("saved.tar");
    store.save(&["x:1", "quay.io/a/b:2"], &path).unwrap();

    let mut gzip = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&fs::read(&path).unwrap()).unwrap();
    let gzip = gzip.finish().unwrap();
    let unpacked = dir.path().join("layout");
    tar::Archive::new(fs::File::open(&path).unwrap()).unpack(&unpacked).unwrap();
    // Without index.json, it is an archive of docker's.
    let docker = dir.path().join("docker");
    tar::Archive::new(fs::File::open(&path).unwrap()).unpack(&docker).unwrap();
    fs::remove_file(docker.join("index.json")).unwrap();

    type Load<'a> = &'a dyn Fn(&ImageStore) -> Result<Vec<crate::Loaded>>;
    let loads: [(&str, Load<'_>); 4] = [
        ("tar", &|store| store.load(&path)),
        ("gzip", &|store| store.load_stream(gzip.as_slice())),
        ("OCI directory", &|store| store.load(&unpacked)),
        ("docker directory", &|store| store.load(&docker)),
    ];
    for (form, load) in loads {
        let other = tempfile::tempdir().unwrap();
        let other = ImageStore::open(other.path()).unwrap();
        let loaded = load(&other).unwrap();
        assert_eq!(loaded.len(), 1, "{form}");
        let back = other.resolve("quay.io/a/b:2").unwrap();
        assert_eq!((back.id, back.manifest(), back.size), (image.id, image.manifest(), 7), "{form}");
        assert_eq!(other.resolve("x:1").unwrap().id, image.id, "{form}");
        let again = dir.path().join("again.tar");
        other.save(&["x:1", "quay.io/a/b:2"], &again).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(&again).unwrap(), "{form}");
    }
}

#[test]
fn altered_archives_are_refused() {
    let (dir, store) = store();
    load(&store, &["x:1"], "content");
    let path = dir.path().join("saved.tar");
    store.save(&["x:1"], &path).unwrap();
    let bytes = fs::read(&path).unwrap();
    let at = bytes.windows(7).position(|window| window == b"content").unwrap();
    let mut altered = bytes.clone();
    altered[at] = b'X';
    let fresh = || {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path()).unwrap();
        (dir, store)
    };
    let rows: [(&str, &[u8], &str); 4] = [
        ("altered", &altered, "expected sha256:"),
        ("truncated", &bytes[..bytes.len() / 2], "ends within"),
        ("empty", b"", "neither index.json"),
        ("not an archive", &[b'x'; 4096], "not a tar archive"),
    ];
    for (name, bytes, want) in rows {
        let (_dir, store) = fresh();
        let error = store.load_stream(bytes).unwrap_err().to_string();
        assert!(error.contains(want), "{name}: {error}");
        assert_eq!(store.list().len(), 0, "{name}");
    }
}
