//! Declarations of functions, read from each library's table.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use crate::library;
use crate::types::Type;

pub(crate) use crate::library::Library;

/// One signature of a function.
#[derive(Debug)]
pub(crate) struct Overload {
    pub(crate) id: &'static str,
    pub(crate) function: &'static str,
    /// Whether it is called on its first argument.
    pub(crate) member: bool,
    pub(crate) args: Vec<Type>,
    pub(crate) result: Type,
    /// How many type parameters the signature has.
    pub(crate) params: usize,
    pub(crate) library: Library,
}

static OVERLOADS: LazyLock<HashMap<&'static str, Vec<Overload>>> = LazyLock::new(|| {
    let mut all: HashMap<_, Vec<Overload>> = HashMap::new();
    for (library, table) in library::tables() {
        for line in table.lines().filter(|line| !line.trim().is_empty()) {
            let overload = read(line, library).unwrap_or_else(|| panic!("not a declaration: {line}"));
            all.entry(overload.function).or_default().push(overload);
        }
    }
    all
});

/// The overloads of a function, in the order of their declaration.
pub(crate) fn overloads(function: &str) -> &'static [Overload] {
    OVERLOADS.get(function).map_or(&[], Vec::as_slice)
}

/// Reads `id function member|global arguments result`; arguments are `-` if there are none.
fn read(line: &'static str, library: Library) -> Option<Overload> {
    let mut words = line.split_whitespace();
    let (id, function, style) = (words.next()?, words.next()?, words.next()?);
    let (args, result) = (words.next()?, words.next()?);
    let args =
        if args == "-" { Vec::new() } else { split(args).into_iter().map(ty).collect::<Option<_>>()? };
    let result = ty(result)?;
    let params = args.iter().chain([&result]).map(highest).max().unwrap_or(0);
    Some(Overload { id, function, member: style == "member", args, result, params, library })
}

/// How many parameters up to the highest that `ty` mentions.
fn highest(ty: &Type) -> usize {
    match ty {
        Type::Param(param) => param + 1,
        Type::List(inner) | Type::Optional(inner) | Type::Type(inner) => highest(inner),
        Type::Map(entry) => highest(&entry.0).max(highest(&entry.1)),
        _ => 0,
    }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut from) = (0, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

fn ty(text: &str) -> Option<Type> {
    if let Some(inner) = text.strip_suffix(')') {
        let (outer, inner) = inner.split_once('(')?;
        let parts: Vec<Type> = split(inner).into_iter().map(ty).collect::<Option<_>>()?;
        return match (outer, parts.as_slice()) {
            ("list", [item]) => Some(Type::list(item.clone())),
            ("map", [key, value]) => Some(Type::map(key.clone(), value.clone())),
            ("optional", [inner]) => Some(Type::optional(inner.clone())),
            ("type", [of]) => Some(Type::Type(Arc::new(of.clone()))),
            _ => None,
        };
    }
    match text {
        "A" => Some(Type::Param(0)),
        "B" => Some(Type::Param(1)),
        "dyn" => Some(Type::Dyn),
        "timestamp" => Some(Type::Timestamp),
        "duration" => Some(Type::Duration),
        name => library::type_named(name),
    }
}

/// The libraries that declare a function.
pub(crate) fn libraries_of(function: &str) -> impl Iterator<Item = Library> {
    let mut libraries: Vec<Library> = overloads(function).iter().map(|overload| overload.library).collect();
    libraries.dedup();
    libraries.into_iter()
}
