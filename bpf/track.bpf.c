// SPDX-License-Identifier: MIT
/*
 * Keeps the map of processes true: who is matched (by lineage), who has to be announced again.
 * Everything else asks this map, see tracking.h.
 */
#include "tracking.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

__u64 seeded; /* processes that the last run of the iterator marked */

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 4096);
	__type(key, __u32);
	__type(value, __u8); /* enum matched */
} filter_pids SEC(".maps");

static __always_inline void mark(__u32 tgid, __u64 start_ns, enum matched matched)
{
	struct process_state state = { .start_ns = start_ns, .matched = matched };

	debug("process %u matches", tgid);
	struct ring_control *control;

	if (bpf_map_update_elem(&processes, &tgid, &state, BPF_ANY) == 0)
		return;
	control = get_ring_control();
	if (control)
		count_loss(control, LOSS_MAP_FULL, 0);
}

static __always_inline bool is_known(__u32 tgid, __u64 start_ns)
{
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);

	return state && state->start_ns == start_ns && state->matched;
}

static __always_inline bool lineage_matches(struct task_struct *leader)
{
	__u32 tgid = BPF_CORE_READ(leader, tgid);

	if (is_marked(tgid, BPF_CORE_READ(leader, start_boottime)))
		return true;
	return ((filter_flags & FILTER_COMMS) && comm_matches(leader)) || current_in_cgroup();
}

SEC("tp_btf/sched_process_fork")
int on_fork(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];
	struct task_struct *child = (struct task_struct *)ctx[1];
	__u32 tgid = BPF_CORE_READ(child, tgid);

	if (BPF_CORE_READ(child, pid) != tgid || !(filter_flags & FILTER_DESCENDANTS))
		return 0;
	if (lineage_matches(BPF_CORE_READ(parent, group_leader)))
		mark(tgid, BPF_CORE_READ(child, start_boottime), MATCHED);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int on_exec(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u64 start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	struct process_state *state = bpf_map_lookup_elem(&processes, &tgid);

	if (state && state->start_ns == start_ns) {
		state->announced = 0;
		if (state->matched == MATCHED_AT_EXEC)
			state->matched = MATCHED;
	}
	/* a process that matches by name stays matched when it later becomes another program */
	if ((filter_flags & FILTER_DESCENDANTS) && (filter_flags & FILTER_COMMS) &&
	    !is_marked(tgid, start_ns) && comm_matches(BPF_CORE_READ(task, group_leader)))
		mark(tgid, start_ns, MATCHED);
	return 0;
}

SEC("tp_btf/sched_process_exit")
int on_exit(__u64 *ctx)
{
	struct task_struct *task = (struct task_struct *)ctx[0];
	__u32 tgid = BPF_CORE_READ(task, tgid);

	if (BPF_CORE_READ(task, signal, live.counter) == 0) /* the group's last thread */
		bpf_map_delete_elem(&processes, &tgid);
	return 0;
}

/*
 * Marks what ran before the tracer. Run it after the tracepoints are attached, and again until
 * nothing new is marked: a child may come before its parent.
 */
SEC("iter/task")
int seed(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;

	if (!task)
		return 0;
	__u32 tgid = BPF_CORE_READ(task, tgid);
	__u64 start_ns = BPF_CORE_READ(task, start_boottime);

	if (BPF_CORE_READ(task, pid) != tgid || is_known(tgid, start_ns))
		return 0;
	__u8 *how = bpf_map_lookup_elem(&filter_pids, &tgid);
	bool wanted = how != NULL;

	if (!wanted && (filter_flags & FILTER_DESCENDANTS)) {
		struct task_struct *parent = BPF_CORE_READ(task, real_parent, group_leader);

		wanted = ((filter_flags & FILTER_COMMS) && comm_matches(task)) ||
			 is_marked(BPF_CORE_READ(parent, tgid), BPF_CORE_READ(parent, start_boottime));
	}
	if (wanted) {
		mark(tgid, start_ns, how ? *how : MATCHED);
		seeded++;
	}
	return 0;
}
