// SPDX-License-Identifier: GPL-2.0

//! What another task does for the one that waits for it, with what it gives: one type for all, so
//! that the code which hands it over and waits is there once.

#![forbid(unsafe_code)]

use crate::fs::objects::path::PrivatePath;
use core::any::Any;
use kernel::prelude::*;

/// Something to be done on a branch.
pub(crate) trait Errand: Send {
    /// Does it, on the branch with this root.
    fn run(&mut self, root: &PrivatePath);

    /// Puts what it gave into `to`, an `Option` of that type.
    fn result(&mut self, to: &mut dyn Any);
}

struct Call<F, R> {
    todo: Option<F>,
    result: Option<R>,
}

impl<F, R> Errand for Call<F, R>
where
    F: FnOnce(&PrivatePath) -> R + Send,
    R: Send + 'static,
{
    fn run(&mut self, root: &PrivatePath) {
        if let Some(todo) = self.todo.take() {
            self.result = Some(todo(root));
        }
    }

    fn result(&mut self, to: &mut dyn Any) {
        if let Some(to) = to.downcast_mut::<Option<R>>() {
            *to = self.result.take();
        }
    }
}

/// The errand that calls `f`.
pub(crate) fn calling<R: Send + 'static>(
    f: impl FnOnce(&PrivatePath) -> R + Send + 'static,
) -> Result<KBox<dyn Errand>> {
    let call = Call {
        todo: Some(f),
        result: None,
    };
    Ok(KBox::new(call, GFP_KERNEL)?)
}

/// Returns what the function gave that `done` has called.
///
/// # Errors
///
/// `EIO` if it was not called, or gives something else.
pub(crate) fn result_of<R: 'static>(mut done: KBox<dyn Errand>) -> Result<R> {
    let mut result: Option<R> = None;
    done.result(&mut result);
    result.ok_or(EIO)
}
