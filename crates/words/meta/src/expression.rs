//! Words of the expression language (CEL) that name nothing (cel-go: parser/helper.go).

/// Words that begin no variable's use.
pub const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Words with a meaning of their own.
const MEANT: [&str; 4] = ["true", "false", "null", "in"];

/// Whether a word cannot be the name of anything.
#[must_use]
pub fn is_keyword(word: &str) -> bool {
    MEANT.contains(&word) || RESERVED.contains(&word)
}
