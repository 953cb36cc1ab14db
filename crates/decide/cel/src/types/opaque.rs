//! Values of Kubernetes' libraries.

use std::fmt;
use std::net::IpAddr;
use std::rc::Rc;
use std::sync::Arc;

use crate::library::authorizer::{AuthorizerValue, Decision};
use crate::library::cidr::Cidr;
use crate::library::format::NamedFormat;
use crate::library::quantity::Quantity;
use crate::library::semver::Version;
use crate::library::urls::Url;

/// A value whose parts only its library reaches.
#[derive(Clone)]
pub enum Opaque<'a> {
    /// A quantity.
    Quantity(Quantity),
    /// A URL.
    Url(Arc<Url>),
    /// An IP address.
    Ip(IpAddr),
    /// A range of addresses.
    Cidr(Cidr),
    /// A semantic version.
    Semver(Arc<Version>),
    /// A named format.
    Format(&'static NamedFormat),
    /// An authorizer, or a check that is being built with one.
    Authorizer(Rc<AuthorizerValue<'a>>),
    /// The answer of an authorizer.
    Decision(Rc<Decision>),
}

impl Opaque<'_> {
    /// The type's name.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Quantity(_) => "kubernetes.Quantity",
            Self::Url(_) => "kubernetes.URL",
            Self::Ip(_) => "net.IP",
            Self::Cidr(_) => "net.CIDR",
            Self::Semver(_) => "kubernetes.Semver",
            Self::Format(_) => "kubernetes.NamedFormat",
            Self::Authorizer(value) => value.type_name(),
            Self::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// The size that costs are counted with.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Ip(IpAddr::V4(_)) => Some(4),
            Self::Ip(IpAddr::V6(_)) => Some(16),
            Self::Cidr(cidr) => Some(u64::from(cidr.bits).div_ceil(8)),
            _ => None,
        }
    }
}

impl PartialEq for Opaque<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Quantity(a), Self::Quantity(b)) => a == b,
            (Self::Url(a), Self::Url(b)) => a == b,
            (Self::Ip(a), Self::Ip(b)) => a == b,
            (Self::Cidr(a), Self::Cidr(b)) => a == b,
            (Self::Semver(a), Self::Semver(b)) => a.same(b),
            (Self::Format(a), Self::Format(b)) => a.name == b.name,
            (Self::Authorizer(a), Self::Authorizer(b)) => a == b,
            (Self::Decision(a), Self::Decision(b)) => a == b,
            _ => false,
        }
    }
}

impl fmt::Debug for Opaque<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.type_name())
    }
}
