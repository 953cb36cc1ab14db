//! System call filters: the engine's own and those of users.
//!
//! A filter of the compiler in use has one action for what matches, so a profile with several
//! actions becomes several filters, of which the kernel takes the strictest verdict.

use std::collections::BTreeMap;
use std::fs;

use plimsoll_cri::v1::SecurityProfile;
use plimsoll_cri::v1::security_profile::ProfileType;
use seccompiler::{TargetArch, compile_from_json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::SpecError;

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;

/// System calls that are refused unless the capability is there; none means always.
const DENIED: [(&str, &[&str]); 13] = [
    (
        "CAP_SYS_ADMIN",
        &[
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "pivot_root",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "swapoff",
            "swapon",
            "umount2",
            "unshare",
        ],
    ),
    ("CAP_BPF", &["bpf"]),
    ("CAP_PERFMON", &["perf_event_open"]),
    ("CAP_SYSLOG", &["syslog"]),
    ("CAP_SYS_BOOT", &["kexec_file_load", "kexec_load", "reboot"]),
    ("CAP_SYS_MODULE", &["delete_module", "finit_module", "init_module"]),
    ("CAP_SYS_PACCT", &["acct"]),
    ("CAP_SYS_PTRACE", &["kcmp", "pidfd_getfd", "process_madvise", "process_vm_readv", "process_vm_writev"]),
    ("CAP_SYS_RAWIO", &["ioperm", "iopl"]),
    ("CAP_SYS_TIME", &["clock_settime", "settimeofday"]),
    ("CAP_SYS_TTY_CONFIG", &["vhangup"]),
    ("CAP_DAC_READ_SEARCH", &["open_by_handle_at"]),
    (
        "",
        &[
            "_sysctl",
            "add_key",
            "create_module",
            "get_kernel_syms",
            "io_uring_enter",
            "io_uring_register",
            "io_uring_setup",
            "keyctl",
            "nfsservctl",
            "query_module",
            "request_key",
            "sysfs",
            "uselib",
            "userfaultfd",
            "ustat",
        ],
    ),
];

/// The flags by which `clone` makes namespaces.
const NAMESPACE_FLAGS: [u64; 8] =
    [0x0002_0000, 0x0200_0000, 0x0400_0000, 0x0800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000, 0x0000_0080];

/// The filters of a profile for a process with `capabilities`.
pub(crate) fn filters(
    profile: Option<&SecurityProfile>,
    privileged: bool,
    capabilities: &[String],
) -> Result<Vec<Vec<u64>>, SpecError> {
    let Some(profile) = profile.filter(|_| !privileged) else { return Ok(Vec::new()) };
    match profile.profile_type() {
        ProfileType::Unconfined => Ok(Vec::new()),
        ProfileType::RuntimeDefault => usual(capabilities),
        ProfileType::Localhost => {
            let fail = |reason: String| SpecError::Seccomp { name: profile.localhost_ref.clone(), reason };
            let text = fs::read(&profile.localhost_ref).map_err(|error| fail(error.to_string()))?;
            let profile = serde_json::from_slice(&text).map_err(|error| fail(error.to_string()))?;
            of_user(&profile).map_err(fail)
        }
    }
}

/// What is refused to a container that says nothing else.
fn usual(capabilities: &[String]) -> Result<Vec<Vec<u64>>, SpecError> {
    let has = |name: &str| capabilities.iter().any(|capability| capability == name);
    let admin = has("CAP_SYS_ADMIN");
    // The greater privilege includes the lesser ones that were split from it.
    let granted =
        |name: &str| has(name) || (admin && matches!(name, "CAP_BPF" | "CAP_PERFMON" | "CAP_SYSLOG"));
    let mut denied: Vec<Value> = Vec::new();
    for (_, names) in DENIED.iter().filter(|(capability, _)| !granted(capability)) {
        denied.extend(names.iter().filter(|name| known(name)).map(|name| json!({ "syscall": name })));
    }
    // Sockets to the hypervisor reach past every namespace.
    denied.push(rule("socket", &[json!({ "index": 0, "type": "dword", "op": "eq", "val": 40 })]));
    let mut found = vec![foreign_numbers()];
    if !admin {
        for flag in NAMESPACE_FLAGS {
            denied.push(rule("clone", &[masked(0, flag, flag)]));
        }
        // Its flags lie in memory where no filter sees them; programs fall back to clone.
        let clone3 = [json!({ "syscall": "clone3" })];
        found.push(compile("allow".into(), json!({ "errno": ENOSYS }), &clone3).map_err(own)?);
    }
    found.push(compile("allow".into(), json!({ "errno": EPERM }), &denied).map_err(own)?);
    Ok(found)
}

fn own(reason: String) -> SpecError {
    SpecError::Seccomp { name: "runtime/default".to_owned(), reason }
}

fn rule(name: &str, arguments: &[Value]) -> Value {
    json!({ "syscall": name, "args": arguments })
}

fn masked(index: usize, mask: u64, value: u64) -> Value {
    json!({ "index": index, "type": "qword", "op": { "masked_eq": mask }, "val": value })
}

/// Refuses the second table of numbers that x86-64 kernels may have, which would pass by all rules.
fn foreign_numbers() -> Vec<u64> {
    const LOAD_NUMBER: (u16, u8, u8, u32) = (0x20, 0, 0, 0);
    const BELOW_GOES_ON: (u16, u8, u8, u32) = (0x35, 0, 1, 0x4000_0000);
    const REFUSE: (u16, u8, u8, u32) = (0x06, 0, 0, 0x0005_0000 | ENOSYS);
    const ALLOW: (u16, u8, u8, u32) = (0x06, 0, 0, 0x7fff_0000);
    [LOAD_NUMBER, BELOW_GOES_ON, REFUSE, ALLOW].map(pack).to_vec()
}

/// One instruction in one number: operation, both jumps, operand.
pub(crate) fn pack((code, jump_true, jump_false, operand): (u16, u8, u8, u32)) -> u64 {
    u64::from(code) << 48 | u64::from(jump_true) << 40 | u64::from(jump_false) << 32 | u64::from(operand)
}

/// A profile file as docker and the OCI runtime document have it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Profile {
    default_action: String,
    default_errno_ret: Option<u32>,
    #[serde(default)]
    syscalls: Vec<Syscalls>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Syscalls {
    names: Vec<String>,
    action: String,
    errno_ret: Option<u32>,
    #[serde(default)]
    args: Option<Vec<Argument>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Argument {
    index: usize,
    value: u64,
    #[serde(default)]
    value_two: u64,
    op: String,
}

fn of_user(profile: &Profile) -> Result<Vec<Vec<u64>>, String> {
    let default = action(&profile.default_action, profile.default_errno_ret)?;
    let mut by_action: BTreeMap<String, (Value, Vec<Value>)> = BTreeMap::new();
    let mut all: Vec<Value> = Vec::new();
    for entry in &profile.syscalls {
        let verdict = action(&entry.action, entry.errno_ret)?;
        let arguments: Vec<Value> = entry.args.iter().flatten().map(condition).collect::<Result<_, _>>()?;
        // Names of other processors and newer kernels are no error, as with other engines.
        for name in entry.names.iter().filter(|name| known(name)) {
            let rule = if arguments.is_empty() { json!({ "syscall": name }) } else { rule(name, &arguments) };
            all.push(rule.clone());
            by_action
                .entry(verdict.to_string())
                .or_insert_with(|| (verdict.clone(), Vec::new()))
                .1
                .push(rule);
        }
    }
    let mut found = vec![foreign_numbers()];
    let allow = Value::from("allow");
    if default != allow {
        // Everything that is named passes here; what is named for another verdict gets it below.
        found.push(compile(default.clone(), allow.clone(), &all)?);
    }
    for (verdict, rules) in
        by_action.into_values().filter(|(verdict, _)| *verdict != allow && *verdict != default)
    {
        found.push(compile(allow.clone(), verdict, &rules)?);
    }
    Ok(found)
}

fn action(name: &str, errno: Option<u32>) -> Result<Value, String> {
    Ok(match name {
        "SCMP_ACT_ALLOW" => json!("allow"),
        "SCMP_ACT_ERRNO" => json!({ "errno": errno.unwrap_or(EPERM) }),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => json!("kill_thread"),
        "SCMP_ACT_KILL_PROCESS" => json!("kill_process"),
        "SCMP_ACT_LOG" => json!("log"),
        "SCMP_ACT_TRAP" => json!("trap"),
        "SCMP_ACT_TRACE" => json!({ "trace": errno.unwrap_or(EPERM) }),
        other => return Err(format!("action {other} is not supported")),
    })
}

fn condition(argument: &Argument) -> Result<Value, String> {
    let plain =
        |op: &str| json!({ "index": argument.index, "type": "qword", "op": op, "val": argument.value });
    Ok(match argument.op.as_str() {
        "SCMP_CMP_EQ" => plain("eq"),
        "SCMP_CMP_NE" => plain("ne"),
        "SCMP_CMP_LT" => plain("lt"),
        "SCMP_CMP_LE" => plain("le"),
        "SCMP_CMP_GT" => plain("gt"),
        "SCMP_CMP_GE" => plain("ge"),
        "SCMP_CMP_MASKED_EQ" => masked(argument.index, argument.value, argument.value_two),
        other => return Err(format!("comparison {other} is not supported")),
    })
}

/// Whether this processor has a system call of that name.
fn known(name: &str) -> bool {
    compile("allow".into(), json!({ "errno": EPERM }), &[json!({ "syscall": name })]).is_ok()
}

fn compile(otherwise: Value, matched: Value, rules: &[Value]) -> Result<Vec<u64>, String> {
    let text = json!({ "main": { "mismatch_action": otherwise, "match_action": matched, "filter": rules } })
        .to_string();
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|error| error.to_string())?;
    let mut programs = compile_from_json(text.as_bytes(), arch).map_err(|error| error.to_string())?;
    let program = programs.remove("main").unwrap_or_default();
    Ok(program.iter().map(|one| pack((one.code, one.jt, one.jf, one.k))).collect())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]
    use super::*;

    #[test]
    fn the_usual_filter_shrinks_with_capabilities() {
        let plain = usual(&[]).unwrap();
        let admin = usual(&["CAP_SYS_ADMIN".to_owned()]).unwrap();
        assert_eq!((plain.len(), admin.len()), (3, 2));
        assert!(plain.last().unwrap().len() > admin.last().unwrap().len());
    }

    #[test]
    fn a_profile_with_three_verdicts() {
        let profile: Profile = serde_json::from_value(json!({
            "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 38,
            "syscalls": [
                { "names": ["read", "write", "no_such_call"], "action": "SCMP_ACT_ALLOW" },
                { "names": ["ptrace"], "action": "SCMP_ACT_KILL_PROCESS" },
                { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
                  "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            ],
        }))
        .unwrap();
        assert_eq!(of_user(&profile).unwrap().len(), 3);
    }

    #[test]
    fn a_verdict_that_needs_a_listener_is_refused() {
        let profile: Profile =
            serde_json::from_value(json!({ "defaultAction": "SCMP_ACT_NOTIFY", "syscalls": [] })).unwrap();
        assert_eq!(of_user(&profile).unwrap_err(), "action SCMP_ACT_NOTIFY is not supported");
    }
}
