// SPDX-License-Identifier: MIT
/*
 * Follows what wanted processes send and receive through sockets, so that TLS connections get their
 * addresses and processes that speak TLS show even if no probe of theirs is ever hit. One of three ways
 * to be called is used: the tracepoints of Linux 6.3, fentry, or kprobes.
 */
#include "tls_socket.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(socket_over_record);

#define SLACK_BYTES 2048     /* of records and handshake messages around what was written */
#define HANDSHAKE_BYTES 16384 /* of what a handshake sends at once */
#define HANDSHAKE_REST_BYTES 150 /* what a client may send after its ClientHello without saying anything */
#define MAX_LOOKS 8	     /* a connection may begin in plain text: STARTTLS, a proxy's CONNECT */

/* Where the current call has the first bytes that it sent; 0 if it is of another kind. */
static __always_inline __u64 sent_buffer(__u64 *bytes)
{
	__u64 regs = current_regs(), parts = call_argument(regs, 1);
	__u64 part[2] = {}; /* struct iovec */

	switch (CALL_NUMBER(regs)) {
	case NR_WRITE:
	case NR_SENDTO:
		*bytes = call_argument(regs, 2);
		return parts;
	case NR_SENDMSG:
		bpf_probe_read_user(&parts, sizeof(parts), (void *)parts + __builtin_offsetof(struct message, iov));
		break;
	case NR_WRITEV:
		break;
	default:
		return 0;
	}
	bpf_probe_read_user(part, sizeof(part), (void *)parts);
	*bytes = part[1];
	return part[0];
}

/* The first bytes that go out of a socket: a TLS record (RFC 8446, 5.1)? Global: the verifier looks at it once. */
__noinline int look_at_sent(__u64 socket)
{
	struct tls_socket *known = bpf_map_lookup_elem(&tls_sockets, &socket);
	struct sock *sk = (struct sock *)socket;
	__u64 bytes = 0, buffer = sent_buffer(&bytes);
	__u8 head[6] = {};

	if (!known)
		return 0;
	known->looks++;
	if (buffer && bytes >= sizeof(head) && !bpf_probe_read_user(head, sizeof(head), (void *)buffer) &&
	    head[0] >= 20 && head[0] <= 23 && head[1] == 3)
		known->flags |= SOCKET_TLS;
	if ((known->flags & SOCKET_TLS) && head[0] == 22 && head[5] == 1) {
		known->flags |= SOCKET_HELLO;
		announce_process();
		announce_socket(socket, buffer, bytes < HELLO_BYTES ? bytes : HELLO_BYTES);
	} else if (port_of_call(sk) == HTTPS_PORT) {
		announce_process();
		announce_socket(socket, 0, 0);
	}
	return 0;
}

/* Whether so many bytes sent can be those that the thread's connection has just encrypted. */
static __always_inline bool is_plausible(__u64 written, __u64 sent)
{
	if (!written)
		return sent <= HANDSHAKE_BYTES;
	/* a long write may go out in parts; a short one does not, but a few records more may go with it */
	return sent <= written + written / 16 + SLACK_BYTES && (sent >= written || written > 16384);
}

/* About a socket that the reader knows. */
static __always_inline void tell_of_socket(enum record_kind kind, __u64 socket, struct tls_socket *known)
{
	struct ring_control *control = get_ring_control();

	if (!control || !(known->flags & SOCKET_ANNOUNCED))
		return;
	struct socket_over_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, kind);
		return;
	}
	/* the current process is any: the last packet may come while it runs */
	fill_header(&record->header, kind, bpf_ktime_get_boot_ns(), (__u64)known->tgid << 32 | known->tgid,
		    known->start_ns);
	record->socket = socket;
	record->socket_ns = known->seen_ns;
	submit(record, control);
}

static __always_inline void on_socket(__u64 socket, __s64 bytes, bool sent)
{
	struct sock *sk = (struct sock *)socket;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;

	if ((family != AF_INET && family != AF_INET6) || bytes <= 0 || !current_matches(pid_tgid, &start_ns))
		return;
	bool stream = BPF_CORE_READ(sk, sk_type) == SOCK_STREAM;

	/* a datagram to port 443 is QUIC: to be named, no more */
	if (!stream && (!sent || port_of_call(sk) != HTTPS_PORT))
		return;
	/* its end has been told: nothing would take it out again before its address is another's */
	if (stream && state_of_sock(sk) == TCP_CLOSE)
		return;
	struct tls_socket *known = get_tls_socket(socket, start_ns);

	if (known && !stream && known->start_ns != start_ns) { /* nothing tells the end of one for datagrams */
		bpf_map_delete_elem(&tls_sockets, &socket);
		known = get_tls_socket(socket, start_ns);
	}
	if (!known)
		return;
	if (sent && (known->flags & SOCKET_HELLO) && !(known->flags & SOCKET_TALKS)) {
		known->sent_bytes += bytes;
		if (known->sent_bytes > HANDSHAKE_REST_BYTES) {
			known->flags |= SOCKET_TALKS;
			tell_of_socket(RECORD_SOCKET_TALKS, socket, known);
		}
	}
	if (sent && !(known->flags & SOCKET_TLS) && known->looks < MAX_LOOKS) {
		look_at_sent(socket);
		known = bpf_map_lookup_elem(&tls_sockets, &socket); /* the verifier has forgotten it */
		if (!known)
			return;
	}
	/* before anything is sent, nobody can say */
	bool may_be_tls = (known->flags & SOCKET_TLS) || !known->looks;
	struct thread_state *thread = stream ? get_thread(pid_tgid, start_ns) : NULL;

	if (!thread)
		return;
	__u32 depth = thread->depth;

	if (depth > 0) {
		struct frame *frame = frame_at(thread, depth - 1);

		if (may_be_tls || !frame->socket) /* a callback of the application may use another one */
			frame->socket = socket;
	} else if (!sent) {
		/* an event loop may receive from several sockets before it reads from the first connection */
		if (thread->received_ssl || !thread->received_socket)
			thread->received_mixed = 0;
		else if (thread->received_socket != socket)
			thread->received_mixed = 1;
		thread->received_socket = may_be_tls ? socket : 0;
		thread->received_ssl = 0;
	} else if (thread->written_ssl) {
		__u64 ssl = thread->written_ssl;

		thread->written_ssl = 0;
		if (may_be_tls && !thread->written_mixed && is_plausible(thread->written_bytes, bytes))
			bind_socket(ssl, socket, BOUND_SENT);
	}
}

/* Before anything else, as it costs nothing here: most sockets are of other families. */
static __always_inline bool is_inet(__u64 *ctx)
{
	__u16 family = ((struct sock *)ctx[0])->__sk_common.skc_family;

	return family == AF_INET || family == AF_INET6;
}

SEC("tp_btf/sock_send_length")
int socket_sent(__u64 *ctx)
{
	if (is_inet(ctx))
		on_socket(argument(ctx, 0), (__s32)ctx[1], true);
	return 0;
}

SEC("tp_btf/sock_recv_length")
int socket_received(__u64 *ctx)
{
	if (is_inet(ctx) && !(ctx[2] & MSG_PEEK))
		on_socket(argument(ctx, 0), (__s32)ctx[1], false);
	return 0;
}

/*
 * Without these tracepoints: when the call begins, so how much it moves is not known yet. tcp_sendmsg(sk,
 * msg, size), tcp_recvmsg(sk, msg, size, flags …).
 */
SEC("fentry/tcp_sendmsg")
int tcp_sends(__u64 *ctx)
{
	on_socket(argument(ctx, 0), ctx[2], true);
	return 0;
}

SEC("fentry/tcp_recvmsg")
int tcp_receives(__u64 *ctx)
{
	on_socket(argument(ctx, 0), 1, false);
	return 0;
}

SEC("kprobe/tcp_sendmsg")
int tcp_sends_kprobe(struct pt_regs *ctx)
{
	on_socket(ARG1(ctx), ARG3(ctx), true);
	return 0;
}

SEC("kprobe/tcp_recvmsg")
int tcp_receives_kprobe(struct pt_regs *ctx)
{
	on_socket(ARG1(ctx), 1, false);
	return 0;
}

/* A socket that ends no longer speaks for a connection: its address, and the connection's, may be used again. */
SEC("tp_btf/inet_sock_set_state")
int socket_state(__u64 *ctx)
{
	__u64 key = argument(ctx, 0);
	struct tls_socket *known = bpf_map_lookup_elem(&tls_sockets, &key);
	__s32 to = ctx[2];

	if (!known)
		return 0;
	if (to == TCP_CLOSE) {
		struct connection_key owner = { .tgid = known->tgid, .ssl = known->ssl };
		struct connection *connection = bpf_map_lookup_elem(&connections, &owner);

		if (connection && connection->socket == key)
			connection->socket = 0; /* another socket may get its address */
		tell_of_socket(RECORD_SOCKET_OVER, key, known);
		bpf_map_delete_elem(&tls_sockets, &key);
	} else if (to == TCP_FIN_WAIT1 || to == TCP_LAST_ACK) {
		known->flags |= SOCKET_CLOSING;
	}
	return 0;
}
