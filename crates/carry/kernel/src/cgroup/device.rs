//! Which device files the processes of a group may use.
//!
//! Version 1 takes rules as text. Version 2 asks a small program, which is written here instruction
//! by instruction: compare kind, access, major and minor of each rule, the last rule first, because
//! a later rule overrides an earlier one.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::bpf::{self, Instruction};

/// One rule: kind, numbers (`None` is any) and access (some of `rwm`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Whether the rule allows or denies.
    pub allow: bool,
    /// `c`, `b`, or `a` for all devices.
    pub kind: char,
    /// Major number.
    pub major: Option<u32>,
    /// Minor number.
    pub minor: Option<u32>,
    /// Some of read, write and mknod.
    pub access: String,
}

impl DeviceRule {
    /// A rule for all devices.
    #[must_use]
    pub fn all(allow: bool) -> Self {
        Self { allow, kind: 'a', major: None, minor: None, access: "rwm".to_owned() }
    }

    /// Allows a character device.
    #[must_use]
    pub fn character(major: u32, minor: Option<u32>, access: &str) -> Self {
        Self { allow: true, kind: 'c', major: Some(major), minor, access: access.to_owned() }
    }
}

/// The text of version 1: `c 1:3 rwm`; `a` stands alone.
impl fmt::Display for DeviceRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kind == 'a' {
            return f.write_str("a");
        }
        let number = |value: Option<u32>| value.map_or_else(|| "*".to_owned(), |value| value.to_string());
        write!(f, "{} {}:{} {}", self.kind, number(self.major), number(self.minor), self.access)
    }
}

/// Replaces the device program of the group at `dir` (version 2).
pub(super) fn attach(dir: &Path, rules: &[DeviceRule]) -> io::Result<()> {
    bpf::replace_device_program(&File::open(dir)?, &program(rules))
}

/// `bpf_cgroup_dev_ctx`: { u32 access_type (access << 16 | kind); u32 major; u32 minor }.
pub(super) fn program(rules: &[DeviceRule]) -> Vec<Instruction> {
    use bpf::ops::*;
    let mut code = vec![
        load32(R2, R1, 0), // kind and access
        copy(R3, R2),
        and(R2, 0xffff),     // kind
        shift_right(R3, 16), // access
        load32(R4, R1, 4),
        load32(R5, R1, 8),
    ];
    for rule in rules.iter().rev() {
        code.extend(one(rule));
        if rule.kind == 'a' {
            // Decides everything that is left; the kernel refuses code that nothing reaches.
            return code;
        }
    }
    code.extend([set(R0, 0), exit()]);
    code
}

fn one(rule: &DeviceRule) -> Vec<Instruction> {
    use bpf::ops::*;
    let bits = |letter: char| match letter {
        'm' => 1,
        'r' => 2,
        'w' => 4,
        _ => 0,
    };
    let access: i32 = rule.access.chars().map(bits).sum();
    // Each test becomes a jump over the verdict; the distance is known when all are there.
    let mut tests: Vec<Instruction> = Vec::new();
    match rule.kind {
        'b' => tests.push(jump_unless_equal(R2, 1)),
        'c' => tests.push(jump_unless_equal(R2, 2)),
        _ => {}
    }
    if rule.kind != 'a' && access != 7 {
        // An allowing rule must cover all of the access, a denying one any of it.
        tests.extend([copy32(R0, R3), and(R0, if rule.allow { !access & 7 } else { access })]);
        tests.push(if rule.allow { jump_unless_equal(R0, 0) } else { jump_if_equal(R0, 0) });
    }
    if rule.kind != 'a' {
        tests.extend(rule.major.map(|major| jump_unless_equal(R4, major as i32)));
        tests.extend(rule.minor.map(|minor| jump_unless_equal(R5, minor as i32)));
    }
    let total = tests.len();
    for (index, test) in tests.iter_mut().enumerate().filter(|(_, test)| test.is_jump()) {
        test.offset = (total - index - 1 + 2) as i16;
    }
    tests.extend([set(R0, i32::from(rule.allow)), exit()]);
    tests
}
