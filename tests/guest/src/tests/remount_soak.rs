// SPDX-License-Identifier: GPL-2.0

//! Random changes of branches under load: after each the union is what its branches say.
//!
//! `SOAK` is the number of changes (default 120), `SEED` chooses them. Each branch of a pool holds
//! a file `who` with its own number, one file of its own in `d`, and `d/common`; so the order of
//! the branches can be read from the union. Meanwhile threads make, write, rename, list and remove
//! in the union, and read what comes and goes. A branch that one of them holds may be busy; then
//! nothing must have changed.

use std::{
    path::PathBuf,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
};

use proptest::{
    prelude::RngCore,
    test_runner::{RngAlgorithm, TestRng},
};

use crate::harness::{
    prelude::*,
    union::{mounts_line, reconfigure, Refused},
    watchdog,
};

cases! {
    BASIC: random_changes_under_load;
}

/// Branches that come and go, beside the writable one that stays.
const POOL: usize = 7;

/// What the union is to be made of, topmost first: number of the branch and its permission.
type Order = Vec<(usize, &'static str)>;

struct Soak<'a> {
    u: &'a Union,
    pool: &'a [PathBuf],
    order: Order,
    rng: TestRng,
    busy: u64,
}

impl Soak<'_> {
    fn pick(&mut self, n: usize) -> usize {
        (self.rng.next_u64() % n as u64) as usize
    }

    /// A branch that is no member.
    fn outsider(&mut self) -> Option<usize> {
        let out: Vec<_> = (1..=POOL)
            .filter(|n| self.order.iter().all(|b| b.0 != *n))
            .collect();
        (!out.is_empty()).then(|| out[self.pick(out.len())])
    }

    /// The position of a member other than the one that stays.
    fn member(&mut self) -> Option<usize> {
        let at: Vec<_> = (0..self.order.len())
            .filter(|i| self.order[*i].0 != 0)
            .collect();
        (!at.is_empty()).then(|| at[self.pick(at.len())])
    }

    /// Chooses a change, as options and as what it leads to.
    fn choose(&mut self) -> Option<(Vec<String>, Order)> {
        const PERMS: [&str; 4] = ["ro", "ro+wh", "rr", "rw"];
        let mut order = self.order.clone();
        let path = |n: usize| self.pool[n].display().to_string();
        let options = match self.pick(6) {
            0 | 1 => {
                let n = self.outsider()?;
                let perm = PERMS[self.pick(PERMS.len())];
                let at = self.pick(order.len() + 1);
                order.insert(at, (n, perm));
                vec![format!("add:{at}:{}={perm}", path(n))]
            }
            2 | 3 => {
                let at = self.member()?;
                let (n, _) = order.remove(at);
                vec![format!("del:{}", path(n))]
            }
            4 => {
                let at = self.member()?;
                let perm = PERMS[self.pick(PERMS.len())];
                order[at].1 = perm;
                vec![format!("mod:{}={perm}", path(order[at].0))]
            }
            _ => {
                let at = self.member()?;
                let branch = order.remove(at);
                let to = self.pick(order.len() + 1);
                order.insert(to, branch);
                let path = path(branch.0);
                vec![
                    format!("del:{path}"),
                    format!("add:{to}:{path}={}", branch.1),
                ]
            }
        };
        Some((options, order))
    }

    fn change(&mut self) -> Result<()> {
        let Some((options, order)) = self.choose() else {
            return Ok(());
        };
        let options: Vec<_> = options.iter().map(String::as_str).collect();
        match reconfigure(self.u.root(), &options) {
            Ok(()) => self.order = order,
            Err(Refused {
                errno: Errno::BUSY, ..
            }) => self.busy += 1,
            Err(refused) => anyhow::bail!("{options:?}: {refused}"),
        }
        self.check().with_context(|| format!("after {options:?}"))
    }

    /// The union shows what its branches say.
    fn check(&self) -> Result<()> {
        let shown: Vec<_> = mounts_line(self.u.root())?[3]
            .split(',')
            .filter_map(|o| o.strip_prefix("br=").map(str::to_owned))
            .collect();
        let wanted: Vec<_> = self
            .order
            .iter()
            .map(|(n, perm)| format!("{}={perm}", self.pool[*n].display()))
            .collect();
        anyhow::ensure!(shown == wanted, "branches {shown:?}, not {wanted:?}");
        let top = self.order.iter().find(|b| b.0 != 0);
        let who = top.map(|b| b.0.to_string());
        let seen = text(self.u.at("who")).ok();
        anyhow::ensure!(seen == who, "who is {seen:?}, not {who:?}");
        let mut files: std::collections::BTreeSet<_> = self
            .order
            .iter()
            .filter(|b| b.0 != 0)
            .map(|b| format!("own{}", b.0))
            .collect();
        if top.is_some() {
            files.insert("common".to_owned());
        }
        let seen = names(self.u.at("d")).unwrap_or_default();
        anyhow::ensure!(seen == files, "d holds {seen:?}, not {files:?}");
        for name in &files {
            sys::lstat(self.u.at(&format!("d/{name}"))).context("listed, but not found")?;
        }
        Ok(())
    }
}

/// Errors that the load may meet while branches come and go.
fn tolerated(errno: Errno) -> bool {
    matches!(
        errno,
        Errno::NOENT | Errno::ROFS | Errno::STALE | Errno::NOTDIR
    )
}

/// Works in a directory of the branch that stays, whose results must be exact, and looks at what
/// comes and goes.
fn load(u: &Union, thread: usize, stop: &AtomicBool, done: &AtomicU64) -> Result<()> {
    let own = format!("work/{thread}");
    sys::mkdir(u.at(&own))?;
    let mut n = 0u64;
    while !stop.load(Ordering::Relaxed) {
        n += 1;
        let (a, b) = (format!("{own}/a{}", n % 5), format!("{own}/b"));
        let data = format!("{n}");
        sys::write(u.at(&a), &data)?;
        sys::append(u.at(&a), "+")?;
        sys::rename(u.at(&a), u.at(&b))?;
        assert_eq!(text(u.at(&b))?, format!("{data}+"));
        sys::unlink(u.at(&b))?;
        assert!(!sys::exists(u.at(&b)));
        for path in ["who", "d/common", "d/own3"] {
            match sys::read(u.at(path)) {
                Ok(data) => anyhow::ensure!(!data.is_empty(), "{path} is empty"),
                Err(e) if tolerated(e.errno) => {}
                Err(e) => return Err(e.into()),
            }
        }
        match dir::list(u.at("d")) {
            Ok(_) => {}
            Err(e) if tolerated(e.errno) => {}
            Err(e) => return Err(e.into()),
        }
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

fn random_changes_under_load(cx: &Ctx) -> Result<()> {
    let number = |name: &str, default: u64| -> Result<u64> {
        match std::env::var(name) {
            Ok(text) => text.parse().with_context(|| format!("{name}={text}")),
            Err(_) => Ok(default),
        }
    };
    let (changes, seed) = (number("SOAK", 120)?, number("SEED", 1)?);
    let kind = cx.layout.upper();
    let mut pool = vec![cx.branch(kind, "rw", &Tree::new().dir("work"))?];
    for n in 1..=POOL {
        let tree = Tree::new()
            .file("who", n.to_string())
            .file("d/common", n.to_string())
            .file(&format!("d/own{n}"), "x");
        pool.push(cx.branch(kind, "rw", &tree)?);
    }
    let u = cx.union().at(&pool[0], "rw").mount()?;
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut soak = Soak {
        u: &u,
        pool: &pool,
        order: vec![(0, "rw")],
        rng: TestRng::from_seed(RngAlgorithm::ChaCha, &bytes),
        busy: 0,
    };
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let result = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..3)
            .map(|n| {
                let (u, stop, done) = (&u, &stop, &done);
                scope.spawn(move || load(u, n, stop, done))
            })
            .collect();
        let mut result = Ok(());
        for n in 0..changes {
            watchdog::alive_after(n, changes, "changes");
            result = soak
                .change()
                .with_context(|| format!("change {n} of SEED={seed}"));
            if result.is_err() || threads.iter().any(|t| t.is_finished()) {
                break;
            }
        }
        stop.store(true, Ordering::Relaxed);
        for thread in threads {
            result = result.and(
                thread
                    .join()
                    .unwrap_or_else(|_| Err(anyhow::anyhow!("a thread panicked"))),
            );
        }
        result
    });
    let (rounds, busy) = (done.load(Ordering::Relaxed), soak.busy);
    result?;
    anyhow::ensure!(rounds > 0, "there was no load");
    anyhow::ensure!(
        busy < changes / 2,
        "{busy} of {changes} changes met a busy branch"
    );
    // All can go when nobody uses them.
    let rest: Vec<_> = soak
        .order
        .iter()
        .filter(|b| b.0 != 0)
        .map(|b| format!("del:{}", pool[b.0].display()))
        .collect();
    let rest: Vec<_> = rest.iter().map(String::as_str).collect();
    reconfigure(u.root(), &rest)?;
    assert_eq!(names(u.root())?, set(["work"]));
    u.umount()
}
