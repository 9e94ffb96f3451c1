// SPDX-License-Identifier: GPL-2.0

//! Manual pages and shell completion, made of the definitions of the commands; and ruaufs(5), made
//! of the tables of branch permissions, attributes and mount options.

use std::{fs, path::Path};

use anyhow::{Context, Result};
use clap::{Arg, Command};
use clap_complete::{generate, Shell};
use clap_mangen::Man;
use logic::options::{
    manual::{Group, Row},
    ROWS,
};
use roff::{bold, italic, roman, Inline, Roff};
use ruaufs_user::branch;

use crate::tools;

/// Options that are not the kernel's.
const HELPER: (&str, &str) = (
    "droplvl=N, ephemeral",
    "Only with mount.ruaufs(8), which translates it.",
);

/// What people do, and how.
const EXAMPLES: &[(&str, &str)] = &[
    (
        "Changes go to /changes, and /base stays as it is:",
        "mount -t ruaufs -o br=/changes=rw:/base=ro none /mnt",
    ),
    (
        "The same in /etc/fstab, after what /data is on:",
        "none /mnt ruaufs br=/data/changes=rw:/base=ro,x-systemd.requires-mounts-for=/data 0 0",
    ),
    (
        "A further directory, to be read only, below the writable branch:",
        "mount -o remount,add:1:/module=rr /mnt",
    ),
    (
        "What was changed so far becomes a snapshot:",
        "mount -o remount,mod:/changes=ro+wh,prepend:/changes2=rw /mnt",
    ),
    (
        "New files go where most space is free:",
        "mount -t ruaufs -o br=/disk1=rw:/disk2=rw,create=mfs none /pool",
    ),
];

/// Writes `man/*.5`, `man/*.8` and `completions/{bash,zsh,fish}/*` below a directory.
pub fn write_all(dir: &Path) -> Result<()> {
    let man = dir.join("man");
    fs::create_dir_all(&man).with_context(|| format!("{}", man.display()))?;
    write(&man.join("ruaufs.5"), ruaufs_5().render().as_bytes())?;
    for tool in tools() {
        for name in tool.names {
            let command = (tool.command)().name(*name).disable_help_subcommand(true);
            pages(&man, command.clone(), name)?;
            for (shell, file) in [
                (Shell::Bash, (*name).to_owned()),
                (Shell::Zsh, format!("_{name}")),
                (Shell::Fish, format!("{name}.fish")),
            ] {
                let dir = dir.join("completions").join(shell.to_string());
                fs::create_dir_all(&dir)?;
                let mut text = Vec::new();
                generate(shell, &mut command.clone(), *name, &mut text);
                write(&dir.join(file), &text)?;
            }
        }
    }
    Ok(())
}

/// The page of a command that is called by `words`, and those of its subcommands: `ruaufs branch add`
/// has the page `ruaufs-branch-add(8)`.
fn pages(dir: &Path, command: Command, words: &str) -> Result<()> {
    let name = words.replace(' ', "-");
    let mut command = command.display_name(name.clone()).bin_name(words);
    command.build();
    let man = Man::new(command.clone())
        .title(&name)
        .section("8")
        .source(format!("ruaufs {}", env!("CARGO_PKG_VERSION")))
        .manual("ruaufs");
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    synopsis(&command, words).to_writer(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    if command.get_subcommands().any(|sub| !sub.is_hide_set()) {
        man.render_subcommands_section(&mut page)?;
    }
    page.extend_from_slice(SEE_ALSO.as_bytes());
    write(&dir.join(format!("{name}.8")), &page)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        pages(dir, sub.clone(), &format!("{words} {}", sub.get_name()))?;
    }
    Ok(())
}

/// How a command is called, with the values of its options.
fn synopsis(command: &Command, words: &str) -> Roff {
    let mut line = vec![bold(words)];
    let arguments = command.get_arguments().filter(|arg| !arg.is_hide_set());
    let (positional, options): (Vec<_>, Vec<_>) = arguments.partition(|arg| arg.is_positional());
    for arg in options.into_iter().chain(positional) {
        let (open, close) = match arg.is_required_set() {
            true => (" ", ""),
            false => (" [", "]"),
        };
        line.push(roman(open));
        let long = arg.get_long().map(|long| format!("--{long}"));
        let short = arg.get_short().map(|short| format!("-{short}"));
        let spellings: Vec<_> = short.into_iter().chain(long).collect();
        line.push(bold(spellings.join("|")));
        if arg.get_action().takes_values() {
            let gap = if arg.is_positional() { "" } else { " " };
            line.push(italic(format!("{gap}{}", value(arg))));
        }
        if arg.get_num_args().is_some_and(|n| n.max_values() > 1) {
            line.push(roman("..."));
        }
        line.push(roman(close));
    }
    if command.has_subcommands() {
        line.extend([roman(" "), italic("COMMAND"), roman(" ...")]);
    }
    let mut page = Roff::new();
    page.control("SH", ["SYNOPSIS"]);
    page.text(line);
    page
}

/// What the value of an argument is called.
fn value(arg: &Arg) -> String {
    let names = arg.get_value_names().unwrap_or_default();
    names.join(" ")
}

const SEE_ALSO: &str = "\
.SH \"SEE ALSO\"\n\
.BR ruaufs (8),\n.BR ruaufs (5),\n.BR mount.ruaufs (8),\n.BR auplink (8)\n";

fn write(path: &Path, text: &[u8]) -> Result<()> {
    fs::write(path, text).with_context(|| format!("{}", path.display()))
}

fn ruaufs_5() -> Roff {
    let mut page = Roff::new();
    let version = format!("ruaufs {}", env!("CARGO_PKG_VERSION"));
    page.control("TH", ["RUAUFS", "5", "", version.as_str(), "ruaufs"]);
    section(&mut page, "NAME", "ruaufs - a union of directories");
    page.control("SH", ["SYNOPSIS"]);
    page.text([
        bold("mount -t ruaufs -o br="),
        italic("BRANCH"),
        roman("["),
        bold(":"),
        italic("BRANCH"),
        roman("...]["),
        bold(","),
        italic("OPTION"),
        roman("...] "),
        bold("none "),
        italic("DIRECTORY"),
    ]);
    section(&mut page, "DESCRIPTION", "A union shows several directories, its branches, as one. Of \
        equal names the topmost counts, and directories are merged. What is changed is copied to a \
        writable branch first; the others stay as they are. The type aufs is the same with the face \
        of aufs.");
    page.control("SH", ["BRANCHES"]);
    page.text([
        italic("PATH"),
        roman("["),
        bold("="),
        italic("PERM"),
        roman("["),
        bold("+"),
        italic("ATTR"),
        roman("...]]"),
    ]);
    paragraph(
        &mut page,
        "The path may be any directory. Without a permission the first branch is rw, \
        and all others are ro; those on squashfs and iso9660 are rr. Permissions:",
    );
    for (word, meaning) in branch::permissions() {
        item(&mut page, word, meaning);
    }
    paragraph(&mut page, "Attributes, and the permissions they go with:");
    for (word, fits, meaning) in branch::attributes() {
        item(&mut page, word, &format!("({fits}) {meaning}"));
    }
    page.control("SH", ["OPTIONS"]);
    paragraph(&mut page, "Besides those of all file systems, see mount(8). br, add, ins, append, \
        prepend, del and mod may be followed by a colon instead of the equals sign. An option that the \
        kernel does not support is refused, and the message names it.");
    for group in Group::ALL {
        page.control("SS", [group.title()]);
        for row in ROWS.iter().filter(|row| row.group == group) {
            item(&mut page, &spellings(row), &meaning(row));
        }
        if group == Group::Other {
            item(&mut page, HELPER.0, HELPER.1);
        }
    }
    page.control("SH", ["FILES"]);
    paragraph(
        &mut page,
        "Names beginning with .wh. are reserved on branches, and the union does not \
        show them.",
    );
    for (name, meaning) in [
        (".wh.NAME", "A whiteout: NAME is hidden on lower branches."),
        (
            ".wh..wh..opq",
            "An opaque mark: nothing of its directory on lower branches shows.",
        ),
        (
            ".wh..wh.aufs",
            "At the root of a branch: the file that whiteouts are hard links of.",
        ),
        (
            ".wh..wh.plnk",
            "At the root of a branch: pseudo-links, see auplink(8).",
        ),
        (
            ".wh..wh.orph",
            "At the root of a branch: temporary objects.",
        ),
        (
            ".wh..wh.commit",
            "At the root of a branch: an unfinished ruaufs-commit(8).",
        ),
    ] {
        item(&mut page, name, meaning);
    }
    paragraph(
        &mut page,
        "/sys/fs/aufs/si_ID has a file for each branch of a mounted union; ID is that \
        of si= in the mount table.",
    );
    page.control("SH", ["EXAMPLES"]);
    for (what, line) in EXAMPLES {
        paragraph(&mut page, what);
        page.control("RS", ["4"]);
        page.control("nf", []);
        page.text([roman(*line)]);
        page.control("fi", []);
        page.control("RE", []);
    }
    page.control("SH", ["SEE ALSO"]);
    let seen: [&[Inline]; 4] = [
        &[bold("ruaufs"), roman("(8),")],
        &[bold("mount.ruaufs"), roman("(8),")],
        &[bold("auplink"), roman("(8),")],
        &[bold("mount"), roman("(8)")],
    ];
    for line in seen {
        page.text(line.to_vec());
    }
    page
}

/// All ways to write an option.
fn spellings(row: &Row) -> String {
    let spelling = |(word, syntax): (&str, &str)| match syntax {
        "" => word.to_owned(),
        syntax => format!("{word}={syntax}"),
    };
    row.spellings().map(spelling).collect::<Vec<_>>().join(", ")
}

/// What an option does, and its default.
fn meaning(row: &Row) -> String {
    let words: Vec<_> = row.help.split_whitespace().collect();
    let mut default = Vec::new();
    row.write_default(&mut |part| default.extend_from_slice(part));
    let default = match &default[..] {
        [] => String::new(),
        text => format!(" Default: {}.", String::from_utf8_lossy(text)),
    };
    words.join(" ").replace('`', "") + &default
}

fn section(page: &mut Roff, title: &str, text: &str) {
    page.control("SH", [title]);
    page.text([roman(text)]);
}

fn paragraph(page: &mut Roff, text: &str) {
    page.control("PP", []);
    page.text([roman(text)]);
}

fn item(page: &mut Roff, title: &str, text: &str) {
    page.control("TP", []);
    page.text([bold(title)]);
    page.text([roman(text)]);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The synopsis in the page of a command, and of those in it, says what `--help` says.
    fn as_helped(command: &Command, read: &dyn Fn(&str) -> String) {
        let usage = command.clone().render_usage().to_string();
        let called = usage.trim_start_matches("Usage: ");
        let words: Vec<_> = called
            .split(' ')
            .take_while(|word| !word.starts_with(['[', '<', '-']))
            .collect();
        let page = read(&words.join("-"));
        assert!(!page.is_empty(), "{usage}");
        let line = page.split(".SH SYNOPSIS\n").nth(1).unwrap();
        let line = line.lines().next().unwrap();
        let line = ["\\fB", "\\fI", "\\fR"]
            .iter()
            .fold(line.replace("\\-", "-"), |line, font| {
                line.replace(font, "")
            });
        assert!(line.starts_with(&words.join(" ")), "{usage}: {line}");
        for argument in called.split(' ').skip(words.len()) {
            let bare = argument.trim_matches(['<', '>', '[', ']', '.']);
            assert!(
                ["OPTIONS", "COMMAND"].contains(&bare) || line.contains(bare),
                "{usage}: {line} has no {bare}"
            );
        }
        for arg in command.get_opts() {
            let value = arg
                .get_value_names()
                .map_or_else(String::new, |names| format!(" {}", names.join(" ")));
            let long = arg.get_long().map(|long| format!("--{long}{value}"));
            let short = arg.get_short().map(|short| format!("-{short}{value}"));
            let option = long.or(short).unwrap();
            assert!(line.contains(&option), "{line} has no {option}");
        }
        command
            .get_subcommands()
            .for_each(|sub| as_helped(sub, read));
    }

    #[test]
    fn all_are_written() {
        let dir = tempfile::tempdir().unwrap();
        write_all(dir.path()).unwrap();
        for page in [
            "ruaufs.5",
            "ruaufs.8",
            "ruaufs-commit.8",
            "ruaufs-branch-move.8",
            "mount.ruaufs.8",
            "mount.aufs.8",
            "umount.ruaufs.8",
            "auplink.8",
            "aubusy.8",
            "auibusy.8",
            "auchk.8",
            "aubrsync.8",
            "aumvdown.8",
        ] {
            let text = fs::read_to_string(dir.path().join("man").join(page)).unwrap();
            assert!(text.contains(".TH") && text.contains("SEE ALSO"), "{page}");
        }
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap_or_default();
        for tool in tools() {
            for name in tool.names {
                let mut command = (tool.command)().name(*name).disable_help_subcommand(true);
                command.build();
                as_helped(&command, &|page| read(&format!("man/{page}.8")));
            }
        }
        for (shell, file) in [
            ("bash", "ruaufs"),
            ("zsh", "_auplink"),
            ("fish", "mount.ruaufs.fish"),
        ] {
            assert!(
                !read(&format!("completions/{shell}/{file}")).is_empty(),
                "{file}"
            );
        }
        assert!(read("completions/bash/ruaufs").contains("--remount"));
        let options = read("man/ruaufs.5");
        for (_, line) in EXAMPLES {
            assert!(options.contains(&line.replace('-', "\\-")), "{line}");
        }
        assert!(options.contains("udba=none|reval") && options.contains("Default: udba=reval."));
    }
}
