//! Control groups, mounts, namespaces, links and packet rules.
