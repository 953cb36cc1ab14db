//! The JSON documents of images: manifests, indexes, descriptors.
//!
//! Docker's schema 2 and OCI's documents have the same shape; both are read.

use serde::{Deserialize, Serialize};

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::error::{Error, Result};

pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const OCI_LAYER_GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// Largest manifest, index or configuration that is read: 8 MiB.
pub(crate) const MAX_DOCUMENT: u64 = 8 << 20;
/// More layers than this cannot be mounted by overlayfs on every kernel in use.
pub(crate) const MAX_LAYERS: usize = 127;

/// Points at a blob.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Descriptor {
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) digest: Digest,
    pub(crate) size: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) annotations: Option<BTreeMap<String, String>>,
}

impl Descriptor {
    pub(crate) fn new(media_type: &str, digest: Digest, size: u64) -> Self {
        Self { media_type: media_type.into(), digest, size, platform: None, annotations: None }
    }

    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.as_ref()?.get(key).map(String::as_str)
    }

    fn is_index(&self) -> bool {
        matches!(self.media_type.as_str(), OCI_INDEX | DOCKER_LIST)
    }
}

/// What a manifest of an index is built for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Platform {
    #[serde(default)]
    pub(crate) architecture: String,
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) variant: Option<String>,
}

impl Platform {
    /// The platform of this program, in Go's words.
    pub(crate) fn here() -> Self {
        Self { architecture: architecture().into(), os: "linux".into(), variant: None }
    }

    fn fits_here(&self) -> bool {
        self.os == "linux" && self.architecture == architecture()
    }
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.os, self.architecture)?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(f, "/{variant}"))
    }
}

/// This machine's architecture in Go's words.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}

/// The manifest of one image for one platform.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Manifest {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) config: Descriptor,
    pub(crate) layers: Vec<Descriptor>,
}

impl Manifest {
    pub(crate) fn new(config: Descriptor, layers: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: OCI_MANIFEST.into(), config, layers }
    }

    /// The media type to announce: the one inside, or the one its configuration implies.
    pub(crate) fn media_type(&self) -> &str {
        match self.media_type.as_str() {
            "" if self.config.media_type == DOCKER_CONFIG => DOCKER_MANIFEST,
            "" => OCI_MANIFEST,
            given => given,
        }
    }

    fn check(&self) -> Result<()> {
        let wrong = |reason: String| Err(Error::document("image manifest", reason));
        if !matches!(self.config.media_type.as_str(), OCI_CONFIG | DOCKER_CONFIG | "") {
            return wrong(format!("{} is not an image configuration", self.config.media_type));
        }
        if self.config.size > MAX_DOCUMENT {
            return wrong(format!("configuration of {} bytes is too large", self.config.size));
        }
        if self.layers.len() > MAX_LAYERS {
            return wrong(format!("{} layers, at most {MAX_LAYERS} can be mounted", self.layers.len()));
        }
        match self.layers.iter().find(|layer| !is_layer(&layer.media_type)) {
            Some(layer) => wrong(format!("layers of type {} are not supported", layer.media_type)),
            None => Ok(()),
        }
    }
}

/// Layers of file systems; foreign ones (Windows) are somewhere else and not accepted.
fn is_layer(media_type: &str) -> bool {
    matches!(media_type, OCI_LAYER | OCI_LAYER_GZIP | OCI_LAYER_ZSTD)
        || media_type.starts_with("application/vnd.docker.image.rootfs.diff.tar")
}

/// Manifests of one image for several platforms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) schema_version: u32,
    #[serde(default)]
    pub(crate) media_type: String,
    pub(crate) manifests: Vec<Descriptor>,
}

impl Index {
    pub(crate) fn new(manifests: Vec<Descriptor>) -> Self {
        Self { schema_version: 2, media_type: OCI_INDEX.into(), manifests }
    }

    /// The entry for this machine; entries without a platform fit everywhere.
    pub(crate) fn pick(&self, name: &str) -> Result<&Descriptor> {
        let here = |d: &&Descriptor| d.platform.as_ref().is_some_and(Platform::fits_here);
        let open = |d: &&Descriptor| d.platform.is_none();
        self.manifests.iter().find(here).or_else(|| self.manifests.iter().find(open)).ok_or_else(|| {
            let offered: Vec<_> =
                self.manifests.iter().filter_map(|d| d.platform.as_ref()).map(Platform::to_string).collect();
            Error::Platform {
                name: name.into(),
                wanted: Platform::here().to_string(),
                offered: if offered.is_empty() { "nothing".into() } else { offered.join(", ") },
            }
        })
    }
}

/// What a registry or an archive may hold at a name.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    Manifest(Manifest),
    Index(Index),
}

impl Document {
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Probe {
            schema_version: Option<u32>,
            manifests: Option<serde::de::IgnoredAny>,
        }
        let invalid = |error| Error::document("image manifest", error);
        let probe: Probe = serde_json::from_slice(bytes).map_err(invalid)?;
        if probe.schema_version != Some(2) {
            return Err(Error::document("image manifest", "only schema version 2 is supported"));
        }
        if probe.manifests.is_some() {
            return serde_json::from_slice(bytes).map(Self::Index).map_err(invalid);
        }
        let manifest: Manifest = serde_json::from_slice(bytes).map_err(invalid)?;
        manifest.check()?;
        Ok(Self::Manifest(manifest))
    }
}

/// Whether the descriptor may lead to further descriptors.
pub(crate) fn may_be_index(descriptor: &Descriptor) -> bool {
    descriptor.is_index()
}

/// The media type of a layer blob by its first bytes.
pub(crate) fn layer_media_type(head: &[u8]) -> &'static str {
    match head {
        [0x1f, 0x8b, ..] => OCI_LAYER_GZIP,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => OCI_LAYER_ZSTD,
        _ => OCI_LAYER,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    fn descriptor(media_type: &str, platform: Option<(&str, &str)>) -> Descriptor {
        let platform =
            platform.map(|(os, arch)| Platform { os: os.into(), architecture: arch.into(), variant: None });
        Descriptor { platform, ..Descriptor::new(media_type, Digest::of(b"x"), 1) }
    }

    #[test]
    fn picks_this_platform_before_one_without() {
        let index = Index::new(vec![
            descriptor(OCI_MANIFEST, None),
            descriptor(OCI_MANIFEST, Some(("windows", architecture()))),
            descriptor(OCI_MANIFEST, Some(("linux", architecture()))),
        ]);
        assert_eq!(index.pick("x").unwrap(), &index.manifests[2]);
        let other = Index::new(vec![descriptor(OCI_MANIFEST, Some(("plan9", "mips")))]);
        assert!(other.pick("x").unwrap_err().to_string().contains("it offers plan9/mips"));
    }

    #[test]
    fn refuses_what_is_no_image() {
        let config = descriptor(OCI_CONFIG, None);
        let manifest = |config: &Descriptor, layer: &str, count: usize| {
            let layers = vec![descriptor(layer, None); count];
            serde_json::to_vec(&Manifest::new(config.clone(), layers)).unwrap()
        };
        assert!(matches!(
            Document::parse(&manifest(&config, OCI_LAYER_ZSTD, 127)),
            Ok(Document::Manifest(_))
        ));
        let rows = [
            manifest(&config, OCI_LAYER_GZIP, 128),
            manifest(&config, "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1),
            manifest(&descriptor("application/vnd.cncf.helm.config.v1+json", None), OCI_LAYER, 1),
            b"{\"schemaVersion\":1}".to_vec(),
            b"{}".to_vec(),
            b"[]".to_vec(),
            b"".to_vec(),
        ];
        for row in rows {
            assert!(Document::parse(&row).is_err(), "{}", String::from_utf8_lossy(&row));
        }
    }
}
