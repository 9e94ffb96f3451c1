// SPDX-License-Identifier: GPL-2.0

//! What a commit remembers on disk: UPPER's `.wh..wh.commit/journal`.
//!
//! The first line names LOWER and keeps the times of UPPER's root, which change when the journal is
//! made. Each other line is a file that was copied, and is written only after LOWER was written to
//! disk. A file counts as copied if neither the original (inode, change time) nor the copy (inode,
//! size, modification time) is another one than it was then. A lost line costs one copy.

use std::{collections::HashMap, fs::File, io::Write, os::unix::ffi::OsStrExt, path::Path};

use anyhow::{ensure, Context, Result};
use rustix::fs::{self, Mode, OFlags, Stat};

use crate::{dir::Dir, names, object};

const NAME: &str = "journal";
const FORMAT: &str = "ruaufs-commit-1";
/// After so many files or bytes LOWER is written to disk and the journal to.
const BATCH: (usize, u64) = (512, 256 << 20);

/// How an original and its copy were when it was copied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Copied {
    ino: u64,
    changed: (i64, u64),
    copy_ino: u64,
    copy_size: i64,
    copy_modified: (i64, u64),
}

impl Copied {
    fn of(original: &Stat, copy: &Stat) -> Self {
        Copied {
            ino: original.st_ino,
            changed: (original.st_ctime, original.st_ctime_nsec),
            copy_ino: copy.st_ino,
            copy_size: copy.st_size,
            copy_modified: (copy.st_mtime, copy.st_mtime_nsec),
        }
    }
}

/// The open journal.
pub(super) struct Journal {
    file: File,
    done: HashMap<Vec<u8>, Copied>,
    /// Lines that must wait for LOWER's disk.
    waiting: String,
    count: usize,
    bytes: u64,
    /// UPPER's root as it was before the journal was made.
    pub(super) root_stat: Stat,
}

impl Journal {
    /// Opens or makes it.
    pub(super) fn open(upper: &Dir, lower: &Dir) -> Result<Self> {
        let mut root_stat = upper.stat()?;
        let state = match upper.sub_if_there(names::COMMIT.as_ref())? {
            Some(state) => state,
            None => upper.make_sub(names::COMMIT.as_ref())?,
        };
        let mut done = HashMap::new();
        let flags = OFlags::RDWR | OFlags::APPEND | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let named = || format!("{}", state.path_of(NAME.as_ref()).display());
        let file = match fs::openat(state.fd(), NAME, flags, Mode::empty()) {
            Ok(fd) => {
                let mut file = File::from(fd);
                let mut text = Vec::new();
                std::io::Read::read_to_end(&mut file, &mut text).with_context(named)?;
                let mut lines = text.split(|b| *b == b'\n');
                let header = lines.next().unwrap_or_default();
                read_header(header, lower, &mut root_stat).with_context(named)?;
                done.extend(lines.filter_map(read_line));
                file
            }
            Err(rustix::io::Errno::NOENT) => {
                // Complete, or not there.
                let partial = format!("{NAME}.new");
                object::write_file(
                    &state,
                    partial.as_ref(),
                    header(lower, &root_stat)?.as_bytes(),
                )?
                .sync_all()
                .with_context(named)?;
                state.rename(partial.as_ref(), &state, NAME.as_ref())?;
                File::from(fs::openat(state.fd(), NAME, flags, Mode::empty()).with_context(named)?)
            }
            Err(e) => return Err(e).with_context(named),
        };
        Ok(Journal {
            file,
            done,
            waiting: String::new(),
            count: 0,
            bytes: 0,
            root_stat,
        })
    }

    /// Whether this file was copied, and neither it nor the copy changed since.
    pub(super) fn is_done(&self, path: &Path, original: &Stat, copy: Option<&Stat>) -> bool {
        let then = self.done.get(path.as_os_str().as_bytes());
        match (then, copy) {
            (Some(then), Some(copy)) => *then == Copied::of(original, copy),
            _ => false,
        }
    }

    /// Remembers that this file was copied.
    pub(super) fn add(
        &mut self,
        path: &Path,
        original: &Stat,
        copy: &Stat,
        lower: &Dir,
    ) -> Result<()> {
        let c = Copied::of(original, copy);
        self.waiting.push_str(&format!(
            "{} {}.{} {} {} {}.{} {}\n",
            c.ino,
            c.changed.0,
            c.changed.1,
            c.copy_ino,
            c.copy_size,
            c.copy_modified.0,
            c.copy_modified.1,
            names::escape(path.as_os_str().as_bytes())
        ));
        self.count += 1;
        self.bytes += u64::try_from(original.st_size).unwrap_or_default();
        match self.count >= BATCH.0 || self.bytes >= BATCH.1 {
            true => self.flush(lower),
            false => Ok(()),
        }
    }

    /// Writes LOWER to disk, then what waited for that.
    pub(super) fn flush(&mut self, lower: &Dir) -> Result<()> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        fs::syncfs(lower.fd())
            .with_context(|| format!("writing {} to disk", lower.path().display()))?;
        self.file
            .write_all(self.waiting.as_bytes())
            .context("writing the journal")?;
        self.waiting.clear();
        (self.count, self.bytes) = (0, 0);
        Ok(())
    }
}

fn header(lower: &Dir, root: &Stat) -> Result<String> {
    let stat = lower.stat()?;
    Ok(format!(
        "{FORMAT} {} {}.{} {}.{} {}\n",
        stat.st_ino,
        root.st_atime,
        root.st_atime_nsec,
        root.st_mtime,
        root.st_mtime_nsec,
        names::escape(lower.path().as_os_str().as_bytes())
    ))
}

fn read_header(line: &[u8], lower: &Dir, root: &mut Stat) -> Result<()> {
    let parsed = (|| {
        let line = std::str::from_utf8(line).ok()?;
        let mut words = line.split(' ');
        (words.next()? == FORMAT).then_some(())?;
        let ino: u64 = words.next()?.parse().ok()?;
        let accessed = pair(words.next()?)?;
        let modified = pair(words.next()?)?;
        Some((ino, accessed, modified, words.next()?.to_owned()))
    })();
    let (ino, accessed, modified, path) =
        parsed.context("this is no journal of a commit; move it away if you know what it is")?;
    ensure!(
        ino == lower.stat()?.st_ino,
        "an earlier commit of this branch into {path} was not finished; run it again, with that \
         branch, or remove the directory .wh..wh.commit to give it up (what it did stays)"
    );
    (root.st_atime, root.st_atime_nsec) = (accessed.0, accessed.1 as _);
    (root.st_mtime, root.st_mtime_nsec) = (modified.0, modified.1 as _);
    Ok(())
}

fn read_line(line: &[u8]) -> Option<(Vec<u8>, Copied)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split(' ');
    let copied = Copied {
        ino: words.next()?.parse().ok()?,
        changed: pair(words.next()?)?,
        copy_ino: words.next()?.parse().ok()?,
        copy_size: words.next()?.parse().ok()?,
        copy_modified: pair(words.next()?)?,
    };
    Some((names::unescape(words.next()?.as_bytes()), copied))
}

fn pair(word: &str) -> Option<(i64, u64)> {
    let (seconds, nanoseconds) = word.split_once('.')?;
    Some((seconds.parse().ok()?, nanoseconds.parse().ok()?))
}
