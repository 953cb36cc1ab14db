//! Issuers of identity tokens (OpenID Connect): from verified claims to a user
//! (apiserver: plugin/pkg/authenticator/token/oidc, v1.37).

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::User;
use crate::document::texts;
use crate::expression::{Expression, Given};

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
    /// Where the user's name is from.
    pub username: Source,
    /// Where groups are from.
    pub groups: Option<Source>,
    /// Where the user's id is from.
    pub uid: Option<Source>,
    /// What else is told of the user, and where it is from.
    pub extra: Vec<(String, Expression)>,
    /// Claims that must be there, and their values.
    pub required: Vec<(String, String)>,
    /// What must hold of the claims.
    pub claim_rules: Vec<Rule>,
    /// What must hold of the user.
    pub user_rules: Vec<Rule>,
}

/// Where a part of the user is from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A claim.
    Claim(Mapping),
    /// An expression over all claims.
    Expression(Expression),
}

impl Default for Source {
    fn default() -> Self {
        Self::Claim(Mapping::default())
    }
}

/// What must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// When it holds.
    pub expression: Expression,
    /// What is said when it does not.
    pub message: String,
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
        let user = User {
            name: self.name_of(claims)?,
            groups: self.groups_of(claims)?,
            uid: self.uid_of(claims)?,
            extra: self.extra_of(claims)?,
        };
        self.check_required(claims)?;
        hold(&self.claim_rules, claims)
            .map_err(|error| format!("oidc: error evaluating claim validation expression: {error}"))?;
        hold(&self.user_rules, &whole(&user))
            .map_err(|error| format!("oidc: error evaluating user info validation rule: {error}"))?;
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

    fn name_of(&self, claims: &Value) -> Result<String, String> {
        let Mapping { claim, prefix } = match &self.username {
            Source::Claim(mapping) => mapping,
            Source::Expression(expression) => return text_of(expression, claims, "username"),
        };
        let name = claims[claim].as_str();
        let name = name.ok_or_else(|| format!("oidc: parse username claims {claim:?}: claim not present"))?;
        if claim == "email" && !claims["email_verified"].is_null() {
            let verified = claims["email_verified"].as_bool();
            let verified =
                verified.ok_or("oidc: parse 'email_verified' claim: it is no boolean".to_owned())?;
            if !verified {
                return Err("oidc: email not verified".to_owned());
            }
        }
        Ok(format!("{prefix}{name}"))
    }

    fn groups_of(&self, claims: &Value) -> Result<Vec<String>, String> {
        let Mapping { claim, prefix } = match &self.groups {
            None => return Ok(Vec::new()),
            Some(Source::Claim(mapping)) => mapping,
            Some(Source::Expression(expression)) => {
                let failed =
                    |error: String| format!("oidc: error evaluating group claim expression: {error}");
                let given = expression.evaluate(claims).map_err(failed)?;
                return given.texts().map_err(|error| failed(error.to_owned()));
            }
        };
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
        match &self.uid {
            None => Ok(String::new()),
            Some(Source::Claim(Mapping { claim, .. })) => {
                let found = claims[claim].as_str().map(str::to_owned);
                found.ok_or_else(|| format!("oidc: parse uid claim {claim:?}: claim not present"))
            }
            Some(Source::Expression(expression)) => text_of(expression, claims, "uid"),
        }
    }

    fn extra_of(&self, claims: &Value) -> Result<BTreeMap<String, Vec<String>>, String> {
        let mut extra = BTreeMap::new();
        for (key, expression) in &self.extra {
            let values = expression.evaluate(claims)?.texts().map_err(|error| {
                format!("oidc: error evaluating extra claim expression: {}: {error}", expression.text())
            })?;
            if !values.is_empty() {
                extra.insert(key.clone(), values);
            }
        }
        Ok(extra)
    }

    fn check_required(&self, claims: &Value) -> Result<(), String> {
        for (claim, wanted) in &self.required {
            match &claims[claim] {
                Value::Null => return Err(format!("oidc: required claim {claim} not present in ID token")),
                Value::String(found) if found == wanted => {}
                found => {
                    return Err(format!(
                        "oidc: required claim {claim} value does not match. Got = {}, want = {wanted}",
                        found.as_str().unwrap_or_default()
                    ));
                }
            }
        }
        Ok(())
    }
}

/// The text that an expression must give.
fn text_of(expression: &Expression, claims: &Value, part: &str) -> Result<String, String> {
    let failed = |error: String| format!("oidc: error evaluating {part} claim expression: {error}");
    match expression.evaluate(claims).map_err(failed)? {
        Given::Text(text) => Ok(text),
        _ => Err(failed(format!("{part} claim expression must return a string"))),
    }
}

/// Whether all rules hold; all are evaluated before the first that does not is told.
fn hold(rules: &[Rule], value: &Value) -> Result<(), String> {
    let given: Vec<Given> =
        rules.iter().map(|rule| rule.expression.evaluate(value)).collect::<Result<_, _>>()?;
    for (rule, given) in rules.iter().zip(given) {
        match given {
            Given::Verdict(true) => {}
            Given::Verdict(false) => {
                return Err(format!(
                    "validation expression '{}' failed: {}",
                    rule.expression.text(),
                    rule.message
                ));
            }
            _ => return Err("validation expression must return a boolean".to_owned()),
        }
    }
    Ok(())
}

/// The user with all fields, as rules expect them.
fn whole(user: &User) -> Value {
    json!({"username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra})
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
    use crate::expression::{Gives, Subject};
    use plimsoll_meta::field::Path;

    fn issuer() -> Issuer {
        let mapping = |claim: &str, prefix: &str| {
            Source::Claim(Mapping { claim: claim.to_owned(), prefix: prefix.to_owned() })
        };
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
    fn expressions_make_the_user_and_rules_check_it() {
        let compile = |text: &str, subject, gives| {
            Expression::compile(text, subject, gives, &Path::root("f")).expect("compiles")
        };
        let claim = |text: &str| compile(text, Subject::Claims, Gives::Anything);
        let rule = |text: &str, subject, message: &str| Rule {
            expression: compile(text, subject, Gives::Verdict),
            message: message.to_owned(),
        };
        let issuer = Issuer {
            username: Source::Expression(claim("claims.name + '@' + claims.org")),
            groups: Some(Source::Expression(claim("claims.roles.map(r, 'g:' + r)"))),
            uid: Some(Source::Expression(claim("claims.sub"))),
            extra: vec![
                ("example.com/team".to_owned(), claim("claims.team")),
                ("example.com/none".to_owned(), claim("claims.?none.orValue('')")),
            ],
            required: Vec::new(),
            claim_rules: vec![rule("claims.exp - claims.iat <= 100", Subject::Claims, "lives too long")],
            user_rules: vec![rule(
                "!user.username.startsWith('system:')",
                Subject::User,
                "not a system user",
            )],
            ..issuer()
        };
        let claims = |name: &str, iat: u64| {
            json!({"iss": "https://id.example.com", "aud": "me", "exp": 200, "iat": iat, "sub": "u1",
                "name": name, "org": "x", "roles": ["dev"], "team": ["a", "b"]})
        };
        let ann = issuer.user(&claims("ann", 100), 100.0).expect("a user");
        assert_eq!(
            (ann.name.as_str(), ann.uid.as_str(), &ann.groups[..]),
            ("ann@x", "u1", &["g:dev".to_owned(), crate::AUTHENTICATED.to_owned()][..])
        );
        assert_eq!(
            ann.extra,
            BTreeMap::from([("example.com/team".to_owned(), vec!["a".to_owned(), "b".to_owned()])])
        );
        assert_eq!(
            issuer.user(&claims("ann", 50), 100.0).expect_err("old"),
            "oidc: error evaluating claim validation expression: validation expression 'claims.exp - claims.iat <= 100' failed: lives too long"
        );
        assert_eq!(
            issuer.user(&claims("system:eve", 100), 100.0).expect_err("system"),
            "oidc: error evaluating user info validation rule: validation expression '!user.username.startsWith('system:')' failed: not a system user"
        );
        let mut nameless = claims("ann", 100);
        nameless["name"] = Value::Null;
        let error = issuer.user(&nameless, 100.0).expect_err("nameless");
        assert!(error.starts_with("oidc: error evaluating username claim expression: expression 'claims.name + '@' + claims.org' resulted in error: "), "{error}");
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
