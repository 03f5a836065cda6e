/* SPDX-License-Identifier: MIT */
/* Sockets: whose they are and what they connect. */
#ifndef LAT_SOCK_H
#define LAT_SOCK_H

#include "syscalls.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define AF_NETLINK 16
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define IPPROTO_UDP 17
#define MSG_PEEK 2
#define TCP_ESTABLISHED 1
#define TCP_SYN_SENT 2
#define TCP_FIN_WAIT1 4
#define TCP_CLOSE 7
#define TCP_LAST_ACK 9

struct message { /* struct user_msghdr, struct iovec */
	__u64 name;
	__u32 name_bytes;
	__u32 reserved;
	__u64 iov;
	__u64 iov_count;
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct sock_common___state {
	volatile __u8 skc_state;
};

struct sock___state {
	struct sock_common___state __sk_common;
};
#pragma clang attribute pop

static __always_inline __u8 state_of_sock(struct sock *sk)
{
	return BPF_CORE_READ((struct sock___state *)sk, __sk_common.skc_state);
}

static __always_inline struct sock *sock_of_file(struct file *file)
{
	if (!file || (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	struct socket *socket = BPF_CORE_READ(file, private_data);

	return BPF_CORE_READ(socket, sk);
}

static __always_inline __u16 swap16(__u16 value)
{
	return value << 8 | value >> 8;
}

#endif
