// SPDX-License-Identifier: GPL-2.0

//! `/proc/fs/aufs/claim`: a program says that it works on a branch, which no union may have
//! meanwhile.

#![forbid(unsafe_code)]

use crate::fs::{
    base::{
        procfs::{
            Commands,
            Opener, //
        },
        task::{
            Name,
            Process, //
        }, //
    },
    objects::path::Path, //
};
use crate::union::branches::claim::{
    Claim,
    Claims,
    Purpose,
    Refused,
    User, //
};
use core::pin::Pin;
use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    }, //
};

/// The file `/proc/fs/aufs/claim`: a program writes the number of a descriptor of a directory,
/// which nobody else has or gets until the file is closed.
pub(crate) enum ClaimFile {}

/// The most claims through one open file.
const MAX_CLAIMS: usize = 512;

/// An open file.
pub(crate) struct Open {
    claims: Arc<Claims>,
    state: Pin<KBox<Mutex<State>>>,
}

/// The state of an open file.
struct State {
    held: KVec<Claim>,
    /// What is still to be read about the last write, and how much of it was.
    answer: KVec<u8>,
    given: usize,
}

impl State {
    /// Claims a directory.
    fn claim(&mut self, claims: &Arc<Claims>, fd: u32) -> Result<(), Refused> {
        if self.held.len() >= MAX_CLAIMS {
            return Err(ENOSPC.into());
        }
        let path = Path::of_descriptor(fd)?;
        self.held.reserve(1, GFP_KERNEL_ACCOUNT)?;
        let user = User::Program(Process::current(), Name::of_current());
        let (claim, _) = Claim::new(claims, user, Purpose::Alone, &path)?;
        Ok(self.held.push(claim, GFP_KERNEL_ACCOUNT)?)
    }

    /// Tells what is wrong, to who asks.
    fn answer(&mut self, refused: &Refused) {
        if let Ok(text) =
            kernel::str::CString::try_from_fmt(fmt!("the directory {}\n", refused.told()))
        {
            // Without memory the error has to do.
            let _ = self
                .answer
                .extend_from_slice(text.to_bytes(), GFP_KERNEL_ACCOUNT);
        }
    }
}

/// The number of a descriptor in decimal digits, in a line.
fn descriptor(text: &[u8]) -> Option<u32> {
    let digits = text.strip_suffix(b"\n")?;
    let start = digits.first().map(|_| 0);
    digits.iter().try_fold(start?, |number: u32, digit| {
        let digit = char::from(*digit).to_digit(10)?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

impl Commands for ClaimFile {
    type Target = Claims;
    type Open = Open;

    const ANSWERS: bool = true;

    fn open(target: &Arc<Claims>) -> Result<KBox<Open>> {
        let state = State {
            held: KVec::new(),
            answer: KVec::new(),
            given: 0,
        };
        let state = KBox::pin_init(new_mutex!(state, "ruaufs_claim"), GFP_KERNEL_ACCOUNT)?;
        let claims = target.clone();
        Ok(KBox::new(Open { claims, state }, GFP_KERNEL_ACCOUNT)?)
    }

    /// # Errors
    ///
    /// `EPERM` if an administrator did not open the file; `EINVAL` for anything but a number and a
    /// newline; `EBADF` and `ENOTDIR` for a descriptor that is none, or not of a directory;
    /// `ENOSPC` after [`MAX_CLAIMS`]; `EBUSY` if somebody else has what overlaps.
    fn command(open: &Open, opener: Opener<'_>, text: &[u8]) -> Result {
        if !opener.is_admin() {
            return Err(EPERM);
        }
        let mut state = open.state.lock();
        state.answer.clear();
        state.given = 0;
        let fd = descriptor(text).ok_or(EINVAL)?;
        state.claim(&open.claims, fd).map_err(|refused| {
            state.answer(&refused);
            refused.errno()
        })
    }

    fn answer(open: &Open, room: &mut [u8]) -> usize {
        let mut state = open.state.lock();
        let rest = state.answer.get(state.given..).unwrap_or_default();
        let len = usize::min(rest.len(), room.len());
        if let (Some(room), Some(rest)) = (room.get_mut(..len), rest.get(..len)) {
            room.copy_from_slice(rest);
        }
        state.given = state.given.saturating_add(len);
        len
    }
}
