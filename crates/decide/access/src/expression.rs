//! Expressions of configuration documents: what identity tokens claim, who a user is, what is asked.
//!
//! Sources of the rules: apiserver: pkg/authentication/cel and pkg/authorization/cel, v1.37.

use std::sync::Arc;

use plimsoll_cel::{Bindings, Budget, Declared, Environment, Program, Shape, Type};
use plimsoll_meta::field::{FieldError, Path};
use serde_json::{Value, json};

/// What an expression is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// `claims` of an identity token.
    Claims,
    /// `user`: the user that claims became.
    User,
    /// `request`: the specification of an access review.
    Request,
}

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gives {
    /// Anything; what it may be is known when it is there.
    Anything,
    /// Yes or no.
    Verdict,
}

/// A compiled expression.
#[derive(Clone)]
pub struct Expression {
    text: String,
    subject: Subject,
    compiled: Arc<(Environment, Program)>,
}

/// What an expression gave.
#[derive(Clone, Debug, PartialEq)]
pub enum Given {
    /// Yes or no.
    Verdict(bool),
    /// A text.
    Text(String),
    /// Texts; empty ones are left out.
    Texts(Vec<String>),
    /// Nothing.
    Null,
    /// Something else.
    Other,
}

impl std::fmt::Debug for Expression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.text)
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        (&self.text, self.subject) == (&other.text, other.subject)
    }
}

impl Eq for Expression {}

impl Expression {
    /// Compiles the text of the field at `path`.
    pub fn compile(text: &str, subject: Subject, gives: Gives, path: &Path) -> Result<Self, FieldError> {
        let wrong = |detail: String| FieldError::invalid(path, &json!(text), detail);
        let environment = environment(subject);
        let program =
            environment.compile(text).map_err(|error| wrong(format!("compilation failed: {error}")))?;
        if gives == Gives::Verdict && *program.ty() != Type::Bool {
            return Err(wrong(match subject {
                Subject::Request => format!("must evaluate to bool but got {}", program.ty()),
                Subject::Claims | Subject::User => "must evaluate to bool".to_owned(),
            }));
        }
        Ok(Self { text: text.to_owned(), subject, compiled: Arc::new((environment, program)) })
    }

    /// The text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether the expression names this field of its variable.
    pub fn names(&self, field: &str) -> bool {
        self.compiled.1.fields_read(self.subject.variable()).contains(field)
    }

    /// What it gives for a value of its variable.
    pub fn evaluate(&self, value: &Value) -> Result<Given, String> {
        let failed =
            |error: plimsoll_cel::EvalError| format!("expression '{}' resulted in error: {error}", self.text);
        let (environment, program) = &*self.compiled;
        let name = self.subject.variable();
        let bindings = Bindings::new().bind(name, environment.value(name, value).map_err(failed)?);
        Ok(Given::of(&program.evaluate(&bindings, &mut Budget::new()).map_err(failed)?))
    }
}

impl Given {
    fn of(value: &plimsoll_cel::Value<'_>) -> Self {
        use plimsoll_cel::Value;
        match value {
            Value::Bool(verdict) => Self::Verdict(*verdict),
            Value::String(text) => Self::Text(text.to_string()),
            Value::Null => Self::Null,
            Value::List(items) => {
                let texts: Option<Vec<String>> =
                    items.iter().map(|item| item.ok()?.as_str().map(str::to_owned)).collect();
                texts.map_or(Self::Other, |texts| {
                    Self::Texts(texts.into_iter().filter(|text| !text.is_empty()).collect())
                })
            }
            _ => Self::Other,
        }
    }

    /// The texts that it is; an empty text and `null` are none.
    pub fn texts(self) -> Result<Vec<String>, &'static str> {
        match self {
            Self::Texts(texts) => Ok(texts),
            Self::Text(text) if text.is_empty() => Ok(Vec::new()),
            Self::Text(text) => Ok(vec![text]),
            Self::Null => Ok(Vec::new()),
            Self::Verdict(_) | Self::Other => Err("expression must return a string or a list of strings"),
        }
    }
}

impl Subject {
    fn variable(self) -> &'static str {
        match self {
            Self::Claims => "claims",
            Self::User => "user",
            Self::Request => "request",
        }
    }
}

fn environment(subject: Subject) -> Environment {
    let declared = match subject {
        Subject::Claims => Declared::map(Declared::any()),
        Subject::User => object(
            "kubernetes.UserInfo",
            [("username", text()), ("uid", text()), ("groups", texts()), ("extra", Declared::map(texts()))],
        ),
        Subject::Request => request(),
    };
    Environment::new().variable(subject.variable(), declared)
}

fn text() -> Declared {
    Declared::new(Shape::String)
}

fn texts() -> Declared {
    Declared::list(text())
}

fn object<const N: usize>(name: &str, fields: [(&str, Declared); N]) -> Declared {
    Declared::object(name, fields.into_iter().map(|(name, declared)| (name.to_owned(), declared)))
}

/// `SubjectAccessReviewSpec`.
fn request() -> Declared {
    let selector = |name: &str| {
        let requirement = object(
            "kubernetes.SelectorRequirement",
            [("key", text()), ("operator", text()), ("values", texts())],
        );
        object(name, [("rawSelector", text()), ("requirements", Declared::list(requirement))])
    };
    let resource = object(
        "kubernetes.ResourceAttributes",
        [
            ("namespace", text()),
            ("verb", text()),
            ("group", text()),
            ("version", text()),
            ("resource", text()),
            ("subresource", text()),
            ("name", text()),
            ("fieldSelector", selector("kubernetes.FieldSelectorAttributes")),
            ("labelSelector", selector("kubernetes.LabelSelectorAttributes")),
        ],
    );
    let other = object("kubernetes.NonResourceAttributes", [("path", text()), ("verb", text())]);
    object(
        "kubernetes.SubjectAccessReviewSpec",
        [
            ("resourceAttributes", resource),
            ("nonResourceAttributes", other),
            ("user", text()),
            ("groups", texts()),
            ("extra", Declared::map(texts())),
            ("uid", text()),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn compile(text: &str, subject: Subject, gives: Gives) -> Result<Expression, String> {
        Expression::compile(text, subject, gives, &Path::root("f")).map_err(|error| error.to_string())
    }

    #[test]
    fn expressions_are_compiled_for_their_variable() {
        use Gives::{Anything, Verdict};
        for (text, subject, gives, expected) in [
            ("claims.sub", Subject::Claims, Anything, None),
            ("claims.hd == 'x'", Subject::Claims, Verdict, None),
            ("claims.?a.orValue('')", Subject::Claims, Anything, None),
            (
                "claims.hd",
                Subject::Claims,
                Verdict,
                Some("f: Invalid value: \"claims.hd\": must evaluate to bool"),
            ),
            ("!user.username.startsWith('system:')", Subject::User, Verdict, None),
            ("user.groups.all(g, g != 'system:masters')", Subject::User, Verdict, None),
            (
                "has(request.resourceAttributes) && request.resourceAttributes.namespace == 'a'",
                Subject::Request,
                Verdict,
                None,
            ),
            (
                "request.user",
                Subject::Request,
                Verdict,
                Some("f: Invalid value: \"request.user\": must evaluate to bool but got string"),
            ),
            (
                "claims.sub",
                Subject::User,
                Anything,
                Some(
                    "f: Invalid value: \"claims.sub\": compilation failed: ERROR: <input>:1:1: undeclared reference to 'claims' (in container '')\n | claims.sub\n | ^",
                ),
            ),
            (
                "user.name",
                Subject::User,
                Anything,
                Some(
                    "f: Invalid value: \"user.name\": compilation failed: ERROR: <input>:1:5: undefined field 'name'\n | user.name\n | ....^",
                ),
            ),
        ] {
            assert_eq!(compile(text, subject, gives).err().as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn values_are_what_the_claims_make_them() {
        let claims = json!({"sub": "ann", "n": 3, "ok": true, "roles": ["a", "", "b"], "none": null, "mixed": ["a", 1]});
        let given =
            |text: &str| compile(text, Subject::Claims, Gives::Anything).expect("compiles").evaluate(&claims);
        assert_eq!(given("'x:' + claims.sub"), Ok(Given::Text("x:ann".to_owned())));
        assert_eq!(given("claims.ok"), Ok(Given::Verdict(true)));
        assert_eq!(given("claims.roles").map(Given::texts), Ok(Ok(vec!["a".to_owned(), "b".to_owned()])));
        assert_eq!(
            given("claims.roles.map(r, 'p:' + r)").map(Given::texts).map(|all| all.map(|all| all.len())),
            Ok(Ok(3))
        );
        assert_eq!(given("claims.none").map(Given::texts), Ok(Ok(Vec::new())));
        assert_eq!(given("claims.sub").map(Given::texts), Ok(Ok(vec!["ann".to_owned()])));
        let odd = Ok(Err("expression must return a string or a list of strings"));
        assert_eq!(given("claims.n").map(Given::texts), odd);
        assert_eq!(given("claims.mixed").map(Given::texts), odd);
        assert_eq!(
            given("claims.absent"),
            Err("expression 'claims.absent' resulted in error: no such key: absent".to_owned())
        );
    }

    #[test]
    fn what_an_expression_names_is_known() {
        let expression =
            compile("claims.email + claims.a.b", Subject::Claims, Gives::Anything).expect("compiles");
        assert!(expression.names("email") && expression.names("a") && !expression.names("b"));
    }
}
