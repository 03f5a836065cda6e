// SPDX-License-Identifier: MIT
/* Uses what a lookup gave without asking whether it gave anything: the verifier says no. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16);
	__type(key, __u32);
	__type(value, __u64);
} hash SEC(".maps");

SEC("uprobe")
int unchecked_lookup(struct pt_regs *ctx)
{
	__u32 key = ARG1(ctx);
	__u64 *value = bpf_map_lookup_elem(&hash, &key);

	return *value;
}

SEC("uprobe")
int harmless(struct pt_regs *ctx)
{
	return 0;
}
