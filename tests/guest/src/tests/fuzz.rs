// SPDX-License-Identifier: GPL-2.0

//! Random mounts, remounts and ioctls: whatever they say, what they refuse changes nothing, and the
//! union goes on.
//!
//! `FUZZ` is the number of calls of each kind (default 200), `SEED` chooses them. What the kernel
//! complains about, leaks or keeps busy is found by the frame around each test.

use std::os::fd::{FromRawFd, OwnedFd};

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
    BASIC: remounts, ioctls;
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
