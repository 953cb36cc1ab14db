//! The kind ProportionalAutoscaler: what the API server must know before the controller of that name can work.

use anyhow::Context;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind, PostParams};
use plimsoll_document::Document;
use serde_json::Value;

use super::COMPONENT;

/// The controller that works on it.
const CONTROLLER: &str = "proportional-autoscaler-controller";

/// The definition of the kind, and who may use it.
pub(crate) fn objects() -> anyhow::Result<Vec<Value>> {
    let mut list = Document::yaml(plimsoll_reconcile::proportional::DEFINITION)?.value;
    Ok(serde_json::from_value(list["items"].take())?)
}

/// Makes what is missing of it; what is there is its owner's, of whatever version. Where that may not be, the
/// other controllers work all the same.
pub(super) async fn install(client: &kube::Client, config: &plimsoll_controllers::Config) {
    if !config.controllers.includes(CONTROLLER) {
        return;
    }
    match create(client).await {
        Ok(0) => {}
        Ok(made) => tracing::info!(made, "the kind ProportionalAutoscaler is defined"),
        Err(error) => tracing::warn!(
            %error,
            "the kind ProportionalAutoscaler is not defined: see \"With another API server\" in \
             docs/autoscaling.md, or choose --controllers=*,-{CONTROLLER}"
        ),
    }
}

/// Tells how many objects were missing.
async fn create(client: &kube::Client) -> anyhow::Result<usize> {
    let params = PostParams { field_manager: Some(COMPONENT.to_owned()), ..PostParams::default() };
    let mut made = 0;
    for object in objects()? {
        let object: DynamicObject = serde_json::from_value(object)?;
        let types = object.types.as_ref().context("an object without a kind")?;
        let kind = GroupVersionKind::try_from(types)?;
        let api = Api::<DynamicObject>::all_with(client.clone(), &ApiResource::from_gvk(&kind));
        match api.create(&params, &object).await {
            Ok(_) => made += 1,
            Err(kube::Error::Api(status)) if status.code == 409 => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(made)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::collections::BTreeSet;
    use std::convert::Infallible;
    use std::sync::{Arc, Mutex};

    use http::{Request, Response};
    use http_body_util::{BodyExt as _, Full};
    use kube::client::Body;
    use serde_json::json;

    use super::*;

    /// A server that keeps names, and whether it lets anybody make anything.
    fn server(open: bool) -> (kube::Client, Arc<Mutex<BTreeSet<String>>>) {
        let names = Arc::new(Mutex::new(BTreeSet::new()));
        let known = names.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let known = known.clone();
            async move {
                let path = request.uri().path().to_owned();
                let body = request.into_body().collect().await.unwrap().to_bytes();
                let object: Value = serde_json::from_slice(&body).unwrap();
                let name = format!("{path}/{}", object["metadata"]["name"].as_str().unwrap());
                let failed = |code: u16, reason: &str| {
                    let status = json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
                        "reason": reason, "message": reason});
                    (code, status)
                };
                let (code, answer) = match open {
                    false => failed(403, "Forbidden"),
                    true if known.lock().unwrap().insert(name) => (201, object),
                    true => failed(409, "AlreadyExists"),
                };
                let body = Full::new(bytes::Bytes::from(answer.to_string()));
                Ok::<_, Infallible>(Response::builder().status(code).body(body).unwrap())
            }
        });
        (plimsoll_client::from_service(service), names)
    }

    #[tokio::test]
    async fn what_is_missing_is_made_and_what_is_there_stays() {
        let (client, names) = server(true);
        assert_eq!(create(&client).await.unwrap(), 3);
        let defined = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/proportionalautoscalers.autoscaling.plimsoll.io";
        assert!(names.lock().unwrap().contains(defined), "{names:?}");
        assert_eq!(create(&client).await.unwrap(), 0);
        let (client, _) = server(false);
        assert!(create(&client).await.unwrap_err().to_string().contains("Forbidden"));
    }
}
