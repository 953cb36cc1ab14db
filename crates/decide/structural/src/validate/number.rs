//! Bounds of numbers. Whole numbers are compared as such, with bounds cut to whole numbers.

use serde_json::{Number, Value};

use super::message::{Place, float};
use super::result::Findings;
use crate::schema::Limits;

pub(crate) fn check(place: Place<'_>, limits: &Limits, number: &Number) -> Findings {
    let mut found = Findings::default();
    let value = Value::Number(number.clone());
    let (multiple, least, most) = match number.as_i64() {
        Some(whole) => whole_faults(limits, whole),
        None => faults(limits, number.as_f64().unwrap_or_default()),
    };
    if let Some(fault) = multiple {
        match fault {
            Fault::Factor(factor) => {
                let detail =
                    format!("factor MultipleOf declared for {} must be positive: {factor}", place.name);
                let error = place.invalid(&value, String::new());
                found.add(plimsoll_meta::field::FieldError { value: Some(factor), detail, ..error });
            }
            Fault::Told(detail) => found.add(place.invalid(&value, detail)),
        }
    }
    for detail in [least, most].into_iter().flatten() {
        found.add(place.invalid(&value, detail));
    }
    found.count();
    found
}

enum Fault {
    /// The schema's own factor makes no sense.
    Factor(String),
    Told(String),
}

type Faults = (Option<Fault>, Option<String>, Option<String>);

fn whole_faults(limits: &Limits, number: i64) -> Faults {
    // Upstream cuts bounds to whole numbers before it compares.
    let cut = |bound: f64| bound as i64;
    let multiple = limits.multiple_of.map(cut).and_then(|factor| match factor {
        ..=0 => Some(Fault::Factor(factor.to_string())),
        _ if number % factor != 0 => Some(Fault::Told(format!("should be a multiple of {factor}"))),
        _ => None,
    });
    let least = limits.minimum.map(cut).and_then(|bound| {
        let fails = if limits.exclusive_minimum { number <= bound } else { number < bound };
        fails.then(|| below(limits, bound.to_string()))
    });
    let most = limits.maximum.map(cut).and_then(|bound| {
        let fails = if limits.exclusive_maximum { number >= bound } else { number > bound };
        fails.then(|| above(limits, bound.to_string()))
    });
    (multiple, least, most)
}

fn faults(limits: &Limits, number: f64) -> Faults {
    let multiple = limits.multiple_of.and_then(|factor| {
        if factor <= 0.0 {
            return Some(Fault::Factor(float(factor)));
        }
        let quotient = if factor < 1.0 { 1.0 / factor * number } else { number / factor };
        let whole = (quotient - quotient.round()).abs() < 1e-9;
        (!whole).then(|| Fault::Told(format!("should be a multiple of {}", float(factor))))
    });
    let least = limits.minimum.and_then(|bound| {
        let fails = if limits.exclusive_minimum { number <= bound } else { number < bound };
        fails.then(|| below(limits, float(bound)))
    });
    let most = limits.maximum.and_then(|bound| {
        let fails = if limits.exclusive_maximum { number >= bound } else { number > bound };
        fails.then(|| above(limits, float(bound)))
    });
    (multiple, least, most)
}

fn below(limits: &Limits, bound: String) -> String {
    match limits.exclusive_minimum {
        true => format!("should be greater than {bound}"),
        false => format!("should be greater than or equal to {bound}"),
    }
}

fn above(limits: &Limits, bound: String) -> String {
    match limits.exclusive_maximum {
        true => format!("should be less than {bound}"),
        false => format!("should be less than or equal to {bound}"),
    }
}
