// SPDX-License-Identifier: GPL-2.0

//! The table of mount options as manuals show it.

#![forbid(unsafe_code)]

/// Under which title an option is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What the union is made of.
    Branches,
    /// The branch for a new object or a copy.
    Placement,
    /// Changes that somebody makes to a branch.
    Changes,
    /// Whiteouts, opaque marks, removed directories.
    Marks,
    /// Renamed directories.
    Renaming,
    /// Names of one file.
    Links,
    /// Merged directories.
    Listings,
    /// Who may write a branch.
    Claims,
    /// Hierarchical storage management.
    Storage,
    /// Messages.
    Log,
    /// All else.
    Other,
    /// What is accepted, and shown, but changes nothing.
    NoEffect,
    /// What is accepted only.
    Ignored,
}

impl Group {
    /// All groups, in the order of the manuals.
    pub const ALL: [Group; 13] = [
        Group::Branches,
        Group::Placement,
        Group::Changes,
        Group::Marks,
        Group::Renaming,
        Group::Links,
        Group::Listings,
        Group::Claims,
        Group::Storage,
        Group::Log,
        Group::Other,
        Group::NoEffect,
        Group::Ignored,
    ];

    /// Returns the title, which is that of the guide's section on it, if there is one.
    pub const fn title(self) -> &'static str {
        match self {
            Group::Branches => "Branches",
            Group::Placement => "Where changes go",
            Group::Changes => "Changes behind the union's back",
            Group::Marks => "Whiteouts and opaque marks",
            Group::Renaming => "Renamed directories",
            Group::Links => "Pseudo-links",
            Group::Listings => "Reading directories",
            Group::Claims => "Who may have a branch",
            Group::Storage => "Storage management",
            Group::Log => "Messages in the log",
            Group::Other => "Other",
            Group::NoEffect => "Options of aufs without effect",
            Group::Ignored => "Ignored",
        }
    }
}

/// Writes a text, part by part.
pub type Write = fn(&mut dyn FnMut(&[u8]));

/// The default of an option. `/proc/mounts` shows what is not the default.
#[derive(Clone, Copy, Debug)]
pub enum Shown {
    /// There is none, and the option is not shown.
    Never,
    /// On or off.
    Flag(bool),
    /// What this writes.
    Value(Write),
}

/// An option.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Where it is listed.
    pub group: Group,
    /// Its word, then others that mean the same.
    pub words: &'static [&'static str],
    /// The words that turn it off.
    pub off: &'static [&'static str],
    /// What its value looks like; empty if it has none.
    pub syntax: &'static str,
    /// Its default.
    pub default: Shown,
    /// What it does, in lines that begin with a blank.
    pub help: &'static str,
}

impl Row {
    /// Returns all ways to write it: each word with `=` and the value, or without.
    pub fn spellings(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        let on = self.words.iter().map(|&word| (word, self.syntax));
        on.chain(self.off.iter().map(|&word| (word, "")))
    }

    /// Writes the default as it is given.
    pub fn write_default(&self, out: &mut dyn FnMut(&[u8])) {
        let first = |words: &[&'static str]| words.first().copied().unwrap_or_default();
        match self.default {
            Shown::Never => {}
            Shown::Flag(true) => out(first(self.words).as_bytes()),
            Shown::Flag(false) => out(first(self.off).as_bytes()),
            Shown::Value(write) => {
                out(first(self.words).as_bytes());
                out(b"=");
                write(out);
            }
        }
    }
}
