//! Writes images as one archive that `docker load` and `ctr images import` take.
//!
//! It is an OCI layout with docker's `manifest.json` beside it. The same images
//! always give the same bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use ::tar::EntryType;
use serde_json::json;

use crate::digest::Digest;
use crate::document::{Descriptor, Document, Index, Manifest, OCI_MANIFEST, Platform};
use crate::error::{During, Error, Result};
use crate::image::Image;
use crate::layer::{Member, TarWriter};
use crate::name::ImageName;
use crate::store::ImageStore;

impl ImageStore {
    /// Saves the images of these names into an archive file.
    pub fn save(&self, names: &[impl AsRef<str>], path: &Path) -> Result<()> {
        let during = || format!("write {}", path.display());
        let file = File::create(path).during(during)?;
        let mut writer = BufWriter::with_capacity(256 << 10, file);
        self.save_stream(names, &mut writer)?;
        writer.flush().during(during)
    }

    /// Saves the images of these names into a stream.
    pub fn save_stream(&self, names: &[impl AsRef<str>], writer: impl Write) -> Result<()> {
        let _adding = self.adding()?;
        let mut saved = Saved::default();
        for name in names {
            let image = self.find(name.as_ref())?;
            let tag = ImageName::parse(name.as_ref())
                .ok()
                .filter(|name| image.repo_tags.contains(&name.to_string()));
            // By id, an image takes all its names along.
            let tags = tag.map_or_else(|| image.repo_tags.clone(), |tag| vec![tag.to_string()]);
            saved.add(self, &image, &tags)?;
        }
        saved.write(self, writer).during(|| "write archive".into())
    }

    /// The manifest of an image with its blobs made present, and its bytes.
    pub(crate) fn manifest_of(&self, image: &Image) -> Result<(Manifest, Vec<u8>)> {
        if image.record.builtin {
            crate::builtin::write_layer_blob(self, image)?;
        }
        let bytes = self.content().document(image.record.manifest)?;
        match Document::parse(&bytes)? {
            Document::Manifest(manifest) => Ok((manifest, bytes)),
            Document::Index(_) => Err(Error::document("image manifest", "an index is not an image")),
        }
    }
}

/// What goes into the archive.
#[derive(Default)]
struct Saved {
    blobs: BTreeSet<Digest>,
    manifests: Vec<Descriptor>,
    /// By manifest: configuration, layers and tags in docker's list.
    docker: BTreeMap<Digest, (Digest, Vec<Digest>, BTreeSet<String>)>,
}

impl Saved {
    fn add(&mut self, store: &ImageStore, image: &Image, tags: &[String]) -> Result<()> {
        let (manifest, bytes) = store.manifest_of(image)?;
        let digest = image.record.manifest;
        let layers: Vec<Digest> = manifest.layers.iter().map(|layer| layer.digest).collect();
        self.blobs.extend(layers.iter().chain([&digest, &image.id]));
        for tag in tags.iter().map(Some).chain(tags.is_empty().then_some(None)) {
            let mut descriptor = Descriptor::new(OCI_MANIFEST, digest, bytes.len() as u64);
            descriptor.media_type = manifest.media_type().into();
            descriptor.platform = Some(Platform::here());
            descriptor.annotations = tag.map(|tag| annotations(tag));
            if !self.manifests.contains(&descriptor) {
                self.manifests.push(descriptor);
            }
        }
        let entry = self.docker.entry(digest).or_insert_with(|| (image.id, layers, BTreeSet::new()));
        entry.2.extend(tags.iter().map(|tag| familiar(tag)));
        Ok(())
    }

    fn write(&self, store: &ImageStore, writer: impl Write) -> io::Result<()> {
        let mut tar = TarWriter::new(writer);
        for dir in ["blobs", "blobs/sha256"] {
            tar.append(&Member::new(Path::new(dir), EntryType::Directory), &mut io::empty())?;
        }
        for blob in &self.blobs {
            let mut file = File::open(store.content().blob(*blob))?;
            let mut member = Member::new(Path::new(&path_of(blob)), EntryType::Regular);
            member.size = file.metadata()?.len();
            tar.append(&member, &mut file)?;
        }
        let index = serde_json::to_value(Index::new(self.manifests.clone()))?;
        document(&mut tar, "index.json", &index)?;
        document(&mut tar, "manifest.json", &self.docker_list())?;
        document(&mut tar, "oci-layout", &json!({"imageLayoutVersion": "1.0.0"}))?;
        tar.finish()
    }

    fn docker_list(&self) -> serde_json::Value {
        let entry = |(config, layers, tags): &(Digest, Vec<Digest>, BTreeSet<String>)| {
            let layers: Vec<String> = layers.iter().map(path_of).collect();
            json!({"Config": path_of(config), "RepoTags": tags, "Layers": layers})
        };
        self.docker.values().map(entry).collect()
    }
}

fn document(tar: &mut TarWriter<impl Write>, name: &str, value: &serde_json::Value) -> io::Result<()> {
    let bytes = value.to_string().into_bytes();
    let mut member = Member::new(Path::new(name), EntryType::Regular);
    member.size = bytes.len() as u64;
    tar.append(&member, &mut bytes.as_slice())
}

fn path_of(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn annotations(tag: &str) -> BTreeMap<String, String> {
    let short = ImageName::parse(tag).ok().and_then(|name| name.tag().map(str::to_owned));
    let mut annotations = BTreeMap::from([("io.containerd.image.name".to_owned(), tag.to_owned())]);
    if let Some(short) = short {
        annotations.insert("org.opencontainers.image.ref.name".into(), short);
    }
    annotations
}

fn familiar(tag: &str) -> String {
    match ImageName::parse(tag) {
        Ok(name) => format!("{}:{}", name.familiar_base(), name.tag().unwrap_or("latest")),
        Err(_) => tag.to_owned(),
    }
}
