// SPDX-License-Identifier: GPL-2.0

//! Where to copy to, how to remove.

use logic::env::EROFS;

use logic::{
    copyup::{choose, mode_without_acl},
    create::Branch,
    options::CopyUpPolicy,
    remove::{plan, Facts, Plan},
};

/// Makes branches from words: `w` writable, `p` has the parent.
fn branches(words: &str) -> Vec<Branch> {
    words
        .split(' ')
        .map(|word| Branch {
            writable: word.contains('w'),
            has_parent: word.contains('p'),
            free: 0,
        })
        .collect()
}

#[test]
fn copy_up() {
    use CopyUpPolicy::{Bu, Bup, Tdp};
    for (words, top, by_tdp, by_bup, by_bu) in [
        // Already where it can be changed.
        ("wp wp", 1, Some(1), Some(1), Some(1)),
        ("w", 0, Some(0), Some(0), Some(0)),
        // One writable branch above.
        ("wp p", 1, Some(0), Some(0), Some(0)),
        ("w p", 1, Some(0), Some(0), Some(0)),
        // Where they differ.
        ("wp wp w p", 3, Some(0), Some(1), Some(2)),
        ("w wp p p", 3, Some(1), Some(1), Some(1)),
        ("w w - p", 3, Some(1), Some(1), Some(1)),
        ("p wp w p", 3, Some(1), Some(1), Some(2)),
        // Nothing above, something below.
        ("p wp", 0, None, None, None),
        ("p p wp", 1, None, None, None),
        // No such branch.
        ("wp", 1, None, None, None),
    ] {
        let branches = branches(words);
        for (policy, target) in [(Tdp, by_tdp), (Bup, by_bup), (Bu, by_bu)] {
            assert_eq!(choose(policy, &branches, top), target, "{words} {policy:?}");
        }
    }
    assert_eq!(choose(Tdp, &[], 0), None);
}

/// All tables of four branches: the target is writable and not below, and there is one if any.
#[test]
fn targets_are_always_usable() {
    for bits in 0..1u32 << 8 {
        let branches: Vec<Branch> = (0..4)
            .map(|i| Branch {
                writable: (bits >> (2 * i)) & 1 != 0,
                has_parent: (bits >> (2 * i + 1)) & 1 != 0,
                free: 0,
            })
            .collect();
        let possible = |top: usize| branches[..=top].iter().any(|branch| branch.writable);
        for top in 0..4 {
            for policy in [CopyUpPolicy::Tdp, CopyUpPolicy::Bup, CopyUpPolicy::Bu] {
                let target = choose(policy, &branches, top);
                assert_eq!(target.is_some(), possible(top));
                assert!(target.is_none_or(|at| at <= top && branches[at].writable));
            }
        }
    }
}

#[test]
fn remove() {
    let ask = |top, target, visible_below| {
        plan(&Facts {
            top,
            target,
            visible_below,
        })
    };
    let answer = |on, whiteout, remove| {
        Ok(Plan {
            on,
            whiteout,
            remove,
        })
    };
    assert_eq!(ask(0, Some(0), false), answer(0, false, true));
    assert_eq!(ask(0, Some(0), true), answer(0, true, true));
    assert_eq!(ask(2, Some(2), true), answer(2, true, true));
    assert_eq!(ask(2, Some(0), false), answer(0, true, false));
    assert_eq!(ask(2, Some(1), true), answer(1, true, false));
    assert_eq!(ask(0, None, true), Err(EROFS));
    assert_eq!(ask(1, Some(2), false), Err(EROFS), "cannot hide from below");
}

#[test]
fn an_acl_that_goes_gives_nobody_more() {
    const OWNER: u16 = 1;
    const USER: u16 = 2;
    const OWNING_GROUP: u16 = 4;
    const GROUP: u16 = 8;
    const MASK: u16 = 16;
    const OTHERS: u16 = 32;
    let minimal = [(OWNER, 6), (OWNING_GROUP, 4), (OTHERS, 1)];
    for (mode, more, wanted) in [
        (0o641, &[][..], 0o641),
        (0o4641, &[], 0o4641),
        // The mask is what the mode shows for the group.
        (0o661, &[(USER, 6), (MASK, 6)], 0o640),
        (0o671, &[(GROUP, 7), (MASK, 7)], 0o641),
        (0o601, &[(GROUP, 7), (MASK, 0)], 0o600),
        // Who has less by name.
        (0o641, &[(USER, 0), (MASK, 4)], 0o600),
        (0o641, &[(GROUP, 0), (MASK, 7)], 0o640),
        (0o651, &[(USER, 5), (USER, 1), (MASK, 5)], 0o601),
    ] {
        let acl = minimal.iter().chain(more).copied();
        assert_eq!(mode_without_acl(mode, acl), wanted, "{mode:o} {more:?}");
    }
    assert_eq!(mode_without_acl(0o777, [(USER, 7)].into_iter()), 0o700);
}
