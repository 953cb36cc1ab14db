//! Which names a kind's objects may have.

use plimsoll_meta::name;

/// Checks a name; the second argument tells that it is a `generateName` prefix, which may end
/// with a dash.
pub type NameRule = fn(&str, bool) -> Result<(), Vec<String>>;

/// What stands for the random end of a generated name while its prefix is checked.
fn whole(text: &str, prefix: bool) -> String {
    match text.strip_suffix('-') {
        Some(stem) if prefix && !stem.is_empty() => format!("{stem}a"),
        _ => text.to_owned(),
    }
}

/// A lower case RFC 1123 subdomain, the rule of most kinds.
pub(crate) fn dns_subdomain(text: &str, prefix: bool) -> Result<(), Vec<String>> {
    name::is_dns1123_subdomain(&whole(text, prefix))
}

/// A lower case RFC 1123 label.
pub(crate) fn dns_label(text: &str, prefix: bool) -> Result<(), Vec<String>> {
    name::is_dns1123_label(&whole(text, prefix))
}

/// A lower case RFC 1035 label.
pub(crate) fn dns_1035_label(text: &str, prefix: bool) -> Result<(), Vec<String>> {
    name::is_dns1035_label(&whole(text, prefix))
}

/// Anything that can stand in a path, prefixes too: the rule of RBAC.
pub(crate) fn path_segment(text: &str, _prefix: bool) -> Result<(), Vec<String>> {
    name::is_path_segment(text)
}

/// Anything that can stand in a path, the rule of kinds without one of their own.
pub(crate) fn any(text: &str, prefix: bool) -> Result<(), Vec<String>> {
    match text {
        // With something behind them they mean nothing special.
        "." | ".." if prefix => Ok(()),
        _ => name::is_path_segment(text),
    }
}
