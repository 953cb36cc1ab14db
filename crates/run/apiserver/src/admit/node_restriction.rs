//! NodeRestriction: holds what agents write against `plimsoll-access`.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use plimsoll_access::node::{Attempt, Cluster, Identity, Refusal, admit, identify};
use plimsoll_admission::rbac::Attributes;
use plimsoll_meta::status::Status;
use serde_json::Value;

use crate::authorize;
use crate::server::Api;
use crate::user::User;

/// Admits a write of a node agent, and all writes of others.
pub(crate) async fn check(api: &Api, user: &User, attempt: &Attempt<'_>) -> Result<(), Status> {
    if identify(user) == Identity::Other {
        return Ok(());
    }
    let forbidden = |cause: String| Status::forbidden(attempt.group, attempt.resource, attempt.name, cause);
    match admit(user, attempt, &Stored(api)) {
        Ok(()) => Ok(()),
        Err(Refusal::Forbidden(cause)) => Err(forbidden(cause)),
        Err(Refusal::Missing(plural, name)) => Err(Status::not_found("", plural, &name)),
        Err(Refusal::Audience { audience, message }) => {
            let wanted = Attributes {
                verb: "request-serviceaccounts-token-audience",
                resource: &audience,
                namespace: attempt.namespace,
                name: attempt.name,
                ..Attributes::default()
            };
            match authorize::allowed(api, user, &wanted).await {
                true => Ok(()),
                false => Err(forbidden(message)),
            }
        }
    }
}

struct Stored<'a>(&'a Api);

impl Cluster for Stored<'_> {
    fn object(&self, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let group = if plural == "csidrivers" { "storage.k8s.io" } else { "" };
        let kind = plimsoll_catalogue::find(group, "v1", plural)?;
        let entry = self.0.store.get(&kind.key(namespace, name)?)?;
        crate::registry::served(kind, &entry).ok()
    }

    fn common_name(&self, request: &str) -> Result<String, String> {
        let pem = STANDARD.decode(request).map_err(|error| error.to_string())?;
        plimsoll_pki::requested(&String::from_utf8_lossy(&pem)).map(|requested| requested.common_name)
    }
}
