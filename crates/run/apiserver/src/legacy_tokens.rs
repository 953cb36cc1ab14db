//! The use of tokens in Secrets is noted, so that those that nobody uses can be cleaned up: the day in a
//! label of the Secret, and in a ConfigMap since when this is done
//! (pkg/serviceaccount/legacy.go and pkg/controlplane/controller/legacytokentracking, v1.37).

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use plimsoll_access::account_token::{LAST_USED, legacy_secret, new_last_use};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::authenticate::stored;
use crate::object::metadata_mut;
use crate::server::Api;
use crate::user::User;
use crate::write::{Ownership, Proposal, Write};

const NAMESPACE: &str = "kube-system";
const TRACKING: &str = "kube-apiserver-legacy-service-account-token-tracking";

/// Notes that the token with these claims is used. A note that fails is made at the next use.
pub(crate) async fn note(api: &Api, claims: &Value) {
    let (namespace, name) = legacy_secret(claims);
    let Some(secret) = stored(api, "secrets", namespace, name) else { return };
    let Some(today) = new_last_use(&secret, Timestamp::now()) else { return };
    let change = |object: &mut Value| object["metadata"]["labels"][LAST_USED] = json!(today);
    if let Err(error) = update(api, "secrets", namespace, name, change).await {
        tracing::error!(namespace, name, %error, "the use of a token is not noted");
    }
}

/// Makes sure that the cluster tells since when uses are noted.
pub(crate) async fn ensure(api: &Api) -> Result<(), Status> {
    let today = json!(Timestamp::now().to_zoned(TimeZone::UTC).date().to_string());
    let Some(map) = stored(api, "configmaps", NAMESPACE, TRACKING) else {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"namespace": NAMESPACE, "name": TRACKING}, "data": {"since": today}});
        let user = User::server();
        let kind = kind("configmaps")?;
        return Write::of_server(api, &user, kind, NAMESPACE, TRACKING)?.create(map).await.map(drop);
    };
    match map["data"]["since"].as_str().map(str::parse::<Date>) {
        Some(Ok(_)) => Ok(()),
        _ => update(api, "configmaps", NAMESPACE, TRACKING, |map| map["data"]["since"] = today.clone()).await,
    }
}

fn kind(plural: &str) -> Result<&'static plimsoll_catalogue::Kind, Status> {
    plimsoll_catalogue::find("", "v1", plural)
        .ok_or_else(|| Status::internal(format!("{plural} are not in the catalogue")))
}

async fn update(
    api: &Api,
    plural: &str,
    namespace: &str,
    name: &str,
    change: impl Fn(&mut Value) + Send + Sync,
) -> Result<(), Status> {
    let user = User::server();
    let mut write = Write::of_server(api, &user, kind(plural)?, namespace, name)?;
    let changed = |_: &mut Write<'_>, old: &Value| {
        let mut new = old.clone();
        metadata_mut(&mut new).remove("resourceVersion");
        change(&mut new);
        Ok(Proposal { object: new, ownership: Ownership::Track })
    };
    write.update(changed, None).await.map(drop)
}
