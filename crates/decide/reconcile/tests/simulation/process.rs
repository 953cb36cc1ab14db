//! The process of all controllers: queues, caches, and lists of actions that are under way. A restart
//! forgets all of it.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use k8s_openapi::jiff::Timestamp;
use plimsoll_reconcile::action::{Action, Failure, Living};
use plimsoll_reconcile::expectation::{Expectations, Written};
use plimsoll_reconcile::garbage::{self, FOREGROUND, Graph, Node, Owner, OwnerState};

use crate::api::{Answer, Api, Refusal, Stored};
use crate::attaching::{self, Attacher};
use crate::autoscaling::{self, Autoscalers};
use crate::cache::Caches;
use crate::ends;
use crate::heartbeat::{self, Heard};
use crate::storage;
use crate::view::View;
use crate::wiring::{self, Controller, Key, Memory};

/// A list of actions in the middle.
pub(crate) struct Run {
    pub(crate) key: Key,
    pub(crate) actions: VecDeque<Action>,
    /// What was seen when the decision was made.
    view: View,
    written: Vec<Written>,
    again: Option<Duration>,
    /// Whether it tells of a failure, after which the decision is tried again.
    reporting: bool,
}

/// How a request fares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// It is answered.
    Answered,
    /// It never arrives.
    Lost,
    /// It arrives, its answer does not.
    AnswerLost,
}

/// What one request came to.
pub(crate) struct Step {
    pub(crate) key: Key,
    pub(crate) action: Action,
    pub(crate) view: View,
    pub(crate) result: Result<Option<Answer>, Refusal>,
}

/// The process.
pub(crate) struct Process {
    pub(crate) caches: Caches,
    graph: Graph,
    memory: Memory,
    heard: Heard,
    autoscalers: Autoscalers,
    attacher: Attacher,
    /// When each key is due.
    due: BTreeMap<Key, Duration>,
    failures: BTreeMap<Key, u32>,
    expectations: Expectations<Key>,
    pub(crate) runs: Vec<Run>,
}

impl Process {
    /// Lists everything and begins with all of it.
    pub(crate) fn start(api: &Api, now: Duration) -> Self {
        let caches = Caches::list(api);
        let mut process = Self {
            caches,
            graph: Graph::default(),
            memory: Memory::default(),
            heard: Heard::default(),
            autoscalers: Autoscalers::default(),
            attacher: Attacher::default(),
            due: BTreeMap::new(),
            failures: BTreeMap::new(),
            expectations: Expectations::default(),
            runs: Vec::new(),
        };
        let all: Vec<_> = process.caches.everything().map(|(kind, stored)| (kind, stored.clone())).collect();
        for (kind, stored) in all {
            process.wake(api, kind, None, Some(&stored), now);
        }
        process
    }

    /// Takes in the next change of a kind.
    pub(crate) fn hear(&mut self, api: &Api, kind: usize, now: Duration) {
        if let Some((old, new)) = self.caches.advance(api, kind) {
            self.wake(api, kind, old.as_ref(), new.as_ref(), now);
        }
    }

    fn wake(&mut self, api: &Api, kind: usize, old: Option<&Stored>, new: Option<&Stored>, now: Duration) {
        let name = &api.kinds[kind].resource.kind;
        for stored in old.into_iter().chain(new) {
            let keys = wiring::keys(&self.caches, name, &stored.typed);
            let more = [storage::keys, heartbeat::keys, ends::keys, autoscaling::keys, attaching::keys]
                .map(|keys| keys(&self.caches, name, &stored.typed));
            for key in keys.into_iter().chain(more.into_iter().flatten()) {
                self.add(key, now);
            }
        }
        // An object of the same name may be another one.
        let replaced = old.filter(|old| new.is_none_or(|new| new.node.uid != old.node.uid));
        let mut look = replaced.map(|old| self.graph.remove(&old.node.uid)).unwrap_or_default();
        look.extend(new.map(|new| self.graph.upsert((*new.node).clone())).unwrap_or_default());
        for uid in look {
            self.add((Controller::Garbage, (String::new(), uid.to_string())), now);
        }
    }

    fn add(&mut self, key: Key, at: Duration) {
        let due = self.due.entry(key).or_insert(at);
        *due = at.min(*due);
    }

    /// Keys that may be decided about.
    pub(crate) fn ready(&self, now: Duration) -> Vec<Key> {
        let busy = |key: &Key| self.runs.iter().any(|run| run.key == *key);
        self.due.iter().filter(|(key, at)| **at <= now && !busy(key)).map(|(key, _)| key.clone()).collect()
    }

    /// When the next key is due. Nodes that are heard of are looked at for ever, and so are autoscalers.
    pub(crate) fn next(&self) -> Option<Duration> {
        let ends = |key: &Key| !matches!(key.0, Controller::NodeLife | Controller::Autoscaler);
        self.due.iter().filter(|(key, _)| ends(key)).map(|(_, at)| *at).min()
    }

    /// When all autoscalers will have had their turn.
    pub(crate) fn turns(&self) -> Option<Duration> {
        self.due.iter().filter(|(key, _)| key.0 == Controller::Autoscaler).map(|(_, at)| *at).max()
    }

    /// Decides about a key, if the caches show what was written for it; gives whether it did.
    pub(crate) fn decide(&mut self, api: &Api, key: &Key, now: Duration, wall: Timestamp) -> bool {
        self.due.remove(key);
        let caches = &self.caches;
        if !self.expectations.met(key, now, |written| caches.show(written)) {
            self.add(key.clone(), now + Duration::from_millis(200));
            return false;
        }
        let actions = match key.0 {
            Controller::Garbage => self.collect(api, &key.1.1),
            Controller::Binder
            | Controller::Provisioner
            | Controller::ClaimGuard
            | Controller::VolumeGuard => storage::decide(api, &self.caches, key),
            Controller::NamespaceEnd => ends::decide(api, &self.caches, wall),
            Controller::NodeLife | Controller::TaintEviction => {
                self.heard.decide(api, &self.caches, key, wall)
            }
            Controller::Attacher => self.attacher.decide(&self.caches, &key.1, wall),
            Controller::Autoscaler => self.autoscalers.decide(api, &self.caches, &key.1, wall, None),
            _ => wiring::decide(&self.caches, &mut self.memory, key, wall, None),
        };
        self.begin(key.clone(), actions, false);
        true
    }

    fn begin(&mut self, key: Key, actions: Vec<Action>, reporting: bool) {
        let view = View::of(&self.caches, &key).filter(|_| !actions.is_empty()).unwrap_or_default();
        let actions = actions.into();
        self.runs.push(Run { key, actions, view, written: Vec::new(), again: None, reporting });
    }

    /// Takes the next step of a list of actions.
    pub(crate) fn step(
        &mut self,
        api: &mut Api,
        at: usize,
        fate: Fate,
        now: Duration,
        wall: Timestamp,
    ) -> Option<Step> {
        let Some(action) = self.runs[at].actions.pop_front() else {
            self.end(at, now);
            return None;
        };
        if let Action::RequeueAfter(wait) = action {
            let run = &mut self.runs[at];
            run.again = Some(run.again.map_or(wait, |known| known.min(wait)));
            return None;
        }
        let result = match fate {
            Fate::Lost => Err(unreachable()),
            Fate::Answered => Self::send(api, &action, wall),
            Fate::AnswerLost => match Self::send(api, &action, wall) {
                Ok(_) => Err(unreachable()),
                refused => refused,
            },
        };
        let run = &mut self.runs[at];
        let (key, view) = (run.key.clone(), run.view.clone());
        match &result {
            Ok(answer) => run.written.extend(answer.as_ref().map(|answer| written(&action, answer))),
            Err(refusal) => self.fail(api, at, &action, refusal, (now, wall)),
        }
        Some(Step { key, action, view, result })
    }

    fn send(api: &mut Api, action: &Action, wall: Timestamp) -> Result<Option<Answer>, Refusal> {
        match action {
            Action::Create(create) => {
                let kind = api.kind(&create.resource);
                api.create(kind, &create.namespace, create.object.clone(), wall).map(Some)
            }
            Action::Patch(patch) => {
                if patch.guard.as_ref().is_some_and(|guard| !api.lives(guard)) {
                    let message = "the owner is gone or going".to_owned();
                    return Err(Refusal { code: 409, reason: "Conflict", message });
                }
                api.patch(patch).map(Some)
            }
            Action::Delete(delete) => match api.delete(delete, wall) {
                Err(refusal) if refusal.code == 404 => Ok(None),
                other => other.map(Some),
            },
            Action::Replace { target, object, .. } => {
                api.finalize(target, object);
                Ok(None)
            }
            Action::Event(_) | Action::RequeueAfter(_) => Ok(None),
        }
    }

    fn fail(
        &mut self,
        api: &Api,
        at: usize,
        action: &Action,
        refusal: &Refusal,
        (now, wall): (Duration, Timestamp),
    ) {
        let run = self.runs.remove(at);
        self.expectations.add(&run.key, run.written, now);
        if !run.reporting {
            let failure = Failure {
                action: action.clone(),
                code: refusal.code,
                reason: refusal.reason.to_owned(),
                message: refusal.message.clone(),
                causes: (refusal.code == 403)
                    .then(|| "NamespaceTerminating".to_owned())
                    .into_iter()
                    .collect(),
            };
            let (caches, failure) = (&self.caches, Some(&failure));
            let told = match run.key.0 {
                Controller::Autoscaler => self.autoscalers.decide(api, caches, &run.key.1, wall, failure),
                _ => wiring::decide(caches, &mut self.memory, &run.key, wall, failure),
            };
            if !told.is_empty() {
                return self.begin(run.key, told, true);
            }
        }
        self.retry(run.key, now);
    }

    fn end(&mut self, at: usize, now: Duration) {
        let run = self.runs.remove(at);
        self.expectations.add(&run.key, run.written, now);
        if run.reporting {
            return self.retry(run.key, now);
        }
        self.failures.remove(&run.key);
        if let Some(wait) = run.again {
            self.add(run.key, now + wait);
        }
    }

    fn retry(&mut self, key: Key, now: Duration) {
        let failures = self.failures.entry(key.clone()).or_default();
        *failures += 1;
        let wait = Duration::from_millis(5 << (*failures).min(10));
        self.add(key, now + wait);
    }

    fn collect(&self, api: &Api, uid: &str) -> Vec<Action> {
        let Some(node) = self.graph.get(uid) else { return Vec::new() };
        let owners: Vec<_> = node.owners.iter().map(|owner| self.state(api, node, owner)).collect();
        garbage::decide(node, &owners, &self.graph.dependents(uid))
    }

    /// How an owner fares: the graph knows, or else the server.
    fn state(&self, api: &Api, node: &Node, owner: &Owner) -> OwnerState {
        let of = |found: &Node| match found.deleting && found.has(FOREGROUND) {
            true => OwnerState::WaitsForDependents,
            false => OwnerState::Lives,
        };
        if let Some(found) = self.graph.get(&owner.uid) {
            return of(found);
        }
        let name = (node.target.namespace.clone(), owner.name.to_string());
        let found = api.get(api.kind_named(&owner.kind), &name).filter(|found| found.node.uid == owner.uid);
        found.map_or(OwnerState::Absent, |found| of(&found.node))
    }
}

fn written(action: &Action, answer: &Answer) -> Written {
    match action {
        Action::Create(create) => Written::Version(create.resource.clone(), answer.version),
        Action::Patch(patch) => Written::Version(patch.target.resource.clone(), answer.version),
        Action::Delete(delete) => {
            Written::Gone(Living { target: delete.target.clone(), uid: answer.uid.clone() })
        }
        other => panic!("{other:?} writes nothing"),
    }
}

fn unreachable() -> Refusal {
    Refusal { code: 0, reason: "Unreachable", message: "connection reset by peer".to_owned() }
}
