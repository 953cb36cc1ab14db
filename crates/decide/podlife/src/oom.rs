//! What the kernel's log tells of memory that ran out (kubelet: pkg/kubelet/oom; cadvisor: utils/oomparser).
//!
//! What enters are records of `/dev/kmsg` in their order. What leaves are the processes that the kernel ended
//! because the whole machine had no memory left. Who was over a limit of his own group is the business of his
//! container, which is told of as `OOMKilled`.

/// A process that was ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Victim {
    /// Its name, as the kernel knows it.
    pub name: String,
    /// Its id.
    pub pid: u32,
}

impl Victim {
    /// The reason of the node's event.
    pub const REASON: &'static str = "SystemOOM";

    /// The message of the node's event.
    #[must_use]
    pub fn message(&self) -> String {
        let Self { name, pid } = self;
        format!("System OOM encountered, victim process: {name}, pid: {pid}")
    }
}

/// Whose memory ran out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// The machine's, as long as nothing else is said.
    Machine,
    /// That of a group.
    Group,
}

/// Reads the log. One story takes several records.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    whose: Option<Whose>,
}

impl Reader {
    /// Takes in a record; the victim when it is named, and the machine's memory ran out.
    pub fn read(&mut self, record: &str) -> Option<Victim> {
        let (_, text) = record.split_once(';')?;
        if text.contains("invoked oom-killer:") {
            self.whose = Some(Whose::Machine);
        } else if let Some(facts) = text.strip_prefix("oom-kill:") {
            self.whose = Some(group_of(facts));
        } else if let Some((group, _)) =
            text.strip_prefix("Task in ").and_then(|text| text.split_once(" killed as a result of limit of "))
        {
            // Kernels before 5.0.
            self.whose = Some(if group == "/" { Whose::Machine } else { Whose::Group });
        } else if let Some(victim) = victim(text) {
            return self.whose.take().filter(|whose| *whose == Whose::Machine).map(|_| victim);
        }
        None
    }
}

/// From the comma-separated facts about a kill: `oom_memcg` is the group whose limit was reached.
fn group_of(facts: &str) -> Whose {
    let fact = |name: &str| facts.split(',').find_map(|fact| fact.strip_prefix(name)?.strip_prefix('='));
    match (fact("oom_memcg"), fact("task_memcg")) {
        (Some(_), Some("/")) | (None, _) => Whose::Machine,
        (Some(_), _) => Whose::Group,
    }
}

/// From `… Killed process 12 (name) …`.
fn victim(text: &str) -> Option<Victim> {
    let (_, rest) = text.split_once("Killed process ")?;
    let (pid, rest) = rest.split_once(" (")?;
    let (name, _) = rest.split_once(')')?;
    Some(Victim { name: name.to_owned(), pid: pid.parse().ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The victims of a log.
    fn read(log: &[&str]) -> Vec<String> {
        let mut reader = Reader::default();
        let records = log.iter().map(|text| format!("3,7,99,-;{text}"));
        records.filter_map(|record| reader.read(&record)).map(|victim| victim.message()).collect()
    }

    #[test]
    fn only_the_machines_own_want_is_told() {
        let begun =
            "stress invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0";
        let machine = "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,\
                       task_memcg=/kubepods/pod1/c,task=stress,pid=12,uid=0";
        let group = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=c,mems_allowed=0,\
                     oom_memcg=/kubepods/pod1,task_memcg=/kubepods/pod1/c,task=stress,pid=12,uid=0";
        let root = "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,oom_memcg=/,\
                    task_memcg=/,task=stress,pid=12,uid=0";
        let killed = "Out of memory: Killed process 12 (stress) total-vm:8kB, anon-rss:4kB";
        let limited = "Memory cgroup out of memory: Killed process 12 (stress) total-vm:8kB";
        let told = ["System OOM encountered, victim process: stress, pid: 12"];
        let none: [&str; 0] = [];
        let cases: [(&[&str], &[&str]); 9] = [
            (&[begun, machine, killed], &told),
            (&[begun, group, limited], &none),
            (&[begun, root, limited], &told),
            (&[begun, "Mem-Info:", killed], &told),
            (&[begun, "Task in /a/b killed as a result of limit of /a", limited], &none),
            (&[begun, "Task in / killed as a result of limit of /", killed], &told),
            // One story is told once, and one whose beginning is not known is not told.
            (&[begun, machine, killed, "oom_reaper: reaped process 12 (stress)", killed], &told),
            (&[killed], &none),
            (&["usb 1-1: new device", begun, group, limited, begun, machine, killed], &told),
        ];
        for (log, expected) in cases {
            assert_eq!(read(log), expected, "{log:?}");
        }
    }

    #[test]
    fn other_lines_are_left_alone() {
        for record in ["", " SUBSYSTEM=usb", "3,7,99,-;", "3,7,99,-;Killed process x (y)"] {
            assert_eq!(Reader::default().read(record), None);
        }
    }
}
