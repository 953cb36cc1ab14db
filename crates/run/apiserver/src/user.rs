//! Who asks.

use std::collections::BTreeMap;

/// The group of everybody whose identity is known.
pub(crate) const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub(crate) const UNAUTHENTICATED: &str = "system:unauthenticated";

/// An authenticated (or anonymous) client.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct User {
    /// Unique name, for example `system:serviceaccount:default:web`.
    pub name: String,
    /// Unique id, if the authenticator knows one.
    pub uid: String,
    /// Groups, `system:authenticated` among them.
    pub groups: Vec<String>,
    /// What else the authenticator tells.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// A known user of these groups.
    pub fn authenticated(name: &str, groups: &[&str]) -> Self {
        let mut groups: Vec<String> = groups.iter().map(|group| (*group).to_owned()).collect();
        groups.push(AUTHENTICATED.to_owned());
        Self { name: name.to_owned(), groups, ..Self::default() }
    }

    /// This server itself.
    pub(crate) fn server() -> Self {
        Self::authenticated("system:apiserver", &[plimsoll_admission::MASTERS])
    }

    /// A client without credentials.
    pub fn anonymous() -> Self {
        Self {
            name: "system:anonymous".to_owned(),
            groups: vec![UNAUTHENTICATED.to_owned()],
            ..Self::default()
        }
    }
}
