// SPDX-License-Identifier: GPL-2.0

//! The ioctls RDU and RDU_INO: listing a directory for a program that merges by itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    os::fd::OwnedFd,
};

use crate::harness::{
    dir::open_dir,
    ioctl::{self, compat, on, LowMemory, NOWHERE, RDU, RDU_INO},
    prelude::*,
    sys::Res,
    union::reconfigure,
};

cases! {
    WIDE: raw_entries, numbers_of_merged_entries;
    BASIC: of_32_bit_programs;
    ONCE: bad_requests, marks_that_do_not_count, invented_numbers;
}

const SIZE: usize = 64;

/// `struct aufs_rdu`, as bytes.
#[derive(Clone)]
struct Rdu([u8; SIZE]);

impl Rdu {
    fn new() -> Self {
        let mut rdu = Self([0; SIZE]);
        rdu.set(16, &(SIZE as u16).to_ne_bytes());
        rdu
    }

    fn set(&mut self, at: usize, bytes: &[u8]) {
        self.0[at..at + bytes.len()].copy_from_slice(bytes);
    }

    fn buffer(&mut self, address: usize, amount: u64) {
        self.set(0, &amount.to_ne_bytes());
        self.set(8, &(address as u64).to_ne_bytes());
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.0[at..at + 8].try_into().expect("eight bytes"))
    }

    fn stored(&self) -> u64 {
        self.u64(32)
    }

    fn tail(&self) -> u64 {
        self.u64(24)
    }

    fn full(&self) -> bool {
        self.0[40] != 0
    }
}

/// An entry: branch, name, inode number, type.
type Entry = (i16, String, u64, u8);

/// Splits a buffer into `count` entries; gives them and where the last one ends.
fn entries(buffer: &[u8], count: u64) -> (Vec<Entry>, usize) {
    let (mut all, mut at) = (Vec::new(), 0);
    for _ in 0..count {
        let record = &buffer[at..];
        let len = usize::from(record[11]);
        assert_eq!(record[13 + len], 0, "the end of the name");
        all.push((
            i16::from_ne_bytes([record[8], record[9]]),
            String::from_utf8_lossy(&record[13..13 + len]).into_owned(),
            u64::from_ne_bytes(record[..8].try_into().expect("eight bytes")),
            record[10],
        ));
        at += (16 + len + 1).next_multiple_of(8);
    }
    (all, at)
}

/// Lists a directory with a buffer of `size` bytes.
fn list(fd: &OwnedFd, size: usize) -> Res<Vec<Entry>> {
    let (mut rdu, mut all) = (Rdu::new(), Vec::new());
    loop {
        let mut buffer = vec![0xa5u8; size];
        rdu.buffer(buffer.as_mut_ptr() as usize, size as u64);
        assert_eq!(on(fd, RDU, &mut rdu.0)?, 0);
        let (mut some, end) = entries(&buffer, rdu.stored());
        assert_eq!(rdu.tail(), buffer.as_ptr() as u64 + end as u64);
        assert!(end <= size);
        assert!(buffer[end..].iter().all(|b| *b == 0xa5), "beyond the tail");
        if rdu.stored() == 0 {
            assert!(!rdu.full(), "a buffer of {size} bytes takes an entry");
            return Ok(all);
        }
        all.append(&mut some);
    }
}

fn sample(cx: &Ctx) -> Result<Union> {
    cx.union()
        .rw(Tree::new()
            .dir("d")
            .file("d/both", "")
            .files("d/upper", 40)
            .whiteout("d/gone"))
        .ro_wh(
            Tree::new()
                .dir("d")
                .file("d/both", "")
                .file("d/gone", "")
                .dir("d/sub")
                .symlink("d/link", "x")
                .files("d/lower", 700),
        )
        .mount()
}

fn raw_entries(cx: &Ctx) -> Result<()> {
    let u = sample(cx)?;
    let fd = open_dir(u.at("d"))?;
    let mut wanted = BTreeSet::new();
    for branch in 0..2 {
        let names = dir::list(u.br(branch, "d"))?.into_iter().map(|e| e.name);
        let dots = [".", ".."].map(str::to_owned);
        wanted.extend(names.chain(dots).map(|name| (branch as i16, name)));
    }
    for size in [300, 4096, 33_000, 1 << 20] {
        let all = list(&fd, size)?;
        let branches: Vec<_> = all.iter().map(|e| e.0).collect();
        assert!(branches.is_sorted(), "the upper branch comes first");
        let names: BTreeSet<_> = all.iter().map(|e| (e.0, e.1.clone())).collect();
        assert_eq!(names.len(), all.len(), "each once");
        let differ: Vec<_> = names.symmetric_difference(&wanted).collect();
        assert!(differ.is_empty(), "with {size} bytes: {differ:?}");
    }
    let mut rdu = Rdu::new();
    let mut buffer = vec![0u8; 1 << 20];
    rdu.buffer(buffer.as_mut_ptr() as usize, 1 << 20);
    on(&fd, RDU, &mut rdu.0)?;
    assert_eq!(rdu.stored(), wanted.len() as u64);
    assert!(!rdu.full());
    assert_eq!(rdu.0[20..24], 512u32.to_ne_bytes(), "rdblk");
    Ok(())
}

fn numbers_of_merged_entries(cx: &Ctx) -> Result<()> {
    let u = sample(cx)?;
    // A copy keeps the number that the original had.
    let before = sys::lstat(u.at("d/lower7"))?.st_ino;
    sys::chmod(u.at("d/lower7"), 0o600)?;
    let fd = open_dir(u.at("d"))?;
    let mut rdu = Rdu::new();
    let mut buffer = vec![0u8; 1 << 20];
    rdu.buffer(buffer.as_mut_ptr() as usize, 1 << 20);
    on(&fd, RDU, &mut rdu.0)?;
    let count = rdu.stored();
    rdu.buffer(buffer.as_mut_ptr() as usize, count);
    assert_eq!(on(&fd, RDU_INO, &mut rdu.0)?, 0);
    let mut merged = BTreeMap::new();
    for (_, name, ino, _) in entries(&buffer, count).0 {
        merged.entry(name).or_insert(ino);
    }
    assert_eq!(merged["lower7"], before);
    assert_eq!(merged["."], sys::lstat(u.at("d"))?.st_ino);
    assert_eq!(merged[".."], 2);
    for entry in dir::list(u.at("d"))? {
        assert_eq!(merged[&entry.name], entry.ino, "{}", entry.name);
    }
    Ok(())
}

fn of_32_bit_programs(cx: &Ctx) -> Result<()> {
    let u = sample(cx)?;
    let fd = open_dir(u.at("d"))?;
    let wanted = list(&fd, 1 << 20)?;
    let (mut head, mut buffer) = (LowMemory::new(SIZE), LowMemory::new(1 << 20));
    let mut rdu = Rdu::new();
    rdu.buffer(buffer.address(), 1 << 20);
    head.bytes()[..SIZE].copy_from_slice(&rdu.0);
    assert_eq!(compat(&fd, RDU, head.address())?, 0);
    rdu.0.copy_from_slice(&head.bytes()[..SIZE]);
    let (got, end) = entries(buffer.bytes(), rdu.stored());
    assert_eq!(rdu.tail(), (buffer.address() + end) as u64);
    assert_eq!(got, wanted);
    Ok(())
}

fn marks_that_do_not_count(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().whiteout("x"))
        .ro(Tree::new().file("x", ""))
        .mount()?;
    let all = list(&open_dir(u.root())?, 4096)?;
    assert!(!all.iter().any(|e| e.0 == 1 && e.1 == ".wh.x"), "{all:?}");
    assert!(all.iter().any(|e| e.0 == 2 && e.1 == "x"), "{all:?}");
    Ok(())
}

fn bad_requests(cx: &Ctx) -> Result<()> {
    let u = sample(cx)?;
    let fd = open_dir(u.at("d"))?;
    let mut buffer = vec![0u8; 1 << 16];
    let address = buffer.as_mut_ptr() as usize;
    let mut good = Rdu::new();
    good.buffer(address, 1 << 16);
    for command in [RDU, RDU_INO] {
        let mut other_size = good.clone();
        other_size.set(16, &56u16.to_ne_bytes());
        errno(on(&fd, command, &mut other_size.0), Errno::INVAL);
        errno(ioctl::raw(&fd, command, NOWHERE), Errno::FAULT);
        errno(ioctl::raw(&fd, command, 0), Errno::FAULT);
        let mut nowhere = good.clone();
        nowhere.buffer(NOWHERE, 1 << 16);
        errno(on(&fd, command, &mut nowhere.0), Errno::FAULT);
        nowhere.buffer(usize::MAX - 100, 1 << 16);
        errno(on(&fd, command, &mut nowhere.0), Errno::FAULT);
    }
    let mut other_branches = good.clone();
    other_branches.set(60, &12345u32.to_ne_bytes());
    errno(on(&fd, RDU, &mut other_branches.0), Errno::AGAIN);
    let mut position = good.clone();
    position.set(48, &u64::MAX.to_ne_bytes());
    errno(on(&fd, RDU, &mut position.0), Errno::INVAL);
    // No entry fits.
    let mut small = good.clone();
    small.buffer(address, 8);
    on(&fd, RDU, &mut small.0)?;
    assert_eq!((small.stored(), small.full()), (0, true));
    // A branch that is not there.
    for index in [-1i16, 2, i16::MAX] {
        buffer[..32].fill(0);
        buffer[8..10].copy_from_slice(&index.to_ne_bytes());
        let mut rdu = good.clone();
        rdu.buffer(address, 1);
        errno(on(&fd, RDU_INO, &mut rdu.0), Errno::INVAL);
    }
    // More entries than there is memory for.
    buffer.fill(0);
    let mut many = good.clone();
    many.buffer(address, u64::MAX);
    assert!(on(&fd, RDU_INO, &mut many.0).is_err());
    // Beyond the last branch there is nothing.
    let mut end = good.clone();
    end.set(56, &5i16.to_ne_bytes());
    on(&fd, RDU, &mut end.0)?;
    assert_eq!(end.stored(), 0);
    Ok(())
}

/// Numbers that nothing has, each of which would take memory for the rest of the mount.
fn invented_numbers(cx: &Ctx) -> Result<()> {
    let u = cx.union().rw(Tree::new().file("f", "")).mount()?;
    let fd = open_dir(u.root())?;
    for name in [&b"f"[..], b"absent", b"..x", b"f/f", b"", &[b'x'; 255]] {
        let mut entry = vec![0u8; (16 + name.len() + 1).next_multiple_of(8)];
        entry[11] = name.len() as u8;
        entry[13..13 + name.len()].copy_from_slice(name);
        for number in [1 << 48, 1 << 62, u64::MAX, u64::MAX - 17] {
            entry[..8].copy_from_slice(&number.to_ne_bytes());
            let mut rdu = Rdu::new();
            rdu.buffer(entry.as_mut_ptr() as usize, 1);
            assert_eq!(on(&fd, RDU_INO, &mut rdu.0)?, 0);
            assert_eq!(entry[..8], [0; 8], "{name:?} {number:x}");
        }
        // One that can be computed is, whatever it is of.
        entry[..8].copy_from_slice(&100u64.to_ne_bytes());
        let mut rdu = Rdu::new();
        rdu.buffer(entry.as_mut_ptr() as usize, 1);
        assert_eq!(on(&fd, RDU_INO, &mut rdu.0)?, 0);
        assert_ne!(entry[..8], [0; 8]);
    }
    // Nor do they take what the numbers of later branches need.
    let mut entry = [0u8; 24];
    entry[11] = 1;
    entry[13] = b'x';
    for number in (1u64 << 31..1 << 32).step_by(1 << 20) {
        entry[..8].copy_from_slice(&number.to_ne_bytes());
        let mut rdu = Rdu::new();
        rdu.buffer(entry.as_mut_ptr() as usize, 1);
        assert_eq!(on(&fd, RDU_INO, &mut rdu.0)?, 0);
    }
    let late = cx.branch(Kind::Squashfs, "ro", &Tree::new().file("late", ""))?;
    reconfigure(u.root(), &[&format!("append={}=ro", late.display())])?;
    let number = sys::lstat(u.at("late"))?.st_ino;
    assert!(number <= u64::from(u32::MAX), "{number:#x}");
    Ok(())
}
