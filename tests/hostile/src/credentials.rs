//! Tokens, keys and what they claim.

use jiff::Timestamp;
use plimsoll_access::bootstrap_token::BootstrapToken;
use plimsoll_access::token_file::TokenFile;
use plimsoll_access::{account_token, token_review};
use plimsoll_meta::page_token::PageToken;
use plimsoll_pki::{Jwt, PublicKey};
use serde_json::json;

use crate::{Decoder, parts, text, texts};

pub(crate) const DECODERS: &[Decoder] = &[
    Decoder { name: "jwt", examples: tokens, read: read_token },
    Decoder { name: "claims", examples: claims, read: read_claims },
    Decoder { name: "public_keys", examples: keys, read: read_keys },
    Decoder { name: "certificate_request", examples: requests, read: read_request },
    Decoder { name: "bootstrap_token", examples: bootstrap_tokens, read: read_bootstrap },
    Decoder { name: "token_file", examples: token_files, read: read_token_file },
    Decoder { name: "token_review", examples: reviews, read: read_review },
    Decoder { name: "page_token", examples: page_tokens, read: read_page },
];

fn now() -> Timestamp {
    Timestamp::UNIX_EPOCH
}

fn tokens() -> Vec<Vec<u8>> {
    // {"alg":"ES256","kid":"a"} and {"iss":"x","sub":"system:serviceaccount:a:b"}.
    texts(&[
        "eyJhbGciOiJFUzI1NiIsImtpZCI6ImEifQ.eyJpc3MiOiJ4Iiwic3ViIjoic3lzdGVtOnNlcnZpY2VhY2NvdW50OmE6YiJ9.AAAA",
    ])
}

fn read_token(bytes: &[u8]) {
    let text = text(bytes);
    let Some(token) = Jwt::parse(&text) else { return };
    drop((token.issuer().len(), account_token::check_time(&token.claims, now())));
    token.is_signed_by(&PublicKey::from_key_set(&key_set()));
}

fn claims() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"sub":"system:serviceaccount:a:b","exp":1e300,"nbf":-5,"iat":"x","aud":["a",1],"kubernetes.io":{"namespace":"a","serviceaccount":{"name":"b","uid":"u"},"pod":{"name":"p","uid":"u"},"node":{"name":"n","uid":"u"},"warnafter":5}}"#,
        r#"{"sub":"s","kubernetes.io/serviceaccount/namespace":"a","kubernetes.io/serviceaccount/secret.name":"s","kubernetes.io/serviceaccount/service-account.name":"b","kubernetes.io/serviceaccount/service-account.uid":"u"}"#,
    ])
}

fn read_claims(bytes: &[u8]) {
    let [claims] = parts(bytes);
    let find = |_: &str, namespace: &str, name: &str| {
        Some(json!({"metadata": {"namespace": namespace, "name": name, "uid": "u"}, "data": {"token": ""}}))
    };
    drop(account_token::check_time(&claims, now()));
    drop(account_token::user(&claims, &find, now()));
    drop(account_token::legacy_user("t", &claims, &find, now()));
    drop(plimsoll_access::issuer::audiences(&claims));
}

fn key_set() -> serde_json::Value {
    let number = "AQABAQABAQABAQABAQABAQABAQABAQABAQABAQABAQA";
    json!({"keys": [
        {"kty": "RSA", "n": number, "e": "AQAB", "kid": "a", "alg": "RS256", "use": "sig"},
        {"kty": "EC", "crv": "P-256", "x": number, "y": number, "kid": "b"},
    ]})
}

fn keys() -> Vec<Vec<u8>> {
    vec![
        key_set().to_string().into_bytes(),
        b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEAAAA\n-----END PUBLIC KEY-----\n".to_vec(),
        b"\x30\x59\x30\x13\x06\x07\x2a\x86\x48\xce\x3d\x02\x01\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07\x03\x42\x00\x04\x01".to_vec(),
    ]
}

fn read_keys(bytes: &[u8]) {
    let [set] = parts(bytes);
    let mut keys = PublicKey::from_key_set(&set);
    keys.extend(PublicKey::from_pem(&text(bytes)));
    keys.extend(PublicKey::from_spki(bytes));
    for key in keys {
        drop(key.to_jwk());
        for algorithm in ["RS256", "ES256", "PS512", key.signs()] {
            key.verify(algorithm, b"message", bytes);
        }
    }
}

fn requests() -> Vec<Vec<u8>> {
    texts(&[
        "-----BEGIN CERTIFICATE REQUEST-----\nMIHYMH8CAQAwHTEbMBkGA1UEAwwSc3lzdGVtOm5vZGU6d29ya2VyMFkwEwYHKoZI\nzj0CAQYIKoZIzj0DAQcDQgAE\n-----END CERTIFICATE REQUEST-----\n",
    ])
}

fn read_request(bytes: &[u8]) {
    drop((
        plimsoll_pki::requested(&text(bytes)),
        plimsoll_pki::not_after(bytes),
        plimsoll_pki::subject(bytes),
    ));
}

fn bootstrap_tokens() -> Vec<Vec<u8>> {
    texts(&["abcdef.0123456789abcdef"])
}

fn read_bootstrap(bytes: &[u8]) {
    let text = text(bytes);
    if let Some(token) = BootstrapToken::parse(&text) {
        drop(token.user(&json!({"data": {}}), now()));
    }
}

fn token_files() -> Vec<Vec<u8>> {
    texts(&["token,user,uid,\"group1,group2\"\n# comment\nt2,\"a \"\"b\"\"\",3\r\n\n"])
}

fn read_token_file(bytes: &[u8]) {
    if let Ok(file) = TokenFile::parse("tokens.csv", &text(bytes)) {
        let _ = file.user("token");
    }
}

fn reviews() -> Vec<Vec<u8>> {
    texts(&[
        r#"{"kind":"TokenReview","apiVersion":"authentication.k8s.io/v1","status":{"authenticated":true,"audiences":["a"],"error":"e","user":{"username":"u","uid":"1","groups":["g"],"extra":{"a":["b"]}}}}"#,
        r#"{"spec":{"resourceAttributes":{"verb":"get","fieldSelector":{"requirements":[{"key":"a","operator":"In","values":["b"]}]},"labelSelector":{"rawSelector":"a=b"}},"user":"u","groups":["g"],"extra":{"a":["b"]}},"status":{"allowed":true,"denied":true,"reason":"r"}}"#,
    ])
}

fn read_review(bytes: &[u8]) {
    let [review] = parts(bytes);
    drop(token_review::answer(&review, &["a".to_owned()]));
    drop(plimsoll_access::access_review::answer(&review));
    drop(plimsoll_access::access_review::check(&review["spec"], true));
    drop(plimsoll_access::User::from_info(&review["status"]["user"]));
}

fn page_tokens() -> Vec<Vec<u8>> {
    vec![
        PageToken::behind("/registry/pods/a/b", "/registry/pods/", 7).encode().into_bytes(),
        br#"{"v":"meta.k8s.io/v1","rv":7,"start":"a/b\u0000"}"#.to_vec(),
    ]
}

fn read_page(bytes: &[u8]) {
    let text = text(bytes);
    for token in [PageToken::read(&text), PageToken::read(&encoded(bytes))].into_iter().flatten() {
        drop((token.after("/registry/pods/"), token.revision()));
        drop(PageToken::read(&token.inconsistent().encode()));
    }
}

fn encoded(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes)
}
