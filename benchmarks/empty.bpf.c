// SPDX-License-Identifier: MIT
/* What a probe costs that does nothing: the measure for those that do something. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("uprobe")
int on_entry(struct pt_regs *ctx)
{
	return 0;
}

SEC("uretprobe")
int on_return(struct pt_regs *ctx)
{
	return 0;
}
