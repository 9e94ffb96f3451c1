// SPDX-License-Identifier: GPL-2.0

//! Makes a failing scenario small: whatever can be left out is left out, in ever smaller pieces.
//!
//! proptest's own shrinking leaves out one element at a time, and each try here is a mount with
//! all that follows; so large pieces go first.

use std::time::{Duration, Instant};

use super::{
    layer::Layer,
    scenario::{Scenario, Threads},
};

/// Cutting ends after this time, with what it has then.
const LIMIT: Duration = Duration::from_secs(100);

/// Something that consists of pieces.
pub(super) trait Pieces: Clone {
    fn count(&self) -> usize;
    /// The same without those pieces, and without what cannot be without them.
    fn without(&self, from: usize, to: usize) -> Self;
    /// The same without what comes after a step.
    fn until(self, step: usize) -> Self;
}

/// The smallest that was found to fail still, with what it fails with.
pub(super) fn cut<S: Pieces>(
    mut whole: S,
    mut reason: anyhow::Error,
    try_it: impl Fn(&S) -> anyhow::Result<()>,
) -> (S, anyhow::Error) {
    let start = Instant::now();
    let mut size = whole.count().div_ceil(2);
    loop {
        let mut at = 0;
        while at < whole.count() {
            if start.elapsed() > LIMIT {
                return (whole, reason);
            }
            let part = whole.without(at, (at + size).min(whole.count()));
            match try_it(&part) {
                Err(e) => (whole, reason) = (part, e),
                Ok(()) => at += size,
            }
        }
        if size <= 1 {
            return (whole, reason);
        }
        size = size.div_ceil(2);
    }
}

/// Cuts from each list what falls into the range when all are put in a row.
struct Range {
    from: usize,
    to: usize,
}

impl Range {
    /// Whether the next element stays.
    fn keeps(&mut self) -> bool {
        let inside = self.from == 0 && self.to > 0;
        self.from = self.from.saturating_sub(1);
        self.to = self.to.saturating_sub(1);
        !inside
    }

    fn cut<T: Clone>(&mut self, list: &[T]) -> Vec<T> {
        list.iter().filter(|_| self.keeps()).cloned().collect()
    }
}

impl Pieces for Scenario {
    fn count(&self) -> usize {
        let layers: usize = self.layers.iter().map(Layer::pieces).sum();
        self.steps.len() + layers
    }

    fn without(&self, from: usize, to: usize) -> Self {
        let mut range = Range { from, to };
        let steps = range.cut(&self.steps);
        let layers = self.layers.iter();
        Self {
            steps,
            layers: layers.map(|l| l.only(|| range.keeps())).collect(),
        }
    }

    fn until(mut self, step: usize) -> Self {
        self.steps.truncate(step.saturating_add(1));
        self
    }
}

impl Pieces for Threads {
    fn count(&self) -> usize {
        let layers: usize = self.parts.iter().flatten().map(Layer::pieces).sum();
        let steps: usize = self.steps.iter().map(Vec::len).sum();
        steps + layers
    }

    fn without(&self, from: usize, to: usize) -> Self {
        let mut range = Range { from, to };
        let steps = self.steps.iter().map(|steps| range.cut(steps)).collect();
        let mut part = |layers: &Vec<Layer>| {
            let layers = layers.iter();
            layers.map(|l| l.only(|| range.keeps())).collect()
        };
        Self {
            steps,
            parts: self.parts.iter().map(&mut part).collect(),
        }
    }

    /// What one thread did last tells nothing of the others.
    fn until(self, _: usize) -> Self {
        self
    }
}
