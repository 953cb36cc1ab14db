//! Certificate requests (PKCS #10): what they ask for, and the certificates that answer them.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;

use crate::authority::Authority;
use crate::certificate::{Contents, extension};
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
        let info = &request.certification_request_info;
        let contents = Contents {
            subject: info.subject.as_raw(),
            key: info.subject_pki.raw,
            usages: terms.usages,
            alternative_names: alternative_names(&request),
            not_before: terms.not_before,
            not_after: terms.not_after,
        };
        self.certify(&contents).map_err(|error| failed(&error))
    }
}

/// The extension with the names that the request asks for, as it stands there.
fn alternative_names(request: &X509CertificationRequest<'_>) -> Option<Vec<u8>> {
    let name = der::oid(SUBJECT_ALTERNATIVE_NAME);
    request.certification_request_info.attributes().iter().find_map(|attribute| {
        let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else { return None };
        let found = wanted.extensions.iter().find(|one| one.oid.as_bytes() == &name[2..])?;
        Some(extension(SUBJECT_ALTERNATIVE_NAME, found.critical, found.value))
    })
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
