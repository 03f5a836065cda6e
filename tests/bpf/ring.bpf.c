// SPDX-License-Identifier: MIT
/* Puts what the test hands over into a ring buffer. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define SCRATCH_BYTES 65536
#define SPINS (1 << 23)

enum action {
	OUTPUT = 0,
	OUTPUT_AND_WAKE = 1,
	DISCARD = 2,
};

__u64 dropped;  /* records that did not fit */
__u32 stalling; /* a record is being held back … */
__u32 released; /* … until the test sets this */

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} ring SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, char[SCRATCH_BYTES]);
} scratch SEC(".maps");

SEC("uprobe")
int on_emit(struct pt_regs *ctx)
{
	__u32 zero = 0, length = ARG2(ctx) & (SCRATCH_BYTES - 1), action = ARG3(ctx);
	char *data = bpf_map_lookup_elem(&scratch, &zero);

	if (!data)
		return 0;
	if (action == DISCARD) {
		void *record = bpf_ringbuf_reserve(&ring, 40, 0);

		if (record)
			bpf_ringbuf_discard(record, BPF_RB_NO_WAKEUP);
		return 0;
	}
	if (bpf_probe_read_user(data, length, (const void *)ARG1(ctx)))
		return 0;
	if (bpf_ringbuf_output(&ring, data, length,
			       action == OUTPUT_AND_WAKE ? BPF_RB_FORCE_WAKEUP : BPF_RB_NO_WAKEUP))
		__sync_fetch_and_add(&dropped, 1);
	return 0;
}

static long spin(__u32 index, void *context)
{
	return *(volatile __u32 *)&released ? 1 : 0;
}

SEC("uprobe")
int on_stall(struct pt_regs *ctx)
{
	__u64 after = 2, *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record)
		return 0;
	*record = 1;
	bpf_ringbuf_output(&ring, &after, sizeof(after), BPF_RB_NO_WAKEUP);
	*(volatile __u32 *)&stalling = 1;
	for (int i = 0; i < 16 && !*(volatile __u32 *)&released; i++)
		bpf_loop(SPINS, spin, NULL, 0);
	bpf_ringbuf_submit(record, BPF_RB_NO_WAKEUP);
	return 0;
}
