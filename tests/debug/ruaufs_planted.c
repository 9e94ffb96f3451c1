// SPDX-License-Identifier: GPL-2.0
/*
 * Bugs, planted on purpose: scripts/debug-selftest.sh loads this module into the
 * debug kernel to see that each of them is reported.  It is part of nothing else.
 *
 *   insmod ruaufs_planted.ko bug=NAME
 */
#include <linux/delay.h>
#include <linux/list.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/slab.h>
#include <linux/spinlock.h>
#include <linux/string.h>

static char *bug = "none";
module_param(bug, charp, 0);

static DEFINE_MUTEX(first);
static DEFINE_MUTEX(second);
static DEFINE_SPINLOCK(spin);

/* The compiler must not see what is wrong. */
#define hidden(value) ({ typeof(value) v = (value); OPTIMIZER_HIDE_VAR(v); v; })

static noinline int leak(void)
{
	char *lost = kmalloc(100, GFP_KERNEL);

	if (!lost)
		return -ENOMEM;
	memset(hidden(lost), 1, 100);
	return 0;
}

static noinline int use_after_free(void)
{
	char *freed = kmalloc(100, GFP_KERNEL);

	if (!freed)
		return -ENOMEM;
	kfree(freed);
	WRITE_ONCE(*hidden(freed), 1);
	return 0;
}

static noinline int out_of_bounds(void)
{
	char *small = kmalloc(100, GFP_KERNEL);

	if (!small)
		return -ENOMEM;
	WRITE_ONCE(hidden(small)[100], 1);
	kfree(small);
	return 0;
}

static noinline int overflow(void)
{
	return (1 << hidden(40)) == 12345 ? -EINVAL : 0;
}

static noinline int inversion(void)
{
	mutex_lock(&first);
	mutex_lock(&second);
	mutex_unlock(&second);
	mutex_unlock(&first);

	mutex_lock(&second);
	mutex_lock(&first);
	mutex_unlock(&first);
	mutex_unlock(&second);
	return 0;
}

static noinline int sleep_in_atomic(void)
{
	spin_lock(&spin);
	msleep(1);
	spin_unlock(&spin);
	return 0;
}

static noinline int lost_lock(void)
{
	mutex_lock(&first);
	return 0;
}

static noinline int bad_list(void)
{
	LIST_HEAD(list);
	struct list_head entry;

	list_add(&entry, &list);
	list_add(hidden(&entry), &list);
	return 0;
}

static noinline int hang(void)
{
	mutex_lock(&first);
	schedule_timeout_uninterruptible(60 * HZ);
	mutex_unlock(&first);
	return 0;
}

static const struct {
	const char *name;
	int (*plant)(void);
} bugs[] = {
	{ "leak", leak },
	{ "use-after-free", use_after_free },
	{ "out-of-bounds", out_of_bounds },
	{ "overflow", overflow },
	{ "inversion", inversion },
	{ "sleep-in-atomic", sleep_in_atomic },
	{ "lost-lock", lost_lock },
	{ "bad-list", bad_list },
	{ "hang", hang },
};

static int __init planted_init(void)
{
	int i;

	if (!strcmp(bug, "none"))
		return 0;
	for (i = 0; i < ARRAY_SIZE(bugs); i++) {
		if (!strcmp(bug, bugs[i].name))
			return bugs[i].plant();
	}
	return -EINVAL;
}
module_init(planted_init);

static void __exit planted_exit(void)
{
}
module_exit(planted_exit);

MODULE_DESCRIPTION("Bugs for the self-test of the debug kernel");
MODULE_LICENSE("GPL");
