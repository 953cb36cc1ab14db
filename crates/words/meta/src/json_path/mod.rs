//! JSONPath as kubectl and printer columns know it (client-go: `util/jsonpath`), one expression without
//! templates: `.spec.containers[0].name`, `.status.conditions[?(@.type=="Ready")].status`.

mod find;
mod parse;

use serde_json::Value;

/// A parsed path.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    Wildcard,
    Recursive,
    Slice(Slice),
    Union(Vec<Vec<Step>>),
    Filter(Filter),
    /// A value by itself, as filters compare with.
    Literal(Value),
}

/// `[start:end:step]`; `one` tells that it was a single index.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Slice {
    start: Option<i64>,
    end: Option<i64>,
    step: Option<i64>,
    one: bool,
}

/// `[?(left operator right)]`; without an operator the left side only has to exist.
#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: Vec<Step>,
    operator: String,
    right: Vec<Step>,
}

impl JsonPath {
    /// Reads a path without its braces.
    ///
    /// # Errors
    /// What is wrong with it, as a fragment.
    pub fn parse(text: &str) -> Result<Self, String> {
        parse::parse(text).map(Self)
    }

    /// All values that the path leads to; missing fields lead nowhere.
    ///
    /// # Errors
    /// When a step does not fit the values there, as a fragment.
    pub fn find(&self, value: &Value) -> Result<Vec<Value>, String> {
        let found = find::walk(&self.0, vec![std::borrow::Cow::Borrowed(value)])?;
        Ok(found.into_iter().map(std::borrow::Cow::into_owned).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn paths_lead_to_values() {
        let object = json!({
            "spec": {"list": [{"name": "a", "n": 1}, {"name": "b", "n": 2}, {"name": "c", "n": 3}], "a.b": "dotted", "map": {"x": 1}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Live"}]},
        });
        for (path, expected) in [
            (".spec.list[0].name", json!(["a"])),
            ("{.spec.list[0].name}", json!(null)),
            (".spec.list[-1].name", json!(["c"])),
            (".spec.list[*].n", json!([1, 2, 3])),
            (".spec.list[0:2].n", json!([1, 2])),
            (".spec.list[::2].n", json!([1, 3])),
            (".spec.list[0,2].n", json!([1, 3])),
            (".spec['list'][1].name", json!(["b"])),
            (".spec.a\\.b", json!(["dotted"])),
            (".spec['map','list'][0].n", json!(null)),
            (".status.conditions[?(@.type==\"Ready\")].status", json!(["True"])),
            (".status.conditions[?(@.type=='Ready')].status", json!(["True"])),
            (".spec.list[?(@.n>1)].name", json!(["b", "c"])),
            (".status.conditions[?(@.status)].type", json!(["Ready"])),
            ("..name", json!(["a", "b", "c"])),
            (".spec.none.deeper", json!([])),
            (".spec.map.*", json!([1])),
            ("$.spec.map.x", json!([1])),
        ] {
            let found = JsonPath::parse(path).and_then(|path| path.find(&object));
            assert_eq!(found.map_or(Value::Null, Value::Array), expected, "{path}");
        }
    }

    #[test]
    fn paths_that_double_what_they_lead_to_end() {
        let deep = (0..60).fold(json!(1), |inner, _| json!({"a": inner}));
        for path in ["['a','a']".repeat(60), "..*".repeat(60), ".a[9223372036854775807]".to_owned()] {
            let Ok(path) = JsonPath::parse(&path) else { continue };
            assert!(path.find(&deep).is_err());
        }
        let last = JsonPath::parse("[9223372036854775807]").expect("a path");
        assert!(last.find(&json!([1])).is_err());
    }

    #[test]
    fn odd_paths_are_refused() {
        for path in
            [".spec[", ".spec[?(@.a]", ".spec[x]", "range", ".a..", ".spec.list[a:b]", "'open", "....a"]
        {
            let parsed = JsonPath::parse(path);
            assert!(parsed.is_err() || path == ".a..", "{path} {parsed:?}");
        }
        let deep = "[0".repeat(10_000);
        assert!(JsonPath::parse(&deep).is_err());
        let far = JsonPath::parse(".a[5]").expect("parses");
        assert!(far.find(&json!({"a": [1]})).is_err());
        assert!(far.find(&json!({"a": 1})).is_err());
    }
}
