/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The tracepoints, which trace.c makes.  All are of one class, and so have the same
 * fields: a class is nearly all of the code, and what filters one event filters all.
 * A field that an event does not print is 0.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM ruaufs

#if !defined(RUAUFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define RUAUFS_TRACE_H

#include <linux/kdev_t.h>
#include <linux/stat.h>
#include <linux/tracepoint.h>

#include "../helpers.h"

#define ruaufs_kind(mode)						\
	__print_symbolic(mode, { S_IFREG, "file" }, { S_IFDIR, "dir" },	\
			 { S_IFLNK, "symlink" })

DECLARE_EVENT_CLASS(ruaufs_event,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event),
	TP_STRUCT__entry(
		__field(u64, si)
		__field(u64, dir)
		__field(u64, ino)
		__field(u64, to_dir)
		__field(u64, bytes)
		__field(u64, ns)
		__field(dev_t, dev)
		__field(u32, kind)
		__field(u32, from)
		__field(u32, to)
		__field(u32, flags)
		__field(int, error)
		__string_len(name, event->name, event->name_len)
	),
	TP_fast_assign(
		__entry->si = event->si;
		__entry->dir = event->dir;
		__entry->ino = event->ino;
		__entry->to_dir = event->to_dir;
		__entry->bytes = event->bytes;
		__entry->ns = event->ns;
		__entry->dev = event->dev;
		__entry->kind = event->kind;
		__entry->from = event->from;
		__entry->to = event->to;
		__entry->flags = event->flags;
		__entry->error = event->error;
		__assign_str(name);
		ruaufs_clean(__get_str(name));
	),
	TP_printk("si=%llx dev=%u:%u ino=%llu kind=%s from=%u to=%u bytes=%llu ns=%llu error=%d dir=%llu name=%s",
		  __entry->si, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, ruaufs_kind(__entry->kind), __entry->from,
		  __entry->to, __entry->bytes, __entry->ns, __entry->error,
		  __entry->dir, __get_str(name))
);

DEFINE_EVENT(ruaufs_event, copy_up,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event)
);

DEFINE_EVENT(ruaufs_event, move_down,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event)
);

DEFINE_EVENT_PRINT(ruaufs_event, whiteout,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event),
	TP_printk("si=%llx %s branch=%u dev=%u:%u dir=%llu error=%d name=%s",
		  __entry->si,
		  __print_symbolic(__entry->flags,
				   { RUAUFS_MARK_MAKE, "make" },
				   { RUAUFS_MARK_REMOVE, "remove" },
				   { RUAUFS_MARK_OPAQUE, "opaque" }),
		  __entry->to, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->dir, __entry->error, __get_str(name))
);

DEFINE_EVENT_PRINT(ruaufs_event, rename,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event),
	TP_printk("si=%llx dev=%u:%u ino=%llu kind=%s flags=%x ns=%llu error=%d dir=%llu to_dir=%llu name=%s",
		  __entry->si, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, ruaufs_kind(__entry->kind), __entry->flags,
		  __entry->ns, __entry->error, __entry->dir,
		  __entry->to_dir, __get_str(name))
);

DEFINE_EVENT_PRINT(ruaufs_event, remount,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event),
	TP_printk("si=%llx dev=%u:%u branches=%u->%u ns=%llu error=%d",
		  __entry->si, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->from, __entry->to, __entry->ns, __entry->error)
);

DEFINE_EVENT_PRINT(ruaufs_event, stale,
	TP_PROTO(const struct ruaufs_event *event),
	TP_ARGS(event),
	TP_printk("si=%llx dev=%u:%u ino=%llu kind=%s dir=%llu name=%s",
		  __entry->si, MAJOR(__entry->dev), MINOR(__entry->dev),
		  __entry->ino, ruaufs_kind(__entry->kind), __entry->dir,
		  __get_str(name))
);

#endif /* RUAUFS_TRACE_H */

#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
