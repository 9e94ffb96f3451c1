// SPDX-License-Identifier: GPL-2.0

//! What becomes of the answer that one task gives and another one waits for, for a limited time.

#![forbid(unsafe_code)]

use core::mem;

/// The place where an answer is handed over. Both tasks look at it under one lock.
pub enum Reply<R> {
    /// There is no answer yet.
    Awaited,
    /// There is this one.
    Given(R),
    /// Nobody wants it any more, or has it.
    Over,
}

impl<R> Reply<R> {
    /// Gives `answer`; it comes back if nobody wants it.
    pub fn give(&mut self, answer: R) -> Option<R> {
        match self {
            Reply::Awaited => {
                *self = Reply::Given(answer);
                None
            }
            Reply::Given(_) | Reply::Over => Some(answer),
        }
    }

    /// Takes the answer, if it is there.
    pub fn take(&mut self) -> Option<R> {
        match mem::replace(self, Reply::Over) {
            Reply::Given(answer) => Some(answer),
            other => {
                *self = other;
                None
            }
        }
    }

    /// Nobody waits any more. Takes an answer that came at the last moment.
    pub fn give_up(&mut self) -> Option<R> {
        match mem::replace(self, Reply::Over) {
            Reply::Given(answer) => Some(answer),
            Reply::Awaited | Reply::Over => None,
        }
    }
}
