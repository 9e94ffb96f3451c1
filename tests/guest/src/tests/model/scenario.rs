// SPDX-License-Identifier: GPL-2.0

//! Random scenarios: branches, and what is done to their union.

use std::fmt;

use proptest::prelude::*;

use super::{
    layer::{self, Layer, Perm},
    op::{self, Among, Step},
};

/// Branches and what is done to their union.
#[derive(Clone)]
pub(crate) struct Scenario {
    /// Top first.
    pub(crate) layers: Vec<Layer>,
    pub(crate) steps: Vec<Step>,
}

impl fmt::Debug for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for layer in &self.layers {
            write!(f, "{layer:?}")?;
        }
        show(&self.steps, f)
    }
}

/// What several threads do to one union.
#[derive(Clone)]
pub(crate) struct Threads {
    /// For each thread branches that are its own, of the same permissions; or for all of them.
    pub(crate) parts: Vec<Vec<Layer>>,
    /// For each thread.
    pub(crate) steps: Vec<Vec<Step>>,
}

impl fmt::Debug for Threads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, layers) in self.parts.iter().enumerate() {
            writeln!(f, "part {i}:")?;
            layers.iter().try_for_each(|layer| write!(f, "{layer:?}"))?;
        }
        for (i, steps) in self.steps.iter().enumerate() {
            writeln!(f, "thread {i}:")?;
            show(steps, f)?;
        }
        Ok(())
    }
}

fn show(steps: &[Step], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for (i, step) in steps.iter().enumerate() {
        let Step {
            user,
            umask,
            op,
            beside,
        } = step;
        write!(f, "step {i}: ")?;
        if *user != 0 {
            write!(f, "as user {user}: ")?;
        }
        if *umask != 0o022 {
            write!(f, "umask {umask:o}: ")?;
        }
        if let Some(reshape) = beside {
            write!(f, "beside {reshape:?}: ")?;
        }
        writeln!(f, "{op:?}")?;
    }
    Ok(())
}

/// Permissions of two to six branches; the top one is writable.
fn perms() -> impl Strategy<Value = Vec<Perm>> {
    let lower = prop_oneof![2 => Just(Perm::Ro), 2 => Just(Perm::RoWh), 1 => Just(Perm::Rw)];
    prop::collection::vec(lower, 1..=5).prop_map(|mut lowers| {
        lowers.insert(0, Perm::Rw);
        lowers
    })
}

fn layers(perms: Vec<Perm>) -> impl Strategy<Value = Vec<Layer>> {
    let each: Vec<_> = perms.into_iter().map(|p| layer::layer(Just(p))).collect();
    each
}

/// Scenarios of at most `length` steps.
pub(crate) fn scenarios(length: usize) -> impl Strategy<Value = Scenario> {
    with_links(length, any::<bool>())
}

/// Scenarios in which no file has several names on its branch.
pub(crate) fn without_links(length: usize) -> impl Strategy<Value = Scenario> {
    with_links(length, Just(false))
}

fn with_links(
    length: usize,
    links: impl Strategy<Value = bool>,
) -> impl Strategy<Value = Scenario> {
    (perms().prop_flat_map(layers), links, 0usize..8).prop_flat_map(
        move |(mut layers, links, extra)| {
            decorate(&mut layers, links, extra);
            let steps = prop::collection::vec(op::step(Among::Alone), 0..=length);
            steps.prop_map(move |steps| Scenario {
                layers: layers.clone(),
                steps,
            })
        },
    )
}

/// Adds files with several names, and a directory with many.
fn decorate(layers: &mut [Layer], links: bool, extra: usize) {
    let count = layers.len();
    if links {
        layers[count - 1].add_links(&["h", "k"]);
        layers[extra % count].add_links(&["a/h", "a/k", "a/m"]);
    }
    match extra {
        0 | 1 => layers[count - 1].add_many(0, 1),
        2 | 3 => {
            layers[count - 1].add_many(0, 2);
            layers[count / 2].add_many(1, 3);
        }
        _ => {}
    }
}

/// Four threads, each in a directory of its own.
pub(crate) fn disjoint(length: usize) -> impl Strategy<Value = Threads> {
    let parts = perms().prop_flat_map(|perms| [(); 4].map(|()| layers(perms.clone())));
    let steps = || prop::collection::vec(op::step(Among::Others), 0..=length);
    (parts, [steps(), steps(), steps(), steps()]).prop_map(|(mut parts, steps)| {
        for (i, part) in parts.iter_mut().enumerate() {
            decorate(part, false, i);
        }
        Threads {
            parts: parts.into(),
            steps: steps.into(),
        }
    })
}

/// Four threads that work on the same names. No whiteout is beside the object that it hides, since
/// no operation may leave such a thing behind.
pub(crate) fn shared(length: usize) -> impl Strategy<Value = Threads> {
    let steps = || prop::collection::vec(op::step(Among::Shared), 0..=length);
    let parts = (perms().prop_flat_map(layers), 0usize..8);
    (parts, [steps(), steps(), steps(), steps()]).prop_map(|((mut part, extra), steps)| {
        decorate(&mut part, false, extra);
        part.iter_mut().for_each(Layer::tidy);
        Threads {
            parts: vec![part],
            steps: steps.into(),
        }
    })
}
