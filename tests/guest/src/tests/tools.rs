// SPDX-License-Identifier: GPL-2.0

//! The user-space tools (`tools/`) on real unions. The program is taken along as `/ruaufs/ruaufs`;
//! what it does depends on the name that it is called by.

pub(crate) mod tools_attack;
pub(crate) mod tools_branches;
pub(crate) mod tools_care;
pub(crate) mod tools_commit;
pub(crate) mod tools_helper;
pub(crate) mod tools_plink;
pub(crate) mod tools_powercut;

use std::{
    ffi::OsStr,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Output},
};

use crate::harness::{prelude::*, run::Case};

const PROGRAM: &str = "/ruaufs/ruaufs";

/// The tests of these modules.
pub(crate) fn cases() -> Vec<Case> {
    [
        tools_helper::cases(),
        tools_branches::cases(),
        tools_commit::cases(),
        tools_plink::cases(),
        tools_care::cases(),
        tools_attack::cases(),
        tools_powercut::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// What a program said, and how it ended.
pub(crate) struct Said {
    pub(crate) status: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Said {
    fn of(output: Output) -> Self {
        Said {
            status: output.status.code().unwrap_or(-1),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    /// It must have succeeded; its output.
    #[track_caller]
    pub(crate) fn good(self) -> String {
        assert_eq!(self.status, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// It must have failed with this status, and said something that has these words in it.
    #[track_caller]
    pub(crate) fn bad(self, status: i32, words: &str) {
        let all = format!("{}{}", self.out, self.err);
        assert_eq!(self.status, status, "{all}");
        assert!(all.contains(words), "{words:?} is not in: {all}");
    }
}

/// The tool of this name, ready to run.
pub(crate) fn command(name: &str) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg0(name);
    command
}

/// Runs the tool of this name.
pub(crate) fn tool(name: &str, args: &[&dyn AsRef<OsStr>]) -> Result<Said> {
    run(command(name).args(args.iter().map(|arg| (*arg).as_ref())))
}

/// Runs a program.
pub(crate) fn run(command: &mut Command) -> Result<Said> {
    let output = command
        .output()
        .with_context(|| format!("{command:?} (the tools are there if the filter says tools)"))?;
    Ok(Said::of(output))
}

/// `PATH=PERM`
pub(crate) fn spec(path: &Path, perm: &str) -> String {
    format!("{}={perm}", path.display())
}
