//! The stages of a request, in their order:
//!
//! authenticate → record → impersonate → wait for a seat → authorize → hand on to an extension server, or act → answer.
//!
//! To act is: read ([`crate::collection`], [`crate::watch`]), write ([`crate::write`],
//! [`crate::delete`]: decode → default → admit → validate → own → commit), or a subresource
//! ([`crate::subresource`]).

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use jiff::Timestamp;
use plimsoll_admission::rbac::Attributes;
use plimsoll_catalogue::{Kind, Verb};
use plimsoll_meta::selector::{Fields, Labels};
use plimsoll_meta::status::Status;
use serde_json::{Value, json};

use crate::admit::{Operation, chain};
use crate::authenticate;
use crate::body::{self, RequestBody, ResponseBody};
use crate::decode;
use crate::negotiate::{self, Form, Media};
use crate::options::WriteOptions;
use crate::pace::Pace;
use crate::patch::Patch;
use crate::peer::Peer;
use crate::protobuf::Accepted;
use crate::query::Query;
use crate::registry;
use crate::server::Api;
use crate::shape::Shape;
use crate::table::Columns;
use crate::target::{ResourcePath, Target};
use crate::transcode::{self, Events, Preferred};
use crate::user::User;
use crate::warning::Warnings;
use crate::websocket::{Content, WebSocket};
use crate::write::{Judged, Ownership, Proposal, Write, Written, store_failure};
use crate::{
    aggregate, audit, authorize, binding, collection, compress, deadline, discovery, encode, flow, guarded,
    health, impersonate, metrics, openapi, pages, removal, review, subresource, table, usage, watch,
};
use plimsoll_document::{Document, Duplicates};

const AUDIT_ID: HeaderName = HeaderName::from_static("audit-id");

/// A request whose sender is known.
pub(crate) struct Asked {
    pub(crate) user: User,
    pub(crate) method: Method,
    pub(crate) path: String,
    pub(crate) query: Query,
    pub(crate) headers: HeaderMap,
    pub(crate) warnings: Warnings,
}

/// Serves one request.
pub(crate) async fn serve(
    api: &Arc<Api>,
    peer: &Peer,
    request: Request<RequestBody>,
) -> Response<ResponseBody> {
    match &api.audit {
        None => respond(api, peer, request).await,
        Some(auditor) => audit::observe(auditor, request, |request| respond(api, peer, request)).await,
    }
}

async fn respond(api: &Arc<Api>, peer: &Peer, request: Request<RequestBody>) -> Response<ResponseBody> {
    let audit = request.headers().get(AUDIT_ID).cloned();
    let query = Query::parse(request.uri().query());
    let accepted = Accepted::of(request.headers());
    let preferred = Preferred::of(request.headers(), api.features);
    let is_compressed = compress::is_wanted(request.method(), request.headers());
    let (warnings, marks) = (Warnings::default(), flow::Marks::default());
    let path = percent_encoding::percent_decode_str(request.uri().path()).decode_utf8_lossy().into_owned();
    let target = Target::parse(&path);
    let begun = api.metrics.begin(api, request.method(), (&path, &target), &query);
    let (answered, waited) = match transcode::request(request, api.features).await {
        Ok(request) => {
            // In one piece of memory of its own: what wraps it from here on is small.
            let answer = Box::pin(answer(api, peer, (path, target), request, (&warnings, &marks)));
            metrics::measured(async {
                match begun.is_long_running() {
                    true => answer.await,
                    false => deadline::in_time(&query, api.limits.request_timeout, answer).await,
                }
            })
            .await
        }
        Err(status) => (Err(status), Duration::ZERO),
    };
    let mut response = match answered {
        Ok(response) => response,
        Err(status) if status.code == 410 => {
            let code = StatusCode::GONE;
            body::json(code, &collection::with_fresh_token(&status, &query))
        }
        Err(status) => body::failure(&status),
    };
    warnings.write(response.headers_mut());
    marks.write(response.headers_mut());
    response = audit::responded(response).await;
    response = match preferred {
        Preferred::Other => accepted.encode(response).await,
        Preferred::Yaml | Preferred::Cbor => preferred.encode(response).await,
    };
    if is_compressed {
        response = compress::compressed(response);
    }
    let unique = || audit::id().unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let audit = audit.or_else(|| HeaderValue::from_str(&unique()).ok());
    response.headers_mut().extend(audit.map(|id| (AUDIT_ID, id)));
    response.headers_mut().entry("cache-control").or_insert(HeaderValue::from_static("no-cache, private"));
    let pace = match (begun.is_long_running(), response.extensions().get::<Events>()) {
        (true, Some(Events)) => Pace::Stepwise,
        (true, None) if !response.status().is_client_error() && !response.status().is_server_error() => {
            Pace::Free
        }
        // What is told whose time is over is taken in a time of its own.
        _ => Pace::Whole(tokio::time::Instant::now() + api.limits.request_timeout),
    };
    response.extensions_mut().insert(pace);
    begun.end(response, waited)
}

async fn answer(
    api: &Arc<Api>,
    peer: &Peer,
    (path, target): (String, Target),
    request: Request<RequestBody>,
    (warnings, marks): (&Warnings, &flow::Marks),
) -> Result<Response<ResponseBody>, Status> {
    let since = Instant::now();
    let user = authenticate::authenticate(api, peer, request.headers(), &path).await;
    let name = user.as_ref().ok().map(|user| user.name.as_str());
    api.metrics.access.authenticated(name, since.elapsed());
    let (user, refusal) = user.map_or_else(|refusal| (User::default(), Some(refusal)), |user| (user, None));
    let mut asked = Asked {
        user,
        method: request.method().clone(),
        query: Query::parse(request.uri().query()),
        headers: request.headers().clone(),
        path,
        warnings: warnings.clone(),
    };
    if let Some(refusal) = refusal {
        audit::unauthenticated(&asked, &target);
        return Err(refusal);
    }
    audit::received(&asked, &target).await?;
    let wish = Wish::of(&asked, &target);
    let attributes = wish.attributes(&asked.path, &target);
    let settled = impersonate::impersonate(api, &asked.user, request.headers(), &attributes).await?;
    if let Some(settled) = settled {
        audit::impersonated(&settled.user, &settled.constraint);
        asked.user = settled.user;
    }
    let permit = match flow::enter(api, &asked, &wish.verb, &target, marks).await {
        Ok(permit) => permit,
        Err(refusal) => return Ok(refusal),
    };
    let lasting = flow::Lasting::of(&wish.verb, &target);
    let answered = match target {
        Target::Other => other(api, &asked, request).await,
        Target::Resource(ref path) => resource(api, asked, &target, path, &wish, request).await,
    };
    match lasting {
        flow::Lasting::Answer => answered.map(|answer| guarded::until_end(answer, permit)),
        flow::Lasting::Beginning | flow::Lasting::Connection => answered,
    }
}

/// Discovery, health and documents.
async fn other(
    api: &Api,
    asked: &Asked,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    let verb = asked.method.as_str().to_ascii_lowercase();
    let wanted = Attributes { verb: &verb, path: &asked.path, ..Attributes::default() };
    authorize::require(api, &asked.user, &wanted).await?;
    if let Some(extension) = extension(api, &asked.path) {
        return Ok(aggregate::proxy::serve(api, &extension, &asked.user, request).await);
    }
    if asked.method != Method::GET && asked.method != Method::HEAD {
        return Err(Status::method_not_allowed("", "", asked.method.as_str()));
    }
    discovery::offered(&asked.path, &asked.headers)?;
    if let Some(document) = openapi::answer(api, asked).await {
        return Ok(document);
    }
    let found = health::answer(api, asked)
        .or_else(|| metrics::answer(api, asked))
        .or_else(|| pages::answer(api, asked))
        .or_else(|| discovery::answer(api, asked))
        .or_else(|| flow::dump::answer(&api.flow, &asked.path));
    Ok(found.unwrap_or_else(|| {
        body::encoded(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n")
    }))
}

/// Who else describes the group version that a path names.
fn extension(api: &Api, path: &str) -> Option<Arc<aggregate::Extension>> {
    if let Some(place) = path.strip_prefix("/openapi/v3/") {
        return api.aggregator.publisher(place);
    }
    let (group, version) = path.trim_end_matches('/').strip_prefix("/apis/")?.split_once('/')?;
    api.aggregator.find(group, version)
}

/// The verb that authorization knows a request by; other methods, which what is behind a proxy may answer,
/// have none.
pub(crate) fn verb(asked: &Asked, target: &ResourcePath) -> &'static str {
    match (asked.method.as_str(), target.name.is_empty()) {
        ("GET" | "HEAD", _) if target.watch && target.subresource.is_empty() => "watch",
        ("GET" | "HEAD", true) if asked.query.flag("watch") => "watch",
        ("GET" | "HEAD", true) => "list",
        ("GET" | "HEAD", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    }
}

/// What a request wants to do, for authorizers.
struct Wish {
    verb: String,
    fields: Fields,
    labels: Labels,
    /// A collection narrowed to one name may be read by whoever may read that object.
    narrowed: Option<String>,
}

impl Wish {
    fn of(asked: &Asked, target: &Target) -> Self {
        let Target::Resource(path) = target else {
            let verb = asked.method.as_str().to_ascii_lowercase();
            let (fields, labels) = Default::default();
            return Self { verb, fields, labels, narrowed: None };
        };
        let verb = verb(asked, path);
        let narrowed = match verb {
            "list" | "watch" if path.name.is_empty() => registry::selected_name(&asked.query),
            _ => None,
        };
        let (fields, labels) = selectors(asked, verb);
        Self { verb: verb.to_owned(), fields, labels, narrowed }
    }

    fn attributes<'a>(&'a self, path: &'a str, target: &'a Target) -> Attributes<'a> {
        let base = Attributes { verb: &self.verb, ..Attributes::default() };
        let Target::Resource(target) = target else { return Attributes { path, ..base } };
        Attributes {
            fields: &self.fields.0,
            labels: &self.labels.0,
            group: &target.group,
            resource: &target.resource,
            subresource: &target.subresource,
            namespace: &target.namespace,
            name: self.narrowed.as_deref().unwrap_or(&target.name),
            version: &target.version,
            ..base
        }
    }
}

/// What a request selects, for authorizers that look at it. A selector that cannot be read counts as
/// none, which asks for more; the request itself is refused for it later.
fn selectors(asked: &Asked, verb: &str) -> (Fields, Labels) {
    if !matches!(verb, "list" | "watch" | "deletecollection") {
        return Default::default();
    }
    let fields = Fields::parse(asked.query.get("fieldSelector")).unwrap_or_default();
    (fields, Labels::parse(asked.query.get("labelSelector")).unwrap_or_default())
}

async fn resource(
    api: &Arc<Api>,
    asked: Asked,
    whole: &Target,
    target: &ResourcePath,
    wish: &Wish,
    request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    authorize::require(api, &asked.user, &wish.attributes(&asked.path, whole)).await?;
    if let Some(extension) = api.aggregator.find(&target.group, &target.version) {
        return Ok(aggregate::proxy::serve(api, &extension, &asked.user, request).await);
    }
    if (target.group.as_str(), target.version.as_str()) == (usage::GROUP, usage::VERSION) {
        return usage::serve(api, &asked, target).await;
    }
    let kind = registry::kind_in_time(api, target).await?;
    let lasting = (!kind.deprecation.is_empty()).then(|| kind.deprecation.to_owned());
    if let Some(warning) = api.customs.deprecation(kind).or(lasting) {
        asked.warnings.extend([warning]);
        api.metrics.deprecated(kind, &target.subresource);
        audit::annotate("k8s.io/deprecated", "true");
    }
    current(api, &asked).await?;
    act(api, &asked, kind, target, &wish.verb, request).await
}

/// Who reads without naming a version, or names one that is not known here, sees what every server has written. Writes
/// find out by themselves.
async fn current(api: &Api, asked: &Asked) -> Result<(), Status> {
    let (version, begun) = (asked.query.get("resourceVersion"), !asked.query.get("continue").is_empty());
    let known = version.parse::<i64>().is_ok_and(|version| version <= api.store.revision().0);
    if asked.method != Method::GET || begun || known {
        return Ok(());
    }
    api.store.catch_up().await.map_err(|error| store_failure(&error))
}

/// What is asked for, of a kind of this server's own.
async fn act(
    api: &Arc<Api>,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    verb: &str,
    mut request: Request<RequestBody>,
) -> Result<Response<ResponseBody>, Status> {
    if kind.namespaced
        && target.namespace.is_empty()
        && (!target.name.is_empty() || asked.method == Method::POST)
    {
        return Err(Status::no_such_path());
    }
    if !target.subresource.is_empty() {
        return subresource::serve(api, asked, kind, target, request).await;
    }
    if !kind.is_custom() {
        let streams = matches!(verb, "list" | "watch");
        let available = if streams { negotiate::STREAMS } else { negotiate::ALL };
        negotiate::offered(&asked.headers, available)?;
    }
    let form = negotiate::form(&asked.headers)?;
    let unsupported = || {
        let verb = if verb.is_empty() { asked.method.as_str() } else { verb };
        Status::method_not_allowed(kind.group, kind.plural, verb)
    };
    let offered = |wanted: Verb| if kind.allows(wanted, None) { Ok(()) } else { Err(unsupported()) };
    match verb {
        "get" => {
            offered(Verb::Get)?;
            collection::get(api, kind, target, form, &asked.query).await
        }
        "list" => {
            offered(Verb::List)?;
            let form = (form, negotiate::media(&asked.headers));
            collection::list(api, kind, &target.namespace, form, &asked.query).await
        }
        "watch" => {
            offered(Verb::Watch)?;
            let websocket = WebSocket::wanted(&mut request, Content::Lines)?;
            let media = if websocket.is_some() { Media::Json } else { negotiate::media(&asked.headers) };
            let stream = watch::serve(api, kind, target, (form, media), &asked.query).await?;
            let stream = guarded::until_end(stream, flow::watched(&api.flow, kind));
            Ok(WebSocket::answer(websocket, stream))
        }
        "delete" => {
            offered(Verb::Delete)?;
            removal::remove(api, asked, kind, target, request, form).await
        }
        "deletecollection" => {
            offered(Verb::DeleteCollection)?;
            removal::remove_all(api, asked, kind, target, request).await
        }
        "create" => {
            offered(Verb::Create)?;
            create(api, asked, kind, target, request, form).await
        }
        "update" => {
            offered(Verb::Update)?;
            replace(api, asked, kind, target, None, request, form).await
        }
        "patch" => {
            offered(Verb::Patch)?;
            patch(api, asked, kind, target, None, request, form).await
        }
        _ => Err(unsupported()),
    }
}

/// What every write of this request begins with.
pub(crate) fn write<'a>(
    api: &'a Api,
    asked: &'a Asked,
    kind: &'static Kind,
    target: &'a ResourcePath,
    subresource: Option<&'a str>,
) -> Result<Write<'a>, Status> {
    let options = WriteOptions::read(asked)?;
    Ok(Write {
        api,
        user: &asked.user,
        kind,
        shape: Shape::of(api, kind)?,
        namespace: if kind.namespaced { &target.namespace } else { "" },
        name: &target.name,
        subresource,
        manager: options.manager,
        dry_run: options.dry_run,
        validation: options.validation,
        now: Timestamp::now(),
        duplicates: Duplicates::default(),
        warnings: asked.warnings.clone(),
        judged: Judged::Object,
        query: Some(&asked.query),
    })
}

async fn create(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    request: Request<RequestBody>,
    form: Form,
) -> Result<Response<ResponseBody>, Status> {
    if !target.name.is_empty() {
        return Err(Status::method_not_allowed(kind.group, kind.plural, "create"));
    }
    let bytes = body::read(request.into_body()).await?;
    let Document { value: mut object, duplicates } = decode::value_of(kind, &asked.headers, &bytes)?;
    let mut write = Write { duplicates, ..write(api, asked, kind, target, None)? };
    if !kind.is_stored() {
        negotiate::plain(&asked.headers)?;
        write.check_type(&mut object)?;
        chain::action(api, asked, kind, target, Operation::Create, &mut object).await?;
        if kind.group.is_empty() && kind.kind == "Binding" {
            return binding::create_apart(api, asked, target, &object).await;
        }
        let answer = review::answer(api, kind, &asked.user, &target.namespace, object, write.now)
            .await
            .unwrap_or_else(|| Err(Status::method_not_allowed(kind.group, kind.plural, "create")))?;
        return Ok(body::json(StatusCode::CREATED, &answer));
    }
    let written = write.create(object).await?;
    written_answer(api, kind, written, form, asked)
}

/// PUT of an object or of a subresource that is a view of it.
pub(crate) async fn replace(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    subresource: Option<&str>,
    request: Request<RequestBody>,
    form: Form,
) -> Result<Response<ResponseBody>, Status> {
    let bytes = body::read(request.into_body()).await?;
    let Document { value: mut object, duplicates } = decode::value_of(kind, &asked.headers, &bytes)?;
    let mut write = Write { duplicates, ..write(api, asked, kind, target, subresource)? };
    write.check_type(&mut object)?;
    let first = || json!({});
    let missing: Option<&(dyn Fn() -> Value + Sync)> =
        if kind.create_on_update && subresource.is_none() { Some(&first) } else { None };
    let change =
        |_: &mut Write<'_>, _: &Value| Ok(Proposal { object: object.clone(), ownership: Ownership::Track });
    let written = write.update(change, missing).await?;
    written_answer(api, kind, written, form, asked)
}

/// PATCH of an object or of a subresource that is a view of it.
pub(crate) async fn patch(
    api: &Api,
    asked: &Asked,
    kind: &'static Kind,
    target: &ResourcePath,
    subresource: Option<&str>,
    request: Request<RequestBody>,
    form: Form,
) -> Result<Response<ResponseBody>, Status> {
    let bytes = body::read(request.into_body()).await?;
    if kind.is_custom() && decode::media_type(&asked.headers) == "application/strategic-merge-patch+json" {
        return Err(Status::unsupported_media_type(
            "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
        ));
    }
    let mut write = write(api, asked, kind, target, subresource)?;
    let patch = Patch::read(asked, &bytes)?;
    let name = target.name.clone();
    let first = || json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": name}});
    let missing: Option<&(dyn Fn() -> Value + Sync)> =
        if patch.is_apply() && subresource.is_none() { Some(&first) } else { None };
    let written = write.update(|write, old| patch.proposal(write, old), missing).await?;
    written_answer(api, kind, written, form, asked)
}

/// The answer to a write, in the form that was asked for.
pub(crate) fn written_answer(
    api: &Api,
    kind: &'static Kind,
    written: Written,
    form: Form,
    asked: &Asked,
) -> Result<Response<ResponseBody>, Status> {
    let code = if written.created { StatusCode::CREATED } else { StatusCode::OK };
    let object = || serde_json::from_slice::<Value>(&written.bytes).map_err(Status::internal);
    let bytes = match form {
        Form::Object => written.bytes.clone(),
        Form::Table => table::of_object(&Columns::of(api, kind)?, &object()?, &asked.query),
        Form::PartialMetadata => encode::object(&table::partial(object()?)),
    };
    Ok(body::encoded(code, "application/json", bytes))
}
