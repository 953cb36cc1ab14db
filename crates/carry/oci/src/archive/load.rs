//! Reads images from archives and from OCI layout directories.
//!
//! An archive is read once, from start to end: each file goes to disk under a
//! temporary name while its digest is computed; what the documents then name
//! becomes a blob, the rest goes.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;

use crate::digest::Digest;
use crate::document::{
    Descriptor, Document, Index, MAX_DOCUMENT, Manifest, OCI_CONFIG, layer_media_type, may_be_index,
};
use crate::error::{During, Error, Result};
use crate::image::Image;
use crate::layer::decompressed;
use crate::layer::tar::{Kind, TarReader, clean};
use crate::name::ImageName;
use crate::store::{Content, ImageStore, Source};

/// Containerd writes the whole name here, OCI's own key often holds only the tag.
const NAME_KEYS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// Indexes within indexes are followed this far.
const MAX_DEPTH: usize = 4;

/// An image that came out of an archive.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The image as it is in the store now.
    pub image: Arc<Image>,
    /// The names that the archive gave it.
    pub names: Vec<ImageName>,
}

/// One image of `manifest.json`, the list that `docker save` writes.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerEntry {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

impl ImageStore {
    /// Loads all images of an archive file (plain or compressed) or of an OCI layout directory.
    pub fn load(&self, path: &Path) -> Result<Vec<Loaded>> {
        if path.is_dir() {
            return Loader::of(self, Files::Directory(path.to_owned())).load();
        }
        let file = File::open(path).during(|| format!("open {}", path.display()))?;
        self.load_stream(BufReader::with_capacity(256 << 10, file))
    }

    /// Loads all images of an archive that is read as a stream.
    pub fn load_stream(&self, archive: impl BufRead) -> Result<Vec<Loaded>> {
        let _adding = self.adding()?;
        let spool = Spool::read(self.content(), decompressed(archive)?)?;
        Loader::of(self, Files::Spool(spool)).load()
    }
}

/// The files of an archive, before it is known which are blobs.
enum Files {
    Directory(PathBuf),
    Spool(Spool),
}

/// Files of a tar stream under temporary names.
struct Spool {
    files: HashMap<PathBuf, (Digest, tempfile::TempPath)>,
    /// Old archives name a layer that several images share by a link.
    links: HashMap<PathBuf, PathBuf>,
}

impl Spool {
    fn read(content: &Content, archive: impl Read) -> Result<Self> {
        let mut spool = Self { files: HashMap::new(), links: HashMap::new() };
        let mut reader = TarReader::new(archive);
        while let Some(entry) = reader.next_entry()? {
            match entry.kind {
                Kind::File => {
                    let mut draft = content.draft()?;
                    io::copy(&mut reader, &mut draft).during(|| format!("read {}", entry.path.display()))?;
                    spool.files.insert(entry.path, draft.set_aside()?);
                }
                Kind::Hardlink(target) => drop(spool.links.insert(entry.path, target)),
                Kind::Symlink(target) => {
                    let parent = entry.path.parent().unwrap_or(Path::new(""));
                    let target = clean(parent.join(target).as_os_str().as_encoded_bytes())?;
                    spool.links.insert(entry.path, target);
                }
                _ => {}
            }
        }
        Ok(spool)
    }

    fn get(&self, path: &Path) -> Option<&(Digest, tempfile::TempPath)> {
        let mut path = path;
        // A chain of links is at most as long as there are links.
        for _ in 0..=self.links.len() {
            if let Some(file) = self.files.get(path) {
                return Some(file);
            }
            path = self.links.get(path)?;
        }
        None
    }
}

impl Files {
    fn document(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        file.take(MAX_DOCUMENT).read_to_end(&mut bytes).during(|| format!("read {path}"))?;
        Ok(Some(bytes))
    }

    fn open(&self, path: &str) -> Result<Option<File>> {
        let relative = clean(path.as_bytes())?;
        match self {
            // Links in a directory stay inside of it.
            Self::Directory(root) => crate::layer::tree::Tree::open(root)?.read(&relative),
            Self::Spool(spool) => match spool.get(&relative) {
                Some((_, file)) => File::open(file).map(Some).during(|| format!("open {path}")),
                None => Ok(None),
            },
        }
    }
}

struct Loader<'a> {
    store: &'a ImageStore,
    files: Files,
}

impl<'a> Loader<'a> {
    fn of(store: &'a ImageStore, files: Files) -> Self {
        Self { store, files }
    }

    fn load(&self) -> Result<Vec<Loaded>> {
        let docker: Vec<DockerEntry> = match self.files.document("manifest.json")? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(|e| Error::document("manifest.json", e))?,
            None => Vec::new(),
        };
        if let Some(bytes) = self.files.document("index.json")? {
            return self.load_layout(&bytes, &docker);
        }
        if docker.is_empty() {
            return Err(Error::Archive("holds neither index.json (OCI) nor manifest.json (docker)".into()));
        }
        docker.iter().map(|entry| self.load_docker(entry)).collect()
    }

    fn load_layout(&self, index: &[u8], docker: &[DockerEntry]) -> Result<Vec<Loaded>> {
        let _adding = self.store.adding()?;
        let index: Index = serde_json::from_slice(index).map_err(|e| Error::document("index.json", e))?;
        let mut loaded: Vec<Loaded> = Vec::new();
        for descriptor in &index.manifests {
            let (digest, bytes, manifest) = self.manifest(descriptor, MAX_DEPTH)?;
            let mut names: Vec<ImageName> = name_of(descriptor).into_iter().collect();
            if let Some(entry) =
                docker.iter().find(|entry| digest_in(&entry.config) == Some(manifest.config.digest))
            {
                names.extend(tags_of(entry)?);
            }
            names.sort();
            names.dedup();
            let blobs = manifest.layers.iter().chain([&manifest.config]);
            blobs.clone().try_for_each(|blob| self.take_blob(blob.digest))?;
            let source = Source { digests: self.digests(&names, digest), tags: names };
            let image = self.store.import(&bytes, &source, &|_, _| {})?;
            match loaded.iter_mut().find(|other| other.image.id == image.id) {
                Some(other) => {
                    other.names.extend(source.tags);
                    other.names.dedup();
                    other.image = image;
                }
                None => loaded.push(Loaded { image, names: source.tags }),
            }
        }
        match loaded.is_empty() {
            true => Err(Error::Archive("holds no image".into())),
            false => Ok(loaded),
        }
    }

    /// What was saved from a registry keeps its digest only under its own name.
    fn digests(&self, names: &[ImageName], digest: Digest) -> Vec<ImageName> {
        let mut digests: Vec<_> = names.iter().map(|name| name.with_digest(digest)).collect();
        digests.dedup();
        digests
    }

    /// The manifest for this platform below a descriptor, with its digest and bytes.
    fn manifest(&self, descriptor: &Descriptor, depth: usize) -> Result<(Digest, Vec<u8>, Manifest)> {
        let path = blob_path(descriptor.digest);
        let bytes = self.files.document(&path)?.ok_or_else(|| Error::Archive(format!("lacks {path}")))?;
        let actual = Digest::of(&bytes);
        if actual != descriptor.digest {
            return Err(Error::Mismatch { what: path, expected: descriptor.digest, actual });
        }
        match Document::parse(&bytes)? {
            Document::Manifest(manifest) => Ok((actual, bytes, manifest)),
            Document::Index(index)
                if depth > 0 && (may_be_index(descriptor) || descriptor.media_type.is_empty()) =>
            {
                self.manifest(index.pick(&path)?, depth - 1)
            }
            Document::Index(_) => Err(Error::Archive("holds indexes within indexes".into())),
        }
    }

    fn load_docker(&self, entry: &DockerEntry) -> Result<Loaded> {
        let _adding = self.store.adding()?;
        let config = self.take_file(&entry.config)?;
        let layers = entry.layers.iter().map(|path| self.take_layer(path)).collect::<Result<Vec<_>>>()?;
        let config = Descriptor::new(OCI_CONFIG, config.0, config.1);
        let manifest = serde_json::to_vec(&Manifest::new(config, layers)).expect("manifests are plain JSON");
        let names = tags_of(entry)?;
        let source = Source { tags: names.clone(), digests: Vec::new() };
        let image = self.store.import(&manifest, &source, &|_, _| {})?;
        Ok(Loaded { image, names })
    }

    fn take_layer(&self, path: &str) -> Result<Descriptor> {
        let (digest, size) = self.take_file(path)?;
        let blob = self.store.content().blob(digest);
        let mut head = [0; 4];
        File::open(&blob)
            .and_then(|mut file| file.read(&mut head))
            .during(|| format!("read {}", blob.display()))?;
        Ok(Descriptor::new(layer_media_type(&head), digest, size))
    }

    /// Makes a blob of the file, whatever its digest is.
    fn take_file(&self, path: &str) -> Result<(Digest, u64)> {
        let mut file = self.files.open(path)?.ok_or_else(|| Error::Archive(format!("lacks {path}")))?;
        let content = self.store.content();
        if let Files::Spool(spool) = &self.files
            && let Some((digest, _)) = spool.get(&clean(path.as_bytes())?)
            && content.has_blob(*digest)
        {
            return Ok((*digest, file.metadata().during(|| format!("stat {path}"))?.len()));
        }
        let mut draft = content.draft()?;
        io::copy(&mut file, &mut draft).during(|| format!("read {path}"))?;
        draft.commit(content, None)
    }

    fn take_blob(&self, digest: Digest) -> Result<()> {
        let content = self.store.content();
        if content.has_blob(digest) {
            return Ok(());
        }
        let path = blob_path(digest);
        let missing = || Error::Archive(format!("lacks {path}"));
        if let Files::Spool(spool) = &self.files {
            let (actual, file) = spool.get(Path::new(&path)).ok_or_else(missing)?;
            if *actual != digest {
                return Err(Error::Mismatch { what: path, expected: digest, actual: *actual });
            }
            // The digest is known: the file only needs its name.
            return std::fs::hard_link(file, content.blob(digest)).during(|| format!("write blob {digest}"));
        }
        let mut file = self.files.open(&path)?.ok_or_else(missing)?;
        content.copy_blob(&mut file, digest).map(drop)
    }
}

fn blob_path(digest: Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

/// `blobs/sha256/<hex>` and `<hex>.json` name the configuration by its digest.
fn digest_in(path: &str) -> Option<Digest> {
    let name = Path::new(path).file_name()?.to_str()?;
    format!("sha256:{}", name.strip_suffix(".json").unwrap_or(name)).parse().ok()
}

/// The whole name that an annotation holds; a mere tag is no name.
fn name_of(descriptor: &Descriptor) -> Option<ImageName> {
    let names = NAME_KEYS.iter().filter_map(|key| descriptor.annotation(key));
    names.filter(|name| name.contains(['/', ':'])).find_map(|name| ImageName::parse(name).ok())
}

fn tags_of(entry: &DockerEntry) -> Result<Vec<ImageName>> {
    entry.repo_tags.iter().flatten().map(|tag| ImageName::parse(tag)).collect()
}
