// SPDX-License-Identifier: GPL-2.0

//! What one run of one test owns: its directories, its branches, and the checks made after it.
//!
//! After *every* test [`Ctx::finish`] checks that
//! - nothing is left mounted, and no umount was busy;
//! - read-only branches are untouched, to the inode number and the access time;
//! - writable branches hold no temporary names, and no whiteout beside the object it hides.

use std::{
    cell::{Cell, RefCell},
    fs,
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU32, Ordering},
        Arc, Mutex, MutexGuard,
    },
};

use anyhow::{Context, Result};
use rustix::mount::UnmountFlags;

use super::{
    dir,
    klog::Klog,
    scratch::{self, Kind},
    snapshot::{Scope, Snapshot},
    tree::Tree,
    union::{Builder, Spec, Union},
};

/// Which file systems the branches of a test are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    Tmpfs,
    Ext4,
    Xfs,
    Btrfs,
    /// Read-only branches on squashfs, the writable one on ext4.
    Squashfs,
    /// Read-only branches on iso9660, the writable one on tmpfs.
    Iso9660,
    /// Each read-only branch on another file system, the writable one on ext4.
    Mixed,
    /// Read-only branches are unions themselves, the writable one is on tmpfs.
    Nested,
}

/// The file systems every test runs on.
pub(crate) const BASIC: &[Layout] = &[Layout::Tmpfs, Layout::Ext4];
/// Every file system that can be written.
pub(crate) const WRITABLE: &[Layout] = &[Layout::Tmpfs, Layout::Ext4, Layout::Xfs, Layout::Btrfs];
/// For tests whose lower trees have extended attributes.
pub(crate) const XATTRS: &[Layout] = &[
    Layout::Tmpfs,
    Layout::Ext4,
    Layout::Xfs,
    Layout::Btrfs,
    Layout::Squashfs,
    Layout::Mixed,
];
/// Every layout in which whiteouts of lower branches can be seen.
pub(crate) const WIDE: &[Layout] = &[
    Layout::Tmpfs,
    Layout::Ext4,
    Layout::Xfs,
    Layout::Btrfs,
    Layout::Squashfs,
    Layout::Iso9660,
    Layout::Mixed,
];
/// Everything.
pub(crate) const ALL: &[Layout] = &[
    Layout::Tmpfs,
    Layout::Ext4,
    Layout::Xfs,
    Layout::Btrfs,
    Layout::Squashfs,
    Layout::Iso9660,
    Layout::Mixed,
    Layout::Nested,
];
/// For tests that bring their own file systems.
pub(crate) const ONCE: &[Layout] = &[Layout::Tmpfs];

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::Tmpfs => "tmpfs",
            Layout::Ext4 => "ext4",
            Layout::Xfs => "xfs",
            Layout::Btrfs => "btrfs",
            Layout::Squashfs => "squashfs",
            Layout::Iso9660 => "iso9660",
            Layout::Mixed => "mixed",
            Layout::Nested => "nested",
        }
    }

    /// File system of writable branches.
    pub(crate) fn upper(self) -> Kind {
        match self {
            Layout::Tmpfs | Layout::Iso9660 | Layout::Nested => Kind::Tmpfs,
            Layout::Ext4 | Layout::Squashfs | Layout::Mixed => Kind::Ext4,
            Layout::Xfs => Kind::Xfs,
            Layout::Btrfs => Kind::Btrfs,
        }
    }

    /// File system of the n-th read-only branch.
    fn lower(self, n: usize) -> Kind {
        const MIXED: [Kind; 5] = [
            Kind::Xfs,
            Kind::Squashfs,
            Kind::Tmpfs,
            Kind::Btrfs,
            Kind::Ext4,
        ];
        match self {
            Layout::Squashfs => Kind::Squashfs,
            Layout::Iso9660 => Kind::Iso9660,
            Layout::Nested => Kind::Nested,
            Layout::Mixed => MIXED[n % MIXED.len()],
            other => other.upper(),
        }
    }
}

struct Branch {
    path: PathBuf,
    /// Fingerprint of a read-only branch.
    before: Option<Snapshot>,
    /// Whether its content was made inconsistent on purpose.
    messy: bool,
    /// Whether it became a read-only one: flags that forbid changes stay on what is copied from it.
    frozen: bool,
}

/// The part of a [`Ctx`] that guards keep alive.
pub(crate) struct Shared {
    problems: Mutex<Vec<String>>,
    /// What the kernel may log without being at fault.
    tolerated: Mutex<Vec<&'static str>>,
}

impl Shared {
    /// Fails the test when it ends.
    pub(crate) fn problem(&self, text: String) {
        self.problems().push(text);
    }

    fn problems(&self) -> MutexGuard<'_, Vec<String>> {
        self.problems.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Texts that make a line of the kernel log no defect.
    pub(crate) fn tolerated(&self) -> MutexGuard<'_, Vec<&'static str>> {
        self.tolerated.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Context of a running test.
pub(crate) struct Ctx {
    pub(crate) layout: Layout,
    id: u32,
    next: Cell<u32>,
    lowers: Cell<usize>,
    branches: RefCell<Vec<Branch>>,
    /// Mounted images: mount point and file.
    images: RefCell<Vec<(PathBuf, PathBuf)>>,
    /// Unions that are branches.
    nested: RefCell<Vec<Union>>,
    /// Directories to remove.
    dirs: RefCell<Vec<PathBuf>>,
    klog: Klog,
    said: RefCell<Vec<String>>,
    shared: Arc<Shared>,
}

impl Ctx {
    pub(crate) fn new(layout: Layout) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        Ok(Self {
            layout,
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            next: Cell::new(0),
            lowers: Cell::new(0),
            branches: RefCell::default(),
            images: RefCell::default(),
            nested: RefCell::default(),
            dirs: RefCell::default(),
            klog: Klog::from_now()?,
            said: RefCell::default(),
            shared: Arc::new(Shared {
                problems: Mutex::default(),
                tolerated: Mutex::default(),
            }),
        })
    }

    pub(crate) fn union(&self) -> Builder<'_> {
        Builder::new(self)
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared.clone()
    }

    /// A number that is unique within this test.
    fn number(&self) -> u32 {
        self.next.replace(self.next.get() + 1)
    }

    /// A name for a file system of the test's own.
    pub(crate) fn name(&self) -> String {
        format!("{}-{}", self.id, self.number())
    }

    pub(crate) fn next_lower(&self) -> Kind {
        self.layout
            .lower(self.lowers.replace(self.lowers.get() + 1))
    }

    /// An empty directory on a writable file system.
    pub(crate) fn dir(&self, kind: Kind) -> Result<PathBuf> {
        let parent = scratch::root(kind)?.join(self.id.to_string());
        if !parent.exists() {
            fs::create_dir(&parent)?;
            self.dirs.borrow_mut().push(parent.clone());
        }
        let dir = parent.join(format!("b{}", self.number()));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// An empty directory to mount on.
    pub(crate) fn mount_point(&self) -> Result<PathBuf> {
        let parent = scratch::base().join("u").join(self.id.to_string());
        if !parent.exists() {
            fs::create_dir(&parent)?;
            self.dirs.borrow_mut().push(parent.clone());
        }
        let dir = parent.join(format!("m{}", self.number()));
        fs::create_dir(&dir)?;
        Ok(dir)
    }

    /// Makes a branch. Unless it is `rw`, it must stay as it is until the end of the test.
    pub(crate) fn branch(&self, kind: Kind, perm: &str, tree: &Tree) -> Result<PathBuf> {
        let path = match kind {
            Kind::Squashfs | Kind::Iso9660 => {
                let staging = self.dir(Kind::Tmpfs)?;
                tree.build(&staging)?;
                let (mnt, name) = (self.mount_point()?, self.name());
                let image = scratch::pack(kind, &staging, &name)?;
                fs::remove_dir_all(&staging)?;
                scratch::mount_image(kind, &image, &mnt)?;
                self.images.borrow_mut().push((mnt.clone(), image));
                mnt
            }
            Kind::Nested => {
                let inner = self.branch(Kind::Tmpfs, "ro", tree)?;
                let spec = Spec::new(&[&format!("br={}=ro", inner.display())]);
                let union = Union::mount(self, spec, vec![inner]).context("the inner union")?;
                let mnt = union.root().to_owned();
                self.nested.borrow_mut().push(union);
                mnt
            }
            _ => {
                let dir = self.dir(kind)?;
                tree.build(&dir)?;
                dir
            }
        };
        let before = match perm.starts_with("rw") {
            true => None,
            false => Some(Snapshot::of(&path, Scope::Everything)?),
        };
        self.branches.borrow_mut().push(Branch {
            path: path.clone(),
            before,
            messy: false,
            frozen: false,
        });
        Ok(path)
    }

    /// The test changes this read-only branch itself; from here on it must stay as it is now.
    pub(crate) fn changed_by_hand(&self, path: &Path) -> Result<()> {
        for branch in self.branches.borrow_mut().iter_mut() {
            if branch.path == path && branch.before.is_some() {
                branch.before = Some(Snapshot::of(path, Scope::Everything)?);
            }
        }
        Ok(())
    }

    /// This writable branch became a read-only one when it was as `before`, and must stay so.
    pub(crate) fn stays(&self, path: &Path, before: Snapshot) {
        let mut branches = self.branches.borrow_mut();
        if let Some(branch) = branches.iter_mut().find(|branch| branch.path == path) {
            branch.before = Some(before);
            branch.frozen = true;
        }
    }

    /// This writable branch holds whiteouts beside real objects on purpose.
    pub(crate) fn messy(&self, path: &Path) {
        for branch in self.branches.borrow_mut().iter_mut() {
            branch.messy |= branch.path == path;
        }
    }

    /// The test makes the kernel complain with this text, for which the module is not to blame.
    pub(crate) fn tolerate(&self, text: &'static str) {
        self.shared.tolerated().push(text);
    }

    /// What the kernel logged since the test began.
    pub(crate) fn klog(&self) -> Vec<String> {
        let mut said = self.said.borrow_mut();
        said.extend(self.klog.read());
        said.clone()
    }

    /// Ends the test; returns what is wrong with the state it leaves.
    pub(crate) fn finish(self) -> Vec<String> {
        let problem = |text: String| self.shared.problem(text);
        let expected = self.nested.borrow().len() + self.images.borrow().len();
        let mounts = self.mounted();
        if mounts.len() != expected {
            problem(format!("left mounted: {mounts:?}"));
        }
        for branch in self.branches.borrow().iter() {
            for text in check_branch(branch) {
                problem(format!("branch {}: {text}", branch.path.display()));
            }
        }
        self.nested.borrow_mut().clear();
        for (mnt, image) in self.images.borrow_mut().drain(..).rev() {
            if let Err(e) = scratch::umount(&mnt) {
                problem(format!("{e:#}"));
            }
            let _ = fs::remove_file(image);
        }
        for mnt in self.mounted().iter().rev() {
            let _ = rustix::mount::unmount(mnt, UnmountFlags::DETACH);
        }
        for branch in self.branches.borrow().iter().filter(|b| b.frozen) {
            if let Err(e) = dir::unbind(&branch.path) {
                problem(format!("{e}"));
            }
        }
        for dir in self.dirs.borrow().iter() {
            if let Err(e) = fs::remove_dir_all(dir) {
                problem(format!("removing {}: {e}", dir.display()));
            }
        }
        let problems = self.shared.problems();
        problems.clone()
    }

    /// What is mounted below this test's directories.
    fn mounted(&self) -> Vec<PathBuf> {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let base = scratch::base().join("u").join(self.id.to_string());
        let targets = mounts.lines().filter_map(|l| l.split(' ').nth(1));
        let ours = targets.map(PathBuf::from).filter(|p| p.starts_with(&base));
        ours.collect()
    }
}

/// What is wrong with a branch after a test.
fn check_branch(branch: &Branch) -> Vec<String> {
    let scope = Scope::Everything;
    let now = match Snapshot::of(&branch.path, scope) {
        Ok(now) => now,
        Err(e) => return vec![format!("cannot be read: {e}")],
    };
    match &branch.before {
        Some(before) => {
            let diff = before.diff(&now);
            let changed = |d| format!("read-only, but touched: {d}");
            diff.into_iter().map(changed).collect()
        }
        None => leftovers(&now, branch.messy),
    }
}

/// Names in a writable branch that no finished operation leaves behind.
pub(crate) fn leftovers(now: &Snapshot, messy: bool) -> Vec<String> {
    const BASE: [&str; 4] = [
        ".wh..wh.aufs",
        ".wh..wh.plnk",
        ".wh..wh.orph",
        ".wh..wh.hino",
    ];
    let all: std::collections::BTreeSet<_> = now.paths().collect();
    let mut found = Vec::new();
    for path in &all {
        let (dir, name) = path.rsplit_once('/').unwrap_or(("", path));
        let reserved = name.starts_with(".wh..wh.");
        let mark = name == ".wh..wh..opq" || name.starts_with(".wh..wh..dr.");
        let known = mark || (dir.is_empty() && BASE.contains(&name));
        if reserved && !known {
            found.push(format!("left behind: {path:?}"));
        }
        if dir == ".wh..wh.orph" {
            found.push(format!("left behind: {path:?}"));
        }
        let Some(hidden) = name.strip_prefix(".wh.").filter(|_| !reserved && !messy) else {
            continue;
        };
        let hidden = match dir {
            "" => hidden.to_owned(),
            _ => format!("{dir}/{hidden}"),
        };
        if all.contains(hidden.as_str()) {
            found.push(format!("both {path:?} and {hidden:?} are there"));
        }
    }
    found
}
