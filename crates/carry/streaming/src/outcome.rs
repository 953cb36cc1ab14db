//! How a command ended, in the words of the error stream.

use serde_json::{Value, json};

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// With exit code 0; for attach also when the streams ended.
    Success,
    /// With another exit code.
    ExitCode(i32),
    /// It could not be run or followed, and why.
    Failure(String),
}

impl Outcome {
    /// The `Status` that clients of protocol v4 and later expect
    /// (kubelet: pkg/cri/streaming/remotecommand, apimachinery: errors.NewInternalError).
    pub(crate) fn status(&self) -> Value {
        match self {
            Self::Success => json!({"metadata": {}, "status": "Success"}),
            Self::ExitCode(code) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "reason": "NonZeroExitCode",
                "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
            }),
            Self::Failure(message) => json!({
                "metadata": {},
                "status": "Failure",
                "message": format!("Internal error occurred: {message}"),
                "reason": "InternalError",
                "details": {"causes": [{"message": message}]},
                "code": 500,
            }),
        }
    }

    /// The text that earlier clients expect: nothing on success.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Success => String::new(),
            Self::ExitCode(code) => format!("command terminated with non-zero exit code: exit status {code}"),
            Self::Failure(message) => format!("Internal error occurred: {message}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exit_code_is_a_cause() {
        let status = Outcome::ExitCode(3).status();
        assert_eq!(status["details"]["causes"][0], json!({"reason": "ExitCode", "message": "3"}));
        assert_eq!((&status["status"], &status["reason"]), (&json!("Failure"), &json!("NonZeroExitCode")));
        assert_eq!(Outcome::Success.status().to_string(), r#"{"metadata":{},"status":"Success"}"#);
        assert_eq!(Outcome::Success.text(), "");
    }
}
