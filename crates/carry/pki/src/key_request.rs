//! A key of this machine and the request that somebody else certifies it.

use std::net::IpAddr;

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

use crate::files::PkiError;

/// Who or what a key is for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subscriber {
    /// Common name: the user.
    pub common_name: String,
    /// Organization: the user's group.
    pub organization: String,
    /// DNS names of a server.
    pub dns_names: Vec<String>,
    /// Addresses of a server.
    pub addresses: Vec<IpAddr>,
}

/// Makes a key; PEM.
///
/// # Errors
/// When there is no randomness.
pub fn new_private_key() -> Result<String, PkiError> {
    KeyPair::generate().map(|pair| pair.serialize_pem()).map_err(|error| failed("key", &error))
}

impl Subscriber {
    /// The request for a key, both PEM.
    ///
    /// # Errors
    /// When the key or a name cannot be used.
    pub fn request(&self, key: &str) -> Result<String, PkiError> {
        let failed = |error: &dyn std::fmt::Display| failed(&self.common_name, error);
        let pair = KeyPair::from_pem(key).map_err(|error| failed(&error))?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::OrganizationName, self.organization.as_str());
        params.distinguished_name.push(DnType::CommonName, self.common_name.as_str());
        for name in &self.dns_names {
            let name = name.as_str().try_into().map_err(|error| failed(&error))?;
            params.subject_alt_names.push(SanType::DnsName(name));
        }
        params.subject_alt_names.extend(self.addresses.iter().copied().map(SanType::IpAddress));
        let request = params.serialize_request(&pair).map_err(|error| failed(&error))?;
        request.pem().map_err(|error| failed(&error))
    }
}

fn failed(name: &str, cause: &dyn std::fmt::Display) -> PkiError {
    PkiError::Issue { name: name.to_owned(), cause: cause.to_string() }
}

/// Begin and end of the validity of the first certificate in PEM, seconds since 1970. A key may stand
/// beside it.
pub fn validity(pem: &[u8]) -> Option<(i64, i64)> {
    let blocks = x509_parser::pem::Pem::iter_from_buffer(pem).filter_map(Result::ok);
    let block = blocks.into_iter().find(|block| block.label == "CERTIFICATE")?;
    let certificate = block.parse_x509().ok()?;
    let validity = certificate.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::{Authority, Terms, requested};

    #[test]
    fn a_request_names_its_subscriber_and_is_certified() {
        let subscriber = Subscriber {
            common_name: "system:node:n".to_owned(),
            organization: "system:nodes".to_owned(),
            dns_names: vec!["n".to_owned()],
            addresses: vec![[192, 0, 2, 1].into()],
        };
        let key = new_private_key().unwrap();
        let request = subscriber.request(&key).unwrap();
        let read = requested(&request).unwrap();
        assert_eq!((read.common_name.as_str(), read.ip_addresses), ("system:node:n", 1));
        assert_eq!(
            (read.organizations, read.dns_names),
            (vec!["system:nodes".to_owned()], vec!["n".to_owned()])
        );
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::ensure(folder.path(), "ca", "ca").unwrap();
        let usages = ["client auth".to_owned()];
        let terms = Terms { usages: &usages, not_before: 1_000, not_after: 2_000 };
        let certificate = authority.sign_request(&request, &terms).unwrap();
        assert_eq!(validity(format!("{key}{certificate}").as_bytes()), Some((1_000, 2_000)));
    }
}
