/* SPDX-License-Identifier: MIT */
/*
 * Which socket a TLS connection goes through. No offset of any library is needed: the thread uses the socket
 * inside the TLS call, or, if the library only fills buffers, just before or after it.
 */
#ifndef LAT_TLS_SOCKET_H
#define LAT_TLS_SOCKET_H

#include "sock.h"
#include "tls_state.h"

#define HELLO_BYTES 2048
#define HTTPS_PORT 443

const volatile bool sockets_followed = false; /* the programs of tls_socket.bpf.c are attached */

/* The descriptor that the current system call was given, if it is this socket's; else -1. */
static __always_inline __s32 fd_of_call(__u64 sk)
{
	__s32 fd = call_argument(current_regs(), 0);
	struct file *file = file_of_fd((struct task_struct *)bpf_get_current_task(), fd);

	return (__u64)sock_of_file(file) == sk ? fd : -1;
}

static __always_inline struct tls_socket *get_tls_socket(__u64 sk, __u64 start_ns)
{
	struct tls_socket *known = bpf_map_lookup_elem(&tls_sockets, &sk);
	struct tls_socket fresh = { .start_ns = start_ns, .tgid = bpf_get_current_pid_tgid() >> 32 };

	if (known)
		return known;
	fresh.seen_ns = bpf_ktime_get_boot_ns();
	fresh.fd = fd_of_call(sk);
	bpf_map_update_elem(&tls_sockets, &sk, &fresh, BPF_ANY);
	return bpf_map_lookup_elem(&tls_sockets, &sk);
}

struct peer { /* struct sockaddr_in, struct sockaddr_in6 */
	__u16 family;
	__u16 port;
	__u8 address[4];
	__u8 address6[16];
};

/* Where the current call sends a datagram to, if its socket is not connected; family 0: it does not say. */
static __always_inline void peer_of_call(struct peer *peer)
{
	__u64 regs = current_regs(), name = 0;

	switch (CALL_NUMBER(regs)) {
	case NR_SENDTO:
		name = call_argument(regs, 4);
		break;
	case NR_SENDMSG:
	case NR_SENDMMSG: /* the first of them; struct user_msghdr begins with the address of the name */
		bpf_probe_read_user(&name, sizeof(name), (void *)call_argument(regs, 1));
		break;
	default:
		return;
	}
	/* the shorter one may lie at the end of a page */
	if (name && bpf_probe_read_user(peer, sizeof(*peer), (void *)name))
		bpf_probe_read_user(peer, 8, (void *)name);
}

/* The port that the current call sends to. */
static __always_inline __u16 port_of_call(struct sock *sk)
{
	__u16 port = BPF_CORE_READ(sk, __sk_common.skc_dport);
	struct peer peer = {};

	if (!port && BPF_CORE_READ(sk, sk_type) == SOCK_DGRAM) {
		peer_of_call(&peer);
		port = peer.port;
	}
	return swap16(port);
}

/* `payload`: where the process has the bytes that it sent first, 0 if they do not matter. */
static __always_inline void fill_tls_socket(struct tls_socket_record *record, __u64 socket,
					    struct tls_socket *known, __u64 payload, __u32 bytes)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct sock *sk = (struct sock *)socket;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	fill_header(&record->header, RECORD_TLS_SOCKET, bpf_ktime_get_boot_ns(), bpf_get_current_pid_tgid(),
		    BPF_CORE_READ(task, group_leader, start_boottime));
	record->socket = socket;
	record->socket_ns = known->seen_ns;
	record->fd = known->fd;
	record->family = family;
	record->protocol = BPF_CORE_READ(sk, sk_protocol);
	record->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	record->remote_port = swap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	__builtin_memset(record->local_address, 0, sizeof(record->local_address));
	__builtin_memset(record->remote_address, 0, sizeof(record->remote_address));
	if (family == AF_INET) {
		bpf_core_read(record->local_address, 4, &sk->__sk_common.skc_rcv_saddr);
		bpf_core_read(record->remote_address, 4, &sk->__sk_common.skc_daddr);
	} else {
		bpf_core_read(record->local_address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		bpf_core_read(record->remote_address, 16, &sk->__sk_common.skc_v6_daddr);
	}
	if (!record->remote_port) {
		struct peer peer = {};

		peer_of_call(&peer);
		record->remote_port = swap16(peer.port);
		if (peer.family == AF_INET6)
			__builtin_memcpy(record->remote_address, peer.address6, 16);
		else if (peer.family == AF_INET)
			__builtin_memcpy(record->remote_address, peer.address, 4);
	}
	record->data_bytes = 0;
	if (payload) {
		asm volatile("" : "+r"(bytes));
		if (bytes > HELLO_BYTES)
			bytes = HELLO_BYTES;
		if (!bpf_probe_read_user(record->payload, bytes, (const void *)payload))
			record->data_bytes = bytes;
	}
}

/* In either size; a constant one each, as the verifier wants it. */
#define SEND_TLS_SOCKET(room)                                                                          \
	do {                                                                                           \
		struct tls_socket_record *record =                                                     \
			bpf_ringbuf_reserve(&records, sizeof(*record) + (room), 0);                    \
		if (!record) {                                                                         \
			count_lost_record(control, RECORD_TLS_SOCKET);                                 \
			return 0;                                                                      \
		}                                                                                      \
		fill_tls_socket(record, socket, known, (room) ? payload : 0, bytes);                   \
		submit(record, control);                                                               \
	} while (0)

/* Tells the reader of a socket, once. Global: the verifier looks at it once. */
__noinline int announce_socket(__u64 socket, __u64 payload, __u32 bytes)
{
	struct tls_socket *known = bpf_map_lookup_elem(&tls_sockets, &socket);
	struct ring_control *control = get_ring_control();

	if (!known || !control || (known->flags & SOCKET_ANNOUNCED))
		return 0;
	if (payload)
		SEND_TLS_SOCKET(HELLO_BYTES);
	else
		SEND_TLS_SOCKET(0);
	known->flags |= SOCKET_ANNOUNCED;
	return 0;
}

/* Whether what was known of the connection's socket stands against another one that is next to a call. */
static __always_inline bool is_settled(struct connection *connection, __u32 binding, bool gone)
{
	if (connection->binding == BOUND_NOT || binding >= BOUND_INSIDE)
		return false;
	return gone ? connection->born : binding <= connection->binding;
}

/* A connection is now known to go through a socket. Global, as above. */
__noinline int bind_socket(__u64 ssl, __u64 socket, __u32 binding)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), before;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ssl };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key), *other;
	struct tls_socket *known = bpf_map_lookup_elem(&tls_sockets, &socket), *old;
	struct ring_control *control = get_ring_control();
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();

	/* a socket that is not known any more has been closed since */
	if (!connection || !control || !known || connection->socket == socket)
		return 0;
	before = connection->socket;
	old = before ? bpf_map_lookup_elem(&tls_sockets, &before) : NULL;
	bool gone = !old || (old->flags & SOCKET_CLOSING);

	if (is_settled(connection, binding, gone))
		return 0;
	if (!gone && known && (old->flags & SOCKET_TLS) && !(known->flags & SOCKET_TLS))
		return 0; /* a callback of the application has used it */
	if (connection->function < FN_AEAD_SEAL) { /* there, each direction has an object of its own */
		key.ssl = known->ssl;
		other = key.ssl && key.ssl != ssl ? bpf_map_lookup_elem(&connections, &key) : NULL;
		key.ssl = ssl;
		if (other && other->socket == socket && binding <= BOUND_SENT) {
			if (other->binding >= binding)
				return 0;
			other->socket = 0; /* that was a guess */
			other->binding = BOUND_NOT;
		}
		known->ssl = ssl;
	}
	/* the address of the object is used again; else the socket was only a guess */
	if (connection->binding != BOUND_NOT && !connection->born && (gone || connection->binding >= BOUND_INSIDE)) {
		__u32 function = connection->function;

		__builtin_memset(connection, 0, sizeof(*connection));
		connection->function = function;
		connection->generation_ns = bpf_ktime_get_boot_ns();
		connection->joined_late = 1;
	}
	connection->socket = socket;
	connection->binding = binding;
	announce_process();
	announce_socket(socket, 0, 0);
	known = bpf_map_lookup_elem(&tls_sockets, &socket); /* the verifier has forgotten them */
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection)
		return 0;
	if (known) {
		/* the first connection of the process that said hello is seen from its beginning */
		if ((known->flags & SOCKET_HELLO) && !(known->flags & SOCKET_BOUND) && known->tgid == key.tgid &&
		    !connection->read_bytes && !connection->written_bytes)
			connection->joined_late = 0;
		known->flags |= SOCKET_BOUND;
	}
	struct ssl_socket_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, RECORD_SSL_SOCKET);
		return 0;
	}
	fill_header(&record->common.header, RECORD_SSL_SOCKET, bpf_ktime_get_boot_ns(), pid_tgid,
		    BPF_CORE_READ(task, group_leader, start_boottime));
	record->common.ssl = ssl;
	record->common.generation_ns = connection->generation_ns;
	record->common.latency_ns = 0;
	record->common.function = connection->function;
	record->common.flags = connection->joined_late ? SSL_JOINED_LATE : 0;
	record->common.library = 0;
	record->socket = socket;
	record->socket_ns = known ? known->seen_ns : 0;
	record->binding = binding;
	record->reserved = 0;
	submit(record, control);
	return 0;
}

#endif
