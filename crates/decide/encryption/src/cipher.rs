//! The ciphers, each with one key.

use std::fmt;

use aes::{Aes128, Aes192, Aes256};
use aes_gcm::aead::{Aead, KeyInit, Payload};
use aes_gcm::{Aes128Gcm, Aes256Gcm, AesGcm};
use cbc::cipher::block_padding::Pkcs7;
use cbc::cipher::consts::U12;
use cbc::cipher::{BlockModeDecrypt, BlockModeEncrypt, KeyIvInit};
use crypto_secretbox::XSalsa20Poly1305;
use crypto_secretbox::aead::{Aead as _, KeyInit as _};

/// What encrypts: the part of the prefix that names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Algorithm {
    AesGcm,
    AesCbc,
    SecretBox,
}

impl Algorithm {
    /// The prefix of values that it encrypted.
    pub(crate) const fn prefix(self) -> &'static str {
        match self {
            Self::AesGcm => "k8s:enc:aesgcm:v1:",
            Self::AesCbc => "k8s:enc:aescbc:v1:",
            Self::SecretBox => "k8s:enc:secretbox:v1:",
        }
    }

    /// Lengths of its keys in bytes.
    pub(crate) const fn key_lengths(self) -> &'static [usize] {
        match self {
            Self::AesGcm | Self::AesCbc => &[16, 24, 32],
            Self::SecretBox => &[32],
        }
    }

    /// How many random bytes stand before the ciphertext.
    const fn nonce_length(self) -> usize {
        match self {
            Self::AesGcm => 12,
            Self::AesCbc => 16,
            Self::SecretBox => 24,
        }
    }
}

/// A cipher with its key.
pub(crate) enum Cipher {
    Gcm128(Box<Aes128Gcm>),
    Gcm192(Box<AesGcm<Aes192, U12>>),
    Gcm256(Box<Aes256Gcm>),
    /// The key: the cipher is set up for each value, since its state begins with the nonce.
    Cbc(Vec<u8>),
    SecretBox(Box<XSalsa20Poly1305>),
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} [key redacted]", self.algorithm())
    }
}

/// The value was not encrypted by this key, or it was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// Shorter than what always stands before the ciphertext.
    Short,
    /// Not whole blocks.
    Blocks,
    /// Authentication failed, or the padding is wrong.
    Unauthentic,
}

impl Broken {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Short => "the stored data was shorter than the required size",
            Self::Blocks => "the stored data is not a multiple of the block size",
            Self::Unauthentic => "message authentication failed",
        }
    }
}

impl Cipher {
    /// None when the key has a wrong length.
    pub(crate) fn new(algorithm: Algorithm, key: &[u8]) -> Option<Self> {
        Some(match (algorithm, key.len()) {
            (Algorithm::AesGcm, 16) => Self::Gcm128(Box::new(Aes128Gcm::new_from_slice(key).ok()?)),
            (Algorithm::AesGcm, 24) => Self::Gcm192(Box::new(AesGcm::new_from_slice(key).ok()?)),
            (Algorithm::AesGcm, 32) => Self::Gcm256(Box::new(Aes256Gcm::new_from_slice(key).ok()?)),
            (Algorithm::AesCbc, 16 | 24 | 32) => Self::Cbc(key.to_vec()),
            (Algorithm::SecretBox, 32) => {
                Self::SecretBox(Box::new(XSalsa20Poly1305::new_from_slice(key).ok()?))
            }
            _ => return None,
        })
    }

    fn algorithm(&self) -> Algorithm {
        match self {
            Self::Gcm128(_) | Self::Gcm192(_) | Self::Gcm256(_) => Algorithm::AesGcm,
            Self::Cbc(_) => Algorithm::AesCbc,
            Self::SecretBox(_) => Algorithm::SecretBox,
        }
    }

    /// Appends nonce and ciphertext to `out`. `path` is authenticated where the cipher can.
    pub(crate) fn seal(
        &self,
        path: &[u8],
        plain: &[u8],
        random: &mut dyn FnMut(&mut [u8]),
        out: &mut Vec<u8>,
    ) {
        const SIZE: &str = "values are far shorter than what the ciphers take";
        let mut nonce = [0; 24];
        let nonce = &mut nonce[..self.algorithm().nonce_length()];
        random(nonce);
        out.extend_from_slice(nonce);
        let payload = Payload { msg: plain, aad: path };
        let sealed = match self {
            Self::Gcm128(cipher) => cipher.encrypt(&twelve(nonce).into(), payload).expect(SIZE),
            Self::Gcm192(cipher) => cipher.encrypt(&twelve(nonce).into(), payload).expect(SIZE),
            Self::Gcm256(cipher) => cipher.encrypt(&twelve(nonce).into(), payload).expect(SIZE),
            Self::Cbc(key) => cbc_seal(key, nonce, plain),
            Self::SecretBox(cipher) => {
                cipher.encrypt(crypto_secretbox::Nonce::from_slice(nonce), plain).expect(SIZE)
            }
        };
        out.extend_from_slice(&sealed);
    }

    /// The value behind nonce and ciphertext.
    pub(crate) fn open(&self, path: &[u8], stored: &[u8]) -> Result<Vec<u8>, Broken> {
        let (nonce, sealed) =
            stored.split_at_checked(self.algorithm().nonce_length()).ok_or(Broken::Short)?;
        let payload = Payload { msg: sealed, aad: path };
        match self {
            Self::Gcm128(cipher) => cipher.decrypt(&twelve(nonce).into(), payload).ok(),
            Self::Gcm192(cipher) => cipher.decrypt(&twelve(nonce).into(), payload).ok(),
            Self::Gcm256(cipher) => cipher.decrypt(&twelve(nonce).into(), payload).ok(),
            Self::Cbc(_) if !sealed.len().is_multiple_of(16) => return Err(Broken::Blocks),
            Self::Cbc(key) => cbc_open(key, nonce, sealed),
            Self::SecretBox(cipher) => {
                cipher.decrypt(crypto_secretbox::Nonce::from_slice(nonce), sealed).ok()
            }
        }
        .ok_or(Broken::Unauthentic)
    }
}

fn twelve(nonce: &[u8]) -> [u8; 12] {
    nonce.try_into().expect("the nonce was cut to the cipher's length")
}

fn cbc_seal(key: &[u8], nonce: &[u8], plain: &[u8]) -> Vec<u8> {
    const LENGTHS: &str = "key and nonce were checked";
    match key.len() {
        16 => cbc::Encryptor::<Aes128>::new_from_slices(key, nonce)
            .expect(LENGTHS)
            .encrypt_padded_vec::<Pkcs7>(plain),
        24 => cbc::Encryptor::<Aes192>::new_from_slices(key, nonce)
            .expect(LENGTHS)
            .encrypt_padded_vec::<Pkcs7>(plain),
        _ => cbc::Encryptor::<Aes256>::new_from_slices(key, nonce)
            .expect(LENGTHS)
            .encrypt_padded_vec::<Pkcs7>(plain),
    }
}

fn cbc_open(key: &[u8], nonce: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    match key.len() {
        16 => cbc::Decryptor::<Aes128>::new_from_slices(key, nonce)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(sealed)
            .ok(),
        24 => cbc::Decryptor::<Aes192>::new_from_slices(key, nonce)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(sealed)
            .ok(),
        _ => cbc::Decryptor::<Aes256>::new_from_slices(key, nonce)
            .ok()?
            .decrypt_padded_vec::<Pkcs7>(sealed)
            .ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counting() -> impl FnMut(&mut [u8]) {
        let mut next = 0;
        move |bytes: &mut [u8]| {
            for byte in bytes {
                *byte = next;
                next = next.wrapping_add(1);
            }
        }
    }

    fn every() -> Vec<Cipher> {
        [
            (Algorithm::AesGcm, 16),
            (Algorithm::AesGcm, 24),
            (Algorithm::AesGcm, 32),
            (Algorithm::AesCbc, 16),
            (Algorithm::AesCbc, 24),
            (Algorithm::AesCbc, 32),
            (Algorithm::SecretBox, 32),
        ]
        .into_iter()
        .map(|(algorithm, length)| Cipher::new(algorithm, &vec![7; length]).expect("right length"))
        .collect()
    }

    #[test]
    fn what_is_sealed_opens_and_nothing_else_does() {
        for cipher in every() {
            for plain in [&b""[..], b"{}", &[1; 15], &[2; 16], &[3; 1000]] {
                let mut sealed = Vec::new();
                cipher.seal(b"/registry/secrets/a/b", plain, &mut counting(), &mut sealed);
                assert_eq!(
                    cipher.open(b"/registry/secrets/a/b", &sealed).as_deref(),
                    Ok(plain),
                    "{cipher:?}"
                );
                assert!(plain.len() < 8 || !sealed.windows(8).any(|part| part == &plain[..8]));
                assert_eq!(cipher.open(b"x", &sealed[..10]), Err(Broken::Short));
                if cipher.algorithm() == Algorithm::AesGcm {
                    let elsewhere = cipher.open(b"/registry/secrets/a/c", &sealed);
                    assert_eq!(elsewhere, Err(Broken::Unauthentic), "the path is part of it");
                }
                if cipher.algorithm() != Algorithm::AesCbc {
                    let last = sealed.len() - 1;
                    sealed[last] ^= 1;
                    assert_eq!(cipher.open(b"/registry/secrets/a/b", &sealed), Err(Broken::Unauthentic));
                }
            }
        }
    }

    #[test]
    fn keys_of_other_lengths_are_none() {
        for (algorithm, length) in
            [(Algorithm::AesGcm, 31), (Algorithm::AesCbc, 0), (Algorithm::SecretBox, 16)]
        {
            assert!(Cipher::new(algorithm, &vec![0; length]).is_none());
        }
    }

    /// Vectors that others published, so that what upstream stored can be read.
    #[test]
    fn published_vectors_are_met() {
        fn hex(text: &str) -> Vec<u8> {
            let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
            (0..text.len()).step_by(2).map(digit).collect()
        }
        // The GCM specification, test case 16.
        let gcm = Cipher::new(
            Algorithm::AesGcm,
            &hex("feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"),
        )
        .expect("32 bytes");
        let stored = hex(
            "cafebabefacedbaddecaf888522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f66276fc6ece0f4e1768cddf8853bb2d551b",
        );
        let plain = hex(
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a721c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39",
        );
        assert_eq!(gcm.open(&hex("feedfacedeadbeeffeedfacedeadbeefabaddad2"), &stored), Ok(plain));
        // NIST SP 800-38A, F.2.5, with a block of padding behind it.
        let cbc = Cipher::new(
            Algorithm::AesCbc,
            &hex("603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4"),
        )
        .expect("32 bytes");
        let mut sealed = Vec::new();
        let iv = hex("000102030405060708090a0b0c0d0e0f");
        cbc.seal(
            b"",
            &hex("6bc1bee22e409f96e93d7e117393172a"),
            &mut |out| out.copy_from_slice(&iv),
            &mut sealed,
        );
        assert_eq!(sealed[16..32], hex("f58c4c04d6e5f1ba779eabfb5f7bfbd6"));
        // NaCl's own test of crypto_secretbox: the tag stands first.
        let boxed = Cipher::new(
            Algorithm::SecretBox,
            &hex("1b27556473e985d462cd51197a9a46c76009549eac6474f206c4ee0844f68389"),
        )
        .expect("32 bytes");
        let nonce = hex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37");
        let mut sealed = Vec::new();
        let plain = hex("be075fc53c81f2d5cf141316ebeb0c7b");
        boxed.seal(b"", &plain, &mut |out| out.copy_from_slice(&nonce), &mut sealed);
        assert_eq!(sealed[24 + 16..], hex("8e993b9f48681273c29650ba32fc76ce"));
    }
}
