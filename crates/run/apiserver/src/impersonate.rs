//! Asking in somebody else's name: [`plimsoll_access::impersonation`] says what it takes, here it is asked for.

use std::time::Duration;

use http::HeaderMap;
use plimsoll_access::impersonation::{Check, Mode, Plan, Step, wanted};
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::status::Status;

use crate::authorize;
use crate::kept::Kept;
use crate::server::Api;
use crate::user::User;

/// How long the way that worked last for somebody is tried first.
const REMEMBERED: Duration = Duration::from_secs(3600);
/// For how many it is remembered.
const MOST: usize = 1024;

/// The ways that worked last.
#[derive(Debug)]
pub(crate) struct Impersonation(Kept<User, Mode>);

impl Default for Impersonation {
    fn default() -> Self {
        Self(Kept::new(MOST))
    }
}

/// In whose name a request is done.
#[derive(Debug)]
pub(crate) struct Impersonated {
    pub(crate) user: User,
    /// The verb that permitted it, if it was one of the narrow ones.
    pub(crate) constraint: String,
}

/// In whose name the request with these headers shall be done, if `user` may do that; `request` is what is
/// asked. None: in his own.
pub(crate) async fn impersonate(
    api: &Api,
    user: &User,
    headers: &HeaderMap,
    request: &Attributes<'_>,
) -> Result<Option<Impersonated>, Status> {
    let texts = texts(headers)?;
    let Some(wanted) = wanted(&texts).map_err(Status::bad_request)? else { return Ok(None) };
    let last = api.impersonation.0.get(user);
    let others = Mode::ALL.into_iter().filter(|mode| Some(*mode) != last);
    let mut refused = None;
    for mode in last.into_iter().chain(others) {
        let Some(plan) = mode.plan(&wanted, user) else { continue };
        match permitted(api, &plan, request).await {
            Ok(()) => {
                if last != Some(mode) {
                    api.impersonation.0.put(user.clone(), mode, REMEMBERED);
                }
                return Ok(Some(Impersonated { user: plan.user, constraint: plan.constraint }));
            }
            Err(refusal) => refused = refused.or(Some(refusal)),
        }
    }
    Err(refused.unwrap_or_else(|| Status::internal("all impersonation modes failed")))
}

async fn permitted(api: &Api, plan: &Plan, request: &Attributes<'_>) -> Result<(), Status> {
    if let Some(on) = &plan.on {
        let verb = format!("{on}:{}", request.verb);
        authorize::ask(api, &plan.requestor, &Attributes { verb: &verb, ..*request }).await?;
    }
    let ask = async |check: &Check| authorize::ask(api, &plan.requestor, &check.attributes()).await;
    for step in &plan.steps {
        match step {
            Step::One(check) => ask(check).await?,
            Step::Each(checks) => {
                for check in checks {
                    ask(check).await?;
                }
            }
            Step::AllOrEach(all, checks) => {
                if ask(all).await.is_err() {
                    for check in checks {
                        ask(check).await?;
                    }
                }
            }
            Step::Never(check, why) => {
                return Err(authorize::refusal(&plan.requestor, &check.attributes(), why));
            }
        }
    }
    Ok(())
}

/// The headers that may say in whose name. What cannot be read is refused: left out, the request would be done
/// in the name of who asks.
fn texts(headers: &HeaderMap) -> Result<Vec<(&str, String)>, Status> {
    let refused = |_| Status::bad_request("a header that asks for impersonation is not UTF-8");
    let ours = headers.iter().filter(|(name, _)| name.as_str().starts_with("impersonate-"));
    let read = ours.map(|(name, value)| {
        let text = std::str::from_utf8(value.as_bytes()).map_err(refused)?;
        Ok((name.as_str(), text.to_owned()))
    });
    read.collect()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn names_are_read_whole_or_refused() {
        let read = |name: &'static str, value: &[u8]| {
            let value = HeaderValue::from_bytes(value).expect("a header's value");
            texts(&HeaderMap::from_iter([(name.parse().expect("a name"), value)]))
                .map(|texts| texts.into_iter().map(|(_, text)| text).collect::<Vec<_>>())
                .map_err(|status| status.code)
        };
        assert_eq!(read("impersonate-user", "jürgen".as_bytes()), Ok(vec!["jürgen".to_owned()]));
        for name in ["impersonate-user", "impersonate-group", "impersonate-uid", "impersonate-extra-a"] {
            assert_eq!(read(name, b"j\xfcrgen"), Err(400), "{name}");
        }
        assert_eq!(read("accept", b"j\xfcrgen"), Ok(Vec::new()));
    }
}
