/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Out-of-line forms of inline functions and macros that Rust calls: prototypes of
 * what is in helpers/, which bindgen reads, so Rust's view cannot drift.  What is
 * longer than a line only strings inline functions together; decisions are taken
 * in Rust, but for those of confirm_attr, lift_flags and current_is_below.
 */
#ifndef RUAUFS_HELPERS_H
#define RUAUFS_HELPERS_H

#include <linux/fs.h>
#include <linux/fs_context.h>
#include <linux/fsnotify_backend.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/sysfs.h>

/* dentries */
struct dentry *ruaufs_helper_dget(struct dentry *dentry);
unsigned int ruaufs_helper_d_count(const struct dentry *dentry);
const struct dentry *ruaufs_helper_d_named(const struct dentry *dentry,
					   const struct qstr *name);

unsigned long ruaufs_helper_children(struct dentry *parent,
				     struct dentry **children,
				     unsigned long room, bool *guarded);
bool ruaufs_helper_is_dying(const struct dentry *dentry);
struct dentry *ruaufs_helper_other_name(struct inode *inode,
					struct dentry *except);
void ruaufs_helper_set_checked(struct dentry *dentry, bool checked);
bool ruaufs_helper_folds_case(const struct dentry *dentry);
bool ruaufs_helper_is_locked(const struct inode *inode);
void ruaufs_helper_sb_set_checked(struct super_block *sb, bool checked);
bool ruaufs_helper_sb_has_real(const struct super_block *sb);
void ruaufs_helper_sb_clear_real(struct super_block *sb);
bool ruaufs_helper_is_named_in_use(struct inode *inode);
struct dentry *ruaufs_helper_d_real(struct dentry *dentry,
				    enum d_real_type type);
void ruaufs_helper_clear_real(struct dentry *dentry);
/* Of the files of a directory, some may have a d_real(). */
#define RUAUFS_REALS_SOME 0
void ruaufs_helper_settle_real(struct dentry *dentry, u32 *reals);
bool ruaufs_helper_hide_reals(struct dentry *dir);
bool ruaufs_helper_is_below_overlay(const struct dentry *dentry);

/* readers of a super block's shape */
int ruaufs_helper_srcu_init(struct srcu_struct *srcu, int depth);
unsigned long ruaufs_helper_srcu_lock(struct srcu_struct *srcu);
void ruaufs_helper_srcu_unlock(struct srcu_struct *srcu, unsigned long section);

/* Where a reader can be seen by who waits for it; free if @who is 0. */
struct ruaufs_seat {
	unsigned long who;
	unsigned long section;
	unsigned long kept;
	unsigned long spare;
};

#define RUAUFS_ROW 4 /* seats of one CPU, two cache lines */
#define RUAUFS_PID_BITS 24

struct ruaufs_seat *ruaufs_helper_take_seat(struct ruaufs_seat *seats,
					    unsigned long rows,
					    unsigned long doing);
unsigned long ruaufs_helper_cpus(void);
unsigned long ruaufs_helper_current_pid(void);
int ruaufs_helper_process_name(int pid, char *comm);

/* inodes */
struct inode *ruaufs_helper_next_inode(struct super_block *sb,
				       struct inode *prev);
unsigned int ruaufs_helper_icount(struct inode *inode);
bool ruaufs_helper_set_in_use(struct inode *inode);
void ruaufs_helper_clear_in_use(struct inode *inode);
bool ruaufs_helper_is_mapped_writably(struct inode *inode);
int ruaufs_helper_add_inode_mark(struct fsnotify_mark *mark,
				 struct inode *inode);
void ruaufs_helper_inode_lock(struct inode *inode);
int ruaufs_helper_inode_lock_killable(struct inode *inode);
void ruaufs_helper_assert_locked(struct inode *inode);
void ruaufs_helper_inode_unlock(struct inode *inode);
bool ruaufs_helper_inode_is_new(struct inode *inode);
loff_t ruaufs_helper_i_size_read(const struct inode *inode);
void ruaufs_helper_copy_attr(struct inode *to, struct inode *from,
			     struct mnt_idmap *from_idmap, bool changed);
bool ruaufs_helper_confirm_attr(struct inode *to, struct inode *from);
bool ruaufs_helper_set_nlink(struct inode *inode, unsigned int nlink,
			     bool revive);
void ruaufs_helper_forget_nosec(struct inode *inode);
bool ruaufs_helper_is_protected(const struct inode *inode);
bool ruaufs_helper_lift_flags(struct inode *inode);
void ruaufs_helper_lower_flags(struct inode *inode);
void ruaufs_helper_copy_flags(struct inode *to, const struct inode *from);
bool ruaufs_helper_is_dead_dir(const struct inode *inode);
bool ruaufs_helper_is_settled(const struct inode *inode);
bool ruaufs_helper_watch(struct inode *inode);
void ruaufs_helper_now(struct inode *inode, s64 *seconds, u32 *nanoseconds);
bool ruaufs_helper_is_posixacl(const struct inode *inode);
void ruaufs_helper_copy_no_acl(struct inode *inode, const struct inode *from);
void ruaufs_helper_cache_no_acl(struct inode *inode);
void ruaufs_helper_inode_lockdep(struct inode *inode);
void *ruaufs_helper_alloc_inode_sb(struct super_block *sb,
				   struct kmem_cache *cache, gfp_t gfp);
struct kmem_cache *ruaufs_helper_kmem_cache_create(const char *name,
						   unsigned int size,
						   unsigned int align,
						   slab_flags_t flags,
						   void (*ctor)(void *));

/* mounts and credentials */
struct mnt_idmap *ruaufs_helper_mnt_idmap(const struct vfsmount *mnt);
bool ruaufs_helper_is_idmapped(const struct vfsmount *mnt);
bool ruaufs_helper_sb_start_write_trylock(struct super_block *sb);
int ruaufs_helper_dir_of_descriptor(unsigned int fd, struct path *path);
const struct cred *ruaufs_helper_override_creds(const struct cred *cred);
void ruaufs_helper_revert_creds(const struct cred *cred);
struct cred *ruaufs_helper_cred_for_mounter(void);
struct cred *ruaufs_helper_cred_for_creator(const struct cred *mounter,
					    struct mnt_idmap *idmap,
					    struct inode *dir);
struct cred *ruaufs_helper_cred_outside_groups(void);
void ruaufs_helper_put_cred(const struct cred *cred);

/* files */
int ruaufs_helper_change_flags(struct file *file, unsigned int flags);
void ruaufs_helper_init_sync_kiocb(struct kiocb *iocb, struct file *file);
size_t ruaufs_helper_iov_iter_count(const struct iov_iter *iter);
ssize_t ruaufs_helper_read(struct file *real, struct kiocb *iocb,
			   struct iov_iter *to, const struct cred *cred);
ssize_t ruaufs_helper_write(struct file *real, struct kiocb *iocb,
			    struct iov_iter *from, const struct cred *cred);
int ruaufs_helper_wait_for_zero(u32 *count);
int ruaufs_helper_wait_for_turn(u32 *turn, u32 seen);
void ruaufs_helper_next_turn(u32 *turn);
void ruaufs_helper_count_down(u32 *count);
bool ruaufs_helper_vma_may_store(const struct vm_area_struct *vma);
bool ruaufs_helper_vma_stores(const struct vm_area_struct *vma);
void ruaufs_helper_vma_never_stores(struct vm_area_struct *vma);
bool ruaufs_helper_mmap_stores(unsigned long addr, unsigned long len);
int ruaufs_helper_map_writable(struct inode *inode);
void ruaufs_helper_unmap_writable(struct inode *inode);
int ruaufs_helper_call_at_end(struct file *file, void (*fn)(struct file *));
int ruaufs_helper_wait_for_pipe(struct pipe_inode_info *pipe);
void ruaufs_helper_put_file(struct file *file);
int ruaufs_helper_call_before_user(struct file *file,
				   int (*fn)(struct file *file));
long ruaufs_helper_get_write_access(struct inode *inode);
int ruaufs_helper_deny_write_access(struct inode *inode);
void ruaufs_helper_allow_write_access(struct inode *inode);
void ruaufs_helper_put_write_access(struct inode *inode);
int ruaufs_helper_iterate(struct file *file, struct dir_context *ctx);
int ruaufs_helper_real_flush(struct file *file, fl_owner_t id);
bool ruaufs_helper_fatal_signal_pending(void);
bool ruaufs_helper_over_fsize_limit(loff_t size);
void ruaufs_helper_call_on_worker(void (*fn)(void *), void *arg);
struct workqueue_struct *ruaufs_helper_alloc_workqueue(int at_a_time);
void ruaufs_helper_keep_module(void);
void ruaufs_helper_let_module_go(void);
void ruaufs_helper_flush_workqueue(struct workqueue_struct *queue);
int ruaufs_helper_fiemap(struct inode *inode, struct fiemap_extent_info *info,
			 u64 start, u64 len);

struct pid *ruaufs_helper_current_process(void);
bool ruaufs_helper_current_is_below(struct pid *process);
void ruaufs_helper_current_name(char *name, size_t size);
unsigned long ruaufs_helper_compat_ptr(unsigned long arg);

int ruaufs_helper_update_time(struct inode *inode, enum fs_update_time type,
			      unsigned int flags);

/* directory listings */
bool ruaufs_helper_dir_emit_dots(struct file *file, struct dir_context *ctx);

/* attributes */
void ruaufs_helper_rebase_owner(struct mnt_idmap *idmap, struct inode *inode,
				struct iattr *attr);
bool ruaufs_helper_changes_attr(struct mnt_idmap *idmap, struct inode *inode,
				struct inode *from, const struct iattr *attr);
void ruaufs_helper_set_times(struct iattr *attr, const struct inode *from);
void ruaufs_helper_set_owner(struct iattr *attr, const struct inode *from,
			     struct mnt_idmap *idmap);
int ruaufs_helper_getattr(const struct path *path, struct kstat *stat,
			  u32 request, unsigned int flags, struct inode *inode,
			  struct mnt_idmap *idmap);
int ruaufs_helper_getattr_plain(const struct path *path, struct kstat *stat,
				u32 request, unsigned int flags,
				struct inode *inode, struct mnt_idmap *idmap);
int ruaufs_helper_device(const struct path *path, dev_t *device);
int ruaufs_helper_sync_attr(const struct path *path);
struct posix_acl *ruaufs_helper_real_acl(const struct path *path, int type);
bool ruaufs_helper_acl_entry(const struct posix_acl *acl, unsigned int i,
			     unsigned short *tag, unsigned short *perm);
bool ruaufs_helper_same_acl(const struct posix_acl *a,
			    const struct posix_acl *b);
void ruaufs_helper_posix_acl_release(struct posix_acl *acl);
const char *ruaufs_helper_acl_name(int type);
bool ruaufs_helper_sgid_must_go(struct mnt_idmap *idmap, struct inode *inode);
int ruaufs_helper_cap_for_trusted(void);
void ruaufs_helper_fill_mgtime(struct kstat *stat, u32 request,
			       struct inode *from);
int ruaufs_helper_unbind(const struct path *path);
int ruaufs_helper_copy_fileattr(const struct path *from,
				const struct path *to);
int ruaufs_helper_fileattr_get(const struct path *path,
			       struct file_kattr *fa);
bool ruaufs_helper_sets_casefold(const struct file_kattr *fa);
bool ruaufs_helper_has_fileattr(const struct path *path,
				const struct file_kattr *fa);
int ruaufs_helper_fileattr_set(const struct path *path,
			       struct file_kattr *fa);

/* what the module was loaded with */
bool ruaufs_helper_aufs_alias(void);
bool ruaufs_helper_brs(void);

/* sysfs */
void ruaufs_helper_attribute_init(struct attribute *attr);

/* what can be reached */
bool ruaufs_helper_shows_all(const struct file *file);
int ruaufs_helper_forbidden(const struct vfsmount *mnt);
int ruaufs_helper_names(struct inode *inode, struct dentry **names, int room);

/* tracepoints, see helpers/trace.h */
/* What is done with a mark. */
enum ruaufs_mark {
	RUAUFS_MARK_MAKE,
	RUAUFS_MARK_REMOVE,
	RUAUFS_MARK_OPAQUE,
};

struct ruaufs_event {
	u64 si;
	u64 dir;
	u64 ino;
	u64 to_dir;
	u64 bytes;
	u64 ns;
	const char *name;
	size_t name_len;
	u32 dev;
	u32 kind;
	u32 from;
	u32 to;
	u32 flags;
	int error;
};

/* counters, a set for each CPU */
unsigned long ruaufs_helper_alloc_counters(unsigned int count);
void ruaufs_helper_free_counters(unsigned long counters);
void ruaufs_helper_count(unsigned long counters, unsigned int which, u64 more);
u64 ruaufs_helper_counted(unsigned long counters, unsigned int which);

/* file handles */
int ruaufs_helper_commit_metadata(struct inode *inode);

/* output */
u64 ruaufs_helper_random(void);
void ruaufs_helper_fc_log(struct fs_context *fc, char level, const char *text);
bool ruaufs_helper_may_log(bool mount);
void ruaufs_helper_seq_bytes(struct seq_file *m, const char *data, size_t len);
void ruaufs_helper_seq_escaped(struct seq_file *m, const char *data,
			       size_t len, const char *esc);

#endif /* RUAUFS_HELPERS_H */
