//! Rows of custom kinds, made once for each combination of names.

use std::collections::HashMap;

use plimsoll_catalogue::{Kind, Storage, Subresource};

/// What makes a row.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Names {
    pub(super) group: String,
    pub(super) version: String,
    pub(super) kind: String,
    pub(super) list_kind: String,
    pub(super) plural: String,
    pub(super) singular: String,
    pub(super) short_names: Vec<String>,
    pub(super) categories: Vec<String>,
    pub(super) namespaced: bool,
    pub(super) has_status: bool,
    pub(super) has_scale: bool,
}

/// All rows that were ever made.
#[derive(Debug, Default)]
pub(super) struct Rows(HashMap<Names, &'static Kind>);

impl Rows {
    /// The row of these names.
    pub(super) fn row(&mut self, names: Names) -> &'static Kind {
        if let Some(row) = self.0.get(&names) {
            return row;
        }
        let row: &'static Kind = Box::leak(Box::new(make(&names)));
        self.0.insert(names, row);
        row
    }
}

fn make(names: &Names) -> Kind {
    let (group, version) = (text(&names.group), text(&names.version));
    let kind = text(&names.kind);
    let mut subresources = Vec::new();
    if names.has_status {
        subresources.push(Subresource::status(kind));
    }
    if names.has_scale {
        subresources.push(Subresource::SCALE);
    }
    Kind {
        group,
        version,
        kind,
        list_kind: text(&names.list_kind),
        plural: text(&names.plural),
        singular: text(&names.singular),
        short_names: texts(&names.short_names),
        categories: texts(&names.categories),
        namespaced: names.namespaced,
        subresources: Box::leak(subresources.into_boxed_slice()),
        storage: Storage::Stored {
            prefix: text(&format!("/registry/{group}/{}", names.plural)),
            group,
            version,
        },
        ..Kind::CUSTOM
    }
}

fn text(text: &str) -> &'static str {
    Box::leak(text.to_owned().into_boxed_str())
}

fn texts(texts: &[String]) -> &'static [&'static str] {
    Box::leak(texts.iter().map(|one| text(one)).collect::<Vec<_>>().into_boxed_slice())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_names_are_the_same_row() {
        let mut rows = Rows::default();
        let names = Names {
            group: "example.com".to_owned(),
            version: "v1".to_owned(),
            kind: "Thing".to_owned(),
            plural: "things".to_owned(),
            has_scale: true,
            ..Names::default()
        };
        let row = rows.row(names.clone());
        assert!(std::ptr::eq(row, rows.row(names.clone())));
        assert!(!std::ptr::eq(row, rows.row(Names { has_status: true, ..names })));
        assert!(row.is_custom() && row.subresource("scale").is_some() && !row.has_status());
        assert_eq!(row.key("", "a").as_deref(), Some("/registry/example.com/things/a"));
    }
}
