// SPDX-License-Identifier: GPL-2.0

//! An answer gets to who waits, or back to who gave it: it is never lost.

use logic::reply::Reply;

#[test]
fn to_who_waits() {
    let mut reply = Reply::Awaited;
    assert_eq!(reply.take(), None);
    assert_eq!(reply.give("answer"), None);
    assert_eq!(reply.take(), Some("answer"));
    assert_eq!((reply.take(), reply.give_up()), (None, None));
}

#[test]
fn at_the_last_moment() {
    let mut reply = Reply::Awaited;
    // It was not there when it was looked for, and is when that is given up.
    assert_eq!(reply.take(), None);
    assert_eq!(reply.give("answer"), None);
    assert_eq!(reply.give_up(), Some("answer"));
}

#[test]
fn too_late() {
    let mut reply = Reply::Awaited;
    assert_eq!(reply.give_up(), None);
    assert_eq!(reply.give("answer"), Some("answer"), "it comes back");
    assert_eq!((reply.take(), reply.give_up()), (None, None));
}

#[test]
fn given_once() {
    let mut reply = Reply::Awaited;
    assert_eq!(reply.give(1), None);
    assert_eq!(reply.give(2), Some(2));
    assert_eq!(reply.take(), Some(1));
}
