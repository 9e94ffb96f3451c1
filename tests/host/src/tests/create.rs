// SPDX-License-Identifier: GPL-2.0

//! Create policies: examples for each rule, and what holds for all of them.

use proptest::prelude::*;

use logic::{
    create::{choose, tdp, Bounds, Branch, Turn},
    options::{parse, CreatePolicy, Opt},
};

/// Makes branches from words: `w` writable, `p` has the parent, then the free bytes.
fn branches(words: &str) -> Vec<Branch> {
    words
        .split(' ')
        .map(|word| Branch {
            writable: word.contains('w'),
            has_parent: word.contains('p'),
            free: word
                .trim_start_matches(['w', 'p', '-'])
                .parse()
                .unwrap_or(0),
        })
        .collect()
}

fn policy(text: &str) -> CreatePolicy {
    match parse(b"create", Some(text.as_bytes())) {
        Ok(Opt::Create(policy)) => policy,
        other => panic!("{text}: {other:?}"),
    }
}

const FREE: Bounds = Bounds {
    own: None,
    inherited: None,
};

/// Chooses where no branch is bound to have a turn.
fn ask(text: &str, words: &str, bounds: Bounds) -> Option<usize> {
    choose(policy(text), &branches(words), bounds, &mut || {
        panic!("{text} asked for a turn")
    })
}

#[test]
fn top_down_parent() {
    for (words, whiteout, target) in [
        // The topmost branch with the parent.
        ("wp p", None, Some(0)),
        ("w wp p", None, Some(1)),
        // Not writable: the nearest writable one above.
        ("w p", None, Some(0)),
        ("w w - p", None, Some(1)),
        // Never downwards.
        ("p wp", None, None),
        ("p", None, None),
        ("- w p", None, Some(1)),
        // A whiteout on a branch below the topmost parent changes nothing.
        ("wp wp p", Some(2), Some(0)),
        ("w p wp", Some(2), Some(0)),
        // One above is a bound.
        ("w w p", Some(0), Some(0)),
        ("- w p", Some(0), None),
        // Facts that contradict each other.
        ("w", None, None),
        ("p", Some(9), None),
    ] {
        assert_eq!(tdp(&branches(words), whiteout), target, "{words}");
        let bounds = Bounds {
            own: whiteout,
            inherited: None,
        };
        assert_eq!(ask("tdp", words, bounds), target, "{words}");
    }
    assert_eq!(tdp(&[], None), None);
    assert_eq!(tdp(&[], Some(0)), None);
}

#[test]
fn most_free_space() {
    for (words, target) in [
        ("wp5 w9 w7", Some(1)),
        // The parent does not matter, the one that is not writable does.
        ("wp5 9 w7", Some(2)),
        // Of equals the lower one.
        ("w9 w9 w7", Some(1)),
        ("w0 w0", Some(1)),
        ("p9", None),
    ] {
        assert_eq!(ask("mfs", words, FREE), target, "{words}");
    }
}

#[test]
fn top_down_most_free_space() {
    for (words, target) in [
        // The first with more than the limit, whether or not it has the parent.
        ("wp5 wp9 w20", Some(0)),
        ("w5 wp9", Some(0)),
        ("wp4 wp9 w20", Some(1)),
        // Not below the lowest parent: then the one with most.
        ("wp4 w9 w8", Some(1)),
        ("wp4 w8 w9", Some(2)),
        ("p9 wp4 w3", Some(1)),
        ("wp4 wp3", Some(0)),
    ] {
        assert_eq!(ask("tdmfs:4", words, FREE), target, "{words}");
    }
}

#[test]
fn most_free_space_with_the_parent() {
    for (words, target) in [
        // One parent: as tdp.
        ("wp5 w9", Some(0)),
        ("w5 p9", Some(0)),
        // Several: the one with most, of equals the upper one.
        ("wp5 wp9 w20", Some(1)),
        ("w9 wp5 wp5", Some(1)),
        ("wp5 p9 wp7", Some(2)),
        // One that cannot be written above one that can.
        ("p9 wp1", Some(1)),
    ] {
        assert_eq!(ask("pmfs", words, FREE), target, "{words}");
        assert_eq!(ask("pmfsrr:1", words, FREE), target, "{words}");
    }
    assert_eq!(ask("pmfs", "p9", FREE), None);
    assert_eq!(ask("mfsrr:9", "wp5 w9 w7", FREE), Some(1));
    // Too little there: the one with most, wherever the parent is.
    assert_eq!(ask("pmfsrr:10", "wp5 wp9 w20", FREE), Some(2));
    assert_eq!(ask("pmfsrr:9", "wp5 wp9 w20", FREE), Some(1));
}

#[test]
fn by_turns() {
    let table = branches("w wp - w");
    let mut files = 0;
    let mut next = |is_dir: bool| {
        choose(policy("rr"), &table, FREE, &mut || match is_dir {
            true => Turn::Dir(files),
            false => {
                files += 1;
                Turn::File(files - 1)
            }
        })
        .unwrap()
    };
    assert_eq!(next(true), 0, "a directory before the first file");
    // From the lowest one upwards; directories go with the last file.
    for at in [3, 1, 0, 3, 1, 0] {
        assert_eq!(next(false), at);
        assert_eq!(next(true), at);
        assert_eq!(next(true), at);
    }
    // As the last resort.
    for text in ["mfsrr:10", "pmfsrr:10"] {
        let turn = &mut || Turn::File(1);
        assert_eq!(
            choose(policy(text), &branches("wp9 w9 w9"), FREE, turn),
            Some(1)
        );
    }
    assert_eq!(
        choose(policy("rr"), &branches("p -"), FREE, &mut || Turn::File(0)),
        None
    );
}

#[test]
fn what_hides_is_a_bound() {
    let bounds = |own, inherited| Bounds { own, inherited };
    for (text, words, bounds, target) in [
        // A whiteout or an opaque directory decides alone.
        ("mfs", "w1 wp1 w9", bounds(Some(1), None), Some(1)),
        ("pmfs", "wp1 wp9", bounds(Some(0), None), Some(0)),
        ("tdmfs:0", "w1 wp1 w9", bounds(Some(2), None), Some(2)),
        ("mfs", "w1 wp1 w9", bounds(Some(2), Some(0)), Some(0)),
        // Unless it is on a branch that is not written.
        ("mfs", "w1 p w9", bounds(Some(1), None), Some(0)),
        ("mfs", "w9 w1 p w2", bounds(Some(2), None), Some(0)),
        ("mfs", "p w9", bounds(Some(0), None), None),
        // What its parents hide is a limit only.
        ("mfs", "w9 wp1 w2", bounds(None, Some(1)), Some(0)),
        ("mfs", "w1 wp2 w9", bounds(None, Some(1)), Some(1)),
        ("tdmfs:5", "w1 wp9", bounds(None, Some(0)), Some(0)),
    ] {
        assert_eq!(
            ask(text, words, bounds),
            target,
            "{text} {words} {bounds:?}"
        );
    }
}

/// Any policy, any branches, any bounds.
fn anything() -> impl Strategy<Value = (CreatePolicy, Vec<Branch>, Bounds, u64)> {
    let branch =
        (any::<bool>(), any::<bool>(), 0..20u64).prop_map(|(writable, has_parent, free)| Branch {
            writable,
            has_parent,
            free,
        });
    let policy = prop_oneof![
        Just("tdp"),
        Just("rr"),
        Just("mfs"),
        Just("mfsrr:9"),
        Just("tdmfs:9"),
        Just("pmfs"),
        Just("pmfsrr:9"),
    ];
    let table = prop::collection::vec(branch, 1..7);
    (policy, table, any::<u64>()).prop_flat_map(|(text, table, turn)| {
        let bound = || prop::option::of(0..table.len());
        let bounds = (bound(), bound()).prop_map(|(own, inherited)| Bounds { own, inherited });
        (Just(policy_of(text)), Just(table), bounds, Just(turn))
    })
}

fn policy_of(text: &str) -> CreatePolicy {
    policy(text)
}

proptest! {
    #[test]
    fn the_choice_can_be_written_and_seen((policy, table, bounds, turn) in anything()) {
        let choice = choose(policy, &table, bounds, &mut || Turn::File(turn));
        let mut limit = table.len() - 1;
        for bound in [bounds.own, bounds.inherited].into_iter().flatten() {
            limit = limit.min(bound);
        }
        if let Some(at) = choice {
            prop_assert!(table[at].writable);
            if policy != CreatePolicy::Tdp {
                prop_assert!(at <= limit, "hidden");
            }
        }
        let possible = table[..=limit].iter().any(|branch| branch.writable);
        let parent = table.iter().position(|branch| branch.has_parent);
        match policy {
            // These need the parent to be somewhere.
            CreatePolicy::Tdp | CreatePolicy::TdMfs { .. } | CreatePolicy::Pmfs { .. } => {
                prop_assert!(choice.is_none() || parent.is_some() || bounds.own.is_some());
            }
            _ => prop_assert_eq!(choice.is_some(), possible),
        }
        if bounds.own.is_some() && policy != CreatePolicy::Tdp && table[limit].writable {
            prop_assert_eq!(choice, Some(limit));
        }
    }

    #[test]
    fn most_space_wins((_, table, _, _) in anything()) {
        let best = |holds: &dyn Fn(&Branch) -> bool| {
            table.iter().filter(|b| b.writable && holds(b)).map(|b| b.free).max()
        };
        let ask = |text| choose(policy(text), &table, FREE, &mut || panic!("a turn"));
        prop_assert_eq!(ask("mfs").map(|at| table[at].free), best(&|_| true));
        if let Some(free) = best(&|b| b.has_parent) {
            let at = ask("pmfs").unwrap();
            prop_assert_eq!((table[at].free, table[at].has_parent), (free, true));
        }
    }

    #[test]
    fn turns_are_even((_, table, _, turn) in anything()) {
        let turn = turn % (1 << 40);
        let writable: Vec<usize> = (0..table.len()).filter(|&at| table[at].writable).collect();
        let mut chosen: Vec<usize> = (0..writable.len() as u64)
            .map(|n| choose(policy("rr"), &table, FREE, &mut || Turn::File(turn + n)).unwrap())
            .collect();
        chosen.sort_unstable();
        prop_assert_eq!(chosen, writable);
    }

    #[test]
    fn contradicting_facts_do_no_harm(
        (policy, table, _, turn) in anything(),
        own in prop::option::of(any::<usize>()),
        inherited in prop::option::of(any::<usize>()),
    ) {
        let bounds = Bounds { own, inherited };
        choose(policy, &table, bounds, &mut || Turn::Dir(turn));
        choose(policy, &[], bounds, &mut || Turn::File(turn));
    }
}
