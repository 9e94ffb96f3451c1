// SPDX-License-Identifier: GPL-2.0

//! The grammar of mount options: the forms a branch list comes in, what is accepted, what is
//! tolerated with a warning.

use crate::harness::{
    prelude::*,
    scratch::{self},
    union::{mounts_line, reconfigure, Spec},
};

use super::{
    bad_input::refused,
    mount::{mounted, two, usable},
};

cases! {
    ONCE: default_permissions, colon_form, colon_form_cut_at_equals, spellings_of_the_list,
        repeated_br, long_lists, options_that_are_accepted, tolerated_mistakes, tables_of_numbers, warnings_about_roots, strange_paths,
        relative_and_symlinked_paths;
}

fn default_permissions(cx: &Ctx) -> Result<()> {
    // First branch rw, the others ro; `PATH=` means ro.
    let (rw, ro) = two(cx)?;
    for api in [Api::Mount2, Api::Fsopen] {
        let u = mounted(cx, &[&format!("br={rw}:{ro}")], api)?;
        usable(&u)?;
        assert!(!exists(std::path::Path::new(&ro).join(".wh..wh.aufs")));
        u.umount()?;
        let u = mounted(cx, &[&format!("br={ro}=:{ro}x")], api);
        assert!(u.is_err(), "a missing second branch is refused");
        let u = mounted(cx, &[&format!("br={ro}=")], api)?;
        errno(sys::create(u.at("new")), Errno::ROFS);
    }
    Ok(())
}

fn colon_form(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    let u = mounted(cx, &[&format!("br:{rw}:{ro}")], Api::Mount2)?;
    usable(&u)?;
    u.umount()?;
    let u = mounted(cx, &[&format!("br:{rw}=rw:{ro}=ro+wh")], Api::Mount2)?;
    usable(&u)?;
    u.umount()?;
    let (add, append) = (format!("add:0:{rw}"), format!("append:{ro}=ro"));
    let u = mounted(cx, &[&add, &append], Api::Mount2)?;
    usable(&u)
}

fn colon_form_cut_at_equals(cx: &Ctx) -> Result<()> {
    // libmount cuts at the first `=`: key `br:/rw`, value `rw:/ro=ro`; without `=` it is a flag.
    let (rw, ro) = two(cx)?;
    let u = mounted(cx, &[&format!("br:{rw}=rw:{ro}=ro")], Api::Fsopen)?;
    usable(&u)?;
    u.umount()?;
    let u = mounted(cx, &[&format!("br:{rw}:{ro}")], Api::Fsopen)?;
    usable(&u)?;
    u.umount()?;
    let u = mounted(cx, &[&format!("br:{rw}:{ro}=ro")], Api::Fsopen)?;
    usable(&u)?;
    u.umount()?;
    let (add, append) = (format!("add:0:{rw}"), format!("append:{ro}=ro"));
    let u = mounted(cx, &[&add, &append], Api::Fsopen)?;
    usable(&u)
}

fn spellings_of_the_list(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    for api in [Api::Mount2, Api::Fsopen] {
        for options in [
            vec![format!("dirs={rw}=rw:{ro}=ro")],
            vec![format!("br={rw}=rw:{ro}=ro:")],
            vec![format!("br={rw}=rw"), format!("append={ro}=ro")],
            vec![format!("append={ro}=ro"), format!("prepend={rw}=rw")],
            vec![format!("add=0:{ro}=ro"), format!("ins=0:{rw}=rw")],
            vec![format!("br={ro}=rr"), format!("add=0:{rw}")],
            vec![format!("br={rw}=rw+nolwh:{ro}=ro+wh")],
        ] {
            let options: Vec<_> = options.iter().map(String::as_str).collect();
            let u = mounted(cx, &options, api)?;
            usable(&u)?;
            u.umount()?;
        }
    }
    Ok(())
}

fn repeated_br(cx: &Ctx) -> Result<()> {
    // One fsconfig(2) value holds 255 bytes, so a long list comes in pieces.
    let kind = cx.layout.upper();
    let mut options = Vec::new();
    for i in 0..30 {
        let tree = Tree::new()
            .file(&format!("f{i}"), "")
            .file("same", i.to_string());
        let perm = if i == 0 { "rw" } else { "ro" };
        options.push(format!(
            "br={}={perm}",
            cx.branch(kind, perm, &tree)?.display()
        ));
    }
    let options: Vec<_> = options.iter().map(String::as_str).collect();
    for api in [Api::Mount2, Api::Fsopen] {
        let u = mounted(cx, &options, api)?;
        assert_eq!(names(u.root())?.len(), 31);
        assert_eq!(text(u.at("same"))?, "0", "in the order given");
        u.umount()?;
    }
    Ok(())
}

fn long_lists(cx: &Ctx) -> Result<()> {
    // mount(2) takes almost a page of options in one string.
    let kind = cx.layout.upper();
    let mut list = String::from("br=");
    for i in 0..127 {
        let perm = if i == 0 { "rw" } else { "ro+wh" };
        let tree = Tree::new().file(&format!("f{i}"), "");
        list += &format!("{}={perm}:", cx.branch(kind, perm, &tree)?.display());
    }
    assert!(
        list.len() > 2500 && list.len() < 4000,
        "{} bytes",
        list.len()
    );
    let u = mounted(cx, &[&list], Api::Mount2)?;
    assert_eq!(names(u.root())?.len(), 127);
    Ok(())
}

fn options_that_are_accepted(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    let list = format!("br={rw}=rw:{ro}=ro");
    let xino = std::path::Path::new(&rw).with_file_name("xino");
    for api in [Api::Mount2, Api::Fsopen] {
        for option in [
            "noxino",
            "trunc_xino",
            "notrunc_xino",
            "trunc_xib",
            "dirperm1",
            "nodirperm1",
            "plink",
            "udba=none",
            "udba=reval",
            "create=tdp",
            "create_policy=top-down-parent",
            "cpup=tdp",
            "copyup=tdp",
            "copyup_policy=top-down-parent",
            "cpup=bup",
            "cpup=bu",
            "diropq=w",
            "diropq=a",
            "warn_perm",
            "nowarn_perm",
            "claim",
            "noclaim",
            "verbose",
            "v",
            "noverbose",
            "quiet",
            "q",
            "silent",
            "dio",
            "nodio",
            "sum",
            "nosum",
            "acl",
            "noacl",
            "noshwh",
            "nodirren",
            "si=1234abcd",
            "clean_plink",
            "debug=1",
            "nodlgt",
            "relatime",
        ] {
            // `relatime` and `silent` are flags of mount(2), and options only in its string.
            let u = mounted(cx, &[&list, option], api)?;
            usable(&u).with_context(|| option.to_owned())?;
            u.umount()?;
        }
        let u = mounted(cx, &[&list, &format!("xino={}", xino.display())], api)?;
        usable(&u)?;
        u.umount()?;
        assert!(!exists(&xino), "the table has no name");
    }
    // A trailing comma and empty items reach mount(2) raw (docker).
    let u = mounted(cx, &[&format!("{list},,dio,")], Api::Mount2)?;
    usable(&u)?;
    u.umount()?;
    let u = mounted(cx, &[&format!("ro,{list}")], Api::Mount2)?;
    errno(sys::create(u.at("new")), Errno::ROFS);
    Ok(())
}

fn tolerated_mistakes(cx: &Ctx) -> Result<()> {
    // aufs warns and goes on: an unknown permission is ro, an unknown attribute is dropped.
    let (rw, ro) = two(cx)?;
    for api in [Api::Mount2, Api::Fsopen] {
        let u = mounted(cx, &[&format!("br={rw}=rw:{ro}=bogus")], api)?;
        usable(&u)?;
        u.umount()?;
        let u = mounted(cx, &[&format!("br={rw}=rx")], api)?;
        errno(sys::create(u.at("new")), Errno::ROFS);
        u.umount()?;
        let u = mounted(cx, &[&format!("br={rw}=rw+bogusattr:{ro}=ro")], api)?;
        usable(&u)?;
        u.umount()?;
    }
    let said = cx.klog().join("\n");
    for word in ["bogus", "rx", "bogusattr"] {
        assert!(said.contains(word), "no warning names {word}:\n{said}");
    }
    Ok(())
}

/// There are no tables, but a mistake is one.
fn tables_of_numbers(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    let list = format!("br={rw}=rw:{ro}=ro");
    let words: &[&[&str]] = &[&["trunc_xino"], &["remount"]];
    refused(cx, &[&list, "itrunc_xino=0"], Errno::INVAL, words);
    let option = format!("trunc_xino={ro}");
    refused(cx, &[&list, &option], Errno::INVAL, words);
    let u = mounted(cx, &[&list], Api::Fsopen)?;
    for option in ["itrunc_xino=1", &option] {
        let before = cx.klog().len();
        reconfigure(u.root(), &[option])?;
        assert!(!cx.klog()[before..].join("\n").contains("xino"));
    }
    for option in ["itrunc_xino=2", "trunc_xino=/proc"] {
        let refusal = reconfigure(u.root(), &[option]).expect_err(option);
        assert_eq!(refusal.errno, Errno::INVAL, "{refusal}");
        assert!(refusal.log.join("\n").contains("trunc_xino"), "{refusal}");
    }
    usable(&u)
}

/// Branches whose roots differ from the first one's are reported.
fn warnings_about_roots(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    sys::chmod(&ro, 0o711)?;
    cx.changed_by_hand(std::path::Path::new(&ro))?;
    let list = format!("br={rw}=rw:{ro}=ro");
    for (option, warned) in [("nowarn_perm", false), ("warn_perm", true), ("nosum", true)] {
        let before = cx.klog().len();
        mounted(cx, &[&list, option], Api::Fsopen)?.umount()?;
        let said = cx.klog()[before..].join("\n");
        assert_eq!(
            said.contains("owner or mode differs"),
            warned,
            "{option}: {said}"
        );
        assert_eq!(said.contains(&ro), warned, "{option}: {said}");
    }
    // Each once, when it comes.
    let u = mounted(cx, &[&list], Api::Fsopen)?;
    let new = cx.branch(Kind::Tmpfs, "ro", &Tree::new())?;
    sys::chmod(&new, 0o711)?;
    cx.changed_by_hand(&new)?;
    let new = new.display().to_string();
    for (change, warned) in [
        (format!("append={new}=ro"), true),
        (format!("mod={new}=rr"), false),
        ("sum".to_owned(), false),
        (format!("del={new}"), false),
    ] {
        let before = cx.klog().len();
        reconfigure(u.root(), &[&change])?;
        let said = cx.klog()[before..].join("\n");
        assert_eq!(
            said.contains("owner or mode differs"),
            warned,
            "{change}: {said}"
        );
        assert!(!said.contains(&ro), "{change}: {said}");
    }
    u.umount()
}

fn strange_paths(cx: &Ctx) -> Result<()> {
    let parent = cx.dir(Kind::Tmpfs)?;
    for name in [
        "with space",
        "tab\tbed",
        "new\nline",
        "back\\slash",
        "ünï",
        "hash#",
        "%s%n",
        "+wh",
    ] {
        let (rw, ro) = (
            parent.join(format!("rw{name}")),
            parent.join(format!("ro{name}")),
        );
        sys::mkdir(&rw)?;
        sys::mkdir(&ro)?;
        Tree::new().file("low", "low").build(&ro)?;
        for api in [Api::Mount2, Api::Fsopen] {
            let list = format!("br={}=rw:{}=ro", rw.display(), ro.display());
            let u = mounted(cx, &[&list], api)?;
            usable(&u)?;
            let line = mounts_line(u.root())?;
            assert_eq!(
                line.len(),
                6,
                "the line of /proc/mounts is broken: {line:?}"
            );
            u.umount()?;
        }
    }
    Ok(())
}

fn relative_and_symlinked_paths(cx: &Ctx) -> Result<()> {
    let (rw, ro) = two(cx)?;
    let parent = std::path::Path::new(&rw)
        .parent()
        .expect("has one")
        .to_owned();
    let name = |p: &str| std::path::Path::new(p).file_name().map(|n| n.to_owned());
    let (rw_name, ro_name) = (name(&rw).expect("a name"), name(&ro).expect("a name"));
    sys::symlink(&rw, parent.join("link"))?;
    let mnt = cx.mount_point()?;
    for (api, first) in [
        (Api::Mount2, "./link"),
        (Api::Fsopen, &*rw_name.to_string_lossy()),
    ] {
        let list = format!(
            "br={first}=rw:../{}/{}=ro",
            parent.file_name().expect("a name").to_string_lossy(),
            ro_name.to_string_lossy()
        );
        let spec = Spec::new(&[&list]).api(api);
        users::apart(|| -> Result<()> {
            rustix::process::chdir(&parent)?;
            Ok(spec.mount(&mnt)?)
        })?;
        assert_eq!(text(mnt.join("low"))?, "low");
        sys::write(mnt.join("new"), "x")?;
        assert!(exists(std::path::Path::new(&rw).join("new")));
        sys::unlink(mnt.join("new"))?;
        scratch::umount(&mnt)?;
    }
    Ok(())
}
