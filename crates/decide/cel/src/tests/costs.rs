//! Costs at runtime and estimated, as upstream's own tests expect them (apiserver: pkg/cel/library/cost_test.go;
//! cel-go: interpreter/runtimecost_test.go). Constant lists are made beforehand and cost nothing at runtime.

use std::rc::Rc;

use serde_json::json;

use crate::{Authorizer, Bindings, Budget, Check, Decision, Declared, Environment, EvalError, Type, Value};

struct Allow;

impl Authorizer for Allow {
    fn authorize(&self, _: &Check) -> Decision {
        Decision { allowed: true, reason: String::new(), error: None }
    }
}

/// The cost at runtime and the estimate.
fn costs(text: &str) -> (u64, (u64, u64)) {
    let environment = Environment::new()
        .variable("authorizer", Declared::typed(Type::AUTHORIZER))
        .variable("input", Declared::map(Declared::any()));
    let program = environment.compile(text).unwrap_or_else(|error| panic!("{error}"));
    let json = json!({"key": [1, 2, 3], "a": {"b": "c"}, "flag": true});
    let bindings = Bindings::new()
        .bind("authorizer", Value::authorizer(Rc::new(Allow)))
        .bind("input", environment.value("input", &json).expect("declared"));
    let mut budget = Budget::new();
    program.evaluate(&bindings, &mut budget).unwrap_or_else(|error| panic!("{text}: {error}"));
    let range = program.estimate();
    (budget.last(), (range.min, range.max))
}

#[test]
fn costs_are_upstreams() {
    for (text, runtime, min, max) in [
        ("url('https:://kubernetes.io/')", 3, 3, 3),
        ("url('https:://kubernetes.io/').getScheme()", 4, 4, 4),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii()", 3, 3, 3),
        ("'ABCDEFGHIJ abcdefghij'.lowerAscii() == 'abcdefghij ABCDEFGHIJ'.lowerAscii()", 9, 7, 9),
        ("strings.quote('ABCDEFGHIJ abcdefghij')", 3, 3, 3),
        ("strings.quote('ABCDEFGHIJ abcdefghij') == strings.quote('ABCDEFGHIJ abcdefghij')", 9, 7, 11),
        ("'abc 123 def 123'.replace('123', '456')", 3, 3, 3),
        ("'abc 123 def 123'.split(' ')", 3, 3, 3),
        ("'abc 123 def 123'.substring(5)", 2, 2, 2),
        ("'  abc 123 def 123  '.trim()", 2, 2, 2),
        ("'abc 123 def 123'.find('123')", 2, 2, 2),
        ("'abc 123 def 123'.findAll('123', 1)", 2, 2, 2),
        ("authorizer.path('/healthz')", 2, 2, 2),
        (
            "authorizer.group('apps').resource('deployments').subresource('status').namespace('test').name('backend')",
            6,
            6,
            6,
        ),
        (
            "authorizer.group('').resource('pods').fieldSelector('spec.nodeName=example-node-name.fully.qualified.domain.name.example.com')",
            1821,
            1821,
            1821,
        ),
        ("authorizer.path('/healthz').check('get').allowed()", 350_003, 350_003, 350_003),
        ("quantity(\"12Mi\")", 1, 1, 1),
        ("quantity(\"200M\") == quantity(\"0.2G\") && quantity(\"0.2G\") == quantity(\"200M\")", 6, 3, 6),
        ("quantity(\"50k\").add(20).sub(quantity(\"100k\")).asInteger() > 0", 6, 6, 6),
        ("format.named(\"dns1123Label\")", 1, 1, 1),
        ("format.named(\"dns1123Subdomain\").value().validate(\"my-name\")", 17, 34, 34),
        ("format.named(\"dns1123Label\").value().validate(\"my-name\")", 10, 34, 34),
        ("format.named(\"dns1123Label\").value() == format.named(\"dns1123Label\").value()", 5, 5, 11),
        ("sets.contains([1, 2, 3, 4], [2, 3])", 9, 29, 29),
        ("sets.equivalent([1, 2, 3], [3, 2, 1])", 19, 39, 39),
        ("sets.intersects([1], [1, 2])", 3, 23, 23),
        ("semver(\"1234.56789012345.67890123456789\")", 4, 4, 4),
        ("semver(\"1.2.3\").major()", 2, 2, 2),
        ("cidr('192.168.0.0/24').containsIP('192.168.0.1')", 5, 5, 8),
        ("input['key']", 2, 2, 2),
        ("input.a", 2, 2, 2),
        ("has(input.a)", 1, 1, 1),
        ("has(input.a.b)", 2, 2, 2),
        ("input['ke' + 'y']", 3, 3, 3),
        ("true ? 1 : 2", 0, 0, 0),
        ("true ? false : 1 > 3", 0, 0, 1),
        ("(1 > 2 ? 5 : 3) > 1", 2, 2, 2),
        ("2 in [1, 2, 3]", 0, 13, 13),
        ("'123'.matches('[0-9]')", 2, 2, 2),
        ("[1, 2, 3].all(x, true)", 10, 20, 20),
        ("[1,2,3,4,5].map(x, x)", 66, 86, 86),
        ("[1,2,3,4,5].filter(x, x % 2 == 0)", 42, 41, 101),
        ("[1, 2].isSorted()", 2, 12, 12),
    ] {
        assert_eq!(costs(text), (runtime, (min, max)), "{text}");
    }
    assert_eq!(costs("['aa', 'bb', 'cc', 'd', 'e', 'f', 'g', 'h', 'i', 'j'].join(' ')").0, 5);
    assert_eq!(costs("['aa', 'bb', 'cc', 'd', 'e', 'f', 'g', 'h', 'i', 'j'].join()").0, 3);
}

#[test]
fn limits_end_an_evaluation() {
    let environment = Environment::new();
    let program =
        environment.compile("lists.range(1000).all(x, lists.range(1000).all(y, x >= 0))").expect("compiles");
    let mut budget = Budget::new();
    let error = program.evaluate(&Bindings::new(), &mut budget).expect_err("costs too much");
    assert_eq!(error, EvalError::CostLimit);
    assert_eq!(error.to_string(), "operation cancelled: actual cost limit exceeded");
    assert!(budget.spent() > 1_000_000);
    let mut small = Budget::with_limits(1_000_000, 1);
    let cheap = environment.compile("lists.range(3) == [0, 1, 2]").expect("compiles");
    assert!(cheap.evaluate(&Bindings::new(), &mut small).is_ok());
    assert!(small.is_exhausted() && small.remaining().is_none());
}

#[test]
fn estimates_follow_the_schema() {
    let estimate = |schema: serde_json::Value, text: &str| {
        let declared = Declared::of_schema(&schema, "selfType").expect("the schema has a type");
        Environment::new().variable("self", declared).compile(text).expect("compiles").estimate().max
    };
    let list = |item: serde_json::Value, max: Option<u64>| {
        let mut list = json!({"type": "array", "items": item});
        if let Some(max) = max {
            list["maxItems"] = json!(max);
        }
        json!({"type": "object", "properties": {"list": list}})
    };
    let rule = "self.list.all(x, x == x)";
    assert_eq!(estimate(list(json!({"type": "integer"}), Some(10)), rule), 3 + 10 * 5);
    assert_eq!(estimate(list(json!({"type": "string", "maxLength": 10}), Some(10)), rule), 3 + 10 * 9);
    assert!(estimate(list(json!({"type": "string"}), None), rule) > crate::PER_EXPRESSION_ESTIMATE_LIMIT);
}
