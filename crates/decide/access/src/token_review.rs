//! `TokenReview`: the question to a webhook about a token, and its answer
//! (apiserver: plugin/pkg/authenticator/token/webhook).

use serde_json::{Value, json};

use crate::User;
use crate::document::texts;

/// What a webhook says about a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is good for this user and these audiences (none: the webhook does not know of audiences).
    User(User, Vec<String>),
    /// It is not good, for this reason if any is told.
    Refused(String),
}

/// The body that asks about a token.
pub fn question(version: &str, token: &str, audiences: &[String]) -> Value {
    let mut spec = json!({"token": token});
    if !audiences.is_empty() {
        spec["audiences"] = json!(audiences);
    }
    json!({"kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{version}"),
        "metadata": {"creationTimestamp": null}, "spec": spec, "status": {"user": {}}})
}

/// Reads the answer to a question about `audiences`.
pub fn answer(review: &Value, audiences: &[String]) -> Answer {
    let status = &review["status"];
    let error = status["error"].as_str().unwrap_or_default();
    if status["authenticated"] != true {
        return Answer::Refused(error.to_owned());
    }
    let told = texts(&status["audiences"]);
    let common: Vec<String> = told.iter().filter(|one| audiences.contains(one)).cloned().collect();
    if !audiences.is_empty() && !told.is_empty() && common.is_empty() {
        return Answer::Refused(error.to_owned());
    }
    Answer::User(User::from_info(&status["user"]).known(), common)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let review = |status: Value| json!({ "status": status });
        let user = json!({"username": "ann", "groups": ["dev"], "uid": "1"});
        let api = ["api".to_owned()];
        let ann = || User { uid: "1".to_owned(), ..User::authenticated("ann", &["dev"]) };
        for (status, expected) in [
            (json!({"authenticated": true, "user": user}), Answer::User(ann(), Vec::new())),
            (
                json!({"authenticated": true, "user": user, "audiences": ["api", "x"]}),
                Answer::User(ann(), api.to_vec()),
            ),
            (
                json!({"authenticated": true, "user": user, "audiences": ["x"]}),
                Answer::Refused(String::new()),
            ),
            (json!({"authenticated": false, "error": "late"}), Answer::Refused("late".to_owned())),
            (json!({}), Answer::Refused(String::new())),
        ] {
            assert_eq!(answer(&review(status.clone()), &api), expected, "{status}");
        }
    }

    #[test]
    fn questions_name_token_and_audiences() {
        let question = question("v1", "t", &["api".to_owned()]);
        assert_eq!(question["apiVersion"], "authentication.k8s.io/v1");
        assert_eq!(question["spec"], json!({"token": "t", "audiences": ["api"]}));
    }
}
