//! The user that a client certificate names.

use x509_parser::prelude::{FromDer, X509Certificate};

/// Common name and organizations of a certificate.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// The user.
    pub common_name: String,
    /// The groups.
    pub organizations: Vec<String>,
}

/// Reads the subject of a DER certificate; `None` when it is damaged or has no common name.
pub fn subject(der: &[u8]) -> Option<Subject> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let text =
        |attribute: &x509_parser::x509::AttributeTypeAndValue<'_>| attribute.as_str().map(str::to_owned).ok();
    let name = certificate.subject();
    Some(Subject {
        common_name: name.iter_common_name().find_map(text)?,
        organizations: name.iter_organization().filter_map(text).collect(),
    })
}
