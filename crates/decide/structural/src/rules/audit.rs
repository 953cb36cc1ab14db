//! What is wrong with the rules of a definition: do they compile, and what can they cost?

use plimsoll_cel::{PER_CRD_ESTIMATE_LIMIT, PER_EXPRESSION_ESTIMATE_LIMIT};
use plimsoll_meta::field::{ErrorKind, FieldError, Path};
use serde_json::{Value, json};

use super::message::internal;
use super::program::{Compiled, Programs};
use crate::schema::Rule;

/// Where in a schema rules stand.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    /// How often the place can be there; `None` if nothing bounds that.
    cardinality: Option<u64>,
    /// The list whose elements have no past of their own.
    uncorrelatable: Option<Path>,
}

/// Whether single rules are refused for their cost.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Limit {
    /// They are.
    #[default]
    Each,
    /// The schema is the one from before: only the total counts.
    Total,
}

/// Looks at the rules of a schema, place by place.
#[derive(Debug, Default)]
pub(crate) struct Audit {
    limit: Limit,
    errors: Vec<FieldError>,
    total: u64,
    expensive: Vec<(Path, u64)>,
}

impl Default for Scope {
    fn default() -> Self {
        Self { cardinality: Some(1), uncorrelatable: None }
    }
}

impl Scope {
    /// The scope of the fields or entries of `props`.
    pub(crate) fn below(&self, props: &Value) -> Self {
        let cardinality = match (self.cardinality, most_parts(props)) {
            (Some(times), Some(parts)) => Some(times.saturating_mul(parts)),
            _ => None,
        };
        Self { cardinality, uncorrelatable: self.uncorrelatable.clone() }
    }

    /// The scope of the elements of the list `props` at `path`.
    pub(crate) fn items(&self, props: &Value, path: &Path) -> Self {
        let mut scope = self.below(props);
        if props["x-kubernetes-list-type"] != "map" {
            scope.uncorrelatable = Some(path.clone());
        }
        scope
    }
}

/// How many parts one value of this schema has at most.
fn most_parts(props: &Value) -> Option<u64> {
    let limit = |key: &str| props[key].as_i64().map(|limit| u64::try_from(limit).unwrap_or(0));
    match props["type"].as_str() {
        Some("object") if !props["additionalProperties"].is_null() => limit("maxProperties"),
        Some("array") => limit("maxItems"),
        _ => Some(1),
    }
}

impl Audit {
    pub(crate) fn new(limit: Limit) -> Self {
        Self { limit, ..Self::default() }
    }

    /// The rules of `props` itself.
    pub(crate) fn place(&mut self, props: &Value, path: &Path, scope: &Scope, is_root: bool) {
        let at = path.child("x-kubernetes-validations");
        let has_rules = props["x-kubernetes-validations"].as_array().is_some_and(|rules| !rules.is_empty());
        match Programs::of(props, is_root) {
            Some(programs) => {
                for (index, compiled) in programs.rules.iter().enumerate() {
                    self.rule(compiled, &at.index(index), scope, programs.cardinality);
                }
            }
            None if has_rules => self.errors.push(internal(
                &at,
                "internal error: failed to construct type information for x-kubernetes-validations rules: unable to convert structural schema to CEL declarations",
            )),
            None => {}
        }
    }

    fn rule(&mut self, compiled: &Compiled, path: &Path, scope: &Scope, cardinality: u64) {
        let at = path.child("rule");
        match &compiled.program {
            Ok(program) => {
                let cost = program.estimate().max.saturating_mul(scope.cardinality.unwrap_or(cardinality));
                self.cost(&at, "estimated rule cost", cost);
            }
            Err(why) => self.errors.push(refused(&at, &compiled.rule, why)),
        }
        let message = path.child("messageExpression");
        match &compiled.message {
            Some(Ok(program)) => {
                self.cost(&message, "estimated messageExpression cost", program.estimate().max)
            }
            Some(Err(why)) => self.errors.push(refused(&message, &compiled.rule, why)),
            None => {}
        }
        match (compiled.uses_old_self(), &scope.uncorrelatable, compiled.rule.optional_old_self) {
            (true, Some(list), _) => {
                let detail = format!(
                    "oldSelf cannot be used on the uncorrelatable portion of the schema within {list}"
                );
                self.errors.push(FieldError::invalid(&at, &compiled.rule.rule.as_str().into(), detail));
            }
            (false, _, Some(optional)) => {
                let at = path.child("optionalOldSelf");
                let detail = "may not be set if oldSelf is not used in rule";
                self.errors.push(FieldError::invalid(&at, &optional.into(), detail));
            }
            _ => {}
        }
    }

    fn cost(&mut self, path: &Path, name: &str, cost: u64) {
        if cost > PER_EXPRESSION_ESTIMATE_LIMIT && self.limit == Limit::Each {
            self.errors.push(FieldError::forbidden(path, exceeds(name, cost, PER_EXPRESSION_ESTIMATE_LIMIT)));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= PER_CRD_ESTIMATE_LIMIT / 100 {
            self.expensive.push((path.clone(), cost));
            self.expensive.sort_by_key(|(_, cost)| std::cmp::Reverse(*cost));
            self.expensive.truncate(4);
        }
    }

    /// Everything that was found; `path` is that of the schema.
    pub(crate) fn finish(mut self, path: &Path) -> Vec<FieldError> {
        if self.total > PER_CRD_ESTIMATE_LIMIT {
            for (at, _) in &self.expensive {
                let detail = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
                self.errors.push(FieldError::forbidden(at, detail));
            }
            let name = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
            let detail = exceeds(name, self.total, PER_CRD_ESTIMATE_LIMIT);
            self.errors.push(FieldError::forbidden(path, detail));
        }
        self.errors
    }
}

fn exceeds(name: &str, cost: u64, limit: u64) -> String {
    let factor = cost as f64 / limit as f64;
    let shown = if factor > 100.0 {
        "more than 100x".to_owned()
    } else if factor < 1.5 {
        format!("{factor:.6}x")
    } else {
        format!("{factor:.1}x")
    };
    format!(
        "{name} exceeds budget by factor of {shown} (try simplifying the rule, or adding maxItems, maxProperties, and maxLength where arrays, maps, and strings are declared)"
    )
}

/// Upstream shows the whole rule in its internal form, as Go writes JSON.
fn refused(path: &Path, rule: &Rule, why: &str) -> FieldError {
    let text = |text: &str| {
        let quoted = json!(text).to_string();
        quoted.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
    };
    let reason = if rule.reason.is_empty() { "null".to_owned() } else { text(&rule.reason) };
    let optional = rule.optional_old_self.map_or("null".to_owned(), |optional| optional.to_string());
    let shown = format!(
        r#"{{"Rule":{},"Message":{},"MessageExpression":{},"Reason":{reason},"FieldPath":{},"OptionalOldSelf":{optional}}}"#,
        text(&rule.rule),
        text(&rule.message),
        text(&rule.message_expression),
        text(&rule.field_path),
    );
    FieldError {
        kind: ErrorKind::Invalid,
        field: path.to_string(),
        value: Some(shown),
        detail: why.to_owned(),
    }
}
