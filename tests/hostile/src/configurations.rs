//! Configuration files.

use std::sync::Arc;

use plimsoll_access::authentication_config::AuthenticationConfig;
use plimsoll_access::authorization_config::AuthorizationConfig;
use plimsoll_admission::plugin_config;
use plimsoll_admission::pod_security;
use plimsoll_document::Document;
use plimsoll_encryption::kms::{SEED, Seed, Seeds, Source};
use serde_json::Value;

use crate::{Decoder, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "audit_policy", examples: audit_policies, read: read_audit },
    Decoder { name: "encryption_configuration", examples: encryptions, read: read_encryption },
    Decoder { name: "authentication_configuration", examples: authentications, read: read_authentication },
    Decoder { name: "authorization_configuration", examples: authorizations, read: read_authorization },
    Decoder { name: "admission_configuration", examples: admissions, read: read_admission },
];

fn document(bytes: &[u8]) -> Value {
    Document::yaml(&text(bytes)).map(|document| document.value).unwrap_or_default()
}

fn audit_policies() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived]\nomitManagedFields: true\nrules:\n- level: Metadata\n  users: [a]\n  userGroups: [b]\n  verbs: [get]\n  namespaces: [c]\n  nonResourceURLs: ['/healthz*']\n  omitStages: [Panic]\n- level: RequestResponse\n  resources:\n  - group: apps\n    resources: ['*/status', pods]\n    resourceNames: [x]\n",
    ])
}

fn read_audit(bytes: &[u8]) {
    drop(plimsoll_audit::Policy::read(&document(bytes)));
}

fn encryptions() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n- resources: [secrets, '*.apps', '*.*']\n  providers:\n  - aescbc:\n      keys:\n      - {name: k, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}\n  - aesgcm: {keys: [{name: g, secret: AAAAAAAAAAAAAAAAAAAAAA==}]}\n  - secretbox: {keys: [{name: s, secret: AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=}]}\n  - kms: {apiVersion: v2, name: m, endpoint: 'unix:///run/kms.sock', timeout: 3s}\n  - identity: {}\n",
    ])
}

/// A key management service that says yes to everything.
#[derive(Debug)]
struct Obliging;

impl Seeds for Obliging {
    fn current(&self) -> Arc<(Source, Seed)> {
        Arc::new((Source::default(), Seed(vec![0; SEED])))
    }

    fn open(&self, _: &Source) -> Result<Seed, String> {
        Ok(Seed(vec![0; SEED]))
    }
}

/// The configuration, and stored values, which it shares its bytes with.
fn read_encryption(bytes: &[u8]) {
    let Ok(rules) = plimsoll_encryption::Rules::read(&document(bytes), &mut |_| Ok(Arc::new(Obliging)))
    else {
        return;
    };
    let chain = rules.of("", "secrets");
    drop(chain.open("/registry/secrets/a/b", bytes));
    for head in
        ["k8s:enc:aescbc:v1:k:", "k8s:enc:aesgcm:v1:g:", "k8s:enc:secretbox:v1:s:", "k8s:enc:kms:v2:m:"]
    {
        drop(chain.open("/registry/secrets/a/b", &[head.as_bytes(), bytes].concat()));
    }
}

fn authentications() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthenticationConfiguration\njwt:\n- issuer:\n    url: https://example.com\n    discoveryURL: https://example.com/d\n    audiences: [a, b]\n    audienceMatchPolicy: MatchAny\n  claimMappings:\n    username: {claim: sub, prefix: 'x:'}\n    groups: {claim: groups, prefix: ''}\n    uid: {claim: uid}\n  claimValidationRules:\n  - {claim: hd, requiredValue: example.com}\nanonymous:\n  enabled: true\n  conditions: [{path: /livez}]\n",
    ])
}

fn read_authentication(bytes: &[u8]) {
    let Ok(config) = AuthenticationConfig::read(&document(bytes), &["https://own".to_owned()]) else {
        return;
    };
    for issuer in config.issuers {
        let claims = document(bytes);
        drop((issuer.discovery(), issuer.key_set_url(&claims), issuer.user(&claims["jwt"][0], 0.0)));
    }
}

fn authorizations() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AuthorizationConfiguration\nauthorizers:\n- type: Webhook\n  name: w\n  webhook:\n    timeout: 3s\n    authorizedTTL: 5m\n    unauthorizedTTL: 30s\n    subjectAccessReviewVersion: v1\n    matchConditionSubjectAccessReviewVersion: v1\n    failurePolicy: Deny\n    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /k}\n    matchConditions: [{expression: 'request.user == \"a\"'}]\n- {type: Node, name: n}\n- {type: RBAC, name: r}\n",
    ])
}

fn read_authorization(bytes: &[u8]) {
    drop(AuthorizationConfig::read(&document(bytes)));
}

fn admissions() -> Vec<Vec<u8>> {
    texts(&[
        "apiVersion: apiserver.config.k8s.io/v1\nkind: AdmissionConfiguration\nplugins:\n- name: PodSecurity\n  configuration:\n    apiVersion: pod-security.admission.config.k8s.io/v1\n    kind: PodSecurityConfiguration\n    defaults: {enforce: baseline, enforce-version: v1.30, audit: restricted, warn: latest}\n    exemptions: {usernames: [a], runtimeClasses: [b], namespaces: [c]}\n- name: ImagePolicyWebhook\n  path: /p\n",
        "apiVersion: pod-security.admission.config.k8s.io/v1\nkind: PodSecurityConfiguration\ndefaults: {enforce: privileged}\n",
    ])
}

fn read_admission(bytes: &[u8]) {
    let document = document(bytes);
    drop(plugin_config::read(&document));
    for config in [&document, &document["plugins"][0]["configuration"]] {
        drop(pod_security::Configuration::read(config));
    }
}
