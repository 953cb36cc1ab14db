//! Certificate requests (PKCS #10): what they ask for, and the certificates that answer them.

use rcgen::SigningKey;
use ring::rand::SecureRandom;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::authority::Authority;
use crate::der;
use crate::files::PkiError;

/// What a request asks to be certified.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Requested {
    /// Common name of the subject; empty if there is none.
    pub common_name: String,
    /// Organizations of the subject.
    pub organizations: Vec<String>,
    /// Names that servers are called by.
    pub dns_names: Vec<String>,
    /// Mail addresses.
    pub email_addresses: Vec<String>,
    /// How many IP addresses.
    pub ip_addresses: usize,
    /// URIs.
    pub uris: Vec<String>,
}

/// What a certificate is good for, in the words of the API (`digital signature`, `client auth`, …).
#[derive(Clone, Copy, Debug)]
pub struct Terms<'a> {
    /// Usages.
    pub usages: &'a [String],
    /// Begin of its validity, seconds since 1970.
    pub not_before: i64,
    /// End of its validity.
    pub not_after: i64,
}

const SUBJECT_ALTERNATIVE_NAME: &[u32] = &[2, 5, 29, 17];
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

/// Reads a request in PEM.
pub fn requested(pem: &str) -> Result<Requested, String> {
    let contents = contents(pem)?;
    let (_, request) = X509CertificationRequest::from_der(&contents).map_err(|error| error.to_string())?;
    let subject = &request.certification_request_info.subject;
    let text =
        |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned).ok();
    let mut found = Requested {
        common_name: subject.iter_common_name().filter_map(text).last().unwrap_or_default(),
        organizations: subject.iter_organization().filter_map(text).collect(),
        ..Requested::default()
    };
    for extension in request.requested_extensions().into_iter().flatten() {
        let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
        for name in &names.general_names {
            match name {
                GeneralName::DNSName(name) => found.dns_names.push((*name).to_owned()),
                GeneralName::RFC822Name(name) => found.email_addresses.push((*name).to_owned()),
                GeneralName::URI(uri) => found.uris.push((*uri).to_owned()),
                GeneralName::IPAddress(_) => found.ip_addresses += 1,
                _ => {}
            }
        }
    }
    Ok(found)
}

fn contents(pem: &str) -> Result<Vec<u8>, String> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes())
        .map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    match block.label.as_str() {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => Ok(block.contents),
        _ => Err("PEM block type must be CERTIFICATE REQUEST".to_owned()),
    }
}

/// End of validity of the certificate in PEM, seconds since 1970.
pub fn not_after(pem: &[u8]) -> Option<i64> {
    let (_, block) = x509_parser::pem::parse_x509_pem(pem).ok()?;
    Some(block.parse_x509().ok()?.validity().not_after.timestamp())
}

impl Authority {
    /// Certifies what a request in PEM asks for: subject and alternative names as they stand there,
    /// usages and time by `terms`, and nothing else. The answer is PEM, too.
    pub fn sign_request(&self, pem: &str, terms: &Terms<'_>) -> Result<String, PkiError> {
        let failed = |cause: &dyn std::fmt::Display| PkiError::Issue {
            name: "certificate request".to_owned(),
            cause: cause.to_string(),
        };
        let contents = contents(pem).map_err(|error| failed(&error))?;
        let (_, request) = X509CertificationRequest::from_der(&contents).map_err(|error| failed(&error))?;
        request.verify_signature().map_err(|error| failed(&error))?;
        let (_, own) =
            x509_parser::pem::parse_x509_pem(self.pem().as_bytes()).map_err(|error| failed(&error))?;
        let own = own.parse_x509().map_err(|error| failed(&error))?;
        let end = own.validity().not_after.timestamp();
        let mut serial = [0; 16];
        ring::rand::SystemRandom::new().fill(&mut serial).map_err(|error| failed(&error))?;
        serial[0] &= 0x7f;
        let info = &request.certification_request_info;
        let algorithm = algorithm(self.key());
        let extensions = extensions(&request, &own, terms).map_err(|error| failed(&error))?;
        let body = der::sequence(&[
            &der::element(0xa0, &der::integer(&[2])),
            &der::integer(&serial),
            &algorithm,
            own.subject().as_raw(),
            &der::sequence(&[&der::time(terms.not_before), &der::time(terms.not_after.min(end))]),
            info.subject.as_raw(),
            info.subject_pki.raw,
            &der::element(0xa3, &extensions),
        ]);
        let signature = self.key().sign(&body).map_err(|error| failed(&error))?;
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

fn extensions(
    request: &X509CertificationRequest<'_>,
    own: &x509_parser::certificate::X509Certificate<'_>,
    terms: &Terms<'_>,
) -> Result<Vec<u8>, String> {
    let extension = |name: &[u32], critical: bool, value: &[u8]| {
        let critical = if critical { der::element(1, &[0xff]) } else { Vec::new() };
        der::sequence(&[&der::oid(name), &critical, &der::element(4, value)])
    };
    let mut all = Vec::new();
    let (bits, extended) = usages(terms.usages)?;
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
    for attribute in request.certification_request_info.attributes() {
        let x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(wanted) =
            attribute.parsed_attribute()
        else {
            continue;
        };
        let name = der::oid(SUBJECT_ALTERNATIVE_NAME);
        for found in wanted.extensions.iter().filter(|one| one.oid.as_bytes() == &name[2..]) {
            all.push(extension(SUBJECT_ALTERNATIVE_NAME, found.critical, found.value));
        }
    }
    Ok(der::sequence(&all.iter().map(Vec::as_slice).collect::<Vec<_>>()))
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

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, DnType, KeyPair, SanType};

    fn request() -> String {
        let mut params = CertificateParams::new(vec!["web.example.com".to_owned()]).expect("name");
        params.distinguished_name.push(DnType::CommonName, "ann");
        params.distinguished_name.push(DnType::OrganizationName, "dev");
        // The same attribute by another name, so that there are two of it.
        params.distinguished_name.push(DnType::CustomDnType(vec![2, 5, 4, 10]), "ops");
        params.subject_alt_names.push(SanType::IpAddress("10.0.0.1".parse().expect("address")));
        let key = KeyPair::generate().expect("key");
        params.serialize_request(&key).expect("request").pem().expect("pem")
    }

    #[test]
    fn requests_tell_what_they_ask_for() {
        let found = requested(&request()).expect("readable");
        assert_eq!((found.common_name.as_str(), found.ip_addresses), ("ann", 1));
        assert_eq!(found.organizations, ["dev", "ops"]);
        assert_eq!(found.dns_names, ["web.example.com"]);
        for bad in ["", "x", "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"] {
            assert_eq!(requested(bad).expect_err(bad), "PEM block type must be CERTIFICATE REQUEST");
        }
    }

    #[test]
    fn certificates_carry_what_was_asked_for_and_what_is_allowed() {
        let directory = tempfile::tempdir().expect("directory");
        let authority = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
        let now = 1_800_000_000;
        let terms = Terms { usages: &usages, not_before: now - 300, not_after: now + 3600 };
        let pem = authority.sign_request(&request(), &terms).expect("signed");
        assert_eq!(not_after(pem.as_bytes()), Some(now + 3600));
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("pem");
        let made = block.parse_x509().expect("certificate");
        let (_, own) = x509_parser::pem::parse_x509_pem(authority.pem().as_bytes()).expect("pem");
        let own = own.parse_x509().expect("certificate");
        made.verify_signature(Some(own.public_key())).expect("signature");
        assert_eq!(made.issuer(), own.subject());
        let subject = crate::subject(&block.contents).expect("subject");
        assert_eq!((subject.common_name.as_str(), subject.organizations.len()), ("ann", 2));
        let usage = made.key_usage().expect("usage").expect("there").value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let extended = made.extended_key_usage().expect("usage").expect("there").value;
        assert!(extended.client_auth && !extended.server_auth);
        assert!(!made.is_ca());
        let names = made.subject_alternative_name().expect("names").expect("there");
        assert_eq!(names.value.general_names.len(), 2);
    }

    #[test]
    fn nothing_outlives_its_authority_and_no_usage_is_guessed() {
        let directory = tempfile::tempdir().expect("directory");
        let authority = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let terms = Terms { usages: &[], not_before: 0, not_after: 9_000_000_000 };
        let pem = authority.sign_request(&request(), &terms).expect("signed");
        assert_eq!(not_after(pem.as_bytes()), not_after(authority.pem().as_bytes()));
        let odd = ["flying".to_owned()];
        let error = authority.sign_request(&request(), &Terms { usages: &odd, ..terms }).expect_err("odd");
        assert!(error.to_string().contains("unrecognized usage values: [\"flying\"]"), "{error}");
    }
}
