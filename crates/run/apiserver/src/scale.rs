//! `scale`: the replicas of any workload in one form.

use std::sync::Arc;

use http::{Request, Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_merge::managed;
use plimsoll_meta::field::{FieldError, Path};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::body::{self, RequestBody, ResponseBody};
use crate::custom::{Definition, Scale};
use crate::decode::{self, Expected};
use crate::object::{meta, metadata_mut};
use crate::patch::{self, Patch};
use crate::server::Api;
use crate::shape::Shape;
use crate::stages::{self, Asked};
use crate::subresource;
use crate::target::ResourcePath;
use crate::write::{Judged, Ownership, Proposal, View, Write};
use plimsoll_document::Document;

const VERSION: &str = "autoscaling/v1";
const DEFINITION: &str = "io.k8s.api.autoscaling.v1.Scale";

/// Turns the present scale into the wanted one.
type Change = Box<dyn Fn(&Value) -> Result<Value, Status> + Send + Sync>;

pub(crate) async fn serve(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let place = Place::of(api, kind)?;
    if asked.method == http::Method::GET {
        let object = subresource::parent(api, kind, target).await?;
        place.check(&object)?;
        return Ok(body::json(StatusCode::OK, &place.view(&object)));
    }
    let bytes = body::read(request.into_body()).await?;
    let mut write = stages::write(api, asked, kind, target, Some("scale"))?;
    write.judged = Judged::View(&place);
    let change: Change = if asked.method == http::Method::PUT {
        let document = decode::value(&asked.headers, &bytes)
            .map_err(|status| decode::unrecognized(status, "Scale", &bytes))?;
        let scale = checked(&write, document)?;
        subresource::same_name(&scale, target)?;
        Box::new(move |_| Ok(scale.clone()))
    } else {
        let patch = Patch::read(asked, &bytes)?;
        if let patch::Change::Apply { config, force } = &patch.change {
            return applied(write, &place, config, *force).await;
        }
        patched(patch.change)
    };
    let object = subresource::change(write, |object| {
        let now = place.view(object);
        let wanted = change(&now)?;
        let version = meta(&wanted, "resourceVersion");
        if !matches!(version, "" | "0") && version != meta(&now, "resourceVersion") {
            return Err(Status::modified(kind.group, kind.plural, &target.name));
        }
        let replicas = wanted["spec"]["replicas"].as_i64().unwrap_or(0);
        if replicas < 0 {
            let path = Path::root("spec").child("replicas");
            let error = FieldError::invalid(&path, &json!(replicas), "must be greater than or equal to 0");
            return Err(Status::invalid("autoscaling", "Scale", &target.name, &[error]));
        }
        place.set(object, replicas);
        Ok(())
    })
    .await?;
    Ok(body::json(StatusCode::OK, &place.view(&object)))
}

fn checked(write: &Write<'_>, document: Document) -> Result<Value, Status> {
    let Document { value: mut scale, duplicates } = document;
    let shape = Shape::named(DEFINITION)?;
    let expected = Expected { api_version: VERSION, kind: "Scale", shape: &shape };
    decode::check(expected, write.validation, duplicates, &mut scale, &mut Vec::new())?;
    Ok(scale)
}

fn patched(change: patch::Change) -> Change {
    Box::new(move |scale| match &change {
        patch::Change::Json(patch) => Ok(plimsoll_merge::json_patch(scale.clone(), patch)?),
        patch::Change::Merge(patch)
        | patch::Change::Strategic(patch)
        | patch::Change::Apply { config: patch, .. } => {
            let mut scale = scale.clone();
            plimsoll_merge::merge_patch(&mut scale, patch);
            Ok(scale)
        }
    })
}

/// Server-side apply of a Scale: who owns the object's replicas owns the Scale's.
async fn applied(
    mut write: Write<'_>,
    place: &Place,
    config: &Value,
    force: bool,
) -> Result<Response<ResponseBody>, Status> {
    let shape = Shape::named(DEFINITION)?;
    let written = write
        .update(
            |write, old| {
                let now = write.time();
                let parent = &old["metadata"]["managedFields"];
                let mut live = place.view(old);
                live["metadata"]["managedFields"] = managed::of_scale(parent, place.replicas());
                let request =
                    plimsoll_merge::apply::Request { config, writer: write.writer(VERSION, &now), force };
                let none = plimsoll_merge::paths::Set::default();
                let scale = plimsoll_merge::apply::apply(Some(&live), &request, shape.typed(), &none)?;
                let mut object = old.clone();
                metadata_mut(&mut object).remove("resourceVersion");
                place.set(&mut object, scale["spec"]["replicas"].as_i64().unwrap_or(0));
                let owners = managed::from_scale(
                    parent,
                    &scale["metadata"]["managedFields"],
                    &write.kind.api_version(),
                    place.replicas(),
                );
                object["metadata"]["managedFields"] = owners;
                Ok(Proposal { object, ownership: Ownership::Applied })
            },
            None,
        )
        .await?;
    let object = serde_json::from_slice(&written.bytes).map_err(Status::internal)?;
    Ok(body::json(StatusCode::OK, &place.view(&object)))
}

/// Webhooks see the Scale.
impl View for Place {
    fn show(&self, object: &Value) -> Value {
        self.view(object)
    }

    fn take(&self, object: &mut Value, scale: &Value) {
        self.set(object, scale["spec"]["replicas"].as_i64().unwrap_or(0));
    }
}

/// Where a kind keeps its scale.
#[derive(Debug)]
enum Place {
    Usual,
    /// Where its definition says.
    Custom(Arc<Definition>),
}

impl Place {
    fn of(api: &Api, kind: &Kind) -> Result<Self, Status> {
        Ok(if kind.is_custom() { Self::Custom(api.customs.require(kind)?) } else { Self::Usual })
    }

    fn paths(&self) -> Option<&Scale> {
        match self {
            Self::Usual => None,
            Self::Custom(definition) => definition.scale.as_ref(),
        }
    }

    /// The path of the count that is wanted.
    fn replicas(&self) -> &str {
        self.paths().map_or("spec.replicas", |paths| &paths.spec)
    }

    /// Custom objects without a count have no scale.
    fn check(&self, object: &Value) -> Result<(), Status> {
        match self.paths() {
            Some(paths) if paths.wanted(object).is_none() => Err(Status::internal(format!(
                "the spec replicas field {:?} does not exist",
                format!(".{}", paths.spec)
            ))),
            _ => Ok(()),
        }
    }

    fn set(&self, object: &mut Value, replicas: i64) {
        match self.paths() {
            None => object["spec"]["replicas"] = json!(replicas),
            Some(paths) => paths.set(object, replicas),
        }
    }

    /// An object's scale.
    fn view(&self, object: &Value) -> Value {
        match self.paths() {
            None => view(
                object,
                object["spec"]["replicas"].as_i64().unwrap_or(0),
                object["status"]["replicas"].as_i64().unwrap_or(0),
                &selector(&object["spec"]["selector"]),
            ),
            Some(paths) => {
                view(object, paths.wanted(object).unwrap_or(0), paths.present(object), paths.selector(object))
            }
        }
    }
}

fn view(object: &Value, wanted: i64, present: i64, selector: &str) -> Value {
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if !object["metadata"][field].is_null() {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut scale = json!({
        "kind": "Scale", "apiVersion": VERSION, "metadata": metadata,
        "spec": {"replicas": wanted}, "status": {"replicas": present},
    });
    if !selector.is_empty() {
        scale["status"]["selector"] = json!(selector);
    }
    scale
}

/// A selector in the notation of query parameters.
fn selector(value: &Value) -> String {
    let Some(map) = value.as_object() else { return String::new() };
    let structured = map.contains_key("matchLabels") || map.contains_key("matchExpressions");
    let labels = if structured { &value["matchLabels"] } else { value };
    let mut parts: Vec<String> = labels
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    for expression in value["matchExpressions"].as_array().into_iter().flatten() {
        let key = expression["key"].as_str().unwrap_or_default();
        let values: Vec<&str> =
            expression["values"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match expression["operator"].as_str() {
            Some("In") => format!("{key} in ({values})"),
            Some("NotIn") => format!("{key} notin ({values})"),
            Some("DoesNotExist") => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    parts.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_written_as_text() {
        for (value, text) in [
            (json!({"matchLabels": {"a": "b", "c": "d"}}), "a=b,c=d"),
            (json!({"a": "b"}), "a=b"),
            (
                json!({"matchExpressions": [{"key": "k", "operator": "In", "values": ["x", "y"]}]}),
                "k in (x,y)",
            ),
            (json!(null), ""),
        ] {
            assert_eq!(selector(&value), text);
        }
    }

    #[test]
    fn a_view_carries_the_identity() {
        let scale = Place::Usual
            .view(&json!({"metadata": {"name": "a", "uid": "u", "labels": {}}, "spec": {"replicas": 3}}));
        assert_eq!(scale["metadata"], json!({"name": "a", "uid": "u"}));
        assert_eq!(scale["spec"]["replicas"], 3);
    }
}
