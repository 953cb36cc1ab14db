//! How settings are read: every value by its type, every problem with its path.

use std::collections::BTreeMap;

use plimsoll_meta::quantity::Quantity;
use serde_json::{Map, Value, json};

use super::span::Span;

/// What becomes of a setting in this agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// It is acted upon.
    Used,
    /// Any value is right: it is about something that does not exist here, or has no effect upstream either.
    Moot,
    /// Anything but its default is refused, because nothing would act upon it.
    Fixed,
}

/// A type of settings.
pub(super) trait Setting: Sized + PartialEq {
    /// What the type is called in Go.
    const NAME: &'static str;

    /// Reads a value; a problem is told and leaves the type's zero.
    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self;

    /// What Go has when nothing is said.
    fn zero() -> Self;

    /// The value as documents have it; `null` for nothing.
    fn show(&self) -> Value;

    /// Tells of parts of a value that differ from their default though nothing acts upon them.
    fn refuse(&self, _at: &str, _problems: &mut Vec<String>) {}
}

/// A value is of another type: Go's words with the path.
fn mismatch<T: Setting>(value: &Value, at: &str, problems: &mut Vec<String>) -> T {
    let found = match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(number) if T::NAME.starts_with("int") => format!("number {number}"),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    };
    let field = if at.is_empty() { String::new() } else { format!(".{at}") };
    problems.push(format!(
        "json: cannot unmarshal {found} into Go struct field KubeletConfiguration{field} of type {}",
        T::NAME
    ));
    T::zero()
}

impl Setting for bool {
    const NAME: &'static str = "bool";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        value.as_bool().unwrap_or_else(|| mismatch(value, at, problems))
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn zero() -> Self {
        false
    }
}

impl Setting for i32 {
    const NAME: &'static str = "int32";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        let number = value.as_i64().and_then(|number| Self::try_from(number).ok());
        number.unwrap_or_else(|| mismatch(value, at, problems))
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn zero() -> Self {
        0
    }
}

impl Setting for i64 {
    const NAME: &'static str = "int64";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        value.as_i64().unwrap_or_else(|| mismatch(value, at, problems))
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn zero() -> Self {
        0
    }
}

impl Setting for f64 {
    const NAME: &'static str = "float64";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        value.as_f64().unwrap_or_else(|| mismatch(value, at, problems))
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn zero() -> Self {
        0.0
    }
}

impl Setting for String {
    const NAME: &'static str = "string";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        value.as_str().map_or_else(|| mismatch(value, at, problems), str::to_owned)
    }

    fn show(&self) -> Value {
        json!(self)
    }

    fn zero() -> Self {
        Self::new()
    }
}

impl Setting for Span {
    const NAME: &'static str = "v1.Duration";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        let Some(text) = value.as_str() else { return mismatch(value, at, problems) };
        Self::parse(text).unwrap_or_else(|problem| {
            problems.push(format!("{at}: {problem}"));
            Self::zero()
        })
    }

    fn show(&self) -> Value {
        json!(self.to_string())
    }

    fn zero() -> Self {
        Self::default()
    }
}

impl Setting for Quantity {
    const NAME: &'static str = "resource.Quantity";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            _ => return mismatch(value, at, problems),
        };
        text.parse().unwrap_or_else(|problem| {
            problems.push(format!("{at}: {problem}"));
            Self::zero()
        })
    }

    fn show(&self) -> Value {
        json!(self.to_string())
    }

    fn zero() -> Self {
        Self::default()
    }
}

impl<T: Setting> Setting for Option<T> {
    const NAME: &'static str = T::NAME;

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        Some(T::read(value, at, problems))
    }

    fn show(&self) -> Value {
        self.as_ref().map_or(Value::Null, T::show)
    }

    fn zero() -> Self {
        None
    }

    fn refuse(&self, at: &str, problems: &mut Vec<String>) {
        if let Some(value) = self {
            value.refuse(at, problems);
        }
    }
}

impl<T: Setting> Setting for Vec<T> {
    const NAME: &'static str = "[]";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        let Some(list) = value.as_array() else { return mismatch(value, at, problems) };
        list.iter()
            .enumerate()
            .map(|(index, one)| T::read(one, &format!("{at}[{index}]"), problems))
            .collect()
    }

    fn show(&self) -> Value {
        Value::Array(self.iter().map(T::show).collect())
    }

    fn zero() -> Self {
        Self::new()
    }
}

impl<T: Setting> Setting for BTreeMap<String, T> {
    const NAME: &'static str = "map[string]";

    fn read(value: &Value, at: &str, problems: &mut Vec<String>) -> Self {
        let Some(map) = value.as_object() else { return mismatch(value, at, problems) };
        map.iter().map(|(key, one)| (key.clone(), T::read(one, &format!("{at}[{key}]"), problems))).collect()
    }

    fn show(&self) -> Value {
        Value::Object(self.iter().map(|(name, value)| (name.clone(), value.show())).collect())
    }

    fn zero() -> Self {
        Self::new()
    }
}

/// The fields of a value that is a struct in Go.
pub(super) fn fields<'v>(
    value: &'v Value,
    known: &[&str],
    at: &str,
    problems: &mut Vec<String>,
) -> Option<&'v Map<String, Value>> {
    let Some(map) = value.as_object() else {
        let found = mismatch::<Group>(value, at, problems);
        debug_assert!(found == Group, "a group is nothing but its name");
        return None;
    };
    let unknown = map.keys().filter(|name| !known.contains(&name.as_str()));
    problems.extend(unknown.map(|name| format!("unknown field {:?}", path(at, name))));
    Some(map)
}

/// One of the fields; `null` is as good as nothing.
pub(super) fn field<T: Setting>(
    map: Option<&Map<String, Value>>,
    at: &str,
    name: &str,
    problems: &mut Vec<String>,
) -> Option<T> {
    let value = map?.get(name).filter(|value| !value.is_null())?;
    Some(T::read(value, &path(at, name), problems))
}

/// The path of a field below another one.
pub(super) fn path(at: &str, name: &str) -> String {
    if at.is_empty() { name.to_owned() } else { format!("{at}.{name}") }
}

/// Stands for any struct where only its name counts.
#[derive(PartialEq)]
struct Group;

impl Setting for Group {
    const NAME: &'static str = "struct";

    fn read(_: &Value, _: &str, _: &mut Vec<String>) -> Self {
        Self
    }

    fn show(&self) -> Value {
        Value::Null
    }

    fn zero() -> Self {
        Self
    }
}

/// Declares a struct of settings, a row for each:
/// `name: Type = "upstreamName", default, Use;`. The default is `none` (Go's zero), `absent VALUE` (when
/// nothing is said) or `empty VALUE` (when nothing or Go's zero is said).
macro_rules! settings {
    ($(#[$about:meta])* $name:ident {
        $($(#[$doc:meta])* $field:ident: $kind:ty = $json:literal, $mode:ident $($standard:expr)?, $use:ident;)*
    }) => {
        $(#[$about])*
        #[derive(Clone, Debug, PartialEq)]
        pub struct $name {
            $($(#[$doc])* pub $field: $kind,)*
        }

        impl $name {
            /// What becomes of each setting, by its name.
            pub const USES: &'static [(&'static str, $crate::configuration::Use)] =
                &[$(($json, $crate::configuration::Use::$use),)*];
        }

        impl Default for $name {
            fn default() -> Self {
                <Self as $crate::configuration::setting::Setting>::zero()
            }
        }

        impl $crate::configuration::setting::Setting for $name {
            const NAME: &'static str = stringify!($name);

            fn read(value: &serde_json::Value, at: &str, problems: &mut Vec<String>) -> Self {
                use $crate::configuration::setting::{field, fields};
                let map = fields(value, &[$($json),*], at, problems);
                Self {
                    $($field: settings!(@default $kind, field::<$kind>(map, at, $json, problems), $mode $($standard)?),)*
                }
            }

            fn show(&self) -> serde_json::Value {
                let all = [$(($json, self.$field.show()),)*].into_iter();
                let told = all.filter(|(_, value)| !value.is_null());
                serde_json::Value::Object(told.map(|(name, value)| (name.to_owned(), value)).collect())
            }

            fn zero() -> Self {
                Self { $($field: settings!(@default $kind, None::<$kind>, $mode $($standard)?),)* }
            }

            fn refuse(&self, at: &str, problems: &mut Vec<String>) {
                use $crate::configuration::setting::path;
                let usual = Self::zero();
                $(
                    if $crate::configuration::Use::$use != $crate::configuration::Use::Fixed {
                        self.$field.refuse(&path(at, $json), problems);
                    } else if self.$field != usual.$field {
                        problems.push(format!(
                            "invalid configuration: {} is not used by this node agent and must be left at its default",
                            path(at, $json)
                        ));
                    }
                )*
            }
        }
    };
    (@default $kind:ty, $given:expr, none) => {
        $given.unwrap_or_else(<$kind as $crate::configuration::setting::Setting>::zero)
    };
    (@default $kind:ty, $given:expr, absent $standard:expr) => {
        $given.unwrap_or_else(|| $standard)
    };
    (@default $kind:ty, $given:expr, empty $standard:expr) => {
        $given
            .filter(|given| *given != <$kind as $crate::configuration::setting::Setting>::zero())
            .unwrap_or_else(|| $standard)
    };
}
pub(super) use settings;
