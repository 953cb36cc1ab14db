//! A row for each kind: names, scope, verbs, columns, defaults, validation.
