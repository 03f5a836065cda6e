// SPDX-License-Identifier: MIT
/* One program for each way to attach; each counts only what the test itself does. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

const volatile __u32 target_tgid;

__u64 entries, last_cookie, cookie_sum, returns, last_return;
__u64 tracepoint_forks, raw_forks, btf_forks;

static __always_inline bool is_target(void)
{
	return bpf_get_current_pid_tgid() >> 32 == target_tgid;
}

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	__u64 cookie = bpf_get_attach_cookie(ctx);

	__sync_fetch_and_add(&entries, 1);
	__sync_fetch_and_add(&cookie_sum, cookie);
	last_cookie = cookie;
	return 0;
}

SEC("uretprobe")
int on_return(struct pt_regs *ctx)
{
	__sync_fetch_and_add(&returns, 1);
	last_return = RETURN_VALUE(ctx);
	return 0;
}

SEC("tracepoint")
int on_fork_tracepoint(void *ctx)
{
	if (is_target())
		__sync_fetch_and_add(&tracepoint_forks, 1);
	return 0;
}

SEC("raw_tp")
int on_fork_raw(__u64 *ctx)
{
	if (is_target())
		__sync_fetch_and_add(&raw_forks, 1);
	return 0;
}

SEC("tp_btf/sched_process_fork")
int on_fork_btf(__u64 *ctx)
{
	struct task_struct *parent = (struct task_struct *)ctx[0];

	if (BPF_CORE_READ(parent, tgid) == target_tgid)
		__sync_fetch_and_add(&btf_forks, 1);
	return 0;
}

SEC("iter/task")
int list_threads(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	__u32 pid;

	if (!task || BPF_CORE_READ(task, tgid) != target_tgid)
		return 0;
	pid = BPF_CORE_READ(task, pid);
	bpf_seq_write(ctx->meta->seq, &pid, sizeof(pid));
	return 0;
}
