//! The members of an etcd cluster: whether they can be the store, and in which order they are cared for.
//!
//! What enters is what each member says of itself; what leaves is why they cannot be used, which of them have so much
//! free space that it is worth to give it back, and whose turn it is first.

/// The oldest etcd that can be the store, and why: watches begin at a revision and tell of compaction since then.
const OLDEST: (u32, u32) = (3, 4);
/// What a cluster works as until its members have told each other their versions.
const FIRST: (u32, u32) = (3, 0);
/// Free space below this many bytes stays where it is.
const WORTH: u64 = 64 << 20;

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Where it was asked.
    pub endpoint: String,
    /// Which cluster it belongs to.
    pub cluster: u64,
    /// Who it is.
    pub id: u64,
    /// Who leads, 0: nobody.
    pub leader: u64,
    /// Its version, as `3.5.16`.
    pub version: String,
    /// The version that all members of its cluster work as, if it tells: that of the oldest one.
    pub agreed: Option<String>,
    /// It only learns from the others, and serves nobody.
    pub learner: bool,
    /// What its cluster complains of.
    pub errors: Vec<String>,
    /// Bytes of its database's file.
    pub size: u64,
    /// Those of them that are in use.
    pub in_use: u64,
    /// What they may be; 0: it does not tell.
    pub quota: u64,
}

/// Why members cannot be the store.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// A version without what is needed.
    #[error("etcd at {endpoint} has version {version}: upgrade all members to {}.{} or newer", OLDEST.0, OLDEST.1)]
    Old {
        /// Where.
        endpoint: String,
        /// Its version.
        version: String,
    },
    /// An upgrade that was not finished.
    #[error(
        "etcd at {one} has version {first} and at {other} {second}: finish the upgrade of all members, \
         or go back, before they are the store"
    )]
    Mixed {
        /// Where.
        one: String,
        /// Its version.
        first: String,
        /// And where.
        other: String,
        /// Its version.
        second: String,
    },
    /// Its cluster works as another version: a member that was not named is older, or newer.
    #[error(
        "etcd at {endpoint} has version {version}, and its cluster works as {agreed}: a member of it has another version. \
         Finish the upgrade of all members, or go back, before they are the store"
    )]
    Upgrading {
        /// Where.
        endpoint: String,
        /// Its version.
        version: String,
        /// That of the cluster.
        agreed: String,
    },
    /// Members disagree about what they hold.
    #[error(
        "etcd at {endpoint} says that a member's data is corrupt ({alarm}) and serves nobody: replace that member, and end the \
         alarm (etcdctl alarm disarm)"
    )]
    Corrupt {
        /// Where.
        endpoint: String,
        /// What it says.
        alarm: String,
    },
    /// No member that serves.
    #[error(
        "etcd at {endpoint} is a learner, which serves nobody: name members that vote, or promote it (etcdctl member promote)"
    )]
    Learner {
        /// Where.
        endpoint: String,
    },
    /// Members of different clusters.
    #[error("etcd at {one} and at {other} are of different clusters: name endpoints of one cluster only")]
    Strangers {
        /// Where.
        one: String,
        /// And where.
        other: String,
    },
    /// No member leads.
    #[error(
        "etcd at {endpoint} has no leader: start most of its members, and see that they reach each other"
    )]
    Leaderless {
        /// Where.
        endpoint: String,
    },
}

/// Whether these members can be the store.
///
/// # Errors
/// Why they cannot.
pub fn fit(members: &[Member]) -> Result<(), Unfit> {
    for member in members {
        let (endpoint, version) = (member.endpoint.clone(), member.version.clone());
        if minor(&member.version).is_none_or(|version| version < OLDEST) {
            return Err(Unfit::Old { endpoint, version });
        }
        let Some(first) = members.first().filter(|first| *first != member) else { continue };
        let (one, other) = (first.endpoint.clone(), endpoint);
        if first.cluster != member.cluster {
            return Err(Unfit::Strangers { one, other });
        }
        if minor(&first.version) != minor(&member.version) {
            return Err(Unfit::Mixed { one, first: first.version.clone(), other, second: version });
        }
    }
    members.iter().try_for_each(sound)?;
    let endpoint = || members.first().map(|member| member.endpoint.clone()).unwrap_or_default();
    if members.iter().all(|member| member.leader == 0) {
        return Err(Unfit::Leaderless { endpoint: endpoint() });
    }
    match members.iter().all(|member| member.learner) {
        true => Err(Unfit::Learner { endpoint: endpoint() }),
        false => Ok(()),
    }
}

/// Whether a member's cluster is of one version and of one mind.
fn sound(member: &Member) -> Result<(), Unfit> {
    let (endpoint, version) = (member.endpoint.clone(), member.version.clone());
    if let Some(alarm) = member.errors.iter().find(|error| error.contains("CORRUPT")) {
        return Err(Unfit::Corrupt { endpoint, alarm: alarm.trim().to_owned() });
    }
    let agreed = member.agreed.as_ref().filter(|agreed| minor(agreed).is_some_and(|agreed| agreed != FIRST));
    match agreed.filter(|agreed| minor(agreed) != minor(&version)) {
        Some(agreed) => Err(Unfit::Upgrading { endpoint, version, agreed: agreed.clone() }),
        None => Ok(()),
    }
}

/// The members whose files are worth to be written again, the leader last: while it does so it serves nobody.
#[must_use]
pub fn wasteful(members: &[Member]) -> Vec<&Member> {
    let free = |member: &&Member| {
        let free = member.size.saturating_sub(member.in_use);
        free >= WORTH && free > member.in_use
    };
    in_turn(members).into_iter().filter(free).collect()
}

/// The members, the leader last, each of them once, however many ways lead to it.
#[must_use]
pub fn in_turn(members: &[Member]) -> Vec<&Member> {
    let mut turn: Vec<&Member> = Vec::new();
    for member in members {
        if !turn.iter().any(|known| known.id == member.id) {
            turn.push(member);
        }
    }
    turn.sort_by_key(|member| member.id == member.leader);
    turn
}

fn minor(version: &str) -> Option<(u32, u32)> {
    let mut parts = version.split('.').map(str::parse);
    Some((parts.next()?.ok()?, parts.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: u64, version: &str) -> Member {
        let (cluster, leader, size) = (7, 1, 1 << 20);
        Member {
            endpoint: format!("m{id}"),
            cluster,
            id,
            leader,
            version: version.into(),
            agreed: Some(version.into()),
            learner: false,
            errors: Vec::new(),
            size,
            in_use: size,
            quota: 0,
        }
    }

    #[test]
    fn members_of_one_cluster_and_one_version_fit() {
        let stranger = Member { cluster: 8, ..member(2, "3.5.1") };
        let alone = Member { leader: 0, ..member(1, "3.5.1") };
        let works_as = |agreed: &str| Member { agreed: Some(agreed.into()), ..member(1, "3.5.1") };
        let learner = Member { learner: true, ..member(3, "3.5.1") };
        let corrupt = Member { errors: vec!["memberID:7 alarm:CORRUPT ".into()], ..member(3, "3.5.1") };
        let full = Member { errors: vec!["memberID:7 alarm:NOSPACE ".into()], ..member(3, "3.5.1") };
        let silent = Member { agreed: None, ..member(1, "3.5.1") };
        for (members, says) in [
            (vec![member(1, "3.5.1"), member(2, "3.5.16"), member(3, "3.5.1")], ""),
            (vec![member(1, "3.4.23")], ""),
            (vec![member(1, "3.3.9")], "m1 has version 3.3.9: upgrade all members to 3.4"),
            (vec![member(1, "what")], "m1 has version what"),
            (vec![member(1, "3.4.1"), member(2, "3.5.1")], "m1 has version 3.4.1 and at m2 3.5.1: finish"),
            (vec![member(1, "3.5.1"), stranger], "m1 and at m2 are of different clusters"),
            (vec![alone], "m1 has no leader"),
            (vec![works_as("3.5.0"), member(2, "3.5.1")], ""),
            (vec![works_as("3.4.0")], "m1 has version 3.5.1, and its cluster works as 3.4.0"),
            (vec![works_as("3.3.0")], "m1 has version 3.5.1, and its cluster works as 3.3.0"),
            (vec![works_as("3.6.0")], "m1 has version 3.5.1, and its cluster works as 3.6.0"),
            (vec![works_as("not_decided")], ""),
            (vec![works_as("3.0.0")], ""),
            (vec![silent], ""),
            (vec![member(1, "3.5.1"), learner.clone()], ""),
            (vec![learner], "m3 is a learner"),
            (
                vec![member(1, "3.5.1"), corrupt],
                "m3 says that a member's data is corrupt (memberID:7 alarm:CORRUPT)",
            ),
            (vec![full], ""),
        ] {
            let outcome = fit(&members).map_or_else(|unfit| unfit.to_string(), |()| String::new());
            assert!(outcome.contains(says) && outcome.is_empty() == says.is_empty(), "{outcome}");
        }
    }

    #[test]
    fn the_leader_is_the_last_and_nobody_comes_twice() {
        let full = |id| Member { size: 300 << 20, in_use: 100 << 20, ..member(id, "3.5.1") };
        let dense = Member { size: 300 << 20, in_use: 200 << 20, ..member(4, "3.5.1") };
        let small = Member { size: 60 << 20, in_use: 1 << 20, ..member(5, "3.5.1") };
        let members = [full(1), full(2), full(2), full(3), dense, small];
        let ids = |members: Vec<&Member>| members.iter().map(|member| member.id).collect::<Vec<_>>();
        assert_eq!(ids(in_turn(&members)), [2, 3, 4, 5, 1]);
        assert_eq!(ids(wasteful(&members)), [2, 3, 1]);
    }
}
