// SPDX-License-Identifier: GPL-2.0
/* Attributes: stat, changes of them, flags of chattr(1).  See helpers.h. */

#include <linux/fs.h> /* fileattr.h wants it first. */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/fileattr.h>
#include <linux/mount.h>
#include <linux/security.h>

#include "../helpers.h"

/* From ids of the union's mount to ids of the union. */
void ruaufs_helper_rebase_owner(struct mnt_idmap *idmap, struct inode *inode,
				struct iattr *attr)
{
	struct user_namespace *fs_userns = i_user_ns(inode);

	if (attr->ia_valid & ATTR_UID)
		attr->ia_vfsuid = VFSUIDT_INIT(from_vfsuid(idmap, fs_userns,
							   attr->ia_vfsuid));
	if (attr->ia_valid & ATTR_GID)
		attr->ia_vfsgid = VFSGIDT_INIT(from_vfsgid(idmap, fs_userns,
							   attr->ia_vfsgid));
}

static bool sets_other_time(unsigned int valid, unsigned int set,
			    const struct timespec64 *wanted,
			    struct timespec64 now)
{
	return valid && (!set || !timespec64_equal(wanted, &now));
}

/*
 * Whether @attr, which setattr_prepare() let pass, changes more of @inode than
 * its change time.  Times are those of the instance @from.  A cut to the size that
 * there is moves the modification time on some file systems, such as ext4.
 */
bool ruaufs_helper_changes_attr(struct mnt_idmap *idmap, struct inode *inode,
				struct inode *from, const struct iattr *attr)
{
	const unsigned int valid = attr->ia_valid;

	return i_uid_needs_update(idmap, attr, inode) ||
	       i_gid_needs_update(idmap, attr, inode) ||
	       ((valid & ATTR_MODE) &&
		((attr->ia_mode ^ inode->i_mode) & S_IALLUGO)) ||
	       (valid & ATTR_SIZE) ||
	       (valid & ATTR_CTIME_SET) ||
	       sets_other_time(valid & ATTR_ATIME, valid & ATTR_ATIME_SET,
			       &attr->ia_atime, inode_get_atime(from)) ||
	       sets_other_time(valid & ATTR_MTIME, valid & ATTR_MTIME_SET,
			       &attr->ia_mtime, inode_get_mtime(from));
}

void ruaufs_helper_set_times(struct iattr *attr, const struct inode *from)
{
	attr->ia_valid |= ATTR_ATIME | ATTR_MTIME | ATTR_ATIME_SET |
			  ATTR_MTIME_SET;
	attr->ia_atime = inode_get_atime(from);
	attr->ia_mtime = inode_get_mtime(from);
}

void ruaufs_helper_set_owner(struct iattr *attr, const struct inode *from,
			     struct mnt_idmap *idmap)
{
	attr->ia_valid |= ATTR_UID | ATTR_GID;
	attr->ia_vfsuid = i_uid_into_vfsuid(idmap, from);
	attr->ia_vfsgid = i_gid_into_vfsgid(idmap, from);
}

static int branch_getattr(const struct path *path, struct kstat *stat,
			  u32 request, unsigned int flags)
{
	struct inode *inode = d_inode(path->dentry);
	struct mnt_idmap *idmap = mnt_idmap(path->mnt);

	/* Ours is SB_NOATIME, as the branch keeps the times of access. */
	if (likely(!(inode->i_sb->s_flags & SB_NOATIME)))
		stat->result_mask |= STATX_ATIME;
	if (unlikely(inode->i_flags & (S_DAX | S_VERITY))) {
		if (IS_DAX(inode))
			stat->attributes |= STATX_ATTR_DAX;
		if (IS_VERITY(inode))
			stat->attributes |= STATX_ATTR_VERITY;
	}
	if (inode->i_op->getattr)
		return inode->i_op->getattr(idmap, path, stat, request, flags);
	generic_fillattr(idmap, request, inode, stat);
	return 0;
}

/* Puts over @stat what is ours: device, number, link count, owner of @inode. */
static __always_inline void fill_ours(struct kstat *stat, struct inode *inode,
				      struct mnt_idmap *idmap)
{
	if (unlikely(inode->i_flags & (S_IMMUTABLE | S_APPEND)))
		generic_fill_statx_attr(inode, stat);
	stat->attributes_mask |= KSTAT_ATTR_VFS_FLAGS;
	stat->dev = inode->i_sb->s_dev;
	stat->ino = inode->i_ino;
	stat->nlink = inode->i_nlink;
	if (likely(idmap == &nop_mnt_idmap)) {
		stat->uid = inode->i_uid;
		stat->gid = inode->i_gid;
		return;
	}
	stat->uid = vfsuid_into_kuid(i_uid_into_vfsuid(idmap, inode));
	stat->gid = vfsgid_into_kgid(i_gid_into_vfsgid(idmap, inode));
}

/*
 * What the file system says of @path, into a @stat that vfs_getattr_nosec() has
 * prepared, and over it what is ours.  One call for all, as stat is hot.  @path
 * is no block device.
 */
int ruaufs_helper_getattr_plain(const struct path *path, struct kstat *stat,
				u32 request, unsigned int flags,
				struct inode *inode, struct mnt_idmap *idmap)
{
	int err = branch_getattr(path, stat, request, flags);

	if (likely(!err))
		fill_ours(stat, inode, idmap);
	return err;
}

/* As above, for any object. */
int ruaufs_helper_getattr(const struct path *path, struct kstat *stat,
			  u32 request, unsigned int flags, struct inode *inode,
			  struct mnt_idmap *idmap)
{
	int err;

	if (!S_ISBLK(inode->i_mode))
		return ruaufs_helper_getattr_plain(path, stat, request, flags,
						   inode, idmap);
	/* What the VFS adds for a block device is not to be had otherwise. */
	err = vfs_getattr_nosec(path, stat, request, flags);
	if (!err)
		fill_ours(stat, inode, idmap);
	return err;
}

/*
 * The device that stat(2) shows for @path.
 */
int ruaufs_helper_device(const struct path *path, dev_t *device)
{
	struct kstat stat;
	int err = vfs_getattr_nosec(path, &stat, STATX_INO,
				    AT_STATX_DONT_SYNC);

	*device = stat.dev;
	return err;
}

int ruaufs_helper_sync_attr(const struct path *path)
{
	struct kstat stat;

	return vfs_getattr_nosec(path, &stat, STATX_BASIC_STATS,
				 AT_STATX_FORCE_SYNC);
}

/*
 * Times of @from, which are marked as seen: its next change gets a time of its
 * own, however soon it comes.
 */
void ruaufs_helper_fill_mgtime(struct kstat *stat, u32 request,
			       struct inode *from)
{
	if (is_mgtime(from))
		fill_mg_cmtime(stat, request, from);
}

/* The flags that bind users; a file system without flags has none. */
int ruaufs_helper_copy_fileattr(const struct path *from,
				const struct path *to)
{
	const u32 mask = FS_APPEND_FL | FS_IMMUTABLE_FL | FS_SYNC_FL |
			 FS_NOATIME_FL;
	struct file_kattr old = { .flags_valid = true };
	struct file_kattr new = { .flags_valid = true };
	int err = vfs_fileattr_get(from->dentry, &old);

	/* What @to inherited from its directory is not its own. */
	if (err || !((old.flags & mask) ||
		     d_inode(to->dentry)->i_flags & (S_SYNC | S_NOATIME)))
		return err == -ENOIOCTLCMD || err == -ENOTTY ||
		       err == -EOPNOTSUPP ? 0 : err;
	err = vfs_fileattr_get(to->dentry, &new);
	if (err)
		return err == -ENOIOCTLCMD || err == -ENOTTY ||
		       err == -EOPNOTSUPP ? 0 : err;
	fileattr_fill_flags(&new, (new.flags & ~mask) | (old.flags & mask));
	return vfs_fileattr_set(mnt_idmap(to->mnt), to->dentry, &new);
}

/* Makes what @path leads to changeable, if its flags forbid that. */
int ruaufs_helper_unbind(const struct path *path)
{
	const u32 mask = FS_APPEND_FL | FS_IMMUTABLE_FL;
	struct file_kattr fa = { .flags_valid = true };
	int err;

	if (!IS_APPEND(d_inode(path->dentry)) &&
	    !IS_IMMUTABLE(d_inode(path->dentry)))
		return 0;
	err = vfs_fileattr_get(path->dentry, &fa);
	if (err)
		return err;
	fileattr_fill_flags(&fa, fa.flags & ~mask);
	return vfs_fileattr_set(mnt_idmap(path->mnt), path->dentry, &fa);
}

/* security_file_ioctl() takes a file: open one for the check, as ioctl does. */
static int ruaufs_check_fileattr(const struct path *path, unsigned int cmd)
{
	struct file *file = dentry_open(path, O_RDONLY | O_LARGEFILE,
					current_cred());
	int err;

	if (IS_ERR(file))
		return PTR_ERR(file);
	err = security_file_ioctl(file, cmd, 0);
	fput(file);
	return err;
}

int ruaufs_helper_fileattr_get(const struct path *path, struct file_kattr *fa)
{
	int err = ruaufs_check_fileattr(path, fa->fsx_valid ?
					FS_IOC_FSGETXATTR : FS_IOC_GETFLAGS);

	if (!err)
		err = vfs_fileattr_get(path->dentry, fa);
	return err == -ENOIOCTLCMD ? -ENOTTY : err;
}

/* Whether @fa makes a directory ignore the case of names. */
bool ruaufs_helper_sets_casefold(const struct file_kattr *fa)
{
	return fa->flags & FS_CASEFOLD_FL;
}

/* Whether @fa says what @path has already. */
bool ruaufs_helper_has_fileattr(const struct path *path,
				const struct file_kattr *fa)
{
	struct file_kattr now = {
		.flags_valid = fa->flags_valid,
		.fsx_valid = fa->fsx_valid,
	};

	if (vfs_fileattr_get(path->dentry, &now))
		return false;
	if (fa->flags_valid)
		return fa->flags == now.flags;
	return fa->fsx_xflags == now.fsx_xflags &&
	       fa->fsx_extsize == now.fsx_extsize &&
	       fa->fsx_projid == now.fsx_projid &&
	       fa->fsx_cowextsize == now.fsx_cowextsize;
}

int ruaufs_helper_fileattr_set(const struct path *path, struct file_kattr *fa)
{
	int err = ruaufs_check_fileattr(path, fa->fsx_valid ?
					FS_IOC_FSSETXATTR : FS_IOC_SETFLAGS);

	if (!err)
		err = vfs_fileattr_set(mnt_idmap(path->mnt), path->dentry, fa);
	return err == -ENOIOCTLCMD ? -ENOTTY : err;
}
