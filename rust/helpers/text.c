// SPDX-License-Identifier: GPL-2.0
/* What is shown in /proc and sysfs.  See helpers.h. */

#include <linux/random.h>
#include <linux/seq_file.h>
#include <linux/sysfs.h>

#include "../helpers.h"

/* An attribute in memory of its own: lockdep wants a key that is static. */
void ruaufs_helper_attribute_init(struct attribute *attr)
{
	sysfs_attr_init(attr);
}

u64 ruaufs_helper_random(void)
{
	return get_random_u64();
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
