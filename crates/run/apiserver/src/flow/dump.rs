//! `/debug/api_priority_and_fairness/…`: what levels and queues are doing, for people.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http::{Response, StatusCode};
use jiff::Timestamp;
use plimsoll_flow::LevelKind;

use super::Flow;
use crate::body::{self, ResponseBody};

const ROOT: &str = "/debug/api_priority_and_fairness/";

/// Answers a path below `/debug/api_priority_and_fairness`, or `None`.
pub(crate) fn answer(flow: &Flow, path: &str) -> Option<Response<ResponseBody>> {
    let rows = match path.strip_prefix(ROOT)? {
        "dump_priority_levels" => levels(flow),
        "dump_queues" => queues(flow),
        "dump_requests" => requests(flow),
        _ => return None,
    };
    Some(body::encoded(StatusCode::OK, "text/plain; charset=utf-8", aligned(&rows)))
}

type Rows = Vec<Vec<String>>;

fn head(names: &[&str]) -> Rows {
    vec![names.iter().map(|name| (*name).to_owned()).collect()]
}

fn levels(flow: &Flow) -> Rows {
    let mut rows = head(&[
        "PriorityLevelName",
        "ActiveQueues",
        "IsIdle",
        "IsQuiescing",
        "WaitingRequests",
        "ExecutingRequests",
        "DispatchedRequests",
        "RejectedRequests",
        "TimedoutRequests",
        "CancelledRequests",
    ]);
    let plan = flow.plan();
    let mut all: Vec<_> = plan.levels.iter().collect();
    all.sort_by_key(|(level, ..)| &level.name);
    for (level, _, running) in all {
        let queues = running.lock();
        let mut counts = queues.counts();
        if level.kind == LevelKind::Exempt {
            counts.executing = running.exempt.load(Ordering::Relaxed);
            counts.dispatched = running.dispatched.load(Ordering::Relaxed);
        }
        let active = queues.states().filter(|queue| queue.waiting > 0).count();
        let idle = counts.waiting == 0 && counts.executing == 0;
        rows.push(vec![
            level.name.clone(),
            active.to_string(),
            idle.to_string(),
            "false".to_owned(),
            counts.waiting.to_string(),
            counts.executing.to_string(),
            counts.dispatched.to_string(),
            counts.rejected.to_string(),
            counts.timed_out.to_string(),
            counts.cancelled.to_string(),
        ]);
    }
    rows
}

fn queues(flow: &Flow) -> Rows {
    let mut rows = head(&[
        "PriorityLevelName",
        "Index",
        "PendingRequests",
        "ExecutingRequests",
        "SeatsInUse",
        "NextDispatchR",
        "InitialSeatsSum",
        "MaxSeatsSum",
        "TotalWorkSum",
    ]);
    for (level, _, running) in &flow.plan().levels {
        for (index, queue) in running.lock().states().enumerate() {
            rows.push(vec![
                level.name.clone(),
                index.to_string(),
                queue.waiting.to_string(),
                queue.executing.to_string(),
                queue.seats.to_string(),
                format!("{:.8}ss", queue.next_start),
                queue.waiting_seats.to_string(),
                queue.waiting_seats.to_string(),
                format!("{:.8}ss", f64::from(queue.waiting_seats) * 0.003),
            ]);
        }
    }
    rows
}

fn requests(flow: &Flow) -> Rows {
    let mut rows = head(&[
        "PriorityLevelName",
        "FlowSchemaName",
        "QueueIndex",
        "RequestIndexInQueue",
        "FlowDistingsher",
        "ArriveTime",
        "InitialSeats",
        "FinalSeats",
        "AdditionalLatency",
        "StartTime",
    ]);
    for (level, _, running) in &flow.plan().levels {
        for (queue, place, _, ticket) in running.lock().waiting() {
            rows.push(vec![
                level.name.clone(),
                ticket.schema.clone(),
                queue.to_string(),
                place.to_string(),
                ticket.flow.clone(),
                ticket.arrived.to_string(),
                ticket.width.seats.to_string(),
                ticket.width.after.to_string(),
                duration(ticket.width.lasting),
                "0001-01-01T00:00:00Z".to_owned(),
            ]);
        }
        for row in running.runs.rows() {
            let time = |since: Instant| (Timestamp::now() - since.elapsed()).to_string();
            rows.push(vec![
                level.name.clone(),
                row.schema,
                "-1".to_owned(),
                "-1".to_owned(),
                row.flow,
                time(row.arrived),
                row.width.seats.to_string(),
                row.width.after.to_string(),
                duration(row.width.lasting),
                time(row.started),
            ]);
        }
    }
    rows
}

/// As Go writes it.
fn duration(time: Duration) -> String {
    if time.is_zero() { "0s".to_owned() } else { format!("{}ms", time.as_millis()) }
}

/// Columns that end with a comma and are filled up to at least eight characters, the last one left alone.
fn aligned(rows: &Rows) -> String {
    let columns = rows.first().map_or(0, Vec::len);
    let wide = |at: usize| rows.iter().filter_map(|row| row.get(at)).map(|text| text.len() + 2).max();
    let widths: Vec<usize> = (0..columns).map(|at| wide(at).unwrap_or(0).max(8)).collect();
    let mut text = String::new();
    for row in rows {
        for (at, cell) in row.iter().enumerate() {
            if at + 1 == row.len() {
                text.push_str(cell);
            } else {
                text.push_str(&format!("{:width$}", format!("{cell},"), width = widths[at]));
            }
        }
        text.push('\n');
    }
    text
}
