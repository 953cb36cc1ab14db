//! The documents that have been asked for, and are still true.
//!
//! Built-in ones are made once. Those of custom kinds are made again when a definition of their group version
//! changed, and only when somebody asks. Making is work for another thread than those that answer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock, Weak};

use jiff::Timestamp;
use plimsoll_catalogue::Kind;

use super::definitions::Custom;
use super::packed::Packed;
use super::{Style, documents, place};
use crate::custom::Definition;

/// Documents by place.
pub(super) type Places = BTreeMap<String, Arc<Packed>>;

/// All documents that are kept.
#[derive(Debug, Default)]
pub(crate) struct Documents {
    kept: RwLock<Arc<Kept>>,
    /// Held by the one thread that makes documents.
    turn: Mutex<()>,
}

#[derive(Clone, Debug, Default)]
struct Kept {
    builtin: Arc<Places>,
    custom: BTreeMap<String, (Seen, Arc<Packed>)>,
    whole: Option<(SeenWhole, Arc<Packed>)>,
}

/// What documents are made of, beside the built-in kinds.
struct Inputs {
    customs: Vec<Custom>,
    extensions: Vec<Arc<Packed>>,
}

/// The definitions that a document was made of.
#[derive(Clone, Debug)]
struct Seen(Vec<(&'static Kind, Weak<Definition>)>);

/// The definitions and parts of extension servers that the document of version 2 was made of.
#[derive(Clone, Debug)]
struct SeenWhole(Seen, Vec<Weak<Packed>>);

impl SeenWhole {
    /// Are these the inputs?
    fn is(&self, inputs: &Inputs) -> bool {
        let Self(customs, extensions) = self;
        let same = |(seen, now): (&Weak<Packed>, &Arc<Packed>)| std::ptr::eq(seen.as_ptr(), Arc::as_ptr(now));
        customs.is(&inputs.customs)
            && extensions.len() == inputs.extensions.len()
            && extensions.iter().zip(&inputs.extensions).all(same)
    }
}

impl Seen {
    fn of(customs: &[Custom]) -> Self {
        Self(customs.iter().map(|(kind, definition)| (*kind, Arc::downgrade(definition))).collect())
    }

    /// Are these the definitions?
    fn is(&self, customs: &[Custom]) -> bool {
        let same = |((kind, seen), (now, definition)): (&(&Kind, Weak<Definition>), &Custom)| {
            std::ptr::eq(*kind, *now) && std::ptr::eq(seen.as_ptr(), Arc::as_ptr(definition))
        };
        self.0.len() == customs.len() && self.0.iter().zip(customs).all(same)
    }
}

impl Documents {
    fn now(&self) -> Arc<Kept> {
        Arc::clone(&self.kept.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The documents of version 3, of every place.
    pub(super) async fn places(self: &Arc<Self>, customs: Vec<Custom>) -> Places {
        self.find(Inputs { customs, extensions: Vec::new() }, Kept::places, Kept::renew).await
    }

    /// The document of version 3 of a place.
    pub(super) async fn place(
        self: &Arc<Self>,
        customs: impl FnOnce() -> Vec<Custom>,
        place: &str,
    ) -> Option<Arc<Packed>> {
        let builtin = self.now().builtin.get(place).cloned();
        match builtin {
            Some(found) => Some(found),
            None => self.places(customs()).await.remove(place),
        }
    }

    /// The document of version 2.
    pub(super) async fn whole(
        self: &Arc<Self>,
        customs: Vec<Custom>,
        extensions: Vec<Arc<Packed>>,
    ) -> Arc<Packed> {
        self.find(Inputs { customs, extensions }, Kept::whole, Kept::renew_whole).await
    }

    /// What is kept, or what is kept after it has been made.
    async fn find<T: Send + 'static>(
        self: &Arc<Self>,
        inputs: Inputs,
        find: fn(&Kept, &Inputs) -> Option<T>,
        renew: fn(&mut Kept, &Inputs),
    ) -> T {
        if let Some(found) = find(&self.now(), &inputs) {
            return found;
        }
        let documents = Arc::clone(self);
        let make = move || {
            let _turn = documents.turn.lock().unwrap_or_else(PoisonError::into_inner);
            let mut next = Kept::clone(&documents.now());
            // Somebody else may have made it while this thread waited.
            if find(&next, &inputs).is_none() {
                renew(&mut next, &inputs);
                *documents.kept.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(next.clone());
            }
            find(&next, &inputs).expect("it has just been made")
        };
        tokio::task::spawn_blocking(make).await.expect("making documents does not panic")
    }
}

impl Kept {
    fn places(&self, inputs: &Inputs) -> Option<Places> {
        if self.builtin.is_empty() {
            return None;
        }
        let mut all = Places::clone(&self.builtin);
        for (place, family) in families(&inputs.customs) {
            let (seen, packed) = self.custom.get(&place)?;
            all.insert(place, seen.is(&family).then(|| Arc::clone(packed))?);
        }
        Some(all)
    }

    fn renew(&mut self, inputs: &Inputs) {
        let made = Timestamp::now();
        if self.builtin.is_empty() {
            let mut all = Places::new();
            documents::builtin_v3(|place, json| {
                all.insert(place, Arc::new(Packed::new(Style::V3, &json, made)));
            });
            self.builtin = Arc::new(all);
        }
        let families = families(&inputs.customs);
        self.custom.retain(|place, _| families.contains_key(place));
        let stale = |place: &String, family: &Vec<Custom>| {
            !self.custom.get(place).is_some_and(|(seen, _)| seen.is(family))
        };
        let (places, changed): (Vec<_>, Vec<_>) =
            families.into_iter().filter(|(place, family)| stale(place, family)).unzip();
        documents::custom_v3(&changed, |at, json| {
            let packed = Arc::new(Packed::new(Style::V3, &json, made));
            self.custom.insert(places[at].clone(), (Seen::of(&changed[at]), packed));
        });
    }

    fn whole(&self, inputs: &Inputs) -> Option<Arc<Packed>> {
        self.whole.as_ref().filter(|(seen, _)| seen.is(inputs)).map(|(_, packed)| Arc::clone(packed))
    }

    fn renew_whole(&mut self, inputs: &Inputs) {
        let Inputs { customs, extensions } = inputs;
        let json = documents::v2(customs, extensions).to_string();
        let packed = Packed::new(Style::V2, json.as_bytes(), Timestamp::now());
        let seen = SeenWhole(Seen::of(customs), extensions.iter().map(Arc::downgrade).collect());
        self.whole = Some((seen, Arc::new(packed)));
    }
}

/// The custom kinds by the place of their document.
fn families(customs: &[Custom]) -> BTreeMap<String, Vec<Custom>> {
    let mut all: BTreeMap<String, Vec<Custom>> = BTreeMap::new();
    for custom in customs {
        all.entry(place(custom.0.group, custom.0.version)).or_default().push(custom.clone());
    }
    all
}
