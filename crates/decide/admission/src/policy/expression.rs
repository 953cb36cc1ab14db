//! One expression, compiled when its policy is read.

use plimsoll_cel::{Environment, Program, Type};

/// An expression and what became of it.
#[derive(Debug)]
pub struct Expression {
    /// As it is written.
    pub(crate) text: String,
    /// Ready to run, or why not.
    pub(crate) program: Result<Program, String>,
}

impl Expression {
    /// Compiles `text`, which must evaluate to one of `types`; none allows any.
    pub(crate) fn compile(text: &str, environment: &Environment, types: &[Type]) -> Self {
        Self { text: text.to_owned(), program: program(text, environment, types) }
    }

    /// Why it cannot be run.
    pub fn error(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }

    /// The type of its value, if it can be run.
    pub(crate) fn ty(&self) -> Type {
        self.program.as_ref().map_or(Type::Dyn, |program| program.ty().clone())
    }
}

fn program(text: &str, environment: &Environment, types: &[Type]) -> Result<Program, String> {
    let program = environment.compile(text).map_err(|error| format!("compilation failed: {error}"))?;
    if types.is_empty() || types.contains(program.ty()) {
        return Ok(program);
    }
    let got = name(program.ty());
    Err(match types {
        [only] => format!("must evaluate to {} but got {got}", name(only)),
        several => {
            let names: Vec<String> = several.iter().map(name).collect();
            format!("must evaluate to one of [{}] but got {got}", names.join(" "))
        }
    })
}

/// The name of a type as these messages have it, which differs from the checker's in one case.
fn name(ty: &Type) -> String {
    match ty {
        Type::Null => "null_type".to_owned(),
        ty => ty.to_string(),
    }
}
