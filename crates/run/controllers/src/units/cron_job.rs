//! Wires the controllers of CronJobs and of Jobs' time after their end.

use k8s_openapi::api::batch::v1::{CronJob, Job};
use plimsoll_client::Object as _;
use plimsoll_reconcile::cron_job::{self, Observed};
use plimsoll_reconcile::owner::controller_of;
use plimsoll_reconcile::ttl_after_finished;

use crate::unit::{Key, Unit};
use crate::{Context, Error};

/// CronJobs.
pub(crate) fn build(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let cron_jobs = context.informers.informer::<CronJob>();
    let jobs = context.informers.informer::<Job>();
    let unit = unit.input(&cron_jobs, |cron_job| vec![Key::of(cron_job)]).input(&jobs, |job| {
        let owner = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob");
        owner.map(|owner| Key::new(job.namespace(), &owner.name)).into_iter().collect()
    });
    Ok(unit.decide(move |key, now| {
        let Some(cron_job) = cron_jobs.get(&key.namespace, &key.name) else { return Vec::new() };
        let jobs = jobs.owned_by(cron_job.uid());
        let zone = cron_job::zone(cron_job.spec.time_zone.as_deref());
        cron_job::decide(&Observed { cron_job: &cron_job, jobs: &jobs, zone }, now)
    }))
}

/// Ended Jobs whose time is over.
pub(crate) fn ended(context: &Context, unit: Unit) -> Result<Unit, Error> {
    let jobs = context.informers.informer::<Job>();
    let unit = unit.input(&jobs, |job| vec![Key::of(job)]);
    Ok(unit.decide(move |key, now| {
        jobs.get(&key.namespace, &key.name)
            .map(|job| ttl_after_finished::decide(&job, now))
            .unwrap_or_default()
    }))
}
