//! The version that the API reports.

use serde_json::{Value, json};

/// The Kubernetes release whose API is served.
pub const VERSION: &str = "v1.37.0";

/// The answer to `/version`.
pub(crate) fn document() -> Value {
    json!({
        "major": "1", "minor": "37",
        "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": "", "gitTreeState": "clean", "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "", "compiler": "rustc",
        "platform": concat!("linux/", "amd64"),
    })
}
