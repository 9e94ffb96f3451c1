// SPDX-License-Identifier: GPL-2.0
/*
 * Out-of-line forms of inline functions and macros that Rust calls.  What is
 * longer than a line only strings inline functions together; decisions are
 * taken in Rust.
 */

#include <linux/backing-file.h>
#include <linux/capability.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/dcache.h>
#include <linux/exportfs.h>
#include <linux/fiemap.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/fsnotify.h>
#include <linux/mount.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/pid.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <linux/random.h>
#include <linux/sched/signal.h>
#include <linux/security.h>
#include <linux/seqlock.h>
#include <linux/workqueue.h>

#include "helpers.h"

struct dentry *ruaufs_helper_dget(struct dentry *dentry)
{
	return dget(dentry);
}

/* The parent of @dentry if its name is @name, else NULL; under RCU. */
const struct dentry *ruaufs_helper_d_named(const struct dentry *dentry,
					   const struct qstr *name)
{
	const struct dentry *parent;
	const unsigned char *bytes;
	unsigned int seq, len;

	do {
		seq = read_seqcount_begin(&dentry->d_seq);
		parent = READ_ONCE(dentry->d_parent);
		bytes = READ_ONCE(dentry->d_name.name);
		len = READ_ONCE(dentry->d_name.len);
		if (len != name->len || memcmp(bytes, name->name, len))
			parent = NULL;
	} while (read_seqcount_retry(&dentry->d_seq, seq));
	return parent;
}

/*
 * The cached child of @parent after @prev, which the caller holds (NULL: the
 * first), with a reference.  Those that die, or are cursors of a listing, are
 * passed over.
 */
struct dentry *ruaufs_helper_next_child(struct dentry *parent,
					struct dentry *prev)
{
	struct dentry *child, *found = NULL;

	spin_lock(&parent->d_lock);
	child = prev ? d_next_sibling(prev) : d_first_child(parent);
	for (; child; child = d_next_sibling(child)) {
		if (child->d_flags & DCACHE_DENTRY_CURSOR)
			continue;
		spin_lock_nested(&child->d_lock, DENTRY_D_LOCK_NESTED);
		if (!lockref_is_dead(&child->d_lockref))
			found = dget_dlock(child);
		spin_unlock(&child->d_lock);
		if (found)
			break;
	}
	spin_unlock(&parent->d_lock);
	return found;
}

/* A hashed alias of @inode that is not @except, with a reference, or NULL. */
struct dentry *ruaufs_helper_other_name(struct inode *inode,
					struct dentry *except)
{
	struct dentry *alias, *found = NULL;

	spin_lock(&inode->i_lock);
	hlist_for_each_entry(alias, &inode->i_dentry, d_alias) {
		if (alias == except)
			continue;
		spin_lock(&alias->d_lock);
		if (!d_unhashed(alias))
			found = dget_dlock(alias);
		spin_unlock(&alias->d_lock);
		if (found)
			break;
	}
	spin_unlock(&inode->i_lock);
	return found;
}

/* Whether walks are to ask our d_revalidate() about @dentry. */
void ruaufs_helper_set_checked(struct dentry *dentry, bool checked)
{
	spin_lock(&dentry->d_lock);
	if (checked)
		dentry->d_flags |= DCACHE_OP_REVALIDATE;
	else
		dentry->d_flags &= ~DCACHE_OP_REVALIDATE;
	spin_unlock(&dentry->d_lock);
}

/* As above, for dentries that are made from now on. */
void ruaufs_helper_sb_set_checked(struct super_block *sb, bool checked)
{
	unsigned int flags = sb->s_d_flags & ~DCACHE_OP_REVALIDATE;

	WRITE_ONCE(sb->s_d_flags,
		   checked ? flags | DCACHE_OP_REVALIDATE : flags);
}

/* A lock class for each depth of stacking. */
int ruaufs_helper_srcu_init(struct srcu_struct *srcu, int depth)
{
	if (depth <= 1)
		return init_srcu_struct_fast(srcu);
	return init_srcu_struct_fast(srcu);
}

notrace unsigned long ruaufs_helper_srcu_lock(struct srcu_struct *srcu)
{
	return (__force unsigned long)srcu_read_lock_fast(srcu);
}

notrace void ruaufs_helper_srcu_unlock(struct srcu_struct *srcu,
				       unsigned long section)
{
	srcu_read_unlock_fast(srcu, (__force struct srcu_ctr __percpu *)section);
}

/*
 * The cached inode after @prev, which the caller holds (NULL: the first), with
 * a reference.
 */
struct inode *ruaufs_helper_next_inode(struct super_block *sb,
				       struct inode *prev)
{
	struct inode *inode, *found = NULL;

	spin_lock(&sb->s_inode_list_lock);
	inode = prev ? list_next_entry(prev, i_sb_list) :
		       list_first_entry(&sb->s_inodes, struct inode, i_sb_list);
	list_for_each_entry_from(inode, &sb->s_inodes, i_sb_list) {
		/* One that is made or freed just now is nobody's yet, or no more. */
		found = igrab(inode);
		if (found)
			break;
	}
	spin_unlock(&sb->s_inode_list_lock);
	return found;
}

unsigned int ruaufs_helper_icount(struct inode *inode)
{
	return icount_read_once(inode);
}

int ruaufs_helper_add_inode_mark(struct fsnotify_mark *mark,
				 struct inode *inode)
{
	return fsnotify_add_inode_mark(mark, inode, 0);
}

bool ruaufs_helper_is_mapped_writably(struct inode *inode)
{
	return mapping_writably_mapped(inode->i_mapping);
}

void ruaufs_helper_inode_lock(struct inode *inode)
{
	inode_lock(inode);
}

void ruaufs_helper_inode_unlock(struct inode *inode)
{
	inode_unlock(inode);
}

bool ruaufs_helper_inode_is_new(struct inode *inode)
{
	return inode_state_read_once(inode) & I_NEW;
}

loff_t ruaufs_helper_i_size_read(const struct inode *inode)
{
	return i_size_read(inode);
}

/*
 * Owner and times of @from, through its mount's idmap, onto our inode.
 *
 * Ours gets the mark that the VFS sets on times which were seen if the next
 * change of @from might have the same change time, or if @changed: @from was
 * changed by us, and what others may have changed before is not copied.  The
 * mark has no other use here, as our file systems are not FS_MGTIME.  So ours
 * differs from all times that @from can have, until ruaufs_helper_confirm_attr()
 * or the next copy.
 */
void ruaufs_helper_copy_attr(struct inode *to, struct inode *from,
			     struct mnt_idmap *from_idmap, bool changed)
{
	/* Before all else: what changes meanwhile moves it. */
	u32 nsec = smp_load_acquire(&from->i_ctime_nsec);
	struct timespec64 ctime = {
		.tv_sec = inode_get_ctime_sec(from),
		.tv_nsec = nsec & ~I_CTIME_QUERIED,
	};
	bool doubt = changed;

	/* Coarse times that cannot be marked are taken as they are. */
	if (!doubt && is_mgtime(from) && !(nsec & I_CTIME_QUERIED)) {
		struct timespec64 now = current_time(from);

		doubt = timespec64_compare(&now, &ctime) <= 0;
	}

	spin_lock(&to->i_lock);
	to->i_uid = vfsuid_into_kuid(i_uid_into_vfsuid(from_idmap, from));
	to->i_gid = vfsgid_into_kgid(i_gid_into_vfsgid(from_idmap, from));
	if (to->i_mode != from->i_mode)
		inode_set_flags(to, 0, S_NOSEC);
	to->i_mode = from->i_mode;
	inode_set_atime_to_ts(to, inode_get_atime(from));
	inode_set_mtime_to_ts(to, inode_get_mtime(from));
	inode_set_ctime_to_ts(to, ctime);
	if (doubt)
		WRITE_ONCE(to->i_ctime_nsec, ctime.tv_nsec | I_CTIME_QUERIED);
	/* Owners cannot be compared then. */
	to->i_private = from_idmap == &nop_mnt_idmap ? NULL : from_idmap;
	to->i_blocks = from->i_blocks;
	to->i_bytes = from->i_bytes;
	i_size_write(to, i_size_read(from));
	spin_unlock(&to->i_lock);
}

/* Sets the link count, unless that would revive an object without names. */
bool ruaufs_helper_set_nlink(struct inode *inode, unsigned int nlink,
			     bool revive)
{
	bool set;

	spin_lock(&inode->i_lock);
	set = revive || inode->i_nlink;
	if (set && inode->i_nlink != nlink)
		set_nlink(inode, nlink);
	spin_unlock(&inode->i_lock);
	return set;
}

/* Capabilities may have come: the next write looks. */
void ruaufs_helper_forget_nosec(struct inode *inode)
{
	inode_set_flags(inode, 0, S_NOSEC);
}

/*
 * Flags that forbid changes of a branch's directory, lifted in memory while the
 * union puts a name of its own making there; what is on disk keeps them.  They
 * wait in bits that the VFS does not use, so one access shows both.
 */
#define RUAUFS_FORBID (S_IMMUTABLE | S_APPEND)
#define RUAUFS_LIFT_SHIFT 28
#define RUAUFS_LIFTED ((unsigned int)RUAUFS_FORBID << RUAUFS_LIFT_SHIFT)
static_assert((RUAUFS_LIFTED >> RUAUFS_LIFT_SHIFT) == RUAUFS_FORBID);
static_assert(RUAUFS_LIFTED > S_ANON_INODE);

/* The flags of @inode, lifted or not. */
static unsigned int flags_of(const struct inode *inode)
{
	const unsigned int flags = READ_ONCE(inode->i_flags);

	return flags | (flags & RUAUFS_LIFTED) >> RUAUFS_LIFT_SHIFT;
}

bool ruaufs_helper_is_protected(const struct inode *inode)
{
	return flags_of(inode) & RUAUFS_FORBID;
}

/* @inode is locked, so nobody else changes its flags.  True: lifted. */
bool ruaufs_helper_lift_flags(struct inode *inode)
{
	const unsigned int flags = inode->i_flags & RUAUFS_FORBID;

	if (!flags)
		return false;
	inode_set_flags(inode, flags << RUAUFS_LIFT_SHIFT,
			RUAUFS_FORBID | RUAUFS_LIFTED);
	return true;
}

void ruaufs_helper_lower_flags(struct inode *inode)
{
	const unsigned int flags = inode->i_flags & RUAUFS_LIFTED;

	inode_set_flags(inode, flags >> RUAUFS_LIFT_SHIFT,
			RUAUFS_FORBID | RUAUFS_LIFTED);
}

#define RUAUFS_COPIED_FLAGS \
	(S_SYNC | S_IMMUTABLE | S_APPEND | S_NOATIME | S_CASEFOLD)

static unsigned int ruaufs_flags_to_copy(const struct inode *from)
{
	return flags_of(from) & RUAUFS_COPIED_FLAGS;
}

void ruaufs_helper_copy_flags(struct inode *to, const struct inode *from)
{
	inode_set_flags(to, ruaufs_flags_to_copy(from), RUAUFS_COPIED_FLAGS);
}

/* Whether all that was copied from @from, or is known of it, is so still. */
static bool ruaufs_same_attr(const struct inode *to, const struct inode *from)
{
	unsigned int known = READ_ONCE(to->i_flags);

	return !to->i_private && uid_eq(to->i_uid, from->i_uid) &&
	       gid_eq(to->i_gid, from->i_gid) &&
	       to->i_mode == from->i_mode && to->i_nlink == from->i_nlink &&
	       i_size_read(to) == i_size_read(from) &&
	       inode_get_mtime_sec(to) == inode_get_mtime_sec(from) &&
	       inode_get_mtime_nsec(to) == inode_get_mtime_nsec(from) &&
	       inode_get_atime_sec(to) == inode_get_atime_sec(from) &&
	       inode_get_atime_nsec(to) == inode_get_atime_nsec(from) &&
	       (known & RUAUFS_COPIED_FLAGS) == ruaufs_flags_to_copy(from) &&
	       (!(known & S_NOSEC) || READ_ONCE(from->i_flags) & S_NOSEC) &&
	       (!IS_POSIXACL(from) ||
		(!READ_ONCE(to->i_acl) && !READ_ONCE(from->i_acl) &&
		 (!S_ISDIR(to->i_mode) || !READ_ONCE(from->i_default_acl))));
}

/*
 * If the change time of @to has the mark of ruaufs_helper_copy_attr(): whether
 * nothing else has changed since.  Then the mark is taken away, and the next
 * change of @from is sure to show, as far as it can.  Does not sleep; a walk
 * under RCU may ask.
 */
bool ruaufs_helper_confirm_attr(struct inode *to, struct inode *from)
{
	struct timespec64 ctime;
	struct kstat seen;
	bool same;

	if (!(READ_ONCE(to->i_ctime_nsec) & I_CTIME_QUERIED))
		return false;
	if (is_mgtime(from)) {
		fill_mg_cmtime(&seen, STATX_CTIME, from);
		ctime = seen.ctime;
	} else {
		ctime = inode_get_ctime(from);
	}
	/* Before the comparison: what changes after it moves the time. */
	smp_mb();
	spin_lock(&to->i_lock);
	same = to->i_ctime_nsec == (ctime.tv_nsec | I_CTIME_QUERIED) &&
	       to->i_ctime_sec == ctime.tv_sec && ruaufs_same_attr(to, from);
	if (same)
		WRITE_ONCE(to->i_ctime_nsec, ctime.tv_nsec);
	spin_unlock(&to->i_lock);
	return same;
}

bool ruaufs_helper_is_posixacl(const struct inode *inode)
{
	return IS_POSIXACL(inode);
}

/*
 * Takes over from @from that it has no ACL.  Where nothing says whether there is
 * one, each component of a walk is a call more.  As __get_acl() does it: what
 * others do to the cache of @inode meanwhile goes before.
 */
void ruaufs_helper_copy_no_acl(struct inode *inode, const struct inode *from)
{
	struct posix_acl *sentinel = uncached_acl_sentinel(current);

	if (IS_POSIXACL(from) && READ_ONCE(from->i_acl))
		return;
	if (cmpxchg(&inode->i_acl, ACL_NOT_CACHED, sentinel) != ACL_NOT_CACHED)
		return;
	if (IS_POSIXACL(from) && READ_ONCE(from->i_acl))
		cmpxchg(&inode->i_acl, sentinel, ACL_NOT_CACHED);
	else
		cmpxchg(&inode->i_acl, sentinel, NULL);
}

void ruaufs_helper_cache_no_acl(struct inode *inode)
{
	cache_no_acl(inode);
}

/*
 * A union may lie on another union: the same lock classes would nest.  One
 * class per stacking depth keeps lockdep's view true.
 */
void ruaufs_helper_inode_lockdep(struct inode *inode)
{
#ifdef CONFIG_LOCKDEP
	static struct lock_class_key dir_key[FILESYSTEM_MAX_STACK_DEPTH + 1];
	static struct lock_class_key other_key[FILESYSTEM_MAX_STACK_DEPTH + 1];
	int depth = clamp(inode->i_sb->s_stack_depth, 0,
			  FILESYSTEM_MAX_STACK_DEPTH);

	if (S_ISDIR(inode->i_mode))
		lockdep_set_class(&inode->i_rwsem, &dir_key[depth]);
	else
		lockdep_set_class(&inode->i_rwsem, &other_key[depth]);
#endif
}

void *ruaufs_helper_alloc_inode_sb(struct super_block *sb,
				   struct kmem_cache *cache, gfp_t gfp)
{
	return alloc_inode_sb(sb, cache, gfp);
}

struct kmem_cache *ruaufs_helper_kmem_cache_create(const char *name,
						   unsigned int size,
						   unsigned int align,
						   slab_flags_t flags,
						   void (*ctor)(void *))
{
	return kmem_cache_create(name, size, align, flags, ctor);
}

struct mnt_idmap *ruaufs_helper_mnt_idmap(const struct vfsmount *mnt)
{
	return mnt_idmap(mnt);
}

bool ruaufs_helper_is_idmapped(const struct vfsmount *mnt)
{
	return is_idmapped_mnt(mnt);
}

bool ruaufs_helper_sb_rdonly(const struct super_block *sb)
{
	return sb_rdonly(sb);
}

const struct cred *ruaufs_helper_override_creds(const struct cred *cred)
{
	return override_creds(cred);
}

void ruaufs_helper_revert_creds(const struct cred *cred)
{
	revert_creds(cred);
}

/* Quotas of the branch count for the mounter's work, too. */
struct cred *ruaufs_helper_cred_for_mounter(void)
{
	struct cred *cred = prepare_creds();

	if (cred)
		cap_lower(cred->cap_effective, CAP_SYS_RESOURCE);
	return cred;
}

/* Called with the mounter's credentials in force. */
struct cred *ruaufs_helper_cred_for_creator(const struct cred *caller,
					    struct mnt_idmap *idmap,
					    struct inode *dir)
{
	struct user_namespace *fs_userns = i_user_ns(dir);
	struct cred *cred = prepare_creds();
	vfsuid_t uid = VFSUIDT_INIT(caller->fsuid);
	vfsgid_t gid = VFSGIDT_INIT(caller->fsgid);

	if (cred) {
		cred->fsuid = from_vfsuid(idmap, fs_userns, uid);
		cred->fsgid = from_vfsgid(idmap, fs_userns, gid);
	}
	return cred;
}

struct cred *ruaufs_helper_cred_outside_groups(void)
{
	struct group_info *none = groups_alloc(0);
	struct cred *cred;

	if (!none)
		return NULL;
	cred = prepare_creds();
	if (cred) {
		set_groups(cred, none);
		cred->fsgid = INVALID_GID;
		cap_lower(cred->cap_effective, CAP_FSETID);
	}
	put_group_info(none);
	return cred;
}

void ruaufs_helper_put_cred(const struct cred *cred)
{
	put_cred(cred);
}

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

long ruaufs_helper_get_write_access(struct inode *inode)
{
	return get_write_access(inode);
}

/* deny_write_access() and allow_write_access() want a file. */
int ruaufs_helper_deny_write_access(struct inode *inode)
{
	return atomic_dec_unless_positive(&inode->i_writecount) ? 0 : -ETXTBSY;
}

void ruaufs_helper_allow_write_access(struct inode *inode)
{
	atomic_inc(&inode->i_writecount);
}

void ruaufs_helper_put_write_access(struct inode *inode)
{
	put_write_access(inode);
}

int ruaufs_helper_iterate(struct file *file, struct dir_context *ctx)
{
	return iterate_dir(file, ctx);
}

int ruaufs_helper_real_flush(struct file *file, fl_owner_t id)
{
	return file->f_op->flush ? file->f_op->flush(file, id) : 0;
}

bool ruaufs_helper_fatal_signal_pending(void)
{
	return fatal_signal_pending(current);
}

bool ruaufs_helper_over_fsize_limit(loff_t size)
{
	return size > rlimit(RLIMIT_FSIZE);
}

struct ruaufs_call {
	struct work_struct work;
	void (*fn)(void *arg);
	void *arg;
};

static void ruaufs_call(struct work_struct *work)
{
	struct ruaufs_call *call = container_of(work, struct ruaufs_call, work);

	call->fn(call->arg);
}

/* Runs @fn in a kernel thread, which has no limits, and waits for it. */
void ruaufs_helper_call_on_worker(void (*fn)(void *), void *arg)
{
	struct ruaufs_call call = { .fn = fn, .arg = arg };

	INIT_WORK_ONSTACK(&call.work, ruaufs_call);
	queue_work(system_dfl_wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
}

/* aufs's name for its kernel threads. */
struct workqueue_struct *ruaufs_helper_alloc_workqueue(void)
{
	return alloc_workqueue("aufsd", WQ_UNBOUND, 1);
}

void ruaufs_helper_flush_workqueue(struct workqueue_struct *queue)
{
	flush_workqueue(queue);
}

/*
 * Times are kept by the branch.  A function of C, as the type of an enum
 * argument is part of a function's kCFI identity.
 */
int ruaufs_helper_update_time(struct inode *inode, enum fs_update_time type,
			      unsigned int flags)
{
	return 0;
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

struct posix_acl *ruaufs_helper_real_acl(const struct path *path, int type)
{
	if (!IS_POSIXACL(d_inode(path->dentry)))
		return NULL;
	return get_inode_acl(d_inode(path->dentry), type);
}

bool ruaufs_helper_same_acl(const struct posix_acl *a, const struct posix_acl *b)
{
	unsigned int i;

	if (a->a_count != b->a_count)
		return false;
	for (i = 0; i < a->a_count; i++) {
		const struct posix_acl_entry *x = &a->a_entries[i];
		const struct posix_acl_entry *y = &b->a_entries[i];

		if (x->e_tag != y->e_tag || x->e_perm != y->e_perm ||
		    (x->e_tag == ACL_USER && !uid_eq(x->e_uid, y->e_uid)) ||
		    (x->e_tag == ACL_GROUP && !gid_eq(x->e_gid, y->e_gid)))
			return false;
	}
	return true;
}

void ruaufs_helper_posix_acl_release(struct posix_acl *acl)
{
	posix_acl_release(acl);
}

const char *ruaufs_helper_acl_name(int type)
{
	return posix_acl_xattr_name(type);
}

bool ruaufs_helper_sgid_must_go(struct mnt_idmap *idmap, struct inode *inode)
{
	return (inode->i_mode & S_ISGID) &&
	       !in_group_or_capable(idmap, inode,
				    i_gid_into_vfsgid(idmap, inode));
}

int ruaufs_helper_cap_for_trusted(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
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

/* Whether @inode is a directory that was removed. */
bool ruaufs_helper_is_dead_dir(const struct inode *inode)
{
	return IS_DEADDIR(inode);
}

/*
 * Whether the last change is so long ago that the next one has another time,
 * however coarse the times are: FAT's are two seconds.
 */
bool ruaufs_helper_is_settled(const struct inode *inode)
{
	struct timespec64 now;

	ktime_get_coarse_real_ts64(&now);
	return inode_get_ctime_sec(inode) + 2 < now.tv_sec;
}

/*
 * Sees to it that the next change shows in the times of @inode.  False if that
 * cannot be promised: with coarse times two changes may look like one.
 */
bool ruaufs_helper_watch(struct inode *inode)
{
	struct kstat stat;

	if (!is_mgtime(inode))
		return ruaufs_helper_is_settled(inode);
	fill_mg_cmtime(&stat, STATX_CTIME, inode);
	return true;
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

	if (err || !(old.flags & mask))
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

int ruaufs_helper_fileattr_set(const struct path *path, struct file_kattr *fa)
{
	int err = ruaufs_check_fileattr(path, fa->fsx_valid ?
					FS_IOC_FSSETXATTR : FS_IOC_SETFLAGS);

	if (!err)
		err = vfs_fileattr_set(mnt_idmap(path->mnt), path->dentry, fa);
	return err == -ENOIOCTLCMD ? -ENOTTY : err;
}

/* An attribute in memory of its own: lockdep wants a key that is static. */
void ruaufs_helper_attribute_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}

struct pid *ruaufs_helper_current_process(void)
{
	return get_pid(task_tgid(current));
}

/* The current task is of @process, or of a descendant of it. */
bool ruaufs_helper_current_is_below(struct pid *process)
{
	struct task_struct *task;
	bool found = false;

	rcu_read_lock();
	for (task = current; task->pid && !found;
	     task = rcu_dereference(task->real_parent))
		found = task_tgid(task) == process;
	rcu_read_unlock();
	return found;
}

/* An argument of a 32-bit program, as a pointer of this machine. */
unsigned long ruaufs_helper_compat_ptr(unsigned long arg)
{
#ifdef CONFIG_COMPAT
	return (unsigned long)compat_ptr(arg);
#else
	return arg;
#endif
}

/* Brings attributes to disk, as nfsd does for a file system of its own. */
int ruaufs_helper_commit_metadata(struct inode *inode)
{
	const struct export_operations *ops = inode->i_sb->s_export_op;

	if (ops && ops->commit_metadata)
		return ops->commit_metadata(inode);
	return sync_inode_metadata(inode, 1);
}

u64 ruaufs_helper_random(void)
{
	return get_random_u64();
}

void ruaufs_helper_fc_error(struct fs_context *fc, const char *text)
{
	if (fc->log.log)
		errorf(fc, "%s", text);
}

void ruaufs_helper_seq_bytes(struct seq_file *m, const char *data, size_t len)
{
	seq_write(m, data, len);
}

void ruaufs_helper_seq_escaped(struct seq_file *m, const char *data,
			       size_t len, const char *esc)
{
	seq_escape_mem(m, data, len, ESCAPE_OCTAL, esc);
}
