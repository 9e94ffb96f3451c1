// SPDX-License-Identifier: GPL-2.0

//! What lets the shape of a mounted file system change while it is in use.
//!
//! # Terms
//!
//! - *section*: a stretch of a callback of the VFS in which what it finds through a
//!   [`Snapshot`](super::snapshot::Snapshot) or a
//!   [`StackCell`](crate::fs::objects::stack::StackCell) stays.
//! - *closed*: a change of the shape is about to be published. Callbacks that change names
//!   or instances wait before they begin ([`Gate::enter`]); those that only look
//!   ([`Gate::read`]) go on with what is published.
//! - *seat*: where a section that began with [`Gate::enter`] can be seen, with the number of
//!   its task and what it does. A seat costs some instructions and no cache line that
//!   another CPU writes; if those of a CPU are taken, a section goes without.
//! - *outside*: a section with a seat may leave for work that takes long
//!   ([`Gate::outside`]). What it found before stays in memory; whether it still holds must
//!   be seen again. If the shape changed, the callback begins anew ([`OVERTAKEN`]).
//!
//! # Locking
//!
//! A section is an SRCU read section (fast flavour: a counter of its own CPU, no barrier). Who
//! closes the gate waits until all sections have ended, but never for long: after a fraction of
//! a second it opens again, so that everybody goes on, and tries again later. So a section that
//! does not end holds up a change of the shape, and nobody else. Still:
//!
//! - a section never closes a gate, and never takes `s_umount` of its own super block;
//! - [`Gate::enter`] is never called inside a section of the same gate, nor under `mmap_lock`;
//! - [`Gate::enter`] ranks after `i_rwsem` of our inodes and before all locks of branches;
//! - memory of users is never touched inside a section.
//!
//! # Invariants
//!
//! A *change* replaces the shape ([`Snapshot::replace`](super::snapshot::Snapshot::replace) counts
//! it), and may take stacks out ([`StackCell`](crate::fs::objects::stack::StackCell)). Its *grace
//! period* is over when three are, which begin after the change: a grace period of the gate's SRCU
//! domain, for sections; the time until no seat is kept for an earlier change, for sections
//! outside; a grace period of RCU, for path walks. What a change retires is freed when its grace
//! period is over ([`Closed::free`]), by who is alone: the owner of the one
//! [`Alone`](crate::fs::objects::section::Alone) of the super block, or for it a worker. Everybody
//! else who looks shows a [`Section`](crate::fs::objects::section::Section), or is such a walk.

use super::{
    once::{
        load,
        load_acquire, //
    },
    seats::{
        self,
        Doing,
        Occupant,
        Row,
        Seat,
        PID_MASK, //
    },
    worker::Worker, //
};
use crate::bindings;
use core::{
    pin::Pin,
    ptr::NonNull, //
};
use kernel::{
    prelude::*,
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed,
            Release, //
        },
        lock::mutex::MutexGuard,
        Arc,
        LockClassKey,
        Mutex,
        SetOnce, //
    },
    time::{
        delay::fsleep,
        Delta,
        Instant,
        Monotonic, //
    },
    types::{
        NotThreadSafe,
        Opaque, //
    }, //
};

/// What a section ends with if the shape changed while it was outside, so that what it found before
/// is of no use: the callback begins anew ([`anew`]). No file system gives this error.
pub(crate) const OVERTAKEN: Error = ERESTART_RESTARTBLOCK;

/// Runs a section of a callback, and runs it again as often as it is overtaken: once for each
/// change of the shape at most.
#[inline]
pub(crate) fn anew<R>(mut section: impl FnMut() -> Result<R>) -> Result<R> {
    loop {
        match section() {
            Err(error) if error == OVERTAKEN => {}
            result => return result,
        }
    }
}

/// The gate of a super block.
#[pin_data(PinnedDrop)]
pub(in crate::fs) struct Gate {
    #[pin]
    srcu: Opaque<bindings::srcu_struct>,
    /// Who is inside.
    rows: KVec<Row>,
    /// A change is about to be published.
    closed: Atomic<bool>,
    /// How many were.
    pub(super) changes: Atomic<usize>,
    /// Held by who closed the gate.
    #[pin]
    closer: Mutex<()>,
    /// What is to be freed when those are gone that may look at it.
    #[pin]
    left: Mutex<KVec<Left>>,
    /// Who does that; made by the first change.
    worker: SetOnce<Worker>,
    waits: Arc<Waits>,
}

/// How often callbacks waited for a closed gate, and how long.
pub(crate) struct Waits {
    count: Atomic<u64>,
    nanoseconds: Atomic<u64>,
}

impl Waits {
    /// Not yet.
    pub(crate) fn new() -> Self {
        Waits {
            count: Atomic::new(0),
            nanoseconds: Atomic::new(0),
        }
    }

    fn add(&self, time: Delta) {
        self.count.fetch_add(1, Relaxed);
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(0);
        self.nanoseconds.fetch_add(nanoseconds, Relaxed);
    }

    /// How often.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// How long.
    pub(crate) fn nanoseconds(&self) -> u64 {
        self.nanoseconds.load(Relaxed)
    }
}

// SAFETY: An SRCU domain is made for use by all CPUs.
unsafe impl Send for Gate {}

// SAFETY: As above.
unsafe impl Sync for Gate {}

/// A lock class for each depth of stacking: a change of a union looks into unions below.
fn closer_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

/// As [`closer_class`], for [`Gate::left`].
fn left_class(depth: i32) -> Pin<&'static LockClassKey> {
    if depth <= 1 {
        static_lock_class!()
    } else {
        static_lock_class!()
    }
}

/// How long what was replaced is waited for before it is left to the worker.
const FREEING: Delta = Delta::from_secs(5);
/// How often the worker looks.
const SWEEPING: Delta = Delta::from_millis(50);

impl Gate {
    /// An open gate of a super block in which `depth` file systems are stacked.
    /// Callbacks that wait for the gate are counted in `waits`.
    pub(in crate::fs) fn new(depth: i32, waits: Arc<Waits>) -> impl PinInit<Self, Error> {
        try_pin_init!(Gate {
            srcu <- Opaque::try_ffi_init(move |srcu| {
                // SAFETY: `srcu` is valid for writes and stays pinned.
                super::ret::to_result(unsafe { bindings::ruaufs_helper_srcu_init(srcu, depth) })
            }),
            rows: seats::rows()?,
            closed: Atomic::new(false),
            changes: Atomic::new(0),
            closer <- Mutex::new((), c"ruaufs_gate", closer_class(depth)),
            left <- Mutex::new(KVec::new(), c"ruaufs_gate_left", left_class(depth)),
            worker: SetOnce::new(),
            waits,
        })
    }

    /// Begins a section. Does not wait.
    #[inline]
    pub(in crate::fs) fn read(&self) -> Reading<'_> {
        Reading {
            gate: self,
            section: self.begin(),
            _task: NotThreadSafe,
        }
    }

    #[inline]
    fn begin(&self) -> c_ulong {
        // SAFETY: The domain is initialised.
        unsafe { bindings::ruaufs_helper_srcu_lock(self.srcu.get()) }
    }

    /// # Safety
    ///
    /// `section` was begun by this task, and is ended once.
    #[inline]
    unsafe fn end(&self, section: c_ulong) {
        // SAFETY: By the caller's contract.
        unsafe { bindings::ruaufs_helper_srcu_unlock(self.srcu.get(), section) };
    }

    /// Begins a section when the gate is open.
    #[inline]
    fn begin_open(&self) -> c_ulong {
        loop {
            let section = self.begin();
            // Who closes it waits for the sections that began before; the others see this.
            if !load_acquire(&self.closed) {
                return section;
            }
            // SAFETY: Begun above.
            unsafe { self.end(section) };
            self.wait();
        }
    }

    /// Waits until the gate is open.
    #[cold]
    fn wait(&self) {
        let begin = Instant::<Monotonic>::now();
        drop(self.closer.lock());
        self.waits.add(begin.elapsed());
    }

    /// Begins a section when the gate is open, in which nothing takes long: nobody need see it.
    #[inline]
    pub(in crate::fs) fn pass(&self) -> Reading<'_> {
        Reading {
            gate: self,
            section: self.begin_open(),
            _task: NotThreadSafe,
        }
    }

    /// Begins a section in which names or instances change; waits while the gate is closed.
    #[inline]
    pub(in crate::fs) fn enter(&self, doing: Doing) -> Entered<'_> {
        let section = self.begin_open();
        let seat = self.take_seat(doing);
        if let Some(seat) = seat {
            seat.section().store(section, Relaxed);
        }
        Entered {
            gate: self,
            section,
            seat,
            _task: NotThreadSafe,
        }
    }

    #[inline]
    fn take_seat(&self, doing: Doing) -> Option<&Seat> {
        // SAFETY: `rows` has that many rows, a power of two, of the layout that the helper expects
        // (`Seat` is transparent, `Row` has no padding). A seat that it gives is one of them.
        unsafe {
            bindings::ruaufs_helper_take_seat(
                self.rows.as_ptr().cast_mut().cast(),
                self.rows.len() as c_ulong,
                doing as c_ulong,
            )
            .cast::<Seat>()
            .as_ref()
        }
    }

    /// Shows that the current task does something that may take long, inside a section or not,
    /// until the value is dropped.
    pub(in crate::fs) fn sit(&self, doing: Doing) -> Sitting<'_> {
        let seat = self.take_seat(doing);
        if let Some(seat) = seat {
            seat.section().store(0, Relaxed);
        }
        Sitting(seat, NotThreadSafe)
    }

    fn seats(&self) -> impl Iterator<Item = &Seat> {
        self.rows.iter().flat_map(|row| row.0.iter())
    }

    /// Who is inside, if that can be seen, and not outside at the moment. For who closed the gate
    /// in vain.
    fn occupant(&self) -> Option<Occupant> {
        let mut inside = self.seats().filter(|seat| !seat.is_outside());
        inside.find_map(Seat::occupant)
    }

    /// Runs `f`, which takes long, outside the section that the current task is in. Then goes on
    /// inside, when the gate is open. A section without a seat stays inside.
    ///
    /// What the section found before stays in memory until it ends, but the shape may have changed
    /// meanwhile, or the stack of any inode, and the current section may see what others do not:
    /// says whether the shape did.
    pub(in crate::fs) fn outside<R>(&self, f: impl FnOnce() -> R) -> (R, bool) {
        // SAFETY: Always callable.
        let pid = unsafe { bindings::ruaufs_helper_current_pid() } as usize;
        let own = |seat: &&Seat| seat.is_of(pid) && seat.section().load(Relaxed) != 0;
        let Some(seat) = self.seats().find(own) else {
            return (f(), false);
        };
        let changes = load_acquire(&self.changes);
        if load_acquire(seat.kept()) == 0 {
            seat.kept().store(changes.wrapping_add(1).max(1), Release);
        }
        let section = seat.section().load(Relaxed);
        seat.section().store(0, Relaxed);
        // SAFETY: The seat is ours, and with it the section. It is ended once: until the next one
        // begins the seat has none, so what `f` calls finds no section here to leave.
        unsafe { self.end(section) };
        let result = f();
        let section = self.begin_open();
        seat.section().store(section, Relaxed);
        (result, load_acquire(&self.changes) != changes)
    }

    /// As [`Gate::enter`], if the gate is open.
    pub(in crate::fs) fn try_enter(&self) -> Option<Reading<'_>> {
        let reading = self.read();
        (!load_acquire(&self.closed)).then_some(reading)
    }

    /// Closes the gate for at most about `time`, and gives it closed once nobody is inside. Else it
    /// is open again, and this is who was in the way, if that could be seen. On a machine that is
    /// so busy that this task hardly runs, it takes longer: those inside hardly run either.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(in crate::fs) fn close(&self, time: Delta) -> Result<Attempt<'_>> {
        if self.worker.as_ref().is_none() {
            // Somebody else may be first.
            self.worker.populate(Worker::new(1)?);
        }
        self.left.lock().reserve(1, GFP_KERNEL)?;
        let closer = self.closer.lock();
        let begin = Instant::<Monotonic>::now();
        self.closed.store(true, Release);
        let closed = Closed {
            gate: self,
            _closer: closer,
        };
        let period = self.start_period();
        let mut pause = Delta::from_micros(50);
        let (mut looks, enough) = (0, time.as_millis() / 2);
        let at_most = Delta::from_nanos(time.as_nanos().saturating_mul(4));
        while !self.is_over(period) {
            let elapsed = begin.elapsed();
            if elapsed >= at_most || (elapsed >= time && looks >= enough) {
                return Ok(Attempt::Busy(self.occupant()));
            }
            pause = rest(pause);
            looks = i64::saturating_add(looks, 1);
        }
        Ok(Attempt::Closed(closed))
    }

    /// Begins a grace period: over when all sections have ended that are there now.
    fn start_period(&self) -> c_ulong {
        // SAFETY: The domain is initialised.
        unsafe {
            let period = bindings::start_poll_synchronize_srcu(self.srcu.get());
            bindings::srcu_expedite_current(self.srcu.get());
            period
        }
    }

    fn is_over(&self, period: c_ulong) -> bool {
        // SAFETY: The domain is initialised, the value is from `start_period()`.
        unsafe { bindings::poll_state_synchronize_srcu(self.srcu.get(), period) }
    }

    /// Whether a section is or was outside that may have seen what `change` replaced.
    fn is_kept(&self, change: usize) -> bool {
        self.seats().any(|seat| {
            let kept = load_acquire(seat.kept());
            // A count that wraps: of two that are near each other.
            kept != 0 && (change.wrapping_sub(kept) as isize) >= 0
        })
    }

    /// Frees what is left, as far as it was when the call began, each when it may go.
    fn sweep(&self) {
        loop {
            let Some((period, change)) = self.left.lock().first().map(Left::when) else {
                return;
            };
            while !self.is_over(period) || self.is_kept(change) {
                fsleep(SWEEPING);
            }
            wait_for_walks();
            // A queue works on each node of memory at a time: another may have been first.
            let mut list = self.left.lock();
            let same = list.first().is_some_and(|left| left.when().1 == change);
            let left = same.then(|| list.remove(0));
            drop(list);
            drop(left);
        }
    }
}

/// Waits for path walks under RCU, which look at stacks and shapes, too.
fn wait_for_walks() {
    // Expedited: a client with many branches adds them one remount at a time.
    // SAFETY: May be called wherever one may sleep outside RCU read sections.
    unsafe { bindings::synchronize_rcu_expedited() };
}

/// Sleeps for `pause`, and gives a longer one for the next time.
fn rest(pause: Delta) -> Delta {
    fsleep(pause);
    let longer = Delta::from_nanos(pause.as_nanos().saturating_mul(2));
    longer.min(Delta::from_millis(1))
}

#[pinned_drop]
impl PinnedDrop for Gate {
    fn drop(self: Pin<&mut Self>) {
        // A walk under RCU may have come as far as a dentry of ours before the last mount went, and
        // look at the shape, and at what is beside it, which are freed after this. The grace
        // periods below are no substitute: that one of SRCU contains one of RCU is how readers of
        // its fast flavour are waited for today (`srcu_readers_active_idx_check()` in
        // kernel/rcu/srcutree.c), and nothing that `synchronize_srcu()` promises.
        wait_for_walks();
        // No section is left, so all that was replaced goes now.
        if let Some(worker) = self.worker.as_ref() {
            worker.wait();
        }
        // SAFETY: Initialised, and the super block has no user any more. The first call ends the
        // grace periods that were begun, the others wait for the calls that hurry one, which may
        // have been made again once.
        unsafe {
            bindings::synchronize_srcu_expedited(self.srcu.get());
            bindings::srcu_barrier(self.srcu.get());
            bindings::srcu_barrier(self.srcu.get());
            bindings::cleanup_srcu_struct(self.srcu.get());
        }
    }
}

/// A section of a callback that only looks.
pub(in crate::fs) struct Reading<'a> {
    gate: &'a Gate,
    section: c_ulong,
    _task: NotThreadSafe,
}

impl Drop for Reading<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: Begun by `read()` in this task, and ended once.
        unsafe { self.gate.end(self.section) };
    }
}

/// A section of a callback that changes names or instances.
pub(in crate::fs) struct Entered<'a> {
    gate: &'a Gate,
    /// If there is no seat, which has it then.
    section: c_ulong,
    seat: Option<&'a Seat>,
    _task: NotThreadSafe,
}

/// The mark of a section without a seat.
const UNKNOWN: usize = PID_MASK + 1;

impl Entered<'_> {
    /// Not 0, and says which task is inside, see [`task_of_mark`].
    #[inline]
    pub(in crate::fs) fn mark(&self) -> usize {
        self.seat.map_or(UNKNOWN, |seat| load(seat.who()))
    }
}

/// As [`Entered::mark`], of the current task, which does `doing`.
#[inline]
pub(in crate::fs) fn own_mark(doing: Doing) -> usize {
    // SAFETY: Always callable.
    let pid = unsafe { bindings::ruaufs_helper_current_pid() } as usize;
    (doing as usize) << bindings::RUAUFS_PID_BITS | pid
}

/// The number of the task, for [`Label::of`](super::task::Label::of), that an [`Entered::mark`]
/// says, if any.
pub(in crate::fs) fn task_of_mark(mark: usize) -> Option<i32> {
    // CAST: Of the width of a task's number.
    Some((mark & PID_MASK) as i32).filter(|number| *number != 0)
}

impl Drop for Entered<'_> {
    #[inline]
    fn drop(&mut self) {
        let section = match self.seat {
            Some(seat) => seat.section().load(Relaxed),
            None => self.section,
        };
        // SAFETY: Begun by this task, and ended once.
        unsafe { self.gate.end(section) };
        leave(self.seat);
    }
}

/// Gives up a seat that is the current task's.
#[inline]
fn leave(seat: Option<&Seat>) {
    let Some(seat) = seat else {
        return;
    };
    // SAFETY: Valid; words that are written whole.
    unsafe {
        let seat = seat.0.get();
        // What the section did comes before it is gone, and that before the seat is free.
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        (&raw mut (*seat).kept).write_volatile(0);
        core::sync::atomic::fence(core::sync::atomic::Ordering::Release);
        (&raw mut (*seat).who).write_volatile(0);
    }
}

/// A seat without a section, see [`Gate::sit`].
pub(crate) struct Sitting<'a>(Option<&'a Seat>, NotThreadSafe);

impl Drop for Sitting<'_> {
    fn drop(&mut self) {
        leave(self.0);
    }
}

/// What became of an attempt to close a gate.
pub(in crate::fs) enum Attempt<'a> {
    /// It is closed, and nobody is inside.
    Closed(Closed<'a>),
    /// It is open again; this one did not leave in time.
    Busy(Option<Occupant>),
}

/// A closed gate. It opens when this is dropped.
pub(in crate::fs) struct Closed<'a> {
    pub(super) gate: &'a Gate,
    _closer: MutexGuard<'a, ()>,
}

impl Closed<'_> {
    /// Opens the gate and frees what the last change retired, when its grace period is over: at
    /// once, or, if somebody does not leave, later.
    ///
    /// # Safety
    ///
    /// Nobody finds what is in `retired` since the gate was closed and the last change counted; who
    /// found it before is in a section or in a walk under RCU.
    pub(in crate::fs) unsafe fn free<X: Send>(self, room: Room<X>, retired: X) {
        let gate = self.gate;
        let period = gate.start_period();
        let change = load_acquire(&gate.changes);
        drop(self);
        let begin = Instant::<Monotonic>::now();
        let mut pause = Delta::from_micros(50);
        while !gate.is_over(period) && begin.elapsed() < FREEING && !super::task::killed() {
            pause = rest(pause);
        }
        let left = Left::new(room, retired, period, change);
        wait_for_walks();
        if gate.is_over(period) && !gate.is_kept(change) {
            // The walks that were waited for may have begun before the period was over, but not
            // before the change.
            return drop(left);
        }
        let mut list = gate.left.lock();
        // `close()` made room for it; without any it is leaked.
        if let Err(error) = list.push_within_capacity(left) {
            core::mem::forget(error);
        }
        drop(list);
        let gate = Shared(gate);
        if let Some(worker) = gate.0.worker.as_ref() {
            // SAFETY: The gate waits for the worker before it goes.
            let gate: Shared<'static> = unsafe { core::mem::transmute(gate) };
            // Else the next change does it, or the end of the super block.
            let _ = worker.run(move || {
                let gate = gate;
                gate.0.sweep();
            });
        }
    }
}

/// A gate that another task uses.
struct Shared<'a>(&'a Gate);

impl Drop for Closed<'_> {
    fn drop(&mut self) {
        // The mutex, dropped next, lets those go on who wait.
        self.gate.closed.store(false, Release);
    }
}

/// An object that a change retired, with the function that frees it.
struct Left {
    what: NonNull<c_void>,
    /// Frees `what`.
    free: unsafe fn(NonNull<c_void>),
    /// The grace period of the SRCU domain that began after the change.
    period: c_ulong,
    /// How many changes there were with the one that retired it.
    change: usize,
}

// SAFETY: It owns values that can be sent.
unsafe impl Send for Left {}

/// Memory to remember what a change retires.
pub(in crate::fs) struct Room<X>(KBox<core::mem::MaybeUninit<X>>);

impl<X> Room<X> {
    /// Takes the memory.
    pub(in crate::fs) fn new() -> Result<Self> {
        Ok(Room(KBox::new_uninit(GFP_KERNEL)?))
    }
}

impl Left {
    fn new<X: Send>(room: Room<X>, retired: X, period: c_ulong, change: usize) -> Self {
        /// # Safety
        ///
        /// `what` must come from a box of `X`, and nobody else use it.
        unsafe fn free<X>(what: NonNull<c_void>) {
            // SAFETY: By the caller's contract.
            drop(unsafe { KBox::<X>::from_raw(what.as_ptr().cast()) });
        }
        let what = KBox::into_raw(room.0.write(retired)).cast();
        Left {
            // SAFETY: A box is not null.
            what: unsafe { NonNull::new_unchecked(what) },
            free: free::<X>,
            period,
            change,
        }
    }

    fn when(&self) -> (c_ulong, usize) {
        (self.period, self.change)
    }
}

impl Drop for Left {
    fn drop(&mut self) {
        // SAFETY: As `new()` made it.
        unsafe { (self.free)(self.what) };
    }
}
