//! What clients are told when a webhook cannot be asked.

use plimsoll_meta::status::Status;
use serde_json::Value;

/// A webhook that could not be asked, or whose answer is none. The failure policy decides about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("failed calling webhook {name:?}: {cause}")]
pub struct Failure {
    /// Name of the webhook.
    pub name: String,
    /// What went wrong.
    pub cause: String,
}

impl From<Failure> for Status {
    fn from(failure: Failure) -> Self {
        Self::internal(failure)
    }
}

/// The refusal of a dry run by a webhook that would do something.
pub fn no_dry_run(name: &str) -> Status {
    Status::bad_request(format!("admission webhook {name:?} does not support dry run"))
}

/// What an HTTP status other than success means, in the words of upstream's client; the body may
/// be a `Status` that says more.
pub fn server_answer(code: u16, body: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Value>(body)
        && status["kind"] == "Status"
        && let Some(message) = status["message"].as_str().filter(|message| !message.is_empty())
    {
        return message.to_owned();
    }
    let text = String::from_utf8_lossy(body).trim().chars().take(2048).collect::<String>();
    let said = if text.is_empty() { "unknown".to_owned() } else { text };
    match code {
        400 => "the server rejected our request for an unknown reason".to_owned(),
        401 => "the server has asked for the client to provide credentials".to_owned(),
        403 | 415 => said,
        404 => "the server could not find the requested resource".to_owned(),
        405 => "the server does not allow this method on the requested resource".to_owned(),
        406 if said == "unknown" => {
            "the server was unable to respond with a content type that the client supports".to_owned()
        }
        406 => said,
        409 => "the server reported a conflict".to_owned(),
        422 => "the server rejected our request due to an error in our request".to_owned(),
        429 => "the server has received too many requests and has asked us to try again later".to_owned(),
        503 => "the server is currently unable to handle the request".to_owned(),
        504 => "the server was unable to return a response in the time allotted, but may still be processing the request"
            .to_owned(),
        500.. => format!("an error on the server ({said:?}) has prevented the request from succeeding"),
        _ => format!("the server responded with the status code {code} but did not return more information"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_name_the_webhook() {
        let failure = Failure { name: "a.example.com".to_owned(), cause: "no way".to_owned() };
        let status = Status::from(failure);
        let message = "Internal error occurred: failed calling webhook \"a.example.com\": no way";
        assert_eq!((status.code, &*status.reason, status.message.as_str()), (500, "InternalError", message));
    }

    #[test]
    fn codes_have_words() {
        for (code, body, expected) in [
            (404, "", "the server could not find the requested resource"),
            (500, "oops\n", "an error on the server (\"oops\") has prevented the request from succeeding"),
            (500, "", "an error on the server (\"unknown\") has prevented the request from succeeding"),
            (400, r#"{"kind":"Status","message":"too odd"}"#, "too odd"),
            (302, "", "the server responded with the status code 302 but did not return more information"),
        ] {
            assert_eq!(server_answer(code, body.as_bytes()), expected);
        }
    }
}
