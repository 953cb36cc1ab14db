//! Signs of life of all nodes: leases four times in the time that they count, statuses every five minutes, spread over
//! that time.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use jiff::Timestamp;
use plimsoll_podlife::simulated::node::conditions;
use tokio::time::{Instant, MissedTickBehavior, interval};

use crate::api::{Api, Refusal};
use crate::nodes::{AT_ONCE, Nodes, make_lease, renew_lease, tell_conditions};

/// How often each node tells its status.
const STATUS: Duration = Duration::from_secs(300);
/// Nodes whose turn comes within this time renew together.
const TICK: Duration = Duration::from_millis(100);

/// Keeps the nodes alive for ever.
pub(crate) async fn run(nodes: Arc<Nodes>, api: Api) {
    nodes.informer.synced().await;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let started = Instant::now();
    let (lease, period) = (nodes.config.lease, nodes.config.lease / 4);
    let status_every = (STATUS.as_micros() / period.as_micros().max(1)).max(1) as usize;
    let mut was_silent = vec![false; nodes.count()];
    // Turns are numbered through: in one round each node has one.
    let mut done = 0;
    loop {
        ticks.tick().await;
        let due = turns(nodes.count(), started.elapsed(), period);
        // Who could not keep up for a whole round has not two turns now.
        let first = done.max(due.saturating_sub(nodes.count()));
        done = due;
        let beats = (first..due).filter_map(|turn| {
            let (round, number) = (turn / nodes.count(), turn % nodes.count());
            let node = nodes.node(number)?;
            let silent = nodes.is_silent(&node, number);
            let back = std::mem::replace(&mut was_silent[number], silent) && !silent;
            let status = back || (round + number) % status_every == status_every - 1;
            (!silent).then_some((node, status))
        });
        let (nodes, api) = (&nodes, &api);
        futures::stream::iter(beats.collect::<Vec<_>>())
            .for_each_concurrent(AT_ONCE, |(node, status)| async move {
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let renewed = match renew_lease(api, name).await {
                    Err(Refusal::Gone) => make_lease(api, name, node.metadata.uid.as_deref(), lease).await,
                    renewed => renewed,
                };
                let told = match status {
                    true => tell_conditions(api, name, conditions(Some(&*node), Timestamp::now())).await,
                    false => Ok(()),
                };
                for why in [renewed, told].into_iter().filter_map(Result::err) {
                    tracing::debug!(nodes = nodes.count(), name, ?why, "simulated node gave no sign of life");
                }
            })
            .await;
    }
}

/// How many turns nodes have had after that time.
fn turns(count: usize, elapsed: Duration, period: Duration) -> usize {
    (count as u128 * elapsed.as_micros() / period.as_micros().max(1)) as usize
}
