//! What webhooks of admission, custom resources and API services share.

use serde_json::Value;

use crate::access::Fill;

/// A reference to a Service means port 443 unless it says otherwise.
pub(crate) fn default_service(holder: &mut Value) {
    if let Some(service) = holder.inside("service") {
        service.fill("port", 443);
    }
}
