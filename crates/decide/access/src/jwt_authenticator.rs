//! One entry of an `AuthenticationConfiguration`: an issuer, and what its claims mean
//! (apiserver: pkg/apis/apiserver/validation, v1.37).

use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::name::is_dns1123_subdomain;
use serde_json::{Value, json};

use crate::document::{known_only, list, text, texts};
use crate::expression::{Expression, Gives, Subject};
use crate::issuer::{ALGORITHMS, Issuer, Mapping, Rule, Source};

/// Reads an entry; what is wrong with it goes to `errors`, unknown fields are refused at once.
pub(crate) fn read(
    entry: &Value,
    path: &Path,
    own_issuers: &[String],
    errors: &mut Vec<FieldError>,
) -> Result<Issuer, String> {
    known(entry, path, &["issuer", "claimValidationRules", "claimMappings", "userValidationRules"])?;
    let mut issuer = server(&entry["issuer"], &path.child("issuer"), own_issuers, errors)?;
    claim_rules(entry, &path.child("claimValidationRules"), &mut issuer, errors)?;
    mappings(&entry["claimMappings"], &path.child("claimMappings"), &mut issuer, errors)?;
    user_rules(entry, &path.child("userValidationRules"), &mut issuer, errors)?;
    Ok(issuer)
}

fn known(value: &Value, path: &Path, fields: &[&str]) -> Result<(), String> {
    known_only(value, &path.to_string(), fields)
}

/// The elements of a list that have these fields only, and where they stand.
fn elements<'v>(
    from: &'v Value,
    field: &str,
    path: &Path,
    fields: &[&str],
) -> Result<Vec<(Path, &'v Value)>, String> {
    let all = list(from, field).iter().enumerate().map(|(index, element)| (path.index(index), element));
    all.map(|(at, element)| known(element, &at, fields).map(|()| (at, element))).collect()
}

/// Who the issuer is and where.
fn server(
    from: &Value,
    path: &Path,
    own_issuers: &[String],
    errors: &mut Vec<FieldError>,
) -> Result<Issuer, String> {
    let fields = [
        "url",
        "discoveryURL",
        "certificateAuthority",
        "audiences",
        "audienceMatchPolicy",
        "egressSelectorType",
    ];
    known(from, path, &fields)?;
    let url = text(from, "url").unwrap_or_default();
    match url.is_empty() {
        true => errors.push(FieldError::required(&path.child("url"), "")),
        false => check_url(&url, &path.child("url"), own_issuers, errors),
    }
    let discovery_url = text(from, "discoveryURL");
    if let Some(found) = &discovery_url {
        let at = path.child("discoveryURL");
        if !url.is_empty() && url.trim_end_matches('/') == found.trim_end_matches('/') {
            errors.push(FieldError::invalid(&at, &json!(found), "discoveryURL must be different from URL"));
        }
        check_url(found, &at, &[], errors);
    }
    check_audiences(from, path, errors);
    if let Some(selector) = text(from, "egressSelectorType") {
        // There is no network proxy that a selector could choose.
        let detail = "egress selector must be either controlplane or cluster";
        if !["controlplane", "cluster"].contains(&selector.as_str()) {
            errors.push(FieldError::invalid(&path.child("egressSelectorType"), &json!(selector), detail));
        }
    }
    Ok(Issuer {
        url,
        discovery_url,
        authority: text(from, "certificateAuthority"),
        audiences: texts(&from["audiences"]),
        algorithms: ALGORITHMS.iter().map(|one| (*one).to_owned()).collect(),
        ..Issuer::default()
    })
}

fn check_url(url: &str, at: &Path, disallowed: &[String], errors: &mut Vec<FieldError>) {
    let mut wrong = |detail: &str| errors.push(FieldError::invalid(at, &json!(url), detail));
    if disallowed.iter().any(|one| one == url) {
        wrong(&format!("URL must not overlap with disallowed issuers: [{}]", disallowed.join(" ")));
    }
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    if !scheme.eq_ignore_ascii_case("https") {
        wrong("URL scheme must be https");
    }
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if authority.contains('@') {
        wrong("URL must not contain a username or password");
    }
    let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
    if before.split_once('?').is_some_and(|(_, query)| !query.is_empty()) {
        wrong("URL must not contain a query");
    }
    if !fragment.is_empty() {
        wrong("URL must not contain a fragment");
    }
}

fn check_audiences(from: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let (at, audiences) = (path.child("audiences"), texts(&from["audiences"]));
    if audiences.is_empty() {
        errors.push(FieldError::required(&at, format!("at least one {at} is required")));
        return;
    }
    for (index, audience) in audiences.iter().enumerate() {
        if audience.is_empty() {
            errors.push(FieldError::required(&at.index(index), ""));
        }
        if audiences[..index].contains(audience) {
            errors.push(FieldError::duplicate(&at.index(index), &json!(audience)));
        }
    }
    let policy = text(from, "audienceMatchPolicy").unwrap_or_default();
    let detail = match (audiences.len(), policy.as_str()) {
        (_, "MatchAny") | (1, "") => return,
        (1, _) => "audienceMatchPolicy must be empty or MatchAny for single audience",
        _ => "audienceMatchPolicy must be MatchAny for multiple audiences",
    };
    errors.push(FieldError::invalid(&path.child("audienceMatchPolicy"), &json!(policy), detail));
}

fn claim_rules(
    entry: &Value,
    path: &Path,
    issuer: &mut Issuer,
    errors: &mut Vec<FieldError>,
) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::new();
    let fields = ["claim", "requiredValue", "expression", "message"];
    for (at, rule) in elements(entry, "claimValidationRules", path, &fields)? {
        let part = |field: &str| text(rule, field).unwrap_or_default();
        let (claim, expression, message) = (part("claim"), part("expression"), part("message"));
        match (claim.is_empty(), expression.is_empty()) {
            (false, false) => {
                let detail = "claim and expression can't both be set";
                errors.push(FieldError::invalid(&at, &json!(claim), detail));
            }
            (true, true) => errors.push(FieldError::required(&at, "claim or expression is required")),
            (false, true) => {
                if !message.is_empty() {
                    let detail = "may not be specified when claim is set";
                    errors.push(FieldError::invalid(&at.child("message"), &json!(message), detail));
                }
                if issuer.required.iter().any(|(known, _)| *known == claim) {
                    errors.push(FieldError::duplicate(&at.child("claim"), &json!(claim)));
                }
                issuer.required.push((claim, part("requiredValue")));
            }
            (true, false) => {
                if let Some(value) = text(rule, "requiredValue") {
                    let detail = "may not be specified when expression is set";
                    errors.push(FieldError::invalid(&at.child("requiredValue"), &json!(value), detail));
                }
                let at = at.child("expression");
                let compiled = once(&expression, &mut seen, Subject::Claims, &at, errors);
                issuer.claim_rules.extend(compiled.map(|expression| Rule { expression, message }));
            }
        }
    }
    Ok(())
}

fn user_rules(
    entry: &Value,
    path: &Path,
    issuer: &mut Issuer,
    errors: &mut Vec<FieldError>,
) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::new();
    for (at, rule) in elements(entry, "userValidationRules", path, &["expression", "message"])? {
        let (message, at) = (text(rule, "message").unwrap_or_default(), at.child("expression"));
        match text(rule, "expression") {
            None => errors.push(FieldError::required(&at, "")),
            Some(expression) => {
                let compiled = once(&expression, &mut seen, Subject::User, &at, errors);
                issuer.user_rules.extend(compiled.map(|expression| Rule { expression, message }));
            }
        }
    }
    Ok(())
}

/// Compiles a rule that must not be there twice.
fn once(
    expression: &str,
    seen: &mut Vec<String>,
    subject: Subject,
    at: &Path,
    errors: &mut Vec<FieldError>,
) -> Option<Expression> {
    if seen.iter().any(|one| one == expression) {
        errors.push(FieldError::duplicate(at, &json!(expression)));
        return None;
    }
    seen.push(expression.to_owned());
    Expression::compile(expression, subject, Gives::Verdict, at).map_err(|error| errors.push(error)).ok()
}

fn mappings(
    from: &Value,
    path: &Path,
    issuer: &mut Issuer,
    errors: &mut Vec<FieldError>,
) -> Result<(), String> {
    known(from, path, &["username", "groups", "uid", "extra"])?;
    let username = prefixed(&from["username"], &path.child("username"), errors)?;
    let empty = ["claim", "expression"].iter().all(|field| text(&from["username"], field).is_none());
    if empty {
        errors.push(FieldError::required(&path.child("username"), "claim or expression is required"));
    }
    issuer.username = username.unwrap_or_default();
    issuer.groups = prefixed(&from["groups"], &path.child("groups"), errors)?;
    issuer.uid = uid(&from["uid"], &path.child("uid"), errors)?;
    extras(from, &path.child("extra"), issuer, errors)?;
    if let Source::Expression(name) = &issuer.username {
        let mut verifying = issuer.claim_rules.iter().map(|rule| &rule.expression);
        let verified = name.names("email_verified")
            || verifying.any(|one| one.names("email_verified"))
            || issuer.extra.iter().any(|(_, one)| one.names("email_verified"));
        if name.names("email") && !verified {
            let detail = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
            let at = path.child("username").child("expression");
            errors.push(FieldError::invalid(&at, &json!(name.text()), detail));
        }
    }
    Ok(())
}

/// A claim with its prefix, or an expression.
fn prefixed(value: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Result<Option<Source>, String> {
    known(value, path, &["claim", "prefix", "expression"])?;
    let (claim, expression) = (text(value, "claim"), text(value, "expression"));
    let at = path.child("prefix");
    match (claim, expression, value["prefix"].as_str()) {
        (None, Some(_), Some(prefix)) => {
            let detail = "may not be specified when expression is set";
            errors.push(FieldError::invalid(&at, &json!(prefix), detail));
        }
        (Some(_), None, None) => {
            let detail =
                "prefix is required when claim is set. It can be set to an empty string to disable prefixing";
            errors.push(FieldError::required(&at, detail));
        }
        _ => {}
    }
    Ok(source(value, path, errors))
}

fn uid(value: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Result<Option<Source>, String> {
    known(value, path, &["claim", "expression"])?;
    Ok(source(value, path, errors))
}

/// A claim or an expression, if there is one of both.
fn source(value: &Value, path: &Path, errors: &mut Vec<FieldError>) -> Option<Source> {
    match (text(value, "claim"), text(value, "expression")) {
        (Some(_), Some(_)) => {
            let detail = "claim and expression can't both be set";
            errors.push(FieldError::invalid(path, &json!(""), detail));
            None
        }
        (None, None) => None,
        (None, Some(text)) => mapped(&text, &path.child("expression"), errors).map(Source::Expression),
        (Some(claim), None) => {
            Some(Source::Claim(Mapping { claim, prefix: text(value, "prefix").unwrap_or_default() }))
        }
    }
}

fn extras(
    from: &Value,
    path: &Path,
    issuer: &mut Issuer,
    errors: &mut Vec<FieldError>,
) -> Result<(), String> {
    let mut seen: Vec<String> = Vec::new();
    for (at, one) in elements(from, "extra", path, &["key", "valueExpression"])? {
        let key = text(one, "key").unwrap_or_default();
        check_key(&key, &at.child("key"), errors);
        if seen.contains(&key) {
            errors.push(FieldError::duplicate(&at.child("key"), &json!(key)));
            continue;
        }
        seen.push(key.clone());
        let at = at.child("valueExpression");
        match text(one, "valueExpression") {
            None => errors.push(FieldError::required(&at, "")),
            Some(text) => issuer.extra.extend(mapped(&text, &at, errors).map(|value| (key, value))),
        }
    }
    Ok(())
}

fn mapped(text: &str, at: &Path, errors: &mut Vec<FieldError>) -> Option<Expression> {
    Expression::compile(text, Subject::Claims, Gives::Anything, at).map_err(|error| errors.push(error)).ok()
}

/// Keys of extra are told apart by the domain of who makes them.
pub(crate) fn check_domain_path(key: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let mut wrong = |value: &str, detail: &str| errors.push(FieldError::invalid(at, &json!(value), detail));
    match key.split_once('/') {
        _ if key.is_empty() => errors.push(FieldError::required(at, "")),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            if let Err(details) = is_dns1123_subdomain(domain) {
                details.iter().for_each(|detail| wrong(domain, detail));
            }
        }
        _ => wrong(key, "must be a domain-prefixed path (such as \"acme.io/foo\")"),
    }
}

/// Kubernetes' own keys are taken.
fn check_key(key: &str, at: &Path, errors: &mut Vec<FieldError>) {
    check_domain_path(key, at, errors);
    let domain = key.split_once('/').map_or("", |(domain, _)| domain);
    let mut wrong = |detail: &str| errors.push(FieldError::invalid(at, &json!(key), detail));
    if key != key.to_lowercase() {
        wrong("must be lowercase");
    }
    let below = |parent: &str| domain == parent || domain.ends_with(&format!(".{parent}"));
    if below("kubernetes.io") || below("k8s.io") {
        wrong("k8s.io, kubernetes.io and their subdomains are reserved for Kubernetes use");
    }
}
