// SPDX-License-Identifier: GPL-2.0

//! sysfs: directories (`struct kobject`) with text files (`struct attribute`).
//!
//! # Locking
//!
//! A file's value has a mutex of its own, held while its text is made. Removing a
//! file or a directory waits for readers of it, so whoever removes one holds
//! nothing that [`Attribute::show`] takes.
//!
//! C headers: [`include/linux/kobject.h`](srctree/include/linux/kobject.h),
//! [`include/linux/sysfs.h`](srctree/include/linux/sysfs.h),
//! [`Documentation/core-api/kobject.rst`](srctree/Documentation/core-api/kobject.rst).

use crate::bindings;
use core::{
    marker::PhantomData,
    pin::Pin,
    ptr, //
};
use kernel::{
    error::to_result,
    new_mutex,
    prelude::*,
    str::CString,
    sync::{
        Completion,
        Mutex, //
    },
    types::Opaque, //
};

/// The value of a file.
pub(crate) trait Attribute: Send + Unpin + 'static {
    /// Writes the text of the file.
    fn show(&self, out: &mut Page<'_>) -> Result;
}

/// The text of a file: at most a page.
pub(crate) struct Page<'a> {
    buf: &'a mut [u8],
    len: usize,
}

impl Page<'_> {
    /// Writes `bytes`. `EFBIG` if the page is full.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result {
        let end = self.len.checked_add(bytes.len()).ok_or(EFBIG)?;
        let room = self.buf.get_mut(self.len..end).ok_or(EFBIG)?;
        room.copy_from_slice(bytes);
        self.len = end;
        Ok(())
    }
}

/// A `kobject` and the news that nobody refers to it any more.
#[pin_data]
struct Node {
    #[pin]
    kobj: Opaque<bindings::kobject>,
    #[pin]
    released: Completion,
}

/// A file. Nobody may free it while it is in its directory.
#[pin_data]
struct File<A> {
    #[pin]
    attr: Opaque<bindings::attribute>,
    name: CString,
    #[pin]
    value: Mutex<A>,
}

/// A directory with its files, which are all of one kind. Dropping it removes it.
///
/// # Invariants
///
/// `node` was initialised with the type of [`Table<A>`] and holds the first reference;
/// `files` are exactly the files that were added to it.
pub(crate) struct Directory<A: Attribute> {
    node: Pin<KBox<Node>>,
    files: KVec<Pin<KBox<File<A>>>>,
}

// SAFETY: The C side serialises changes of directories; `files` is changed by `&mut self` only.
unsafe impl<A: Attribute> Send for Directory<A> {}

// SAFETY: As above; a shared reference only leads to the `kobject` as a parent, which is counted.
unsafe impl<A: Attribute> Sync for Directory<A> {}

impl<A: Attribute> Directory<A> {
    /// Makes a directory in `/sys/fs`.
    pub(crate) fn in_fs(name: &CStr) -> Result<Self> {
        // SAFETY: `fs_kobj` is made at boot and stays.
        unsafe { Self::new(bindings::fs_kobj, name) }
    }

    /// Makes a directory in this one, which must not be dropped before.
    pub(crate) fn child<B: Attribute>(&self, name: &CStr) -> Result<Directory<B>> {
        // SAFETY: By the type invariant; the child takes a reference to its parent.
        unsafe { Directory::new(self.node.kobj.get(), name) }
    }

    /// # Safety
    ///
    /// `parent` must be a live `kobject`.
    unsafe fn new(parent: *mut bindings::kobject, name: &CStr) -> Result<Self> {
        let node = KBox::pin_init(
            pin_init!(Node {
                kobj <- Opaque::zeroed(),
                released <- Completion::new(),
            }),
            GFP_KERNEL,
        )?;
        // INVARIANT: No file was added yet.
        let this = Directory {
            node,
            files: KVec::new(),
        };
        // SAFETY: The object is zeroed, pinned, and outlives its last reference, as `drop()`
        // waits for it; the format takes one string.
        to_result(unsafe {
            bindings::kobject_init_and_add(
                this.node.kobj.get(),
                &Table::<A>::TYPE,
                parent,
                kernel::str::as_char_ptr_in_const_context(c"%s"),
                name.as_char_ptr(),
            )
        })?;
        Ok(this)
    }

    /// Gives the file `name` a value; makes the file if there is none.
    pub(crate) fn put(&mut self, name: &CStr, value: A) -> Result {
        if let Some(file) = self.files.iter().find(|file| &*file.name == name) {
            // The old value is dropped without the lock.
            let old = core::mem::replace(&mut *file.value.lock(), value);
            drop(old);
            return Ok(());
        }
        self.files.reserve(1, GFP_KERNEL)?;
        let name = name.to_cstring()?;
        let file = KBox::pin_init(
            pin_init!(File {
                attr <- Opaque::zeroed(),
                name,
                value <- new_mutex!(value, "ruaufs_sysfs_file"),
            }),
            GFP_KERNEL,
        )?;
        // SAFETY: Nobody else knows the file yet; the name lives as long as the attribute.
        unsafe {
            bindings::ruaufs_helper_attribute_init(file.attr.get());
            (*file.attr.get()).name = file.name.as_char_ptr();
            (*file.attr.get()).mode = 0o444;
        }
        // SAFETY: The directory was added. The file stays where it is until it was removed.
        to_result(unsafe {
            bindings::sysfs_create_file_ns(self.node.kobj.get(), file.attr.get(), ptr::null())
        })?;
        Ok(self.files.push_within_capacity(file)?)
    }

    /// Removes the files whose values are not wanted.
    pub(crate) fn retain(&mut self, mut wanted: impl FnMut(&A) -> bool) {
        let dir = self.node.kobj.get();
        self.files.retain(|file| {
            let stays = wanted(&file.value.lock());
            if !stays {
                // SAFETY: By the type invariant the file is in the directory. No reader is left
                // when the call returns (`kernfs_drain()`).
                unsafe { bindings::sysfs_remove_file_ns(dir, file.attr.get(), ptr::null()) };
            }
            stays
        });
    }
}

impl<A: Attribute> Drop for Directory<A> {
    fn drop(&mut self) {
        // SAFETY: Initialised, and the first reference is given up. Deleting removes all files
        // and waits for their readers.
        unsafe {
            bindings::kobject_del(self.node.kobj.get());
            bindings::kobject_put(self.node.kobj.get());
        }
        self.node.released.wait_for_completion();
    }
}

/// The `kobj_type` of directories with files of the kind `A`.
struct Table<A>(PhantomData<A>);

impl<A: Attribute> Table<A> {
    const OPERATIONS: bindings::sysfs_ops = bindings::sysfs_ops {
        show: Some(Self::show),
        ..pin_init::zeroed()
    };

    const TYPE: bindings::kobj_type = bindings::kobj_type {
        release: Some(Self::release),
        sysfs_ops: &Self::OPERATIONS,
        ..pin_init::zeroed()
    };

    /// # Safety
    ///
    /// Called by sysfs with a file of a directory of this type, which is not removed meanwhile,
    /// and a page.
    unsafe extern "C" fn show(
        _kobj: *mut bindings::kobject,
        attr: *mut bindings::attribute,
        buf: *mut c_char,
    ) -> isize {
        let attr: *mut Opaque<bindings::attribute> = attr.cast();
        // SAFETY: Only the attributes of `File`s are added to such a directory; they are freed
        // after they were removed.
        let file = unsafe { &*kernel::container_of!(attr, File<A>, attr) };
        let mut page = Page {
            // SAFETY: By the contract of the callback.
            buf: unsafe { core::slice::from_raw_parts_mut(buf.cast(), bindings::PAGE_SIZE) },
            len: 0,
        };
        let result = file.value.lock().show(&mut page);
        match result {
            // CAST: At most a page.
            Ok(()) => page.len as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    /// # Safety
    ///
    /// Called by the last `kobject_put()` of a directory of this type.
    unsafe extern "C" fn release(kobj: *mut bindings::kobject) {
        let kobj: *mut Opaque<bindings::kobject> = kobj.cast();
        // SAFETY: Only the objects of `Node`s have this type; who frees one waits for this.
        unsafe {
            (*kernel::container_of!(kobj, Node, kobj))
                .released
                .complete_all()
        };
    }
}

/// The module's own object. `ENODEV` if it is part of the kernel.
fn module_kobj(module: &'static ThisModule) -> Result<*mut bindings::kobject> {
    let module = module.as_ptr();
    if module.is_null() {
        return Err(ENODEV);
    }
    // SAFETY: It is the module whose code is running.
    Ok(unsafe { &raw mut (*module).mkobj.kobj })
}

/// A second name of the module in `/sys/module`. Dropping it removes the name.
///
/// # Invariants
///
/// The link is there.
pub(crate) struct ModuleLink {
    module: &'static ThisModule,
    name: &'static CStr,
}

impl ModuleLink {
    /// Links `/sys/module/NAME` to the module. `EEXIST` if there is such a module.
    pub(crate) fn new(module: &'static ThisModule, name: &'static CStr) -> Result<Self> {
        let kobj = module_kobj(module)?;
        // SAFETY: The set that a module belongs to is `/sys/module`; both live as long as it.
        to_result(unsafe {
            bindings::sysfs_create_link_nowarn(
                &raw mut (*(*kobj).kset).kobj,
                kobj,
                name.as_char_ptr(),
            )
        })?;
        // INVARIANT: Just made.
        Ok(ModuleLink { module, name })
    }
}

impl Drop for ModuleLink {
    fn drop(&mut self) {
        if let Ok(kobj) = module_kobj(self.module) {
            // SAFETY: As when it was made; by the type invariant it is there.
            unsafe {
                bindings::sysfs_remove_link(&raw mut (*(*kobj).kset).kobj, self.name.as_char_ptr());
            }
        }
    }
}
