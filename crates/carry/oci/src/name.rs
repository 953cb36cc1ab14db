//! Image names, normalised as docker does.
//!
//! `busybox` means `docker.io/library/busybox:latest`. Source of the grammar:
//! distribution/reference.

use std::fmt;
use std::str::FromStr;

use crate::digest::Digest;
use crate::error::{Error, Result};

const HUB: &str = "docker.io";
const HUB_OFFICIAL: &str = "library/";
const MAX_REPOSITORY: usize = 255;
const MAX_TAG: usize = 128;

/// A normalised name: registry, repository, and a tag or a digest or both.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ImageName {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl ImageName {
    /// Parses a name as users write it; without tag and digest, the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self> {
        let mut name = Self::parse_bare(text)?;
        if name.tag.is_none() && name.digest.is_none() {
            name.tag = Some("latest".into());
        }
        Ok(name)
    }

    fn parse_bare(text: &str) -> Result<Self> {
        let wrong = |reason| Error::Name { name: text.into(), reason };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.parse().map_err(|_| wrong("not a sha256 digest"))?)),
            None => (text, None),
        };
        let (path, tag) = split_tag(rest);
        if tag.is_some_and(|tag| !is_tag(tag)) {
            return Err(wrong("invalid tag"));
        }
        let (registry, repository) = split_registry(path);
        if is_id(text) {
            return Err(wrong("64 hexadecimal digits are an id, not a name"));
        }
        if !is_registry(&registry) {
            return Err(wrong("invalid registry"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(wrong("repository name must be lowercase"));
        }
        if repository.len() > MAX_REPOSITORY {
            return Err(wrong("repository name must not be more than 255 characters"));
        }
        if !repository.split('/').all(is_component) {
            return Err(wrong("invalid repository name"));
        }
        Ok(Self { registry, repository, tag: tag.map(str::to_owned), digest })
    }

    /// Host, and port if one was given.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Path in the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Registry and repository without tag and digest.
    pub fn base(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository with this digest and no tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The same repository in another registry.
    pub fn at(&self, registry: &str) -> Result<Self> {
        match is_registry(registry) {
            true => Ok(Self { registry: registry.into(), ..self.clone() }),
            false => Err(Error::Name { name: registry.into(), reason: "invalid registry" }),
        }
    }

    /// The repository as docker shows it: `busybox`, not `docker.io/library/busybox`.
    pub fn familiar_base(&self) -> String {
        if self.registry != HUB {
            return self.base();
        }
        self.repository.strip_prefix(HUB_OFFICIAL).unwrap_or(&self.repository).to_owned()
    }

    /// Whether the registry is this machine, where plain HTTP is usual.
    pub fn is_loopback(&self) -> bool {
        let host = match self.registry.strip_prefix('[') {
            Some(rest) => rest.split(']').next().unwrap_or_default(),
            None => self.registry.split(':').next().unwrap_or_default(),
        };
        host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for ImageName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        Self::parse(text)
    }
}

/// Whether the text is a full image id without its algorithm.
fn is_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

/// A colon after the last slash starts the tag; one before it belongs to a port.
fn split_tag(text: &str) -> (&str, Option<&str>) {
    match text.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (text, None),
    }
}

fn split_registry(path: &str) -> (String, String) {
    let looks_like_host = |first: &str| {
        first == "localhost" || first.contains(['.', ':']) || first.bytes().any(|b| b.is_ascii_uppercase())
    };
    match path.split_once('/') {
        Some((first, rest)) if looks_like_host(first) => match first {
            "index.docker.io" | HUB => (HUB.into(), official(rest)),
            _ => (first.into(), rest.into()),
        },
        _ => (HUB.into(), official(path)),
    }
}

fn official(repository: &str) -> String {
    if repository.contains('/') { repository.into() } else { format!("{HUB_OFFICIAL}{repository}") }
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => match rest.split_once(']') {
            Some((ip, rest)) if ip.parse::<std::net::Ipv6Addr>().is_ok() => {
                return rest.is_empty() || rest.strip_prefix(':').is_some_and(is_port);
            }
            _ => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (text, None),
        },
    };
    port.is_none_or(is_port) && host.split('.').all(is_domain_component)
}

fn is_port(text: &str) -> bool {
    text.parse::<u16>().is_ok() && text.bytes().all(|b| b.is_ascii_digit())
}

fn is_domain_component(text: &str) -> bool {
    !text.is_empty()
        && !text.starts_with('-')
        && !text.ends_with('-')
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

/// Lowercase letters and digits, joined by `.`, `_`, `__` or any number of `-`.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| matches!(b, b'a'..=b'z' | b'0'..=b'9');
    let bytes = text.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(first) || !alphanumeric(last) {
        return false;
    }
    bytes
        .split(|b| alphanumeric(*b))
        .all(|joint| matches!(joint, b"" | b"." | b"_" | b"__") || joint.iter().all(|b| *b == b'-'))
}

fn is_tag(text: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    text.len() <= MAX_TAG
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|b| word(b) || matches!(b, b'.' | b'-'))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[test]
    fn normalises_as_docker_does() {
        let hex = "a".repeat(64);
        let rows = [
            ("busybox", "docker.io/library/busybox:latest".to_owned()),
            ("busybox:1.36", "docker.io/library/busybox:1.36".into()),
            ("docker.io/busybox", "docker.io/library/busybox:latest".into()),
            ("index.docker.io/library/busybox", "docker.io/library/busybox:latest".into()),
            ("grafana/grafana", "docker.io/grafana/grafana:latest".into()),
            ("localhost/x", "localhost/x:latest".into()),
            ("localhost:5000/x", "localhost:5000/x:latest".into()),
            ("127.0.0.1:5000/a/b:v1", "127.0.0.1:5000/a/b:v1".into()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".into()),
            ("registry.k8s.io/pause:3.9", "registry.k8s.io/pause:3.9".into()),
            ("a__b/c.d-e--f", "docker.io/a__b/c.d-e--f:latest".into()),
        ];
        for (given, want) in rows {
            assert_eq!(ImageName::parse(given).unwrap().to_string(), want, "{given}");
        }
        let pinned = format!("registry.k8s.io/pause@sha256:{hex}");
        assert_eq!(ImageName::parse(&pinned).unwrap().to_string(), pinned);
        let both = format!("quay.io/a/b:v1@sha256:{hex}");
        assert_eq!(ImageName::parse(&both).unwrap().to_string(), both);
    }

    #[test]
    fn refuses_what_is_no_name() {
        let hex = "a".repeat(64);
        let long_tag = format!("x:{}", "t".repeat(129));
        let long_path = "p".repeat(256);
        let rows = [
            "",
            "Busybox",
            "a//b",
            "/a",
            "a/",
            "-a",
            "a-",
            "a_",
            "a..b",
            "a:b:c",
            "x:",
            "x:-t",
            "x@sha256:12",
            "x@md5:00",
            "a.b:port/x",
            "a.b:99999/x",
            "-x.y/z",
            "[::g]/x",
            "a b",
            "ü",
            &hex,
            &long_tag,
            &long_path,
            "a___b",
            "../etc",
            "a/../b",
        ];
        for given in rows {
            assert!(ImageName::parse(given).is_err(), "{given}");
        }
    }

    #[test]
    fn knows_this_machine_and_familiar_names() {
        for (given, loopback, familiar) in [
            ("localhost:5000/x", true, "localhost:5000/x"),
            ("127.3.2.1/x", true, "127.3.2.1/x"),
            ("[::1]:5000/a", true, "[::1]:5000/a"),
            ("10.0.0.1:5000/x", false, "10.0.0.1:5000/x"),
            ("busybox", false, "busybox"),
            ("grafana/grafana", false, "grafana/grafana"),
        ] {
            let name = ImageName::parse(given).unwrap();
            assert_eq!((name.is_loopback(), name.familiar_base().as_str()), (loopback, familiar), "{given}");
        }
    }
}
