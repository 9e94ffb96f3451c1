// SPDX-License-Identifier: GPL-2.0

//! File handles.

use proptest::prelude::*;

use crate::rust::logic::{
    env::KVec,
    handle::{parse, Object, Part, Target, MAX_WORDS},
};

fn written(target: &Target<'_>) -> Option<Vec<u32>> {
    let mut out = KVec::new();
    target.write(&mut out).ok()?;
    Some(out.iter().copied().collect())
}

#[test]
fn the_root() {
    let words = written(&Target::Root).expect("short");
    assert_eq!(parse(&words), Some((Target::Root, &[][..])));
}

#[test]
fn too_long() {
    let words = [0; MAX_WORDS];
    let object = Part {
        kind: 1,
        words: &words,
    };
    let target = Target::Object(Object {
        branch: 64,
        tag: 0,
        object,
        dir: None,
    });
    assert_eq!(written(&target), None);
}

#[test]
fn two_behind_each_other() {
    let object = |kind, words| Object {
        branch: 65,
        tag: 7,
        object: Part { kind, words },
        dir: None,
    };
    let (one, two) = (object(1, &[1, 2][..]), object(0x4d, &[3][..]));
    let mut words = written(&Target::Object(one)).expect("short");
    words.extend(written(&Target::Object(two)).expect("short"));
    let (first, rest) = parse(&words).expect("ours");
    assert_eq!(first, Target::Object(one));
    assert_eq!(parse(rest), Some((Target::Object(two), &[][..])));
}

proptest! {
    #[test]
    fn written_is_parsed(
        branch: u16,
        tag: u32,
        kind in 0u8..0xff,
        object in prop::collection::vec(any::<u32>(), 0..14),
        dir in prop::collection::vec(any::<u32>(), 1..14),
        dir_kind: u8,
        hint: bool,
        tail in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let object = Part { kind, words: &object };
        let dir = hint.then_some(Part { kind: dir_kind, words: &dir });
        let target = Target::Object(Object { branch, tag, object, dir });
        let mut words = written(&target).expect("short");
        words.extend(&tail);
        prop_assert_eq!(parse(&words), Some((target, &tail[..])));
    }

    #[test]
    fn anything_is_read(words in prop::collection::vec(any::<u32>(), 0..40)) {
        if let Some((_, rest)) = parse(&words) {
            prop_assert!(rest.len() < words.len());
        }
    }

    #[test]
    fn nearly_right_is_read(
        len in 0u32..40, total in 0u32..40, tail in prop::collection::vec(any::<u32>(), 0..40),
    ) {
        let mut words = vec![(1 << 24) | (len << 16) | 64, 0, (total << 16) | 1];
        words.extend(tail);
        if let Some((Target::Object(object), rest)) = parse(&words) {
            let dir = object.dir.map_or(0, |dir| dir.words.len());
            prop_assert_eq!(3 + object.object.words.len() + dir + rest.len(), words.len());
        }
    }
}
