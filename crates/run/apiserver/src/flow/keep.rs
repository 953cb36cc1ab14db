//! Keeps the first objects, the conditions of schemas, and the seats that levels lend each other.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use plimsoll_flow::seats::{Want, adjusted};
use plimsoll_flow::{levels, maintained, schemas};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::permit::drain;
use super::{Flow, GROUP};
use crate::object::{self, meta, metadata_mut};
use crate::server::Api;
use crate::user::User;
use crate::write::{Ownership, Proposal, Write};

/// Seats are lent for this long.
const PERIOD: Duration = Duration::from_secs(10);

/// Runs until `shutdown`.
pub(crate) async fn run(api: Arc<Api>, shutdown: CancellationToken) {
    tokio::join!(objects(&api, &shutdown), seats(&api.flow, &shutdown));
}

/// Looks at the objects when somebody changed one.
async fn objects(api: &Api, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = api.flow.changed.notified() => if let Err(error) = settle(api).await {
                tracing::warn!(%error, "flow schemas and priority levels are not as they should be");
            },
        }
    }
}

/// Lends seats in each period in which somebody asks for one, and sleeps meanwhile.
async fn seats(flow: &Flow, shutdown: &CancellationToken) {
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = flow.woken.notified() => {}
        }
        lend(flow);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = tokio::time::sleep(PERIOD) => {}
            }
            if lend(flow) == Demand::None {
                flow.asleep.store(true, Ordering::Relaxed);
                break;
            }
        }
    }
}

/// Whether anybody asked for a seat in a period.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Demand {
    None,
    Some,
}

/// Divides the seats anew by what was wanted.
fn lend(flow: &Flow) -> Demand {
    let (plan, now) = (flow.plan(), flow.now());
    let wants: Vec<Want> = plan
        .levels
        .iter()
        .map(|(_, seats, running)| {
            let demand = running.lock().close_period(now);
            Want { seats: *seats, high: demand.high, smoothed: demand.smoothed }
        })
        .collect();
    for ((_, _, running), limit) in plan.levels.iter().zip(adjusted(&wants)) {
        let mut queues = running.lock();
        if queues.limit() != limit {
            queues.set_limit(now, limit);
            drain(&mut queues, now);
        }
    }
    if wants.iter().any(|want| want.high > 0.0) { Demand::Some } else { Demand::None }
}

/// Makes the objects what they have to be.
async fn settle(api: &Api) -> Result<(), Status> {
    let user = User::server();
    for wanted in levels().into_iter().chain(schemas()) {
        let name = meta(&wanted, "name").to_owned();
        let plural = plural(&wanted);
        let present = {
            let known = api.flow.known();
            let map = if plural == "flowschemas" { &known.schemas } else { &known.levels };
            map.get(&name).cloned()
        };
        match present {
            None => match write(api, &user, plural, &name, None)?.create(wanted).await {
                Err(status) if status.reason != "AlreadyExists" => return Err(status),
                _ => {}
            },
            Some(present) if maintained(&wanted, &present).is_some() => {
                let change = |_: &mut Write<'_>, old: &Value| {
                    let mut new = maintained(&wanted, old).unwrap_or_else(|| old.clone());
                    metadata_mut(&mut new).remove("resourceVersion");
                    Ok(Proposal { object: new, ownership: Ownership::Track })
                };
                write(api, &user, plural, &name, None)?.update(change, None).await?;
            }
            Some(_) => {}
        }
    }
    conditions(api, &user).await
}

/// Says of each schema whether its level exists.
async fn conditions(api: &Api, user: &User) -> Result<(), Status> {
    let wanted: Vec<(String, Value)> = {
        let known = api.flow.known();
        let outdated = known.schemas.values().filter_map(|schema| {
            let level = schema["spec"]["priorityLevelConfiguration"]["name"].as_str().unwrap_or_default();
            let wanted = condition(level, known.levels.contains_key(level));
            (!says(schema, &wanted)).then(|| (meta(schema, "name").to_owned(), wanted))
        });
        outdated.collect()
    };
    for (name, wanted) in wanted {
        let change = |write: &mut Write<'_>, old: &Value| {
            let mut new = old.clone();
            metadata_mut(&mut new).remove("resourceVersion");
            let mut conditions = old["status"]["conditions"].as_array().cloned().unwrap_or_default();
            conditions.retain(|condition| condition["type"] != "Dangling");
            let mut condition = wanted.clone();
            condition["lastTransitionTime"] = object::time(write.now);
            conditions.push(condition);
            new["status"] = json!({"conditions": conditions});
            Ok(Proposal { object: new, ownership: Ownership::Track })
        };
        match write(api, user, "flowschemas", &name, Some("status"))?.update(change, None).await {
            Err(status) if status.code != 404 => return Err(status),
            _ => {}
        }
    }
    Ok(())
}

fn condition(level: &str, exists: bool) -> Value {
    let named = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    match exists {
        true => json!({"type": "Dangling", "status": "False", "reason": "Found",
            "message": format!("{named} and it exists")}),
        false => json!({"type": "Dangling", "status": "True", "reason": "NotFound",
            "message": format!("{named} but there is no such object")}),
    }
}

fn says(schema: &Value, wanted: &Value) -> bool {
    let conditions = schema["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().any(|condition| {
        ["type", "status", "reason", "message"].iter().all(|field| condition[*field] == wanted[*field])
    })
}

fn plural(object: &Value) -> &'static str {
    if object["kind"] == "FlowSchema" { "flowschemas" } else { "prioritylevelconfigurations" }
}

fn write<'a>(
    api: &'a Api,
    user: &'a User,
    plural: &str,
    name: &'a str,
    subresource: Option<&'a str>,
) -> Result<Write<'a>, Status> {
    let kind = plimsoll_catalogue::find(GROUP, "v1", plural).ok_or_else(Status::no_such_path)?;
    Ok(Write { subresource, ..Write::of_server(api, user, kind, "", name)? })
}
