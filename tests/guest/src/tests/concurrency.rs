// SPDX-License-Identifier: GPL-2.0

//! Many threads at once: no lost write, no second copy, no name twice, one winner.

use std::{
    collections::BTreeSet,
    sync::{
        atomic::{AtomicBool, AtomicUsize, Ordering},
        Barrier,
    },
    thread,
};

use crate::harness::{
    prelude::*,
    scratch::{self, Private},
    sys::{RenameFlags, Res},
    union::Spec,
    watchdog,
};

cases! {
    BASIC: own_names_in_one_directory, one_name_for_all, removing_what_others_remove,
        copy_up_of_one_file, copy_up_of_many_files, appends_are_not_lost, two_names_of_one_file,
        readers_during_copy_up, missing_parents, renames_there_and_back, exchanges,
        directories_made_and_removed, listing_while_changing, attributes_and_data,
        caches_dropped_all_the_time, everything_at_once;
    ONCE: mounts_and_umounts;
}

/// Threads of most tests; more than the machine has processors.
const THREADS: usize = 6;

/// Runs `f(0)`, `f(1)`, ... at the same time and returns the results in order.
fn all<T: Send>(count: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let start = Barrier::new(count);
    thread::scope(|scope| {
        let (start, f) = (&start, &f);
        let body = move |i| {
            start.wait();
            f(i)
        };
        let threads: Vec<_> = (0..count).map(|i| scope.spawn(move || body(i))).collect();
        let join = |t: thread::ScopedJoinHandle<'_, T>| t.join().expect("a thread panicked");
        threads.into_iter().map(join).collect()
    })
}

/// Counts successes; failures must have this errno.
#[track_caller]
fn winners<T>(results: Vec<Res<T>>, loser: Errno) -> usize {
    let mut count = 0;
    for result in results {
        match result {
            Ok(_) => count += 1,
            Err(e) => assert_eq!(e.errno, loser, "{e}"),
        }
    }
    count
}

fn own_names_in_one_directory(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().files("d/low", 60))
        .mount()?;
    let results = all(THREADS, |t| -> Result<()> {
        for i in 0..60 {
            let p = u.at(&format!("d/{t}-{i}"));
            sys::write(&p, format!("{t} {i}"))?;
            assert_eq!(text(&p)?, format!("{t} {i}"));
            if i % 3 == 0 {
                sys::rename(&p, u.at(&format!("d/{t}-{i}-moved")))?;
            } else if i % 3 == 1 {
                sys::unlink(&p)?;
            }
            if i % THREADS == t {
                sys::unlink(u.at(&format!("d/low{i}")))?;
            }
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    let listed = names(u.at("d"))?;
    assert_eq!(listed.len(), THREADS * 40, "{listed:?}");
    for name in &listed {
        assert!(
            exists(u.at("d").join(name)),
            "{name} is listed but not there"
        );
    }
    Ok(())
}

fn one_name_for_all(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().whiteout("d/f"))
        .ro(Tree::new().file("d/f", ""))
        .mount()?;
    for _ in 0..25 {
        let p = u.at("d/f");
        assert_eq!(winners(all(THREADS, |_| sys::create(&p)), Errno::EXIST), 1);
        assert_eq!(winners(all(THREADS, |_| sys::unlink(&p)), Errno::NOENT), 1);
        assert_eq!(winners(all(THREADS, |_| sys::mkdir(&p)), Errno::EXIST), 1);
        assert_eq!(winners(all(THREADS, |_| sys::rmdir(&p)), Errno::NOENT), 1);
        assert_eq!(
            winners(
                all(THREADS, |t| sys::symlink(t.to_string(), &p)),
                Errno::EXIST
            ),
            1
        );
        assert_eq!(winners(all(THREADS, |_| sys::unlink(&p)), Errno::NOENT), 1);
    }
    assert_eq!(names(u.br(0, "d"))?, set([".wh.f"]));
    Ok(())
}

fn removing_what_others_remove(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("d/t", 40))
        .ro(Tree::new().files("d/l", 40).files("d/t", 20))
        .mount()?;
    let removed = AtomicUsize::new(0);
    let results = all(THREADS, |_| -> Result<()> {
        for name in names(u.at("d"))? {
            match sys::unlink(u.at("d").join(name)) {
                Ok(()) => removed.fetch_add(1, Ordering::Relaxed),
                Err(e) if e.errno == Errno::NOENT => 0,
                Err(e) => return Err(e.into()),
            };
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(removed.into_inner(), 80, "every name was removed once");
    sys::rmdir(u.at("d"))?;
    Ok(())
}

fn copy_up_of_one_file(cx: &Ctx) -> Result<()> {
    const SLOT: usize = 5000;
    for round in 0..8 {
        let low = Tree::new().file("a/b/f", vec![b'.'; 2 << 20]);
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        let ino = sys::lstat(u.at("a/b/f"))?.st_ino;
        let fds = all(THREADS, |t| -> Result<_> {
            let fd = sys::open_rw(u.at("a/b/f"))?;
            sys::pwrite_fd(&fd, &vec![b'0' + t as u8; SLOT], (t * 300_000) as u64)?;
            Ok(fd)
        });
        let fds = fds.into_iter().collect::<Result<Vec<_>>>()?;
        let data = sys::read(u.at("a/b/f"))?;
        assert_eq!(data.len(), 2 << 20);
        for t in 0..THREADS {
            let slot = &data[t * 300_000..t * 300_000 + SLOT];
            assert!(
                slot.iter().all(|b| *b == b'0' + t as u8),
                "round {round}: write {t} is lost"
            );
        }
        for fd in &fds {
            assert!(
                sys::pread_fd(fd)? == data,
                "a descriptor shows another copy"
            );
            assert_eq!(sys::fstat(fd)?.st_ino, ino);
        }
        assert_eq!(names(u.br(0, "a/b"))?, set(["f"]), "one copy");
    }
    Ok(())
}

fn copy_up_of_many_files(cx: &Ctx) -> Result<()> {
    let low = (0..40).fold(Tree::new(), |t, i| {
        t.file(&format!("d{}/f{i}", i % 4), "low")
    });
    let u = cx.union().rw(Tree::new()).ro(low).mount()?;
    let results = all(THREADS, |t| -> Result<()> {
        for i in 0..40 {
            let i = (i * 7 + t * 11) % 40;
            sys::append(u.at(&format!("d{}/f{i}", i % 4)), t.to_string())?;
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    for i in 0..40 {
        let data = text(u.at(&format!("d{}/f{i}", i % 4)))?;
        let mut tail: Vec<_> = data
            .strip_prefix("low")
            .context(data.clone())?
            .chars()
            .collect();
        tail.sort_unstable();
        assert_eq!(tail, ['0', '1', '2', '3', '4', '5'], "f{i}");
    }
    Ok(())
}

fn appends_are_not_lost(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("f", ""))
        .mount()?;
    let results = all(THREADS, |t| -> Result<()> {
        let fd = sys::open(u.at("f"), OFlags::APPEND | OFlags::WRONLY)?;
        for i in 0..50 {
            sys::write_fd(&fd, format!("{t}-{i}\n").as_bytes())?;
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    let data = text(u.at("f"))?;
    let lines: BTreeSet<_> = data.lines().collect();
    assert_eq!(
        (data.lines().count(), lines.len()),
        (THREADS * 50, THREADS * 50)
    );
    Ok(())
}

fn two_names_of_one_file(cx: &Ctx) -> Result<()> {
    for _ in 0..8 {
        let low = Tree::new()
            .file("a/1", vec![b'.'; 100_000])
            .hardlink("b/2", "a/1");
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        let results = all(4, |t| -> Result<()> {
            let fd = sys::open_rw(u.at(["a/1", "b/2"][t % 2]))?;
            Ok(sys::pwrite_fd(&fd, &[b'0' + t as u8], 20_000 * t as u64)?)
        });
        results.into_iter().collect::<Result<Vec<_>>>()?;
        for name in ["a/1", "b/2"] {
            let data = sys::read(u.at(name))?;
            let seen: Vec<_> = (0..4).map(|t| data[20_000 * t]).collect();
            assert_eq!(seen, b"0123", "{name}");
            assert_eq!(sys::lstat(u.at(name))?.st_nlink, 2);
        }
    }
    Ok(())
}

fn readers_during_copy_up(cx: &Ctx) -> Result<()> {
    const SIZE: usize = 1 << 20;
    for _ in 0..5 {
        let low = Tree::new().file("f", vec![b'o'; SIZE]);
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        let done = AtomicBool::new(false);
        let results = all(4, |t| -> Result<()> {
            if t == 0 {
                let fd = sys::open_rw(u.at("f"))?;
                sys::pwrite_fd(&fd, &[b'n'; 4096], (SIZE - 4096) as u64)?;
                done.store(true, Ordering::Release);
                return Ok(());
            }
            let fd = sys::open_ro(u.at("f"))?;
            loop {
                let last = done.load(Ordering::Acquire);
                let data = sys::pread_fd(&fd)?;
                assert_eq!(data.len(), SIZE, "a reader saw a partial copy");
                assert!(
                    data[..SIZE - 4096].iter().all(|b| *b == b'o'),
                    "or holes in it"
                );
                if last {
                    assert!(
                        data[SIZE - 4096..].iter().all(|b| *b == b'n'),
                        "or stayed behind"
                    );
                    return Ok(());
                }
            }
        });
        results.into_iter().collect::<Result<Vec<_>>>()?;
    }
    Ok(())
}

fn missing_parents(cx: &Ctx) -> Result<()> {
    for _ in 0..10 {
        let low = (0..THREADS).fold(Tree::new(), |t, i| t.dir(&format!("a/b/c/d/e{i}")));
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        let results = all(THREADS, |t| -> Result<()> {
            Ok(sys::write(u.at(&format!("a/b/c/d/e{t}/f")), t.to_string())?)
        });
        results.into_iter().collect::<Result<Vec<_>>>()?;
        for t in 0..THREADS {
            assert_eq!(text(u.at(&format!("a/b/c/d/e{t}/f")))?, t.to_string());
        }
        assert_eq!(names(u.br(0, "a/b/c/d"))?.len(), THREADS);
    }
    Ok(())
}

fn renames_there_and_back(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("a/f", "content").dir("b").dir("c"))
        .mount()?;
    let places = ["a/f", "b/f", "c/f"];
    let moved = AtomicUsize::new(0);
    let results = all(4, |t| -> Result<()> {
        for i in 0..80 {
            let (from, to) = (places[(i + t) % 3], places[(i + t + 1) % 3]);
            match sys::rename(u.at(from), u.at(to)) {
                Ok(()) => moved.fetch_add(1, Ordering::Relaxed),
                Err(e) if e.errno == Errno::NOENT => 0,
                Err(e) => return Err(e.into()),
            };
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    assert!(moved.into_inner() > 0);
    let left: Vec<_> = places.iter().filter(|p| exists(u.at(p))).collect();
    assert_eq!(left.len(), 1, "the file is in one place: {left:?}");
    assert_eq!(text(u.at(left[0]))?, "content");
    Ok(())
}

fn exchanges(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().file("d/a", "a"))
        .ro(Tree::new().file("e/b", "b"))
        .mount()?;
    let results = all(4, |_| -> Res<()> {
        for _ in 0..50 {
            sys::rename_with(u.at("d/a"), u.at("e/b"), RenameFlags::EXCHANGE)?;
            // Both names exist at any time.
            sys::lstat(u.at("d/a"))?;
            sys::lstat(u.at("e/b"))?;
        }
        Ok(())
    });
    results.into_iter().collect::<Res<Vec<_>>>()?;
    assert_eq!(
        (text(u.at("d/a"))?, text(u.at("e/b"))?),
        ("a".to_owned(), "b".to_owned())
    );
    Ok(())
}

fn directories_made_and_removed(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new())
        .ro(Tree::new().file("d/low", "").dir("e"))
        .mount()?;
    sys::unlink(u.at("d/low"))?;
    let results = all(THREADS, |t| -> Result<()> {
        for i in 0..40 {
            let expected = match (t + i) % 3 {
                0 => (sys::mkdir(u.at("d")), [Errno::EXIST, Errno::EXIST]),
                1 => (sys::rmdir(u.at("d")), [Errno::NOENT, Errno::NOTEMPTY]),
                _ => {
                    let p = u.at(&format!("d/{t}"));
                    let made = sys::write(&p, "").and_then(|()| sys::unlink(&p));
                    (made, [Errno::NOENT, Errno::NOENT])
                }
            };
            if let (Err(e), allowed) = expected {
                assert!(allowed.contains(&e.errno), "{e}");
            }
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    if exists(u.at("d")) {
        assert_eq!(names(u.at("d"))?, set([]), "old content came back");
        sys::rmdir(u.at("d"))?;
    }
    sys::mkdir(u.at("d"))?;
    assert_eq!(names(u.at("d"))?, set([]));
    Ok(())
}

fn listing_while_changing(cx: &Ctx) -> Result<()> {
    let u = cx
        .union()
        .rw(Tree::new().files("d/keep-t", 40))
        .ro(Tree::new().files("d/keep-l", 40).files("d/go", 60))
        .mount()?;
    let done = AtomicUsize::new(0);
    let results = all(4, |t| -> Result<()> {
        if t < 2 {
            for i in 0..60 {
                sys::write(u.at(&format!("d/new{t}-{i}")), "")?;
                if i % 2 == t {
                    sys::unlink(u.at(&format!("d/go{i}")))?;
                }
            }
            done.fetch_add(1, Ordering::Release);
            return Ok(());
        }
        while done.load(Ordering::Acquire) < 2 {
            let fd = dir::open_dir(u.at("d"))?;
            let listed = dir::unique(&dir::rest(&fd, 700)?, u.root());
            let kept = listed.iter().filter(|n| n.starts_with("keep")).count();
            assert_eq!(kept, 80, "unchanged names are listed once each");
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    assert_eq!(names(u.at("d"))?.len(), 80 + 120);
    Ok(())
}

fn attributes_and_data(cx: &Ctx) -> Result<()> {
    // Different triggers of the same copy-up at once: all effects are there afterwards.
    for _ in 0..15 {
        let low = Tree::new().file("d/f", vec![b'x'; 200_000]);
        let u = cx.union().rw(Tree::new()).ro(low).mount()?;
        let p = u.at("d/f");
        let results = all(5, |t| -> Res<()> {
            match t {
                0 => sys::append(&p, "+"),
                1 => sys::chmod(&p, 0o640),
                2 => sys::chown(&p, Some(12), Some(34)),
                3 => sys::set_xattr(&p, "user.a", "b"),
                _ => sys::link(&p, u.at("linked")),
            }
        });
        results.into_iter().collect::<Res<Vec<_>>>()?;
        let stat = sys::lstat(&p)?;
        assert_eq!((stat.st_size, sys::mode(&stat)), (200_001, 0o640));
        assert_eq!((stat.st_uid, stat.st_gid, stat.st_nlink), (12, 34, 2));
        assert_eq!(sys::get_xattr(&p, "user.a")?, b"b");
        assert_eq!(sys::lstat(u.at("linked"))?.st_ino, stat.st_ino);
    }
    Ok(())
}

fn caches_dropped_all_the_time(cx: &Ctx) -> Result<()> {
    let low = (0..30).fold(Tree::new(), |t, i| {
        t.file(&format!("a/b{}/f{i}", i % 3), i.to_string())
    });
    let u = cx.union().rw(Tree::new().dir("a/b1")).ro(low).mount()?;
    let done = AtomicBool::new(false);
    let results = all(4, |t| -> Result<()> {
        if t == 0 {
            while !done.load(Ordering::Acquire) {
                std::fs::write("/proc/sys/vm/drop_caches", "2")?;
            }
            return Ok(());
        }
        for round in 0..6 {
            for i in (0..30).filter(|i| i % 3 == t - 1) {
                let p = u.at(&format!("a/b{}/f{i}", i % 3));
                let ino = sys::lstat(&p)?.st_ino;
                sys::append(&p, round.to_string())?;
                assert_eq!(sys::lstat(&p)?.st_ino, ino);
                names(u.at(&format!("a/b{}", i % 3)))?;
            }
        }
        done.store(true, Ordering::Release);
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    for i in 0..30 {
        assert_eq!(
            text(u.at(&format!("a/b{}/f{i}", i % 3)))?,
            format!("{i}012345")
        );
    }
    Ok(())
}

/// Operations on a handful of names by all threads. Whatever each returns, the union must be in
/// order afterwards: what is listed can be looked up, and the other way round.
fn everything_at_once(cx: &Ctx) -> Result<()> {
    let tree = |p: &str| {
        Tree::new()
            .file("d0/n0", p)
            .file("d0/n1", p)
            .file("d1/n2", p)
            .dir("d2")
    };
    let u = cx
        .union()
        .rw(tree("t"))
        .ro(tree("m").file("d1/n0", "m"))
        .ro(tree("l"))
        .mount()?;
    all(THREADS, |t| {
        let mut x = t as u64 + 1;
        let mut next = |n: u64| {
            x = x
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) % n
        };
        let mut held = Vec::new();
        for step in 0..250 {
            let p = u.at(&format!("d{}/n{}", next(3), next(4)));
            let q = u.at(&format!("d{}/n{}", next(3), next(4)));
            // Failures are as good as successes here: others are at work.
            match next(16) {
                0 | 1 => drop(sys::write(&p, [t as u8; 3000])),
                2 => drop(sys::append(&p, "x")),
                3 | 4 => drop(sys::unlink(&p)),
                5 => drop(sys::mkdir(&p)),
                6 => drop(sys::rmdir(&p)),
                7 | 8 => drop(sys::rename(&p, &q)),
                9 => drop(sys::rename_with(&p, &q, RenameFlags::EXCHANGE)),
                10 => drop(sys::link(&p, &q)),
                11 => drop(sys::symlink("n1", &p)),
                12 => drop(sys::chmod(&p, 0o600 + (step & 0o77))),
                13 => drop(dir::list(p.parent().expect("has one"))),
                14 => held.extend(sys::open_rw(&p).ok()),
                _ => drop(held.pop().map(|fd| sys::write_fd(fd, b"held"))),
            }
        }
    });
    for dir in ["d0", "d1", "d2"] {
        let listed = names(u.at(dir))?;
        for e in dir::list(u.at(dir))? {
            let stat = sys::lstat(u.at(dir).join(&e.name))?;
            assert_eq!(
                (stat.st_ino, sys::kind(&stat)),
                (e.ino, e.kind),
                "{dir}/{}",
                e.name
            );
        }
        for i in 0..4 {
            let name = format!("n{i}");
            assert_eq!(
                exists(u.at(dir).join(&name)),
                listed.contains(&name),
                "{dir}/{name}"
            );
        }
    }
    std::fs::remove_dir_all(u.at("d0"))?;
    assert!(!exists(u.at("d0")));
    Ok(())
}

fn mounts_and_umounts(cx: &Ctx) -> Result<()> {
    let fs = Private::tmpfs(&cx.name(), "")?;
    let mut work = Vec::new();
    for t in 0..4 {
        Tree::new().file("low", "low").build(&{
            let ro = fs.path().join(format!("ro{t}"));
            sys::mkdir(&ro)?;
            ro
        })?;
        let rw = fs.path().join(format!("rw{t}"));
        sys::mkdir(&rw)?;
        let list = format!("br={}=rw:{}/ro{t}=ro", rw.display(), fs.path().display());
        work.push((Spec::new(&[&list]), cx.mount_point()?));
    }
    let results = all(4, |t| -> Result<()> {
        let (spec, mnt) = &work[t];
        for i in 0..12 {
            spec.mount(mnt)?;
            let used = (|| -> Result<()> {
                sys::append(mnt.join("low"), "+")?;
                sys::write(mnt.join(format!("n{i}")), "")?;
                assert_eq!(names(mnt)?.len(), i + 2);
                Ok(())
            })();
            scratch::umount(mnt)?;
            used?;
            watchdog::alive();
        }
        Ok(())
    });
    results.into_iter().collect::<Result<Vec<_>>>()?;
    fs.umount()
}
