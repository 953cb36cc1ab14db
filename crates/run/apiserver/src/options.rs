//! The options that every write has in its query, checked as upstream checks them.

use http::Method;
use plimsoll_meta::field::{ErrorKind, FieldError, Path};
use plimsoll_meta::status::Status;

use crate::decode::{self, FieldValidation};
use crate::stages::Asked;

/// Longest name of a field manager in bytes.
const LONGEST_MANAGER: usize = 128;

/// How a write is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct WriteOptions {
    /// Who owns the fields that are written.
    pub(crate) manager: String,
    pub(crate) dry_run: bool,
    pub(crate) validation: FieldValidation,
}

impl WriteOptions {
    /// Reads the query; 422 with all that is wrong with it.
    pub(crate) fn read(asked: &Asked) -> Result<Self, Status> {
        let (errors, validation) = (check(asked), FieldValidation::read(&asked.query));
        match (errors.is_empty(), validation) {
            (true, Some(validation)) => Ok(Self {
                manager: manager(asked),
                dry_run: asked.query.all("dryRun").any(|value| value == "All"),
                validation,
            }),
            _ => Err(Status::invalid("meta.k8s.io", options_kind(&asked.method), "", &errors)),
        }
    }
}

fn options_kind(method: &Method) -> &'static str {
    match *method {
        Method::POST => "CreateOptions",
        Method::PUT => "UpdateOptions",
        Method::PATCH => "PatchOptions",
        _ => "DeleteOptions",
    }
}

fn check(asked: &Asked) -> Vec<FieldError> {
    let mut errors = Vec::new();
    if asked.method == Method::PATCH {
        check_apply(asked, &mut errors);
    }
    check_manager(asked.query.get("fieldManager"), &mut errors);
    let dry_run: Vec<&str> = asked.query.all("dryRun").collect();
    if dry_run.iter().any(|value| *value != "All") {
        errors.push(bad_dry_run(&dry_run));
    }
    if FieldValidation::read(&asked.query).is_none() {
        let given = asked.query.get("fieldValidation").into();
        let supported = ["", "Ignore", "Strict", "Warn"];
        errors.push(FieldError::not_supported(&Path::root("fieldValidation"), &given, &supported));
    }
    errors
}

/// Values of `dryRun` among which is another one than `All`.
pub(crate) fn bad_dry_run(values: &[&str]) -> FieldError {
    let quoted: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    FieldError {
        kind: ErrorKind::NotSupported,
        field: "dryRun".to_owned(),
        value: Some(format!("[]string{{{}}}", quoted.join(", "))),
        detail: "supported values: \"All\"".to_owned(),
    }
}

fn check_apply(asked: &Asked, errors: &mut Vec<FieldError>) {
    let apply = decode::media_type(&asked.headers) == "application/apply-patch+yaml";
    if apply && asked.query.get("fieldManager").is_empty() {
        errors.push(FieldError::required(&Path::root("fieldManager"), "is required for apply patch"));
    }
    if !apply && asked.query.has("force") {
        errors.push(FieldError::forbidden(&Path::root("force"), "may not be specified for non-apply patch"));
    }
}

fn check_manager(name: &str, errors: &mut Vec<FieldError>) {
    let path = Path::root("fieldManager");
    if name.len() > LONGEST_MANAGER {
        errors.push(FieldError::too_long(&path, LONGEST_MANAGER));
    }
    for (at, letter) in name.char_indices().filter(|(_, letter)| letter.is_control()) {
        errors.push(FieldError {
            kind: ErrorKind::Invalid,
            field: path.to_string(),
            value: Some(go_quoted(name)),
            detail: format!("invalid character U+{:04X} (at position {at})", u32::from(letter)),
        });
    }
}

/// Text as Go quotes it.
fn go_quoted(text: &str) -> String {
    let escaped: String = text
        .chars()
        .map(|letter| match letter {
            '"' | '\\' => format!("\\{letter}"),
            '\n' => "\\n".to_owned(),
            '\t' => "\\t".to_owned(),
            control if control.is_control() => format!("\\x{:02x}", u32::from(control)),
            other => other.to_string(),
        })
        .collect();
    format!("\"{escaped}\"")
}

/// `fieldManager`, or the first part of the user agent.
fn manager(asked: &Asked) -> String {
    match asked.query.get("fieldManager") {
        "" => {
            let agent = asked
                .headers
                .get(http::header::USER_AGENT)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let name = agent.split('/').next().unwrap_or_default().trim();
            let name: String = name.chars().take(LONGEST_MANAGER).collect();
            if name.is_empty() { "unknown".to_owned() } else { name }
        }
        given => given.to_owned(),
    }
}
