//! Clients that others wrote.

use std::path::Path;
use std::process::Command;

use plimsoll_e2e::run;

use crate::{PATIENCE, Shared};

pub(crate) fn the_python_client_lists_creates_and_watches(shared: &Shared) {
    let space = shared.cluster().namespace("python");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/client.py");
    let mut command = Command::new("python3");
    command.arg(script).arg(space.name()).env("KUBECONFIG", space.cluster().kubeconfig());
    let text = run(&mut command, b"", PATIENCE).ok();
    assert_eq!(text.lines().last(), Some("done"), "{text}");
}
