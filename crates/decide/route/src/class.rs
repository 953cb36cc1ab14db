//! Which Ingresses are meant for this controller.

use k8s_openapi::api::networking::v1::{Ingress, IngressClass};

/// What the classes of this controller name.
pub const CONTROLLER: &str = "plimsoll.io/ingress";

/// The older way to name a class.
const ANNOTATION: &str = "kubernetes.io/ingress.class";

/// Whether an Ingress names a class of this controller. One that names none is nobody's: the default class is written
/// into new Ingresses when they are admitted.
pub fn is_ours(ingress: &Ingress, class: impl Fn(&str) -> Option<std::sync::Arc<IngressClass>>) -> bool {
    let named = ingress.spec.as_ref().and_then(|spec| spec.ingress_class_name.as_deref());
    let annotated = || ingress.metadata.annotations.as_ref()?.get(ANNOTATION).map(String::as_str);
    let Some(name) = named.or_else(annotated) else { return false };
    let class = class(name);
    class.and_then(|class| class.spec.as_ref()?.controller.clone()).is_some_and(|name| name == CONTROLLER)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn classes_decide() {
        let table: [(Value, bool); 5] = [
            (json!({"spec": {"ingressClassName": "ours"}}), true),
            (json!({"spec": {"ingressClassName": "theirs"}}), false),
            (json!({"spec": {"ingressClassName": "missing"}}), false),
            (json!({"metadata": {"annotations": {ANNOTATION: "ours"}}}), true),
            (json!({"spec": {}}), false),
        ];
        for (ingress, expected) in table {
            let class = |name: &str| {
                let controller = if name == "ours" { CONTROLLER } else { "k8s.io/ingress-nginx" };
                let class = json!({"metadata": {"name": name}, "spec": {"controller": controller}});
                let read = || serde_json::from_value::<IngressClass>(class).unwrap();
                (name != "missing").then(|| std::sync::Arc::new(read()))
            };
            let read: Ingress = serde_json::from_value(ingress.clone()).unwrap();
            assert_eq!(is_ours(&read, class), expected, "{ingress}");
        }
    }
}
