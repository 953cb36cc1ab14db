//! Certificates as they are written: subject, key, usages and names in, PEM out.

use rcgen::SigningKey;
use ring::rand::SecureRandom;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;

use crate::authority::Authority;
use crate::der;

/// What a certificate says.
pub(crate) struct Contents<'a> {
    /// The subject, encoded.
    pub(crate) subject: &'a [u8],
    /// The `SubjectPublicKeyInfo`, encoded.
    pub(crate) key: &'a [u8],
    /// What it is good for, in the words of the API.
    pub(crate) usages: &'a [String],
    /// The extension with alternative names, encoded.
    pub(crate) alternative_names: Option<Vec<u8>>,
    /// Begin of its validity, seconds since 1970.
    pub(crate) not_before: i64,
    /// End of its validity; that of the authority if that is earlier.
    pub(crate) not_after: i64,
}

const KEY_USAGE: &[u32] = &[2, 5, 29, 15];
const EXTENDED_KEY_USAGE: &[u32] = &[2, 5, 29, 37];
const BASIC_CONSTRAINTS: &[u32] = &[2, 5, 29, 19];
const AUTHORITY_KEY: &[u32] = &[2, 5, 29, 35];

/// Bits of the key usage extension.
const KEY_USAGES: &[(&str, u16)] = &[
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];

/// Object identifiers of the extended key usage extension, in the order of Go's constants.
const EXTENDED_KEY_USAGES: &[(&str, &[u32])] = &[
    ("any", &[2, 5, 29, 37, 0]),
    ("server auth", &[1, 3, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[1, 3, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[1, 3, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[1, 3, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[1, 3, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[1, 3, 6, 1, 5, 5, 7, 3, 6]),
    ("ipsec user", &[1, 3, 6, 1, 5, 5, 7, 3, 7]),
    ("timestamping", &[1, 3, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[1, 3, 6, 1, 5, 5, 7, 3, 9]),
    ("microsoft sgc", &[1, 3, 6, 1, 4, 1, 311, 10, 3, 3]),
    ("netscape sgc", &[2, 16, 840, 1, 113_730, 4, 1]),
];

impl Authority {
    /// Signs a certificate.
    pub(crate) fn certify(&self, contents: &Contents<'_>) -> Result<String, String> {
        let (_, own) =
            x509_parser::pem::parse_x509_pem(self.pem().as_bytes()).map_err(|error| error.to_string())?;
        let own = own.parse_x509().map_err(|error| error.to_string())?;
        let until = contents.not_after.min(own.validity().not_after.timestamp());
        let mut serial = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut serial).map_err(|error| error.to_string())?;
        serial[0] &= 0x7f;
        let algorithm = algorithm(self.key());
        let body = der::sequence(&[
            &der::element(0xa0, &der::integer(&[2])),
            &der::integer(&serial),
            &algorithm,
            own.subject().as_raw(),
            &der::sequence(&[&der::time(contents.not_before), &der::time(until)]),
            contents.subject,
            contents.key,
            &der::element(0xa3, &extensions(contents, &own)?),
        ]);
        let signature = self.key().sign(&body).map_err(|error| error.to_string())?;
        Ok(pem_of("CERTIFICATE", &der::sequence(&[&body, &algorithm, &der::bits(&signature)])))
    }
}

fn algorithm(key: &rcgen::KeyPair) -> Vec<u8> {
    let name = key.algorithm();
    if *name == rcgen::PKCS_ECDSA_P256_SHA256 {
        der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 2])])
    } else if *name == rcgen::PKCS_ECDSA_P384_SHA384 {
        der::sequence(&[&der::oid(&[1, 2, 840, 10045, 4, 3, 3])])
    } else if *name == rcgen::PKCS_ED25519 {
        der::sequence(&[&der::oid(&[1, 3, 101, 112])])
    } else {
        der::sequence(&[&der::oid(&[1, 2, 840, 113_549, 1, 1, 11]), &der::element(5, &[])])
    }
}

fn extensions(contents: &Contents<'_>, own: &X509Certificate<'_>) -> Result<Vec<u8>, String> {
    let mut all = Vec::new();
    let (bits, extended) = usages(contents.usages)?;
    if bits != 0 {
        all.push(extension(KEY_USAGE, true, &der::named_bits(bits)));
    }
    if !extended.is_empty() {
        let parts: Vec<&[u8]> = extended.iter().map(Vec::as_slice).collect();
        all.push(extension(EXTENDED_KEY_USAGE, false, &der::sequence(&parts)));
    }
    all.push(extension(BASIC_CONSTRAINTS, true, &der::sequence(&[])));
    for known in own.extensions() {
        if let ParsedExtension::SubjectKeyIdentifier(id) = known.parsed_extension() {
            all.push(extension(AUTHORITY_KEY, false, &der::sequence(&[&der::element(0x80, id.0)])));
        }
    }
    all.extend(contents.alternative_names.clone());
    Ok(der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>()))
}

/// One extension.
pub(crate) fn extension(name: &[u32], critical: bool, value: &[u8]) -> Vec<u8> {
    let critical = if critical { der::element(1, &[0xff]) } else { Vec::new() };
    der::sequence(&[&der::oid(name), &critical, &der::element(4, value)])
}

/// Bits of the key usage and identifiers of the extended usages, each once.
fn usages(names: &[String]) -> Result<(u16, Vec<Vec<u8>>), String> {
    let unknown: Vec<&String> = names
        .iter()
        .filter(|name| KEY_USAGES.iter().all(|(known, _)| known != name))
        .filter(|name| EXTENDED_KEY_USAGES.iter().all(|(known, _)| known != name))
        .collect();
    if !unknown.is_empty() {
        return Err(format!("unrecognized usage values: {unknown:?}"));
    }
    let wanted = |known: &&str| names.iter().any(|name| name == known);
    let bits = KEY_USAGES.iter().filter(|(known, _)| wanted(known)).fold(0, |bits, (_, bit)| bits | 1 << bit);
    let mut extended: Vec<Vec<u8>> = Vec::new();
    for (_, name) in EXTENDED_KEY_USAGES.iter().filter(|(known, _)| wanted(known)) {
        let name = der::oid(name);
        if !extended.contains(&name) {
            extended.push(name);
        }
    }
    Ok((bits, extended))
}

fn pem_of(label: &str, contents: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(contents);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
