// SPDX-License-Identifier: GPL-2.0

//! Walking trees of any depth with few descriptors and no recursion.

use std::{
    ffi::{OsStr, OsString},
    rc::Rc,
    vec,
};

use anyhow::Result;
use rustix::process::{getrlimit, setrlimit, Resource, Rlimit};

use super::{Dir, Id, Place};

/// So many directories of a tree are kept open if descriptors allow.
const WINDOW: usize = 32;
/// Descriptors for all else.
const OTHERS: u64 = 64;

/// Allows this process as many descriptors as it may have.
pub fn descriptors() {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // If it fails there are fewer, and the window is smaller.
    let _ = setrlimit(Resource::Nofile, raised);
}

/// How many directories of each of so many trees may be kept open.
pub fn window(trees: usize) -> usize {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    // A directory that was looked up but not entered needs one, too.
    let each = limit.saturating_sub(OTHERS) / (trees.max(1) as u64);
    usize::try_from(each.saturating_sub(1)).map_or(WINDOW, |n| n.clamp(1, WINDOW))
}

/// A directory in a tree, and the way back.
#[derive(Debug)]
pub struct Cursor {
    above: Vec<Step>,
    here: Rc<Dir>,
    window: usize,
}

/// A directory above. Those that are far above are closed.
#[derive(Debug)]
struct Step {
    id: Id,
    place: Place,
    open: Option<Rc<Dir>>,
}

impl Cursor {
    /// Begins at the root of a tree, one of `trees` that are walked together.
    pub fn new(root: Dir, trees: usize) -> Self {
        Cursor {
            above: Vec::new(),
            here: Rc::new(root),
            window: window(trees),
        }
    }

    /// The directory that it is at.
    pub fn dir(&self) -> Rc<Dir> {
        self.here.clone()
    }

    /// Goes on to a directory that was found in this one.
    pub fn enter(&mut self, dir: Dir) {
        let left = std::mem::replace(&mut self.here, Rc::new(dir));
        self.above.push(Step {
            id: left.id(),
            place: left.place.clone(),
            open: Some(left),
        });
        let far = self.above.len().checked_sub(self.window + 1);
        if let Some(step) = far.and_then(|at| self.above.get_mut(at)) {
            step.open = None;
        }
    }

    /// Goes back to where it came from.
    pub fn leave(&mut self) -> Result<()> {
        if let Some(Step { id, place, open }) = self.above.pop() {
            self.here = match open {
                Some(dir) => dir,
                None => Rc::new(self.here.parent(id, place)?),
            };
        }
        Ok(())
    }
}

/// Called with a directory and a name in it.
type Each<'a, T> = &'a mut dyn FnMut(&Dir, &OsStr) -> Result<T>;

/// Visits all that is in a directory: `visit` says which directory to enter for a name, if any, and
/// `left` is called when all in it was visited.
pub fn walk(root: Dir, visit: Each<'_, Option<Dir>>, left: Each<'_, ()>) -> Result<()> {
    let mut rest: Vec<vec::IntoIter<OsString>> = vec![root.names()?.into_iter()];
    let mut entered = Vec::new();
    let mut cursor = Cursor::new(root, 1);
    while let Some(names) = rest.last_mut() {
        match names.next() {
            Some(name) => {
                if let Some(dir) = visit(&cursor.dir(), &name)? {
                    rest.push(dir.names()?.into_iter());
                    cursor.enter(dir);
                    entered.push(name);
                }
            }
            None => {
                rest.pop();
                if let Some(name) = entered.pop() {
                    cursor.leave()?;
                    left(&cursor.dir(), &name)?;
                }
            }
        }
    }
    Ok(())
}
