//! The functions, one file for each library.
//!
//! Each library has a table of declarations (`id function member|global arguments result`) and an `apply`
//! that finds the case by the values, as upstream dispatches at runtime too.

mod arithmetic;
pub(crate) mod authorizer;
pub(crate) mod cidr;
mod conversion;
mod extended_lists;
pub(crate) mod format;
mod formatting;
mod ip;
mod lists;
mod optional;
pub(crate) mod patches;
pub(crate) mod quantity;
mod regexes;
pub(crate) mod semver;
mod sets;
mod standard;
mod strings;
mod times;
pub(crate) mod urls;

pub(crate) use regexes::pattern;

use crate::error::EvalError;
use crate::evaluate::Evaluated;
use crate::types::{Type, Value};

/// A library, by which calls are dispatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Library {
    Arithmetic,
    Authorizer,
    Cidr,
    Conversion,
    ExtendedLists,
    Format,
    Ip,
    Lists,
    Optional,
    Patches,
    Quantity,
    Regex,
    Semver,
    Sets,
    Standard,
    Strings,
    Times,
    Urls,
}

/// The declarations of each library; the order is the one overloads are tried in.
pub(crate) fn tables() -> [(Library, &'static str); 18] {
    [
        (Library::Standard, standard::TABLE),
        (Library::Arithmetic, arithmetic::TABLE),
        (Library::Conversion, conversion::TABLE),
        (Library::Times, times::TABLE),
        (Library::Urls, urls::TABLE),
        (Library::Regex, regexes::TABLE),
        (Library::Authorizer, authorizer::TABLE),
        (Library::Optional, optional::TABLE),
        (Library::Quantity, quantity::TABLE),
        (Library::Strings, strings::TABLE),
        (Library::Sets, sets::TABLE),
        (Library::Ip, ip::TABLE),
        (Library::Cidr, cidr::TABLE),
        (Library::Format, format::TABLE),
        (Library::Semver, semver::TABLE),
        (Library::ExtendedLists, extended_lists::TABLE),
        (Library::Lists, lists::TABLE),
        (Library::Patches, patches::TABLE),
    ]
}

/// Calls a function of one of the libraries that share its name; none if no case fits the values.
pub(crate) fn apply<'a>(
    first: Library,
    function: &str,
    overload: Option<&str>,
    args: &[Value<'a>],
) -> Option<Evaluated<'a>> {
    let function = function.trim_start_matches('.');
    let call = |library| match library {
        Library::Arithmetic => arithmetic::apply(function, args),
        Library::Authorizer => authorizer::apply(function, args),
        Library::Cidr => cidr::apply(function, args),
        Library::Conversion => conversion::apply(function, args),
        Library::ExtendedLists => extended_lists::apply(function, args),
        Library::Format => format::apply(function, args),
        Library::Ip => ip::apply(function, args),
        Library::Lists => lists::apply(function, args),
        Library::Optional => optional::apply(function, args),
        Library::Patches => patches::apply(function, args),
        Library::Quantity => quantity::apply(function, args),
        Library::Regex => regexes::apply(function, args),
        Library::Semver => semver::apply(function, args),
        Library::Sets => sets::apply(function, args),
        Library::Standard => standard::apply(function, args),
        Library::Strings => strings::apply(function, args),
        Library::Times => times::apply(function, args),
        Library::Urls => urls::apply(function, args),
    };
    let found = call(first);
    if found.is_some() || overload.is_some() {
        return found;
    }
    crate::check::libraries_of(function).filter(|library| *library != first).find_map(call)
}

/// The type that an identifier names.
pub(crate) fn type_named(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "null_type" => Type::Null,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "type" => Type::Type(std::sync::Arc::new(Type::Dyn)),
        "optional_type" => Type::optional(Type::Dyn),
        "google.protobuf.Timestamp" => Type::Timestamp,
        "google.protobuf.Duration" => Type::Duration,
        name => Type::Opaque(OPAQUE.iter().find(|known| **known == name)?),
    })
}

const OPAQUE: [&str; 11] = [
    "kubernetes.Quantity",
    "kubernetes.URL",
    "kubernetes.Semver",
    "kubernetes.NamedFormat",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
    "net.IP",
    "net.CIDR",
];

fn fail<'a>(message: impl Into<String>) -> Evaluated<'a> {
    Err(EvalError::failed(message))
}

fn bool<'a>(value: bool) -> Evaluated<'a> {
    Ok(Value::Bool(value))
}
