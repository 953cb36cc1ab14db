//! Quantities (apiserver: pkg/cel/library/quantity.go).

use super::{bool, fail};
use crate::evaluate::Evaluated;
use crate::types::{Opaque, Value};

pub(crate) use plimsoll_meta::quantity::Quantity;

pub(super) const TABLE: &str = "
string_to_quantity quantity global string kubernetes.Quantity
is_quantity_string isQuantity global string bool
quantity_sign sign member kubernetes.Quantity int
quantity_is_greater_than isGreaterThan member kubernetes.Quantity,kubernetes.Quantity bool
quantity_is_less_than isLessThan member kubernetes.Quantity,kubernetes.Quantity bool
quantity_compare_to compareTo member kubernetes.Quantity,kubernetes.Quantity int
quantity_get_float asApproximateFloat member kubernetes.Quantity double
quantity_get_int asInteger member kubernetes.Quantity int
quantity_is_integer isInteger member kubernetes.Quantity bool
quantity_add add member kubernetes.Quantity,kubernetes.Quantity kubernetes.Quantity
quantity_add_int add member kubernetes.Quantity,int kubernetes.Quantity
quantity_sub sub member kubernetes.Quantity,kubernetes.Quantity kubernetes.Quantity
quantity_sub_int sub member kubernetes.Quantity,int kubernetes.Quantity
";

const MESSAGE: &str =
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";

pub(super) fn apply<'a>(function: &str, args: &[Value<'a>]) -> Option<Evaluated<'a>> {
    Some(match (function, args) {
        ("isQuantity", [Value::String(text)]) => bool(text.parse::<Quantity>().is_ok()),
        ("quantity", [Value::String(text)]) => match text.parse() {
            Ok(quantity) => made(quantity),
            Err(_) => fail(MESSAGE),
        },
        (_, [Value::Opaque(Opaque::Quantity(a)), rest @ ..]) => of_quantity(function, *a, rest)?,
        _ => return None,
    })
}

fn made<'a>(quantity: Quantity) -> Evaluated<'a> {
    Ok(Value::Opaque(Opaque::Quantity(quantity)))
}

fn of_quantity<'a>(function: &str, a: Quantity, rest: &[Value<'_>]) -> Option<Evaluated<'a>> {
    let b = match rest {
        [] => return alone(function, a),
        [Value::Opaque(Opaque::Quantity(b))] => *b,
        [Value::Int(units)] if matches!(function, "add" | "sub") => Quantity::from_units(*units),
        _ => return None,
    };
    Some(match function {
        "isGreaterThan" => bool(a > b),
        "isLessThan" => bool(a < b),
        "compareTo" => Ok(Value::Int(a.cmp(&b) as i64)),
        "add" => made(a + b),
        "sub" => made(a - b),
        _ => return None,
    })
}

fn alone<'a>(function: &str, a: Quantity) -> Option<Evaluated<'a>> {
    let whole = Quantity::from_units(a.value()) == a;
    Some(match function {
        "sign" => Ok(Value::Int(a.sign().into())),
        "asApproximateFloat" => Ok(Value::Double(a.as_f64())),
        "isInteger" => bool(whole),
        "asInteger" if whole => Ok(Value::Int(a.value())),
        "asInteger" => fail("cannot convert value to integer"),
        _ => return None,
    })
}
