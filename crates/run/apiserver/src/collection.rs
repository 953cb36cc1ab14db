//! Reading: one object, or a list from a consistent snapshot.

use std::sync::Arc;
use std::time::Instant;

use http::{Response, StatusCode};
use plimsoll_catalogue::Kind;
use plimsoll_meta::page_token::PageToken;
use plimsoll_meta::status::Status;
use plimsoll_store::{Entry, Page, Revision, Store, StoreError};
use serde_json::{Value, json};

use crate::body::{self, ResponseBody};
use crate::list_options::ListOptions;
use crate::metrics::Stored;
use crate::negotiate::{Form, Media};
use crate::query::Query;
use crate::registry::{self, Selection};
use crate::server::Api;
use crate::table::Columns;
use crate::target::ResourcePath;
use crate::{components, list_body, present, table};

/// How many objects one step of a selective list looks at.
const STEP: usize = 5000;

/// GET of one object.
pub(crate) async fn get(
    api: &Api,
    kind: &'static Kind,
    target: &ResourcePath,
    form: Form,
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    let missing = || Status::not_found(kind.group, kind.plural, &target.name);
    let since = Instant::now();
    let entry = match components::entries(api, kind) {
        Some(entries) => entries.into_iter().find(|entry| entry.key.ends_with(&format!("/{}", target.name))),
        None => kind.key(&target.namespace, &target.name).and_then(|key| api.store.get(&key)),
    };
    api.metrics.storage.done(kind, Stored::Get, since);
    let entry = entry.ok_or_else(missing)?;
    let bytes = match form {
        Form::Object => present::bytes(api, kind, &entry).await?,
        Form::Table => {
            let bytes = present::bytes(api, kind, &entry).await?;
            table::of_bytes(&Columns::of(api, kind)?, &bytes, table::Include::of(query), true)
        }
        Form::PartialMetadata => {
            let mut partial = Vec::new();
            table::write_partial(&present::bytes(api, kind, &entry).await?, &mut partial);
            partial.into()
        }
    };
    Ok(body::encoded(StatusCode::OK, "application/json", bytes))
}

/// One page of matching entries.
pub(crate) struct Listed {
    pub(crate) entries: Vec<Arc<Entry>>,
    pub(crate) revision: Revision,
    /// Whether more match behind them.
    more: bool,
    /// How many, where that is known.
    remaining: Option<usize>,
}

/// GET of a collection.
pub(crate) async fn list(
    api: &Api,
    kind: &'static Kind,
    namespace: &str,
    (form, media): (Form, Media),
    query: &Query,
) -> Result<Response<ResponseBody>, Status> {
    if let Some(entries) = components::entries(api, kind) {
        return list_body::answer(api, kind, &entries, json!({}), (form, media), query).await;
    }
    let prefix = registry::prefix(kind, namespace)?;
    let options = ListOptions::read(query, &prefix, api.store.revision())?;
    let selection = Selection::read(api, kind, query, "")?;
    let since = Instant::now();
    let listed = select(&api.store, kind, namespace, &selection, &options);
    api.metrics.storage.done(kind, Stored::List, since);
    let listed = listed?;
    let mut metadata = json!({"resourceVersion": listed.revision.to_string()});
    if let (true, Some(last)) = (listed.more, listed.entries.last()) {
        metadata["continue"] = json!(PageToken::behind(&last.key, &prefix, listed.revision.0).encode());
        if let Some(remaining) = listed.remaining {
            metadata["remainingItemCount"] = json!(remaining);
        }
    }
    list_body::answer(api, kind, &listed.entries, metadata, (form, media), query).await
}

/// The entries of one page.
pub(crate) fn select(
    store: &Store,
    kind: &'static Kind,
    namespace: &str,
    selection: &Selection,
    options: &ListOptions,
) -> Result<Listed, Status> {
    let namespace = selection.namespace().filter(|_| namespace.is_empty()).unwrap_or(namespace);
    let prefix = registry::prefix(kind, namespace)?;
    let wanted = options.limit.unwrap_or(usize::MAX);
    let unreadable = |error| unreadable(&error, options);
    if let Some(key) = selection.key(kind, namespace) {
        // The shortest key that begins so is the key itself.
        let page = store.range(&key, None, 1, options.at).map_err(unreadable)?;
        let behind = |entry: &Arc<Entry>| options.after.as_deref().is_none_or(|after| *entry.key > *after);
        let mut entries = page.entries;
        entries.retain(|entry| *entry.key == *key && behind(entry) && selection.matches(kind, entry));
        return Ok(Listed { entries, revision: page.revision, more: false, remaining: None });
    }
    let step = if selection.is_everything() { wanted } else { STEP.max(options.limit.unwrap_or(0)) };
    let (mut after, mut at) = (options.after.clone(), options.at);
    let mut found: Vec<Arc<Entry>> = Vec::new();
    loop {
        let Page { entries, revision, more, remaining } =
            store.range(&prefix, after.as_deref(), step, at).map_err(unreadable)?;
        // All steps show the revision of the first.
        at = Some(revision);
        after = entries.last().map(|entry| entry.key.to_string());
        for entry in entries {
            if !selection.matches(kind, &entry) {
                continue;
            }
            if found.len() == wanted {
                // One more match proves that there is a next page.
                return Ok(Listed { entries: found, revision, more: true, remaining: None });
            }
            found.push(entry);
        }
        if !more {
            return Ok(Listed { entries: found, revision, more: false, remaining: None });
        }
        if selection.is_everything() {
            return Ok(Listed { entries: found, revision, more: true, remaining: Some(remaining) });
        }
    }
}

fn unreadable(error: &StoreError, options: &ListOptions) -> Status {
    match (error, &options.after) {
        (StoreError::Compacted { .. }, Some(_)) => Status::expired(
            "The provided continue parameter is too old to display a consistent list result. You can start a new list \
             without the continue parameter, or use the continue token in this response to retrieve the remainder of the \
             results. Continuing with the provided token results in an inconsistent list - objects that were created, \
             modified, or deleted between the time the first chunk was returned and now may show up in the list.",
        ),
        (StoreError::Compacted { .. }, None) => {
            Status::expired("The resourceVersion for the provided list is too old.")
        }
        // etcd's words, as clients know them.
        (StoreError::Future { .. }, _) => {
            Status::unnamed("etcdserver: mvcc: required revision is a future revision")
        }
        _ => Status::internal(error),
    }
}

/// A 410 answer's Status with the token to go on inconsistently, if the request had one.
pub(crate) fn with_fresh_token(status: &Status, query: &Query) -> Value {
    let mut value = status.to_value();
    if let (410, Ok(old)) = (status.code, PageToken::read(query.get("continue"))) {
        value["metadata"]["continue"] = json!(old.inconsistent().encode());
    }
    value
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use plimsoll_store::{Change, Expect, Options, Value as Stored};

    use super::*;

    const PREFIX: &str = "/registry/configmaps/a/";

    async fn put(store: &Store, name: &str) {
        let value = Stored::plain(Bytes::from_static(b"{}"));
        store.commit(&format!("{PREFIX}{name}"), Expect::Any, Change::Put(value)).await.expect("a commit");
    }

    #[derive(Debug)]
    struct Seen {
        names: Vec<String>,
        remaining: Option<usize>,
        token: String,
    }

    fn page(store: &Store, query: &str) -> Result<Seen, (Status, Value)> {
        let kind = plimsoll_catalogue::find("", "v1", "configmaps").expect("a kind");
        let query = Query::parse(Some(query));
        let options = ListOptions::read(&query, PREFIX, store.revision()).expect("options");
        let listed = select(store, kind, "a", &Selection::default(), &options)
            .map_err(|status| (status.clone(), with_fresh_token(&status, &query)))?;
        let name = |entry: &Arc<Entry>| entry.key.rsplit('/').next().unwrap_or_default().to_owned();
        let last = listed.entries.last().filter(|_| listed.more);
        let token = last.map(|last| PageToken::behind(&last.key, PREFIX, listed.revision.0).encode());
        let names = listed.entries.iter().map(name).collect();
        Ok(Seen { names, remaining: listed.remaining, token: token.unwrap_or_default() })
    }

    #[tokio::test]
    async fn pages_show_one_revision_until_compaction_takes_it() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Options::default()).expect("a store");
        for name in ["b", "c", "d", "e"] {
            put(&store, name).await;
        }
        let first = page(&store, "limit=2").expect("a page");
        assert_eq!((first.names, first.remaining), (vec!["b".to_owned(), "c".to_owned()], Some(2)));
        put(&store, "cc").await;
        let token = first.token;
        let second = page(&store, &format!("limit=2&continue={token}")).expect("a page");
        assert_eq!((second.names, second.token), (vec!["d".to_owned(), "e".to_owned()], String::new()));

        store.compact(store.revision()).await.expect("a compaction");
        let (status, body) = page(&store, &format!("limit=2&continue={token}")).expect_err("too old");
        assert_eq!((status.code, &body["reason"]), (410, &json!("Expired")));
        assert!(status.message.contains("use the continue token in this response"), "{}", status.message);
        let fresh = body["metadata"]["continue"].as_str().expect("a token");
        let rest = page(&store, &format!("continue={fresh}")).expect("the rest");
        assert_eq!(rest.names, ["cc", "d", "e"]);
        let (status, _) = page(&store, "resourceVersion=2&resourceVersionMatch=Exact").expect_err("too old");
        assert_eq!(status.message, "The resourceVersion for the provided list is too old.");
    }
}
