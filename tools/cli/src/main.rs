// SPDX-License-Identifier: GPL-2.0

//! One program with many names; see `lib.rs`.

fn main() -> std::process::ExitCode {
    ruaufs_tools::main(std::env::args_os().collect())
}
