/* SPDX-License-Identifier: MIT */
#ifndef LAT_STACK_H
#define LAT_STACK_H

#include "kernel.h"

/*
 * Since Linux 6.13 the JIT may give a program of this type one stack for each CPU ("private stack"). But
 * uprobe programs can be preempted, and then two threads on one CPU would write over each other's
 * variables: records with another thread's content were seen. A program with a tail call keeps the
 * ordinary stack, and the verifier counts it as one even where it can never be reached.
 */
const volatile __u32 never = 0;

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} no_programs SEC(".maps");

static __always_inline void keep_own_stack(void *ctx)
{
	if (never)
		bpf_tail_call(ctx, &no_programs, 0);
}

#endif
