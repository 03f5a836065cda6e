// SPDX-License-Identifier: MIT
/*
 * Sockets: connect, accept, bind and listen when they return, datagrams and the names asked of DNS, and
 * how many bytes went through a socket when it is closed.
 */
#include "sock.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

KEEP_TYPE(net_record);

#define EINPROGRESS 115
#define ECANCELED 125
#define DNS_PORT 53
#define DNS_BYTES 512
#define MAX_MESSAGES 8 /* of one sendmmsg */
#define MAX_PARTS 4    /* of one message */

const volatile bool show_net = true;
const volatile bool show_dns = true;
const volatile bool bytes_known = false; /* socket_sent and socket_received are attached */

struct socket_bytes {
	__u64 sent;
	__u64 received;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* struct sock * */
	__type(value, struct socket_bytes);
} sockets SEC(".maps");

/*
 * A connect that has not come to an end yet. Over loopback it ends before the call returns, even if that
 * says EINPROGRESS.
 */
struct pending {
	__u64 pid_tgid;
	__u64 start_ns;
	__u32 uid;
	__s32 fd; /* -1: the call has not returned */
	__s32 result;
	__u32 done;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, __u64); /* struct sock * */
	__type(value, struct pending);
} connecting SEC(".maps");

/* The name of a Unix socket: sun_path, without the family in front. */
static __always_inline void read_unix_name(struct sock *sk, __u8 *to, __u16 *bytes)
{
	struct unix_address *address = BPF_CORE_READ((struct unix_sock *)sk, addr);
	__s32 length = address ? BPF_CORE_READ(address, len) - 2 : 0;

	if (length <= 0)
		return;
	*bytes = length < 108 ? length : 108;
	bpf_probe_read_kernel(to, 108, (void *)address + bpf_core_type_size(struct unix_address) + 2);
}

static __always_inline void fill_from_sock(struct net_record *record, struct sock *sk)
{
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	record->family = family;
	record->type = BPF_CORE_READ(sk, sk_type);
	record->protocol = BPF_CORE_READ(sk, sk_protocol);
	record->local_bytes = 0;
	record->remote_bytes = 0;
	record->local_port = 0;
	record->remote_port = 0;
	if (family == AF_UNIX) {
		struct sock *peer = BPF_CORE_READ((struct unix_sock *)sk, peer);

		read_unix_name(sk, record->local_address, &record->local_bytes);
		if (peer)
			read_unix_name(peer, record->remote_address, &record->remote_bytes);
		return;
	}
	if (family != AF_INET && family != AF_INET6)
		return;
	record->local_port = BPF_CORE_READ(sk, __sk_common.skc_num);
	record->remote_port = swap16(BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (family == AF_INET) {
		record->local_bytes = 4;
		bpf_core_read(record->local_address, 4, &sk->__sk_common.skc_rcv_saddr);
		record->remote_bytes = record->remote_port ? 4 : 0;
		bpf_core_read(record->remote_address, 4, &sk->__sk_common.skc_daddr);
	} else {
		record->local_bytes = 16;
		bpf_core_read(record->local_address, 16, &sk->__sk_common.skc_v6_rcv_saddr);
		record->remote_bytes = record->remote_port ? 16 : 0;
		bpf_core_read(record->remote_address, 16, &sk->__sk_common.skc_v6_daddr);
	}
}

/* A struct sockaddr of the process. */
static __always_inline void read_user_address(const void *address, __u32 size, __u8 *to, __u16 *bytes, __u16 *port)
{
	__u16 family = 0, wire_port = 0;

	if (!address || size < 2 || bpf_probe_read_user(&family, 2, address))
		return;
	if (family == AF_UNIX) {
		*bytes = size - 2 < 108 ? size - 2 : 108;
		/* most often shorter than the whole, and then perhaps at the end of a page */
		if (bpf_probe_read_user(to, 108, address + 2)) {
			long n = bpf_probe_read_user_str(to, 108, address + 2);

			*bytes = n > 0 && *bytes > n ? n : *bytes;
		}
		return;
	}
	bpf_probe_read_user(&wire_port, 2, address + 2);
	if (family == AF_INET && size >= 8) {
		*bytes = 4;
		bpf_probe_read_user(to, 4, address + 4);
		*port = swap16(wire_port);
	} else if (family == AF_INET6 && size >= 24) {
		*bytes = 16;
		bpf_probe_read_user(to, 16, address + 8);
		*port = swap16(wire_port);
	}
}

static __always_inline void fill_empty(struct net_record *record, enum call call, __s64 result, __s32 fd, __u64 pid_tgid,
				       __u64 start_ns)
{
	fill_header(&record->header, RECORD_NET, bpf_ktime_get_boot_ns(), pid_tgid, start_ns);
	record->bytes_sent = 0;
	record->bytes_received = 0;
	record->result = result < 0 ? result : 0;
	record->fd = fd;
	record->call = call;
	record->flags = 0;
	record->reserved = 0;
	record->data_bytes = 0;
	record->payload_bytes = 0;
}

/* How a connect went on that said EINPROGRESS. */
static __always_inline void send_outcome(struct sock *sk, struct pending *pending, __s32 result,
					 struct ring_control *control)
{
	struct net_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, LOST_CALLS + CALL_CONNECT);
		return;
	}
	fill_empty(record, CALL_CONNECT, result, pending->fd, pending->pid_tgid, pending->start_ns);
	record->header.uid = pending->uid;
	record->flags = NET_LATE;
	fill_from_sock(record, sk);
	submit(record, control);
}

/* connect, accept, bind, listen; global: the verifier looks at it once */
__noinline int socket_call(__u64 regs, __u32 call, __s64 result)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	struct ring_control *control = get_ring_control();
	struct call_arguments args;

	read_arguments(regs, &args);
	bool accepted = (call == CALL_ACCEPT || call == CALL_ACCEPT4) && result >= 0;
	__s32 fd = accepted ? result : (__s64)args.a[0];
	struct sock *sk = sock_of_file(file_of_fd(task, fd));

	if (!control || (sk && BPF_CORE_READ(sk, __sk_common.skc_family) == AF_NETLINK))
		return 0;
	struct net_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, LOST_CALLS + call);
		return 0;
	}
	fill_empty(record, call, result, fd, pid_tgid, start_ns);
	record->family = 0;
	record->type = 0;
	record->protocol = 0;
	record->local_bytes = 0;
	record->remote_bytes = 0;
	record->local_port = 0;
	record->remote_port = 0;
	if (sk)
		fill_from_sock(record, sk);
	if (call == CALL_CONNECT)
		read_user_address((void *)args.a[1], args.a[2], record->remote_address, &record->remote_bytes,
				  &record->remote_port);
	else if (call == CALL_BIND && result < 0)
		read_user_address((void *)args.a[1], args.a[2], record->local_address, &record->local_bytes,
				  &record->local_port);
	submit(record, control);

	__u64 key = (__u64)sk;
	struct pending *pending = sk && call == CALL_CONNECT ? bpf_map_lookup_elem(&connecting, &key) : NULL;

	if (!pending)
		return 0;
	pending->fd = fd;
	if (result == -EINPROGRESS && !pending->done)
		return 0; /* the rest is told by connect_done */
	if (result == -EINPROGRESS)
		send_outcome(sk, pending, pending->result, control);
	bpf_map_delete_elem(&connecting, &key);
	return 0;
}

/* One datagram; `index` of the messages that sendmmsg was given. */
__noinline int datagram(__u64 regs, __u32 call, __s64 result, __u32 index)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	__u64 start_ns = BPF_CORE_READ(task, group_leader, start_boottime);
	struct ring_control *control = get_ring_control();
	struct call_arguments args;
	struct message message = {};
	__u64 part[2] = {}; /* struct iovec */

	read_arguments(regs, &args);
	struct sock *sk = sock_of_file(file_of_fd(task, (__s32)args.a[0]));

	if (!control || !sk || BPF_CORE_READ(sk, sk_type) != SOCK_DGRAM)
		return 0;
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family != AF_INET && family != AF_INET6)
		return 0;
	if (call == CALL_SENDTO || call == CALL_WRITE) {
		message.name = call == CALL_SENDTO ? args.a[4] : 0;
		message.name_bytes = args.a[5];
		part[0] = args.a[1];
		part[1] = args.a[2];
	} else {
		/* struct mmsghdr is a struct user_msghdr and a length: 64 bytes */
		__u64 header = args.a[1] + (call == CALL_SENDMMSG ? index * 64ULL : 0);

		bpf_probe_read_user(&message, sizeof(message), (void *)header);
		if (call == CALL_SENDMMSG) {
			__u32 sent = 0;

			bpf_probe_read_user(&sent, sizeof(sent), (void *)header + 56);
			result = sent;
		}
	}
	__u16 port = swap16(BPF_CORE_READ(sk, __sk_common.skc_dport));

	if (message.name && message.name_bytes >= 8) {
		bpf_probe_read_user(&port, sizeof(port), (void *)message.name + 2);
		port = swap16(port);
	}
	bool dns = show_dns && port == DNS_PORT;

	if (!dns && !show_net)
		return 0;
	/* twice: the verifier cannot follow what is left of it */
	struct net_record *record = bpf_ringbuf_reserve(&records, sizeof(*record) + 2 * DNS_BYTES, 0);

	if (!record) {
		/* it would have been one event or two */
		if (show_net)
			count_lost_record(control, LOST_CALLS + CALL_SENDTO);
		if (dns)
			count_lost_record(control, RECORD_DNS);
		return 0;
	}
	fill_empty(record, call, result, args.a[0], pid_tgid, start_ns);
	fill_from_sock(record, sk);
	read_user_address((void *)message.name, message.name_bytes, record->remote_address, &record->remote_bytes,
			  &record->remote_port);
	record->data_bytes = result > 0 ? result : 0;
	if (dns) {
		for (__u32 i = 0; i < MAX_PARTS; i++) {
			__u32 used = used_bytes(&record->payload_bytes);

			if (message.iov) {
				if (i >= message.iov_count)
					break;
				bpf_probe_read_user(part, sizeof(part), (void *)(message.iov + i * sizeof(part)));
			} else if (i > 0) {
				break;
			}
			__u32 take = part[1] < DNS_BYTES ? part[1] : DNS_BYTES;

			asm volatile("" : "+r"(take));
			if (take > DNS_BYTES)
				take = DNS_BYTES;
			if (used > DNS_BYTES)
				break;
			if (bpf_probe_read_user(record->payload + used, take, (void *)part[0])) {
				count_loss(control, LOSS_READ_FAULT, take);
				break;
			}
			record->payload_bytes = used + take;
		}
	}
	submit(record, control);
	return 0;
}

static __always_inline int net_call(__u64 regs, enum call call, __s64 result)
{
	__u64 start_ns;

	if (call < CALL_CONNECT || call > CALL_SENDMMSG || !current_matches(bpf_get_current_pid_tgid(), &start_ns))
		return 0;
	announce_process();
	if (call <= CALL_LISTEN)
		return socket_call(regs, call, result);
	if (call != CALL_SENDMMSG)
		return datagram(regs, call, result, 0);
	for (__u32 i = 0; i < MAX_MESSAGES; i++)
		if (i == 0 || i < result)
			datagram(regs, call, result, i);
	return 0;
}

SEC("tracepoint/syscalls/sys_exit_connect")
int net_exit(struct sys_exit_context *ctx)
{
	return net_call(current_regs(), call_of_number(ctx->nr), ctx->result);
}

SEC("tp_btf/sys_exit")
int net_any_exit(__u64 *ctx)
{
	__u64 regs = argument(ctx, 0);
	__s64 nr = CALL_NUMBER(regs);
	enum call call = call_of_number(nr);

	if (is_compat_call(nr, CALL_CONNECT) || call < CALL_CONNECT || call > CALL_SENDMMSG)
		return 0;
	return net_call(regs, call, ctx[1]);
}

/* A connect begins, in its process; or it has succeeded or failed, in whatever process is interrupted. */
SEC("tp_btf/inet_sock_set_state")
int connect_done(__u64 *ctx)
{
	__u64 key = argument(ctx, 0);
	__s32 from = ctx[1], to = ctx[2];
	struct sock *sk = (struct sock *)key;
	struct ring_control *control = get_ring_control();

	if (!control)
		return 0;
	if (to == TCP_SYN_SENT) {
		struct pending fresh = { .pid_tgid = bpf_get_current_pid_tgid(),
					 .uid = (__u32)bpf_get_current_uid_gid(),
					 .fd = -1 };

		if (current_matches(fresh.pid_tgid, &fresh.start_ns))
			bpf_map_update_elem(&connecting, &key, &fresh, BPF_ANY);
		return 0;
	}
	if (from != TCP_SYN_SENT || (to != TCP_ESTABLISHED && to != TCP_CLOSE))
		return 0;
	struct pending *pending = bpf_map_lookup_elem(&connecting, &key);

	if (!pending)
		return 0;
	__s32 error = BPF_CORE_READ(sk, sk_err);

	pending->result = to == TCP_ESTABLISHED ? 0 : -(error ? error : ECANCELED);
	if (pending->fd < 0) { /* the call itself tells */
		pending->done = 1;
		return 0;
	}
	send_outcome(sk, pending, pending->result, control);
	bpf_map_delete_elem(&connecting, &key);
	return 0;
}

/* --- bytes through a socket ---------------------------------------------------------------------- */

static __always_inline void count_bytes(__u64 sk, __s64 sent, __s64 received)
{
	struct socket_bytes fresh = {};
	struct socket_bytes *bytes;
	__u64 start_ns;

	if (sent + received <= 0 || !current_matches(bpf_get_current_pid_tgid(), &start_ns))
		return;
	bytes = bpf_map_lookup_elem(&sockets, &sk);
	if (!bytes) {
		bpf_map_update_elem(&sockets, &sk, &fresh, BPF_NOEXIST);
		bytes = bpf_map_lookup_elem(&sockets, &sk);
		if (!bytes)
			return;
	}
	if (sent)
		__sync_fetch_and_add(&bytes->sent, sent);
	if (received)
		__sync_fetch_and_add(&bytes->received, received);
}

SEC("tp_btf/sock_send_length")
int socket_sent(__u64 *ctx)
{
	__s32 result = ctx[1];
	__u64 key = argument(ctx, 0), start_ns;
	struct sock *sk = (struct sock *)key;

	count_bytes(key, result > 0 ? result : 0, 0);
	if (BPF_CORE_READ(sk, sk_type) != SOCK_DGRAM || !current_matches(bpf_get_current_pid_tgid(), &start_ns))
		return 0;
	/* a datagram may be sent by write() too; the other calls are seen when they return */
	__u64 regs = current_regs();

	if (CALL_NUMBER(regs) == NR_WRITE) {
		announce_process();
		datagram(regs, CALL_WRITE, result, 0);
	}
	return 0;
}

SEC("tp_btf/sock_recv_length")
int socket_received(__u64 *ctx)
{
	__s32 result = ctx[1];

	if (!(ctx[2] & MSG_PEEK))
		count_bytes(argument(ctx, 0), 0, result > 0 ? result : 0);
	return 0;
}

static __always_inline bool is_last_reference(struct file *file)
{
	if (bpf_core_field_exists(struct file, f_ref))
		return BPF_CORE_READ(file, f_ref.refcnt.counter) == 0;
	return BPF_CORE_READ((struct file___before_6_13 *)file, f_count.counter) == 1;
}

/* Tells of a socket that nobody else has open. */
__noinline int close_socket(__u32 fd)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct file *file = file_of_fd(task, fd);
	struct sock *sk = sock_of_file(file);
	struct ring_control *control = get_ring_control();
	__u64 key = (__u64)sk;

	if (!sk || !control || !is_last_reference(file) || BPF_CORE_READ(sk, __sk_common.skc_family) == AF_NETLINK)
		return 0;
	struct net_record *record = bpf_ringbuf_reserve(&records, sizeof(*record), 0);

	if (!record) {
		count_lost_record(control, LOST_CALLS + CALL_CLOSE);
		bpf_map_delete_elem(&sockets, &key);
		return 0;
	}
	fill_empty(record, CALL_CLOSE, 0, fd, bpf_get_current_pid_tgid(),
		   BPF_CORE_READ(task, group_leader, start_boottime));
	fill_from_sock(record, sk);
	if (bytes_known) {
		struct socket_bytes *bytes = bpf_map_lookup_elem(&sockets, &key);

		record->flags = NET_BYTES_KNOWN;
		if (bytes) {
			record->bytes_sent = bytes->sent;
			record->bytes_received = bytes->received;
		}
	}
	submit(record, control);
	bpf_map_delete_elem(&sockets, &key);
	return 0;
}

SEC("tracepoint/syscalls/sys_enter_close")
int net_close(struct sys_enter_context *ctx)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 start_ns;

	/* most descriptors are no sockets */
	if (sock_of_file(file_of_fd(task, ctx->args[0])) && current_matches(bpf_get_current_pid_tgid(), &start_ns)) {
		announce_process();
		close_socket(ctx->args[0]);
	}
	return 0;
}

SEC("tp_btf/sched_process_exit")
int net_end(__u64 *ctx)
{
	close_all((struct task_struct *)ctx[0], close_socket);
	return 0;
}

/* --- io_uring: only counted ----------------------------------------------------------------------- */

SEC("tp_btf/io_uring_submit_req")
int net_uring(__u64 *ctx)
{
	struct io_kiocb *request = (struct io_kiocb *)ctx[0];

	switch (BPF_CORE_READ(request, opcode)) { /* include/uapi/linux/io_uring.h */
	case 9:	 /* SENDMSG */
	case 13: /* ACCEPT */
	case 16: /* CONNECT */
	case 26: /* SEND */
	case 47: /* SEND_ZC */
	case 48: /* SENDMSG_ZC */
	case 56: /* BIND */
	case 57: /* LISTEN */
		count_uring_call();
	}
	return 0;
}
