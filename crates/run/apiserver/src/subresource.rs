//! What lies below an object: views of it, actions on it, connections to it.

use http::{Request, Response, StatusCode};
use plimsoll_catalogue::{Kind, Verb};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::body::{self, RequestBody, ResponseBody};
use crate::connect;
use crate::decode::{self, Expected};
use crate::object::meta;
use crate::options::WriteOptions;
use crate::query::Query;
use crate::server::Api;
use crate::shape::Shape;
use crate::stages::{self, Asked};
use crate::target::ResourcePath;
use crate::write::{Ownership, Proposal, WHATEVER, Write};
use crate::{binding, collection, eviction, negotiate, present, scale, token};
use plimsoll_document::Document;

/// Serves a request below an object.
pub(crate) async fn serve(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let name = target.subresource.as_str();
    let sub = kind.subresource(name).ok_or_else(Status::no_such_path)?;
    // Any method: who is asked answers.
    if name == "proxy" {
        return connect::serve(api, asked, kind, target, request).await;
    }
    let verb = match asked.method.as_str() {
        "GET" | "HEAD" => Verb::Get,
        "POST" => Verb::Create,
        "PUT" => Verb::Update,
        "PATCH" => Verb::Patch,
        "DELETE" => Verb::Delete,
        _ => return Err(Status::method_not_allowed(kind.group, kind.plural, asked.method.as_str())),
    };
    if !sub.verbs.contains(verb) {
        return Err(Status::method_not_allowed(kind.group, kind.plural, verb.name()));
    }
    match (name, verb) {
        ("scale", _) => scale::serve(api, asked, kind, target, request).await,
        ("log" | "exec" | "attach" | "portforward", _) => {
            connect::serve(api, asked, kind, target, request).await
        }
        ("binding", Verb::Create) => binding::create(api, asked, kind, target, request).await,
        ("eviction", Verb::Create) => eviction::create(api, asked, kind, target, request).await,
        ("token", Verb::Create) => token::create(api, asked, kind, target, request).await,
        (_, Verb::Get) => {
            let form = negotiate::form(&asked.headers)?;
            collection::get(api, kind, target, form, &Query::default()).await
        }
        (_, Verb::Update) => {
            let form = negotiate::form(&asked.headers)?;
            stages::replace(api, asked, kind, target, Some(name), request, form).await
        }
        (_, Verb::Patch) => {
            let form = negotiate::form(&asked.headers)?;
            stages::patch(api, asked, kind, target, Some(name), request, form).await
        }
        _ => Err(Status::method_not_allowed(kind.group, kind.plural, verb.name())),
    }
}

/// Reads a body of one built-in type that is not the kind itself (Binding, Eviction, Scale …).
pub(crate) async fn typed_body(
    asked: &Asked,
    request: Request<RequestBody>,
    (api_version, kind, definition): (&str, &str, &str),
) -> Result<Value, Status> {
    let bytes = body::read(request.into_body()).await?;
    let Document { mut value, duplicates } =
        decode::value(&asked.headers, &bytes).map_err(|status| decode::unrecognized(status, kind, &bytes))?;
    let shape = Shape::named(definition)?;
    let validation = WriteOptions::read(asked)?.validation;
    let expected = Expected { api_version, kind, shape: &shape };
    decode::check(expected, validation, duplicates, &mut value, &mut Vec::new())?;
    Ok(value)
}

/// The object that a subresource belongs to.
pub(crate) async fn parent(api: &Api, kind: &'static Kind, target: &ResourcePath) -> Result<Value, Status> {
    let missing = || Status::not_found(kind.group, kind.plural, &target.name);
    let key = kind.key(&target.namespace, &target.name).ok_or_else(missing)?;
    let entry = api.store.get(&key).ok_or_else(missing)?;
    present::object(api, kind, &entry).await
}

/// A change of the parent that is not the client's own text.
pub(crate) async fn change(
    mut write: Write<'_>,
    mut make: impl FnMut(&mut Value) -> Result<(), Status>,
) -> Result<Value, Status> {
    let written = write
        .update(
            |_, old| {
                let mut object = old.clone();
                make(&mut object)?;
                // Others may change the object meanwhile: then it is made anew from what they left.
                crate::object::metadata_mut(&mut object)
                    .insert("resourceVersion".to_owned(), WHATEVER.into());
                Ok(Proposal { object, ownership: Ownership::Track })
            },
            None,
        )
        .await?;
    serde_json::from_slice(&written.bytes).map_err(Status::internal)
}

/// The Status that tells that an action was done.
pub(crate) fn done(code: StatusCode) -> Response<ResponseBody> {
    body::json(
        code,
        &json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": code.as_u16()}),
    )
}

/// Refuses a body that names another object than the path.
pub(crate) fn same_name(body: &Value, target: &ResourcePath) -> Result<(), Status> {
    match meta(body, "name") {
        "" => Ok(()),
        name if name == target.name => Ok(()),
        name => Err(Status::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        ))),
    }
}
