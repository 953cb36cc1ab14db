//! Values whose keys a key management service keeps (KMS v2): they are encrypted with keys made from a seed,
//! and the seed stands beside them in the form that only the service reads
//! (apiserver: pkg/storage/value/encrypt/envelope/kmsv2, v1.37).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit, Mac};
use prost::Message;
use sha2::Sha256;

use crate::cipher::{Algorithm, Cipher};

/// Bytes of a seed, of what a key is made from beside it, and of a key.
pub const SEED: usize = 32;
/// Most bytes of what a service returns.
const LONGEST_NAME: usize = 1024;
const LONGEST_SOURCE: usize = 1024;
const LONGEST_ANNOTATIONS: usize = 32 * 1024;
/// What the source of a key is when it is decrypted.
const KEY: i32 = 0;
const KEY_SEED: i32 = 1;

/// A service that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Its name, which stands before all values.
    pub name: String,
    /// Path of its Unix socket; `@` begins an abstract one.
    pub socket: String,
    /// How long a call may take.
    pub timeout: Duration,
}

/// A seed or key as it stands beside values: only the service reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Source {
    /// The service's key that encrypted it.
    pub key_id: String,
    /// What it is in that form.
    pub encrypted: Vec<u8>,
    /// What else the service wants to be given for it.
    pub annotations: BTreeMap<String, Vec<u8>>,
}

/// A seed as it is.
#[derive(Clone)]
pub struct Seed(pub Vec<u8>);

impl fmt::Debug for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seed [redacted]")
    }
}

/// The seeds of a service.
pub trait Seeds: fmt::Debug + Send + Sync {
    /// The seed that values are written with now.
    fn current(&self) -> Arc<(Source, Seed)>;

    /// The seed of values that were written before.
    ///
    /// # Errors
    /// When the service does not tell.
    fn open(&self, source: &Source) -> Result<Seed, String>;
}

/// A value as it is stored.
#[derive(Clone, PartialEq, Message)]
struct Envelope {
    #[prost(bytes = "vec", tag = "1")]
    data: Vec<u8>,
    #[prost(string, tag = "2")]
    key_id: String,
    #[prost(bytes = "vec", tag = "3")]
    source: Vec<u8>,
    #[prost(btree_map = "string, bytes", tag = "4")]
    annotations: BTreeMap<String, Vec<u8>>,
    #[prost(int32, tag = "5")]
    kind: i32,
}

impl Source {
    /// Holds what a service returned against the bounds.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let source = self.encrypted.len();
        if source == 0 {
            return Err("failed to validate encrypted DEK source: encrypted DEK source is empty".to_owned());
        }
        if source > LONGEST_SOURCE {
            return Err(format!(
                "failed to validate encrypted DEK source: encrypted DEK source is {source} bytes, which exceeds the max size of {LONGEST_SOURCE}"
            ));
        }
        check_key_id(&self.key_id).map_err(|cause| format!("failed to validate key id: {cause}"))?;
        let annotations: usize = self.annotations.iter().map(|(key, value)| key.len() + value.len()).sum();
        if annotations > LONGEST_ANNOTATIONS {
            return Err(format!(
                "failed to validate annotations: total size of annotations is {annotations}, which exceeds the max size of {LONGEST_ANNOTATIONS}"
            ));
        }
        Ok(())
    }
}

/// Holds the name of a service's key against the bounds.
///
/// # Errors
/// What is wrong with it.
pub fn check_key_id(name: &str) -> Result<(), String> {
    match name.len() {
        0 => Err("keyID is empty".to_owned()),
        1..=LONGEST_NAME => Ok(()),
        long => Err(format!("keyID is {long} bytes, which exceeds the max size of {LONGEST_NAME}")),
    }
}

/// Appends the value, encrypted by a key of its own, to `out`.
pub(crate) fn seal(
    seeds: &dyn Seeds,
    path: &[u8],
    plain: &[u8],
    random: &mut dyn FnMut(&mut [u8]),
    out: &mut Vec<u8>,
) {
    let current = seeds.current();
    let (source, seed) = &*current;
    let mut info = [0; SEED];
    random(&mut info);
    let mut data = info.to_vec();
    let cipher = derived(seed, &info).expect("values are written with seeds of full length");
    cipher.seal(path, plain, random, &mut data);
    let envelope = Envelope {
        data,
        key_id: source.key_id.clone(),
        source: source.encrypted.clone(),
        annotations: source.annotations.clone(),
        kind: KEY_SEED,
    };
    out.extend_from_slice(&envelope.encode_to_vec());
}

/// The value that was stored, and whether it would be stored with another key today.
pub(crate) fn open(seeds: &dyn Seeds, path: &[u8], stored: &[u8]) -> Result<(Vec<u8>, bool), String> {
    let envelope = Envelope::decode(stored).map_err(|error| error.to_string())?;
    let Envelope { data, key_id, source, annotations, kind } = envelope;
    let source = Source { key_id, encrypted: source, annotations };
    source.check()?;
    let current = seeds.current();
    let seed = if source == current.0 { current.1.clone() } else { seeds.open(&source)? };
    let short = || "the stored data was shorter than the required size".to_owned();
    let (cipher, sealed) = match kind {
        KEY => (Cipher::new(Algorithm::AesGcm, &seed.0), data.as_slice()),
        KEY_SEED => {
            let (info, sealed) = data.split_at_checked(SEED).ok_or_else(short)?;
            (derived(&seed, info), sealed)
        }
        other => return Err(format!("unknown encryptedDEKSourceType: {other}")),
    };
    let cipher =
        cipher.ok_or_else(|| format!("invalid seed length {} used for key generation", seed.0.len()))?;
    let plain = cipher.open(path, sealed).map_err(|broken| broken.text().to_owned())?;
    Ok((plain, source.key_id != current.0.key_id || kind != KEY_SEED))
}

/// The cipher of one value: HKDF's expansion with SHA-256, whose first block is as long as a key.
fn derived(seed: &Seed, info: &[u8]) -> Option<Cipher> {
    if seed.0.len() < SEED {
        return None;
    }
    let mut mac = Hmac::<Sha256>::new_from_slice(&seed.0).ok()?;
    mac.update(info);
    mac.update(&[1]);
    Cipher::new(Algorithm::AesGcm, &mac.finalize().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug)]
    struct Known {
        current: Arc<(Source, Seed)>,
        older: Vec<(Source, Seed)>,
    }

    impl Seeds for Known {
        fn current(&self) -> Arc<(Source, Seed)> {
            Arc::clone(&self.current)
        }

        fn open(&self, source: &Source) -> Result<Seed, String> {
            let found = self.older.iter().find(|(known, _)| known == source);
            found.map(|(_, seed)| seed.clone()).ok_or_else(|| "failed to decrypt DEK, error: gone".to_owned())
        }
    }

    fn pair(key_id: &str, byte: u8) -> (Source, Seed) {
        let source = Source { key_id: key_id.to_owned(), encrypted: vec![byte; 40], ..Source::default() };
        (source, Seed(vec![byte; SEED]))
    }

    fn sealed(seeds: &Known) -> Vec<u8> {
        let mut out = Vec::new();
        seal(seeds, b"/registry/secrets/a/b", b"value", &mut |bytes| bytes.fill(7), &mut out);
        out
    }

    #[test]
    fn values_are_read_with_the_seed_they_were_written_with() {
        let (first, second) = (pair("one", 1), pair("two", 2));
        let before = Known { current: Arc::new(first.clone()), older: Vec::new() };
        let stored = sealed(&before);
        let path = b"/registry/secrets/a/b";
        assert_eq!(open(&before, path, &stored), Ok((b"value".to_vec(), false)));
        let after = Known { current: Arc::new(second.clone()), older: vec![first] };
        assert_eq!(open(&after, path, &stored), Ok((b"value".to_vec(), true)), "it would get another key");
        let without = Known { current: Arc::new(second), older: Vec::new() };
        assert_eq!(open(&without, path, &stored), Err("failed to decrypt DEK, error: gone".to_owned()));
        assert_eq!(open(&before, b"/other", &stored), Err("message authentication failed".to_owned()));
    }

    #[test]
    fn keys_are_made_as_the_standard_says() {
        // The first block of HKDF's expansion (RFC 5869, test case 1).
        let seed = [
            0x07, 0x77, 0x09, 0x36, 0x2c, 0x2e, 0x32, 0xdf, 0x0d, 0xdc, 0x3f, 0x0d, 0xc4, 0x7b, 0xba, 0x63,
            0x90, 0xb6, 0xc7, 0x3b, 0xb5, 0x0f, 0x9c, 0x31, 0x22, 0xec, 0x84, 0x4a, 0xd7, 0xc2, 0xb3, 0xe5,
        ];
        let info = [0xf0, 0xf1, 0xf2, 0xf3, 0xf4, 0xf5, 0xf6, 0xf7, 0xf8, 0xf9];
        let key = [
            0x3c, 0xb2, 0x5f, 0x25, 0xfa, 0xac, 0xd5, 0x7a, 0x90, 0x43, 0x4f, 0x64, 0xd0, 0x36, 0x2f, 0x2a,
            0x2d, 0x2d, 0x0a, 0x90, 0xcf, 0x1a, 0x5a, 0x4c, 0x5d, 0xb0, 0x2d, 0x56, 0xec, 0xc4, 0xc5, 0xbf,
        ];
        let mut stored = Vec::new();
        let expected = Cipher::new(Algorithm::AesGcm, &key).expect("a key");
        expected.seal(b"p", b"value", &mut |bytes| bytes.fill(1), &mut stored);
        let made = derived(&Seed(seed.to_vec()), &info).expect("a key");
        assert_eq!(made.open(b"p", &stored).ok().as_deref(), Some(&b"value"[..]));
    }

    #[test]
    fn what_services_return_is_bounded() {
        let (good, _) = pair("one", 1);
        for (source, expected) in [
            (good.clone(), Ok(())),
            (
                Source { encrypted: Vec::new(), ..good.clone() },
                Err("failed to validate encrypted DEK source: encrypted DEK source is empty"),
            ),
            (
                Source { encrypted: vec![0; 1025], ..good.clone() },
                Err(
                    "failed to validate encrypted DEK source: encrypted DEK source is 1025 bytes, which exceeds the max size of 1024",
                ),
            ),
            (
                Source { key_id: String::new(), ..good.clone() },
                Err("failed to validate key id: keyID is empty"),
            ),
            (
                Source { annotations: BTreeMap::from([("a.b".to_owned(), vec![0; 32_768])]), ..good },
                Err(
                    "failed to validate annotations: total size of annotations is 32771, which exceeds the max size of 32768",
                ),
            ),
        ] {
            assert_eq!(source.check(), expected.map_err(str::to_owned));
        }
    }
}
