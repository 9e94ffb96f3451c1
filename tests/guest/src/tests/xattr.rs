// SPDX-License-Identifier: GPL-2.0

//! Extended attributes.

use crate::harness::{prelude::*, sys::XattrFlags};

cases! {
    XATTRS: lower_ones_are_seen, set_copies_up, removal;
    BASIC: create_and_replace, buffer_sizes, names_of_other_spaces, names_of_the_system,
        on_directories_and_links,
        through_descriptors, copied_with_the_file, capabilities_of_files, permission,
        many_and_large;
    ONCE: refused_by_the_copys_branch;
}

/// What the branch of the copy does not take is ignored if it says so (`icex*`).
fn refused_by_the_copys_branch(cx: &Ctx) -> Result<()> {
    // More than ext4 has room for.
    let large = vec![7u8; 6000];
    for (perm, user, trusted) in [
        ("rw", false, false),
        ("rw+icexusr", true, false),
        ("rw+icextr", false, true),
        ("rw+icexsec+icexsys+icexoth", false, false),
        ("rw+icex", true, true),
    ] {
        for (name, forgiven) in [("user.large", user), ("trusted.large", trusted)] {
            let low = Tree::new().file("f", "f").xattr("user.small", "s");
            let u = cx
                .union()
                .on(Kind::Ext4, perm, Tree::new())
                .on(Kind::Tmpfs, "ro", low.xattr(name, &large))
                .opt("verbose")
                .mount()?;
            let before = cx.klog().len();
            let result = sys::append(u.at("f"), "+");
            let said = cx.klog()[before..].join("\n");
            assert!(said.contains(name), "{perm}: the log does not name {name}");
            if forgiven {
                result?;
                assert_eq!(text(u.br(0, "f"))?, "f+");
                assert_eq!(sys::list_xattr(u.at("f"))?, set(["user.small"]), "{perm}");
            } else {
                errno(result, Errno::NOSPC);
                assert!(!exists(u.br(0, "f")), "{perm}");
                assert_eq!(sys::get_xattr(u.at("f"), name)?, large);
            }
        }
    }
    Ok(())
}

fn lower_ones_are_seen(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "")
        .xattr("user.one", "1")
        .xattr("user.empty", "")
        .xattr("trusted.t", [0, 255])
        .dir("d")
        .xattr("user.dir", "d");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    assert_eq!(
        sys::list_xattr(u.at("f"))?,
        set(["user.one", "user.empty", "trusted.t"])
    );
    assert_eq!(sys::get_xattr(u.at("f"), "user.one")?, b"1");
    assert_eq!(sys::get_xattr(u.at("f"), "user.empty")?, b"");
    assert_eq!(sys::get_xattr(u.at("f"), "trusted.t")?, [0, 255]);
    assert_eq!(sys::get_xattr(u.at("d"), "user.dir")?, b"d");
    errno(sys::get_xattr(u.at("f"), "user.none"), Errno::NODATA);
    assert_eq!(sys::list_xattr(u.root())?, set([]));
    assert!(!exists(u.br(0, "f")));
    Ok(())
}

fn set_copies_up(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("d/f", "data")
        .mode(0o640)
        .xattr("user.old", "old");
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let ino = sys::lstat(u.at("d/f"))?.st_ino;
    sys::set_xattr(u.at("d/f"), "user.new", "new")?;
    sys::set_xattr(u.at("d/f"), "user.old", "changed")?;
    sys::set_xattr(u.at("d"), "user.dir", "x")?;
    for at in [u.at("d/f"), u.br(0, "d/f")] {
        assert_eq!(sys::get_xattr(&at, "user.new")?, b"new");
        assert_eq!(sys::get_xattr(&at, "user.old")?, b"changed");
        assert_eq!(text(&at)?, "data");
        assert_eq!(
            sys::mtime(&sys::lstat(&at)?),
            sys::mtime(&sys::lstat(u.br(1, "d/f"))?)
        );
    }
    assert_eq!(sys::lstat(u.at("d/f"))?.st_ino, ino);
    u.again()?;
    assert_eq!(sys::list_xattr(u.at("d/f"))?, set(["user.old", "user.new"]));
    assert_eq!(sys::get_xattr(u.at("d"), "user.dir")?, b"x");
    Ok(())
}

fn removal(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("f", "x")
        .xattr("user.a", "1")
        .xattr("user.b", "2");
    let mut u = cx.union().rw(Tree::new()).ro(low).mount()?;
    errno(sys::remove_xattr(u.at("f"), "user.none"), Errno::NODATA);
    sys::remove_xattr(u.at("f"), "user.a")?;
    for _ in 0..2 {
        errno(sys::get_xattr(u.at("f"), "user.a"), Errno::NODATA);
        assert_eq!(
            sys::list_xattr(u.at("f"))?,
            set(["user.b"]),
            "really gone, not empty"
        );
        u.again()?;
    }
    assert_eq!(sys::list_xattr(u.br(0, "f"))?, set(["user.b"]));
    Ok(())
}

fn create_and_replace(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").xattr("user.a", "1"))
        .mount()?;
    let set = |name, value, flags| sys::set_xattr_with(u.at("f"), name, value, flags);
    errno(set("user.a", "2", XattrFlags::CREATE), Errno::EXIST);
    errno(set("user.b", "2", XattrFlags::REPLACE), Errno::NODATA);
    set("user.b", "2", XattrFlags::CREATE)?;
    set("user.a", "3", XattrFlags::REPLACE)?;
    assert_eq!(sys::get_xattr(u.at("f"), "user.a")?, b"3");
    assert_eq!(sys::get_xattr(u.at("f"), "user.b")?, b"2");
    Ok(())
}

fn buffer_sizes(cx: &Ctx) -> Result<()> {
    use rustix::fs::{lgetxattr, lgetxattr_query, llistxattr, llistxattr_query};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "").xattr("user.abc", "0123456789"))
        .mount()?;
    let p = u.at("f");
    assert_eq!(
        sys::at("lgetxattr", &p, lgetxattr_query(&p, "user.abc"))?,
        10
    );
    assert_eq!(
        sys::at("llistxattr", &p, llistxattr_query(&p))?,
        "user.abc\0".len()
    );
    let mut small = [0u8; 5];
    errno(
        sys::at("lgetxattr", &p, lgetxattr(&p, "user.abc", &mut small[..])),
        Errno::RANGE,
    );
    errno(
        sys::at("llistxattr", &p, llistxattr(&p, &mut small[..])),
        Errno::RANGE,
    );
    Ok(())
}

fn names_of_other_spaces(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", ""))
        .mount()?;
    errno(sys::set_xattr(u.at("f"), "nospace", "x"), Errno::OPNOTSUPP);
    errno(sys::set_xattr(u.at("f"), "bogus.x", "x"), Errno::OPNOTSUPP);
    errno(sys::get_xattr(u.at("f"), "bogus.x"), Errno::OPNOTSUPP);
    errno(sys::set_xattr(u.at("f"), "user.", "x"), Errno::INVAL);
    sys::set_xattr(u.at("f"), "trusted.any.name", "x")?;
    assert_eq!(sys::get_xattr(u.br(0, "f"), "trusted.any.name")?, b"x");
    users::as_user(1001, 1001, || {
        errno(sys::get_xattr(u.at("f"), "trusted.any.name"), Errno::NODATA);
        assert_eq!(sys::list_xattr(u.at("f")).expect("list"), set([]));
    });
    Ok(())
}

/// The VFS asks nobody who may change what begins with `system.`.
fn names_of_the_system(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("secret", "s")
        .mode(0o600)
        .file("own", "o")
        .owner(1001, 1001);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || {
        errno(sys::set_xattr(u.at("secret"), "system.x", "x"), Errno::PERM);
        errno(sys::remove_xattr(u.at("secret"), "system.x"), Errno::PERM);
        errno(sys::get_xattr(u.at("secret"), "system.x"), Errno::OPNOTSUPP);
        errno(
            sys::set_xattr(u.at("own"), "system.x", "x"),
            Errno::OPNOTSUPP,
        );
    });
    assert!(
        !exists(u.br(0, "secret")),
        "copied for who may not change it"
    );
    Ok(())
}

fn on_directories_and_links(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .dir("d")
        .symlink("l", "d")
        .xattr("trusted.l", "on the link")
        .fifo("p");
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::set_xattr(u.at("d"), "user.d", "dir")?;
    sys::set_xattr(u.root(), "user.root", "root")?;
    assert_eq!(sys::get_xattr(u.br(0, "d"), "user.d")?, b"dir");
    assert_eq!(sys::get_xattr(u.br(0, ""), "user.root")?, b"root");
    assert_eq!(sys::get_xattr(u.at("l"), "trusted.l")?, b"on the link");
    errno(sys::set_xattr(u.at("l"), "user.x", "x"), Errno::PERM);
    errno(sys::set_xattr(u.at("p"), "user.x", "x"), Errno::PERM);
    sys::set_xattr(u.at("l"), "trusted.m", "too")?;
    sys::set_xattr(u.at("p"), "trusted.p", "p")?;
    assert_eq!(
        sys::list_xattr(u.br(0, "l"))?,
        set(["trusted.l", "trusted.m"])
    );
    assert_eq!(sys::readlink(u.at("l"))?, "d");
    assert_eq!(sys::list_xattr(u.at("d"))?, set(["user.d"]));
    Ok(())
}

fn through_descriptors(cx: &Ctx) -> Result<()> {
    use rustix::fs::{fgetxattr, fremovexattr, fsetxattr};
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", "x").xattr("user.a", "1"))
        .mount()?;
    let fd = sys::open_ro(u.at("f"))?;
    let mut buf = [0u8; 16];
    let n = sys::on_fd("fgetxattr", fgetxattr(&fd, "user.a", &mut buf[..]))?;
    assert_eq!(&buf[..n], b"1");
    sys::on_fd(
        "fsetxattr",
        fsetxattr(&fd, "user.b", b"2", XattrFlags::empty()),
    )?;
    sys::on_fd("fremovexattr", fremovexattr(&fd, "user.a"))?;
    assert_eq!(sys::list_xattr(u.at("f"))?, set(["user.b"]));
    assert_eq!(sys::pread_fd(&fd)?, b"x");
    Ok(())
}

fn copied_with_the_file(cx: &Ctx) -> Result<()> {
    let all = ["user.u", "trusted.t", "security.s"];
    let mut low = Tree::new();
    for name in ["write", "chmod", "rename", "truncate", "link"] {
        low = all
            .iter()
            .fold(low.file(name, "data"), |t, n| t.xattr(n, *n));
    }
    low = all.iter().fold(low.dir("dir"), |t, n| t.xattr(n, *n));
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::append(u.at("write"), "+")?;
    sys::chmod(u.at("chmod"), 0o600)?;
    sys::rename(u.at("rename"), u.at("renamed"))?;
    sys::truncate(u.at("truncate"), 1)?;
    sys::link(u.at("link"), u.at("linked"))?;
    sys::create(u.at("dir/new"))?;
    for name in ["write", "chmod", "renamed", "truncate", "linked", "dir"] {
        assert_eq!(sys::list_xattr(u.br(0, name))?, set(all), "{name}");
        for xattr in all {
            assert_eq!(
                sys::get_xattr(u.at(name), xattr)?,
                xattr.as_bytes(),
                "{name}"
            );
        }
    }
    Ok(())
}

/// `security.capability`, revision 2: cap_net_raw permitted and effective.
const CAPABILITY: [u8; 20] = [
    1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
];

fn capabilities_of_files(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("meta", "x")
        .xattr("security.capability", CAPABILITY)
        .file("written", "x")
        .mode(0o666)
        .xattr("security.capability", CAPABILITY);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    sys::utimens(u.at("meta"), (1, 1), (1, 1))?;
    sys::rename(u.at("meta"), u.at("moved"))?;
    assert_eq!(
        sys::get_xattr(u.at("moved"), "security.capability")?,
        CAPABILITY
    );
    // Content that changes loses its privileges, here as anywhere.
    users::as_user(1001, 1001, || sys::append(u.at("written"), "y"))?;
    errno(
        sys::get_xattr(u.at("written"), "security.capability"),
        Errno::NODATA,
    );
    assert_eq!(text(u.at("written"))?, "xy");
    Ok(())
}

fn permission(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("closed", "")
        .mode(0o600)
        .xattr("user.a", "1")
        .file("readable", "")
        .mode(0o644)
        .xattr("user.a", "1")
        .file("writable", "")
        .mode(0o666);
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(sys::get_xattr(u.at("closed"), "user.a"), Errno::ACCESS);
        errno(
            sys::set_xattr(u.at("readable"), "user.a", "2"),
            Errno::ACCESS,
        );
        errno(sys::remove_xattr(u.at("readable"), "user.a"), Errno::ACCESS);
        assert_eq!(sys::get_xattr(u.at("readable"), "user.a")?, b"1");
        errno(
            sys::set_xattr(u.at("writable"), "trusted.a", "2"),
            Errno::PERM,
        );
        sys::set_xattr(u.at("writable"), "user.a", "2")?;
        Ok(())
    })?;
    let bases = set([".wh..wh.aufs", ".wh..wh.plnk", ".wh..wh.orph", "writable"]);
    assert_eq!(names(u.br(0, ""))?, bases, "refusals copy nothing up");
    Ok(())
}

fn many_and_large(cx: &Ctx) -> Result<()> {
    // As much as an ext4 inode and its attribute block take.
    let mut low = Tree::new().file("f", "x").xattr("user.large", [b'v'; 2000]);
    for i in 0..30 {
        low = low.xattr(&format!("user.n{i}"), i.to_string());
    }
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    assert_eq!(sys::list_xattr(u.at("f"))?.len(), 31);
    sys::append(u.at("f"), "y")?;
    assert_eq!(sys::list_xattr(u.br(0, "f"))?.len(), 31);
    assert_eq!(sys::get_xattr(u.at("f"), "user.large")?, [b'v'; 2000]);
    assert_eq!(sys::get_xattr(u.at("f"), "user.n29")?, b"29");
    let too_large = vec![0; 65537];
    errno(
        sys::set_xattr(u.at("f"), "user.too", too_large),
        Errno::TOOBIG,
    );
    Ok(())
}
