// SPDX-License-Identifier: GPL-2.0
/* Open files: reading, writing, listing.  See helpers.h. */

#include <linux/backing-file.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/pipe_fs_i.h>
#include <linux/sched/signal.h>
#include <linux/slab.h>
#include <linux/task_work.h>
#include <linux/uio.h>
#include <linux/wait_bit.h>
#include <asm/syscall.h>

#include "../helpers.h"

#define RUAUFS_SETFL (O_NONBLOCK | O_NDELAY | O_DIRECT)

int ruaufs_helper_change_flags(struct file *file, unsigned int flags)
{
	int err;

	flags &= RUAUFS_SETFL;
	if ((flags & O_DIRECT) && !(file->f_mode & FMODE_CAN_ODIRECT))
		return -EINVAL;
	if (file->f_op->check_flags) {
		err = file->f_op->check_flags(flags);
		if (err)
			return err;
	}
	spin_lock(&file->f_lock);
	/* backing-file.c wants it to be there for an append-only inode. */
	if (IS_APPEND(file_inode(file)))
		flags |= file->f_flags & O_APPEND;
	file->f_flags = (file->f_flags & ~(RUAUFS_SETFL | O_APPEND)) | flags;
	file->f_iocb_flags = iocb_flags(file);
	spin_unlock(&file->f_lock);
	return 0;
}

void ruaufs_helper_init_sync_kiocb(struct kiocb *iocb, struct file *file)
{
	init_sync_kiocb(iocb, file);
}

size_t ruaufs_helper_iov_iter_count(const struct iov_iter *iter)
{
	return iov_iter_count(iter);
}

/* The request for @real that does what @iocb, for a file of ours, wants. */
static __always_inline struct kiocb request_below(const struct kiocb *iocb,
						  struct file *real)
{
	const int passed = IOCB_HIPRI | IOCB_DSYNC | IOCB_SYNC | IOCB_APPEND;

	return (struct kiocb) {
		.ki_filp = real,
		.ki_pos = iocb->ki_pos,
		.ki_flags = real->f_iocb_flags | (iocb->ki_flags & passed),
		.ki_ioprio = iocb->ki_ioprio,
	};
}

/*
 * As backing_file_read_iter(), for a request that completes at once, with fewer
 * calls on the way: what the VFS checked of the request for the file of ours is
 * not checked again, as both were opened alike.  The LSM and fanotify are asked
 * about @real, too.
 */
ssize_t ruaufs_helper_read(struct file *real, struct kiocb *iocb,
			   struct iov_iter *to, const struct cred *cred)
{
	size_t count = iov_iter_count(to);
	ssize_t ret;

	if (unlikely(!count))
		return 0;
	scoped_with_creds(cred) {
		ret = rw_verify_area(READ, real, &iocb->ki_pos, count);
		if (likely(!ret)) {
			struct kiocb below = request_below(iocb, real);

			ret = real->f_op->read_iter(&below, to);
			iocb->ki_pos = below.ki_pos;
		}
	}
	if (likely(ret >= 0))
		fsnotify_access(real);
	return ret;
}

/*
 * As backing_file_write_iter(), in the same way.  The inode of the file of ours
 * is locked.
 */
ssize_t ruaufs_helper_write(struct file *real, struct kiocb *iocb,
			    struct iov_iter *from, const struct cred *cred)
{
	size_t count = iov_iter_count(from);
	ssize_t ret = file_remove_privs(iocb->ki_filp);

	if (unlikely(ret))
		return ret;
	scoped_with_creds(cred) {
		ret = rw_verify_area(WRITE, real, &iocb->ki_pos, count);
		if (likely(!ret)) {
			struct kiocb below = request_below(iocb, real);

			file_start_write(real);
			ret = real->f_op->write_iter(&below, from);
			if (likely(ret > 0))
				fsnotify_modify(real);
			file_end_write(real);
			iocb->ki_pos = below.ki_pos;
		}
	}
	return ret;
}

int ruaufs_helper_wait_for_zero(u32 *count)
{
	return wait_var_event_killable(count, !smp_load_acquire(count));
}

/* Waits until @turn is not @seen any more. */
int ruaufs_helper_wait_for_turn(u32 *turn, u32 seen)
{
	return wait_var_event_killable(turn, smp_load_acquire(turn) != seen);
}

void ruaufs_helper_next_turn(u32 *turn)
{
	/* Ordered before the look for who waits, see wake_up_var(). */
	atomic_inc_return((atomic_t *)turn);
	wake_up_var(turn);
}

void ruaufs_helper_count_down(u32 *count)
{
	if (atomic_dec_and_test((atomic_t *)count))
		wake_up_var(count);
}

/* Waits until splice() finds something in @pipe, or that nobody writes to it. */
int ruaufs_helper_wait_for_pipe(struct pipe_inode_info *pipe)
{
	/* As splice() itself asks first, with or without something there. */
	if (signal_pending(current))
		return -ERESTARTSYS;
	return wait_event_interruptible(pipe->rd_wait,
					!pipe_is_empty(pipe) ||
						!READ_ONCE(pipe->writers));
}

/* A shared mapping that may be written, now or after mprotect(). */
bool ruaufs_helper_vma_may_store(const struct vm_area_struct *vma)
{
	return (vma->vm_flags & (VM_SHARED | VM_MAYWRITE)) ==
	       (VM_SHARED | VM_MAYWRITE);
}

bool ruaufs_helper_vma_stores(const struct vm_area_struct *vma)
{
	return vma->vm_flags & VM_WRITE;
}

/* As do_mmap() does it for a file that is not open for writing. */
void ruaufs_helper_vma_never_stores(struct vm_area_struct *vma)
{
	vm_flags_clear(vma, VM_SHARED | VM_MAYWRITE);
}

/*
 * Whether the mmap(2) that the task is in asks to store to these @len bytes at
 * @addr at once.  Of calls that give their arguments in another way it is not
 * known; then it is false.
 */
bool ruaufs_helper_mmap_stores(unsigned long addr, unsigned long len)
{
	unsigned long args[6];

	syscall_get_arguments(current, current_pt_regs(), args);
	return args[0] == addr && PAGE_ALIGN(args[1]) == len &&
	       args[2] & PROT_WRITE;
}

/* Counts a shared mapping that may be written, before there is one. */
int ruaufs_helper_map_writable(struct inode *inode)
{
	return mapping_map_writable(inode->i_mapping);
}

void ruaufs_helper_unmap_writable(struct inode *inode)
{
	mapping_unmap_writable(inode->i_mapping);
}

struct ruaufs_at_end {
	struct callback_head work;
	void (*fn)(struct file *file);
	struct file *file;
};

static void ruaufs_at_end(struct callback_head *work)
{
	struct ruaufs_at_end *call =
		container_of(work, struct ruaufs_at_end, work);

	call->fn(call->file);
	fput(call->file);
	kfree(call);
}

/* Has @fn called when the system call that the task is in has ended. */
int ruaufs_helper_call_at_end(struct file *file, void (*fn)(struct file *))
{
	struct ruaufs_at_end *call;
	int err;

	if (current->flags & (PF_KTHREAD | PF_USER_WORKER))
		return -EAGAIN;
	call = kmalloc(sizeof(*call), GFP_KERNEL_ACCOUNT);
	if (!call)
		return -ENOMEM;
	init_task_work(&call->work, ruaufs_at_end);
	call->fn = fn;
	call->file = get_file(file);
	err = task_work_add(current, &call->work, TWA_RESUME);
	if (err) {
		fput(file);
		kfree(call);
	}
	return err;
}

struct ruaufs_before_user {
	struct callback_head work;
	int (*fn)(struct file *file);
	struct file *file;
};

static void ruaufs_before_user(struct callback_head *work)
{
	struct ruaufs_before_user *call =
		container_of(work, struct ruaufs_before_user, work);
	struct pt_regs *regs = current_pt_regs();
	int err = 0;

	if (!(current->flags & PF_EXITING))
		err = call->fn(call->file);
	if (err && syscall_get_error(current, regs) == -ERESTARTNOINTR)
		syscall_set_return_value(current, regs, err, 0);
	fput(call->file);
	kfree(call);
}

/*
 * For a system call that cannot go on under the locks it holds: has @fn called
 * on the task's way back to user space, where none is held.  The caller returns
 * what this returns.  Then the system call begins anew, or fails with the error
 * of @fn.
 */
int ruaufs_helper_call_before_user(struct file *file,
				   int (*fn)(struct file *file))
{
	struct ruaufs_before_user *call;
	int err;

	if (current->flags & (PF_KTHREAD | PF_USER_WORKER))
		return -EAGAIN;
	call = kmalloc(sizeof(*call), GFP_KERNEL_ACCOUNT);
	if (!call)
		return -ENOMEM;
	init_task_work(&call->work, ruaufs_before_user);
	call->fn = fn;
	call->file = get_file(file);
	/* TWA_SIGNAL: before it is looked whether the call begins anew. */
	err = task_work_add(current, &call->work, TWA_SIGNAL);
	if (!err)
		return -ERESTARTNOINTR;
	fput(file);
	kfree(call);
	return err;
}

/*
 * Gives a file up, with no lock held.  A kernel thread closes it at once:
 * otherwise it would be closed, and its mount let go, some time later.
 */
void ruaufs_helper_put_file(struct file *file)
{
	if (current->flags & PF_KTHREAD)
		__fput_sync(file);
	else
		fput(file);
}

int ruaufs_helper_iterate(struct file *file, struct dir_context *ctx)
{
	return iterate_dir(file, ctx);
}

int ruaufs_helper_real_flush(struct file *file, fl_owner_t id)
{
	return file->f_op->flush ? file->f_op->flush(file, id) : 0;
}

int ruaufs_helper_fiemap(struct inode *inode, struct fiemap_extent_info *info,
			 u64 start, u64 len)
{
	if (!inode->i_op->fiemap)
		return -EOPNOTSUPP;
	return inode->i_op->fiemap(inode, info, start, len);
}

bool ruaufs_helper_dir_emit_dots(struct file *file, struct dir_context *ctx)
{
	return dir_emit_dots(file, ctx);
}
