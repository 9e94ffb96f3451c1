// SPDX-License-Identifier: GPL-2.0
/* Tracepoints and counters.  See trace.h and helpers.h. */

#include <linux/percpu.h>

#include "../helpers.h"

static void ruaufs_clean(char *name);

#define CREATE_TRACE_POINTS
#define CREATE_RUST_TRACE_POINTS
#include "trace.h"

/* Users give names: none may look like more fields, or like lines of the trace. */
static void ruaufs_clean(char *name)
{
	for (; *name; name++)
		if ((unsigned char)*name <= ' ' || *name == 0x7f)
			*name = '?';
}

/* As a number, as a pointer to other memory than usual is nothing for bindgen. */
unsigned long ruaufs_helper_alloc_counters(unsigned int count)
{
	return (__force unsigned long)__alloc_percpu_gfp(count * sizeof(u64),
							 sizeof(u64),
							 GFP_KERNEL_ACCOUNT);
}

void ruaufs_helper_free_counters(unsigned long counters)
{
	free_percpu((__force u64 __percpu *)counters);
}

notrace void ruaufs_helper_count(unsigned long counters, unsigned int which,
				 u64 more)
{
	this_cpu_add(((__force u64 __percpu *)counters)[which], more);
}

u64 ruaufs_helper_counted(unsigned long counters, unsigned int which)
{
	u64 __percpu *one = (__force u64 __percpu *)counters + which;
	u64 sum = 0;
	int cpu;

	for_each_possible_cpu(cpu)
		sum += READ_ONCE(*per_cpu_ptr(one, cpu));
	return sum;
}
