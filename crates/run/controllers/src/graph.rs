//! The graph of controllers: inputs, controllers, outputs.
//!
//! What enters are the units as they declare themselves; what leaves is text for people, or for `dot`.

use std::collections::BTreeSet;
use std::fmt::{self, Write as _};
use std::sync::OnceLock;

use plimsoll_client::Informers;

use crate::output::{Deed, Output};
use crate::{Config, Context, Error, catalogue, output};

/// What a controller says of itself.
pub(crate) struct Declared {
    pub(crate) name: &'static str,
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: &'static [Output],
}

/// All controllers; shown as text.
pub struct Graph(Vec<Declared>);

/// The graph of every controller there is; needs a runtime, reaches no server.
///
/// # Errors
/// If two controllers own the same.
pub fn graph() -> Result<Graph, Error> {
    let nobody =
        plimsoll_client::from_service(tower::service_fn(|_: http::Request<kube::client::Body>| async {
            Err::<http::Response<kube::client::Body>, _>(std::io::Error::other("there is no API server"))
        }));
    let config = Config { cluster_cidr: Some("10.244.0.0/16".to_owned()), ..Config::default() };
    let informers = Informers::new(nobody.clone());
    let context = Context { config, client: nobody, informers, kinds: OnceLock::new() };
    output::one_owner_each(&catalogue::ROWS.iter().map(|row| (row.name, row.outputs)).collect::<Vec<_>>())?;
    let declared = catalogue::ROWS.iter().map(|row| Ok(row.unit(&context)?.declared()));
    Ok(Graph(declared.collect::<Result<_, Error>>()?))
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.0 {
            writeln!(f, "{}\n  reads {}", one.name, one.inputs.join(", "))?;
            one.outputs.iter().try_for_each(|output| writeln!(f, "  {output}"))?;
        }
        Ok(())
    }
}

impl Graph {
    /// The graph in the language of Graphviz.
    pub fn dot(&self) -> String {
        let mut text = String::from("digraph controllers {\n  rankdir=LR;\n  node [shape=box];\n");
        for name in self.0.iter().map(|one| one.name) {
            let _ = writeln!(text, "  \"{name}\" [shape=ellipse];");
        }
        for one in &self.0 {
            for input in &one.inputs {
                let _ = writeln!(text, "  \"{input}\" -> \"{}\";", one.name);
            }
            let edges: BTreeSet<_> = one.outputs.iter().map(|output| (output.door, label(output))).collect();
            for (door, label) in edges {
                let _ = writeln!(text, "  \"{}\" -> \"{}\" [label=\"{label}\"];", one.name, kind(door));
            }
        }
        text + "}\n"
    }
}

fn label(output: &Output) -> &'static str {
    match output.deed {
        Deed::Makes => "makes",
        Deed::Removes => "removes",
        Deed::Changes(_) if output.door.ends_with("/status") => "status",
        Deed::Changes(_) => "changes",
    }
}

/// A door without its subresource.
fn kind(door: &str) -> &str {
    let core = door.starts_with("v1/");
    let cut = door.match_indices('/').nth(if core { 1 } else { 2 });
    cut.map_or(door, |(at, _)| &door[..at])
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_controller_declares_itself() {
        let graph = graph().unwrap();
        assert!(graph.0.iter().all(|one| !one.inputs.is_empty() && !one.outputs.is_empty()));
        let text = graph.to_string();
        let part = "replicaset-controller\n  reads apps/v1/replicasets, v1/pods\n  changes apps/v1/replicasets/status \
                    status\n  makes v1/pods of ReplicaSets\n";
        assert!(text.contains(part), "{text}");
        let dot = graph.dot();
        for line in [
            "\"v1/pods\" -> \"replicaset-controller\";",
            "\"replicaset-controller\" -> \"apps/v1/replicasets\" [label=\"status\"];",
            "\"replicaset-controller\" -> \"v1/pods\" [label=\"makes\"];",
        ] {
            assert!(dot.contains(line), "{line} in {dot}");
        }
    }
}
