// SPDX-License-Identifier: MIT
/* Maps of each kind, and globals of each section, for the test to read and write. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define PERCPU_HASH 5 /* enum bpf_map_type; kernel.h has those that the tracer needs */

const volatile __u32 factor = 1;
const volatile char label[8] = "before";
__s32 balance = -7;
__u64 calls;

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} recent SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4);
	__type(key, __u32);
	__type(value, char[5]);
} array SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u32);
} by_cpu SEC(".maps");

struct {
	__uint(type, PERCPU_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} hash_by_cpu SEC(".maps");

SEC("uprobe")
int on_add(struct pt_regs *ctx)
{
	__u32 key = ARG1(ctx), zero = 0, *count = bpf_map_lookup_elem(&by_cpu, &zero);
	__u64 value = ARG2(ctx) * factor;

	__sync_fetch_and_add(&calls, 1);
	if (count)
		__sync_fetch_and_add(count, 1);
	bpf_map_update_elem(&hash, &key, &value, BPF_ANY);
	bpf_map_update_elem(&hash_by_cpu, &key, &value, BPF_ANY);
	return 0;
}
