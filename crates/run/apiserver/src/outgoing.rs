//! Questions to webhooks, asked again when the server has trouble
//! (apiserver: pkg/util/webhook, DefaultRetryBackoff).

use std::time::Duration;

use plimsoll_client::{Endpoint, EndpointError};
use serde_json::Value;

/// How often a question is asked in all.
const ATTEMPTS: u32 = 5;
/// The first pause; each is half as long again as the one before.
const PAUSE: Duration = Duration::from_millis(500);

/// Asks until there is an answer or a trouble that will not pass.
pub(crate) async fn ask(remote: &Endpoint, question: &Value) -> Result<Value, EndpointError> {
    let mut pause = PAUSE;
    for attempt in 1.. {
        match remote.post(question).await {
            Err(error) if error.is_passing() && attempt < ATTEMPTS => {
                tracing::warn!(%error, "a webhook has trouble");
                tokio::time::sleep(pause).await;
                pause = pause.mul_f64(1.5);
            }
            outcome => return outcome,
        }
    }
    unreachable!("the loop returns")
}
