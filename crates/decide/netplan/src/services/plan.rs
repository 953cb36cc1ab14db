//! Who gets which frontend, and what to change next.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::rules::{Applied, Difference, Elements};
use super::{Frontend, Handling};

/// Namespace and name of a Service.
pub type ServiceKey = (String, String);

/// The wishes of all Services against what is in the kernel.
///
/// Two Services may want the same frontend (an external address, a port in
/// transition). The first has it; when it lets go, the next one gets it.
#[derive(Debug, Default)]
pub struct Plan {
    applied: Applied,
    wishes: HashMap<ServiceKey, BTreeMap<Frontend, Handling>>,
    claims: BTreeMap<Frontend, Vec<ServiceKey>>,
    touched: BTreeSet<Frontend>,
}

impl Plan {
    /// A plan that starts from the elements found in the kernel. All of them are in question until
    /// their Services are told.
    pub fn found(elements: Elements) -> Self {
        let applied = Applied::found(elements);
        let touched = applied.frontends();
        Self { applied, touched, ..Self::default() }
    }

    /// Starts again from the elements found in the kernel, with the same wishes.
    pub fn find_again(&mut self, elements: Elements) {
        self.applied = Applied::found(elements);
        self.touched = self.applied.frontends();
        self.touched.extend(self.claims.keys());
    }

    /// What is in the kernel.
    pub fn applied(&self) -> &Applied {
        &self.applied
    }

    /// Tells the frontends a Service wants now; none when it is gone.
    pub fn wish(&mut self, service: &ServiceKey, wanted: BTreeMap<Frontend, Handling>) {
        let before = self.wishes.remove(service).unwrap_or_default();
        for frontend in before.keys().filter(|frontend| !wanted.contains_key(frontend)) {
            self.release(frontend, service);
        }
        for (frontend, handling) in &wanted {
            if !before.contains_key(frontend) {
                self.claims.entry(*frontend).or_default().push(service.clone());
            }
            if before.get(frontend) != Some(handling) {
                self.touched.insert(*frontend);
            }
        }
        if !wanted.is_empty() {
            self.wishes.insert(service.clone(), wanted);
        }
    }

    /// What leads from the kernel's state to the wishes told so far.
    pub fn difference(&self) -> Difference {
        let wanted = self.touched.iter().map(|frontend| (*frontend, self.handling(frontend)));
        self.applied.difference(&wanted.collect())
    }

    /// Takes note that the kernel accepted the difference.
    pub fn apply(&mut self, difference: &Difference) {
        self.applied.apply(difference);
        self.touched.clear();
    }

    fn handling(&self, frontend: &Frontend) -> Option<&Handling> {
        let holder = self.claims.get(frontend)?.first()?;
        self.wishes.get(holder)?.get(frontend)
    }

    fn release(&mut self, frontend: &Frontend, service: &ServiceKey) {
        if let Some(claims) = self.claims.get_mut(frontend) {
            claims.retain(|claim| claim != service);
            if claims.is_empty() {
                self.claims.remove(frontend);
            }
        }
        self.touched.insert(*frontend);
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use super::super::Audience;
    use super::super::rules::Part;
    use super::*;
    use crate::endpoints::Protocol;

    fn frontend(port: u16) -> Frontend {
        let address = Some("192.0.2.1".parse().unwrap());
        Frontend { address, protocol: Protocol::Tcp, port, audience: Audience::Everyone }
    }

    fn key(name: &str) -> ServiceKey {
        ("default".to_owned(), name.to_owned())
    }

    fn settle(plan: &mut Plan) -> Difference {
        let difference = plan.difference();
        plan.apply(&difference);
        assert!(plan.difference().is_empty());
        difference
    }

    #[test]
    fn a_contested_frontend_passes_on_when_its_holder_lets_go() {
        let mut plan = Plan::default();
        plan.wish(&key("a"), BTreeMap::from([(frontend(80), Handling::Reject)]));
        plan.wish(
            &key("b"),
            BTreeMap::from([(frontend(80), Handling::Drop), (frontend(81), Handling::Drop)]),
        );
        let added = settle(&mut plan).added;
        assert_eq!(added.iter().map(|(e, _)| e.part).collect::<Vec<_>>(), [Part::Rejected, Part::Dropped]);
        plan.wish(&key("a"), BTreeMap::new());
        let difference = settle(&mut plan);
        assert_eq!((difference.removed[0].part, difference.added[0].0.part), (Part::Rejected, Part::Dropped));
        plan.wish(&key("b"), BTreeMap::new());
        assert_eq!(settle(&mut plan).removed.len(), 2);
        assert!(plan.applied().is_empty());
    }

    #[test]
    fn what_nobody_wants_after_a_restart_goes() {
        let mut plan = Plan::default();
        plan.wish(
            &key("a"),
            BTreeMap::from([(frontend(80), Handling::Reject), (frontend(81), Handling::Drop)]),
        );
        let elements: Elements = settle(&mut plan).added.into_iter().collect();
        let mut restarted = Plan::found(elements);
        restarted.wish(&key("a"), BTreeMap::from([(frontend(80), Handling::Reject)]));
        let difference = settle(&mut restarted);
        assert_eq!((difference.removed.len(), difference.added.len()), (1, 0));
        restarted.find_again(Elements::new());
        assert_eq!(settle(&mut restarted).added.len(), 1, "what somebody else flushed comes back");
    }
}
