//! How long a request may take.

use std::time::Duration;

use plimsoll_meta::duration;
use plimsoll_meta::status::Status;

use crate::query::Query;

/// The answer, if it comes before the deadline.
pub(crate) async fn in_time<T>(
    query: &Query,
    most: Duration,
    answer: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let deadline = of(query, most)?;
    tokio::time::timeout(deadline, answer).await.unwrap_or_else(|_| Err(exceeded()))
}

/// The time of a request that does not run as long as its client likes: the server's, or less if the
/// client asks for less (`timeout`).
fn of(query: &Query, most: Duration) -> Result<Duration, Status> {
    let text = query.get("timeout");
    if text.is_empty() {
        return Ok(most);
    }
    let wanted = duration::parse(text.trim_start_matches('-')).map_err(|error| {
        Status::bad_request(format!("invalid timeout specified in the request URL - {error}"))
    })?;
    // Less than nothing is the server's time, too.
    Ok(if wanted.is_zero() || text.starts_with('-') { most } else { wanted.min(most) })
}

/// What a client is told whose request took longer.
fn exceeded() -> Status {
    Status::timeout("Timeout: request did not complete within the allotted timeout")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_takes_longer_is_ended() {
        let query = Query::parse(Some("timeout=1ms"));
        let late = in_time::<()>(&query, Duration::from_secs(60), std::future::pending()).await;
        let status = late.expect_err("never ready");
        assert_eq!((status.code, status.message), (504, exceeded().message));
        let soon = in_time(&query, Duration::from_secs(60), std::future::ready(Ok(7))).await;
        assert_eq!(soon.ok(), Some(7));
    }

    #[test]
    fn clients_may_ask_for_less_time() {
        let most = Duration::from_secs(60);
        for (text, expected) in [
            ("", Ok(60_000)),
            ("timeout=500ms", Ok(500)),
            ("timeout=2m", Ok(60_000)),
            ("timeout=0", Ok(60_000)),
            ("timeout=-1s", Ok(60_000)),
            (
                "timeout=soon",
                Err("invalid timeout specified in the request URL - time: invalid duration \"soon\""
                    .to_owned()),
            ),
        ] {
            let found = of(&Query::parse(Some(text)), most).map_err(|status| status.message);
            assert_eq!(found, expected.map(Duration::from_millis), "{text}");
        }
    }
}
