//! Taints and the tolerations that bear them.

use k8s_openapi::api::core::v1::{Taint as ApiTaint, Toleration as ApiToleration};

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Effect::NoSchedule),
            "PreferNoSchedule" => Some(Effect::PreferNoSchedule),
            "NoExecute" => Some(Effect::NoExecute),
            _ => None,
        }
    }

    /// The effect keeps pods away, not only as a preference.
    pub(crate) fn is_hard(self) -> bool {
        self != Effect::PreferNoSchedule
    }
}

/// A taint of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Taint {
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) effect: Effect,
}

impl Taint {
    pub(crate) fn of(taint: &ApiTaint) -> Option<Self> {
        let effect = Effect::parse(&taint.effect)?;
        Some(Taint { key: taint.key.clone(), value: taint.value.clone().unwrap_or_default(), effect })
    }
}

/// How a toleration compares values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Operator {
    Exists,
    Equal,
    Greater,
    Less,
}

/// A toleration of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Toleration {
    key: String,
    operator: Operator,
    value: String,
    /// None bears every effect.
    effect: Option<Effect>,
}

impl Toleration {
    /// A toleration with an unknown operator or effect bears nothing.
    pub(crate) fn of(toleration: &ApiToleration) -> Option<Self> {
        let operator = match toleration.operator.as_deref().unwrap_or_default() {
            "" | "Equal" => Operator::Equal,
            "Exists" => Operator::Exists,
            "Gt" => Operator::Greater,
            "Lt" => Operator::Less,
            _ => return None,
        };
        let effect = match toleration.effect.as_deref().unwrap_or_default() {
            "" => None,
            text => Some(Effect::parse(text)?),
        };
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        Some(Toleration { key: text(&toleration.key), operator, value: text(&toleration.value), effect })
    }

    pub(crate) fn bears(&self, taint: &Taint) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        self.effect.is_none_or(|effect| effect == taint.effect)
            && (self.key.is_empty() || self.key == taint.key)
            && match self.operator {
                Operator::Exists => true,
                Operator::Equal => self.value == taint.value,
                Operator::Greater => {
                    number(&taint.value).zip(number(&self.value)).is_some_and(|(a, b)| a > b)
                }
                Operator::Less => number(&taint.value).zip(number(&self.value)).is_some_and(|(a, b)| a < b),
            }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "tests")]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn table() {
        let taint = Taint { key: "k".into(), value: "5".into(), effect: Effect::NoSchedule };
        let table = [
            (json!({"operator": "Exists"}), true),
            (json!({"key": "k", "operator": "Exists"}), true),
            (json!({"key": "other", "operator": "Exists"}), false),
            (json!({"key": "k", "value": "5"}), true),
            (json!({"key": "k", "operator": "Equal", "value": "6"}), false),
            (json!({"key": "k", "operator": "Exists", "effect": "NoSchedule"}), true),
            (json!({"key": "k", "operator": "Exists", "effect": "NoExecute"}), false),
            (json!({"key": "k", "operator": "Gt", "value": "4"}), true),
            (json!({"key": "k", "operator": "Gt", "value": "5"}), false),
            (json!({"key": "k", "operator": "Lt", "value": "6"}), true),
            (json!({"key": "k", "operator": "Lt", "value": "x"}), false),
        ];
        for (toleration, bears) in table {
            let parsed =
                Toleration::of(&serde_json::from_value::<ApiToleration>(toleration.clone()).unwrap())
                    .unwrap();
            assert_eq!(parsed.bears(&taint), bears, "{toleration}");
        }
        let unknown: Value = json!({"key": "k", "operator": "Like"});
        assert!(Toleration::of(&serde_json::from_value(unknown).unwrap()).is_none());
    }
}
