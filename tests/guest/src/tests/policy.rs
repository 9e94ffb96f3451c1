// SPDX-License-Identifier: GPL-2.0

//! Policies: the branch that gets a copy (`cpup=`).

use crate::harness::prelude::*;

cases! {
    BASIC: copies_go_where_the_policy_says, copies_pass_by_what_is_in_the_way;
}

/// Which of the writable branches 0 to 2 holds `path`.
fn holders(u: &Union, path: &str) -> Vec<usize> {
    (0..3).filter(|&at| exists(u.br(at, path))).collect()
}

/// The directory `d` is on the writable branches 0 and 1, not on 2; its file is on the lowest.
fn copies_go_where_the_policy_says(cx: &Ctx) -> Result<()> {
    for (option, branch) in [
        ("cpup=tdp", 0),
        ("copyup=top-down-parent", 0),
        ("cpup=bup", 1),
        ("copyup_policy=bottom-up-parent", 1),
        ("cpup=bu", 2),
        ("copyup=bottom-up", 2),
    ] {
        let kind = cx.layout.upper();
        let low = Tree::new()
            .file("d/sub/f", "low")
            .file("d/sub/g", "low")
            .file("d/h", "low")
            .file("d/gone", "low");
        let d = Tree::new().dir("d").mode(0o751).owner(3, 4);
        let mut u = cx
            .union()
            .on(kind, "rw", d.clone())
            .on(kind, "rw", d)
            .on(kind, "rw", Tree::new())
            .on(kind, "ro", low)
            .opt(option)
            .mount()?;
        sys::chmod(u.at("d/h"), 0o600)?;
        sys::unlink(u.at("d/gone"))?;
        for name in ["d/h", "d/.wh.gone"] {
            assert_eq!(holders(&u, name), [branch], "{option}: {name}");
        }
        // `sub` is on none of them: the nearest one, whatever the policy.
        sys::append(u.at("d/sub/f"), "+")?;
        assert_eq!(holders(&u, "d/sub/f"), [2], "{option}");
        let d = sys::lstat(u.br(2, "d"))?;
        assert_eq!((sys::mode(&d), d.st_uid, d.st_gid), (0o751, 3, 4));
        for _ in 0..2 {
            assert_eq!(text(u.at("d/sub/f"))?, "low+");
            assert_eq!(text(u.at("d/sub/g"))?, "low");
            assert_eq!(sys::mode(&sys::lstat(u.at("d/h"))?), 0o600);
            assert_eq!(names(u.at("d"))?, set(["sub", "h"]));
            u.again()?;
        }
    }
    Ok(())
}

/// Something of another type bears the directory's name on the branch that is nearest.
fn copies_pass_by_what_is_in_the_way(cx: &Ctx) -> Result<()> {
    let kind = cx.layout.upper();
    let mut u = cx
        .union()
        .on(kind, "rw", Tree::new().dir("d"))
        .on(kind, "rw", Tree::new())
        .on(kind, "rw", Tree::new().file("d", "in the way"))
        .on(kind, "ro", Tree::new().file("d/sub/f", "low"))
        .opt("cpup=bu")
        .mount()?;
    sys::append(u.at("d/sub/f"), "+")?;
    assert!(exists(u.br(1, "d/sub/f")) && !exists(u.br(0, "d/sub")));
    assert_eq!(text(u.br(2, "d"))?, "in the way");
    u.again()?;
    assert_eq!(text(u.at("d/sub/f"))?, "low+");
    Ok(())
}
