//! One cluster from one seed: a storm of changes and faults, then calm, then rest.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use plimsoll_reconcile::action::{Action, Delete};

use crate::api::Api;
use crate::availability::Floors;
use crate::dice::Dice;
use crate::judge::Judge;
use crate::nodes::{Machines, Weather};
use crate::process::{Fate, Process};
use crate::{attaching, autoscaling, heartbeat, rest, storage, users};

/// Steps of the storm.
const STORM: usize = 500;
/// Rounds after which a cluster that is left alone must rest, and writes that it may need for that.
const ROUNDS: usize = 1500;

/// A cluster.
pub(crate) struct World {
    pub(crate) api: Api,
    pub(crate) process: Process,
    pub(crate) machines: Machines,
    judge: Judge,
    /// What is watched where the weather is always fair.
    floors: Option<Floors>,
    dice: Dice,
    /// A clock that only goes forward, and how far the other one is from it.
    now: Duration,
    skew: SignedDuration,
    nodes_made: usize,
    /// What happened, for those who look at a failing seed.
    pub(crate) story: Vec<String>,
}

impl World {
    pub(crate) fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let mut api = Api::new();
        let now = Duration::from_secs(1);
        let skew =
            SignedDuration::from_secs(1_700_000_000 + i64::try_from(dice.below(60)).unwrap_or_default());
        let floors = dice.permille(250).then(Floors::default);
        // Where the size of things changes, there is no telling how many pods there must be.
        let scaled = floors.is_none() && dice.permille(300);
        api.remote = dice.permille(500);
        users::set_up(&mut api, &mut dice, scaled, wall(now, skew));
        let process = Process::start(&api, now);
        let machines = Machines::default();
        let (judge, story) = (Judge::default(), Vec::new());
        Self { api, process, machines, judge, floors, dice, now, skew, nodes_made: 3, story }
    }

    /// Lives through all of it; an error says which rule was broken.
    pub(crate) fn live(&mut self) -> Result<(), String> {
        for _ in 0..STORM {
            self.storm()?;
        }
        if self.dice.permille(100) {
            self.end_namespace()?;
        }
        users::calm_down(&mut self.api);
        self.come_to_rest()?;
        rest::check(&self.api, &self.judge)?;
        self.stay_at_rest()
    }

    /// Everything is to go, in the middle of the storm.
    fn end_namespace(&mut self) -> Result<(), String> {
        self.note("the namespace is deleted".to_owned());
        self.floors = None;
        let now = self.wall();
        users::end(&mut self.api, now);
        (0..STORM / 4).try_for_each(|_| self.storm())
    }

    fn wall(&self) -> Timestamp {
        wall(self.now, self.skew)
    }

    fn note(&mut self, line: String) {
        self.story.push(format!("{:>8.1}s {line}", self.now.as_secs_f64()));
    }

    fn storm(&mut self) -> Result<(), String> {
        self.now += Duration::from_millis(u64::try_from(self.dice.below(300)).unwrap_or_default());
        match self.dice.below(100) {
            0..30 => self.hear(),
            30..50 => self.decide(),
            50..75 => {
                let fate = match self.dice.below(100) {
                    0..3 => Fate::Lost,
                    3..6 => Fate::AnswerLost,
                    _ => Fate::Answered,
                };
                self.act(fate)?;
            }
            75..93 => self.live_a_pod(),
            93..97 => {
                let now = self.wall();
                let edit = if self.floors.is_some() { users::roll } else { users::edit };
                if let Some(line) = edit(&mut self.api, &mut self.dice, now) {
                    self.note(line);
                }
            }
            _ => self.trouble(),
        }
        self.look()
    }

    fn look(&mut self) -> Result<(), String> {
        self.judge.look(&self.api, &self.machines)?;
        attaching::look(&self.api)?;
        self.floors.as_mut().map_or(Ok(()), |floors| floors.look(&self.api))
    }

    /// A kind's watch tells some of what it has to tell.
    fn hear(&mut self) {
        let kinds: Vec<_> = (0..self.api.kinds.len())
            .filter(|kind| self.process.caches.is_behind(&self.api, *kind))
            .collect();
        let Some(kind) = self.dice.pick(&kinds).copied() else { return };
        for _ in 0..1 + self.dice.below(6) {
            self.process.hear(&self.api, kind, self.now);
        }
    }

    fn decide(&mut self) {
        let ready = self.process.ready(self.now);
        if let Some(key) = self.dice.pick(&ready) {
            let wall = self.wall();
            self.process.decide(&self.api, key, self.now, wall);
        }
    }

    fn act(&mut self, fate: Fate) -> Result<(), String> {
        let runs = self.process.runs.len();
        if runs == 0 {
            return Ok(());
        }
        let at = self.dice.below(runs);
        self.step(at, fate)
    }

    fn step(&mut self, at: usize, fate: Fate) -> Result<(), String> {
        let wall = self.wall();
        let Some(step) = self.process.step(&mut self.api, at, fate, self.now, wall) else { return Ok(()) };
        let result = match &step.result {
            Ok(_) => "ok".to_owned(),
            Err(refusal) => format!("{} {} {}", refusal.code, refusal.reason, refusal.message),
        };
        self.note(format!("{:?} {}: {} → {result} {fate:?}", step.key.0, step.key.1.1, line(&step.action)));
        if let Some(floors) = &mut self.floors {
            floors.after(&self.api, &step);
        }
        self.judge.after(&self.api, &step, fate)
    }

    fn live_a_pod(&mut self) {
        if self.dice.permille(150) {
            attaching::serve(&mut self.api);
        }
        if self.dice.permille(50) {
            storage::clean(&mut self.api);
            heartbeat::beat(&mut self.api);
        }
        let pods = self.api.all::<Pod>();
        if let Some(pod) = self.dice.pick(&pods) {
            let now = self.wall();
            let weather = if self.floors.is_some() { Weather::Fair } else { Weather::Rough };
            self.machines.step(&mut self.api, pod, weather, &mut self.dice, now);
        }
    }

    /// Something breaks.
    fn trouble(&mut self) {
        match self.dice.below(10) {
            3.. if self.floors.is_some() => {}
            0..3 => {
                self.note("restart".to_owned());
                self.process = Process::start(&self.api, self.now);
            }
            3..6 => {
                let seconds = i64::try_from(self.dice.below(400)).unwrap_or_default() - 60;
                self.note(format!("the clock jumps by {seconds} s"));
                self.skew += SignedDuration::from_secs(seconds);
            }
            6 => self.lose_node(),
            7 => self.silence_or_hear(),
            _ => {
                let name = format!("n{}", self.nodes_made);
                self.nodes_made += 1;
                self.note(format!("node {name} comes"));
                let now = self.wall();
                users::add_node(&mut self.api, &name, now);
            }
        }
    }

    /// A node falls silent, or one that is silent turns out to be off, or comes back.
    fn silence_or_hear(&mut self) {
        let now = self.wall();
        let silent: Vec<_> = self.api.silent.keys().cloned().collect();
        let Some(node) = self.dice.pick(&silent).cloned().filter(|_| self.dice.permille(600)) else {
            let nodes = self.api.all::<Node>();
            let node = self.dice.pick(&nodes).and_then(|node| node.metadata.name.clone()).unwrap_or_default();
            self.note(format!("node {node} falls silent"));
            return heartbeat::fall_silent(&mut self.api, &node, now);
        };
        if self.dice.permille(400) {
            self.note(format!("node {node} is off"));
            self.machines.lose(&node);
            heartbeat::mark_out_of_service(&mut self.api, &node);
        } else {
            self.hear_again(&node);
        }
    }

    fn hear_again(&mut self, node: &str) {
        self.note(format!("node {node} comes back"));
        heartbeat::come_back(&mut self.api, node);
        self.machines.settle(&self.api, node);
    }

    fn lose_node(&mut self) {
        let nodes = self.api.all::<Node>();
        if nodes.len() < 2 {
            return;
        }
        let Some(node) = self.dice.pick(&nodes) else { return };
        let name = node.metadata.name.clone().unwrap_or_default();
        self.note(format!("node {name} is lost"));
        self.machines.lose(&name);
        self.api.silent.remove(&name);
        let now = self.wall();
        let delete: Delete = Action::delete(&**node);
        // It was there a moment ago.
        let _ = self.api.delete(&delete, now);
    }

    /// Everybody does what there is to do, until there is nothing.
    fn come_to_rest(&mut self) -> Result<(), String> {
        self.note("calm".to_owned());
        let silent: Vec<_> = self.api.silent.keys().cloned().collect();
        silent.iter().for_each(|node| self.hear_again(node));
        let (mut seen, mut quiet) = (0, 0);
        for _ in 0..ROUNDS {
            if self.round()? {
                continue;
            }
            quiet = if seen == self.api.version { quiet } else { 0 };
            seen = self.api.version;
            let next = match self.process.next() {
                Some(next) => next,
                // All autoscalers have looked at this very state, and left it: of two turns one may be none, if
                // the clock was set back.
                None if quiet > 2 && autoscaling::check(&self.api).is_ok() => return Ok(()),
                None => {
                    quiet += 1;
                    self.process.turns().unwrap_or_default()
                }
            };
            self.now = self.now.max(next);
        }
        autoscaling::check(&self.api)?;
        Err(format!("never comes to rest: {:?} are due", self.process.ready(self.now)))
    }

    /// One round of everybody; tells whether there was anything to do.
    fn round(&mut self) -> Result<bool, String> {
        let mut busy = false;
        for kind in 0..self.api.kinds.len() {
            while self.process.caches.is_behind(&self.api, kind) {
                self.process.hear(&self.api, kind, self.now);
                busy = true;
            }
        }
        while !self.process.runs.is_empty() {
            self.step(0, Fate::Answered)?;
            busy = true;
        }
        for key in self.process.ready(self.now) {
            let wall = self.wall();
            self.process.decide(&self.api, &key, self.now, wall);
            busy = true;
        }
        for pod in self.api.all::<Pod>() {
            let now = self.wall();
            busy |= self.machines.step(&mut self.api, &pod, Weather::Fair, &mut self.dice, now);
        }
        busy |=
            storage::clean(&mut self.api) | heartbeat::beat(&mut self.api) | attaching::serve(&mut self.api);
        self.look()?;
        Ok(busy)
    }

    /// A cluster at rest stays as it is, also when its controllers begin anew and look at everything.
    fn stay_at_rest(&mut self) -> Result<(), String> {
        self.process = Process::start(&self.api, self.now);
        let version = self.api.version;
        let before = self.story.len();
        for _ in 0..20 {
            if !self.round()? {
                break;
            }
        }
        if self.api.version != version {
            return Err(format!("does not stay at rest: {:#?}", &self.story[before..]));
        }
        Ok(())
    }
}

fn wall(now: Duration, skew: SignedDuration) -> Timestamp {
    let now = SignedDuration::try_from(now).expect("a simulation lasts minutes");
    Timestamp::UNIX_EPOCH.checked_add(skew + now).expect("in range")
}

/// An action in one line.
fn line(action: &Action) -> String {
    match action {
        Action::Create(create) => format!("create {}", create.resource.kind),
        Action::Patch(patch) => {
            let door = patch.subresource.unwrap_or_default();
            format!("patch {} {} {door} {}", patch.target.resource.kind, patch.target.name, patch.body)
        }
        Action::Delete(delete) => format!("delete {} {}", delete.target.resource.kind, delete.target.name),
        Action::Event(note) => format!("event {} {}", note.reason, note.message),
        other => format!("{other:?}"),
    }
}
