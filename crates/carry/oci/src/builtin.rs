//! The two images that are part of this program: pause and demo.
//!
//! Both consist of the program's own static binary and a few directories, and
//! share one layer. The layer's directory holds a hard link to the running
//! binary, so it costs no space; its tar stream, which only registries and
//! archives need, is written when they ask.

use std::fs::{self, File};
use std::io::{self, BufReader, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use ::tar::EntryType;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::digest::{Digest, Hashing};
use crate::document::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER, architecture};
use crate::error::{During, Error, Result};
use crate::image::Image;
use crate::layer::{Member, TarWriter};
use crate::store::{Content, ImageStore, LayerRecord, Lock, Record, chains};

/// The image of the process that holds a pod's namespaces.
pub const PAUSE: &str = "plimsoll.io/pause:latest";
/// The image of the web server for trying things out.
pub const DEMO: &str = "plimsoll.io/demo:latest";

const STATE: &str = "builtin.json";
const BINARY: &str = "plimsoll";
const DIRECTORIES: [(&str, u32); 5] =
    [("dev", 0o755), ("etc", 0o755), ("proc", 0o755), ("sys", 0o755), ("tmp", 0o1777)];
const FILES: [(&str, &str); 2] = [
    ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
    ("etc/passwd", "root:x:0:0:root:/:/\nnobody:x:65534:65534:nobody:/:/\n"),
];

/// What was true of the binary when the images were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct State {
    binary: Fingerprint,
    diff_id: Digest,
    pause: Digest,
    demo: Digest,
}

/// Tells a changed file from an unchanged one without reading it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Fingerprint {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    format: u32,
}

/// Raised when the images of the same binary would come out differently.
const FORMAT: u32 = 1;

/// Makes sure that the images exist and are made of the binary `exe`.
///
/// Takes microseconds when they are; otherwise the binary is read once to
/// compute its digest.
pub fn ensure_builtin(store: &ImageStore, exe: &Path) -> Result<()> {
    let binary = Fingerprint::of(exe)?;
    if let Some(state) = State::read(store.root())
        && state.binary == binary
        && is_present(store, &state)
    {
        return Ok(());
    }
    let lock = store.adding()?;
    let diff_id = layer_digest(exe)?;
    make_layer(store.content(), exe, diff_id)?;
    let pause = enter(store, diff_id, PAUSE, "pause", &binary, &lock)?;
    let demo = enter(store, diff_id, DEMO, "demo", &binary, &lock)?;
    State { binary, diff_id, pause, demo }.write(store.root())
}

fn is_present(store: &ImageStore, state: &State) -> bool {
    let is = |name, id| store.resolve(name).is_some_and(|image| image.id == id && image.pinned);
    is(PAUSE, state.pause) && is(DEMO, state.demo)
}

impl Fingerprint {
    fn of(exe: &Path) -> Result<Self> {
        let file = fs::metadata(exe).during(|| format!("stat {}", exe.display()))?;
        Ok(Self {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            format: FORMAT,
        })
    }
}

impl State {
    /// Nothing if it was never written or cannot be read: then the images are made again.
    fn read(root: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(root.join(STATE)).ok()?).ok()
    }

    fn write(&self, root: &Path) -> Result<()> {
        let during = || format!("write {}", root.join(STATE).display());
        let mut file = tempfile::NamedTempFile::new_in(root).during(during)?;
        file.write_all(&serde_json::to_vec(self).expect("plain JSON")).during(during)?;
        file.persist(root.join(STATE)).map_err(|error| error.error).during(during)?;
        Ok(())
    }
}

/// The digest of the layer's tar stream.
fn layer_digest(exe: &Path) -> Result<Digest> {
    let mut hashing = Hashing::new(io::sink());
    write_layer(exe, &mut hashing).during(|| format!("read {}", exe.display()))?;
    Ok(hashing.finish().0)
}

/// Writes the layer's tar stream: always the same for the same binary.
fn write_layer(exe: &Path, writer: impl Write) -> io::Result<()> {
    let mut tar = TarWriter::new(writer);
    for (name, mode) in DIRECTORIES {
        let mut member = Member::new(Path::new(name), EntryType::Directory);
        member.mode = mode;
        tar.append(&member, &mut io::empty())?;
    }
    for (name, text) in FILES {
        let mut member = Member::new(Path::new(name), EntryType::Regular);
        member.size = text.len() as u64;
        tar.append(&member, &mut text.as_bytes())?;
    }
    let file = File::open(exe)?;
    let mut member = Member::new(Path::new(BINARY), EntryType::Regular);
    (member.mode, member.size) = (0o755, file.metadata()?.len());
    tar.append(&member, &mut BufReader::with_capacity(256 << 10, file))?;
    tar.finish()
}

fn make_layer(content: &Content, exe: &Path, diff_id: Digest) -> Result<()> {
    if content.layer(diff_id).is_dir() {
        return Ok(());
    }
    let scratch = content.scratch()?;
    let root = scratch.path();
    let set_mode = |path: &Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode))
            .during(|| format!("chmod {}", path.display()))
    };
    set_mode(root, 0o755)?;
    for (name, mode) in DIRECTORIES {
        fs::create_dir(root.join(name)).during(|| format!("make directory {name}"))?;
        set_mode(&root.join(name), mode)?;
    }
    for (name, text) in FILES {
        fs::write(root.join(name), text).during(|| format!("write {name}"))?;
        set_mode(&root.join(name), 0o644)?;
    }
    link_or_copy(exe, &root.join(BINARY))?;
    content.commit_layer(scratch, diff_id)
}

/// A hard link, or a copy when the binary is on another device or has been deleted
/// since it was started, or when not everybody may run it.
fn link_or_copy(exe: &Path, target: &Path) -> Result<()> {
    let during = || format!("copy {}", exe.display());
    let mode = fs::metadata(exe).during(during)?.permissions().mode();
    let link = || {
        let follow = nix::fcntl::AtFlags::AT_SYMLINK_FOLLOW;
        nix::unistd::linkat(nix::fcntl::AT_FDCWD, exe, nix::fcntl::AT_FDCWD, target, follow)
    };
    if mode & 0o7777 == 0o755 && link().is_ok() {
        return Ok(());
    }
    fs::copy(exe, target).during(during)?;
    fs::set_permissions(target, fs::Permissions::from_mode(0o755)).during(during)
}

/// Writes configuration and manifest and gives the image its name.
fn enter(
    store: &ImageStore,
    diff_id: Digest,
    name: &str,
    command: &str,
    binary: &Fingerprint,
    _adding: &Lock,
) -> Result<Digest> {
    let config = json!({
        "architecture": architecture(),
        "os": "linux",
        "created": "1970-01-01T00:00:00Z",
        "config": {
            "Entrypoint": [format!("/{BINARY}"), command],
            "Env": ["PATH=/"],
            "WorkingDir": "/",
        },
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        "history": [{"created": "1970-01-01T00:00:00Z", "created_by": format!("plimsoll {command}")}],
    });
    let config = serde_json::to_vec(&config).expect("plain JSON");
    let id = store.content().put_blob(&config)?;
    let layer_size = layer_size(binary.size);
    let manifest = Manifest::new(
        Descriptor::new(OCI_CONFIG, id, config.len() as u64),
        vec![Descriptor::new(OCI_LAYER, diff_id, layer_size)],
    );
    let manifest = store.content().put_blob(&serde_json::to_vec(&manifest).expect("plain JSON"))?;
    let chain = chains(&[diff_id])[0];
    store.change(|index| {
        // The images of an earlier binary give way; containers made from them keep their mounts.
        index.images.retain(|other, record| *other == id || !(record.builtin && record.tags == [name]));
        index.untag(name);
        index.images.insert(
            id,
            Record {
                manifest,
                layers: vec![LayerRecord { chain, blob: diff_id, size: binary.size }],
                tags: vec![name.to_owned()],
                digests: Vec::new(),
                pinned: true,
                builtin: true,
                added: crate::store::now(),
            },
        );
        Ok(())
    })?;
    Ok(id)
}

/// Bytes of the tar stream: a header and the content in whole blocks for each member, and the end.
fn layer_size(binary: u64) -> u64 {
    let blocks = |size: u64| 512 + size.next_multiple_of(512);
    let files: u64 = FILES.iter().map(|(_, text)| blocks(text.len() as u64)).sum();
    DIRECTORIES.len() as u64 * 512 + files + blocks(binary) + 1024
}

/// Writes the layer as a blob, for an archive or a registry.
pub(crate) fn write_layer_blob(store: &ImageStore, image: &Image) -> Result<()> {
    let layer = image.record.layers.first().ok_or_else(|| Error::NotFound(image.id.to_string()))?;
    if store.content().has_blob(layer.blob) {
        return Ok(());
    }
    let exe = store.content().layer(layer.chain).join(BINARY);
    let mut draft = store.content().draft()?;
    write_layer(&exe, &mut draft).during(|| format!("read {}", exe.display()))?;
    draft.commit(store.content(), Some(layer.blob)).map(drop)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn images_are_made_once_and_again_when_the_binary_changes() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        let exe = dir.path().join("exe");
        fs::write(&exe, "first binary").unwrap();
        fs::set_permissions(&exe, fs::Permissions::from_mode(0o755)).unwrap();
        ensure_builtin(&store, &exe).unwrap();
        let first = store.resolve("plimsoll.io/pause").unwrap();
        assert_eq!(first.command(), ["/plimsoll", "pause"]);
        assert!(first.pinned);
        let linked = first.layer_dirs[0].join(BINARY);
        assert_eq!(fs::metadata(&linked).unwrap().ino(), fs::metadata(&exe).unwrap().ino());
        let demo = store.resolve(DEMO).unwrap();
        assert_eq!(
            (demo.command(), &demo.layer_dirs),
            (vec!["/plimsoll".into(), "demo".into()], &first.layer_dirs)
        );

        // Nothing changes, and nothing is read: the index stays the same file.
        let index = fs::metadata(store.root().join("index.json")).unwrap().ino();
        ensure_builtin(&store, &exe).unwrap();
        assert_eq!(fs::metadata(store.root().join("index.json")).unwrap().ino(), index);

        fs::remove_file(&exe).unwrap();
        fs::write(&exe, "second").unwrap();
        ensure_builtin(&store, &exe).unwrap();
        let second = store.resolve(PAUSE).unwrap();
        assert_ne!(second.id, first.id);
        assert_eq!(fs::read_to_string(second.layer_dirs[0].join(BINARY)).unwrap(), "second");
        assert_eq!(store.list().len(), 2);
        assert!(store.remove(PAUSE, &|_| false).unwrap_err().to_string().contains("part of this program"));

        // The layer of the first binary is garbage now, that of the second is not.
        store.collect_garbage(crate::Keep::BuildCache).unwrap();
        assert!(!first.layer_dirs[0].exists());
        assert!(second.layer_dirs[0].exists());
    }

    #[test]
    fn the_blob_is_the_size_that_the_manifest_says_and_unpacks_to_the_same_layer() {
        let dir = tempfile::tempdir().unwrap();
        let store = ImageStore::open(dir.path().join("images")).unwrap();
        let exe = dir.path().join("exe");
        fs::write(&exe, "x".repeat(1000)).unwrap();
        ensure_builtin(&store, &exe).unwrap();
        let archive = dir.path().join("demo.tar");
        store.save(&[DEMO], &archive).unwrap();
        let image = store.resolve(DEMO).unwrap();
        let blob = store.content().blob(image.record.layers[0].blob);
        assert_eq!(fs::metadata(blob).unwrap().len(), layer_size(1000));

        let other = ImageStore::open(dir.path().join("other")).unwrap();
        let loaded = other.load(&archive).unwrap();
        assert_eq!(
            (loaded[0].image.id, loaded[0].image.size),
            (image.id, 1000 + FILES.iter().map(|f| f.1.len() as u64).sum::<u64>())
        );
        assert!(!loaded[0].image.pinned);
    }
}
