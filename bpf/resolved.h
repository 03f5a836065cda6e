/* SPDX-License-Identifier: MIT */
/* Which call the paths belong to that resolve.bpf.c sent while it ran. */
#ifndef LAT_RESOLVED_H
#define LAT_RESOLVED_H

#include "syscalls.h"

/* Thread -> time of its paths_record. A thread that dies in its call leaves an entry: hence LRU. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 8192);
	__type(key, __u64);
	__type(value, __u64);
} resolved SEC(".maps");

/* The time of the current call's record, 0 if there is none; forgets it. */
static __always_inline __u64 take_resolved(void)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 *found = bpf_map_lookup_elem(&resolved, &pid_tgid);

	if (!found)
		return 0;
	__u64 time_ns = *found;

	bpf_map_delete_elem(&resolved, &pid_tgid);
	return time_ns;
}

#endif
