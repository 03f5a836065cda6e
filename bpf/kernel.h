/* SPDX-License-Identifier: MIT */
/*
 * The kernel types that the programs touch, and nothing else.
 *
 * Every struct below lists only the fields that are read; preserve_access_index makes the loader
 * look their real offsets up in the running kernel's BTF. So objects build the same on any machine,
 * for x86-64 and arm64, without a generated header.
 */
#ifndef LAT_KERNEL_H
#define LAT_KERNEL_H

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u32 __wsum;
typedef _Bool bool;
#define true 1
#define false 0

/* include/uapi/linux/bpf.h: map types, flags (a stable kernel interface) */
enum bpf_map_type {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PROG_ARRAY = 3,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_CGROUP_ARRAY = 8,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_RINGBUF = 27,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1, BPF_EXIST = 2 };
enum { BPF_F_MMAPABLE = 1024 };
enum { BPF_RB_NO_WAKEUP = 1, BPF_RB_FORCE_WAKEUP = 2 };
enum { BPF_RB_AVAIL_DATA = 0 };

#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>

/* Into /sys/kernel/tracing/trace_pipe, in objects that 'make debug' has built; three values at most. */
#ifdef DEBUG
#define debug(...) bpf_printk(__VA_ARGS__)
#else
#define debug(...) ((void)0)
#endif

/* Present in the kernel's BTF only where the helper exists: the loader turns this into 0 or 1. */
enum bpf_func_id___probe {
	BPF_FUNC_get_attach_cookie___probe = 174,
	BPF_FUNC_get_current_task_btf___probe = 158,
	BPF_FUNC_task_pt_regs___probe = 175,
};

#if defined(__TARGET_ARCH_x86)

/* arch/x86/include/asm/ptrace.h, a fixed interface for uprobes */
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8;
	unsigned long ax, cx, dx, si, di, orig_ax, ip, cs, flags, sp, ss;
};
#define ARG1(ctx) ((ctx)->di)
#define ARG2(ctx) ((ctx)->si)
#define ARG3(ctx) ((ctx)->dx)
#define ARG4(ctx) ((ctx)->cx)
#define ARG5(ctx) ((ctx)->r8)
#define RETURN_VALUE(ctx) ((ctx)->ax)
#define ENTRY_SP(ctx) ((ctx)->sp)
#define RETURN_SP(ctx) ((ctx)->sp - 8) /* the return address has been popped */

#elif defined(__TARGET_ARCH_arm64)

/* arch/arm64/include/uapi/asm/ptrace.h: struct user_pt_regs */
struct pt_regs {
	unsigned long regs[31];
	unsigned long sp, pc, pstate;
};
#define ARG1(ctx) ((ctx)->regs[0])
#define ARG2(ctx) ((ctx)->regs[1])
#define ARG3(ctx) ((ctx)->regs[2])
#define ARG4(ctx) ((ctx)->regs[3])
#define ARG5(ctx) ((ctx)->regs[4])
#define RETURN_VALUE(ctx) ((ctx)->regs[0])
#define ENTRY_SP(ctx) ((ctx)->sp)
#define RETURN_SP(ctx) ((ctx)->sp)

#else
#error "compile with -D__TARGET_ARCH_x86 or -D__TARGET_ARCH_arm64"
#endif

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct qstr {
	const unsigned char *name;
};

struct hlist_bl_node {
	struct hlist_bl_node **pprev;
};

struct dentry {
	struct hlist_bl_node d_hash;
	struct dentry *d_parent;
	struct qstr d_name;
};

struct vfsmount {
	struct dentry *mnt_root;
};

struct mount {
	struct mount *mnt_parent;
	struct dentry *mnt_mountpoint;
	struct vfsmount mnt;
};

struct path {
	struct vfsmount *mnt;
	struct dentry *dentry;
};

struct inode {
	__u16 i_mode;
	void *i_private;
};

typedef struct {
	long counter;
} atomic64_t;

typedef struct {
	atomic64_t refcnt;
} file_ref_t;

struct file {
	struct path f_path;
	struct inode *f_inode;
	void *private_data;
	__u32 f_flags;
	file_ref_t f_ref; /* since Linux 6.13; 0 means one reference */
};

struct file___before_6_13 {
	atomic64_t f_count;
};

struct fdtable {
	__u32 max_fds;
	struct file **fd;
	unsigned long *open_fds;
};

struct files_struct {
	struct fdtable *fdt;
};

struct fs_struct {
	struct path pwd;
};

struct mm_struct {
	struct file *exe_file;
	unsigned long arg_start;
	unsigned long arg_end;
	unsigned long task_size;
};

struct linux_binprm {
	const char *filename;
};

typedef struct {
	__u32 val;
} kuid_t;

typedef struct {
	__u32 val;
} kgid_t;

struct cred {
	kuid_t uid;
	kgid_t gid;
};

typedef struct {
	int counter;
} atomic_t;

struct signal_struct {
	atomic_t live;
	__s32 group_exit_code;
	__u32 flags;
	__u64 utime;
	__u64 stime;
	unsigned long maxrss;
	__u64 sum_sched_runtime;
};

struct upid {
	__s32 nr;
};

struct pid {
	__u32 level;
	struct dentry *stashed; /* since Linux 6.9, when pidfds became inodes of their own */
	struct upid numbers[1];
};

struct sched_entity {
	__u64 sum_exec_runtime;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct thread_info {
	__u32 status; /* x86 */
};

struct task_struct {
	struct thread_info thread_info;
	__u32 pid;
	__u32 tgid;
	__u64 start_boottime;
	__u64 self_exec_id;
	struct task_struct *group_leader;
	struct task_struct *real_parent;
	struct mm_struct *mm;
	const struct cred *cred;
	struct signal_struct *signal;
	struct css_set *cgroups;
	struct files_struct *files;
	struct fs_struct *fs;
	struct pid *thread_pid;
	struct sched_entity se;
	void *stack;
	__u64 utime;
	__u64 stime;
	__s32 exit_code;
	char comm[16];
};

struct io_kiocb {
	__u8 opcode;
};

struct in6_addr {
	__u8 s6_addr[16];
};

struct sock_common {
	__be32 skc_daddr;
	__be32 skc_rcv_saddr;
	__be16 skc_dport;
	__u16 skc_num;
	__u16 skc_family;
	struct in6_addr skc_v6_daddr;
	struct in6_addr skc_v6_rcv_saddr;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_type;
	__u16 sk_protocol;
	__s32 sk_err;
};

struct unix_address {
	__s32 len; /* behind it: struct sockaddr_un name[] */
};

struct unix_sock {
	struct unix_address *addr;
	struct sock *peer;
};

struct socket {
	struct sock *sk;
};

struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
	__u64 session_id;
	__u64 seq_num;
};

struct bpf_iter__task {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
};

#pragma clang attribute pop

#endif
