//! Who asks.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The group of everybody whose identity is known.
pub const AUTHENTICATED: &str = "system:authenticated";
/// The group of everybody else.
pub const UNAUTHENTICATED: &str = "system:unauthenticated";
/// The user without credentials.
pub const ANONYMOUS: &str = "system:anonymous";

/// An authenticated (or anonymous) client.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
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
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        Self { name: name.to_owned(), groups, ..Self::default() }.known()
    }

    /// The API server itself.
    pub fn server() -> Self {
        Self::authenticated("system:apiserver", &[plimsoll_admission::MASTERS])
    }

    /// A client without credentials.
    pub fn anonymous() -> Self {
        Self { name: ANONYMOUS.to_owned(), groups: vec![UNAUTHENTICATED.to_owned()], ..Self::default() }
    }

    /// The same user as one whose identity was proven
    /// (authentication/group/authenticated_group_adder.go).
    pub fn known(mut self) -> Self {
        let settled = |group: &String| group == AUTHENTICATED || group == UNAUTHENTICATED;
        if self.name != ANONYMOUS && !self.groups.iter().any(settled) {
            self.groups.push(AUTHENTICATED.to_owned());
        }
        self
    }

    /// `UserInfo` as reviews show it.
    pub fn to_info(&self) -> Value {
        let mut info = json!({"username": self.name, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }

    /// Reads `UserInfo` (`username`) or the specification of an access review (`user`).
    pub fn from_info(info: &Value) -> Self {
        let name = info["username"].as_str().or(info["user"].as_str()).unwrap_or_default();
        let extra = info["extra"].as_object().into_iter().flatten();
        Self {
            name: name.to_owned(),
            uid: info["uid"].as_str().unwrap_or_default().to_owned(),
            groups: crate::document::texts(&info["groups"]),
            extra: extra.map(|(key, values)| (key.clone(), crate::document::texts(values))).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_known_are_authenticated() {
        let groups = |user: User| user.known().groups;
        assert_eq!(groups(User { name: "a".to_owned(), ..User::default() }), [AUTHENTICATED]);
        assert_eq!(groups(User::anonymous()), [UNAUTHENTICATED]);
        assert_eq!(groups(User::authenticated("a", &["b"])), ["b", AUTHENTICATED]);
    }

    #[test]
    fn infos_are_read_as_they_are_written() {
        let extra = BTreeMap::from([("example.com/a".to_owned(), vec!["x".to_owned(), "y".to_owned()])]);
        let user = User { uid: "u".to_owned(), extra, ..User::authenticated("a", &["b"]) };
        assert_eq!(User::from_info(&user.to_info()), user);
    }
}
