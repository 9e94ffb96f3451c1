// SPDX-License-Identifier: GPL-2.0

//! Commit against the model: what the union showed before, the branches under UPPER show after; and
//! at no interruption the union shows anything else.

#![allow(clippy::disallowed_methods)]

mod model;

use std::{
    cell::Cell,
    path::{Path, PathBuf},
};

use model::Op;
use proptest::prelude::*;
use ruaufs_user::commit::{Action, Branches, Commit, Options, Stopped, Survey, Watch};

/// Stops after some steps.
#[derive(Default)]
struct Steps {
    stop_after: Option<u32>,
    seen: Cell<u32>,
    actions: Vec<(Action, PathBuf)>,
    bytes: u64,
    objects: u64,
    warnings: Vec<String>,
}

impl Watch for Steps {
    fn action(&mut self, action: Action, path: &Path) {
        self.actions.push((action, path.to_owned()));
    }

    fn object(&mut self) {
        self.objects += 1;
    }

    fn bytes(&mut self, bytes: u64) {
        self.bytes += bytes;
    }

    fn warn(&mut self, text: String) {
        self.warnings.push(text);
    }

    fn stop(&self) -> bool {
        self.seen.set(self.seen.get() + 1);
        self.stop_after.is_some_and(|after| self.seen.get() > after)
    }
}

/// Names that a finished commit leaves in UPPER.
fn left_in(upper: &Path) -> Vec<String> {
    let names = std::fs::read_dir(upper)
        .unwrap()
        .map(|e| e.unwrap().file_name());
    let mut names: Vec<String> = names.map(|n| n.into_string().unwrap()).collect();
    names.sort();
    names
}

struct Case {
    upper: PathBuf,
    lower: PathBuf,
    below: PathBuf,
    honours: (bool, bool),
    with_below: bool,
}

impl Case {
    fn branches(&self) -> Branches {
        let below = self
            .with_below
            .then(|| (self.below.clone(), self.honours.1));
        Branches {
            upper: self.upper.clone(),
            lower: self.lower.clone(),
            lower_honours: self.honours.0,
            below: below.into_iter().collect(),
        }
    }

    fn lower_ones(&self) -> Vec<(&Path, bool)> {
        let mut all = vec![(self.lower.as_path(), self.honours.0)];
        if self.with_below {
            all.push((&self.below, self.honours.1));
        }
        all
    }

    fn whole(&self) -> Vec<(&Path, bool)> {
        let mut all = vec![(self.upper.as_path(), true)];
        all.extend(self.lower_ones());
        all
    }

    fn survey(&self, options: Options) -> Survey {
        let commit = Commit::new(self.branches(), options).unwrap();
        commit.survey(&mut Steps::default()).unwrap()
    }

    /// Runs with interruptions after more and more steps.
    fn run(&self, options: Options, mut stop_after: Option<u32>) -> Result<(), TestCaseError> {
        let before = model::shown(&self.whole());
        loop {
            let mut watch = Steps {
                stop_after,
                ..Steps::default()
            };
            let commit = Commit::new(self.branches(), options).unwrap();
            match commit.run(&mut watch) {
                Ok(()) => return Ok(()),
                Err(e) if e.chain().any(|c| c.is::<Stopped>()) => {
                    let mut now = model::shown(&self.whole());
                    // The journal is in UPPER's root.
                    let root = now.get_mut("").unwrap();
                    root.mtime = before[""].mtime;
                    prop_assert_eq!(&now, &before, "after {:?} steps", stop_after);
                }
                Err(e) => return Err(TestCaseError::fail(format!("{e:#}"))),
            }
            stop_after = stop_after.map(|n| n + 1 + n / 2);
        }
    }
}

fn check(
    [upper_ops, lower_ops, below_ops]: &[Vec<Op>; 3],
    honours: (bool, bool),
    with_below: bool,
    apart: bool,
    keep: bool,
    stop_after: Option<u32>,
) -> Result<(), TestCaseError> {
    let (_one, _two, [upper, lower, below]) = model::directories(apart);
    model::build(&upper, upper_ops, 1);
    model::build(&lower, lower_ops, 2);
    model::build(&below, below_ops, 3);
    let case = Case {
        upper,
        lower,
        below,
        honours,
        with_below,
    };
    let options = Options {
        keep,
        ..Options::default()
    };
    let before = model::shown(&case.whole());
    let trees = || [&case.upper, &case.lower, &case.below].map(|path| model::read(path));
    let disk = trees();
    let survey = case.survey(options);
    prop_assert_eq!(trees(), disk.clone(), "a survey changes nothing");
    prop_assert_eq!(survey.links, !apart && !keep);
    if !survey.problems.is_empty() {
        // A mark is needed where none counts.
        prop_assert!(with_below && !honours.0, "{:?}", survey.problems);
        return Ok(());
    }
    case.run(options, stop_after)?;
    let after = model::shown(&case.lower_ones());
    prop_assert_eq!(&after, &before);
    let now = trees();
    prop_assert_eq!(&now[2], &disk[2], "BELOW stays as it is");
    match keep {
        true => prop_assert_eq!(&now[0], &disk[0]),
        false => prop_assert_eq!(left_in(&case.upper), Vec::<String>::new()),
    }
    let checked = ruaufs_user::check::Check::default();
    let lower = ruaufs_user::dir::Dir::open(&case.lower).unwrap();
    for finding in checked.branch(lower).unwrap().findings {
        use ruaufs_user::check::What;
        // Only what was there before.
        let known = finding.what == What::BesideWhiteout;
        prop_assert!(known, "left behind: {:?}", finding);
    }
    Ok(())
}

fn branches() -> impl Strategy<Value = [Vec<Op>; 3]> {
    [model::branch(), model::branch(), model::branch()]
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig {
        cases,
        failure_persistence: None,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(config(300))]

    #[test]
    fn by_links(ops in branches(), honours: (bool, bool), with_below: bool) {
        check(&ops, honours, with_below, false, false, None)?;
    }

    #[test]
    fn by_copies(ops in branches(), honours: (bool, bool), with_below: bool) {
        check(&ops, honours, with_below, true, false, None)?;
    }

    #[test]
    fn upper_is_kept(ops in branches(), honours: (bool, bool), with_below: bool, apart: bool) {
        check(&ops, honours, with_below, apart, true, None)?;
    }

    #[test]
    fn interrupted_again_and_again(ops in branches(), below_honours: bool, with_below: bool, apart: bool, keep: bool) {
        check(&ops, (true, below_honours), with_below, apart, keep, Some(1))?;
    }
}

fn write(root: &Path, path: &str, text: &str) {
    std::fs::create_dir_all(root.join(path).parent().unwrap()).unwrap();
    std::fs::write(root.join(path), text).unwrap();
}

fn plain_case(apart: bool) -> (tempfile::TempDir, tempfile::TempDir, Case) {
    let (one, two, [upper, lower, below]) = model::directories(apart);
    let case = Case {
        upper,
        lower,
        below,
        honours: (true, true),
        with_below: false,
    };
    (one, two, case)
}

#[test]
fn a_dry_run_says_what_it_would_do() {
    let (_one, _two, case) = plain_case(false);
    for (root, path) in [
        (&case.upper, "new"),
        (&case.upper, "changed"),
        (&case.upper, ".wh.gone"),
        (&case.upper, "made/inside"),
        (&case.upper, "again/.wh..wh..opq"),
        (&case.upper, "again/x"),
        (&case.lower, "changed"),
        (&case.lower, "gone/with/contents"),
        (&case.lower, "again/y"),
        (&case.lower, "stays"),
    ] {
        write(root, path, "text");
    }
    let commit = Commit::new(case.branches(), Options::default()).unwrap();
    let mut watch = Steps::default();
    let survey = commit.survey(&mut watch).unwrap();
    use Action::*;
    let expected = [
        (Remove, "gone"),
        (Remove, "again/y"),
        (Add, "again/x"),
        (Replace, "changed"),
        (MakeDir, "made"),
        (Add, "made/inside"),
        (Add, "new"),
    ];
    assert_eq!(
        watch.actions,
        expected.map(|(action, path)| (action, PathBuf::from(path)))
    );
    assert_eq!((survey.objects, survey.bytes), (6, 16));
    assert!(survey.problems.is_empty() && survey.links);
}

#[test]
fn a_second_run_copies_only_what_is_missing() {
    let (_one, _two, case) = plain_case(true);
    for i in 0..40 {
        write(&case.upper, &format!("f{i:02}"), &"x".repeat(1000));
    }
    std::fs::hard_link(case.upper.join("f05"), case.upper.join("f30")).unwrap_err();
    std::fs::remove_file(case.upper.join("f30")).unwrap();
    std::fs::hard_link(case.upper.join("f05"), case.upper.join("f30")).unwrap();
    let run = |stop_after| {
        let mut watch = Steps {
            stop_after,
            ..Steps::default()
        };
        let commit = Commit::new(case.branches(), Options::default()).unwrap();
        let result = commit.run(&mut watch);
        (result.is_ok(), watch.actions.len())
    };
    let (ended, first) = run(Some(60));
    assert!(!ended && first > 10, "{first}");
    // Changed in between: copied again.
    write(&case.upper, "f01", "another text");
    let (ended, second) = run(None);
    assert!(ended);
    // The one that was being copied when it was interrupted may count twice, and so do the names of
    // a file with several.
    assert!((41..=44).contains(&(first + second)), "{first} + {second}");
    let ino = |name: &str| {
        std::os::unix::fs::MetadataExt::ino(&case.lower.join(name).metadata().unwrap())
    };
    assert_eq!(ino("f05"), ino("f30"));
    assert_eq!(
        std::fs::read_to_string(case.lower.join("f01")).unwrap(),
        "another text"
    );
}

#[test]
fn marks_that_would_not_count_are_refused_before_anything_is_done() {
    let (_one, _two, mut case) = plain_case(false);
    case.honours.0 = false;
    case.with_below = true;
    write(&case.upper, ".wh.gone", "");
    write(&case.below, "gone", "");
    let survey = case.survey(Options::default());
    assert_eq!(survey.problems.len(), 1);
    assert!(
        survey.problems[0].contains("ro+wh"),
        "{}",
        survey.problems[0]
    );
}

#[test]
fn what_other_branches_depend_on_is_refused() {
    let (_one, _two, case) = plain_case(false);
    write(&case.upper, ".wh..wh.plnk/11.12", "left over");
    write(&case.upper, ".wh..wh.plnk/11.13", "a copy");
    assert_eq!(case.survey(Options::default()).problems, [""; 0]);
    let noted = case.upper.join(".wh..wh.plnk/11.13");
    let flags = rustix::fs::XattrFlags::empty();
    rustix::fs::lsetxattr(noted, "trusted.ruaufs.plink", b"x", flags).unwrap();
    write(&case.lower, ".wh..wh.hino", "12345678");
    let problems = case.survey(Options::default()).problems;
    assert_eq!(problems.len(), 2);
    assert!(problems[0].contains("1 pseudo-links"), "{}", problems[0]);
    assert!(problems[1].contains("dirren"), "{}", problems[1]);
}

#[test]
fn branches_in_each_other_are_refused() {
    let (_one, two, case) = plain_case(false);
    let refused = |upper: &Path, lower: &Path| {
        let branches = Branches {
            upper: upper.to_owned(),
            lower: lower.to_owned(),
            ..case.branches()
        };
        Commit::new(branches, Options::default())
            .err()
            .unwrap()
            .to_string()
    };
    for error in [
        refused(&case.upper, &case.upper),
        refused(&case.upper, two.path()),
        refused(two.path(), &case.upper),
    ] {
        assert!(error.contains("one in the other"), "{error}");
    }
}

#[test]
fn two_at_a_time_are_refused() {
    let (_one, _two, case) = plain_case(false);
    let first = Commit::new(case.branches(), Options::default()).unwrap();
    let second = Commit::new(case.branches(), Options::default())
        .err()
        .unwrap();
    assert!(second.to_string().contains("another commit"), "{second}");
    drop(first);
    Commit::new(case.branches(), Options::default()).unwrap();
}

#[test]
fn all_marks_are_kept_if_wanted() {
    let (_one, _two, case) = plain_case(false);
    write(&case.upper, ".wh.gone", "");
    write(&case.upper, "d/.wh..wh..opq", "");
    write(&case.lower, "gone", "");
    write(&case.lower, "d/x", "");
    let options = Options {
        all_marks: true,
        ..Options::default()
    };
    Commit::new(case.branches(), options)
        .unwrap()
        .run(&mut Steps::default())
        .unwrap();
    assert_eq!(left_in(&case.lower), [".wh.gone", "d"]);
    assert_eq!(left_in(&case.lower.join("d")), [".wh..wh..opq"]);
}

#[test]
fn marks_are_made_only_where_something_would_show() {
    let (_one, _two, mut case) = plain_case(false);
    case.with_below = true;
    for name in ["d/.wh.a", "d/.wh.b", "e/.wh.a"] {
        write(&case.upper, name, "");
    }
    write(&case.lower, "e/.wh..wh..opq", "");
    for name in ["d/a", "e/a"] {
        write(&case.lower, name, "");
        write(&case.below, name, "");
    }
    let commit = Commit::new(case.branches(), Options::default()).unwrap();
    commit.run(&mut Steps::default()).unwrap();
    assert_eq!(left_in(&case.lower.join("d")), [".wh.a"]);
    assert_eq!(left_in(&case.lower.join("e")), [".wh..wh..opq"]);
}

#[test]
fn an_opaque_root_is_emptied_in_the_right_order() {
    for stop_after in 0..20 {
        let (_one, _two, case) = plain_case(false);
        // The first is before the mark in any order of names.
        for name in ["+first", ".wh..wh..opq", "last/x"] {
            write(&case.upper, name, "");
        }
        write(&case.lower, "hidden", "");
        let shown = || -> Vec<String> { model::shown(&case.whole()).into_keys().collect() };
        let before = shown();
        let mut watch = Steps {
            stop_after: Some(stop_after),
            ..Steps::default()
        };
        let commit = Commit::new(case.branches(), Options::default()).unwrap();
        let ended = commit.run(&mut watch).is_ok();
        assert_eq!(shown(), before, "after {stop_after} steps");
        assert!(ended || stop_after < 19, "more steps than are tried here");
    }
}

#[test]
fn holes_stay_holes() {
    let (_one, _two, case) = plain_case(true);
    let file = std::fs::File::create(case.upper.join("sparse")).unwrap();
    file.set_len(64 << 20).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, b"data", 32 << 20).unwrap();
    drop(file);
    Commit::new(case.branches(), Options::default())
        .unwrap()
        .run(&mut Steps::default())
        .unwrap();
    let meta = std::fs::metadata(case.lower.join("sparse")).unwrap();
    use std::os::unix::fs::MetadataExt;
    assert_eq!(meta.len(), 64 << 20);
    assert!(meta.blocks() * 512 < 1 << 20, "{} blocks", meta.blocks());
}
