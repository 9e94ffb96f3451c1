// SPDX-License-Identifier: GPL-2.0

//! The fold of probes, against the rules applied to all branches at once.

use logic::lookup::{Found, Marks, Scan, Step};

/// What one branch holds of a name.
#[derive(Clone, Copy, Debug)]
struct Branch {
    found: Found,
    whiteout: bool,
    opaque: bool,
    /// Whether its marks count.
    honoured: bool,
}

/// Does what the module's documentation says: the branches taken, and those asked for marks.
fn scan(branches: &[Branch]) -> (Vec<usize>, Vec<usize>) {
    run(Scan::new(branches.len()), branches)
}

fn run(mut scan: Scan, branches: &[Branch]) -> (Vec<usize>, Vec<usize>) {
    let (mut taken, mut asked) = (Vec::new(), Vec::new());
    let mut step = scan.step();
    loop {
        step = match step {
            Step::Name(i) => scan.name(branches[i].found),
            Step::Marks(i) => {
                asked.push(i);
                let branch = branches[i];
                let opaque = branch.opaque && taken.contains(&i);
                scan.marks(match branch.honoured && (branch.whiteout || opaque) {
                    true => Marks::Present,
                    false => Marks::Absent,
                })
            }
            Step::Take(i) => {
                assert_ne!(branches[i].found, Found::Absent);
                taken.push(i);
                scan.taken()
            }
            Step::Done => return (taken, asked),
        };
    }
}

/// As [`scan`], with as long answers as possible.
fn scan_in_runs(branches: &[Branch]) -> Vec<usize> {
    let mut scan = Scan::new(branches.len());
    let mut taken = Vec::new();
    let mut step = scan.step();
    let end = |from: usize, stop: &dyn Fn(usize) -> bool| {
        (from..branches.len())
            .find(|&i| stop(i))
            .unwrap_or(branches.len())
    };
    loop {
        step = match step {
            Step::Name(i) if branches[i].found == Found::Absent => {
                scan.absent_until(end(i, &|i| branches[i].found != Found::Absent))
            }
            Step::Name(i) => scan.name(branches[i].found),
            Step::Marks(i) => {
                let marks = |i: usize| {
                    let branch = branches[i];
                    let opaque = branch.opaque && taken.contains(&i);
                    branch.honoured && (branch.whiteout || opaque)
                };
                match end(i, &marks) {
                    first if first == i => scan.marks(Marks::Present),
                    first => scan.clear_until(first),
                }
            }
            Step::Take(i) => {
                taken.push(i);
                scan.taken()
            }
            Step::Done => return taken,
        };
    }
}

/// The rules, applied to all branches at once.
fn model(branches: &[Branch]) -> Vec<usize> {
    let whiteout = |i: usize| branches[i].honoured && branches[i].whiteout;
    let opaque = |i: usize| branches[i].honoured && branches[i].opaque;
    let Some(top) = (0..branches.len()).find(|&i| branches[i].found != Found::Absent) else {
        return vec![];
    };
    if (0..top).any(whiteout) {
        return vec![];
    }
    if branches[top].found == Found::Other {
        return vec![top];
    }
    let mut taken = Vec::new();
    for (i, branch) in branches.iter().enumerate().skip(top) {
        if branch.found == Found::Dir {
            taken.push(i);
        }
        if whiteout(i) || branch.found == Found::Dir && opaque(i) {
            break;
        }
    }
    taken
}

/// The `n`-th of the 24 states of a branch.
fn branch(n: usize) -> Branch {
    Branch {
        found: [Found::Absent, Found::Dir, Found::Other][n % 3],
        whiteout: n / 3 % 2 == 0,
        opaque: n / 6 % 2 == 0,
        honoured: n / 12 == 0,
    }
}

#[test]
fn all_unions_of_up_to_four_branches() {
    for len in 1..=4u32 {
        for case in 0..24usize.pow(len) {
            let branches: Vec<Branch> = (0..len)
                .map(|i| branch(case / 24usize.pow(i) % 24))
                .collect();
            let (taken, asked) = scan(&branches);
            assert_eq!(taken, model(&branches), "{branches:?}");
            assert_eq!(taken, scan_in_runs(&branches), "{branches:?}");
            let last = branches.iter().rposition(|b| b.found != Found::Absent);
            for i in asked {
                assert!(Some(i) < last, "nothing left to hide at {i}: {branches:?}");
            }
        }
    }
}

#[test]
fn whiteout_beside_its_entry_hides_lower_ones_only() {
    let both = Branch {
        found: Found::Dir,
        whiteout: true,
        opaque: false,
        honoured: true,
    };
    assert_eq!(scan(&[both, both]), (vec![0], vec![0]));
}

#[test]
fn absent_names_need_no_marks() {
    let hidden = Branch {
        found: Found::Absent,
        whiteout: true,
        opaque: false,
        honoured: true,
    };
    assert_eq!(scan(&[hidden; 5]), (vec![], vec![]));
}

#[test]
fn below_a_directory_only_directories_count() {
    let of = |branches: &[Branch]| run(Scan::below_dir(branches.len()), branches).0;
    let plain = |found| Branch {
        found,
        whiteout: false,
        opaque: false,
        honoured: true,
    };
    let (file, dir) = (plain(Found::Other), plain(Found::Dir));
    let whiteout = Branch {
        whiteout: true,
        ..plain(Found::Absent)
    };
    assert_eq!(of(&[file, dir, file, dir]), [1, 3]);
    assert_eq!(of(&[dir, whiteout, dir]), [0]);
    assert_eq!(of(&[whiteout, dir]), [0; 0]);
    assert_eq!(of(&[]), [0; 0]);
}

#[test]
fn one_branch_needs_no_mark() {
    for n in 0..24 {
        assert!(scan(&[branch(n)]).1.is_empty());
    }
}

#[test]
fn misuse_is_harmless() {
    // No branch at all.
    let mut none = Scan::new(0);
    assert_eq!(none.step(), Step::Done);
    assert_eq!(none.name(Found::Dir), Step::Done);
    assert_eq!(none.marks(Marks::Present), Step::Done);
    assert_eq!(none.taken(), Step::Done);
    // Answers that nobody asked for.
    let mut early = Scan::new(2);
    assert_eq!(early.marks(Marks::Present), Step::Name(0));
    assert_eq!(early.taken(), Step::Name(0));
    assert_eq!(early.clear_until(1), Step::Name(0));
    assert_eq!(early.absent_until(0), Step::Name(0));
    assert_eq!(early.absent_until(5), Step::Done);
    // Going on after the end.
    let mut late = Scan::new(2);
    assert_eq!(late.name(Found::Other), Step::Take(0));
    assert_eq!(late.name(Found::Dir), Step::Take(0));
    assert_eq!(late.taken(), Step::Done);
    assert_eq!(late.name(Found::Dir), Step::Done);
}
