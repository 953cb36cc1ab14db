//! Messages of the compiler.

use serde_json::json;

use crate::{Declared, Environment};

fn message(text: &str) -> String {
    let schema = json!({"type": "object", "properties": {
        "s": {"type": "string"}, "i": {"type": "integer"}, "a-b": {"type": "string"}, "namespace": {"type": "string"},
        "list": {"type": "array", "items": {"type": "string"}},
    }});
    let declared = Declared::of_schema(&schema, "selfType").expect("the schema has a type");
    match Environment::new().variable("self", declared).compile(text) {
        Ok(program) => format!("ok: {}", program.ty()),
        Err(error) => error.to_string(),
    }
}

#[test]
fn messages_are_upstreams() {
    for (text, expected) in [
        ("self.s == self.a__dash__b && self.__namespace__ == ''", "ok: bool"),
        ("self.list", "ok: list(string)"),
        ("self.c", "ERROR: <input>:1:5: undefined field 'c'\n | self.c\n | ....^"),
        ("x", "ERROR: <input>:1:1: undeclared reference to 'x' (in container '')\n | x\n | ^"),
        (
            "self.i + self.s",
            "ERROR: <input>:1:8: found no matching overload for '_+_' applied to '(int, string)'\n | self.i + \
             self.s\n | .......^",
        ),
        (
            "self.s.all(x, true)",
            "ERROR: <input>:1:5: expression of type 'string' cannot be range of a comprehension (must be list, map, or \
             dynamic)\n | self.s.all(x, true)\n | ....^",
        ),
        (
            "self.s.startsWith(1)",
            "ERROR: <input>:1:18: found no matching overload for 'startsWith' applied to 'string.(int)'\n | \
             self.s.startsWith(1)\n | .................^",
        ),
        (
            "1 +",
            "ERROR: <input>:1:4: Syntax error: mismatched input '<EOF>' expecting {'[', '{', '(', '.', '-', '!', 'true', \
             'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, IDENTIFIER}\n | 1 +\n | ...^",
        ),
        ("has(self)", "ERROR: <input>:1:5: invalid argument to has() macro\n | has(self)\n | ....^"),
        ("9223372036854775808", "ERROR: <input>:1:1: invalid int literal\n | 9223372036854775808\n | ^"),
        ("[1, 'a']", "ERROR: <input>:1:5: expected type 'int' but found 'string'\n | [1, 'a']\n | ....^"),
        ("duration('x')", "ERROR: <input>:1:10: invalid duration argument\n | duration('x')\n | .........^"),
        (
            "'a'.matches('(')",
            "ERROR: <input>:1:13: invalid matches argument\n | 'a'.matches('(')\n | ............^",
        ),
        (
            "cel.bind(x, 1, x)",
            "ERROR: <input>:1:1: undeclared reference to 'cel' (in container '')\n | cel.bind(x, 1, x)\n | ^\n\
             ERROR: <input>:1:9: undeclared reference to 'bind' (in container '')\n | cel.bind(x, 1, x)\n | ........^\n\
             ERROR: <input>:1:10: undeclared reference to 'x' (in container '')\n | cel.bind(x, 1, x)\n | .........^\n\
             ERROR: <input>:1:16: undeclared reference to 'x' (in container '')\n | cel.bind(x, 1, x)\n | ...............^",
        ),
    ] {
        assert_eq!(message(text), expected, "{text}");
    }
}
