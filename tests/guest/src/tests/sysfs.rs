// SPDX-License-Identifier: GPL-2.0

//! `/sys/fs/aufs`, the parameter `brs`, and what `/proc/mounts` shows with it.

use std::{
    collections::BTreeSet,
    fs::read_to_string,
    io::Read,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    union::{mounts_line, reconfigure, Spec},
};

cases! {
    BASIC: branches_and_ids, gone_after_unmount, a_file_kept_open, follows_remounts,
        pseudo_links_are_shown;
    ONCE: config, odd_paths, many_branches, paths_follow_moved_mounts, paths_from_another_root,
        a_failed_mount_leaves_nothing, readers_during_mounts, without_branches, other_name;
}

/// `si_<hex>` as `/proc/mounts` has it.
fn si(u: &Union) -> Result<String> {
    let options = mounts_line(u.root())?[3].clone();
    let si = options.split(',').find_map(|o| o.strip_prefix("si="));
    Ok(format!("si_{}", si.context("no si= in /proc/mounts")?))
}

/// The directory of a union.
pub(crate) fn dir(u: &Union) -> Result<PathBuf> {
    Ok(Path::new("/sys/fs/aufs").join(si(u)?))
}

/// `br0`, `br1`, ... without the end of the line.
pub(crate) fn branches(u: &Union) -> Result<Vec<String>> {
    numbered(u, "br")
}

fn numbered(u: &Union, word: &str) -> Result<Vec<String>> {
    let dir = dir(u)?;
    let mut all = Vec::new();
    while let Ok(text) = read_to_string(dir.join(format!("{word}{}", all.len()))) {
        let line = text.strip_suffix('\n').context("a line")?;
        all.push(line.to_owned());
    }
    let files = std::fs::read_dir(&dir)?;
    let named = |name: &str| {
        let rest = name.strip_prefix(word);
        rest.is_some_and(|n| n.bytes().all(|b| b.is_ascii_digit()))
    };
    let count = files
        .filter_map(|f| f.ok()?.file_name().into_string().ok())
        .filter(|name| named(name))
        .count();
    assert_eq!(count, all.len(), "{word}<N> are numbered without a gap");
    Ok(all)
}

/// All unions in `/sys/fs/aufs`.
fn unions() -> Result<BTreeSet<String>> {
    let entries = std::fs::read_dir("/sys/fs/aufs")?;
    Ok(entries
        .filter_map(|e| e.ok()?.file_name().into_string().ok())
        .filter(|name| name.starts_with("si_"))
        .collect())
}

fn branches_and_ids(cx: &Ctx) -> Result<()> {
    for fstype in ["aufs", "ruaufs"] {
        let u = cx
            .union()
            .fstype(fstype)
            .rw(Tree::new())
            .ro_wh(Tree::new())
            .ro(Tree::new())
            .mount()?;
        let path = |n| u.br(n, "").display().to_string();
        let wanted = [
            format!("{}=rw", path(0)),
            format!("{}=ro+wh", path(1)),
            format!("{}=ro", path(2)),
        ];
        assert_eq!(branches(&u)?, wanted);
        assert_eq!(numbered(&u, "brid")?, ["64", "65", "66"]);
        assert_eq!(read_to_string(dir(&u)?.join("xi_path"))?, "\n");
        for file in std::fs::read_dir(dir(&u)?)? {
            let mode = file?.metadata()?.permissions().mode();
            assert_eq!(mode & 0o7777, 0o444);
        }
        let shown = mounts_line(u.root())?[3].clone();
        match fstype {
            "aufs" => assert!(
                !shown.contains(",br:") && !shown.contains(",br="),
                "{shown}"
            ),
            _ => assert!(shown.contains(&format!(",br={}", wanted[0])), "{shown}"),
        }
    }
    Ok(())
}

fn gone_after_unmount(cx: &Ctx) -> Result<()> {
    let before = unions()?;
    let a = cx.union().rw(Tree::new()).mount()?;
    let b = cx.union().rw(Tree::new()).mount()?;
    let (name_a, name_b) = (si(&a)?, si(&b)?);
    let mut wanted = before.clone();
    wanted.extend([name_a.clone(), name_b.clone()]);
    assert_eq!(unions()?, wanted);
    a.umount()?;
    wanted.remove(&name_a);
    assert_eq!(unions()?, wanted);
    b.umount()?;
    assert_eq!(unions()?, before);
    Ok(())
}

fn a_file_kept_open(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let path = dir(&u)?.join("br1");
    let (fresh, used) = (sys::open_ro(&path)?, sys::open_ro(&path)?);
    let text = sys::pread_fd(&used)?;
    assert_eq!(text, format!("{}=ro\n", u.br(1, "").display()).as_bytes());
    u.umount()?;
    for file in [fresh, used] {
        errno(sys::pread_fd(&file), Errno::NODEV);
    }
    Ok(())
}

/// Numbers follow the order, identities stay, and a file shows the branch that is there now.
fn follows_remounts(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
    let more = cx.branch(Kind::Tmpfs, "ro", &Tree::new())?;
    let path = |n| u.br(n, "").display().to_string();
    let kept = sys::open_ro(dir(&u)?.join("br1"))?;
    let wanted = format!("{}=ro", more.display());
    reconfigure(u.root(), &[&format!("add=1:{wanted}")])?;
    let all = [
        format!("{}=rw", path(0)),
        wanted.clone(),
        format!("{}=ro", path(1)),
    ];
    assert_eq!(branches(&u)?, all);
    assert_eq!(numbered(&u, "brid")?, ["64", "66", "65"]);
    assert_eq!(sys::pread_fd(&kept)?, format!("{wanted}\n").as_bytes());
    reconfigure(u.root(), &[&format!("mod={}=ro+wh", path(1))])?;
    assert_eq!(branches(&u)?[2], format!("{}=ro+wh", path(1)));
    reconfigure(u.root(), &[&format!("del={}", path(0))])?;
    assert_eq!(branches(&u)?, [wanted, format!("{}=ro+wh", path(1))]);
    assert_eq!(numbered(&u, "brid")?, ["66", "65"]);
    reconfigure(u.root(), &[&format!("del={}", more.display())])?;
    assert_eq!(branches(&u)?, [format!("{}=ro+wh", path(1))]);
    errno(sys::pread_fd(&kept), Errno::NODEV);
    Ok(())
}

fn config(_: &Ctx) -> Result<()> {
    let text = read_to_string("/sys/fs/aufs/config")?;
    assert!(text.ends_with('\n'));
    for line in text.lines() {
        let known =
            line.starts_with("CONFIG_AUFS_") && (line.ends_with("=y") || line.ends_with("=m"));
        assert!(known, "{line:?}");
    }
    for feature in [
        "FS=m",
        "BRANCH_MAX_511=y",
        "SHWH=y",
        "DIRREN=y",
        "RDU=y",
        "XATTR=y",
    ] {
        let wanted = format!("CONFIG_AUFS_{feature}");
        assert!(text.lines().any(|line| line == wanted), "{wanted}");
    }
    Ok(())
}

/// In debugfs, and by `list_plink` in the log.
fn pseudo_links_are_shown(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("a", "")
        .hardlink("b", "a")
        .file("c", "")
        .hardlink("d", "c");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let file = Path::new("/sys/kernel/debug/aufs")
        .join(si(&u)?)
        .join("plink");
    let listed = |cx: &Ctx, options: &[&str]| -> Result<Vec<String>> {
        let before = cx.klog().len();
        reconfigure(u.root(), options)?;
        let lines = cx.klog().split_off(before);
        Ok(lines
            .into_iter()
            .filter(|line| line.contains("pseudo-link: inode"))
            .collect())
    };
    assert_eq!(read_to_string(&file)?, "1\n0\n0\n");
    sys::append(u.at("a"), "+")?;
    sys::append(u.at("c"), "+")?;
    assert_eq!(read_to_string(&file)?, "1\n2\n2\n");
    let lines = listed(cx, &["list_plink"])?;
    for name in ["a", "c"] {
        let ino = format!("inode {},", sys::lstat(u.at(name))?.st_ino);
        assert_eq!(
            lines.iter().filter(|line| line.contains(&ino)).count(),
            1,
            "{lines:?}"
        );
    }
    // A change of branches.
    let more = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let lines = listed(cx, &["list_plink", &format!("prepend={}", more.display())])?;
    assert_eq!(lines.len(), 2);
    for name in ["a", "b"] {
        sys::unlink(u.at(name))?;
    }
    assert_eq!(read_to_string(&file)?, "1\n1\n1\n");
    u.umount()?;
    assert!(!exists(&file));
    Ok(())
}

fn odd_paths(cx: &Ctx) -> Result<()> {
    let base = cx.dir(Kind::Tmpfs)?;
    let odd = base.join("a b\\c\td");
    sys::mkdir(&odd)?;
    let u = cx.union().at(&odd, "rw").mount()?;
    let shown = format!("{}/a\\040b\\134c\\011d=rw", base.display());
    assert_eq!(branches(&u)?, [shown]);
    Ok(())
}

fn many_branches(cx: &Ctx) -> Result<()> {
    let base = cx.dir(Kind::Tmpfs)?;
    let mut builder = cx.union().api(Api::Fsopen);
    for n in 0..127 {
        let path = base.join(format!("b{n}"));
        sys::mkdir(&path)?;
        builder = builder.at(&path, "ro");
    }
    let u = builder.read_only().mount()?;
    let shown = branches(&u)?;
    assert_eq!(shown.len(), 127);
    for (n, line) in shown.iter().enumerate() {
        assert_eq!(*line, format!("{}/b{n}=ro", base.display()));
    }
    assert_eq!(numbered(&u, "brid")?[126], "190");
    Ok(())
}

fn paths_follow_moved_mounts(cx: &Ctx) -> Result<()> {
    let (from, to) = (cx.mount_point()?, cx.mount_point()?);
    scratch::mount("none", "tmpfs", &from, "")?;
    sys::mkdir(from.join("rw"))?;
    let u = cx
        .union()
        .fstype("aufs")
        .at(&from.join("rw"), "rw")
        .mount()?;
    assert_eq!(branches(&u)?, [format!("{}=rw", from.join("rw").display())]);
    rustix::mount::mount_move(&from, &to)?;
    assert_eq!(branches(&u)?, [format!("{}=rw", to.join("rw").display())]);
    u.umount()?;
    scratch::umount(&to)
}

fn paths_from_another_root(cx: &Ctx) -> Result<()> {
    let new_root = Private::tmpfs(&cx.name(), "")?;
    let branch = new_root.path().join("layers/rw");
    sys::mkdir(new_root.path().join("layers"))?;
    sys::mkdir(&branch)?;
    let u = cx.union().at(&branch, "rw").mount()?;
    let file = std::fs::File::open(dir(&u)?.join("br0"))?;
    let path = new_root.path().to_owned();
    let text = thread::spawn(move || -> std::io::Result<String> {
        // SAFETY: Only this thread is taken out of the shared root and working directory.
        let ret = unsafe { libc::unshare(libc::CLONE_FS) };
        assert_eq!(ret, 0, "unshare");
        std::os::unix::fs::chroot(&path)?;
        let mut text = String::new();
        (&file).read_to_string(&mut text)?;
        Ok(text)
    })
    .join()
    .expect("the thread")?;
    assert_eq!(text, "/layers/rw=rw\n");
    u.umount()?;
    new_root.umount()
}

fn a_failed_mount_leaves_nothing(cx: &Ctx) -> Result<()> {
    let before = unions()?;
    let rw = cx.branch(Kind::Tmpfs, "rw", &Tree::new())?;
    let spec = Spec::new(&[&format!("br={}=rw", rw.display()), "br=/proc=ro"]);
    spec.mount(&cx.mount_point()?)
        .expect_err("procfs as a branch");
    assert_eq!(unions()?, before);
    Ok(())
}

/// Mounts and unmounts while others read whatever is there.
fn readers_during_mounts(cx: &Ctx) -> Result<()> {
    fn read_all(stop: &AtomicBool) {
        while !stop.load(Ordering::Relaxed) {
            for union in std::fs::read_dir("/sys/fs/aufs")
                .into_iter()
                .flatten()
                .flatten()
            {
                for file in std::fs::read_dir(union.path())
                    .into_iter()
                    .flatten()
                    .flatten()
                {
                    // It may be gone already; what is read is whole.
                    if let Ok(text) = read_to_string(file.path()) {
                        assert!(text.ends_with('\n'), "{text:?}");
                    }
                }
            }
        }
    }

    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| read_all(&stop))).collect();
        let result = (0..40).try_for_each(|_| -> Result<()> {
            let u = cx.union().rw(Tree::new()).ro(Tree::new()).mount()?;
            assert_eq!(branches(&u)?.len(), 2);
            u.umount()
        });
        stop.store(true, Ordering::Relaxed);
        for reader in readers {
            reader.join().expect("a reader");
        }
        result
    })
}

/// `/sys/module/aufs` leads to this module.
fn other_name(_: &Ctx) -> Result<()> {
    assert_eq!(read_to_string("/sys/module/aufs/parameters/brs")?, "1\n");
    assert_eq!(
        read_to_string("/sys/module/ruaufs/parameters/aufs_alias")?,
        "Y\n"
    );
    assert!(exists("/sys/module/aufs/refcnt"));
    Ok(())
}

/// Loads the module anew; the usual one is loaded again at the end.
struct Reloaded;

impl Reloaded {
    fn with(parameters: &[&str]) -> Result<Self> {
        scratch::run("modprobe", &["-r", "ruaufs"])?;
        assert!(!exists("/sys/fs/aufs") && !exists("/sys/module/aufs"));
        let this = Self;
        scratch::run("modprobe", &[&["ruaufs"], parameters].concat())?;
        Ok(this)
    }
}

impl Drop for Reloaded {
    fn drop(&mut self) {
        for args in [&["-r", "ruaufs"][..], &["ruaufs"]] {
            scratch::run("modprobe", args).expect("the module is needed by the next test");
        }
    }
}

/// `brs=0`: `/proc/mounts` shows the branches, sysfs does not.
fn without_branches(cx: &Ctx) -> Result<()> {
    let _reloaded = Reloaded::with(&["brs=0"])?;
    assert_eq!(read_to_string("/sys/module/aufs/parameters/brs")?, "0\n");
    let u = cx
        .union()
        .fstype("aufs")
        .rw(Tree::new())
        .ro_wh(Tree::new())
        .opt("dirperm1")
        .mount()?;
    assert_eq!(branches(&u)?, [""; 0]);
    assert_eq!(numbered(&u, "brid")?, [""; 0]);
    assert!(dir(&u)?.join("xi_path").exists());
    let list = format!(
        ",dirperm1,br:{}=rw:{}=ro+wh",
        u.br(0, "").display(),
        u.br(1, "").display()
    );
    let shown = mounts_line(u.root())?[3].clone();
    assert!(shown.ends_with(&list), "{shown} ends with {list}");
    Ok(())
}
