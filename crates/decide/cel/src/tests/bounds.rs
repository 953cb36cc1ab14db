//! Neither deep nor arbitrary text breaks the compiler or the evaluator.

use proptest::prelude::*;

use super::values::{environment, run};

/// Compiles, estimates and evaluates, whatever comes of it; on the stack of a test's thread.
fn survive(text: &str) {
    if let Ok(program) = environment().compile(text) {
        program.estimate();
    }
    let _ = run(text);
}

#[test]
fn deep_nesting_is_refused_or_works() {
    for depth in [50, 100, 200, 245, 260, 1000, 20_000] {
        for text in [
            format!("{}1{}", "(".repeat(depth), ")".repeat(depth)),
            format!("{}1{}", "[".repeat(depth), "]".repeat(depth)),
            format!("{}1{}", "{'a': ".repeat(depth), "}".repeat(depth)),
            format!("{}1{}", "dyn(".repeat(depth), ")".repeat(depth)),
            format!("{}true", "!".repeat(depth)),
            vec!["1"; depth].join(" + "),
            vec!["dyn_object"; depth].join("."),
            vec!["true"; depth].join(" && "),
            format!("{}1", "true ? 1 : ".repeat(depth)),
            format!("{}true{}", "[1].all(x, ".repeat(depth), ")".repeat(depth)),
            format!("{}1{}", "optional.of(1).optMap(x, ".repeat(depth), ")".repeat(depth)),
            format!("optional.of(1){}", ".optMap(x, x)".repeat(depth)),
            format!("dyn_object{}", "[0]".repeat(depth)),
        ] {
            survive(&text);
        }
    }
}

#[test]
fn too_deep_says_so() {
    let text = format!("{}1{}", "(".repeat(300), ")".repeat(300));
    assert_eq!(run(&text), Err("ERROR: <input>:-1:0: expression recursion limit exceeded: 250".to_owned()));
}

#[test]
fn many_mistakes_are_counted() {
    let shown = run(&"'\n".repeat(20_000)).expect_err("no expression");
    assert_eq!(shown.matches("ERROR: ").count(), 100);
    assert!(shown.ends_with("more errors were truncated"), "{}", &shown[shown.len() - 60..]);
}

proptest! {
    #[test]
    fn arbitrary_text_does_not_panic(text in "\\PC{0,40}") {
        survive(&text);
    }

    #[test]
    fn arbitrary_tokens_do_not_panic(
        tokens in prop::collection::vec(
            prop::sample::select(vec![
                "1", "1u", "1.5", "'a'", "b'a'", "true", "null", "x", "dyn_object", "(", ")", "[", "]", "{", "}", ".", ",",
                ":", "?", "+", "-", "*", "/", "%", "!", "==", "<", "&&", "||", "in", "[1, 2]", "{'a': 1}", ".all(x, ",
                ".map(x, ", ".size()", ".?a", "[?0]", "optional.of(", ".orValue(", "dyn(", "duration('1s')", ".contains(",
                "quantity('1')", ".substring(", "int(", "-9223372036854775808", "9223372036854775807", "has(dyn_object.a)",
            ]),
            0..14,
        ),
    ) {
        survive(&tokens.join(" "));
    }
}
