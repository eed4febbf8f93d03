/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * tracefs_trace.h - the tracepoints of tracefs.c, in events/lab_tracefs/. What stands
 * here is also what user space reads in an event's format file.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM lab_tracefs

#if !defined(LAB_TRACEFS_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define LAB_TRACEFS_TRACE_H

#include <linux/tracepoint.h>

#include "compat.h"

/* Somebody wrote to /dev/lab_tracefs. */
TRACE_EVENT(lab_message,

	TP_PROTO(u64 number, u32 len, const char *text),

	TP_ARGS(number, len, text),

	TP_STRUCT__entry(
		__field(u64, number)
		__field(u32, len)
		__string(text, text)
	),

	TP_fast_assign(
		__entry->number = number;
		__entry->len = len;
		lab_assign_str(text, text);
	),

	TP_printk("number=%llu len=%u text=%s", __entry->number, __entry->len, __get_str(text))
);

/* By their numbers: user space has no other way to know what an enum's names are. */
TRACE_DEFINE_ENUM(LAB_STORE_PUT);
TRACE_DEFINE_ENUM(LAB_STORE_TAKEN);
TRACE_DEFINE_ENUM(LAB_STORE_CLEARED);

/* The store changed, by whichever door. */
TRACE_EVENT(lab_store,

	TP_PROTO(int change, unsigned int count),

	TP_ARGS(change, count),

	TP_STRUCT__entry(
		__field(int, change)
		__field(unsigned int, count)
	),

	TP_fast_assign(
		__entry->change = change;
		__entry->count = count;
	),

	TP_printk("change=%s count=%u",
		  __print_symbolic(__entry->change,
				   { LAB_STORE_PUT, "put" },
				   { LAB_STORE_TAKEN, "taken" },
				   { LAB_STORE_CLEARED, "cleared" }),
		  __entry->count)
);

#endif /* LAB_TRACEFS_TRACE_H */

/* Outside the guard: define_trace.h reads this file again, from where the module is. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE tracefs_trace
#include <trace/define_trace.h>
