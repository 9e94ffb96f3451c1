// SPDX-License-Identifier: GPL-2.0

//! File handles.

use proptest::prelude::*;

use logic::{
    env::KVec,
    handle::{parse, Object, Part, Target, MAX_WORDS},
    hash::Key,
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
        seal: None,
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
        seal: None,
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
        seal: Option<u64>,
        tail in prop::collection::vec(any::<u32>(), 0..5),
    ) {
        let object = Part { kind, words: &object };
        let dir = hint.then_some(Part { kind: dir_kind, words: &dir });
        let whole = Object { branch, tag, object, dir, seal };
        // One that would be too long for NFS version 3 has no seal beside the hint.
        let len = 3 + object.words.len() + dir.map_or(0, |dir| dir.words.len()) + 2;
        let seal = seal.filter(|_| dir.is_none() || len <= 14);
        let target = Target::Object(whole);
        let mut words = written(&target).expect("short");
        words.extend(&tail);
        let target = Target::Object(Object { seal, ..whole });
        prop_assert_eq!(parse(&words), Some((target, &tail[..])));
    }

    #[test]
    fn seals_are_of_tag_and_handle(
        tag: u32,
        kind in 0u8..0xff,
        words in prop::collection::vec(any::<u32>(), 1..20),
        at: prop::sample::Index,
        bit in 0u32..32,
        a: u64,
        b: u64,
    ) {
        let key = Key(a, b);
        let part = Part { kind, words: &words };
        let plain = Object { branch: 64, tag, object: part, dir: None, seal: None };
        let good = Object { seal: Some(plain.seal_by(key)), ..plain };
        prop_assert!(!plain.is_sealed_by(key));
        prop_assert!(good.is_sealed_by(key));
        let next = Object { branch: 7, ..good };
        prop_assert!(next.is_sealed_by(key), "after the next mount");
        prop_assert!(!good.is_sealed_by(Key(a ^ 1, b)));
        let other = Object { tag: tag ^ (1 << bit), ..good };
        prop_assert!(!other.is_sealed_by(key));
        let kind_too = Part { kind: kind ^ (1 << (bit % 8)), words: &words };
        let shorter = Part { kind, words: &words[1..] };
        for part in [kind_too, shorter] {
            let other = Object { object: part, ..good };
            prop_assert!(!other.is_sealed_by(key));
        }
        let mut changed = words.clone();
        let at = at.index(words.len());
        changed[at] ^= 1 << bit;
        let part = Part { kind, words: &changed };
        let other = Object { object: part, ..good };
        prop_assert!(!other.is_sealed_by(key));
    }

    #[test]
    fn anything_is_read(words in prop::collection::vec(any::<u32>(), 0..40)) {
        if let Some((_, rest)) = parse(&words) {
            prop_assert!(rest.len() < words.len());
        }
    }

    #[test]
    fn nearly_right_is_read(
        len in 0u32..40, total in 0u32..40, sealed: bool,
        tail in prop::collection::vec(any::<u32>(), 0..40),
    ) {
        let mut words = vec![(1 << 24) | (len << 16) | 64, 0, (total << 16) | 1];
        words[2] |= u32::from(sealed) << 31;
        words.extend(tail);
        if let Some((Target::Object(object), rest)) = parse(&words) {
            let dir = object.dir.map_or(0, |dir| dir.words.len());
            let seal = object.seal.map_or(0, |_| 2);
            let len = 3 + object.object.words.len() + dir + seal;
            prop_assert_eq!(len + rest.len(), words.len());
        }
    }
}
