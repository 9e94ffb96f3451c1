// SPDX-License-Identifier: GPL-2.0

//! Mounting unions: both mount APIs, both type names, and a guard that insists on a clean umount.

use std::{
    fmt,
    os::fd::{AsFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{ensure, Context, Result};
use rustix::{
    fs::CWD,
    io::Errno,
    mount::{
        fsconfig_create, fsconfig_reconfigure, fsconfig_set_flag, fsconfig_set_string, fsmount,
        fsopen, fspick, move_mount, FsMountFlags, FsOpenFlags, FsPickFlags, MountAttrFlags,
        MountFlags, MoveMountFlags, UnmountFlags,
    },
};

use super::{
    context::{Ctx, Shared},
    scratch::{self, Kind},
    sys::{self, Res},
    tree::Tree,
};

/// How the kernel is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Api {
    /// mount(2), all options in one string: what busybox, Go programs and old mount(8) do.
    Mount2,
    /// fsopen(2) and fsconfig(2), one call for each option: what mount(8) does today.
    Fsopen,
}

/// A refused mount.
#[derive(Debug, Clone)]
pub(crate) struct Refused {
    pub(crate) errno: Errno,
    /// Which call refused it.
    pub(crate) step: String,
    /// Messages read from the fsopen(2) descriptor.
    pub(crate) log: Vec<String>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}: {}; mount API log: {:?}",
            self.step, self.errno, self.log
        )
    }
}

impl std::error::Error for Refused {}

/// What is to be mounted.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) fstype: &'static str,
    pub(crate) api: Api,
    pub(crate) read_only: bool,
    /// Options in order, `KEY` or `KEY=VALUE`, as in a `-o` list.
    pub(crate) options: Vec<String>,
}

impl Spec {
    pub(crate) fn new(options: &[&str]) -> Self {
        Self {
            fstype: "ruaufs",
            api: Api::Fsopen,
            read_only: false,
            options: options.iter().map(|o| (*o).to_owned()).collect(),
        }
    }

    pub(crate) fn api(mut self, api: Api) -> Self {
        self.api = api;
        self
    }

    /// The branches, top first, as `br=` has them, and the other options.
    fn branches(&self) -> (Vec<String>, Vec<String>) {
        let (mut branches, mut rest) = (Vec::new(), Vec::new());
        for option in &self.options {
            match option.strip_prefix("br=") {
                Some(list) => branches.extend(list.split(':').map(str::to_owned)),
                None => rest.push(option.clone()),
            }
        }
        (branches, rest)
    }

    pub(crate) fn mount(&self, target: &Path) -> Result<(), Refused> {
        match self.api {
            Api::Mount2 => self.mount2(target),
            Api::Fsopen => self.fsopen(target),
        }
    }

    fn mount2(&self, target: &Path) -> Result<(), Refused> {
        let data = self.options.join(",");
        let data = std::ffi::CString::new(data).expect("options have no NUL");
        let flags = match self.read_only {
            true => MountFlags::RDONLY,
            false => MountFlags::empty(),
        };
        rustix::mount::mount("none", target, self.fstype, flags, data.as_c_str()).map_err(|errno| {
            Refused {
                errno,
                step: format!("mount(2) {data:?}"),
                log: Vec::new(),
            }
        })
    }

    fn fsopen(&self, target: &Path) -> Result<(), Refused> {
        let refused = |errno, step: &str, log| Refused {
            errno,
            step: step.to_owned(),
            log,
        };
        let fs = fsopen(self.fstype, FsOpenFlags::FSOPEN_CLOEXEC)
            .map_err(|e| refused(e, "fsopen", Vec::new()))?;
        let said = |step: &str| {
            let step = step.to_owned();
            let fs = fs.as_fd();
            move |errno| Refused {
                errno,
                log: messages(fs),
                step,
            }
        };
        fsconfig_set_string(&fs, "source", "none").map_err(said("fsconfig source"))?;
        if self.read_only {
            fsconfig_set_flag(&fs, "ro").map_err(said("fsconfig ro"))?;
        }
        for option in &self.options {
            set(&fs, option).map_err(said(&format!("fsconfig {option:?}")))?;
        }
        fsconfig_create(&fs).map_err(said("FSCONFIG_CMD_CREATE"))?;
        let attrs = match self.read_only {
            true => MountAttrFlags::MOUNT_ATTR_RDONLY,
            false => MountAttrFlags::empty(),
        };
        let mount = fsmount(&fs, FsMountFlags::FSMOUNT_CLOEXEC, attrs).map_err(said("fsmount"))?;
        let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
        move_mount(&mount, "", CWD, target, flags).map_err(said("move_mount"))
    }
}

/// One option as libmount sends it: cut at the first `=`.
fn set(fs: &OwnedFd, option: &str) -> rustix::io::Result<()> {
    match option.split_once('=') {
        Some((key, value)) => fsconfig_set_string(fs, key, value),
        None => fsconfig_set_flag(fs, option),
    }
}

/// All messages waiting on a mount API descriptor.
fn messages(fs: impl AsFd) -> Vec<String> {
    let (mut all, mut buf) = (Vec::new(), vec![0u8; 4096]);
    while let Ok(n) = rustix::io::read(&fs, &mut buf[..]) {
        all.push(String::from_utf8_lossy(&buf[..n]).trim_end().to_owned());
    }
    all
}

/// `remount` through mount(2), all options in one string.
pub(crate) fn remount2(target: &Path, flags: MountFlags, data: &str) -> Res<()> {
    let data = std::ffi::CString::new(data).expect("options have no NUL");
    let result = rustix::mount::mount_remount(target, flags, data.as_c_str());
    sys::at("remount", target, result)
}

/// `remount` through fspick(2) and fsconfig(2).
pub(crate) fn reconfigure(target: &Path, options: &[&str]) -> Result<(), Refused> {
    let step = "fspick".to_owned();
    let fs = fspick(CWD, target, FsPickFlags::FSPICK_CLOEXEC).map_err(|errno| Refused {
        errno,
        step,
        log: Vec::new(),
    })?;
    let said = |step: String, fs: &OwnedFd, errno| Refused {
        errno,
        log: messages(fs),
        step,
    };
    for option in options {
        set(&fs, option).map_err(|e| said(format!("fsconfig {option:?}"), &fs, e))?;
    }
    fsconfig_reconfigure(&fs).map_err(|e| said("FSCONFIG_CMD_RECONFIGURE".to_owned(), &fs, e))
}

/// A remount that changes the branches of a union.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// The top branch becomes `ro+wh` below this one, which is writable.
    Snapshot(PathBuf),
    /// This read-only branch comes, at this place from the top.
    Add(usize, PathBuf),
    /// This branch goes.
    Remove(PathBuf),
}

/// The options that mount `branches`, each `PATH` or `PATH=PERMISSION`.
fn branch_options(api: Api, branches: &[String]) -> Vec<String> {
    match api {
        Api::Mount2 => vec![format!("br={}", branches.join(":"))],
        Api::Fsopen => branches.iter().map(|b| format!("br={b}")).collect(),
    }
}

/// Collects branches and options, then mounts.
pub(crate) struct Builder<'c> {
    cx: &'c Ctx,
    branches: Vec<(PathBuf, String)>,
    spec: Spec,
    failure: Option<anyhow::Error>,
}

impl<'c> Builder<'c> {
    pub(crate) fn new(cx: &'c Ctx) -> Self {
        Self {
            cx,
            branches: Vec::new(),
            spec: Spec::new(&[]),
            failure: None,
        }
    }

    /// A writable branch on the layout's upper file system.
    pub(crate) fn rw(self, tree: Tree) -> Self {
        let kind = self.cx.layout.upper();
        self.on(kind, "rw", tree)
    }

    /// A plain read-only branch on the layout's lower file system.
    pub(crate) fn ro(self, tree: Tree) -> Self {
        let kind = self.cx.next_lower();
        self.on(kind, "ro", tree)
    }

    /// A read-only branch whose whiteouts count.
    pub(crate) fn ro_wh(self, tree: Tree) -> Self {
        let kind = self.cx.next_lower();
        self.on(kind, "ro+wh", tree)
    }

    /// A branch on a file system of the test's choice.
    pub(crate) fn on(mut self, kind: Kind, perm: &str, tree: Tree) -> Self {
        match self.cx.branch(kind, perm, &tree) {
            Ok(path) => self.branches.push((path, perm.to_owned())),
            Err(e) => self.failure = self.failure.or(Some(e)),
        }
        self
    }

    /// A branch that exists already.
    pub(crate) fn at(mut self, path: &Path, perm: &str) -> Self {
        self.branches.push((path.to_owned(), perm.to_owned()));
        self
    }

    pub(crate) fn opt(mut self, option: &str) -> Self {
        self.spec.options.push(option.to_owned());
        self
    }

    pub(crate) fn api(mut self, api: Api) -> Self {
        self.spec.api = api;
        self
    }

    pub(crate) fn fstype(mut self, name: &'static str) -> Self {
        self.spec.fstype = name;
        self
    }

    pub(crate) fn read_only(mut self) -> Self {
        self.spec.read_only = true;
        self
    }

    /// Mounts at a fresh mount point.
    pub(crate) fn mount(mut self) -> Result<Union> {
        if let Some(failure) = self.failure.take() {
            return Err(failure.context("setting up the branches"));
        }
        let show = |(path, perm): &(PathBuf, String)| match perm.as_str() {
            "" => format!("{}", path.display()),
            _ => format!("{}={perm}", path.display()),
        };
        let list: Vec<_> = self.branches.iter().map(show).collect();
        let mut options = branch_options(self.spec.api, &list);
        options.append(&mut self.spec.options);
        self.spec.options = options;
        let branches = self.branches.drain(..).map(|(path, _)| path).collect();
        Union::mount(self.cx, self.spec, branches)
    }
}

/// A mounted union. Dropping it unmounts it, and a busy one is a failure of the test.
pub(crate) struct Union {
    mnt: PathBuf,
    branches: Vec<PathBuf>,
    spec: Spec,
    mounted: bool,
    shared: Arc<Shared>,
}

impl Union {
    /// Mounts a specification at a fresh mount point.
    pub(crate) fn mount(cx: &Ctx, spec: Spec, branches: Vec<PathBuf>) -> Result<Self> {
        let mnt = cx.mount_point()?;
        spec.mount(&mnt)?;
        Ok(Self {
            mnt,
            branches,
            spec,
            mounted: true,
            shared: cx.shared(),
        })
    }

    /// A path in the union; `""` is its root.
    pub(crate) fn at(&self, rel: &str) -> PathBuf {
        below(&self.mnt, rel)
    }

    /// The mount point.
    pub(crate) fn root(&self) -> &Path {
        &self.mnt
    }

    /// A path in a branch; `""` is its root.
    pub(crate) fn br(&self, index: usize, rel: &str) -> PathBuf {
        below(&self.branches[index], rel)
    }

    /// How many branches there are.
    pub(crate) fn count(&self) -> usize {
        self.branches.len()
    }

    /// Changes the branches by a remount; [`Union::again`] mounts those that there are then.
    pub(crate) fn change(&mut self, change: &Change) -> Result<(), Refused> {
        let top = self.br(0, "");
        let options = match change {
            Change::Snapshot(new) => vec![
                format!("mod:{}=ro+wh", top.display()),
                format!("prepend:{}=rw", new.display()),
            ],
            Change::Add(at, new) => vec![format!("add:{at}:{}=ro", new.display())],
            Change::Remove(old) => vec![format!("del:{}", old.display())],
        };
        if let Change::Snapshot(new) = change {
            // The top branch's root is what the union shows as its own.
            let like = |res: Res<()>| res.expect("the new branch is the test's own");
            let old = sys::lstat(&top).expect("the top branch is there");
            like(sys::chown(new, Some(old.st_uid), Some(old.st_gid)));
            like(sys::chmod(new, old.st_mode & 0o7777));
        }
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        reconfigure(&self.mnt, &options)?;
        let (mut list, rest) = self.spec.branches();
        match change {
            Change::Snapshot(new) => {
                list[0] = format!("{}=ro+wh", top.display());
                list.insert(0, format!("{}=rw", new.display()));
                self.branches.insert(0, new.clone());
            }
            Change::Add(at, new) => {
                list.insert(*at, format!("{}=ro", new.display()));
                self.branches.insert(*at, new.clone());
            }
            Change::Remove(old) => {
                if let Some(at) = self.branches.iter().position(|branch| branch == old) {
                    list.remove(at);
                    self.branches.remove(at);
                }
            }
        }
        self.spec.options = branch_options(self.spec.api, &list);
        self.spec.options.extend(rest);
        Ok(())
    }

    /// The object of this name on the lowest branch that has one.
    pub(crate) fn on_branch(&self, rel: &str) -> Option<PathBuf> {
        let paths = self.branches.iter().rev().map(|b| below(b, rel));
        paths.into_iter().find(|p| sys::exists(p))
    }

    /// How it was mounted.
    pub(crate) fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Plain umount(2), which must succeed at once.
    pub(crate) fn umount(mut self) -> Result<()> {
        self.unmount_now()
    }

    /// It was unmounted by another program.
    pub(crate) fn was_unmounted(&mut self) {
        self.mounted = false;
    }

    fn unmount_now(&mut self) -> Result<()> {
        self.mounted = false;
        scratch::umount(&self.mnt).inspect_err(|_| {
            let _ = rustix::mount::unmount(&self.mnt, UnmountFlags::DETACH);
        })
    }

    /// Waits until nothing is left among the orphans of the first branch: directories with more marks
    /// than `dirwh=` are removed by a kernel thread.
    pub(crate) fn settle(&self) -> Result<()> {
        let start = Instant::now();
        while std::fs::read_dir(self.br(0, ".wh..wh.orph"))?.count() != 0 {
            ensure!(start.elapsed() < Duration::from_secs(60), "still there");
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Unmounts and mounts the same again: nothing may depend on what was in memory.
    pub(crate) fn again(&mut self) -> Result<()> {
        if self.mounted {
            self.unmount_now()?;
        }
        self.spec.mount(&self.mnt)?;
        self.mounted = true;
        Ok(())
    }
}

impl Drop for Union {
    fn drop(&mut self) {
        if !self.mounted {
            return;
        }
        if let Err(e) = self.unmount_now() {
            self.shared
                .problem(format!("{e:#} (at the end of the test)"));
        }
    }
}

fn below(root: &Path, rel: &str) -> PathBuf {
    match rel {
        "" => root.to_owned(),
        _ => root.join(rel),
    }
}

/// The line of `/proc/self/mounts` for a mount point, in fields.
pub(crate) fn mounts_line(mnt: &Path) -> Result<Vec<String>> {
    let mounts = std::fs::read_to_string("/proc/self/mounts")?;
    let wanted = mnt.to_string_lossy();
    let line = mounts
        .lines()
        .rev()
        .find(|l| l.split(' ').nth(1) == Some(&*wanted));
    let line = line.with_context(|| format!("{wanted} is not in /proc/self/mounts"))?;
    Ok(line.split(' ').map(str::to_owned).collect())
}
