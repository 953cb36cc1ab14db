//! The authorizers in their order, and what they know.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use plimsoll_access::authorization_config::{AuthorizationConfig, Authorizer};
use plimsoll_access::node::{Graph, Identity, authorize, identify};
use plimsoll_access::{Decision, User};
use plimsoll_admission::MASTERS;
use plimsoll_admission::bootstrap::node_rules;
use plimsoll_admission::rbac::{Attributes, Rule, Who};
use plimsoll_catalogue::Kind;
use plimsoll_store::Store;
use serde_json::Value;
use tokio::sync::watch;

use crate::access_webhook::AccessWebhook;
use crate::authorize::Rbac;
use crate::follow::{Follower, follow};
use crate::metrics::{Decisions, Metrics};
use crate::object::meta;
use crate::server::StartError;

/// The kinds that lead to nodes.
const LEADING: [(&str, &str); 4] = [
    ("", "pods"),
    ("", "persistentvolumes"),
    ("storage.k8s.io", "volumeattachments"),
    ("resource.k8s.io", "resourceslices"),
];
/// An agent may ask for a pod's objects before the news of the pod's binding is here, too.
const NEWS: Duration = Duration::from_millis(50);

/// All authorizers of the configuration.
pub(crate) struct Authorizers(RwLock<Arc<[(One, Decisions)]>>);

#[derive(Clone)]
enum One {
    Node(Nodes),
    Rbac(Rbac),
    Webhook(Arc<AccessWebhook>),
}

/// What came of asking all of them.
pub(crate) struct Verdict {
    pub(crate) decision: Decision,
    /// What went wrong meanwhile.
    pub(crate) errors: Vec<String>,
}

impl Verdict {
    pub(crate) fn is_allowed(&self) -> bool {
        matches!(self.decision, Decision::Allow(_))
    }
}

impl Authorizers {
    /// Builds what the configuration lists.
    pub(crate) async fn read(
        config: &AuthorizationConfig,
        store: &Store,
        rbac: &Rbac,
        metrics: &Arc<Metrics>,
    ) -> Result<Self, StartError> {
        Ok(Self(RwLock::new(build(config, store, rbac, metrics, &[]).await?)))
    }

    /// Asks these from now on.
    pub(crate) async fn replace(
        &self,
        config: &AuthorizationConfig,
        store: &Store,
        rbac: &Rbac,
        metrics: &Arc<Metrics>,
    ) -> Result<(), StartError> {
        let all = build(config, store, rbac, metrics, &self.now()).await?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = all;
        Ok(())
    }

    fn now(&self) -> Arc<[(One, Decisions)]> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Asks one after the other until one allows or denies.
    pub(crate) async fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Verdict {
        let (mut reasons, mut errors) = (Vec::new(), Vec::new());
        if user.groups.iter().any(|group| group == MASTERS) {
            return Verdict { decision: Decision::Allow(String::new()), errors };
        }
        for (one, decisions) in self.now().iter() {
            let decision = match one {
                One::Node(nodes) => nodes.decide(user, wanted).await,
                One::Rbac(rbac) => rbac.decide(user, wanted),
                One::Webhook(webhook) => {
                    let (decision, error) = webhook.decide(user, wanted).await;
                    errors.extend(error);
                    decision
                }
            };
            decisions.add(&decision);
            match decision {
                Decision::NoOpinion(reason) if reason.is_empty() => {}
                Decision::NoOpinion(reason) => reasons.push(reason),
                decided => return Verdict { decision: decided, errors },
            }
        }
        Verdict { decision: Decision::NoOpinion(reasons.join("\n")), errors }
    }

    /// The rules that hold for a user in a namespace as far as they can be listed, and why they are not
    /// all if they are not.
    pub(crate) fn rules(&self, user: &User, namespace: &str) -> (Vec<Rule>, Vec<&'static str>) {
        let (mut rules, mut missing) = (Vec::new(), Vec::new());
        if user.groups.iter().any(|group| group == MASTERS) {
            let all = || vec!["*".to_owned()];
            rules.push(Rule { verbs: all(), groups: all(), resources: all(), ..Rule::default() });
            rules.push(Rule { verbs: all(), paths: all(), ..Rule::default() });
        }
        for (one, _) in self.now().iter() {
            match one {
                One::Node(_) if identify(user) == Identity::Other => {}
                One::Node(_) => missing.push("node authorizer does not support user rule resolution"),
                One::Rbac(rbac) => {
                    rules.extend(rbac.with(|policy| {
                        policy.rules(Who { name: &user.name, groups: &user.groups }, namespace)
                    }))
                }
                One::Webhook(_) => missing.push("webhook authorizer does not support user rule resolution"),
            }
        }
        (rules, missing)
    }
}

/// What the configuration lists; what follows the store is taken from `known` if it is there.
async fn build(
    config: &AuthorizationConfig,
    store: &Store,
    rbac: &Rbac,
    metrics: &Arc<Metrics>,
    known: &[(One, Decisions)],
) -> Result<Arc<[(One, Decisions)]>, StartError> {
    let mut all = Vec::new();
    for authorizer in &config.0 {
        let decisions = |r#type, name: &str| metrics.access.decisions(r#type, name);
        all.push(match authorizer {
            Authorizer::Node => {
                let followed = known.iter().map(|(one, _)| one).find(|one| matches!(one, One::Node(_)));
                let nodes = followed.cloned().unwrap_or_else(|| One::Node(Nodes::follow(store)));
                (nodes, decisions("Node", "node"))
            }
            Authorizer::Rbac => (One::Rbac(rbac.clone()), decisions("RBAC", "rbac")),
            Authorizer::Webhook(rules) => {
                let webhook = AccessWebhook::read(rules, metrics).await?;
                (One::Webhook(Arc::new(webhook)), decisions("Webhook", &rules.name))
            }
        });
    }
    Ok(all.into())
}

/// What leads to which node, as of now.
#[derive(Clone, Debug)]
struct Nodes {
    graph: Arc<RwLock<Graph>>,
    rules: Arc<[Rule]>,
    news: Arc<watch::Sender<()>>,
}

impl Nodes {
    fn follow(store: &Store) -> Self {
        let nodes = Self {
            graph: Arc::default(),
            rules: node_rules().into(),
            news: Arc::new(watch::Sender::new(())),
        };
        for (group, plural) in LEADING {
            if let Some(kind) = plimsoll_catalogue::find(group, "v1", plural) {
                follow(store, kind, Arc::new(nodes.clone()));
            }
        }
        nodes
    }

    async fn decide(&self, user: &User, wanted: &Attributes<'_>) -> Decision {
        let now = || {
            let graph = self.graph.read().unwrap_or_else(PoisonError::into_inner);
            authorize(&graph, &self.rules, user, wanted)
        };
        if !matches!(identify(user), Identity::Node(_)) {
            return now();
        }
        let mut news = self.news.subscribe();
        let settled = async {
            while let Decision::NoOpinion(_) = now() {
                if news.changed().await.is_err() {
                    return;
                }
            }
        };
        // Either way the answer is what holds then.
        let _ = tokio::time::timeout(NEWS, settled).await;
        now()
    }

    fn change(&self, change: impl FnOnce(&mut Graph)) {
        change(&mut self.graph.write().unwrap_or_else(PoisonError::into_inner));
        self.news.send_replace(());
    }
}

impl Follower for Nodes {
    fn reset(&self, kind: &'static Kind, objects: Vec<Value>) {
        self.change(|graph| {
            graph.remove_all(kind.kind);
            objects.iter().for_each(|object| graph.put(object));
        });
    }

    fn put(&self, _kind: &'static Kind, object: &Value) {
        self.change(|graph| graph.put(object));
    }

    fn remove(&self, kind: &'static Kind, object: &Value) {
        self.change(|graph| graph.remove(kind.kind, meta(object, "namespace"), meta(object, "name")));
    }
}
