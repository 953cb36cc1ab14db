//! Wires the controllers of certificates and of tokens in Secrets: here are the keys.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Request};
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use k8s_openapi::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount};
use plimsoll_client::Filter;
use plimsoll_pki::{Terms, Tokens};
use plimsoll_reconcile::account_secret;
use plimsoll_reconcile::action::Action;
use plimsoll_reconcile::certificates::{self, Requested, Signing};
use plimsoll_reconcile::legacy_tokens;
use serde_json::Value;

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// When to ask again a server that did not answer.
const LATER: Duration = Duration::from_secs(1);

/// Approves what node agents ask for themselves.
pub(crate) fn approving(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let requests = context.informers.informer::<CertificateSigningRequest>();
    let unit = unit.input(&requests, |request| vec![Key::of(request)]);
    let client = context.client.clone();
    Ok(unit.decide_async(move |key, _| {
        let (request, client) = (requests.get("", &key.name), client.clone());
        async move {
            let Some(request) = request else { return Vec::new() };
            let Ok(asked) = requested(&request) else { return Vec::new() };
            let recognized = certificates::recognized(&request, &asked);
            if recognized.is_empty() {
                return Vec::new();
            }
            for found in recognized {
                let question = certificates::review(&request, found.permission);
                if allowed(&client, &question).await {
                    return vec![certificates::approve(&request, found.message)];
                }
            }
            vec![Action::RequeueAfter(certificates::ASK_AGAIN)]
        }
    }))
}

/// Signs what was approved with the cluster's authority.
pub(crate) fn signing(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let requests = context.informers.informer::<CertificateSigningRequest>();
    let unit = unit.input(&requests, |request| vec![Key::of(request)]);
    let authority = context.config.authority.clone();
    let longest = context.config.signing_duration.unwrap_or(certificates::LONGEST);
    Ok(unit.decide(move |key, now| {
        let (Some(request), Some(authority)) = (requests.get("", &key.name), &authority) else {
            return Vec::new();
        };
        let Ok(asked) = requested(&request) else { return Vec::new() };
        let (not_before, not_after) = match certificates::signing(&request, &asked, longest, now) {
            Signing::None => return Vec::new(),
            Signing::Refuse(refusal) => return vec![*refusal],
            Signing::Sign { not_before, not_after } => (not_before, not_after),
        };
        let usages = request.spec.usages.clone().unwrap_or_default();
        let terms = Terms { usages: &usages, not_before, not_after };
        match authority.sign_request(&text(&request), &terms) {
            Ok(certificate) => vec![certificates::issue(&request, &STANDARD.encode(certificate))],
            Err(error) => {
                tracing::warn!(request = key.name, %error, "cannot sign a certificate request");
                Vec::new()
            }
        }
    }))
}

/// Deletes requests whose time is over.
pub(crate) fn cleaning(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let requests = context.informers.informer::<CertificateSigningRequest>();
    let unit = unit.input(&requests, |request| vec![Key::of(request)]);
    Ok(unit.decide(move |key, now| {
        let Some(request) = requests.get("", &key.name) else { return Vec::new() };
        let certificate = request.status.as_ref().and_then(|status| status.certificate.as_ref());
        let ends = certificate.and_then(|certificate| plimsoll_pki::not_after(&certificate.0));
        certificates::clean(&request, ends, now)
    }))
}

/// Tokens in Secrets. Only these Secrets are watched, not everybody's.
pub(crate) fn tokens(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let fields = Some(format!("type={}", account_secret::TYPE));
    let secrets = context.informers.filtered::<Secret>(Filter { fields, ..Filter::default() });
    let accounts = context.informers.informer::<ServiceAccount>();
    let all = secrets.clone();
    let unit = unit.input(&secrets, |secret| vec![Key::of(secret)]).input(&accounts, move |account| {
        let namespace = account.metadata.namespace.as_deref();
        let of = |secret: &Secret| {
            secret.metadata.namespace.as_deref() == namespace
                && account_secret::account(secret) == account.metadata.name.as_deref()
        };
        all.list().iter().filter(|secret| of(secret)).map(|secret| Key::of(&**secret)).collect()
    });
    let (client, token_key) = (context.client.clone(), context.config.token_key.clone());
    let authority = context.config.ca_certificate_pem.clone();
    Ok(unit.decide_async(move |key, _| {
        let secret = secrets.get(&key.namespace, &key.name);
        let (accounts, client, token_key) = (accounts.clone(), client.clone(), token_key.clone());
        let authority = authority.clone();
        async move {
            let (Some(secret), Some(token_key)) = (secret, token_key) else { return Vec::new() };
            let Some(name) = account_secret::account(&secret).map(str::to_owned) else { return Vec::new() };
            let known = accounts.get(&key.namespace, &name).map(|account| (*account).clone());
            let mut account = known.filter(|account| account_secret::belongs(&secret, account));
            if account.is_none() {
                // The Secret may be seen before its account is: only the server knows that there is none.
                let api: kube::Api<ServiceAccount> = kube::Api::namespaced(client, &key.namespace);
                account = match api.get_opt(&name).await {
                    Ok(found) => found,
                    Err(_) => return vec![Action::RequeueAfter(LATER)],
                };
            }
            account_secret::decide(&secret, account.as_ref(), &authority, |claims| {
                let signed = Tokens::read(&token_key, &[]).and_then(|key| key.sign(&claims));
                signed.inspect_err(|error| tracing::warn!(%error, "a token in a Secret is not signed")).ok()
            })
        }
    }))
}

/// Tokens in Secrets that nobody uses any more.
pub(crate) fn unused_tokens(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let fields = Some(format!("type={}", account_secret::TYPE));
    let secrets = context.informers.filtered::<Secret>(Filter { fields, ..Filter::default() });
    let fields = Some(format!("metadata.name={}", legacy_tokens::TRACKING));
    let tracking = context.informers.filtered::<ConfigMap>(Filter { fields, ..Filter::default() });
    let accounts = context.informers.informer::<ServiceAccount>();
    let pods = context.informers.informer::<Pod>();
    let unit = unit.input(&secrets, |secret| vec![Key::of(secret)]);
    let unit =
        unit.input(&tracking, |_| Vec::new()).input(&accounts, |_| Vec::new()).input(&pods, |_| Vec::new());
    Ok(unit.decide(move |key, now| {
        let Some(secret) = secrets.get(&key.namespace, &key.name) else { return Vec::new() };
        let account = account_secret::account(&secret).and_then(|name| accounts.get(&key.namespace, name));
        let map = tracking.get("kube-system", legacy_tokens::TRACKING);
        let since = map.as_ref().and_then(|map| map.data.as_ref()?.get("since")).map(String::as_str);
        let used = |name: &str| {
            let all = pods.list();
            let here = |pod: &Pod| pod.metadata.namespace.as_deref() == Some(key.namespace.as_str());
            all.iter().any(|pod| here(pod) && legacy_tokens::uses(pod, name))
        };
        legacy_tokens::decide(&secret, account.as_deref(), since, used, now)
    }))
}

fn text(request: &CertificateSigningRequest) -> String {
    String::from_utf8_lossy(&request.spec.request.0).into_owned()
}

fn requested(request: &CertificateSigningRequest) -> Result<Requested, String> {
    let found = plimsoll_pki::requested(&text(request))?;
    let names = [found.dns_names.len(), found.email_addresses.len(), found.ip_addresses, found.uris.len()];
    Ok(Requested { common_name: found.common_name, organizations: found.organizations, names })
}

async fn allowed(client: &kube::Client, question: &Value) -> bool {
    let request = Request::builder()
        .method(Method::POST)
        .uri("/apis/authorization.k8s.io/v1/subjectaccessreviews")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(question.to_string().into_bytes());
    let Ok(request) = request else { return false };
    client.request::<Value>(request).await.is_ok_and(|review| review["status"]["allowed"] == true)
}
