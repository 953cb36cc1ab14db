//! Whether the expressions of a policy fit the types that it is about (apiserver:
//! pkg/admission/plugin/policy/validating/typechecking.go, v1.37). Policies work whatever comes out: it is
//! told in their status.

use plimsoll_cel::{Declared, Type};
use serde_json::{Value, json};

use super::definition::{list, text};
use super::environment::{Known, Offer, environment};
use super::expression::Expression;

/// Most types that one rule is checked for.
pub const MAX_TYPES: usize = 10;

/// A type that a policy is about.
#[derive(Clone, Debug)]
pub struct Typed {
    /// `GROUP/VERSION, Kind=KIND`.
    pub name: String,
    /// What its objects have.
    pub declared: Declared,
}

/// The groups, versions and resources that a rule names, if it names them all: one for each combination, in
/// order.
pub fn named_resources(rule: &Value) -> Vec<(String, String, String)> {
    let sorted = |field: &str| -> Vec<&str> {
        let mut texts: Vec<&str> = list(&rule[field]).filter_map(Value::as_str).collect();
        texts.sort_unstable();
        texts
    };
    let (groups, versions) = (sorted("apiGroups"), sorted("apiVersions"));
    if groups.iter().chain(&versions).any(|text| text.contains('*')) {
        return Vec::new();
    }
    let mut resources = sorted("resources");
    resources.retain(|text| !text.contains(['*', '/']));
    let mut named = Vec::new();
    for group in &groups {
        for version in &versions {
            named.extend(
                resources
                    .iter()
                    .map(|resource| ((*group).to_owned(), (*version).to_owned(), (*resource).to_owned())),
            );
        }
    }
    named
}

/// The `expressionWarnings` of a policy about objects of `types` with parameters of type `params`; no type
/// is known for parameters that there are not.
pub fn type_check(policy: &Value, types: &[Typed], params: Option<&Declared>) -> Vec<Value> {
    let checked: Vec<Checked> = types.iter().map(|typed| Checked::new(policy, typed, params)).collect();
    let mut warnings = Vec::new();
    for (at, validation) in list(&policy["spec"]["validations"]).enumerate() {
        for field in ["expression", "messageExpression"] {
            let expression = text(&validation[field]);
            let found: Vec<String> = match expression.is_empty() {
                true => Vec::new(),
                false => checked.iter().filter_map(|one| one.warning(expression)).collect(),
            };
            if !found.is_empty() {
                let place = format!("spec.validations[{at}].{field}");
                warnings.push(json!({"fieldRef": place, "warning": found.join("\n")}));
            }
        }
    }
    warnings
}

/// What expressions are compiled with for one type.
struct Checked<'a> {
    name: &'a str,
    offer: Offer,
    known: Known,
    variables: Vec<(String, Type)>,
}

impl<'a> Checked<'a> {
    fn new(policy: &Value, typed: &'a Typed, params: Option<&Declared>) -> Self {
        let known = Known {
            object: typed.declared.clone(),
            params: params.cloned().unwrap_or_else(|| Known::default().params),
        };
        let offer = Offer { params: params.is_some(), authorizer: true, mutation: false };
        let mut variables = Vec::new();
        for variable in list(&policy["spec"]["variables"]) {
            let environment = environment(offer, &known, Some(&variables));
            let expression = Expression::compile(text(&variable["expression"]), &environment, &[]);
            variables.push((text(&variable["name"]).to_owned(), expression.ty()));
        }
        Self { name: &typed.name, offer, known, variables }
    }

    fn warning(&self, expression: &str) -> Option<String> {
        let environment = environment(self.offer, &self.known, Some(&self.variables));
        let expression = Expression::compile(expression, &environment, &[]);
        expression.error().map(|error| format!("{}: {error}\n", self.name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(name: &str, schema: Value) -> Typed {
        let declared = Declared::of_resource(&schema, name).expect("a type");
        Typed { name: format!("a.b/v1, Kind={name}"), declared }
    }

    fn thing() -> Typed {
        typed(
            "Thing",
            json!({"type": "object", "properties": {
                "spec": {"type": "object", "properties": {"size": {"type": "integer"}, "name": {"type": "string"}}},
            }}),
        )
    }

    /// The text of the first warning about an expression.
    fn warning(expression: &str, types: &[Typed], params: Option<&Declared>) -> String {
        let policy = json!({"spec": {
            "variables": [{"name": "size", "expression": "object.spec.size"}, {"name": "twice", "expression": "variables.size * 2"}],
            "validations": [{"expression": "true"}, {"expression": expression}],
        }});
        let warnings = type_check(&policy, types, params);
        warnings.first().map_or_else(String::new, |warning| {
            assert_eq!(warning["fieldRef"], "spec.validations[1].expression");
            text(&warning["warning"]).to_owned()
        })
    }

    #[test]
    fn expressions_are_held_against_types() {
        let prefix = "a.b/v1, Kind=Thing: compilation failed: ERROR: <input>";
        for (expression, expected) in [
            ("object.spec.size > 1 && oldObject.spec.name == 'a'", String::new()),
            ("variables.twice > 1", String::new()),
            ("object.spec", String::new()),
            (
                "object.size > 1",
                format!("{prefix}:1:7: undefined field 'size'\n | object.size > 1\n | ......^\n"),
            ),
            (
                "object.spec.size > 'a'",
                format!(
                    "{prefix}:1:18: found no matching overload for '_>_' applied to '(int, string)'\n \
                     | object.spec.size > 'a'\n | .................^\n"
                ),
            ),
            (
                "variables.size == 'a'",
                format!(
                    "{prefix}:1:16: found no matching overload for '_==_' applied to '(int, string)'\n \
                     | variables.size == 'a'\n | ...............^\n"
                ),
            ),
            (
                "params.x",
                format!(
                    "{prefix}:1:1: undeclared reference to 'params' (in container '')\n | params.x\n | ^\n"
                ),
            ),
        ] {
            assert_eq!(warning(expression, &[thing()], None), expected, "{expression}");
        }
        let params =
            Declared::of_resource(&json!({"type": "object", "properties": {"x": {"type": "string"}}}), "P");
        assert_eq!(warning("params.x == 'a'", &[thing()], params.as_ref()), "");
        assert!(warning("params.y == 'a'", &[thing()], params.as_ref()).contains("undefined field 'y'"));
    }

    #[test]
    fn each_type_has_its_say() {
        let other = typed("Other", json!({"type": "object", "properties": {}}));
        let found = warning("object.spec.none", &[thing(), other, thing()], None);
        let lines: Vec<&str> = found.lines().filter(|line| line.contains("Kind=")).collect();
        assert_eq!(lines.len(), 3, "{found}");
        assert!(found.contains("^\n\na.b/v1, Kind=Other: compilation failed"), "{found}");
        assert_eq!(warning("object.spec.none", &[], None), "");
    }

    #[test]
    fn rules_with_wildcards_name_no_types() {
        for (rule, expected) in [
            (
                json!({"apiGroups": ["b", "a"], "apiVersions": ["v1"], "resources": ["x", "x/status", "*"]}),
                vec!["a/v1/x", "b/v1/x"],
            ),
            (json!({"apiGroups": ["*"], "apiVersions": ["v1"], "resources": ["x"]}), vec![]),
            (json!({"apiGroups": ["a"], "apiVersions": ["*"], "resources": ["x"]}), vec![]),
        ] {
            let found: Vec<String> =
                named_resources(&rule).iter().map(|(g, v, r)| format!("{g}/{v}/{r}")).collect();
            assert_eq!(found, expected, "{rule}");
        }
    }
}
