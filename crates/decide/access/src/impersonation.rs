//! Asking in somebody else's name: what the headers say, and which permissions it takes
//! (apiserver: pkg/endpoints/filters/impersonation, v1.37).
//!
//! There are several ways to be permitted. The narrow ones take the permission to impersonate in this way
//! (`impersonate:MODE`) and the permission for what is asked in that name (`impersonate-on:MODE:VERB`); the
//! oldest takes `impersonate` alone.

use std::collections::BTreeMap;

use plimsoll_admission::MASTERS;
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::field::FieldError;
use plimsoll_meta::name::{is_dns1123_label, is_dns1123_subdomain};

use crate::{ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

const GROUP: &str = "authentication.k8s.io";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";
/// From this many of a kind on, the permission for all of them is tried first.
const MANY: usize = 4;

/// A way to be permitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// A service account's pod asks as the node that it runs on.
    AssociatedNode,
    /// As any node.
    ArbitraryNode,
    /// As a service account.
    ServiceAccount,
    /// As anybody else.
    UserInfo,
    /// As anybody, with whatever he may do.
    Legacy,
}

/// A permission that is needed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Check {
    verb: String,
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

/// One thing after the other that must be permitted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// This one.
    One(Check),
    /// Each of these.
    Each(Vec<Check>),
    /// The first, or else each of the others.
    AllOrEach(Check, Vec<Check>),
    /// It never is; why.
    Never(Check, String),
}

/// What it takes to be permitted in one way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The user as whom permissions are asked for.
    pub requestor: User,
    /// What the verb of the request is prefixed with for the permission to do it in that name.
    pub on: Option<String>,
    /// What else must be permitted.
    pub steps: Vec<Step>,
    /// The user that the request is then made by.
    pub user: User,
    /// The verb that permitted it, for the audit; empty for [`Mode::Legacy`].
    pub constraint: String,
}

/// Reads the headers of a request, names in lower case: who is wanted, as it stands there.
pub fn wanted(headers: &[(&str, String)]) -> Result<Option<User>, String> {
    let all = |name: &'static str| {
        headers.iter().filter(move |(known, _)| *known == name).map(|(_, value)| value.clone())
    };
    let first = |name: &'static str| all(name).next().unwrap_or_default();
    let mut user = User {
        name: first("impersonate-user"),
        uid: first("impersonate-uid"),
        groups: all("impersonate-group").collect(),
        extra: BTreeMap::new(),
    };
    for (name, value) in headers {
        if let Some(key) = name.strip_prefix("impersonate-extra-") {
            user.extra.entry(unescaped(key)).or_default().push(value.clone());
        }
    }
    match (user.name.is_empty(), user == User::default()) {
        (false, _) => Ok(Some(user)),
        (true, true) => Ok(None),
        (true, false) => Err(format!("requested {} without impersonating a user name", written(&user))),
    }
}

/// A key with its `%` escapes; one that is not escaped well stands for itself.
fn unescaped(key: &str) -> String {
    let well = key.match_indices('%').all(|(at, _)| {
        key.get(at + 1..at + 3).is_some_and(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()))
    });
    match well {
        true => percent_encoding::percent_decode_str(key).decode_utf8_lossy().into_owned(),
        false => key.to_owned(),
    }
}

/// The user as Go prints its structure.
fn written(user: &User) -> String {
    let texts = |texts: &[String]| match texts {
        [] => "[]string(nil)".to_owned(),
        texts => {
            let quoted: Vec<String> = texts.iter().map(|text| format!("{text:?}")).collect();
            format!("[]string{{{}}}", quoted.join(", "))
        }
    };
    let extra: Vec<String> =
        user.extra.iter().map(|(key, values)| format!("{key:?}:{}", texts(values))).collect();
    let extra = match extra.is_empty() {
        true => "map[string][]string(nil)".to_owned(),
        false => format!("map[string][]string{{{}}}", extra.join(", ")),
    };
    format!(
        "&user.DefaultInfo{{Name:{:?}, UID:{:?}, Groups:{}, Extra:{extra}}}",
        user.name,
        user.uid,
        texts(&user.groups)
    )
}

impl Mode {
    /// All, the narrow ones first.
    pub const ALL: [Self; 5] =
        [Self::AssociatedNode, Self::ArbitraryNode, Self::ServiceAccount, Self::UserInfo, Self::Legacy];

    fn name(self) -> &'static str {
        match self {
            Self::AssociatedNode => "associated-node",
            Self::ArbitraryNode => "arbitrary-node",
            Self::ServiceAccount => "serviceaccount",
            Self::UserInfo => "user-info",
            Self::Legacy => "",
        }
    }

    fn verb(self) -> String {
        match self {
            Self::Legacy => "impersonate".to_owned(),
            mode => format!("impersonate:{}", mode.name()),
        }
    }

    /// What this way takes, if it can lead to the wanted user at all.
    pub fn plan(self, wanted: &User, requestor: &User) -> Option<Plan> {
        let bare = wanted.uid.is_empty() && wanted.groups.is_empty() && wanted.extra.is_empty();
        let (node, account) = (node(&wanted.name), account(&wanted.name));
        let fits = match self {
            Self::AssociatedNode => bare && node.is_some() && runs_on(requestor) == node,
            Self::ArbitraryNode => bare && node.is_some(),
            Self::ServiceAccount => bare && account.is_some(),
            Self::UserInfo => node.is_none() && account.is_none(),
            Self::Legacy => true,
        };
        fits.then(|| Plan {
            requestor: self.asking(requestor),
            on: (self != Self::Legacy).then(|| format!("impersonate-on:{}", self.name())),
            steps: self.steps(wanted),
            user: self.settled(wanted),
            constraint: if self == Self::Legacy { String::new() } else { self.verb() },
        })
    }

    /// Which node it is does not count for those that ask as their own.
    fn asking(self, requestor: &User) -> User {
        let mut user = requestor.clone();
        if self == Self::AssociatedNode {
            let keys = user.extra.into_keys().collect();
            user.extra =
                BTreeMap::from([("authentication.kubernetes.io/associated-node-keys".to_owned(), keys)]);
        }
        user
    }

    fn check(self, resource: &'static str, name: &str) -> Check {
        Check { verb: self.verb(), group: GROUP, resource, name: name.to_owned(), ..Check::default() }
    }

    fn steps(self, wanted: &User) -> Vec<Step> {
        let mut steps = vec![Step::One(self.who(&wanted.name))];
        if !wanted.uid.is_empty() {
            steps.push(Step::One(self.check("uids", &wanted.uid)));
        }
        steps.extend(self.groups(&wanted.groups));
        steps.extend(self.extras(&wanted.extra));
        steps
    }

    /// Names and groups are of the core group where permissions are of the old kind.
    fn group(self) -> &'static str {
        if self == Self::Legacy { "" } else { GROUP }
    }

    fn who(self, name: &str) -> Check {
        let check = Check { group: self.group(), ..self.check("users", name) };
        match (account(name), node(name)) {
            (Some((namespace, name)), _) => Check {
                resource: "serviceaccounts",
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                ..check
            },
            (None, Some(node)) if self != Self::Legacy => {
                let name = if self == Self::AssociatedNode { "*" } else { node };
                Check { resource: "nodes", name: name.to_owned(), ..check }
            }
            _ => check,
        }
    }

    fn groups(self, groups: &[String]) -> Option<Step> {
        let check = |name: &str| Check { group: self.group(), ..self.check("groups", name) };
        let narrow = self != Self::Legacy;
        let has = |wanted: &str| groups.iter().any(|group| group == wanted);
        if groups.is_empty() {
            return None;
        }
        if narrow && has("") {
            let why = "impersonating the empty string group is not allowed";
            return Some(Step::Never(check(""), why.to_owned()));
        }
        if narrow && has(MASTERS) {
            let why = "impersonating the system:masters group is not allowed";
            return Some(Step::Never(check(MASTERS), why.to_owned()));
        }
        Some(each(
            groups.iter().map(|name| check(name)).collect(),
            check("*"),
            narrow && groups.len() >= MANY,
        ))
    }

    fn extras(self, extra: &BTreeMap<String, Vec<String>>) -> Option<Step> {
        let check =
            |key: &str, name: &str| Check { subresource: key.to_owned(), ..self.check("userextras", name) };
        if extra.is_empty() {
            return None;
        }
        let narrow = self != Self::Legacy;
        if let Some(why) = extra.iter().find_map(|(key, values)| odd(key, values)).filter(|_| narrow) {
            return Some(Step::Never(check("", ""), why));
        }
        let checks: Vec<Check> = extra
            .iter()
            .flat_map(|(key, values)| values.iter().map(move |value| check(key, value)))
            .collect();
        let many = narrow && checks.len() >= MANY;
        Some(each(checks, check("*", "*"), many))
    }

    /// The user with the groups that come with his name.
    fn settled(self, wanted: &User) -> User {
        let mut user = wanted.clone();
        if node(&user.name).is_some() && self != Self::Legacy {
            user.groups = vec!["system:nodes".to_owned()];
        }
        if let (Some((namespace, _)), true) = (account(&user.name), user.groups.is_empty()) {
            user.groups =
                vec!["system:serviceaccounts".to_owned(), format!("system:serviceaccounts:{namespace}")];
        }
        let has = |wanted: &str| user.groups.iter().any(|group| group == wanted);
        let missing = match user.name == ANONYMOUS {
            true => (!has(UNAUTHENTICATED)).then_some(UNAUTHENTICATED),
            false => (!has(AUTHENTICATED) && !has(UNAUTHENTICATED)).then_some(AUTHENTICATED),
        };
        user.groups.extend(missing.map(str::to_owned));
        user
    }
}

fn each(checks: Vec<Check>, all: Check, many: bool) -> Step {
    if many { Step::AllOrEach(all, checks) } else { Step::Each(checks) }
}

/// What is wrong with an entry of extra, for the narrow ways.
fn odd(key: &str, values: &[String]) -> Option<String> {
    if key.is_empty() {
        return Some("impersonating the empty string key in extra is not allowed".to_owned());
    }
    let mut errors: Vec<FieldError> = Vec::new();
    crate::jwt_authenticator::check_domain_path(
        key,
        &plimsoll_meta::field::Path::root("extra").child("key"),
        &mut errors,
    );
    if !errors.is_empty() {
        let all = crate::document::aggregate(&errors);
        return Some(format!("impersonating an invalid key in extra is not allowed: {all}"));
    }
    if key != key.to_lowercase() {
        return Some(format!("impersonating a non-lowercase key in extra is not allowed: {key:?}"));
    }
    let empty = values.iter().any(String::is_empty);
    empty.then(|| "impersonating the empty string value in extra is not allowed".to_owned())
}

fn node(name: &str) -> Option<&str> {
    name.strip_prefix("system:node:").filter(|node| is_dns1123_subdomain(node).is_ok())
}

/// Namespace and name of a service account; a name that none can have is another user's.
fn account(name: &str) -> Option<(&str, &str)> {
    let (namespace, name) = name.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    (is_dns1123_label(namespace).is_ok() && is_dns1123_subdomain(name).is_ok()).then_some((namespace, name))
}

/// The node that a service account's token is bound to.
fn runs_on(requestor: &User) -> Option<&str> {
    account(&requestor.name)?;
    match requestor.extra.get(NODE_NAME).map(Vec::as_slice) {
        Some([node]) => Some(node),
        _ => None,
    }
}

impl Check {
    /// The permission as authorizers take it.
    pub fn attributes(&self) -> Attributes<'_> {
        Attributes {
            verb: &self.verb,
            group: self.group,
            version: "v1",
            resource: self.resource,
            subresource: &self.subresource,
            namespace: &self.namespace,
            name: &self.name,
            ..Attributes::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str, groups: &[&str]) -> User {
        let groups = groups.iter().map(|group| (*group).to_owned()).collect();
        User { name: name.to_owned(), groups, ..User::default() }
    }

    fn shown(step: &Step) -> String {
        let check = |check: &Check| {
            let Check { verb, group, resource, subresource, namespace, name } = check;
            format!("{verb} {group}/{resource}/{subresource} {namespace} {name}")
        };
        let checks = |each: &[Check]| each.iter().map(check).collect::<Vec<_>>().join(" & ");
        match step {
            Step::One(one) => check(one),
            Step::Each(each) => checks(each),
            Step::AllOrEach(all, each) => format!("{} | {}", check(all), checks(each)),
            Step::Never(_, why) => format!("never: {why}"),
        }
    }

    #[test]
    fn headers_tell_who_is_wanted() {
        let read = |headers: &[(&str, &str)]| {
            let headers: Vec<(&str, String)> =
                headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
            wanted(&headers)
        };
        assert_eq!(read(&[("accept", "x")]), Ok(None));
        let full = read(&[
            ("impersonate-user", "ann"),
            ("impersonate-group", "a"),
            ("impersonate-group", "b"),
            ("impersonate-uid", "7"),
            ("impersonate-extra-example.com%2fscope", "one"),
            ("impersonate-extra-example.com%2fscope", "two"),
            ("impersonate-extra-100%", "x"),
        ]);
        let full = full.expect("read").expect("somebody");
        assert_eq!((full.name.as_str(), full.uid.as_str(), full.groups.len()), ("ann", "7", 2));
        assert_eq!(full.extra["example.com/scope"], ["one", "two"]);
        assert_eq!(full.extra["100%"], ["x"]);
        assert_eq!(
            read(&[("impersonate-group", "dev"), ("impersonate-extra-k", "v")]).expect_err("nobody"),
            r#"requested &user.DefaultInfo{Name:"", UID:"", Groups:[]string{"dev"}, Extra:map[string][]string{"k":[]string{"v"}}} without impersonating a user name"#
        );
        assert_eq!(
            read(&[("impersonate-uid", "7")]).expect_err("nobody"),
            r#"requested &user.DefaultInfo{Name:"", UID:"7", Groups:[]string(nil), Extra:map[string][]string(nil)} without impersonating a user name"#
        );
    }

    #[test]
    fn names_come_with_their_groups() {
        for (name, groups, expected) in [
            ("ann", &[][..], &["system:authenticated"][..]),
            ("ann", &["dev"], &["dev", "system:authenticated"]),
            ("ann", &["system:unauthenticated"], &["system:unauthenticated"]),
            ("system:anonymous", &[], &["system:unauthenticated"]),
            (
                "system:serviceaccount:a:b",
                &[],
                &["system:serviceaccounts", "system:serviceaccounts:a", "system:authenticated"],
            ),
            ("system:serviceaccount:a:b", &["x"], &["x", "system:authenticated"]),
            ("system:serviceaccount:a:b:c", &[], &["system:authenticated"]),
            ("system:node:n", &[], &["system:authenticated"]),
        ] {
            let plan = Mode::Legacy.plan(&user(name, groups), &user("eve", &[])).expect("a plan");
            assert_eq!(plan.user.groups, expected, "{name}");
        }
        let node = Mode::ArbitraryNode.plan(&user("system:node:n", &[]), &user("eve", &[])).expect("a plan");
        assert_eq!(node.user.groups, ["system:nodes", "system:authenticated"]);
    }

    #[test]
    fn each_way_takes_its_permissions() {
        let mut agent = user("system:serviceaccount:a:agent", &[]);
        agent.extra.insert(NODE_NAME.to_owned(), vec!["n".to_owned()]);
        let ways = |wanted: &User, requestor: &User| -> Vec<Mode> {
            Mode::ALL.into_iter().filter(|mode| mode.plan(wanted, requestor).is_some()).collect()
        };
        use Mode::{ArbitraryNode, AssociatedNode, Legacy, ServiceAccount, UserInfo};
        let eve = user("eve", &[]);
        assert_eq!(ways(&user("system:node:n", &[]), &agent), [AssociatedNode, ArbitraryNode, Legacy]);
        assert_eq!(ways(&user("system:node:m", &[]), &agent), [ArbitraryNode, Legacy]);
        assert_eq!(ways(&user("system:node:m", &["x"]), &agent), [Legacy]);
        assert_eq!(ways(&user("system:serviceaccount:a:b", &[]), &eve), [ServiceAccount, Legacy]);
        assert_eq!(ways(&user("system:serviceaccount:a:b:c", &[]), &eve), [UserInfo, Legacy]);
        let mut ann = user("ann", &["dev"]);
        ann.extra.insert("example.com/scope".to_owned(), vec!["one".to_owned()]);
        let steps = |mode: Mode, wanted: &User, requestor: &User| -> Vec<String> {
            mode.plan(wanted, requestor).expect("a plan").steps.iter().map(shown).collect()
        };
        assert_eq!(
            steps(UserInfo, &ann, &eve),
            [
                "impersonate:user-info authentication.k8s.io/users/  ann",
                "impersonate:user-info authentication.k8s.io/groups/  dev",
                "impersonate:user-info authentication.k8s.io/userextras/example.com/scope  one",
            ]
        );
        assert_eq!(steps(Legacy, &user("ann", &[]), &eve), ["impersonate /users/  ann"]);
        assert_eq!(
            steps(Legacy, &user("system:serviceaccount:a:b", &[]), &eve),
            ["impersonate /serviceaccounts/ a b"]
        );
        assert_eq!(
            steps(AssociatedNode, &user("system:node:n", &[]), &agent),
            ["impersonate:associated-node authentication.k8s.io/nodes/  *"]
        );
        let many = steps(UserInfo, &user("ann", &["a", "b", "c", "d"]), &eve);
        assert!(many[1].starts_with("impersonate:user-info authentication.k8s.io/groups/  * | "), "{many:?}");
        for (groups, why) in [
            (["system:masters"], "never: impersonating the system:masters group is not allowed"),
            ([""], "never: impersonating the empty string group is not allowed"),
        ] {
            assert_eq!(steps(UserInfo, &user("ann", &groups), &eve)[1], why);
        }
        let plan = AssociatedNode.plan(&user("system:node:n", &[]), &agent).expect("a plan");
        assert_eq!(plan.requestor.extra["authentication.kubernetes.io/associated-node-keys"], [NODE_NAME]);
        assert_eq!(plan.on.as_deref(), Some("impersonate-on:associated-node"));
    }
}
