//! A certificate authority and what it issues.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};

use crate::certificate::{Contents, extension};
use crate::der;
use crate::files::{self, PkiError};

/// Lifetime of an authority.
const AUTHORITY_LIFETIME: Duration = Duration::from_secs(3650 * 86_400);
/// Lifetime of what it issues.
const LIFETIME: Duration = Duration::from_secs(365 * 86_400);
/// A certificate with less time left than this is made anew.
const RENEW_BEFORE: Duration = Duration::from_secs(90 * 86_400);
/// Clocks of other machines may be this far behind.
const SKEW: Duration = Duration::from_secs(300);

const ORGANIZATION: &[u32] = &[2, 5, 4, 10];
const COMMON_NAME: &[u32] = &[2, 5, 4, 3];
const SUBJECT_ALTERNATIVE_NAME: &[u32] = &[2, 5, 29, 17];
/// Tags of DER.
const UTF8_STRING: u8 = 0x0c;
const SET: u8 = 0x31;
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// A certificate authority whose key is on this machine.
pub struct Authority {
    certificate: PathBuf,
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Authority").field(&self.certificate).finish()
    }
}

/// What a certificate is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Servers.
    Server,
    /// Clients.
    Client,
    /// Both, as node agents need.
    Both,
}

/// A certificate to be issued.
#[derive(Clone, Debug)]
pub struct Request {
    /// Common name: the user.
    pub common_name: String,
    /// Organizations: the user's groups.
    pub organizations: Vec<String>,
    /// What it is for.
    pub purpose: Purpose,
    /// DNS names of a server.
    pub dns_names: Vec<String>,
    /// Addresses of a server.
    pub addresses: Vec<IpAddr>,
}

/// Where an issued certificate and its key lie.
#[derive(Clone, Debug)]
pub struct CertifiedFiles {
    /// PEM of the certificate.
    pub certificate: PathBuf,
    /// PEM of the key.
    pub key: PathBuf,
}

impl Authority {
    /// The authority `NAME.crt` and `NAME.key` of a directory, made if it is not there.
    pub fn ensure(directory: &Path, name: &str, common_name: &str) -> Result<Self, PkiError> {
        let (certificate, key) =
            (directory.join(format!("{name}.crt")), directory.join(format!("{name}.key")));
        if !certificate.exists() || !key.exists() {
            let pair = new_key(common_name)?;
            let params = authority_params(common_name);
            let made = params.self_signed(&pair).map_err(|error| issue(common_name, &error))?;
            files::write_private(&key, pair.serialize_pem().as_bytes())?;
            files::write_private(&certificate, made.pem().as_bytes())?;
        }
        Self::read(&certificate, &key)
    }

    /// The authority of these files.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, PkiError> {
        let pem = files::read(certificate)?;
        let pair = KeyPair::from_pem(&files::read(key)?).map_err(|error| PkiError::unusable(key, error))?;
        let issuer =
            Issuer::from_ca_cert_pem(&pem, pair).map_err(|error| PkiError::unusable(certificate, error))?;
        Ok(Self { certificate: certificate.to_owned(), pem, issuer })
    }

    /// PEM of the authority's certificate.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// The authority's key.
    pub(crate) fn key(&self) -> &KeyPair {
        self.issuer.key()
    }

    /// The authority's certificate file.
    pub fn certificate(&self) -> &Path {
        &self.certificate
    }

    /// The certificate `NAME.crt` with `NAME.key`: an existing one that this authority signed, that
    /// carries all names and is far from its end is kept, else a new one is made.
    pub fn ensure_issued(
        &self,
        directory: &Path,
        name: &str,
        request: &Request,
    ) -> Result<CertifiedFiles, PkiError> {
        let found = CertifiedFiles {
            certificate: directory.join(format!("{name}.crt")),
            key: directory.join(format!("{name}.key")),
        };
        if found.key.exists() && self.still_good(&found.certificate, request) {
            return Ok(found);
        }
        let pair = new_key(&request.common_name)?;
        let certificate = self.issue(&pair, request)?;
        files::write_private(&found.key, pair.serialize_pem().as_bytes())?;
        files::write_private(&found.certificate, certificate.as_bytes())?;
        Ok(found)
    }

    fn issue(&self, pair: &KeyPair, request: &Request) -> Result<String, PkiError> {
        let contents = Contents {
            subject: &request.subject(),
            key: &pair.subject_public_key_info(),
            usages: &request.usages(),
            alternative_names: request.alternative_names(),
            not_before: seconds(SystemTime::now() - SKEW),
            not_after: seconds(SystemTime::now() + LIFETIME),
        };
        self.certify(&contents).map_err(|cause| PkiError::Issue { name: request.common_name.clone(), cause })
    }

    fn still_good(&self, certificate: &Path, request: &Request) -> bool {
        let Ok(pem) = files::read(certificate) else { return false };
        let Ok((_, pem)) = x509_parser::pem::parse_x509_pem(pem.as_bytes()) else { return false };
        let Ok(parsed) = pem.parse_x509() else { return false };
        let Ok((_, own)) = x509_parser::pem::parse_x509_pem(self.pem.as_bytes()) else { return false };
        let Ok(own) = own.parse_x509() else { return false };
        let until = parsed.validity().not_after.timestamp();
        until > seconds(SystemTime::now() + RENEW_BEFORE)
            && parsed.issuer() == own.subject()
            && parsed.verify_signature(Some(own.public_key())).is_ok()
            && request.names_in(&parsed)
            && request.groups_in(&parsed)
    }
}

impl Request {
    /// A client certificate for a user of these groups.
    pub fn client(user: &str, groups: &[&str]) -> Self {
        Self {
            common_name: user.to_owned(),
            organizations: groups.iter().map(|group| (*group).to_owned()).collect(),
            purpose: Purpose::Client,
            dns_names: Vec::new(),
            addresses: Vec::new(),
        }
    }

    /// The subject: each organization for itself, then the common name.
    fn subject(&self) -> Vec<u8> {
        let part = |name: &[u32], value: &str| {
            let text = der::element(UTF8_STRING, value.as_bytes());
            der::element(SET, &der::sequence(&[&der::oid(name), &text]))
        };
        let mut parts: Vec<Vec<u8>> =
            self.organizations.iter().map(|group| part(ORGANIZATION, group)).collect();
        parts.push(part(COMMON_NAME, &self.common_name));
        der::sequence(&parts.iter().map(Vec::as_slice).collect::<Vec<_>>())
    }

    fn usages(&self) -> Vec<String> {
        let extended: &[&str] = match self.purpose {
            Purpose::Server => &["server auth"],
            Purpose::Client => &["client auth"],
            Purpose::Both => &["server auth", "client auth"],
        };
        let all = ["digital signature", "key encipherment"].into_iter().chain(extended.iter().copied());
        all.map(str::to_owned).collect()
    }

    fn alternative_names(&self) -> Option<Vec<u8>> {
        let dns = self.dns_names.iter().map(|name| der::element(DNS_NAME, name.as_bytes()));
        let addresses = self.addresses.iter().map(|address| match address {
            IpAddr::V4(four) => der::element(IP_ADDRESS, &four.octets()),
            IpAddr::V6(six) => der::element(IP_ADDRESS, &six.octets()),
        });
        let all: Vec<Vec<u8>> = dns.chain(addresses).collect();
        let parts: Vec<&[u8]> = all.iter().map(Vec::as_slice).collect();
        (!all.is_empty()).then(|| extension(SUBJECT_ALTERNATIVE_NAME, false, &der::sequence(&parts)))
    }

    fn names_in(&self, certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
        use x509_parser::extensions::GeneralName;
        let Ok(found) = certificate.subject_alternative_name() else { return false };
        let found = found.map(|extension| extension.value.general_names.as_slice()).unwrap_or_default();
        let dns =
            |name: &String| found.iter().any(|one| matches!(one, GeneralName::DNSName(dns) if dns == name));
        let address = |address: &IpAddr| {
            let bytes = match address {
                IpAddr::V4(four) => four.octets().to_vec(),
                IpAddr::V6(six) => six.octets().to_vec(),
            };
            found.iter().any(|one| matches!(one, GeneralName::IPAddress(found) if *found == bytes.as_slice()))
        };
        self.dns_names.iter().all(dns) && self.addresses.iter().all(address)
    }

    fn groups_in(&self, certificate: &x509_parser::certificate::X509Certificate<'_>) -> bool {
        let found = certificate.subject().iter_organization().filter_map(|one| one.as_str().ok());
        found.eq(self.organizations.iter().map(String::as_str))
    }
}

/// Seconds since 1970.
fn seconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |time| time.as_secs());
    i64::try_from(since).unwrap_or(i64::MAX)
}

fn authority_params(common_name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyCertSign,
    ];
    params.not_before = (SystemTime::now() - SKEW).into();
    params.not_after = (SystemTime::now() + AUTHORITY_LIFETIME).into();
    params
}

fn new_key(name: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|error| issue(name, &error))
}

fn issue(name: &str, error: &rcgen::Error) -> PkiError {
    PkiError::Issue { name: name.to_owned(), cause: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, dns: &[&str]) -> Request {
        Request {
            purpose: Purpose::Server,
            dns_names: dns.iter().map(|name| (*name).to_owned()).collect(),
            addresses: vec!["127.0.0.1".parse().expect("address")],
            ..Request::client(name, &["a", "b"])
        }
    }

    #[test]
    fn certificates_are_kept_while_they_serve() {
        let directory = tempfile::tempdir().expect("directory");
        let authority = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let pem = |files: &CertifiedFiles| files::read(&files.certificate).expect("certificate");
        let first =
            pem(&authority.ensure_issued(directory.path(), "web", &request("web", &["a"])).expect("issued"));
        let again = Authority::ensure(directory.path(), "ca", "test-ca").expect("adopted");
        assert_eq!(
            pem(&again.ensure_issued(directory.path(), "web", &request("web", &["a"])).expect("kept")),
            first
        );
        let more = pem(&again
            .ensure_issued(directory.path(), "web", &request("web", &["a", "b"]))
            .expect("renewed"));
        assert_ne!(more, first);
    }

    #[test]
    fn a_new_authority_replaces_what_the_old_one_issued() {
        let directory = tempfile::tempdir().expect("directory");
        let old = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let first = old.ensure_issued(directory.path(), "web", &request("web", &[])).expect("issued");
        let before = files::read(&first.certificate).expect("certificate");
        std::fs::remove_file(old.certificate()).expect("removed");
        let new = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        new.ensure_issued(directory.path(), "web", &request("web", &[])).expect("issued");
        assert_ne!(files::read(&first.certificate).expect("certificate"), before);
    }

    #[test]
    fn certificates_carry_all_groups_names_and_their_purpose() {
        let directory = tempfile::tempdir().expect("directory");
        let authority = Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let groups = ["system:masters", "dev", "ops: 東"];
        let wanted = Request {
            organizations: groups.map(str::to_owned).to_vec(),
            purpose: Purpose::Both,
            addresses: vec!["10.0.0.1".parse().expect("address"), "fd00::1".parse().expect("address")],
            ..request("ann", &["web.example.com"])
        };
        let issued = authority.ensure_issued(directory.path(), "ann", &wanted).expect("issued");
        let pem = files::read(&issued.certificate).expect("certificate");
        let (_, block) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).expect("pem");
        let subject = crate::subject(&block.contents).expect("subject");
        assert_eq!(
            (subject.common_name.as_str(), &subject.organizations[..]),
            ("ann", &groups.map(str::to_owned)[..])
        );
        let made = block.parse_x509().expect("certificate");
        let extended = made.extended_key_usage().expect("usage").expect("there").value;
        assert!(extended.client_auth && extended.server_auth && !made.is_ca());
        assert!(wanted.names_in(&made));
        assert!(authority.still_good(&issued.certificate, &wanted));
        let fewer = Request { organizations: vec!["dev".to_owned()], ..wanted };
        assert!(!authority.still_good(&issued.certificate, &fewer));
    }

    #[test]
    fn keys_are_private() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().expect("directory");
        Authority::ensure(directory.path(), "ca", "test-ca").expect("authority");
        let mode = std::fs::metadata(directory.path().join("ca.key")).expect("key").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
