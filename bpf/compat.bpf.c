// SPDX-License-Identifier: MIT
/*
 * 32-bit calls of 64-bit programs (int 0x80 on x86-64), which the tracepoints of single calls leave out.
 * On the kernel's own functions for such calls, so that it costs no other call anything.
 */
#include "syscalls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

SEC("kprobe.multi")
int compat_call(struct pt_regs *ctx __attribute__((unused)))
{
	count_compat_call();
	return 0;
}
