//! Expressions that choose devices (dynamic-resource-allocation: cel/compile.go).

use std::rc::Rc;

use k8s_openapi::api::resource::v1::{Device, DeviceAttribute, DeviceSelector};
use plimsoll_cel::{Bindings, Budget, Declared, Environment, EvalError, Fields, Map, Program, Type, Value};
use plimsoll_meta::quantity::Quantity;

/// An expression that can be asked about devices, or why there is none.
pub(crate) type Compiled = Result<Program, String>;

/// What expressions know: the device.
fn environment() -> Environment {
    let typed = |ty| Declared::typed(ty);
    let device = Declared::object(
        "kubernetes.DRADevice",
        [
            ("driver".to_owned(), typed(Type::String)),
            ("attributes".to_owned(), Declared::map(Declared::map(Declared::any()))),
            ("capacity".to_owned(), Declared::map(Declared::map(typed(Type::Opaque("kubernetes.Quantity"))))),
            ("allowMultipleAllocations".to_owned(), typed(Type::Bool)),
        ],
    );
    Environment::new().variable("device", device).with_bindings()
}

/// The expression of a selector; none if it has none.
pub(crate) fn expression(selector: &DeviceSelector) -> Option<&str> {
    selector.cel.as_ref().map(|cel| cel.expression.as_str())
}

pub(crate) fn compile(expression: &str) -> Compiled {
    let program = environment().compile(expression).map_err(|error| error.to_string())?;
    match program.ty() {
        Type::Bool | Type::Dyn => Ok(program),
        _ => Err("must evaluate to bool or the unknown type, not ".to_owned() + &program.ty().to_string()),
    }
}

/// Whether an expression chooses a device.
///
/// # Errors
/// The expression fails for this device.
pub(crate) fn chooses(program: &Program, driver: &str, device: &Device) -> Result<bool, String> {
    let fields = Map::of_fields([
        ("driver".to_owned(), Value::text(driver)),
        ("attributes".to_owned(), domains(driver, device.attributes.iter().flatten(), attribute)),
        (
            "capacity".to_owned(),
            domains(driver, device.capacity.iter().flatten(), |it| quantity(&it.value.0)),
        ),
        ("allowMultipleAllocations".to_owned(), Value::Bool(device.allow_multiple_allocations == Some(true))),
    ]);
    let bindings = Bindings::new().bind("device", Value::Map(fields));
    let value = program.evaluate(&bindings, &mut Budget::new()).map_err(|error| error.to_string())?;
    value.as_bool().ok_or_else(|| "CEL expression returned no bool".to_owned())
}

/// Values by domain and name; those without a domain are of the driver's.
fn domains<'a, V: 'a>(
    driver: &'a str,
    all: impl Iterator<Item = (&'a String, &'a V)>,
    value: impl Fn(&V) -> Option<Value<'static>>,
) -> Value<'static> {
    let mut domains: Vec<(String, Vec<(String, Value<'static>)>)> = Vec::new();
    for (name, one) in all {
        let (domain, name) = name.split_once('/').unwrap_or((driver, name));
        let Some(value) = value(one) else { continue };
        match domains.iter_mut().find(|(known, _)| known == domain) {
            Some((_, there)) => there.push((name.to_owned(), value)),
            None => domains.push((domain.to_owned(), vec![(name.to_owned(), value)])),
        }
    }
    let maps = domains.into_iter().map(|(domain, values)| (domain, Map::of_fields(values))).collect();
    Value::Map(Map::lazy(Rc::new(Domains(maps))))
}

/// A domain that a device says nothing of is an empty one.
struct Domains(Vec<(String, Map<'static>)>);

impl Fields<'static> for Domains {
    fn get(&self, name: &str) -> Option<Result<Value<'static>, EvalError>> {
        let known = self.0.iter().find(|(domain, _)| domain == name).map(|(_, map)| map.clone());
        Some(Ok(Value::Map(known.unwrap_or_else(|| Map::of_fields([])))))
    }

    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(domain, _)| domain.clone()).collect()
    }
}

fn attribute(it: &DeviceAttribute) -> Option<Value<'static>> {
    fn list<T>(
        items: &Option<Vec<T>>,
        value: impl Fn(&T) -> Option<Value<'static>>,
    ) -> Option<Value<'static>> {
        Some(Value::list(items.as_ref()?.iter().filter_map(value).collect()))
    }
    let text = |text: &String| Some(Value::text(text.as_str()));
    it.bool
        .map(Value::Bool)
        .or_else(|| it.int.map(Value::Int))
        .or_else(|| it.string.as_ref().and_then(text))
        .or_else(|| it.version.as_deref().and_then(Value::semver))
        .or_else(|| list(&it.bools, |one| Some(Value::Bool(*one))))
        .or_else(|| list(&it.ints, |one| Some(Value::Int(*one))))
        .or_else(|| list(&it.strings, text))
        .or_else(|| list(&it.versions, |one| Value::semver(one)))
}

fn quantity(text: &str) -> Option<Value<'static>> {
    text.parse::<Quantity>().ok().map(Value::quantity)
}
