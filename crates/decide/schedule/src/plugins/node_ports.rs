//! Two pods cannot take the same port of a node.

use crate::diagnosis::Reason;
use crate::needs::Needs;
use crate::snapshot::Row;

pub(crate) fn filter(needs: &Needs, row: &Row) -> Result<(), Reason<'static>> {
    let taken = needs.ports.iter().any(|wanted| row.ports.iter().any(|there| there.clashes(wanted)));
    if taken { Err(Reason::Ports) } else { Ok(()) }
}
