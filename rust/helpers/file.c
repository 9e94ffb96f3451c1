// SPDX-License-Identifier: GPL-2.0
/* Open files: reading, writing, listing.  See helpers.h. */

#include <linux/backing-file.h>
#include <linux/cred.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/uio.h>

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
