//! Settings of the kernel that a node does best with (kubelet: setupKernelTunables, v1.37).

/// Each with its value.
const WANTED: [(&str, i64); 6] = [
    ("vm/overcommit_memory", 1),
    ("vm/panic_on_oom", 0),
    ("kernel/panic", 10),
    ("kernel/panic_on_oops", 1),
    ("kernel/keys/root_maxkeys", 1_000_000),
    ("kernel/keys/root_maxbytes", 25_000_000),
];

/// Checks them; `read` gives the text of one, if the kernel has it.
///
/// # Errors
/// All that are others.
pub fn check(read: impl Fn(&str) -> Option<String>) -> Result<(), String> {
    let problem =
        |(flag, wanted): (&str, i64)| match read(flag).and_then(|text| text.trim().parse::<i64>().ok()) {
            Some(found) if found == wanted => None,
            Some(found) => {
                Some(format!("invalid kernel flag: {flag}, expected value: {wanted}, actual value: {found}"))
            }
            None => Some(format!("open /proc/sys/{flag}: no such file or directory")),
        };
    let problems: Vec<String> = WANTED.into_iter().filter_map(problem).collect();
    match problems.as_slice() {
        [] => Ok(()),
        [one] => Err(one.clone()),
        all => Err(format!("[{}]", all.join(", "))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_named() {
        let right =
            |flag: &str| WANTED.iter().find(|(name, _)| *name == flag).map(|(_, value)| format!("{value}\n"));
        assert_eq!(check(right), Ok(()));
        let other = |flag: &str| if flag == "kernel/panic" { Some("0\n".into()) } else { right(flag) };
        let expected = "invalid kernel flag: kernel/panic, expected value: 10, actual value: 0";
        assert_eq!(check(other), Err(expected.into()));
        let none = check(|flag| if flag == "vm/panic_on_oom" { None } else { other(flag) });
        let missing = "open /proc/sys/vm/panic_on_oom: no such file or directory";
        assert_eq!(none, Err(format!("[{missing}, {expected}]")));
    }
}
