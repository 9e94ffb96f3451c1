// SPDX-License-Identifier: GPL-2.0

//! The fold of probes, against the rules applied to all branches at once.

use crate::rust::logic::lookup::{Answer, End, Found, Mark, Marks, Scan, Step, Take, Verdict};

/// What one branch holds of a name.
#[derive(Clone, Copy, Debug)]
struct Branch {
    found: Found,
    whiteout: bool,
    opaque: bool,
    marks: Marks,
}

/// Does what the module's documentation says; also returns which marks were asked for.
fn scan(branches: &[Branch]) -> (Verdict, Vec<usize>, Vec<(usize, Step)>) {
    let mut scan = Scan::new(branches.len());
    let (mut taken, mut asked) = (Vec::new(), Vec::new());
    for (i, branch) in branches.iter().enumerate() {
        let Answer { take, mut step } = scan.real(branch.found, branch.marks);
        if take == Take::Yes {
            assert_ne!(branch.found, Found::Absent);
            taken.push(i);
        }
        let mark = |present| if present { Mark::Present } else { Mark::Absent };
        loop {
            match step {
                Step::Next => break,
                Step::Stop => return (scan.verdict(), taken, asked),
                Step::AskWhiteout => {
                    asked.push((i, step));
                    step = scan.mark(mark(branch.whiteout));
                }
                Step::AskOpaque => {
                    asked.push((i, step));
                    assert_eq!(branch.found, Found::Dir);
                    step = scan.mark(mark(branch.opaque));
                }
            }
        }
    }
    panic!("the scan did not stop at the last branch");
}

/// The rules, applied to all branches at once.
fn model(branches: &[Branch]) -> (Verdict, Vec<usize>) {
    let last = branches.len() - 1;
    let whiteout =
        |i: usize| i < last && branches[i].marks == Marks::Honoured && branches[i].whiteout;
    let opaque = |i: usize| i < last && branches[i].marks == Marks::Honoured && branches[i].opaque;
    let first = (0..branches.len()).find(|&i| branches[i].found != Found::Absent);
    let cut = (0..branches.len()).find(|&i| whiteout(i));
    let top = match (first, cut) {
        (None, None) => return (Verdict::Absent, vec![]),
        (first, Some(at)) if first.is_none_or(|first| first > at) => {
            return (Verdict::Whiteouted { at }, vec![])
        }
        (first, _) => first.unwrap(),
    };
    if branches[top].found == Found::Other {
        return (Verdict::Other { at: top }, vec![top]);
    }
    let mut taken = Vec::new();
    let mut end = End::Bottom;
    for (i, branch) in branches.iter().enumerate().skip(top) {
        if branch.found == Found::Dir {
            taken.push(i);
        }
        if whiteout(i) {
            end = End::Whiteout(i);
            break;
        }
        if branch.found == Found::Dir && opaque(i) {
            end = End::Opaque(i);
            break;
        }
    }
    (Verdict::Dir { top, end }, taken)
}

/// The `n`-th of the 24 states of a branch.
fn branch(n: usize) -> Branch {
    Branch {
        found: [Found::Absent, Found::Dir, Found::Other][n % 3],
        whiteout: n / 3 % 2 == 0,
        opaque: n / 6 % 2 == 0,
        marks: [Marks::Honoured, Marks::Ignored][n / 12],
    }
}

#[test]
fn all_unions_of_up_to_four_branches() {
    for len in 1..=4u32 {
        for case in 0..24usize.pow(len) {
            let branches: Vec<Branch> = (0..len)
                .map(|i| branch(case / 24usize.pow(i) % 24))
                .collect();
            let (verdict, taken, asked) = scan(&branches);
            assert_eq!((verdict, taken), model(&branches), "{branches:?}");
            for (i, step) in asked {
                assert_eq!(branches[i].marks, Marks::Honoured, "{branches:?} {step:?}");
                assert_ne!(i, branches.len() - 1, "nothing left to hide: {branches:?}");
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
        marks: Marks::Honoured,
    };
    let (verdict, taken, asked) = scan(&[both, both]);
    assert_eq!(taken, [0]);
    let end = End::Whiteout(0);
    assert_eq!(verdict, Verdict::Dir { top: 0, end });
    assert_eq!(asked, [(0, Step::AskWhiteout)]);
}

#[test]
fn one_branch_needs_no_mark() {
    for n in 0..24 {
        assert!(scan(&[branch(n)]).2.is_empty());
    }
}

#[test]
fn misuse_is_harmless() {
    // No branch at all.
    let mut none = Scan::new(0);
    let stop = Answer {
        take: Take::No,
        step: Step::Stop,
    };
    assert_eq!(none.real(Found::Dir, Marks::Honoured), stop);
    assert_eq!(none.mark(Mark::Present), Step::Stop);
    assert_eq!(none.verdict(), Verdict::Absent);
    // A mark nobody asked for.
    let mut early = Scan::new(2);
    assert_eq!(early.mark(Mark::Present), Step::Next);
    assert_eq!(early.verdict(), Verdict::Absent);
    // Going on after the end.
    let mut late = Scan::new(2);
    late.real(Found::Other, Marks::Honoured);
    assert_eq!(late.real(Found::Dir, Marks::Honoured), stop);
    assert_eq!(late.mark(Mark::Present), Step::Stop);
    assert_eq!(late.verdict(), Verdict::Other { at: 0 });
    // A name where a mark was expected.
    let mut skipped = Scan::new(3);
    let asks = skipped.real(Found::Absent, Marks::Honoured).step;
    assert_eq!(asks, Step::AskWhiteout);
    assert_eq!(skipped.real(Found::Dir, Marks::Honoured), stop);
    assert_eq!(skipped.verdict(), Verdict::Absent);
}
