//! The variables of expressions, with their types.

use plimsoll_cel::{Declared, Environment, Shape, Type};

/// Which of the variables an expression may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Offer {
    /// `params`.
    pub(crate) params: bool,
    /// `authorizer` and `authorizer.requestResource`.
    pub(crate) authorizer: bool,
    /// `Object{…}` and `JSONPatch{…}`.
    pub(crate) mutation: bool,
}

/// Types of what expressions see; anything where no schema is known.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    pub(crate) object: Declared,
    pub(crate) params: Declared,
}

impl Default for Known {
    fn default() -> Self {
        Self { object: Declared::any(), params: Declared::any() }
    }
}

/// The environment of an expression; `variables` are those that the policy defines before it, if the
/// expression may use them at all.
pub(crate) fn environment(offer: Offer, known: &Known, variables: Option<&[(String, Type)]>) -> Environment {
    let mut environment = Environment::new()
        .variable("object", known.object.clone())
        .variable("oldObject", known.object.clone())
        .variable("namespaceObject", namespace())
        .variable("request", request());
    if offer.params {
        environment = environment.variable("params", known.params.clone());
    }
    if offer.authorizer {
        environment = environment
            .variable("authorizer", Declared::typed(Type::AUTHORIZER))
            .variable("authorizer.requestResource", Declared::typed(Type::RESOURCE_CHECK));
    }
    if offer.mutation {
        environment = environment.with_mutation(None);
    }
    let Some(variables) = variables else { return environment };
    let fields = variables.iter().map(|(name, ty)| (name.clone(), Declared::typed(composed(ty))));
    environment.variable("variables", Declared::object("kubernetes.variables", fields))
}

/// What is known of a variable's type: objects are opaque to other expressions.
fn composed(ty: &Type) -> Type {
    match ty {
        Type::Bool
        | Type::Bytes
        | Type::Double
        | Type::Duration
        | Type::Int
        | Type::Null
        | Type::String
        | Type::Timestamp
        | Type::Uint => ty.clone(),
        Type::List(item) => Type::list(composed(item)),
        Type::Map(entry) => Type::map(composed(&entry.0), composed(&entry.1)),
        _ => Type::Dyn,
    }
}

fn text() -> Declared {
    Declared::new(Shape::String)
}

fn object<const N: usize>(name: &str, fields: [(&str, Declared); N]) -> Declared {
    Declared::object(name, fields.into_iter().map(|(name, declared)| (name.to_owned(), declared)))
}

/// `AdmissionRequest` without its objects.
fn request() -> Declared {
    let kind =
        || object("kubernetes.GroupVersionKind", [("group", text()), ("version", text()), ("kind", text())]);
    let resource = || {
        object(
            "kubernetes.GroupVersionResource",
            [("group", text()), ("version", text()), ("resource", text())],
        )
    };
    let user = object(
        "kubernetes.UserInfo",
        [
            ("username", text()),
            ("uid", text()),
            ("groups", Declared::list(text())),
            ("extra", Declared::map(Declared::list(text()))),
        ],
    );
    object(
        "kubernetes.AdmissionRequest",
        [
            ("kind", kind()),
            ("resource", resource()),
            ("subResource", text()),
            ("requestKind", kind()),
            ("requestResource", resource()),
            ("requestSubResource", text()),
            ("name", text()),
            ("namespace", text()),
            ("operation", text()),
            ("userInfo", user),
            ("dryRun", Declared::new(Shape::Bool)),
            ("options", Declared::any()),
        ],
    )
}

/// The fields of Namespaces that expressions may see.
fn namespace() -> Declared {
    let time = || Declared::new(Shape::DateTime);
    let whole = || Declared::new(Shape::Int);
    let texts = || Declared::map(text());
    let condition = object(
        "kubernetes.NamespaceCondition",
        [
            ("status", text()),
            ("type", text()),
            ("lastTransitionTime", time()),
            ("message", text()),
            ("reason", text()),
        ],
    );
    let metadata = object(
        "kubernetes.NamespaceMetadata",
        [
            ("name", text()),
            ("generateName", text()),
            ("namespace", text()),
            ("labels", texts()),
            ("annotations", texts()),
            ("UID", text()),
            ("creationTimestamp", time()),
            ("deletionGracePeriodSeconds", whole()),
            ("deletionTimestamp", time()),
            ("generation", whole()),
            ("resourceVersion", text()),
            ("finalizers", Declared::list(text())),
        ],
    );
    let status =
        object("kubernetes.NamespaceStatus", [("conditions", Declared::list(condition)), ("phase", text())]);
    object(
        "kubernetes.Namespace",
        [
            ("metadata", metadata),
            ("spec", object("kubernetes.NamespaceSpec", [("finalizers", Declared::list(text()))])),
            ("status", status),
        ],
    )
}
