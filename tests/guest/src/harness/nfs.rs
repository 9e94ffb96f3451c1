// SPDX-License-Identifier: GPL-2.0

//! An NFS version 4 server and its client, both in this kernel, over the loopback interface.
//!
//! The kernel's server is driven by its control files alone. What mountd would tell it on demand
//! (who the client is, what is exported) it is told before.
//!
//! The server is started once, since its first ten seconds are a grace period in which clients
//! wait: nothing but a daemon of its own could tell it that there is nobody to wait for.

use std::{
    ffi::CString,
    fs,
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    os::fd::AsRawFd,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Condvar, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{ensure, Context, Result};
use rustix::{
    io::Errno,
    mount::{MountFlags, UnmountFlags},
};

use super::{
    context::{Ctx, Shared},
    scratch,
};

const CONTROL: &str = "/proc/fs/nfsd";
/// Flags of an export: any port, a file system number is given.
const EXPORT: u32 = 0x2002;
/// The server does not look at the path of a handle.
const NO_SUBTREE_CHECK: u32 = 0x400;
/// With 0 in it the server gives no delegations. The client's mount may go with the last one that
/// is returned, in the work queue that its unmount then waits for: the kernel hangs by itself.
const LEASES: &str = "/proc/sys/fs/leases-enable";
/// The caches that hold what mountd would say.
const CACHES: [&str; 4] = ["auth.unix.ip", "auth.unix.gid", "nfsd.export", "nfsd.fh"];

/// The socket of the running server.
static SERVER: Mutex<Option<TcpListener>> = Mutex::new(None);

/// Whether the server checks that a file is below the exported directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subtree {
    Checked,
    Unchecked,
}

/// What the threads of a [`Relay`] share.
#[derive(Default)]
struct Flow {
    state: Mutex<Stopped>,
    changed: Condvar,
}

#[derive(Default)]
struct Stopped {
    /// Nothing is passed on.
    stopped: bool,
    /// No further connection is taken.
    ended: bool,
    open: Vec<TcpStream>,
}

impl Flow {
    /// Passes on what comes, when it may.
    fn pass(&self, mut from: TcpStream, mut to: TcpStream) {
        let mut buffer = vec![0; 1 << 16];
        while let Ok(len @ 1..) = from.read(&mut buffer) {
            let state = self.state.lock().expect("not poisoned");
            drop(
                self.changed
                    .wait_while(state, |state| state.stopped)
                    .expect("not poisoned"),
            );
            if to.write_all(&buffer[..len]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    }

    fn take(self: &Arc<Self>, client: TcpStream) -> Result<()> {
        let server = TcpStream::connect("127.0.0.1:2049")?;
        for socket in [&client, &server] {
            socket.set_nodelay(true)?;
            let mut state = self.state.lock().expect("not poisoned");
            state.open.push(socket.try_clone()?);
        }
        for (from, to) in [(client.try_clone()?, server.try_clone()?), (server, client)] {
            let flow = self.clone();
            thread::spawn(move || flow.pass(from, to));
        }
        Ok(())
    }

    fn set(&self, stopped: bool) {
        self.state.lock().expect("not poisoned").stopped = stopped;
        self.changed.notify_all();
    }
}

/// A way to the server that can be interrupted: what is sent meanwhile is kept, and arrives later.
/// For the client the server is silent. Stopping the server's threads would not do: a connection
/// that is closed is an answer, and after a new start the grace period is.
struct Relay {
    flow: Arc<Flow>,
    port: u16,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    fn new() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        let flow = Arc::new(Flow::default());
        let taker = flow.clone();
        let thread = thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if taker.state.lock().expect("not poisoned").ended {
                    return;
                }
                // The client tries again.
                let _ = taker.take(client);
            }
        });
        Ok(Self {
            flow,
            port,
            thread: Some(thread),
        })
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.flow.set(false);
        let open = {
            let mut state = self.flow.state.lock().expect("not poisoned");
            state.ended = true;
            std::mem::take(&mut state.open)
        };
        for socket in open {
            let _ = socket.shutdown(Shutdown::Both);
        }
        // So that the thread looks.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// A directory that is exported and mounted again.
pub(crate) struct Nfs {
    exported: PathBuf,
    mount: PathBuf,
    mounted: bool,
    relay: Option<Relay>,
    shared: Arc<Shared>,
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_secs())
}

fn control(name: &str, text: &str) -> Result<()> {
    let path = Path::new(CONTROL).join(name);
    // One call for all of it: each is a command, which ends with its line.
    fs::write(&path, format!("{text}\n")).with_context(|| format!("{text:?} to {}", path.display()))
}

fn tell(cache: &str, text: &str) -> Result<()> {
    let path = format!("/proc/net/rpc/{cache}/channel");
    fs::write(&path, format!("{text}\n")).with_context(|| format!("{text:?} to {path}"))
}

/// Starts the server, if it does not run.
fn start() -> Result<()> {
    let mut server = SERVER.lock().unwrap_or_else(|e| e.into_inner());
    if server.is_some() {
        return Ok(());
    }
    for module in ["nfsd", "nfsv4"] {
        let status = Command::new("modprobe").arg(module).status()?;
        ensure!(status.success(), "modprobe {module}");
    }
    if !Path::new(CONTROL).join("threads").exists() {
        rustix::mount::mount("nfsd", CONTROL, "nfsd", MountFlags::empty(), None)
            .context("the server's control files")?;
    }
    let port = TcpListener::bind("127.0.0.1:2049").context("the server's port")?;
    control("versions", "-3 +4 +4.1 +4.2")?;
    for name in ["nfsv4leasetime", "nfsv4gracetime"] {
        control(name, "10")?;
    }
    control("portlist", &port.as_raw_fd().to_string())?;
    control("threads", "2")?;
    *server = Some(port);
    Ok(())
}

/// Stops the server, if it runs.
pub(crate) fn stop() -> Result<()> {
    let mut server = SERVER.lock().unwrap_or_else(|e| e.into_inner());
    match server.take() {
        None => Ok(()),
        Some(_) => control("threads", "0"),
    }
}

/// Empties the server's caches, which hold the exported directory.
///
/// The kernel counts these calls in seconds: one in the same second as the last one counts for
/// the next second, and what it empties goes half a minute later, or with a call after that second.
fn flush_caches() -> Result<()> {
    for cache in CACHES {
        let path = format!("/proc/net/rpc/{cache}/flush");
        fs::write(&path, "1\n").with_context(|| format!("writing {path}"))?;
    }
    Ok(())
}

/// What the server may hold of an export: its clients' open files, its own, its caches.
fn holders() -> String {
    let clients = fs::read_dir(Path::new(CONTROL).join("clients"));
    let states = clients.into_iter().flatten().flatten();
    let mut paths: Vec<_> = states.map(|dir| dir.path().join("states")).collect();
    paths.push(Path::new(CONTROL).join("filecache"));
    paths.extend(CACHES.map(|cache| Path::new("/proc/net/rpc").join(cache).join("content")));
    let text = |path: PathBuf| match fs::read_to_string(&path) {
        Ok(text) => format!("\n{}:\n{text}", path.display()),
        Err(error) => format!("\n{}: {error}", path.display()),
    };
    paths.into_iter().map(text).collect()
}

impl Nfs {
    /// Exports `dir` and mounts it at a fresh mount point.
    pub(crate) fn new(cx: &Ctx, dir: &Path, subtree: Subtree) -> Result<Self> {
        Self::by(cx, dir, subtree, None)
    }

    /// The same with a server that can fall silent.
    pub(crate) fn interruptible(cx: &Ctx, dir: &Path) -> Result<Self> {
        Self::by(cx, dir, Subtree::Unchecked, Some(Relay::new()?))
    }

    /// The server does not answer from now on.
    pub(crate) fn interrupt(&self) {
        self.relay.iter().for_each(|relay| relay.flow.set(true));
    }

    /// It answers again, also what was asked meanwhile.
    pub(crate) fn resume(&self) {
        self.relay.iter().for_each(|relay| relay.flow.set(false));
    }

    fn by(cx: &Ctx, dir: &Path, subtree: Subtree, relay: Option<Relay>) -> Result<Self> {
        start()?;
        fs::write(LEASES, "0\n").with_context(|| LEASES)?;
        let mut nfs = Self {
            exported: dir.to_owned(),
            mount: cx.mount_point()?,
            mounted: false,
            relay,
            shared: cx.shared(),
        };
        let until = now() + 3600;
        let dir = dir.display();
        let flags = match subtree {
            Subtree::Checked => EXPORT,
            Subtree::Unchecked => EXPORT | NO_SUBTREE_CHECK,
        };
        tell("auth.unix.ip", &format!("nfsd 127.0.0.1 {until} tests"))?;
        for uid in [0, 1001] {
            tell("auth.unix.gid", &format!("{uid} {until} 1 {uid}"))?;
        }
        tell(
            "nfsd.export",
            &format!("tests {dir} {until} {flags} 65534 65534 0"),
        )?;
        tell("nfsd.fh", &format!("tests 1 \\x00000000 {until} {dir}"))?;
        nfs.mount()?;
        nfs.mounted = true;
        Ok(nfs)
    }

    /// The client's mount. Nothing is cached longer than a call.
    fn mount(&self) -> Result<()> {
        let port = self.relay.as_ref().map_or(2049, |relay| relay.port);
        let data = format!(
            "addr=127.0.0.1,port={port},clientaddr=127.0.0.1,proto=tcp,sec=sys,actimeo=0,vers=4.2"
        );
        let data = CString::new(data)?;
        let none = MountFlags::empty();
        rustix::mount::mount("127.0.0.1:/", &self.mount, "nfs4", none, data.as_c_str())
            .context("the client's mount")
    }

    /// The directory that is exported.
    pub(crate) fn exported(&self) -> &Path {
        &self.exported
    }

    /// A path in the client's mount.
    pub(crate) fn at(&self, rel: &str) -> PathBuf {
        match rel {
            "" => self.mount.clone(),
            rel => self.mount.join(rel),
        }
    }

    /// Makes the server forget all files and the export.
    fn end(&mut self) -> Result<()> {
        fs::write(LEASES, "1\n").with_context(|| LEASES)?;
        self.resume();
        if self.mounted {
            scratch::umount(&self.mount)?;
        }
        // What an administrator does before he unmounts: clients lose what they hold open.
        control("unlock_filesystem", &self.exported.to_string_lossy())?;
        // Its threads close the files a moment later. This unmounts nothing: it asks whether the
        // mount is in use.
        let start = Instant::now();
        let mut flush = start;
        loop {
            if Instant::now() >= flush {
                flush_caches()?;
                flush += Duration::from_secs(2);
            }
            if rustix::mount::unmount(&self.exported, UnmountFlags::EXPIRE) == Err(Errno::AGAIN) {
                return Ok(());
            }
            ensure!(
                start.elapsed() < Duration::from_secs(20),
                "the server keeps {} busy: {}",
                self.exported.display(),
                holders()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Nfs {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            self.shared.problem(format!("the export: {error:#}"));
        }
    }
}
