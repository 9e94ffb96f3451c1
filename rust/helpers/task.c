// SPDX-License-Identifier: GPL-2.0
/* Credentials, limits, signals and threads.  See helpers.h. */

#include <linux/capability.h>
#include <linux/cgroup.h>
#include <linux/compat.h>
#include <linux/cred.h>
#include <linux/kthread.h>
#include <linux/memcontrol.h>
#include <linux/module.h>
#include <linux/mount.h>
#include <linux/pid.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/workqueue.h>

#include "../helpers.h"

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
	/* Of whom it is done for: memory, and input and output. */
	struct mem_cgroup *memcg;
	struct cgroup_subsys_state *blkcg;
};

static void ruaufs_call(struct work_struct *work)
{
	struct ruaufs_call *call = container_of(work, struct ruaufs_call, work);
	struct mem_cgroup *memcg = set_active_memcg(call->memcg);

	if (call->blkcg)
		kthread_associate_blkcg(call->blkcg);
	call->fn(call->arg);
	if (call->blkcg)
		kthread_associate_blkcg(NULL);
	set_active_memcg(memcg);
}

/*
 * Runs @fn in a kernel thread, which has no resource limits, and waits for it.
 * Memory and I/O are charged to the cgroups of the current task.
 */
void ruaufs_helper_call_on_worker(void (*fn)(void *), void *arg)
{
	struct ruaufs_call call = {
		.fn = fn,
		.arg = arg,
		.memcg = get_mem_cgroup_from_mm(NULL),
	};

#ifdef CONFIG_BLK_CGROUP
	call.blkcg = task_get_css(current, io_cgrp_id);
#endif
	INIT_WORK_ONSTACK(&call.work, ruaufs_call);
	queue_work(system_dfl_wq, &call.work);
	flush_work(&call.work);
	destroy_work_on_stack(&call.work);
	if (call.blkcg)
		css_put(call.blkcg);
	mem_cgroup_put(call.memcg);
}

/* aufs's name for its kernel threads. */
struct workqueue_struct *ruaufs_helper_alloc_workqueue(int at_a_time)
{
	return alloc_workqueue("aufsd", WQ_UNBOUND, at_a_time);
}

void ruaufs_helper_keep_module(void)
{
	__module_get(THIS_MODULE);
}

void ruaufs_helper_let_module_go(void)
{
	module_put(THIS_MODULE);
}

void ruaufs_helper_flush_workqueue(struct workqueue_struct *queue)
{
	flush_workqueue(queue);
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

/* The name of the current task, with a zero at the end, in @size bytes. */
void ruaufs_helper_current_name(char *name, size_t size)
{
	strscpy_pad(name, current->comm, size);
}

unsigned long ruaufs_helper_current_pid(void)
{
	return current->pid;
}

/*
 * The name of the task @pid, to @comm, and its number as the current task knows
 * it: 0 if it does not see it, or if it has ended.
 */
int ruaufs_helper_process_name(int pid, char *comm)
{
	struct task_struct *task;
	int number = 0;

	rcu_read_lock();
	task = pid_task(find_pid_ns(pid, &init_pid_ns), PIDTYPE_PID);
	if (task)
		number = task_pid_vnr(task);
	if (number)
		strscpy_pad(comm, task->comm, TASK_COMM_LEN);
	rcu_read_unlock();
	return number;
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
