//! The version that the API reports.

use serde_json::{Value, json};

/// The Kubernetes release whose API is served.
pub const VERSION: &str = "v1.37.0";

/// The answer to `/version`. What is not known of the build is left empty.
pub(crate) fn document() -> Value {
    json!({
        "major": "1", "minor": "37",
        "emulationMajor": "1", "emulationMinor": "37",
        "minCompatibilityMajor": "1", "minCompatibilityMinor": "36",
        "gitVersion": VERSION,
        "gitCommit": "", "gitTreeState": "", "buildDate": "",
        "goVersion": "", "compiler": "rustc",
        "platform": format!("linux/{}", architecture()),
    })
}

/// The processor as Go names it.
pub(crate) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
