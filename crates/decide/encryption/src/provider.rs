//! Providers in their order: the first writes, all read.

use std::sync::Arc;

use crate::cipher::Cipher;
use crate::kms::{self, Seeds};

/// What all encrypted values begin with.
const ENCRYPTED: &[u8] = b"k8s:enc:";

/// One way to store values.
#[derive(Debug)]
pub(crate) enum Provider {
    /// As they are.
    Identity,
    /// Encrypted, by the first key.
    Keys {
        /// What values begin with.
        prefix: &'static str,
        /// The keys by name, the first one writes.
        keys: Vec<Key>,
    },
    /// Encrypted with the seeds of a key management service.
    Service {
        /// What values begin with.
        prefix: String,
        /// The service's seeds.
        seeds: Arc<dyn Seeds>,
    },
}

/// A key with its name.
#[derive(Debug)]
pub(crate) struct Key {
    pub(crate) name: String,
    pub(crate) cipher: Cipher,
}

/// A value as it was before it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The value; none when it is stored as it is.
    pub plain: Option<Vec<u8>>,
    /// Stored in another way than it would be stored now.
    pub stale: bool,
}

/// Why a stored value cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// No provider or key has its prefix.
    #[error("no matching prefix found")]
    NoProvider,
    /// The key of its name does not fit.
    #[error("{0}")]
    Broken(&'static str),
    /// The service does not tell its key, or it does not fit.
    #[error("{0}")]
    Service(String),
    /// It is encrypted, and nothing says how.
    #[error("identity transformer tried to read encrypted data")]
    Encrypted,
}

/// The value as the first provider stores it; none when that is as it is.
pub(crate) fn seal(
    providers: &[Provider],
    path: &str,
    plain: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
) -> Option<Vec<u8>> {
    let (prefix, keys) = match providers.first()? {
        Provider::Identity => return None,
        Provider::Keys { prefix, keys } => (prefix, keys),
        Provider::Service { prefix, seeds } => {
            let mut stored = prefix.as_bytes().to_vec();
            kms::seal(&**seeds, path.as_bytes(), plain, random, &mut stored);
            return Some(stored);
        }
    };
    let key = keys.first()?;
    let mut stored = Vec::with_capacity(prefix.len() + key.name.len() + plain.len() + 64);
    stored.extend_from_slice(prefix.as_bytes());
    stored.extend_from_slice(key.name.as_bytes());
    stored.push(b':');
    key.cipher.seal(path.as_bytes(), plain, random, &mut stored);
    Some(stored)
}

/// Tries every provider and key whose prefix the value has: the same prefix may stand twice with
/// different keys while one takes over from the other.
pub(crate) fn open(providers: &[Provider], path: &str, stored: &[u8]) -> Result<Opened, OpenError> {
    let mut broken: Option<OpenError> = None;
    for (at, provider) in providers.iter().enumerate() {
        let (prefix, keys) = match provider {
            Provider::Identity if stored.starts_with(ENCRYPTED) => continue,
            Provider::Identity => return Ok(Opened { plain: None, stale: at != 0 }),
            Provider::Keys { prefix, keys } => (prefix, keys),
            Provider::Service { prefix, seeds } => {
                let Some(sealed) = stored.strip_prefix(prefix.as_bytes()) else { continue };
                match kms::open(&**seeds, path.as_bytes(), sealed) {
                    Ok((plain, stale)) => return Ok(Opened { plain: Some(plain), stale: stale || at != 0 }),
                    Err(error) => broken = Some(OpenError::Service(error)),
                }
                continue;
            }
        };
        let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else { continue };
        for (place, key) in keys.iter().enumerate() {
            let named = rest.strip_prefix(key.name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
            let Some(sealed) = named else { continue };
            match key.cipher.open(path.as_bytes(), sealed) {
                Ok(plain) => return Ok(Opened { plain: Some(plain), stale: (at, place) != (0, 0) }),
                Err(found) => broken = Some(OpenError::Broken(found.text())),
            }
        }
    }
    Err(broken.unwrap_or(OpenError::NoProvider))
}

/// Reads a value that no rule is about.
pub(crate) fn open_plain(stored: &[u8]) -> Result<Opened, OpenError> {
    if stored.starts_with(ENCRYPTED) {
        Err(OpenError::Encrypted)
    } else {
        Ok(Opened { plain: None, stale: false })
    }
}
