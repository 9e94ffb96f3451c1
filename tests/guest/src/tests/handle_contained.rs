// SPDX-License-Identifier: GPL-2.0

//! What forged, mutated and old file handles give: nothing that the union does not show.
//!
//! A handle of a union has the handle of an object on a branch in it
//! (`rust/logic/handle.rs`). Whoever holds one can put another in its place.

use std::{
    collections::BTreeSet,
    ffi::CString,
    os::unix::{ffi::OsStrExt, process::CommandExt},
    path::{Path, PathBuf},
    process::Command,
};

use crate::harness::{
    handle::Handle,
    nfs::{Nfs, Subtree},
    prelude::*,
    random::Random,
};

cases! {
    WRITABLE: forged, all_numbers, given_before_a_new_mount, given_before_it_was_hidden;
    BASIC: mutated, behind_nfs, moved_out_by_hand, on_a_large_branch, in_a_user_namespace,
        given_in_a_directory_that_was_removed;
}

const PATH: OFlags = OFlags::PATH;

/// The type of a handle that a branch gives, and its words.
type BranchHandle = (u8, Vec<u32>);

/// The parts of a handle of the union.
#[derive(Clone, Debug)]
struct Parts {
    branch: u32,
    tag: u32,
    kind: u8,
    object: Vec<u32>,
    hint: Option<BranchHandle>,
    seal: Option<[u32; 2]>,
}

fn words(bytes: &[u8]) -> Vec<u32> {
    let word = |b: &[u8]| u32::from_ne_bytes(b.try_into().expect("four bytes"));
    bytes.chunks_exact(4).map(word).collect()
}

impl Parts {
    fn of(handle: &Handle) -> Self {
        let words = words(handle.bytes());
        let len = ((words[0] >> 16) & 0xff) as usize;
        let mut rest = words[3 + len..].to_vec();
        let sealed = words[2] >> 31 != 0;
        let seal = sealed.then(|| {
            let seal = rest.split_off(rest.len() - 2);
            [seal[0], seal[1]]
        });
        let hint = (!rest.is_empty()).then_some(((words[2] >> 8) as u8, rest));
        Self {
            branch: words[0] & 0xffff,
            tag: words[1],
            kind: words[2] as u8,
            object: words[3..3 + len].to_vec(),
            hint,
            seal,
        }
    }

    fn handle(&self) -> Handle {
        let (hint_kind, hint) = self.hint.clone().unwrap_or_default();
        let seal = self.seal.map_or(Vec::new(), Vec::from);
        let total = (3 + self.object.len() + hint.len() + seal.len()) as u32;
        let head = [
            (1 << 24) | ((self.object.len() as u32) << 16) | self.branch,
            self.tag,
            (u32::from(self.seal.is_some()) << 31)
                | (total << 16)
                | (u32::from(hint_kind) << 8)
                | u32::from(self.kind),
        ];
        let all = head.iter().chain(&self.object).chain(&hint).chain(&seal);
        let bytes: Vec<u8> = all.flat_map(|word| word.to_ne_bytes()).collect();
        Handle::forged(99, &bytes)
    }
}

/// The handle that a branch's file system gives what is at `path`.
fn on_branch(path: impl AsRef<Path>) -> Result<BranchHandle> {
    let handle = Handle::of(path)?;
    Ok((handle.kind() as u8, words(handle.bytes())))
}

/// The same without the generation of the inode, where it is known to be the last word: that
/// stands for any.
fn of_any_generation(layout: Layout, (kind, mut words): BranchHandle) -> BranchHandle {
    if [Layout::Ext4, Layout::Xfs].contains(&layout) {
        *words.last_mut().expect("words") = 0;
    }
    (kind, words)
}

/// The numbers of all that the union shows.
fn shown(u: &Union) -> Result<BTreeSet<u64>> {
    fn walk(dir: &Path, all: &mut BTreeSet<u64>) -> Result<()> {
        for name in names(dir)? {
            let path = dir.join(name);
            let stat = sys::lstat(&path)?;
            all.insert(stat.st_ino);
            if sys::kind(&stat) == FileType::Directory {
                walk(&path, all)?;
            }
        }
        Ok(())
    }
    let mut all = BTreeSet::from([sys::lstat(u.root())?.st_ino]);
    walk(u.root(), &mut all)?;
    Ok(all)
}

/// A union that hides much, and what lies beside its branches.
struct Hiding {
    u: Union,
    beside: PathBuf,
}

/// Files and directories that nobody may get at, and on which branch they are, or beside which.
const HIDDEN: [(&str, usize); 15] = [
    ("gone", 1),
    ("cover", 1),
    ("o/hidden", 1),
    ("gone2", 1),
    ("gonedir/f", 1),
    ("gonedir", 1),
    ("copied", 1),
    ("link", 1),
    (".wh.not", 1),
    (".wh..wh.aufs", 0),
    (".wh.gone", 0),
    ("o/.wh..wh..opq", 0),
    (".wh..wh.orph/left", 0),
    (".wh..wh.orph", 0),
    (".wh..wh.plnk", 0),
];

fn hiding(cx: &Ctx) -> Result<Hiding> {
    let kind = cx.layout.upper();
    let secrets = Tree::new()
        .file("secret", "secret")
        .mode(0o600)
        .file("linked", "linked")
        .hardlink("d/linked", "linked")
        .symlink("symlink", "secret")
        .fifo("fifo");
    let beside = cx.dir(kind)?;
    secrets.build(&beside)?;
    let low = Tree::new()
        .file("gone", "")
        .file("cover", "")
        .file("o/hidden", "")
        .file("gone2", "")
        .hardlink("gone3", "gone2")
        .file("gonedir/f", "")
        .file("copied", "")
        .symlink("link", "gone")
        .file(".wh.not", "")
        .file("low", "low")
        .file("d/one", "one")
        .hardlink("d/two", "d/one");
    let mut u = cx
        .union()
        .rw(Tree::new()
            .file("cover", "")
            .file("o/.wh..wh..opq", "")
            .file("link", "")
            .file("top", "top")
            .file("d/sub/top", "top"))
        .on(kind, "ro", low)
        .mount()?;
    for name in ["gone", "gone2", "gone3", "gonedir/f"] {
        sys::unlink(u.at(name))?;
    }
    sys::rmdir(u.at("gonedir"))?;
    sys::append(u.at("copied"), "x")?;
    // Nobody remembers what was copied.
    u.again()?;
    sys::write(u.br(0, ".wh..wh.orph/left"), "")?;
    Ok(Hiding { u, beside })
}

impl Drop for Hiding {
    fn drop(&mut self) {
        let _ = sys::unlink(self.u.br(0, ".wh..wh.orph/left"));
    }
}

impl Hiding {
    /// What nobody may get at.
    fn paths(&self) -> Vec<PathBuf> {
        let beside = ["secret", "linked", "symlink", "fifo", "d"];
        let hidden = HIDDEN.map(|(name, branch)| self.u.br(branch, name));
        let beside = beside.map(|name| self.beside.join(name));
        hidden.into_iter().chain(beside).collect()
    }

    /// Good handles of objects on each branch.
    fn good(&self) -> Result<Vec<Parts>> {
        let of = |name: &&str| Ok(Parts::of(&Handle::of(self.u.at(name))?));
        ["top", "low", "d/one", "d/sub"].iter().map(of).collect()
    }

    /// Directories that a handle may claim to be the right one.
    fn hints(&self, path: &Path) -> Result<Vec<Option<BranchHandle>>> {
        let dirs = [
            path.parent().expect("a parent").to_owned(),
            self.u.br(0, ""),
            self.u.br(1, ""),
            self.u.br(0, ".wh..wh.orph"),
            self.beside.clone(),
            self.beside.join("fifo"),
        ];
        let mut hints = vec![None];
        for dir in dirs {
            hints.push(Some(on_branch(dir)?));
        }
        Ok(hints)
    }
}

/// Everything that can be changed is.
fn forged(cx: &Ctx) -> Result<()> {
    let case = hiding(cx)?;
    let root = dir::open_dir(case.u.root())?;
    let good = case.good()?;
    for cold in [false, true] {
        for path in case.paths() {
            let object = on_branch(&path)?;
            let any = of_any_generation(cx.layout, object.clone());
            let hints = case.hints(&path)?;
            if cold {
                sys::drop_caches();
            }
            for parts in &good {
                for ((kind, object), hint) in [&object, &any]
                    .into_iter()
                    .flat_map(|object| hints.iter().map(move |hint| (object, hint)))
                {
                    for seal in [None, parts.seal, Some([0, 0])] {
                        let forged = Parts {
                            kind: *kind,
                            object: object.clone(),
                            hint: hint.clone(),
                            seal,
                            ..parts.clone()
                        };
                        let got = forged.handle().open(&root, PATH);
                        assert_eq!(
                            got.as_ref().map_err(|e| e.errno).err(),
                            Some(Errno::STALE),
                            "{}: {forged:?}",
                            path.display()
                        );
                    }
                }
            }
        }
    }
    Ok(())
}

/// Each inode of the whole file system by its number, of any generation.
fn all_numbers(cx: &Ctx) -> Result<()> {
    let case = hiding(cx)?;
    let root = dir::open_dir(case.u.root())?;
    let known = shown(&case.u)?;
    let good = case.good()?;
    let mut secret = on_branch(case.beside.join("secret"))?;
    let number = sys::lstat(case.beside.join("secret"))?.st_ino;
    let place = secret.1.iter().position(|word| u64::from(*word) == number);
    // tmpfs and btrfs say more than the number.
    let Some(place) = place else {
        return Ok(());
    };
    secret = of_any_generation(cx.layout, secret);
    sys::drop_caches();
    let number = number as u32;
    for number in (0..2000).chain(number.saturating_sub(2000)..number + 200) {
        secret.1[place] = number;
        for parts in &good {
            let forged = Parts {
                kind: secret.0,
                object: secret.1.clone(),
                ..parts.clone()
            };
            if let Ok(fd) = forged.handle().open(&root, PATH) {
                let stat = sys::fstat(&fd)?;
                assert!(known.contains(&stat.st_ino), "{number}: {forged:?}");
            }
        }
    }
    Ok(())
}

/// Random changes of good handles. `FUZZ` is the number of them, in hundreds.
fn mutated(cx: &Ctx) -> Result<()> {
    let count = std::env::var("FUZZ").ok().and_then(|n| n.parse().ok());
    let count = count.unwrap_or(50) * 100;
    let case = hiding(cx)?;
    let root = dir::open_dir(case.u.root())?;
    let known = shown(&case.u)?;
    let mut good: Vec<Handle> = Vec::new();
    for name in ["top", "low", "d/one", "d/sub", "d", "cover"] {
        good.push(Handle::of(case.u.at(name))?);
        good.push(Handle::connectable(case.u.at(name))?);
    }
    for path in case.paths() {
        let (kind, object) = on_branch(path)?;
        for parts in case.good()? {
            let forged = Parts {
                kind,
                object: object.clone(),
                ..parts
            };
            good.push(forged.handle());
        }
    }
    let mut random = Random::new(7);
    for n in 0..count {
        let from = &good[random.below(good.len() as u64) as usize];
        let mut bytes = from.bytes().to_vec();
        for _ in 0..random.below(4) {
            let at = random.below(bytes.len() as u64) as usize;
            bytes[at] = match random.below(3) {
                0 => 0,
                1 => bytes[at] ^ (1 << random.below(8)),
                _ => random.below(256) as u8,
            };
        }
        if n % 1000 == 0 {
            sys::drop_caches();
        }
        match Handle::forged(from.kind(), &bytes).open(&root, PATH) {
            Ok(fd) => {
                let ino = sys::fstat(&fd)?.st_ino;
                assert!(known.contains(&ino), "{n}: {bytes:?}");
            }
            Err(error) => {
                let usual = [Errno::STALE, Errno::INVAL, Errno::OVERFLOW];
                assert!(usual.contains(&error.errno), "{error}");
            }
        }
    }
    Ok(())
}

/// A client of NFS that changes what the server gave it.
fn behind_nfs(cx: &Ctx) -> Result<()> {
    let case = hiding(cx)?;
    let nfs = Nfs::new(cx, case.u.root(), Subtree::Unchecked)?;
    // The client's own handle has the server's in it.
    let client = Handle::of(nfs.at("top"))?;
    let ours = Handle::of(case.u.at("top"))?;
    let at = client
        .bytes()
        .windows(ours.bytes().len())
        .position(|part| part == ours.bytes())
        .expect("the server's handle");
    let root = dir::open_dir(nfs.at(""))?;
    let with = |part: &Handle| -> Handle {
        let mut bytes = client.bytes().to_vec();
        assert_eq!(part.bytes().len(), ours.bytes().len());
        bytes[at..][..part.bytes().len()].copy_from_slice(part.bytes());
        // For the client it is another file, which it does not know yet.
        bytes[0] ^= 0x55;
        Handle::forged(client.kind(), &bytes)
    };
    sys::drop_caches();
    drop(with(&ours).open(&root, PATH).context("what it was given")?);
    for path in case.paths() {
        let (kind, object) = on_branch(&path)?;
        let any = of_any_generation(cx.layout, (kind, object.clone()));
        for (kind, object) in [(kind, object), any] {
            let forged = Parts {
                kind,
                object,
                ..Parts::of(&ours)
            };
            let got = with(&forged.handle()).open(&root, PATH);
            errno(got, Errno::STALE);
        }
    }
    Ok(())
}

/// What the union gave leads to the same after all that may happen to a file.
fn given_before_a_new_mount(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let low = Tree::new()
        .file("d/low", "low")
        .file("d/one", "one")
        .hardlink("e/two", "d/one")
        .file("d/three", "three")
        .hardlink("e/four", "d/three");
    let mut u = cx
        .union()
        .rw(Tree::new()
            .file("d/top", "top")
            .file("d/toplink", "toplink")
            .hardlink("e/toplink", "d/toplink"))
        .on(
            kind,
            "rw",
            Tree::new().file("d/pool", "pool").file("d/stays", "stays"),
        )
        .on(kind, "ro", low)
        .opt("create=rr")
        .mount()?;
    let mut files = Vec::new();
    for name in [
        "d/top",
        "d/toplink",
        "d/pool",
        "d/stays",
        "d/low",
        "d/one",
        "d/three",
    ] {
        files.push((Handle::of(u.at(name))?, text(u.at(name))?));
    }
    // Nothing is written before a handle is resolved.
    let key = |u: &Union| sys::get_xattr(u.br(0, ""), "trusted.ruaufs.key");
    errno(key(&u), Errno::NODATA);
    let check = |u: &Union, files: &[(Handle, String)]| -> Result<()> {
        for warm in [true, false] {
            for (handle, text) in files {
                if !warm {
                    sys::drop_caches();
                }
                let root = dir::open_dir(u.root())?;
                let fd = handle
                    .open(root, OFlags::RDONLY)
                    .with_context(|| format!("{text}, in the cache: {warm}"))?;
                assert_eq!(String::from_utf8(sys::read_fd(fd)?)?, *text);
            }
        }
        Ok(())
    };
    check(&u, &files)?;
    assert_eq!(key(&u)?.len(), 16);
    errno(
        sys::get_xattr(u.root(), "trusted.ruaufs.key"),
        Errno::NODATA,
    );
    errno(
        sys::set_xattr(u.root(), "trusted.ruaufs.key", [0; 16]),
        Errno::PERM,
    );
    u.again()?;
    check(&u, &files)?;
    // To another directory on the same branch. A handle of a lower branch on btrfs has no room for
    // a seal, so it is good as long as the file is in memory.
    if cx.layout == Layout::Btrfs {
        files.retain(|(_, text)| text != "pool");
    }
    sys::rename(u.at("d/top"), u.at("e/moved"))?;
    sys::unlink(u.at("d/toplink"))?;
    sys::unlink(u.at("d/three"))?;
    if sys::rename(u.at("d/pool"), u.at("e/pool")).is_ok() && exists(u.br(0, "e/pool")) {
        // It was brought to another branch, which only this mount knows.
        check(&u, &files)?;
        files.retain(|(_, text)| text != "pool");
    }
    check(&u, &files)?;
    u.again()?;
    check(&u, &files)?;
    u.again()?;
    check(&u, &files)?;
    Ok(())
}

/// The file was moved, and the directory that its handle names is gone.
fn given_in_a_directory_that_was_removed(cx: &Ctx) -> Result<()> {
    let pool = Tree::new().file("d/pool", "pool").dir("e");
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .rw(Tree::new())
        .on(kind, "rw", pool)
        .opt("create=rr")
        .mount()?;
    let handle = Handle::of(u.at("d/pool"))?;
    drop(handle_of(&u, "d/pool")?);
    sys::rename(u.at("d/pool"), u.at("e/pool"))?;
    sys::rmdir(u.at("d"))?;
    assert!(exists(u.br(1, "e/pool")));
    for again in [false, true] {
        if again {
            u.again()?;
        }
        let fd = handle.open(dir::open_dir(u.root())?, OFlags::RDONLY)?;
        assert_eq!(sys::read_fd(fd)?, b"pool");
    }
    u.umount()
}

/// What was shown when the handle was given, and is not any more.
fn given_before_it_was_hidden(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let low = cx.branch(
        kind,
        "rw",
        &Tree::new()
            .file("f", "f")
            .file("two", "two")
            .hardlink("d/links", "two")
            .file("cover", "cover")
            .file("seen", "seen"),
    )?;
    let top = cx.branch(kind, "rw", &Tree::new())?;
    let names = ["f", "two", "cover", "seen"];
    let all = |u: &Union| -> Result<Vec<Handle>> {
        let handles: Result<Vec<_>> = names
            .iter()
            .map(|name| Ok(Handle::of(u.at(name))?))
            .collect();
        // The key is kept.
        drop(handle_of(u, "seen")?);
        handles
    };
    // As its only branch, as the lower one of two writable ones, as one that is not.
    let mut handles = Vec::new();
    let alone = cx.union().at(&low, "rw").mount()?;
    handles.extend(all(&alone)?);
    alone.umount()?;
    for perm in ["rw", "ro"] {
        let u = cx.union().at(&top, "rw").at(&low, perm).mount()?;
        handles.extend(all(&u)?);
        u.umount()?;
    }
    let u = cx.union().at(&top, "rw").at(&low, "ro").mount()?;
    sys::unlink(u.at("f"))?;
    sys::unlink(u.at("two"))?;
    sys::unlink(u.at("d/links"))?;
    sys::append(u.at("cover"), "ed")?;
    u.umount()?;
    for perm in ["rw", "ro", "ro+wh"] {
        let u = cx.union().at(&top, "rw").at(&low, perm).mount()?;
        let root = dir::open_dir(u.root())?;
        for (n, handle) in handles.iter().enumerate() {
            sys::drop_caches();
            match names[n % names.len()] {
                "seen" => drop(handle.open(&root, PATH).context("seen")?),
                _ => handle.assert_stale(&root),
            }
        }
        drop(root);
        u.umount()?;
    }
    Ok(())
}

/// Resolves a handle of what is there.
fn handle_of(u: &Union, name: &str) -> Result<std::os::fd::OwnedFd> {
    Ok(Handle::of(u.at(name))?.open(dir::open_dir(u.root())?, PATH)?)
}

/// A branch that is too large to look for a file everywhere.
fn on_a_large_branch(cx: &Ctx) -> Result<()> {
    let mut u = cx
        .union()
        .rw(Tree::new()
            .files("many/f", 4200)
            .file("d/top", "top")
            .dir("e"))
        .mount()?;
    let handle = Handle::of(u.at("d/top"))?;
    drop(handle_of(&u, "d/top")?);
    sys::rename(u.at("d/top"), u.at("e/moved"))?;
    u.again()?;
    sys::drop_caches();
    let fd = handle.open(dir::open_dir(u.root())?, OFlags::RDONLY)?;
    assert_eq!(sys::read_fd(fd)?, b"top");
    assert_eq!(handle, Handle::of(u.at("e/moved"))?);
    let secret = cx.dir(cx.layout.upper())?.join("secret");
    sys::write(&secret, "")?;
    let (kind, object) = on_branch(&secret)?;
    sys::drop_caches();
    for object in [
        of_any_generation(cx.layout, (kind, object.clone())),
        (kind, object),
    ] {
        let forged = Parts {
            kind: object.0,
            object: object.1,
            ..Parts::of(&handle)
        };
        forged.handle().assert_stale(dir::open_dir(u.root())?);
    }
    Ok(())
}

/// By somebody who changes the branch itself.
fn moved_out_by_hand(cx: &Ctx) -> Result<()> {
    let beside = cx.dir(cx.layout.upper())?;
    let u = cx
        .union()
        .opt("udba=reval")
        .rw(Tree::new().file("out", "").file("orphan", ""))
        .mount()?;
    let root = dir::open_dir(u.root())?;
    let handles = [Handle::of(u.at("out"))?, Handle::of(u.at("orphan"))?];
    sys::drop_caches();
    sys::rename(u.br(0, "out"), beside.join("out"))?;
    sys::rename(u.br(0, "orphan"), u.br(0, ".wh..wh.orph/orphan"))?;
    for _ in 0..2 {
        for handle in &handles {
            handle.assert_stale(&root);
        }
        sys::drop_caches();
    }
    sys::unlink(u.br(0, ".wh..wh.orph/orphan"))?;
    Ok(())
}

/// Opens `handle` as root of a user namespace of its own, through its own mount of `dir`.
fn as_root_of_a_namespace(cx: &Ctx, dir: &Path, handle: &Handle) -> Result<Result<(), Errno>> {
    fn done(result: i64) -> std::io::Result<i64> {
        match result {
            0.. => Ok(result),
            _ => Err(std::io::Error::last_os_error()),
        }
    }
    let at = cx.mount_point()?;
    let source = CString::new(dir.as_os_str().as_bytes())?;
    let target = CString::new(at.as_os_str().as_bytes())?;
    let handle = handle.clone();
    let mut command = Command::new("true");
    let open = move || -> std::io::Result<()> {
        let none = std::ptr::null();
        let bind = (source.as_ptr(), target.as_ptr());
        // SAFETY: All pointers are valid over the calls, and the process has one thread.
        unsafe {
            done(libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS).into())?;
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", "0 0 1")?;
            std::fs::write("/proc/self/gid_map", "0 0 1")?;
            done(libc::mount(bind.0, bind.1, none, libc::MS_BIND, none.cast()).into())?;
            let mount = done(libc::open(bind.1, libc::O_DIRECTORY).into())?;
            let flags = libc::O_DIRECTORY | libc::O_PATH;
            done(libc::syscall(
                libc::SYS_open_by_handle_at,
                mount as i32,
                &handle,
                flags,
            ))?;
        }
        Ok(())
    };
    // SAFETY: The child only makes system calls.
    unsafe { command.pre_exec(open) };
    Ok(match command.status() {
        Ok(_) => Ok(()),
        Err(error) => Err(Errno::from_raw_os_error(error.raw_os_error().unwrap_or(0))),
    })
}

/// The kernel lets it open directories below its mount.
fn in_a_user_namespace(cx: &Ctx) -> Result<()> {
    let case = hiding(cx)?;
    let open = |handle: &Handle| as_root_of_a_namespace(cx, &case.u.at("d"), handle);
    let inside = Handle::of(case.u.at("d/sub"))?;
    let outside = Handle::of(case.u.at("o"))?;
    for warm in [true, false] {
        if !warm {
            sys::drop_caches();
        }
        assert_eq!(open(&inside)?, Ok(()));
        assert_eq!(open(&outside)?, Err(Errno::STALE));
    }
    let good = Parts::of(&inside);
    for path in case.paths() {
        let (kind, object) = on_branch(&path)?;
        for hint in case.hints(&path)? {
            let forged = Parts {
                kind,
                object: object.clone(),
                hint,
                ..good.clone()
            };
            assert_eq!(open(&forged.handle())?, Err(Errno::STALE));
        }
    }
    Ok(())
}
