// SPDX-License-Identifier: GPL-2.0

//! Random mounts, remounts and ioctls: whatever they say, what they refuse changes nothing, and the
//! union goes on. And random bookkeeping on a branch: whatever lies there, what the union shows of a
//! lower object is of its type, nothing outside the branches is reached, and all of it can be used.
//!
//! `FUZZ` is the number of calls of each kind (default 200), `SEED` chooses them. What the kernel
//! complains about, leaks or keeps busy is found by the frame around each test.

use std::{
    os::fd::{FromRawFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use proptest::{
    collection::vec,
    option,
    prelude::*,
    sample::{select, subsequence},
};
use rustix::mount::MountFlags;

use super::model;
use crate::harness::{
    dir::open_dir,
    ioctl::{self, raw, NOWHERE},
    prelude::*,
    scratch,
    union::{mounts_line, reconfigure, remount2, Spec},
};

cases! {
    BASIC: remounts, ioctls, marks_of_others;
    ONCE: mounts;
}

fn calls() -> Result<u64> {
    match std::env::var("FUZZ") {
        Ok(text) => text.parse().with_context(|| format!("FUZZ={text}")),
        Err(_) => Ok(200),
    }
}

/// Options with a value, with what some of them take. `@A` to `@D` are directories, `@F` is a file.
const KEYS: &[&str] = &[
    "br",
    "dirs",
    "add",
    "ins",
    "append",
    "prepend",
    "del",
    "mod",
    "xino",
    "trunc_xino",
    "itrunc_xino",
    "create",
    "create_policy",
    "cpup",
    "copyup",
    "copyup_policy",
    "udba",
    "diropq",
    "dirwh",
    "rdcache",
    "rdblk",
    "rdhash",
    "fhsm_sec",
    "si",
    "debug",
    "delete",
    "imap",
];
const WORDS: &[&str] = &[
    "acl",
    "noacl",
    "dio",
    "nodio",
    "dirperm1",
    "nodirperm1",
    "dirren",
    "nodirren",
    "plink",
    "noplink",
    "shwh",
    "noshwh",
    "sum",
    "nosum",
    "wsum",
    "trunc_xib",
    "notrunc_xib",
    "trunc_xino",
    "notrunc_xino",
    "verbose",
    "noverbose",
    "v",
    "q",
    "quiet",
    "silent",
    "warn_perm",
    "nowarn_perm",
    "claim",
    "noclaim",
    "noxino",
    "list_plink",
    "clean_plink",
    "relatime",
    "nodlgt",
    "ro",
    "rw",
];
const PARTS: &[&str] = &[
    "@A",
    "@B",
    "@C",
    "@D",
    "@F",
    "/dev/null",
    "/proc",
    "/nowhere",
    "..x",
    "",
    ":",
    "::",
    "=",
    "+",
    "=rw",
    "=ro",
    "=rr",
    "=rw+nolwh",
    "=ro+wh",
    "=ro+coo_reg",
    "=rw+moo+icex",
    "=rw+fhsm",
    "=xx",
    "=ro+xx",
    "0:",
    "1:",
    "9:",
    "-1:",
    "0",
    "1",
    "3",
    "255",
    "3600",
    "-1",
    "99999999999999999999",
    "0x10",
    "none",
    "reval",
    "notify",
    "tdp",
    "rr",
    "mfs",
    "mfsrr:1",
    "tdmfs:1:2",
    "pmfs",
    "pmfsrr:9:9",
    "bup",
    "bu",
    "a",
    "w",
    "always",
    "def",
    "\u{e9}",
    "\\",
    "\"",
    " ",
    "\n",
    "%s%n",
];

/// One option: mostly one that there is.
fn one() -> impl Strategy<Value = String> {
    let value = vec(select(PARTS), 0..5).prop_map(|parts| parts.concat());
    let likely = (select(KEYS), select(&["=", "=", "=", ":"][..]), value)
        .prop_map(|(key, sign, value)| format!("{key}{sign}{value}"));
    let noise = "[ -~]{0,40}".prop_map(|text: String| text.replace(',', ";"));
    prop_oneof![
        6 => likely,
        4 => select(WORDS).prop_map(str::to_owned),
        1 => (select(WORDS), "[=:][ -+.-~]{0,9}").prop_map(|(word, rest)| format!("{word}{rest}")),
        1 => noise,
    ]
}

/// Options that a mount may begin with, so that many succeed.
fn branches() -> impl Strategy<Value = String> {
    let all = vec!["@A=rw", "@B=ro+wh", "@C=rw+nolwh", "@D=ro"];
    subsequence(all, 1..=4).prop_map(|some| format!("br={}", some.join(":")))
}

/// The directories that options name.
struct Ground {
    base: String,
}

impl Ground {
    fn new(cx: &Ctx) -> Result<Self> {
        let base = cx.dir(cx.layout.upper())?;
        Tree::new()
            .file("A/a", "a")
            .file("B/b", "b")
            .hardlink("B/c", "B/b")
            .file("B/d/e", "e")
            .file("C/d/f", "f")
            .file("D/d/g", "g")
            .file("F", "")
            .build(&base)?;
        let base = base.display().to_string();
        Ok(Ground { base })
    }

    /// The options, as they are said.
    fn said(&self, options: &[String]) -> Vec<String> {
        let place = |text: &String| {
            let mut text = text.clone();
            for name in ["A", "B", "C", "D", "F"] {
                text = text.replace(&format!("@{name}"), &format!("{}/{name}", self.base));
            }
            text
        };
        options.iter().map(place).collect()
    }
}

fn mounts(cx: &Ctx) -> Result<()> {
    let ground = Ground::new(cx)?;
    let mnt = cx.mount_point()?;
    let said = (
        option::of(branches()),
        vec(one(), 0..6),
        any::<bool>(),
        any::<bool>(),
    );
    model::each(said, calls()?, |(first, rest, alias, old)| {
        let options: Vec<_> = first.iter().chain(rest).cloned().collect();
        let options = ground.said(&options);
        let words: Vec<_> = options.iter().map(String::as_str).collect();
        let mut spec = Spec::new(&words).api(if *old { Api::Mount2 } else { Api::Fsopen });
        spec.fstype = if *alias { "aufs" } else { "ruaufs" };
        match spec.mount(&mnt) {
            Ok(()) => {
                dir::list(&mnt)?;
                let _ =
                    sys::write(mnt.join("new"), "new").and_then(|()| sys::unlink(mnt.join("new")));
                // What is shown is taken back.
                let shown = mounts_line(&mnt)?[3].clone();
                remount2(&mnt, MountFlags::empty(), &shown)?;
                scratch::umount(&mnt)?;
            }
            Err(_) => anyhow::ensure!(mounts_line(&mnt).is_err(), "refused, but mounted"),
        }
        Ok(())
    })
}

fn remounts(cx: &Ctx) -> Result<()> {
    let ground = Ground::new(cx)?;
    let mnt = cx.mount_point()?;
    let first = ground.said(&["br=@A=rw:@B=ro+wh".to_owned()]);
    Spec::new(&[first[0].as_str()]).mount(&mnt)?;
    let result = model::each(
        (vec(one(), 1..5), any::<bool>()),
        calls()?,
        |(options, old)| {
            let options = ground.said(options);
            let words: Vec<_> = options.iter().map(String::as_str).collect();
            let before = mounts_line(&mnt)?;
            let refused = match old {
                true => remount2(&mnt, MountFlags::empty(), &options.join(",")).is_err(),
                false => reconfigure(&mnt, &words).is_err(),
            };
            if refused {
                assert_eq!(
                    mounts_line(&mnt)?,
                    before,
                    "a refused remount changes nothing"
                );
            }
            for dir in dir::list(&mnt)? {
                sys::lstat(mnt.join(&dir.name))?;
            }
            let _ =
                sys::write(mnt.join("new"), "new").and_then(|()| sys::append(mnt.join("c"), "+"));
            let _ = sys::unlink(mnt.join("new"));
            Ok(())
        },
    );
    scratch::umount(&mnt)?;
    result
}

/// Commands of aufs, sometimes of another size; others.
fn command() -> impl Strategy<Value = u32> {
    prop_oneof![
        8 => select(&ioctl::ALL[..]),
        1 => (select(&ioctl::ALL[..]), any::<u32>()).prop_map(|(c, bits)| c ^ (bits & 0x3fff_0000)),
        1 => any::<u8>().prop_map(|n| 0x4100 | u32::from(n)),
    ]
}

fn ioctls(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .on(cx.layout.upper(), "rw+fhsm", Tree::new().file("up", "up"))
        .on(cx.layout.upper(), "rw+fhsm", Tree::new())
        .ro(Tree::new().file("d/low", "low"))
        .mount()?;
    let mut buffer = vec![0u8; 1 << 20];
    let address = buffer.as_mut_ptr() as usize;
    let said = (
        command(),
        vec(any::<u8>(), 96),
        prop_oneof![4 => Just(None), 1 => any::<u32>().prop_map(Some)],
        any::<u64>(),
        0usize..4,
    );
    model::each(said, calls()?, |(command, bytes, number, amount, on)| {
        // As large as the largest that is read or written.
        let mut memory = vec![0u8; 4 * 4096];
        memory[..96].copy_from_slice(bytes);
        // Addresses are those of memory of ours, or of none.
        let addresses = [address, NOWHERE, 0];
        // Entries are at most 272 bytes.
        let limit = if *command == ioctl::RDU {
            1 << 20
        } else {
            1 << 11
        };
        memory[..8].copy_from_slice(&(amount % limit).to_ne_bytes());
        memory[8..16].copy_from_slice(&addresses[bytes[0] as usize % 3].to_ne_bytes());
        if *command != ioctl::RDU && *command != ioctl::RDU_INO {
            memory[..16].copy_from_slice(&bytes[..16]);
        } else if bytes[1] % 4 != 0 {
            memory[16..18].copy_from_slice(&64u16.to_ne_bytes());
        }
        let arg = match number {
            Some(number) => *number as usize % 4096,
            None => memory.as_mut_ptr() as usize,
        };
        let fd = match on {
            0 => open_dir(u.root())?,
            1 => open_dir(u.at("d"))?,
            2 => sys::open_ro(u.at("up"))?,
            _ => sys::open_ro(u.at("d/low"))?,
        };
        let known = matches!(*command, ioctl::WBR_FD | ioctl::FHSM_FD);
        match raw(&fd, *command, arg) {
            // SAFETY: These give a descriptor, which is ours.
            Ok(made) if known => drop(unsafe { OwnedFd::from_raw_fd(made as i32) }),
            _ => {}
        }
        anyhow::ensure!(text(u.at("up"))? == "up" && text(u.at("d/low"))? == "low");
        anyhow::ensure!(names(u.root())? == set(["d", "up"]));
        Ok(())
    })?;
    u.umount()
}

/// What is put on a branch.
#[derive(Debug, Clone, Copy)]
enum Thing {
    Empty,
    File,
    Huge,
    Dir,
    DirWithFile,
    LinkOutside,
    LinkBelow,
    Fifo,
    Device,
    /// Another name of the copy that a real mount made.
    Copy,
}

const THINGS: &[Thing] = &[
    Thing::Empty,
    Thing::File,
    Thing::Huge,
    Thing::Dir,
    Thing::DirWithFile,
    Thing::LinkOutside,
    Thing::LinkBelow,
    Thing::Fifo,
    Thing::Device,
    Thing::Copy,
];

/// Where it is put. `@P` is the name of a pseudo-link with the object's own number, `@R` that of a
/// record.
const PLACES: &[&str] = &[
    ".wh..wh.plnk/@P",
    ".wh..wh.plnk/@P",
    ".wh..wh.plnk/@P",
    ".wh..wh.plnk/noise",
    ".wh..wh.plnk",
    ".wh..wh.hino",
    ".wh..wh.aufs",
    ".wh..wh.orph",
    ".wh..wh.orph/.wh..wh.x.0001",
    ".wh..wh.orph/noise",
    "new/@R",
    "new/@R",
    "d/@R",
    ".wh..wh..opq",
    "d/.wh..wh..opq",
    "new/.wh..wh..opq",
    ".wh.a",
    ".wh.d",
    ".wh.new",
    "d/.wh.f",
    ".wh.",
    ".wh..wh.",
    "a",
    "d",
];

/// What was noted by real mounts, on a branch of its own.
struct Noted {
    /// The branch below.
    low: PathBuf,
    /// A copy of one of its files, with its note.
    copy: PathBuf,
    note: Vec<u8>,
    record_name: String,
    record: Vec<u8>,
}

impl Noted {
    fn new(cx: &Ctx, base: &Path) -> Result<Self> {
        let low = base.join("low");
        sys::mkdir(&low)?;
        Tree::new()
            .file("a", "low")
            .hardlink("b", "a")
            .hardlink("d/c", "a")
            .symlink("l", "b")
            .hardlink("l2", "l")
            .file("d/f", "f")
            .file("e/secret", "secret")
            .build(&low)?;
        let up = base.join("noted");
        sys::mkdir(&up)?;
        let u = cx
            .union()
            .at(&up, "rw")
            .at(&low, "ro")
            .opt("dirren")
            .mount()?;
        sys::append(u.at("a"), "+")?;
        sys::rename(u.at("e"), u.at("new"))?;
        u.umount()?;
        let plinks = up.join(".wh..wh.plnk");
        let copy = plinks.join(names(&plinks)?.pop_first().context("a pseudo-link")?);
        let record_name = names(up.join("new"))?
            .into_iter()
            .find(|name| name.starts_with(".wh..wh..dr."))
            .context("a record")?;
        Ok(Self {
            low,
            note: sys::get_xattr(&copy, NOTE)?,
            copy,
            record: sys::read(up.join("new").join(&record_name))?,
            record_name,
        })
    }
}

const NOTE: &str = "trusted.ruaufs.plink";
const PARENT: &str = "trusted.ruaufs.parent";

/// Changes some bytes.
fn mutated(bytes: &[u8], changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for &(at, to) in changes {
        let len = bytes.len();
        match to {
            // The end is missing.
            0xee => bytes.truncate(at % (len + 1)),
            _ if len > 0 => bytes[at % len] = to,
            _ => {}
        }
    }
    bytes
}

/// Something on the branch.
type Plant = (&'static str, Thing, Vec<(usize, u8)>, bool, &'static str);

/// Puts it there, if there is nothing yet.
fn plant(up: &Path, noted: &Noted, plant: &Plant) -> Result<()> {
    let (place, thing, changes, with_note, parent) = plant;
    let place = place.replace("@R", &noted.record_name);
    let (dir, name) = place.rsplit_once('/').unwrap_or(("", &place));
    let dir = up.join(dir);
    if std::fs::create_dir_all(&dir).is_err() || sys::lstat(dir.join(name)).is_ok() {
        return Ok(());
    }
    let path = dir.join("planted");
    let contents = match name {
        ".wh..wh.hino" => {
            let number = |name: &str| sys::lstat(up.join(name)).map_or(7, |stat| stat.st_ino);
            let both = [number("new"), number("d")].map(u64::to_be_bytes);
            mutated(both.as_flattened(), changes)
        }
        _ => mutated(&noted.record, changes),
    };
    match thing {
        Thing::Empty => sys::write(&path, "")?,
        Thing::File => sys::write(&path, contents)?,
        Thing::Huge => {
            sys::write(&path, contents)?;
            sys::truncate(&path, 1 << 33)?;
        }
        Thing::Dir => sys::mkdir(&path)?,
        Thing::DirWithFile => {
            sys::mkdir(&path)?;
            sys::write(path.join("x"), "x")?;
        }
        Thing::LinkOutside => sys::symlink("../outside", &path)?,
        Thing::LinkBelow => sys::symlink("../low/e", &path)?,
        Thing::Fifo => sys::mknod(&path, FileType::Fifo, 0o600, 0)?,
        Thing::Device => sys::mknod(&path, FileType::CharacterDevice, 0o600, sys::dev(1, 3))?,
        Thing::Copy => sys::link(&noted.copy, &path)?,
    }
    if *with_note {
        let set = |name: &str, value: &[u8]| {
            rustix::fs::lsetxattr(&path, name, value, rustix::fs::XattrFlags::empty())
        };
        // Not all objects take all of them.
        if !matches!(thing, Thing::Copy) {
            let _ = set(NOTE, &mutated(&noted.note, changes));
        }
        if name == noted.record_name {
            let _ = set(PARENT, parent.as_bytes());
        }
    }
    let number = sys::lstat(&path)?.st_ino;
    sys::rename(&path, dir.join(name.replace("@P", &format!("12.{number}"))))?;
    Ok(())
}

/// Looks at all that a union shows; no error matters, but those of types.
fn walk(dir: &Path, depth: usize) -> Result<()> {
    let Ok(entries) = dir::list(dir) else {
        return Ok(());
    };
    for entry in entries {
        anyhow::ensure!(!entry.name.starts_with(".wh."), "{} shows", entry.name);
        if matches!(&*entry.name, "." | "..") {
            continue;
        }
        let path = dir.join(&entry.name);
        let Ok(stat) = sys::lstat(&path) else {
            continue;
        };
        match sys::kind(&stat) {
            FileType::Directory => {
                anyhow::ensure!(depth < 8, "{}: a directory in itself", path.display());
                walk(&path, depth + 1)?;
            }
            FileType::RegularFile if stat.st_size < 1 << 20 => drop(sys::read(&path)),
            _ => {}
        }
    }
    Ok(())
}

/// Each lower object that no object of the branch above has the name of is of its own type.
fn check_types(up: &Path, u: &Path) -> Result<()> {
    let types = [
        ("a", FileType::RegularFile),
        ("b", FileType::RegularFile),
        ("d/c", FileType::RegularFile),
        ("d/f", FileType::RegularFile),
        ("l", FileType::Symlink),
        ("l2", FileType::Symlink),
        ("d", FileType::Directory),
        ("e", FileType::Directory),
    ];
    for (name, wanted) in types {
        let there = |name: &str| sys::lstat(up.join(name)).is_ok();
        let hidden = there(name) || (name.contains('/') && there("d"));
        match sys::lstat(u.join(name)) {
            Ok(stat) if !hidden => anyhow::ensure!(
                sys::kind(&stat) == wanted && stat.st_nlink > 0,
                "{name} is a {:?} with {} links",
                sys::kind(&stat),
                stat.st_nlink
            ),
            _ => {}
        }
    }
    Ok(())
}

/// Changes what there is. No error matters.
fn change(u: &Path) {
    let at = |name: &str| u.join(name);
    let _ = sys::chmod(at("b"), 0o640);
    for name in ["a", "d/f", "new/secret"] {
        // Not into a named pipe.
        if sys::lstat(at(name)).is_ok_and(|stat| sys::kind(&stat) == FileType::RegularFile) {
            let _ = sys::append(at(name), "+");
        }
    }
    let _ = sys::link(at("b"), at("made"));
    let _ = sys::rename(at("d"), at("moved"));
    let _ = sys::rename(at("new"), at("newer"));
    let _ = sys::unlink(at("d/c"));
    let _ = sys::mkdir(at("d"));
    let _ = sys::write(at("d/f"), "new");
}

fn marks_of_others(cx: &Ctx) -> Result<()> {
    let base = cx.dir(cx.layout.upper())?;
    sys::write(base.join("outside"), "outside")?;
    let noted = Noted::new(cx, &base)?;
    let mnt = cx.mount_point()?;
    let up = base.join("up");
    let planted = (
        select(PLACES),
        select(THINGS),
        vec((0usize..64, any::<u8>()), 0..3),
        any::<bool>(),
        select(&["/", "/d", "/..", "", "/.wh..wh.plnk", "/e/../d", "//d//"][..]),
    );
    let said = (vec(planted, 1..8), any::<bool>(), any::<bool>());
    let options = |dirren: bool, last: &str| {
        let dirren = if dirren { "dirren" } else { "nodirren" };
        let list = format!("br={}={last}:{}=ro", up.display(), noted.low.display());
        [list, dirren.to_owned()]
    };
    model::each(said, calls()?, |(plants, dirren, writable)| {
        let start = Instant::now();
        if sys::lstat(&up).is_ok() {
            // Of one that failed.
            std::fs::remove_dir_all(&up)?;
        }
        sys::mkdir(&up)?;
        sys::mkdir(up.join("new"))?;
        for one in plants {
            plant(&up, &noted, one)?;
        }
        let access = if *writable { "rw" } else { "ro+wh" };
        let options = options(*dirren, access);
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        let mounted = Spec::new(&options).mount(&mnt).is_ok();
        if mounted {
            let done = walk(&mnt, 0)
                .and_then(|()| check_types(&up, &mnt))
                .and_then(|()| {
                    change(&mnt);
                    sys::drop_caches();
                    walk(&mnt, 0)
                });
            if done.is_ok() && *writable {
                let _ = std::fs::remove_dir_all(mnt.join("moved"));
                let _ = std::fs::remove_dir_all(mnt.join("d"));
                for name in names(&mnt)? {
                    let path = mnt.join(name);
                    let _ = sys::unlink(&path).map_err(|_| std::fs::remove_dir_all(&path));
                }
            }
            scratch::umount(&mnt)?;
            done?;
        }
        std::fs::remove_dir_all(&up)?;
        anyhow::ensure!(sys::text(base.join("outside"))? == "outside");
        anyhow::ensure!(
            sys::text(noted.low.join("d/f"))? == "f",
            "a read-only branch"
        );
        anyhow::ensure!(
            start.elapsed() < Duration::from_secs(100),
            "it took too long"
        );
        Ok(())
    })
}
