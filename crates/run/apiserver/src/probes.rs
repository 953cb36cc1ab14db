//! `/healthz`, `/livez` and `/readyz`: one check after the other, in upstream's words.

use http::{Response, StatusCode};
use plimsoll_meta::status::Status;

use crate::body::{self, ResponseBody};
use crate::server::Api;
use crate::stages::Asked;

const TEXT: &str = "text/plain; charset=utf-8";

/// What is checked: the name, and whether all is well.
type Check = (&'static str, fn(&Api) -> bool);

/// What each of the three paths checks. What must have happened at the start has happened, else nobody could ask.
const CHECKS: &[Check] = &[
    ("ping", |_| true),
    ("log", |_| true),
    ("etcd", |api| api.store.is_healthy()),
    ("poststarthook/rbac/bootstrap-roles", |_| true),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", |_| true),
    ("poststarthook/apiservice-status-available-controller", |_| true),
];
/// What `/readyz` checks beyond that.
const READY: &[Check] = &[
    ("etcd-readiness", |api| api.store.is_healthy()),
    ("informer-sync", |_| true),
    ("shutdown", |api| !api.leaving.is_cancelled()),
];

/// Answers one of the paths; `only` names a single check.
pub(crate) fn answer(api: &Api, asked: &Asked, path: &str, only: Option<&str>) -> Response<ResponseBody> {
    let more = if path == "readyz" { READY } else { &[] };
    let own = CHECKS.iter().chain(more).map(|(name, check)| ((*name).to_owned(), check(api)));
    let services = api.encryption.as_ref().map(|encryption| encryption.checks()).unwrap_or_default();
    let checks = own.chain(services).filter(|(name, _)| only.is_none_or(|only| only == name));
    let mut checks = checks.inspect(|(name, fine)| api.metrics.checks.found(path, name, *fine));
    match only {
        None => {
            let excluded: Vec<&str> = asked.query.all("exclude").collect();
            let verbose = asked.query.has("verbose");
            let (good, text) = report(path, &checks.collect::<Vec<_>>(), &excluded, verbose);
            let code = if good { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
            body::encoded(code, TEXT, text)
        }
        Some(_) => match checks.next() {
            None => body::failure(&Status::no_such_path()),
            Some((_, true)) => body::encoded(StatusCode::OK, TEXT, "ok"),
            Some((_, false)) => body::encoded(
                StatusCode::INTERNAL_SERVER_ERROR,
                TEXT,
                "internal server error: reason withheld\n",
            ),
        },
    }
}

/// Whether all is well, and the text that says so.
fn report(path: &str, checks: &[(String, bool)], excluded: &[&str], verbose: bool) -> (bool, String) {
    let mut text = String::new();
    let mut good = true;
    for (name, fine) in checks {
        text.push_str(&if excluded.contains(&name.as_str()) {
            format!("[+]{name} excluded: ok\n")
        } else if *fine {
            format!("[+]{name} ok\n")
        } else {
            good = false;
            format!("[-]{name} failed: reason withheld\n")
        });
    }
    let unknown: Vec<String> = excluded
        .iter()
        .filter(|wanted| checks.iter().all(|(name, _)| name != *wanted))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unknown.is_empty() {
        let list = unknown.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {list}\n"));
    }
    match (good, verbose) {
        (true, false) => (true, "ok".to_owned()),
        (true, true) => (true, format!("{text}{path} check passed\n")),
        (false, _) => (false, format!("{text}{path} check failed\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_well_and_what_is_not_is_listed_when_asked_for_or_needed() {
        let (well, ill) = ([("ping", true), ("etcd", true)], [("ping", true), ("etcd", false)]);
        for (checks, excluded, verbose, good, text) in [
            (&well, &[][..], false, true, "ok"),
            (&well, &[], true, true, "[+]ping ok\n[+]etcd ok\nlivez check passed\n"),
            (&ill, &[], false, false, "[+]ping ok\n[-]etcd failed: reason withheld\nlivez check failed\n"),
            (&ill, &["etcd"], true, true, "[+]ping ok\n[+]etcd excluded: ok\nlivez check passed\n"),
            (
                &well,
                &["x"],
                true,
                true,
                "[+]ping ok\n[+]etcd ok\nwarn: some health checks cannot be excluded: no matches for \"x\"\nlivez check passed\n",
            ),
        ] {
            let checks = checks.map(|(name, fine)| (name.to_owned(), fine));
            assert_eq!(report("livez", &checks, excluded, verbose), (good, text.to_owned()));
        }
    }
}
