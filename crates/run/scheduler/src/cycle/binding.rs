//! From the node that was chosen to the binding.

use std::sync::Arc;
use std::time::{Duration, Instant};

use plimsoll_client::EventType;
use plimsoll_schedule::{Change, Plugin, PodInfo, Point};

use super::Cycle;
use crate::extenders::Extender;
use crate::metrics::Ended;
use crate::waiting::Waited;

impl Cycle {
    pub(super) fn assume(&mut self, pod: Arc<PodInfo>, node: String, now: Duration) {
        if let Some((_, attempts)) = self.entered.get_mut(&pod.uid) {
            *attempts = self.queue.attempts(&pod.uid);
        }
        let change = self.scheduler.snapshot.place(pod.clone(), &node);
        self.changed(change);
        self.assumed.insert(pod.uid.clone());
        let writes = |point| self.scheduler.profile(&pod).acts(Plugin::DynamicResources, point);
        if pod.has_device_claims() && writes(Point::Reserve) && writes(Point::PreBind) {
            let begun = Instant::now();
            let booked = self.scheduler.book(&pod, &node);
            let status = if booked.is_some() { "Success" } else { "Error" };
            self.reserved(&pod, Plugin::DynamicResources, status, begun);
            match booked {
                Some(booked) => drop(self.booked.insert(pod.uid.clone(), booked)),
                None => return self.failed(&pod, "cannot allocate all claims".to_owned(), now),
            }
        }
        let begun = Instant::now();
        let reserved = match pod.has_claims() {
            true => self.scheduler.reserve(&pod, &node),
            false => Vec::new(),
        };
        if pod.has_claims() {
            self.reserved(&pod, Plugin::VolumeBinding, "Success", begun);
        }
        if reserved.is_empty() {
            return self.bind(pod, node);
        }
        self.effects.prepare(pod.uid.clone(), reserved.clone());
        let patience = self.scheduler.profile(&pod).bind_timeout;
        self.waiting.add(pod, node, reserved, now + patience);
    }

    fn reserved(&self, pod: &PodInfo, plugin: Plugin, status: &'static str, begun: Instant) {
        let name = &self.scheduler.profile(pod).scheduler_name;
        self.config.metrics.executed(name, (Point::Reserve, plugin), status, begun.elapsed());
    }

    /// The claims of a pod are bound, or never will be.
    pub(super) fn prepared(&mut self, ended: Waited, now: Duration) {
        let Waited { pod, node, reservations, failure } = ended;
        self.scheduler.snapshot.storage.release(&reservations);
        match failure {
            None => self.bind(pod, node),
            Some(why) => {
                self.changed(Change::Storage);
                self.failed(&pod, format!("running PreBind plugin \"VolumeBinding\": {why}"), now);
            }
        }
    }

    pub(super) fn failed(&mut self, pod: &Arc<PodInfo>, why: String, now: Duration) {
        let name = &self.scheduler.profile(pod).scheduler_name;
        self.config.metrics.ended(name, Ended::Error, Duration::ZERO);
        self.tell(pod, EventType::Warning, "FailedScheduling", why);
        self.unbook(&pod.uid);
        if self.assumed.remove(&pod.uid) {
            let change = self.scheduler.snapshot.remove_pod(&pod.uid);
            self.changed(change);
        }
        self.queue.retry(&pod.uid, now);
        // Somebody else has bound it.
        if !self.queue.knows(&pod.uid) {
            self.entered.remove(&pod.uid);
        }
    }

    pub(super) fn bind(&mut self, pod: Arc<PodInfo>, node: String) {
        self.binding += 1;
        let bookings = self.booked.get(&pod.uid).cloned().unwrap_or_default();
        let question = self.question(&pod);
        let binder = question.and_then(|question| question.extenders.into_iter().find(Extender::binds));
        let profile = self.scheduler.profile(&pod);
        self.effects.bind(pod, node, bookings, binder, profile);
    }

    /// The pod's claims on devices get nothing after all.
    pub(super) fn unbook(&mut self, uid: &str) {
        for booking in self.booked.remove(uid).unwrap_or_default() {
            if booking.allocation.is_some() {
                let claim = booking.claim.metadata.uid.as_deref().unwrap_or_default();
                self.scheduler.snapshot.devices.release(claim);
                self.changed(Change::Devices);
            }
        }
    }
}
