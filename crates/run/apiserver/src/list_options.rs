//! What a list or watch asks for, held against upstream's rules.
//!
//! What enters are query parameters; what leaves is from where, at which revision and how many, or the
//! Status that clients expect (`k8s.io/apimachinery/pkg/apis/meta/internalversion/validation` and
//! `k8s.io/apiserver/pkg/storage`).

use std::time::Duration;

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_store::Revision;
use serde_json::json;

use crate::query::{self, Query};
use plimsoll_meta::page_token::PageToken;

const EXACT: &str = "Exact";
const NOT_OLDER: &str = "NotOlderThan";

/// A page of a list.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct ListOptions {
    /// The most objects of it; none for all.
    pub(crate) limit: Option<usize>,
    /// The key behind which it begins.
    pub(crate) after: Option<String>,
    /// The revision that it shows; none for the newest.
    pub(crate) at: Option<Revision>,
}

impl ListOptions {
    /// Reads the parameters of a list of the keys with `prefix`; `current` is the newest revision.
    pub(crate) fn read(query: &Query, prefix: &str, current: Revision) -> Result<Self, Status> {
        query.number("timeoutSeconds")?;
        let limit =
            query.number("limit")?.and_then(|limit| usize::try_from(limit).ok()).filter(|limit| *limit > 0);
        refuse(&list_errors(query))?;
        let (version, token) = (query.get("resourceVersion"), query.get("continue"));
        if !token.is_empty() {
            let token = PageToken::read(token)
                .map_err(|error| Status::bad_request(format!("invalid continue token: {error}")))?;
            if !version.is_empty() && version != "0" {
                let message = "specifying resource version is not allowed when using continue";
                return Err(Status::bad_request(message));
            }
            return Ok(Self { limit, after: Some(token.after(prefix)), at: token.revision().map(Revision) });
        }
        let read = revision(version)
            .map_err(|error| Status::bad_request(format!("invalid resource version: {error}")))?;
        let Some(wanted) = read else { return Ok(Self { limit, ..Self::default() }) };
        if wanted > current {
            return Err(too_large(wanted, current));
        }
        // Without a match, a version with a limit means exactly this version, and 0 the whole cache.
        let exact = match query.get("resourceVersionMatch") {
            EXACT => true,
            NOT_OLDER => false,
            _ => limit.is_some() && wanted.0 > 0,
        };
        let limit = limit.filter(|_| version != "0");
        Ok(Self { limit, after: None, at: exact.then_some(wanted) })
    }
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// With every object there is, then what changes.
    Objects,
    /// With what changes behind this revision.
    Behind(Revision),
    /// With what changes from now on.
    Now,
}

/// A watch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct WatchOptions {
    pub(crate) start: Start,
    /// The client wants to hear of progress.
    pub(crate) bookmarks: bool,
    /// When to end it; none for the usual time.
    pub(crate) timeout: Option<Duration>,
}

impl WatchOptions {
    /// Reads the parameters of a watch; `current` is the newest revision.
    pub(crate) fn read(query: &Query, current: Revision) -> Result<Self, Status> {
        let timeout = query.number("timeoutSeconds")?.and_then(|seconds| u64::try_from(seconds).ok());
        query.number("limit")?;
        refuse(&watch_errors(query))?;
        let version =
            revision(query.get("resourceVersion")).map_err(|error| Status::unnamed(error.to_string()))?;
        let version = version.filter(|version| version.0 > 0);
        // A watch from nowhere in particular begins with the present objects, as it always did.
        let initial =
            if query.has("sendInitialEvents") { query.flag("sendInitialEvents") } else { version.is_none() };
        let start = match (initial, version) {
            (true, Some(version)) if version > current => return Err(too_large(version, current)),
            (true, _) => Start::Objects,
            (false, Some(version)) => Start::Behind(version),
            (false, None) => Start::Now,
        };
        let timeout = timeout.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        Ok(Self { start, bookmarks: query.flag("allowWatchBookmarks"), timeout })
    }
}

fn list_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = Path::root("resourceVersionMatch");
    let (version, wanted) = (query.get("resourceVersion"), query.get("resourceVersionMatch"));
    if !wanted.is_empty() {
        let mut forbidden = |detail: &str| errors.push(FieldError::forbidden(&field, detail));
        if version.is_empty() {
            forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        if !query.get("continue").is_empty() {
            forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        if wanted != EXACT && wanted != NOT_OLDER {
            errors.push(FieldError::not_supported(&field, &json!(wanted), &[EXACT, NOT_OLDER, ""]));
        }
        if wanted == EXACT && version == "0" {
            let detail = "resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"";
            errors.push(FieldError::forbidden(&field, detail));
        }
    }
    if query.has("sendInitialEvents") {
        let field = Path::root("sendInitialEvents");
        errors.push(FieldError::forbidden(&field, "sendInitialEvents is forbidden for list"));
    }
    errors
}

fn watch_errors(query: &Query) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let field = Path::root("resourceVersionMatch");
    let (wanted, initial) = (query.get("resourceVersionMatch"), query.has("sendInitialEvents"));
    if initial && wanted != NOT_OLDER {
        let detail = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        errors.push(FieldError::forbidden(&field, detail));
    }
    if wanted.is_empty() {
        return errors;
    }
    if !initial {
        let detail = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided";
        errors.push(FieldError::forbidden(&field, detail));
    }
    if wanted != NOT_OLDER {
        errors.push(FieldError::not_supported(&field, &json!(wanted), &[NOT_OLDER]));
    }
    if !query.get("continue").is_empty() {
        let detail = "resourceVersionMatch is forbidden when continue is provided";
        errors.push(FieldError::forbidden(&field, detail));
    }
    errors
}

fn refuse(errors: &[FieldError]) -> Result<(), Status> {
    match errors {
        [] => Ok(()),
        _ => Err(Status::invalid("meta.k8s.io", "ListOptions", "", errors)),
    }
}

fn revision(text: &str) -> Result<Option<Revision>, FieldError> {
    if text.is_empty() {
        return Ok(None);
    }
    let invalid = |cause: &str| {
        let detail = format!("strconv.ParseUint: parsing {text:?}: {cause}");
        FieldError::invalid(&Path::root("resourceVersion"), &json!(text), detail)
    };
    if text.starts_with('+') {
        return Err(invalid("invalid syntax"));
    }
    let number = text.parse::<u64>().map_err(|error| invalid(query::number_error(&error)))?;
    Ok(Some(Revision(i64::try_from(number).unwrap_or(i64::MAX))))
}

fn too_large(wanted: Revision, current: Revision) -> Status {
    let cause = json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
    Status {
        details: json!({"causes": [cause], "retryAfterSeconds": 1}),
        ..Status::timeout(format!("Timeout: Too large resource version: {wanted}, current: {current}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MATCH: &str = "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: ";

    fn list(query: &str) -> Result<ListOptions, (u16, String)> {
        ListOptions::read(&Query::parse(Some(query)), "/p/", Revision(100))
            .map_err(|status| (status.code, status.message))
    }

    fn watch(query: &str) -> Result<Start, (u16, String)> {
        WatchOptions::read(&Query::parse(Some(query)), Revision(100))
            .map(|options| options.start)
            .map_err(|status| (status.code, status.message))
    }

    #[test]
    fn lists_read_at_the_revision_that_is_asked_for() {
        for (query, limit, at) in [
            ("", None, None),
            ("limit=5", Some(5), None),
            ("limit=-1", None, None),
            ("resourceVersion=0&limit=5", None, None),
            ("resourceVersion=7", None, None),
            ("resourceVersion=7&limit=5", Some(5), Some(7)),
            ("resourceVersion=7&limit=5&resourceVersionMatch=NotOlderThan", Some(5), None),
            ("resourceVersion=7&resourceVersionMatch=Exact", None, Some(7)),
        ] {
            let expected = ListOptions { limit, after: None, at: at.map(Revision) };
            assert_eq!(list(query), Ok(expected), "{query}");
        }
        let token = PageToken::behind("/p/a", "/p/", 9).encode();
        let expected = ListOptions { limit: Some(2), after: Some("/p/a".into()), at: Some(Revision(9)) };
        assert_eq!(list(&format!("limit=2&continue={token}")), Ok(expected));
    }

    #[test]
    fn lists_refuse_what_cannot_be_meant() {
        let token = PageToken::behind("/p/a", "/p/", 9).encode();
        for (query, code, message) in [
            ("limit=x".to_owned(), 400, "strconv.ParseInt: parsing \"x\": invalid syntax".to_owned()),
            ("limit=".to_owned(), 400, "strconv.ParseInt: parsing \"\": invalid syntax".to_owned()),
            (
                "limit=x&timeoutSeconds=99999999999999999999".to_owned(),
                400,
                "strconv.ParseInt: parsing \"99999999999999999999\": value out of range".to_owned(),
            ),
            (
                "resourceVersion=x".to_owned(),
                400,
                "invalid resource version: resourceVersion: Invalid value: \"x\": strconv.ParseUint: parsing \"x\": invalid syntax".to_owned(),
            ),
            (
                "resourceVersionMatch=Exact".to_owned(),
                422,
                format!("{MATCH}Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided"),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=Newest".to_owned(),
                422,
                format!("{MATCH}Unsupported value: \"Newest\": supported values: \"Exact\", \"NotOlderThan\", \"\""),
            ),
            (
                "resourceVersion=0&resourceVersionMatch=Exact".to_owned(),
                422,
                format!("{MATCH}Forbidden: resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""),
            ),
            (
                "sendInitialEvents=true".to_owned(),
                422,
                "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list".to_owned(),
            ),
            (
                format!("continue={token}&resourceVersion=7"),
                400,
                "specifying resource version is not allowed when using continue".to_owned(),
            ),
            (
                "continue=*".to_owned(),
                400,
                "invalid continue token: continue key is not valid: illegal base64 data at input byte 0".to_owned(),
            ),
            ("resourceVersion=101".to_owned(), 504, "Timeout: Too large resource version: 101, current: 100".to_owned()),
        ] {
            assert_eq!(list(&query), Err((code, message)), "{query}");
        }
    }

    #[test]
    fn watches_begin_where_they_are_told_to() {
        let initial = "resourceVersionMatch=NotOlderThan&sendInitialEvents=";
        for (query, start) in [
            (String::new(), Start::Objects),
            ("resourceVersion=0".to_owned(), Start::Objects),
            ("resourceVersion=7".to_owned(), Start::Behind(Revision(7))),
            ("resourceVersion=700".to_owned(), Start::Behind(Revision(700))),
            (format!("{initial}true"), Start::Objects),
            (format!("{initial}true&resourceVersion=7"), Start::Objects),
            (format!("{initial}false"), Start::Now),
            (format!("{initial}false&resourceVersion=7"), Start::Behind(Revision(7))),
        ] {
            assert_eq!(watch(&query), Ok(start), "{query}");
        }
        for (query, code, message) in [
            (
                "resourceVersion=%2B1",
                500,
                "resourceVersion: Invalid value: \"+1\": strconv.ParseUint: parsing \"+1\": invalid syntax"
                    .to_owned(),
            ),
            (
                "sendInitialEvents=true",
                422,
                format!(
                    "{MATCH}Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
                ),
            ),
            (
                "resourceVersion=7&resourceVersionMatch=NotOlderThan",
                422,
                format!(
                    "{MATCH}Forbidden: resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
                ),
            ),
            (
                "resourceVersion=700&resourceVersionMatch=NotOlderThan&sendInitialEvents=true",
                504,
                "Timeout: Too large resource version: 700, current: 100".to_owned(),
            ),
        ] {
            assert_eq!(watch(query), Err((code, message)), "{query}");
        }
    }

    #[test]
    fn both_wrong_things_of_a_watch_are_told() {
        let refused = watch("resourceVersion=7&resourceVersionMatch=Exact&sendInitialEvents=true");
        let (code, message) = refused.expect_err("refused");
        assert_eq!(code, 422);
        for part in [
            "[resourceVersionMatch: Forbidden",
            "Unsupported value: \"Exact\": supported values: \"NotOlderThan\"]",
        ] {
            assert!(message.contains(part), "{message}");
        }
    }
}
