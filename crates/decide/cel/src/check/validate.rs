//! Literals whose text must be right: durations, timestamps, patterns (cel-go: cel/validator.go).

use crate::error::Issue;
use crate::parse::{Expr, Kind, Literal};
use crate::types::{Duration, Timestamp};

/// Reports wrong literals anywhere in `expr`.
pub(super) fn literals(expr: &Expr, issues: &mut Vec<Issue>) {
    if let Kind::Call { function, target, args } = &expr.kind {
        let argument = match (function.as_str(), target, args.as_slice()) {
            ("duration" | "timestamp", None, [arg]) => Some(arg),
            ("matches", Some(_), [pattern]) | ("matches", None, [_, pattern]) => Some(pattern),
            _ => None,
        };
        if let Some(Expr { at, kind: Kind::Literal(Literal::String(text)), .. }) = argument
            && !is_right(function, text)
        {
            issues.push(Issue::new(*at, format!("invalid {function} argument")));
        }
    }
    expr.children(&mut |child| literals(child, issues));
}

fn is_right(function: &str, text: &str) -> bool {
    match function {
        "duration" => Duration::parse(text).is_some(),
        "timestamp" => Timestamp::parse(text).is_some(),
        _ => crate::library::pattern(text).is_ok(),
    }
}
