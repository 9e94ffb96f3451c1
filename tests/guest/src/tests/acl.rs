// SPDX-License-Identifier: GPL-2.0

//! POSIX access control lists, in the binary form of `system.posix_acl_*`.

use std::{fs, os::fd::OwnedFd, path::Path, time::SystemTime};

use crate::harness::{
    acl::{acl, Entry},
    prelude::*,
    scratch::Private,
};

cases! {
    BASIC: lower_ones_are_seen, set_and_removed, they_decide, default_is_inherited,
        chmod_changes_the_mask, copied_with_the_file, default_beats_umask, invalid_ones,
        only_owners_may_set, mode_follows_the_acl, set_by_hand_on_what_is_known,
        set_by_hand_on_what_was_just_made, set_by_hand_before_a_change_through_a_descriptor,
        default_is_not_lost, default_is_not_lost_below;
    WRITABLE: set_gid_goes_where_the_branch_says;
    EXT4: refused_one_keeps_set_gid;
}

const EXT4: &[Layout] = &[Layout::Ext4];

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

const NONE: u32 = u32::MAX;
const fn user_obj(perm: u16) -> Entry {
    (0x01, perm, NONE)
}
const fn user(id: u32, perm: u16) -> Entry {
    (0x02, perm, id)
}
const fn group_obj(perm: u16) -> Entry {
    (0x04, perm, NONE)
}
const fn group(id: u32, perm: u16) -> Entry {
    (0x08, perm, id)
}
const fn mask(perm: u16) -> Entry {
    (0x10, perm, NONE)
}
const fn other(perm: u16) -> Entry {
    (0x20, perm, NONE)
}

/// rw for the owner and for user 1001, nothing for others.
fn for_1001() -> Vec<u8> {
    acl(&[user_obj(6), user(1001, 6), group_obj(0), mask(6), other(0)])
}

fn lower_ones_are_seen(cx: &Ctx) -> Result<()> {
    let default = acl(&[user_obj(7), group_obj(5), group(33, 7), mask(7), other(0)]);
    let low = Tree::new()
        .file("f", "")
        .xattr(ACCESS, for_1001())
        .dir("d")
        .xattr(DEFAULT, &default)
        .file("plain", "");
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    assert_eq!(sys::get_xattr(u.at("f"), ACCESS)?, for_1001());
    assert_eq!(sys::get_xattr(u.at("d"), DEFAULT)?, default);
    errno(sys::get_xattr(u.at("plain"), ACCESS), Errno::NODATA);
    errno(sys::get_xattr(u.at("d"), ACCESS), Errno::NODATA);
    assert_eq!(sys::list_xattr(u.at("f"))?, set([ACCESS]));
    assert_eq!(sys::list_xattr(u.at("d"))?, set([DEFAULT]));
    assert_eq!(sys::list_xattr(u.at("plain"))?, set([]));
    Ok(())
}

fn set_and_removed(cx: &Ctx) -> Result<()> {
    let default = acl(&[user_obj(7), group_obj(5), group(33, 7), mask(7), other(0)]);
    let mut u = cx
        .union()
        .rw(Tree::new().file("t", ""))
        .ro(Tree::new().file("f", "data").dir("d"))
        .opt("acl")
        .mount()?;
    for name in ["t", "f"] {
        sys::set_xattr(u.at(name), ACCESS, for_1001())?;
        assert_eq!(sys::get_xattr(u.br(0, name), ACCESS)?, for_1001());
    }
    sys::set_xattr(u.at("d"), DEFAULT, &default)?;
    u.again()?;
    assert_eq!(sys::get_xattr(u.at("f"), ACCESS)?, for_1001());
    assert_eq!(sys::get_xattr(u.at("d"), DEFAULT)?, default);
    assert_eq!(text(u.at("f"))?, "data");
    for (name, xattr) in [("t", ACCESS), ("f", ACCESS), ("d", DEFAULT)] {
        sys::remove_xattr(u.at(name), xattr)?;
        errno(sys::get_xattr(u.at(name), xattr), Errno::NODATA);
        errno(sys::get_xattr(u.br(0, name), xattr), Errno::NODATA);
    }
    Ok(())
}

fn they_decide(cx: &Ctx) -> Result<()> {
    let group_list = acl(&[user_obj(6), group_obj(0), group(2000, 4), mask(4), other(0)]);
    let deny = acl(&[user_obj(6), user(1001, 0), group_obj(4), mask(4), other(4)]);
    let dir = acl(&[user_obj(7), user(1001, 7), group_obj(5), mask(7), other(0)]);
    let low = Tree::new()
        .file("user", "u")
        .xattr(ACCESS, for_1001())
        .file("group", "g")
        .xattr(ACCESS, group_list)
        .file("deny", "d")
        .xattr(ACCESS, deny)
        .dir("dir")
        .xattr(ACCESS, dir);
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        assert_eq!(text(u.at("user"))?, "u");
        sys::append(u.at("user"), "+")?;
        errno(sys::open_ro(u.at("group")), Errno::ACCESS);
        errno(sys::open_ro(u.at("deny")), Errno::ACCESS);
        sys::write(u.at("dir/f"), "")?;
        Ok(())
    })?;
    users::as_member(1002, 1002, &[2000], || -> Result<()> {
        errno(sys::open_ro(u.at("user")), Errno::ACCESS);
        assert_eq!(text(u.at("group"))?, "g");
        errno(sys::open_rw(u.at("group")), Errno::ACCESS);
        assert_eq!(text(u.at("deny"))?, "d");
        errno(sys::lstat(u.at("dir/f")), Errno::ACCESS);
        Ok(())
    })?;
    // A change is effective at once.
    sys::set_xattr(u.at("deny"), ACCESS, for_1001())?;
    users::as_user(1001, 1001, || sys::append(u.at("deny"), "+"))?;
    sys::remove_xattr(u.at("user"), ACCESS)?;
    users::as_user(1001, 1001, || {
        errno(sys::open_ro(u.at("user")), Errno::ACCESS)
    });
    Ok(())
}

fn default_is_inherited(cx: &Ctx) -> Result<()> {
    let default = acl(&[user_obj(7), user(1001, 7), group_obj(5), mask(7), other(0)]);
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().dir("d").xattr(DEFAULT, &default))
        .opt("acl")
        .mount()?;
    sys::open_mode(u.at("d/f"), OFlags::CREATE | OFlags::RDWR, 0o640)?;
    sys::mkdir_mode(u.at("d/sub"), 0o777)?;
    sys::mknod(u.at("d/fifo"), FileType::Fifo, 0o660, 0)?;
    sys::symlink("x", u.at("d/link"))?;
    let inherited = acl(&[user_obj(6), user(1001, 7), group_obj(5), mask(4), other(0)]);
    for at in [u.at("d/f"), u.br(0, "d/f")] {
        assert_eq!(sys::get_xattr(&at, ACCESS)?, inherited);
        assert_eq!(sys::mode(&sys::lstat(&at)?), 0o640);
    }
    assert_eq!(sys::get_xattr(u.at("d/sub"), DEFAULT)?, default);
    assert_eq!(sys::get_xattr(u.at("d/sub"), ACCESS)?, default);
    assert_eq!(sys::mode(&sys::lstat(u.at("d/sub"))?), 0o770);
    assert_eq!(sys::mode(&sys::lstat(u.at("d/fifo"))?), 0o660);
    errno(sys::get_xattr(u.at("d/link"), ACCESS), Errno::OPNOTSUPP);
    let unnamed = sys::open_mode(u.at("d"), OFlags::TMPFILE | OFlags::RDWR, 0o666)?;
    sys::link_fd(&unnamed, u.at("d/unnamed"))?;
    let wanted = acl(&[user_obj(6), user(1001, 7), group_obj(5), mask(6), other(0)]);
    assert_eq!(sys::get_xattr(u.at("d/unnamed"), ACCESS)?, wanted);
    Ok(())
}

fn default_beats_umask(cx: &Ctx) -> Result<()> {
    let default = acl(&[user_obj(7), group_obj(7), other(7)]);
    let low = Tree::new()
        .dir("with")
        .xattr(DEFAULT, default)
        .dir("without");
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    users::with_umask(0o077, || -> Result<()> {
        for dir in ["with", "without"] {
            sys::create(u.at(dir).join("f"))?;
            sys::mkdir(u.at(dir).join("d"))?;
        }
        Ok(())
    })?;
    let mode = |name: &str| -> Result<u32> { Ok(sys::mode(&sys::lstat(u.at(name))?)) };
    assert_eq!((mode("with/f")?, mode("with/d")?), (0o666, 0o777));
    assert_eq!((mode("without/f")?, mode("without/d")?), (0o600, 0o700));
    Ok(())
}

fn chmod_changes_the_mask(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "x").xattr(ACCESS, for_1001());
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    assert_eq!(
        sys::mode(&sys::lstat(u.at("f"))?),
        0o660,
        "the group bits are the mask"
    );
    sys::chmod(u.at("f"), 0o644)?;
    let wanted = acl(&[user_obj(6), user(1001, 6), group_obj(0), mask(4), other(4)]);
    for at in [u.at("f"), u.br(0, "f")] {
        assert_eq!(sys::get_xattr(&at, ACCESS)?, wanted);
        assert_eq!(sys::mode(&sys::lstat(&at)?), 0o644);
    }
    users::as_user(1001, 1001, || {
        errno(sys::open_rw(u.at("f")), Errno::ACCESS);
        assert_eq!(text(u.at("f")).expect("readable"), "x");
    });
    Ok(())
}

fn copied_with_the_file(cx: &Ctx) -> Result<()> {
    // Into an upper directory with a default list, which must not leak into the copies.
    let leak = acl(&[user_obj(7), user(4321, 7), group_obj(7), mask(7), other(7)]);
    let default = acl(&[user_obj(7), group_obj(5), group(33, 7), mask(7), other(0)]);
    let low = Tree::new()
        .file("d/with", "x")
        .xattr(ACCESS, for_1001())
        .file("d/without", "x")
        .mode(0o604)
        .dir("d/sub")
        .mode(0o705)
        .dir("d/sub2")
        .xattr(DEFAULT, &default);
    let up = Tree::new().dir("d").xattr(DEFAULT, leak);
    let u = cx.union().rw(up).ro(low).opt("acl").mount()?;
    sys::append(u.at("d/with"), "+")?;
    sys::append(u.at("d/without"), "+")?;
    sys::create(u.at("d/sub/new"))?;
    sys::create(u.at("d/sub2/new"))?;
    assert_eq!(sys::get_xattr(u.at("d/with"), ACCESS)?, for_1001());
    errno(sys::get_xattr(u.br(0, "d/without"), ACCESS), Errno::NODATA);
    assert_eq!(sys::mode(&sys::lstat(u.at("d/without"))?), 0o604);
    assert_eq!(sys::list_xattr(u.br(0, "d/sub"))?, set([]));
    assert_eq!(sys::mode(&sys::lstat(u.at("d/sub"))?), 0o705);
    assert_eq!(sys::get_xattr(u.br(0, "d/sub2"), DEFAULT)?, default);
    Ok(())
}

fn invalid_ones(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "").symlink("l", "f");
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    let no_mask = acl(&[user_obj(6), user(1001, 6), group_obj(0), other(0)]);
    errno(sys::set_xattr(u.at("f"), ACCESS, no_mask), Errno::INVAL);
    let mut torn = for_1001();
    torn.push(0);
    errno(sys::set_xattr(u.at("f"), ACCESS, torn), Errno::INVAL);
    errno(
        sys::set_xattr(u.at("f"), ACCESS, b"no ACL"),
        Errno::OPNOTSUPP,
    );
    errno(
        sys::set_xattr(u.at("f"), DEFAULT, for_1001()),
        Errno::ACCESS,
    );
    errno(
        sys::set_xattr(u.at("l"), ACCESS, for_1001()),
        Errno::OPNOTSUPP,
    );
    assert_eq!(sys::list_xattr(u.at("f"))?, set([]));
    Ok(())
}

fn only_owners_may_set(cx: &Ctx) -> Result<()> {
    let low = Tree::new()
        .file("other", "")
        .mode(0o666)
        .file("own", "")
        .owner(1001, 1001);
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    users::as_user(1001, 1001, || -> Result<()> {
        errno(
            sys::set_xattr(u.at("other"), ACCESS, for_1001()),
            Errno::PERM,
        );
        sys::set_xattr(u.at("own"), ACCESS, for_1001())?;
        Ok(())
    })?;
    assert_eq!(sys::get_xattr(u.at("own"), ACCESS)?, for_1001());
    assert!(!exists(u.br(0, "other")));
    Ok(())
}

fn mode_follows_the_acl(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new()
            .file("f", "")
            .mode(0o600)
            .file("g", "")
            .mode(0o600))
        .opt("acl")
        .mount()?;
    // An equivalent list is no list, just a mode.
    sys::set_xattr(
        u.at("f"),
        ACCESS,
        acl(&[user_obj(6), group_obj(4), other(4)]),
    )?;
    errno(sys::get_xattr(u.at("f"), ACCESS), Errno::NODATA);
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o644);
    assert_eq!(sys::mode(&sys::lstat(u.br(0, "f"))?), 0o644);
    sys::set_xattr(u.at("g"), ACCESS, for_1001())?;
    assert_eq!(sys::mode(&sys::lstat(u.at("g"))?), 0o660);
    assert_eq!(sys::mode(&sys::fstat(sys::open_ro(u.at("g"))?)?), 0o660);
    Ok(())
}

/// That a directory had none is not believed longer than its change time.
fn set_by_hand_on_what_is_known(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().dir("d").file("d/f", "f"))
        .ro(Tree::new().dir("e").file("e/f", "f"))
        .opt("acl")
        .mount()?;
    let deny = acl(&[user_obj(7), user(1001, 0), group_obj(5), mask(5), other(5)]);
    for (branch, dir) in [(0, "d"), (1, "e")] {
        let (file, own) = (u.at(dir).join("f"), u.br(branch, dir));
        for _ in 0..3 {
            text(&file)?;
            users::as_user(1001, 1001, || text(&file))?;
        }
        // Often: several changes may be within one tick of the clock.
        for _ in 0..20 {
            sys::set_xattr(&own, ACCESS, &deny)?;
            users::as_user(1001, 1001, || errno(text(&file), Errno::ACCESS));
            assert_eq!(text(&file)?, "f");
            sys::remove_xattr(&own, ACCESS)?;
            assert_eq!(users::as_user(1001, 1001, || text(&file))?, "f");
        }
        // The same through the union.
        sys::set_xattr(u.at(dir), ACCESS, &deny)?;
        users::as_user(1001, 1001, || errno(text(&file), Errno::ACCESS));
        sys::remove_xattr(u.at(dir), ACCESS)?;
        assert_eq!(users::as_user(1001, 1001, || text(&file))?, "f");
    }
    cx.changed_by_hand(&u.br(1, ""))?;
    Ok(())
}

/// Within the tick of the clock in which the union made or wrote the object, or just before.
fn set_by_hand_on_what_was_just_made(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new()).opt("acl").mount()?;
    let deny = acl(&[user_obj(7), user(1001, 0), group_obj(5), mask(5), other(5)]);
    for round in 0..60 {
        let (file, dir) = (format!("f{round}"), format!("d{round}"));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
        let fd = sys::open_mode(u.at(&file), flags, 0o755)?;
        if round % 4 == 1 {
            sys::pwrite_fd(&fd, b"data", 0)?;
        }
        sys::set_xattr(u.br(0, &file), ACCESS, &deny)?;
        match round % 4 {
            2 => sys::pwrite_fd(&fd, b"data", 0)?,
            3 => fs::File::from(fd.try_clone()?).set_modified(SystemTime::UNIX_EPOCH)?,
            _ => {}
        }
        users::as_user(1001, 1001, || {
            errno(sys::open_ro(u.at(&file)), Errno::ACCESS);
        });
        sys::mkdir_mode(u.at(&dir), 0o755)?;
        sys::set_xattr(u.br(0, &dir), ACCESS, &deny)?;
        users::as_user(1001, 1001, || {
            errno(sys::lstat(u.at(&dir).join("absent")), Errno::ACCESS);
        });
    }
    Ok(())
}

/// No walk notices it before the change does.
fn set_by_hand_before_a_change_through_a_descriptor(cx: &Ctx) -> Result<()> {
    use rustix::fs::{fchmod, fsetxattr, ioctl_getflags, ioctl_setflags, IFlags, XattrFlags};
    let u = cx.union().rw(Tree::new()).opt("acl").mount()?;
    let deny = acl(&[user_obj(7), user(1001, 0), group_obj(5), mask(5), other(5)]);
    type Change = fn(&OwnedFd) -> Result<()>;
    let changes: [(&str, Change); 3] = [
        ("attribute", |fd| {
            let set = fsetxattr(fd, "trusted.x", b"1", XattrFlags::empty());
            Ok(sys::on_fd("fsetxattr", set)?)
        }),
        ("flags", |fd| {
            let flags = sys::on_fd("FS_IOC_GETFLAGS", ioctl_getflags(fd))?;
            let set = ioctl_setflags(fd, flags | IFlags::NODUMP);
            Ok(sys::on_fd("FS_IOC_SETFLAGS", set)?)
        }),
        ("mode", |fd| {
            Ok(sys::on_fd("fchmod", fchmod(fd, 0o755.into()))?)
        }),
    ];
    for (name, change) in changes {
        let path = u.at(name);
        sys::write(&path, "data")?;
        sys::chmod(&path, 0o755)?;
        let fd = sys::open_rw(&path)?;
        // That it has none is known now.
        users::as_user(1001, 1001, || text(&path))?;
        sys::set_xattr(u.br(0, name), ACCESS, &deny)?;
        change(&fd).context(name)?;
        users::as_user(1001, 1001, || errno(text(&path), Errno::ACCESS));
    }
    Ok(())
}

/// By an owner who is not in the group of the file.
fn refused_one_keeps_set_gid(cx: &Ctx) -> Result<()> {
    let low = Tree::new().file("f", "").owner(1001, 5).mode(0o2755);
    let u = cx.union().rw(Tree::new()).ro(low).opt("acl").mount()?;
    // More than a block.
    let mut large = vec![user_obj(7)];
    large.extend((2000..3000).map(|id| user(id, 7)));
    large.extend([group_obj(5), mask(7), other(5)]);
    let set = |entries: &[Entry]| {
        users::as_user(1001, 1001, || {
            sys::set_xattr(u.at("f"), ACCESS, acl(entries))
        })
    };
    errno(set(&large), Errno::NOSPC);
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o2755);
    set(&[user_obj(7), group_obj(5), other(5)])?;
    assert_eq!(sys::mode(&sys::lstat(u.at("f"))?), 0o755);
    Ok(())
}

/// Owners who are not in the group of the file set and remove ACLs: the bit goes when it goes on a
/// plain directory. File systems differ in that.
fn set_gid_goes_where_the_branch_says(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let entries = acl(&[user_obj(7), user(1002, 5), group_obj(5), mask(5), other(5)]);
    let tree = || {
        let file = Tree::new().file("f", "").owner(1001, 5).mode(0o2755);
        file.dir("d").owner(1001, 5).mode(0o2755)
    };
    let plain = cx.dir(kind)?;
    tree().build(&plain)?;
    let u = cx
        .union()
        .on(kind, "rw", Tree::new())
        .on(kind, "ro", tree())
        .opt("acl")
        .mount()?;
    for (uid, gid) in [(1001, 1001), (1001, 5), (0, 0)] {
        for name in ["f", "d"] {
            let set_and_remove = |root: &Path| -> Result<_> {
                let path = root.join(name);
                sys::chmod(&path, 0o2755)?;
                users::as_user(uid, gid, || {
                    let mode = || Ok::<_, anyhow::Error>(sys::mode(&sys::lstat(&path)?));
                    let mut modes = Vec::new();
                    sys::set_xattr(&path, ACCESS, &entries)?;
                    modes.push(mode()?);
                    sys::remove_xattr(&path, ACCESS)?;
                    modes.push(mode()?);
                    Ok(modes)
                })
            };
            let removed_alone = |root: &Path| -> Result<_> {
                let path = root.join(name);
                sys::set_xattr(&path, ACCESS, &entries)?;
                sys::chmod(&path, 0o2755)?;
                users::as_user(uid, gid, || sys::remove_xattr(&path, ACCESS))?;
                Ok(sys::mode(&sys::lstat(&path)?))
            };
            let who = format!("{name} by {uid}:{gid}");
            assert_eq!(set_and_remove(u.root())?, set_and_remove(&plain)?, "{who}");
            let nothing_removed = |root: &Path| -> Result<_> {
                sys::chmod(root.join(name), 0o2755)?;
                let path = root.join(name);
                users::as_user(uid, gid, || sys::remove_xattr(path, ACCESS))?;
                Ok(sys::mode(&sys::lstat(root.join(name))?))
            };
            assert_eq!(
                nothing_removed(u.root())?,
                nothing_removed(&plain)?,
                "{who}"
            );
            assert_eq!(removed_alone(u.root())?, removed_alone(&plain)?, "{who}");
        }
    }
    Ok(())
}

/// Warnings that a branch cannot hold a default ACL.
fn told(cx: &Ctx) -> usize {
    let said = cx.klog();
    said.iter()
        .filter(|line| line.contains("cannot hold the default ACL"))
        .count()
}

/// The default ACL of directories lets fewer in than the usual mask.
fn strict() -> Vec<u8> {
    acl(&[user_obj(7), group_obj(0), other(0)])
}

/// A copy on a branch without ACLs would let more users into what is made in it.
fn default_is_not_lost(cx: &Ctx) -> Result<()> {
    let plain = Private::without_acls("plain")?;
    let low = Tree::new()
        .dir("d")
        .xattr(DEFAULT, strict())
        .file("d/f", "low")
        .dir("e")
        .xattr(DEFAULT, strict());
    let low = cx.branch(cx.next_lower(), "ro", &low)?;
    let u = cx.union().at(plain.path(), "rw").at(&low, "ro").mount()?;
    errno(sys::create(u.at("d/new")), Errno::OPNOTSUPP);
    errno(sys::append(u.at("d/f"), "+"), Errno::OPNOTSUPP);
    errno(sys::chmod(u.at("e"), 0o700), Errno::OPNOTSUPP);
    assert!(!exists(plain.path().join("d")) && !exists(plain.path().join("e")));
    assert_eq!(told(cx), 1, "{:?}", cx.klog());
    u.umount()?;
    let u = cx
        .union()
        .at(plain.path(), "rw+icexsys")
        .at(&low, "ro")
        .mount()?;
    sys::create(u.at("d/new"))?;
    sys::append(u.at("d/f"), "+")?;
    assert_eq!(told(cx), 1, "{:?}", cx.klog());
    u.umount()?;
    plain.umount()
}

/// Nor may what is made on such a branch by a policy go without what the directory shows.
fn default_is_not_lost_below(cx: &Ctx) -> Result<()> {
    let plain = Private::without_acls("plain")?;
    Tree::new().dir("d").file("d/f", "").build(plain.path())?;
    let top = Tree::new().dir("d").xattr(DEFAULT, strict());
    let u = cx
        .union()
        .rw(top)
        .at(plain.path(), "rw")
        .opt("create=rr")
        .mount()?;
    let (mut made, mut refused) = (0, 0);
    for n in 0..4 {
        let at = u.at(&format!("d/{n}"));
        match sys::create(&at) {
            Ok(_) => {
                made += 1;
                assert_eq!(sys::mode(&sys::lstat(&at)?), 0o600);
            }
            Err(error) => {
                errno::<()>(Err(error), Errno::OPNOTSUPP);
                refused += 1;
            }
        }
    }
    assert_eq!((made, refused), (2, 2), "by turns");
    u.umount()?;
    plain.umount()
}
