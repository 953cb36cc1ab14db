//! Issuers of identity tokens (OpenID Connect): from verified claims to a user
//! (apiserver: plugin/pkg/authenticator/token/oidc, v1.37).

use serde_json::Value;

use crate::User;
use crate::document::texts;

/// Signature algorithms that issuers may use.
pub const ALGORITHMS: &[&str] =
    &["RS256", "RS384", "RS512", "ES256", "ES384", "ES512", "PS256", "PS384", "PS512"];
/// Seconds that an issuer's clock may be ahead.
const LEEWAY: f64 = 300.0;

/// A trusted issuer and how its claims become a user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issuer {
    /// The issuer's URL, as its tokens name it.
    pub url: String,
    /// Where its discovery document is; under the URL if not said.
    pub discovery_url: Option<String>,
    /// Authorities of its server, PEM; the machine's if not said.
    pub authority: Option<String>,
    /// Audiences of which a token must name one.
    pub audiences: Vec<String>,
    /// Accepted signature algorithms.
    pub algorithms: Vec<String>,
    /// The claim with the user's name.
    pub username: Mapping,
    /// The claim with groups.
    pub groups: Option<Mapping>,
    /// The claim with the user's id.
    pub uid: Option<String>,
    /// Claims that must be there, and their values.
    pub required: Vec<(String, String)>,
}

/// A claim and what its values are prefixed with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mapping {
    /// Name of the claim.
    pub claim: String,
    /// The prefix; may be empty.
    pub prefix: String,
}

/// The user name prefix that `--oidc-username-prefix` stands for: names other than addresses are
/// told apart by their issuer, `-` means none.
pub fn username_prefix(given: &str, claim: &str, url: &str) -> String {
    match given {
        "-" => String::new(),
        "" if claim != "email" => format!("{url}#"),
        given => given.to_owned(),
    }
}

impl Issuer {
    /// Where the discovery document is.
    pub fn discovery(&self) -> String {
        match &self.discovery_url {
            Some(url) => url.clone(),
            None => format!("{}/.well-known/openid-configuration", self.url.trim_end_matches('/')),
        }
    }

    /// Holds the discovery document against the issuer and gives the address of its keys.
    pub fn key_set_url(&self, document: &Value) -> Result<String, String> {
        let told = document["issuer"].as_str().unwrap_or_default();
        if told != self.url {
            return Err(format!(
                "oidc: issuer did not match the issuer returned by provider, expected {:?} got {told:?}",
                self.url
            ));
        }
        match document["jwks_uri"].as_str() {
            Some(url) if url.starts_with("https://") => Ok(url.to_owned()),
            other => Err(format!("oidc: jwks_uri {:?} must use the https scheme", other.unwrap_or_default())),
        }
    }

    /// The user that claims with a good signature tell of, at `now` (seconds since 1970).
    pub fn user(&self, claims: &Value, now: f64) -> Result<User, String> {
        self.check(claims, now)?;
        let name = claims[&self.username.claim].as_str();
        let absent = || format!("oidc: parse username claims {:?}: claim not present", self.username.claim);
        let name = name.ok_or_else(absent)?;
        if self.username.claim == "email" && !claims["email_verified"].is_null() {
            let verified = claims["email_verified"].as_bool();
            let verified =
                verified.ok_or("oidc: parse 'email_verified' claim: it is no boolean".to_owned())?;
            if !verified {
                return Err("oidc: email not verified".to_owned());
            }
        }
        for (claim, wanted) in &self.required {
            if claims[claim].is_null() {
                return Err(format!("oidc: required claim {claim} not present in ID token"));
            }
            match claims[claim].as_str() {
                Some(found) if found == wanted => {}
                found => {
                    return Err(format!(
                        "oidc: required claim {claim} value does not match. Got = {}, want = {wanted}",
                        found.unwrap_or_default()
                    ));
                }
            }
        }
        let user = User {
            name: format!("{}{name}", self.username.prefix),
            uid: self.uid_of(claims)?,
            groups: self.groups_of(claims)?,
            ..User::default()
        };
        match user.name.is_empty() {
            true => Err("oidc: empty username".to_owned()),
            false => Ok(user.known()),
        }
    }

    /// Issuer, audience and time.
    fn check(&self, claims: &Value, now: f64) -> Result<(), String> {
        if claims["iss"] != self.url.as_str() {
            let found = claims["iss"].as_str().unwrap_or_default();
            return Err(format!(
                "oidc: verify token: oidc: id token issued by a different provider, expected {:?} got {found:?}",
                self.url
            ));
        }
        let audiences = audiences(claims);
        if !audiences.iter().any(|one| self.audiences.contains(one)) {
            return Err(format!(
                "oidc: verify token: oidc: expected audience in {:?} got {audiences:?}",
                self.audiences
            ));
        }
        match claims["exp"].as_f64() {
            Some(until) if until > now => {}
            until => {
                return Err(format!(
                    "oidc: verify token: oidc: token is expired (Token Expiry: {})",
                    until.unwrap_or_default()
                ));
            }
        }
        match claims["nbf"].as_f64() {
            Some(from) if from > now + LEEWAY => Err(format!(
                "oidc: verify token: oidc: current time {now} before the nbf (not before) time: {from}"
            )),
            _ => Ok(()),
        }
    }

    fn groups_of(&self, claims: &Value) -> Result<Vec<String>, String> {
        let Some(Mapping { claim, prefix }) = &self.groups else { return Ok(Vec::new()) };
        let groups = match &claims[claim] {
            Value::Null => Vec::new(),
            Value::String(one) => vec![one.clone()],
            Value::Array(all) if all.iter().all(Value::is_string) => texts(&claims[claim]),
            _ => {
                return Err(format!(
                    "oidc: parse groups claim {claim:?}: neither a text nor a list of texts"
                ));
            }
        };
        Ok(groups.into_iter().map(|group| format!("{prefix}{group}")).collect())
    }

    fn uid_of(&self, claims: &Value) -> Result<String, String> {
        let Some(claim) = &self.uid else { return Ok(String::new()) };
        let found = claims[claim].as_str().map(str::to_owned);
        found.ok_or_else(|| format!("oidc: parse uid claim {claim:?}: claim not present"))
    }
}

/// The audiences of a token: a text or a list of them.
pub fn audiences(claims: &Value) -> Vec<String> {
    match claims["aud"].as_str() {
        Some(one) => vec![one.to_owned()],
        None => texts(&claims["aud"]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn issuer() -> Issuer {
        let mapping =
            |claim: &str, prefix: &str| Mapping { claim: claim.to_owned(), prefix: prefix.to_owned() };
        Issuer {
            url: "https://id.example.com".to_owned(),
            audiences: vec!["me".to_owned()],
            username: mapping("email", "oidc:"),
            groups: Some(mapping("groups", "g:")),
            required: vec![("hd".to_owned(), "example.com".to_owned())],
            ..Issuer::default()
        }
    }

    #[test]
    fn claims_become_a_user() {
        let usual = json!({"iss": "https://id.example.com", "aud": ["you", "me"], "exp": 200, "email": "ann@example.com",
            "groups": ["dev", "ops"], "hd": "example.com"});
        let with = |changes: Value| {
            let mut claims = usual.clone();
            for (key, value) in changes.as_object().expect("object") {
                claims[key] = value.clone();
            }
            claims
        };
        let told = |claims: &Value| {
            issuer().user(claims, 100.0).map(|user| format!("{} {}", user.name, user.groups.join(",")))
        };
        for (changes, expected) in [
            (json!({}), Ok("oidc:ann@example.com g:dev,g:ops,system:authenticated")),
            (json!({"aud": "me", "groups": "dev"}), Ok("oidc:ann@example.com g:dev,system:authenticated")),
            (json!({"groups": null}), Ok("oidc:ann@example.com system:authenticated")),
            (json!({"email_verified": true}), Ok("oidc:ann@example.com g:dev,g:ops,system:authenticated")),
            (json!({"email_verified": false}), Err("oidc: email not verified")),
            (json!({"email": null}), Err("oidc: parse username claims \"email\": claim not present")),
            (json!({"hd": null}), Err("oidc: required claim hd not present in ID token")),
            (
                json!({"hd": "other"}),
                Err("oidc: required claim hd value does not match. Got = other, want = example.com"),
            ),
            (
                json!({"aud": "you"}),
                Err("oidc: verify token: oidc: expected audience in [\"me\"] got [\"you\"]"),
            ),
            (json!({"exp": 100}), Err("oidc: verify token: oidc: token is expired (Token Expiry: 100)")),
            (
                json!({"groups": 5}),
                Err("oidc: parse groups claim \"groups\": neither a text nor a list of texts"),
            ),
        ] {
            let found = told(&with(changes.clone()));
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{changes}");
        }
        assert!(told(&with(json!({"iss": "https://evil.example.com"}))).is_err());
        assert!(told(&with(json!({"nbf": 401}))).is_err());
    }

    #[test]
    fn names_are_told_apart_by_their_issuer() {
        for (given, claim, expected) in
            [("", "sub", "https://i#"), ("", "email", ""), ("-", "sub", ""), ("x:", "sub", "x:")]
        {
            assert_eq!(username_prefix(given, claim, "https://i"), expected);
        }
    }

    #[test]
    fn discovery_must_be_the_issuers_own() {
        let document = json!({"issuer": "https://id.example.com", "jwks_uri": "https://id.example.com/keys"});
        assert_eq!(issuer().key_set_url(&document), Ok("https://id.example.com/keys".to_owned()));
        assert!(
            issuer().key_set_url(&json!({"issuer": "https://evil", "jwks_uri": "https://evil"})).is_err()
        );
        assert!(
            issuer()
                .key_set_url(&json!({"issuer": "https://id.example.com", "jwks_uri": "http://x"}))
                .is_err()
        );
        assert_eq!(issuer().discovery(), "https://id.example.com/.well-known/openid-configuration");
    }
}
