//! A version of a custom kind: its schema and all that the definition says about serving it.

use std::sync::Arc;

use jiff::Timestamp;
use plimsoll_catalogue::Kind;
use plimsoll_meta::field::{ErrorKind, FieldError, Path};
use plimsoll_meta::status::Status;
use plimsoll_schema::{NodeId, Schemas};
use plimsoll_store::{Entry, Revision, Store};
use plimsoll_structural::{PrinterColumn, Rules, Schema, deprecation, embedded, lists, status, validate};
use serde_json::{Value, json};

use super::convert::Conversion;
use super::row::{Names, Rows};

/// What a version of a custom resource is made of.
#[derive(Debug)]
pub(crate) struct Definition {
    pub(crate) schemas: Schemas,
    pub(crate) root: NodeId,
    /// Name of the version.
    pub(crate) version: String,
    /// The schema as it was written, for documents.
    pub(crate) props: Option<Value>,
    schema: Option<Arc<Schema>>,
    rules: Option<Rules>,
    columns: Vec<PrinterColumn>,
    pub(crate) scale: Option<Scale>,
    selectable: Vec<String>,
    /// What clients of this version are told.
    pub(crate) deprecation: Option<String>,
    pub(crate) family: Arc<Family>,
}

/// What the versions of a definition share.
#[derive(Debug)]
pub(crate) struct Family {
    /// The version that objects are kept in.
    pub(crate) storage: String,
    pub(crate) conversion: Conversion,
    /// The definition is about to go: no new objects.
    pub(crate) ends: bool,
    /// Objects that were written later have all that their schema says.
    since: Revision,
    versions: Vec<(String, Option<Arc<Schema>>)>,
}

/// The paths of the `scale` subresource, as field names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scale {
    pub(crate) spec: String,
    pub(crate) status: String,
    pub(crate) selector: Option<String>,
}

/// The served versions of a definition with their rows.
pub(super) fn family(
    definition: &Value,
    store: &Store,
    rows: &mut Rows,
) -> Vec<(&'static Kind, Arc<Definition>)> {
    let versions = definition["spec"]["versions"].as_array().map_or(&[][..], Vec::as_slice);
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let schemas: Vec<(String, Option<Arc<Schema>>)> = versions
        .iter()
        .map(|version| {
            let props = Some(&version["schema"]["openAPIV3Schema"]).filter(|props| props.is_object());
            (text(&version["name"]), props.map(|props| Arc::new(Schema::read(props))))
        })
        .collect();
    let storage = versions.iter().find(|version| version["storage"] == true);
    let family = Arc::new(Family {
        storage: storage.map(|version| text(&version["name"])).unwrap_or_default(),
        conversion: Conversion::read(&definition["spec"]["conversion"], store),
        ends: status::holds(definition, "Terminating")
            || definition["metadata"]["deletionTimestamp"].is_string(),
        since: store.revision(),
        versions: schemas,
    });
    versions
        .iter()
        .filter(|version| version["served"] == true)
        .map(|version| {
            (rows.row(names(definition, version)), Arc::new(Definition::read(definition, version, &family)))
        })
        .collect()
}

fn names(definition: &Value, version: &Value) -> Names {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let texts = |value: &Value| value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>();
    let accepted = &definition["status"]["acceptedNames"];
    Names {
        group: text(&definition["spec"]["group"]),
        version: text(&version["name"]),
        kind: text(&accepted["kind"]),
        list_kind: text(&accepted["listKind"]),
        plural: text(&accepted["plural"]),
        singular: text(&accepted["singular"]),
        short_names: texts(&accepted["shortNames"]),
        categories: texts(&accepted["categories"]),
        namespaced: definition["spec"]["scope"] == "Namespaced",
        has_status: version["subresources"]["status"].is_object(),
        has_scale: version["subresources"]["scale"].is_object(),
    }
}

impl Definition {
    fn read(definition: &Value, version: &Value, family: &Arc<Family>) -> Self {
        let name = version["name"].as_str().unwrap_or_default();
        let schema = family.schema(name);
        let (schemas, root) = plimsoll_structural::nodes(schema.as_deref());
        let selectable = version["selectableFields"].as_array().into_iter().flatten();
        Self {
            schemas,
            root,
            version: name.to_owned(),
            props: Some(version["schema"]["openAPIV3Schema"].clone()).filter(Value::is_object),
            schema,
            rules: Rules::of(&version["schema"]["openAPIV3Schema"]),
            columns: PrinterColumn::of(version),
            scale: Scale::read(&version["subresources"]["scale"]),
            selectable: selectable
                .filter_map(|field| field["jsonPath"].as_str())
                .map(|path| path.trim_start_matches('.').to_owned())
                .collect(),
            deprecation: deprecation(definition, version),
            family: Arc::clone(family),
        }
    }

    /// Takes out what the schema does not know; returns the paths of that.
    pub(crate) fn prune(&self, object: &mut Value) -> Result<Vec<String>, FieldError> {
        prune(self.schema.as_deref(), object)
    }

    /// Fills in defaults.
    pub(crate) fn default(&self, object: &mut Value) {
        if let Some(schema) = &self.schema {
            plimsoll_structural::default(object, schema);
        }
    }

    /// What is wrong with a new object, its own metadata aside.
    pub(crate) fn validate(&self, object: &Value) -> Vec<FieldError> {
        let Some(schema) = &self.schema else { return self.check_scale(object, true) };
        let root = Path::default();
        let mut errors = validate::validate(&root, object, schema);
        errors.extend(self.check_scale(object, true));
        errors.extend(embedded::check(&root, object, schema));
        errors.extend(lists::check(&root, object, schema));
        self.hold_rules(&mut errors, |rules| rules.check(object));
        errors
    }

    /// What is wrong with a changed object, its own metadata aside.
    pub(crate) fn validate_update(
        &self,
        new: &Value,
        old: &Value,
        subresource: Option<&str>,
    ) -> Vec<FieldError> {
        let is_status = subresource == Some("status");
        let Some(schema) = &self.schema else { return self.check_scale(new, !is_status) };
        let root = Path::default();
        let mut errors = match is_status {
            false => validate::validate_update(&root, new, old, schema),
            true => match (new.get("status"), schema.properties.get("status")) {
                (Some(status), Some(schema)) => {
                    let path = Path::root("status");
                    validate::validate_update(&path, status, &old["status"], schema)
                }
                _ => Vec::new(),
            },
        };
        errors.extend(self.check_scale(new, !is_status));
        errors.extend(embedded::check(&root, new, schema));
        if lists::check(&root, old, schema).is_empty() {
            errors.extend(lists::check(&root, new, schema));
        }
        self.hold_rules(&mut errors, |rules| rules.check_update(new, old));
        errors
    }

    /// Rules are not held against objects whose types are wrong, which is told.
    fn hold_rules(&self, errors: &mut Vec<FieldError>, check: impl FnOnce(&Rules) -> Vec<FieldError>) {
        let Some(rules) = &self.rules else { return };
        if errors.iter().any(blocks_rules) {
            let detail = "some validation rules were not checked because the object was invalid; correct the existing errors to complete validation";
            errors.push(FieldError::invalid(&Path::default(), &"null".into(), detail));
        } else {
            errors.extend(check(rules));
        }
    }

    fn check_scale(&self, object: &Value, with_spec: bool) -> Vec<FieldError> {
        self.scale.as_ref().map(|scale| scale.check(object, with_spec)).unwrap_or_default()
    }

    /// Fields that selectors may ask for besides name and namespace.
    pub(crate) fn selectable(&self) -> &[String] {
        &self.selectable
    }

    /// The value of a selectable field as text.
    pub(crate) fn field(object: &Value, path: &str) -> String {
        match path.split('.').try_fold(object, |value, key| value.get(key)) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        }
    }

    /// The column definitions of a table.
    pub(crate) fn columns(&self) -> Vec<Value> {
        let name = json!({
            "name": "Name", "type": "string", "format": "name",
            "description": plimsoll_structural::NAME_DESCRIPTION, "priority": 0,
        });
        let rest = self.columns.iter().map(|column| {
            json!({
                "name": column.name, "type": column.kind, "format": column.format,
                "description": column.description, "priority": column.priority,
            })
        });
        std::iter::once(name).chain(rest).collect()
    }

    /// The cells of one row.
    pub(crate) fn cells(&self, object: &Value, now: Timestamp) -> Vec<Value> {
        let name = object["metadata"]["name"].clone();
        std::iter::once(name).chain(self.columns.iter().map(|column| column.cell(object, now))).collect()
    }

    /// New objects are refused while the definition ends.
    pub(crate) fn accepts(&self, kind: &Kind) -> Result<(), Status> {
        if !self.family.ends {
            return Ok(());
        }
        let message = "create not allowed while custom resource definition is terminating".to_owned();
        Err(Status { message, ..Status::method_not_allowed(kind.group, kind.plural, "create") })
    }
}

impl Family {
    /// Whether an object was written by this definition, so that it is as its schema wants it.
    pub(crate) fn wrote(&self, entry: &Entry) -> bool {
        entry.modified > self.since
    }

    /// The schema of a version, served or not.
    pub(crate) fn schema(&self, version: &str) -> Option<Arc<Schema>> {
        self.versions.iter().find(|(name, _)| name == version).and_then(|(_, schema)| schema.clone())
    }
}

/// Takes out what a schema does not know, nulls that it does not allow, and unknown embedded metadata.
pub(super) fn prune(schema: Option<&Schema>, object: &mut Value) -> Result<Vec<String>, FieldError> {
    let Some(schema) = schema else { return Ok(Vec::new()) };
    let mut unknown = plimsoll_structural::prune(object, schema);
    plimsoll_structural::prune_nulls(object, Some(schema));
    unknown.extend(embedded::coerce(object, schema)?);
    Ok(unknown)
}

/// Whether rules could trip over what is wrong.
fn blocks_rules(error: &FieldError) -> bool {
    matches!(
        error.kind,
        ErrorKind::Required | ErrorKind::TooLong | ErrorKind::TooMany | ErrorKind::TypeInvalid
    )
}

impl Scale {
    fn read(value: &Value) -> Option<Self> {
        let path = |key: &str| {
            value[key]
                .as_str()
                .filter(|path| !path.is_empty())
                .map(|path| path.trim_start_matches('.').to_owned())
        };
        Some(Self {
            spec: path("specReplicasPath")?,
            status: path("statusReplicasPath")?,
            selector: path("labelSelectorPath"),
        })
    }

    /// Counts are whole, not negative and fit 32 bits; a selector is text.
    fn check(&self, object: &Value, with_spec: bool) -> Vec<FieldError> {
        let mut errors = Vec::new();
        let counts = [(&self.spec, with_spec), (&self.status, true)];
        for (path, _) in counts.into_iter().filter(|(_, wanted)| *wanted) {
            let at = Path::root(&format!(".{path}"));
            match at_path(object, path) {
                None => {}
                Some(Value::Number(number)) if number.as_i64().is_some() => {
                    let count = number.as_i64().unwrap_or_default();
                    if count < 0 {
                        errors.push(FieldError::invalid(
                            &at,
                            &count.into(),
                            "should be a non-negative integer",
                        ));
                    } else if count > i64::from(i32::MAX) {
                        let detail = format!("should be less than or equal to {}", i32::MAX);
                        errors.push(FieldError::invalid(&at, &count.into(), detail));
                    }
                }
                Some(other) => {
                    let detail = mistyped(path, other, "int64");
                    errors.push(FieldError::invalid(&at, &0.into(), detail));
                }
            }
        }
        if let Some(path) = &self.selector
            && let Some(other) = at_path(object, path).filter(|value| !value.is_string())
        {
            let at = Path::root(&format!(".{path}"));
            let detail = mistyped(path, other, "string");
            errors.push(FieldError::invalid(&at, &"".into(), detail));
        }
        errors
    }

    /// The count that is wanted, if the object has one.
    pub(crate) fn wanted(&self, object: &Value) -> Option<i64> {
        at_path(object, &self.spec).and_then(Value::as_i64)
    }

    /// The count that there is.
    pub(crate) fn present(&self, object: &Value) -> i64 {
        at_path(object, &self.status).and_then(Value::as_i64).unwrap_or(0)
    }

    /// The selector of what is counted, as text.
    pub(crate) fn selector<'o>(&self, object: &'o Value) -> &'o str {
        self.selector.as_ref().and_then(|path| at_path(object, path)?.as_str()).unwrap_or_default()
    }

    /// Writes the count that is wanted, making the objects on its path.
    pub(crate) fn set(&self, object: &mut Value, replicas: i64) {
        let mut here = object;
        for key in self.spec.split('.') {
            if !here.is_object() {
                *here = json!({});
            }
            here = &mut here[key];
        }
        *here = replicas.into();
    }
}

/// In Go's words.
fn mistyped(path: &str, value: &Value, wanted: &str) -> String {
    let (shown, kind) = match value {
        Value::String(text) => (text.clone(), "string"),
        Value::Number(number) if number.is_f64() => (number.to_string(), "float64"),
        Value::Number(number) => (number.to_string(), "int64"),
        Value::Bool(flag) => (flag.to_string(), "bool"),
        Value::Array(_) => (value.to_string(), "[]interface {}"),
        Value::Object(_) => (value.to_string(), "map[string]interface {}"),
        Value::Null => ("<nil>".to_owned(), "<nil>"),
    };
    format!(".{path} accessor error: {shown} is of the type {kind}, expected {wanted}")
}

fn at_path<'o>(object: &'o Value, path: &str) -> Option<&'o Value> {
    path.split('.').try_fold(object, |value, key| value.get(key)).filter(|value| !value.is_null())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(version: Value) -> Arc<Definition> {
        let object = json!({"metadata": {"name": "things.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced", "versions": [version]},
            "status": {"acceptedNames": {"plural": "things", "kind": "Thing", "listKind": "ThingList", "singular": "thing"}}});
        let mut rows = Rows::default();
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), plimsoll_store::Options::default()).expect("a store");
        Arc::clone(&family(&object, &store, &mut rows)[0].1)
    }

    #[test]
    fn scale_counts_are_checked() {
        let definition = definition(
            json!({"name": "v1", "served": true, "storage": true, "subresources": {"scale": {
            "specReplicasPath": ".spec.replicas", "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}}}),
        );
        let scale = definition.scale.as_ref().expect("scale");
        for (object, expected) in [
            (json!({"spec": {"replicas": 3}, "status": {"replicas": 1, "selector": "a=b"}}), vec![]),
            (
                json!({"spec": {"replicas": -1}}),
                vec![".spec.replicas: Invalid value: -1: should be a non-negative integer"],
            ),
            (
                json!({"status": {"replicas": 3_000_000_000_i64}}),
                vec![
                    ".status.replicas: Invalid value: 3000000000: should be less than or equal to 2147483647",
                ],
            ),
        ] {
            let found: Vec<String> = definition.validate(&object).iter().map(ToString::to_string).collect();
            assert_eq!(found, expected);
        }
        let mut object = json!({});
        scale.set(&mut object, 5);
        assert_eq!(
            (object.clone(), scale.wanted(&object), scale.present(&object)),
            (json!({"spec": {"replicas": 5}}), Some(5), 0)
        );
    }

    #[test]
    fn columns_begin_with_the_name() {
        let definition = definition(json!({"name": "v1", "served": true, "storage": true,
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}]}));
        let now = Timestamp::UNIX_EPOCH;
        let object = json!({"metadata": {"name": "a"}, "spec": {"size": 3}});
        assert_eq!(definition.cells(&object, now), [json!("a"), json!(3)]);
        assert_eq!(
            definition.columns()[1]["description"],
            "Custom resource definition column (in JSONPath format): .spec.size"
        );
    }
}
