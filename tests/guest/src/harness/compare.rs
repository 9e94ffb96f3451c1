// SPDX-License-Identifier: GPL-2.0

//! The same operations in a plain directory and in a union: they must agree.
//!
//! Each operation gets a tree of its own, in three places: a plain directory, the lower branch of
//! a union, its writable branch. What it says, and what the tree is afterwards, is compared as
//! text, and all differences of a table are reported at once.

use std::{
    fmt::Write,
    path::{Path, PathBuf},
};

use anyhow::{bail, Result};

use super::{
    context::Ctx,
    idmap::UserNs,
    sys::{self, FileType, Res},
    tree::{Tree, MTIME},
};

/// Adds files and directories to a tree, below a prefix that ends with a slash.
pub(crate) type Grow = Box<dyn Fn(Tree, &str) -> Tree>;

/// An operation: its name, and what it does at the root of its tree.
pub(crate) struct Op {
    pub(crate) name: String,
    /// What it needs.
    pub(crate) tree: Grow,
    pub(crate) run: Box<dyn Fn(&Path) -> String + Sync>,
}

/// What a result comes to: its value, or the name of its errno.
pub(crate) fn said<T: std::fmt::Debug>(result: Res<T>) -> String {
    match result {
        Ok(value) => format!("{value:?}"),
        Err(error) => format!("{}", error.errno),
    }
}

/// Runs all of `ops` in a plain directory and in a union.
pub(crate) fn as_native(cx: &Ctx, ops: &[Op]) -> Result<()> {
    compare(cx, ops, None)
}

/// The same through mounts whose ids `ns` maps.
pub(crate) fn as_native_through(cx: &Ctx, ops: &[Op], ns: &UserNs) -> Result<()> {
    compare(cx, ops, Some(ns))
}

fn compare(cx: &Ctx, ops: &[Op], ns: Option<&UserNs>) -> Result<()> {
    let grow = || {
        ops.iter().enumerate().fold(Tree::new(), |tree, (i, op)| {
            (op.tree)(tree.dir(&i.to_string()).mode(0o777), &format!("{i}/"))
        })
    };
    let plain = cx.dir(cx.layout.upper())?;
    grow().build(&plain)?;
    let low = cx.union().rw(Tree::new()).ro(grow()).mount()?;
    let top = cx.union().rw(grow()).ro(Tree::new()).mount()?;
    let roots = [plain.as_path(), low.root(), top.root()];
    let report = match ns {
        None => differences(ops, roots[0], &[("lower", roots[1]), ("upper", roots[2])]),
        Some(ns) => {
            let mounts = [
                ns.mount(cx, roots[0])?,
                ns.mount(cx, roots[1])?,
                ns.mount(cx, roots[2])?,
            ];
            let places = [("lower", mounts[1].root()), ("upper", mounts[2].root())];
            differences(ops, mounts[0].root(), &places)
        }
    };
    match report.as_str() {
        "" => Ok(()),
        report => bail!("{report}"),
    }
}

/// What the operations say differently in `places` than in `plain`.
fn differences(ops: &[Op], plain: &Path, places: &[(&str, &Path)]) -> String {
    let mut report = String::new();
    for (i, op) in ops.iter().enumerate() {
        let run = |at: &Path| {
            let at = at.join(i.to_string());
            format!("{}\n{}", (op.run)(&at), dump(&at))
        };
        let wanted = run(plain);
        for (place, at) in places {
            let got = run(at);
            if got != wanted {
                let _ = writeln!(
                    report,
                    "{} [{place}]:\n plain: {}\n union: {}",
                    op.name,
                    wanted.trim_end().replace('\n', "\n        "),
                    got.trim_end().replace('\n', "\n        ")
                );
            }
        }
    }
    report
}

/// A tree as text: all that two file systems must agree on.
pub(crate) fn dump(root: &Path) -> String {
    let mut out = String::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(rel) = todo.pop() {
        let path = match rel.as_os_str().is_empty() {
            true => root.to_owned(),
            false => root.join(&rel),
        };
        if let Err(error) = describe(&rel, &path, &mut out, &mut todo) {
            let _ = writeln!(out, "{}: {}", rel.display(), error.errno);
        }
    }
    out
}

fn describe(rel: &Path, path: &Path, out: &mut String, todo: &mut Vec<PathBuf>) -> Res<()> {
    let stat = sys::lstat(path)?;
    let kind = sys::kind(&stat);
    let modified = sys::mtime(&stat) != MTIME;
    let _ = write!(
        out,
        "{}: {:o} {}:{}{}",
        rel.display(),
        stat.st_mode,
        stat.st_uid,
        stat.st_gid,
        if modified { " modified" } else { "" }
    );
    match kind {
        FileType::Directory => {
            let mut names: Vec<_> = super::dir::names(path)?.into_iter().collect();
            names.sort_by(|a, b| b.cmp(a));
            todo.extend(names.iter().map(|name| rel.join(name)));
        }
        FileType::RegularFile => {
            let data = sys::read(path)?;
            let start = String::from_utf8_lossy(&data[..data.len().min(40)]).into_owned();
            let _ = write!(
                out,
                " {} bytes {:x} {start:?} nlink {}",
                data.len(),
                super::snapshot::hash(sys::open_ro(path)?)?,
                stat.st_nlink
            );
        }
        FileType::Symlink => {
            let _ = write!(out, " -> {}", sys::readlink(path)?);
        }
        _ => {}
    }
    for name in sys::list_xattr(path)? {
        let value = sys::get_xattr(path, &name)?;
        let _ = write!(out, " {name}={value:?}");
    }
    let _ = writeln!(out);
    Ok(())
}
