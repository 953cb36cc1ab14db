//! Providers in their order: the first writes, all read.

use crate::cipher::{Broken, Cipher};

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
    let Some(Provider::Keys { prefix, keys }) = providers.first() else { return None };
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
    let mut broken: Option<Broken> = None;
    for (at, provider) in providers.iter().enumerate() {
        let (prefix, keys) = match provider {
            Provider::Identity if stored.starts_with(ENCRYPTED) => continue,
            Provider::Identity => return Ok(Opened { plain: None, stale: at != 0 }),
            Provider::Keys { prefix, keys } => (prefix, keys),
        };
        let Some(rest) = stored.strip_prefix(prefix.as_bytes()) else { continue };
        for (place, key) in keys.iter().enumerate() {
            let named = rest.strip_prefix(key.name.as_bytes()).and_then(|rest| rest.strip_prefix(b":"));
            let Some(sealed) = named else { continue };
            match key.cipher.open(path.as_bytes(), sealed) {
                Ok(plain) => return Ok(Opened { plain: Some(plain), stale: (at, place) != (0, 0) }),
                Err(found) => broken = Some(found),
            }
        }
    }
    Err(broken.map_or(OpenError::NoProvider, |broken| OpenError::Broken(broken.text())))
}

/// Reads a value that no rule is about.
pub(crate) fn open_plain(stored: &[u8]) -> Result<Opened, OpenError> {
    if stored.starts_with(ENCRYPTED) {
        Err(OpenError::Encrypted)
    } else {
        Ok(Opened { plain: None, stale: false })
    }
}
