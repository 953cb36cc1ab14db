//! Quantities inside of JSON objects.

use serde_json::Value;

use plimsoll_meta::quantity::Quantity;

/// The amount a value tells, if it does.
pub(crate) fn parse(value: Option<&Value>) -> Option<Quantity> {
    match value? {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.to_string().parse().ok(),
        _ => None,
    }
}

/// An amount in canonical form; what is missing counts as 0.
pub(crate) fn shown(value: Option<&Value>) -> String {
    parse(value).map_or_else(|| "0".to_owned(), |quantity| quantity.to_string())
}

/// Writes the amounts of a list of resources in canonical form, rounded up to thousandths.
pub(crate) fn canonicalize(list: Option<&mut Value>) {
    let Some(list) = list.and_then(Value::as_object_mut) else { return };
    for amount in list.values_mut() {
        if let Some(quantity) = parse(Some(amount)) {
            *amount = quantity.to_string().into();
        }
    }
}
