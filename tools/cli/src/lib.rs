// SPDX-License-Identifier: GPL-2.0

//! The command line tools of ruaufs: `ruaufs`, and aufs's tools under their old names.
//!
//! One program does all; the name it is called by says what. Each command is a module with its
//! definition (a clap `Parser`, of which manual and shell completion are made, too) and a function
//! `run`. What it takes to do the work is in the crate `ruaufs-user`.
//!
//! ```text
//! ruaufs        ruaufs mount|branch|status|diff|commit|check
//! helper        mount.ruaufs, mount.aufs, umount.ruaufs, umount.aufs: run by mount(8), umount(8)
//! auplink       pseudo-links             aubusy  who holds a branch; auibusy  busy inodes
//! auchk         a branch's metadata      aubrsync  a branch into another   aumvdown  a file down
//! change        remounting a union, pseudo-links first;   manual  ruaufs(5)
//! ```

#![forbid(unsafe_code)]

pub mod aubrsync;
pub mod aubusy;
pub mod auchk;
pub mod aumvdown;
pub mod auplink;
pub mod change;
pub mod helper;
pub mod manual;
pub mod ruaufs;

use std::{
    ffi::OsString,
    io::Write,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::{Command, CommandFactory, Parser};
use ruaufs_user::names::{harmless, is_visible, Show};
use rustix::io::Errno;

/// A tool: its names (the first is the usual one), its definition, what it does.
pub struct Tool {
    /// The names.
    pub names: &'static [&'static str],
    /// The definition.
    pub command: fn() -> Command,
    run: fn(&[OsString]) -> Result<ExitCode>,
}

fn tool<T: Parser + CommandFactory>(
    names: &'static [&'static str],
    run: fn(&[OsString]) -> Result<ExitCode>,
) -> Tool {
    Tool {
        names,
        command: T::command,
        run,
    }
}

/// Parses the arguments, or ends the program with a usage message.
fn parse<T: Parser>(args: &[OsString]) -> T {
    // Messages begin with the name that was used.
    let name = called_by(args);
    let command = T::command().display_name(name.clone()).bin_name(name);
    match command
        .try_get_matches_from(args)
        .and_then(|m| T::from_arg_matches(&m))
    {
        Ok(parsed) => parsed,
        Err(e) => e.exit(),
    }
}

/// The name that the program was called by.
fn called_by(args: &[OsString]) -> String {
    let path = args.first().map(PathBuf::from).unwrap_or_default();
    let name = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned());
    name.unwrap_or_else(|| "ruaufs".to_owned())
}

/// All tools.
pub fn tools() -> Vec<Tool> {
    vec![
        tool::<ruaufs::Args>(&["ruaufs"], |args| ruaufs::run(parse(args))),
        tool::<helper::MountArgs>(&["mount.ruaufs", "mount.aufs"], |args| {
            helper::mount(&called_by(args), parse(args))
        }),
        tool::<helper::UmountArgs>(&["umount.ruaufs", "umount.aufs"], |args| {
            helper::umount(parse(args))
        }),
        tool::<auplink::Args>(&["auplink"], |args| auplink::run(parse(args))),
        tool::<aubusy::Args>(&["aubusy"], |args| aubusy::run(parse(args))),
        tool::<aubusy::InodeArgs>(&["auibusy"], |args| aubusy::run_inodes(parse(args))),
        tool::<auchk::Args>(&["auchk"], |args| auchk::run(parse(args))),
        tool::<aubrsync::Args>(&["aubrsync"], |args| aubrsync::run(parse(args))),
        tool::<aumvdown::Args>(&["aumvdown"], |args| aumvdown::run(parse(args))),
    ]
}

/// Runs the tool that the first argument names. A name that is none means `ruaufs`.
pub fn main(args: Vec<OsString>) -> ExitCode {
    let name = called_by(&args);
    // Deep trees, and unions of many branches.
    ruaufs_user::dir::descriptors();
    let mut tools = tools();
    let at = tools
        .iter()
        .position(|tool| tool.names.contains(&name.as_str()));
    let tool = tools.swap_remove(at.unwrap_or(0));
    match (tool.run)(&args) {
        Ok(code) => code,
        Err(e) if is_broken_pipe(&e) => ExitCode::from(BROKEN_PIPE),
        Err(e) => {
            complain(format_args!("{name}: error: {e:#}{}", advice(&e)));
            ExitCode::from(exit_status(&name, &e))
        }
    }
}

/// What may help beside the error itself.
fn advice(error: &anyhow::Error) -> &'static str {
    let refused = matches!(
        ruaufs_user::errno_of(error),
        Some(Errno::PERM | Errno::ACCESS)
    );
    match refused && !rustix::process::geteuid().is_root() {
        true => "; are you root?",
        false => "",
    }
}

/// aufs's auplink ends with the errno, and Docker tries again on one of them.
fn exit_status(name: &str, error: &anyhow::Error) -> u8 {
    let errno = ruaufs_user::errno_of(error).and_then(|e| u8::try_from(e.raw_os_error()).ok());
    match (name, errno) {
        ("auplink", Some(errno)) => errno,
        ("mount.ruaufs" | "mount.aufs" | "umount.ruaufs" | "umount.aufs", _) => 32,
        ("ruaufs", _)
            if error
                .chain()
                .any(|cause| cause.is::<ruaufs_user::commit::Stopped>()) =>
        {
            130
        }
        _ => 1,
    }
}

/// The exit status if nobody reads our output any more: that of programs which SIGPIPE ends.
const BROKEN_PIPE: u8 = 141;

/// Whoever reads our output had enough.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let pipe = |e: &std::io::Error| e.kind() == std::io::ErrorKind::BrokenPipe;
    error
        .chain()
        .any(|cause| cause.downcast_ref().is_some_and(pipe))
}

/// Prints a line; unlike `println!` it does not panic when nobody reads. What could control the
/// terminal is escaped.
fn say(line: impl std::fmt::Display) -> Result<()> {
    Ok(writeln!(
        std::io::stdout(),
        "{}",
        harmless(&line.to_string())
    )?)
}

/// Prints a line for people; that nobody reads it is no reason to stop.
fn complain(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{}", harmless(&line.to_string()));
}

/// Prints a warning.
fn warn(line: impl std::fmt::Display) {
    complain(format_args!("warning: {line}"));
}

/// Prints a value as JSON. What could control the terminal is escaped in JSON's own way.
fn say_json(value: &impl serde::Serialize) -> Result<()> {
    let mut json = String::new();
    for char in serde_json::to_string_pretty(value)?.chars() {
        match is_visible(char) || char == '\n' {
            true => json.push(char),
            // Beyond the control characters, which are escaped already, there are only letters.
            false => char
                .encode_utf16(&mut [0; 2])
                .iter()
                .for_each(|unit| json.push_str(&format!("\\u{unit:04x}"))),
        }
    }
    Ok(writeln!(std::io::stdout(), "{json}")?)
}

/// A path as text for people.
fn text(path: &Path) -> String {
    path.shown()
}

/// A path in JSON: as it is, or, if it is no text, escaped as for people, and in bytes beside that.
#[derive(serde::Serialize)]
struct Exact {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<Vec<u8>>,
}

impl Exact {
    fn of(path: &Path) -> Self {
        match path.to_str() {
            Some(text) => Exact {
                path: text.to_owned(),
                path_bytes: None,
            },
            None => Exact {
                path: text(path),
                path_bytes: Some(path.as_os_str().as_bytes().to_vec()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn definitions_are_sound() {
        for tool in tools() {
            (tool.command)().debug_assert();
            assert_eq!((tool.command)().get_name(), tool.names[0]);
        }
    }

    #[test]
    fn paths_in_json() {
        let json = |path: &[u8]| {
            let path = Path::new(std::ffi::OsStr::from_bytes(path));
            serde_json::to_string(&Exact::of(path)).unwrap()
        };
        assert_eq!(json(b"/n\nl"), r#"{"path":"/n\nl"}"#);
        assert_eq!(json(b"/n\\012l"), r#"{"path":"/n\\012l"}"#);
        assert_eq!(json(b"/\xff"), r#"{"path":"/\\377","path_bytes":[47,255]}"#);
    }

    #[test]
    fn names() {
        let called = |arg: &str| called_by(&[arg.into()]);
        assert_eq!(called("/sbin/mount.aufs"), "mount.aufs");
        assert_eq!(called("auplink"), "auplink");
        assert_eq!(called_by(&[]), "ruaufs");
    }

    #[test]
    fn statuses() {
        use rustix::io::Errno;
        let status =
            |name, errno: Errno| exit_status(name, &anyhow::Error::from(errno).context("x"));
        assert_eq!(status("auplink", Errno::INVAL), 22);
        assert_eq!(status("mount.aufs", Errno::INVAL), 32);
        assert_eq!(status("ruaufs", Errno::INVAL), 1);
        let stopped = anyhow::Error::from(ruaufs_user::commit::Stopped).context("copying");
        assert_eq!(exit_status("ruaufs", &stopped), 130);
    }
}
