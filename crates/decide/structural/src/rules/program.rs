//! The rules of one place as programs.

use plimsoll_cel::{Declared, Environment, Program, Type};
use plimsoll_meta::field::Path;
use serde_json::Value;

use crate::schema::Rule;

/// The rules of one place with the types that they see.
#[derive(Debug)]
pub(super) struct Programs {
    /// `self` and `oldSelf` have the same type.
    pub(super) environment: Environment,
    /// How often a value of this type fits into one request.
    pub(super) cardinality: u64,
    pub(super) rules: Vec<Compiled>,
}

/// One rule; what is not a program is the reason for that.
#[derive(Debug)]
pub(super) struct Compiled {
    pub(super) rule: Rule,
    pub(super) program: Result<Program, String>,
    pub(super) message: Option<Result<Program, String>>,
    /// `fieldPath`, if it leads somewhere.
    pub(super) at: Option<Path>,
}

impl Programs {
    /// The rules of `props`, the parts below aside; none if there are none or nothing can be said of the type.
    pub(super) fn of(props: &Value, is_root: bool) -> Option<Self> {
        let rules = props["x-kubernetes-validations"].as_array().filter(|rules| !rules.is_empty())?;
        let declared = match is_root {
            true => Declared::of_resource(props, "selfType"),
            false => Declared::of_schema(props, "selfType"),
        }?;
        let plain = Environment::new().variable("self", declared.clone());
        let optional = Declared::typed(Type::optional(declared.ty()));
        let optional = plain.clone().variable("oldSelf", optional);
        let cardinality = declared.max_cardinality();
        let environment = plain.variable("oldSelf", declared);
        let rules = rules
            .iter()
            .map(Rule::read)
            .map(|rule| match rule.optional_old_self {
                Some(true) => Compiled::of(rule, props, &optional),
                _ => Compiled::of(rule, props, &environment),
            })
            .collect();
        Some(Self { environment, cardinality, rules })
    }
}

impl Compiled {
    fn of(rule: Rule, props: &Value, environment: &Environment) -> Self {
        let program = compile(environment, &rule.rule);
        let message = (program.is_ok() && !rule.message_expression.is_empty())
            .then(|| compile_message(environment, &rule.message_expression));
        let at = Some(&rule.field_path)
            .filter(|path| !path.is_empty())
            .and_then(|path| crate::path::resolve(path, props).ok());
        Self { rule, program, message, at }
    }

    /// Whether the rule compares with what was there before.
    pub(super) fn uses_old_self(&self) -> bool {
        self.program.as_ref().is_ok_and(|program| program.reads("oldSelf"))
    }

    /// Whether the rule is also for values that were not there before.
    pub(super) fn is_old_self_optional(&self) -> bool {
        self.rule.optional_old_self == Some(true)
    }
}

fn compile(environment: &Environment, text: &str) -> Result<Program, String> {
    let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"))?;
    match program.ty() {
        Type::Bool => Ok(program),
        _ => Err("cel expression must evaluate to a bool".to_owned()),
    }
}

fn compile_message(environment: &Environment, text: &str) -> Result<Program, String> {
    let program = environment
        .compile(text)
        .map_err(|error| format!("messageExpression compilation failed: {error}"))?;
    match program.ty() {
        Type::String => Ok(program),
        _ => Err("messageExpression must evaluate to a string".to_owned()),
    }
}
