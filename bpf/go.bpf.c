// SPDX-License-Identifier: MIT
/*
 * TLS plaintext from Go's crypto/tls. A goroutine moves between threads, and its stack moves when it grows:
 * calls are known by the goroutine and by how deep in its stack they are, and nothing is put onto the stack
 * (so there are no return probes: the places where a function returns are probed instead).
 */
#include "tls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Go's internal calling convention: arguments, first result, and the current goroutine (struct g). */
#if defined(__TARGET_ARCH_x86)
#define GO_ARG1(ctx) ((ctx)->ax)
#define GO_ARG2(ctx) ((ctx)->bx)
#define GO_ARG3(ctx) ((ctx)->cx)
#define GO_G(ctx) ((ctx)->r14)
#else
#define GO_ARG1(ctx) ((ctx)->regs[0])
#define GO_ARG2(ctx) ((ctx)->regs[1])
#define GO_ARG3(ctx) ((ctx)->regs[2])
#define GO_G(ctx) ((ctx)->regs[28])
#endif
#define GO_RESULT(ctx) GO_ARG1(ctx)

#define MAX_READS 16384
#define MAX_WRAPPERS 3

struct read_key {
	__u32 tgid;
	__u32 reserved;
	__u64 g;
	__u64 depth; /* bytes of the stack above the call */
};

/* A Read in progress. */
struct read {
	__u64 conn;
	__u64 buffer; /* on_stack: bytes below the stack's upper end */
	__u64 buffer_bytes;
	__u64 entered_ns;
	__u64 start_ns; /* of the process */
	__u32 library;
	__u32 on_stack;
};

/* LRU: a goroutine that panics, or a process that ends, leaves its call here. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_READS);
	__type(key, struct read_key);
	__type(value, struct read);
} go_reads SEC(".maps");

/* runtime.g begins with it. */
struct go_stack {
	__u64 low;
	__u64 high;
};

/* net.netFD, which begins with internal/poll.FD. */
struct net_fd {
	__u64 lock;
	__u64 semaphores;
	__s64 fd;
	__u64 not_read[4];
	__s64 family;
	__s64 type;
};

/* Of a connection, by what was known of it at its last call. */
struct go_socket {
	__u64 socket;
	__u64 seen_ns;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct connection_key);
	__type(value, struct go_socket);
} go_sockets SEC(".maps");

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)
struct tcp_sock {
	__u64 bytes_sent;
	__u64 bytes_received;
};

#pragma clang attribute pop

static __always_inline __u64 read_pointer(__u64 at)
{
	__u64 value = 0;

	bpf_probe_read_user(&value, sizeof(value), (const void *)at);
	return value;
}

/*
 * The descriptor of a tls.Conn, -1 if it is not known: the first field is an interface, (type, pointer), usually to
 * a net.TCPConn, which is a pointer to a netFD; or to a struct that wraps another connection, if that comes first
 * there too. Believed only if it says what the kernel says of the socket. Global: the verifier looks at it once.
 */
__noinline int fd_of_conn(__u64 conn)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	__u64 pointer = read_pointer(conn + 8);

	for (int i = 0; i < MAX_WRAPPERS && pointer; i++) {
		struct net_fd found = {};

		if (!bpf_probe_read_user(&found, sizeof(found), (const void *)read_pointer(pointer)) &&
		    found.type == SOCK_STREAM && (found.family == AF_INET || found.family == AF_INET6) &&
		    found.fd >= 0 && found.fd < 1 << 30) {
			struct sock *sk = sock_of_file(file_of_fd(task, found.fd));

			if (sk && BPF_CORE_READ(sk, __sk_common.skc_family) == found.family &&
			    BPF_CORE_READ(sk, sk_type) == SOCK_STREAM)
				return found.fd;
		}
		pointer = read_pointer(pointer + 8);
	}
	return -1;
}

/*
 * Whether this descriptor's socket is not yet that of the connection. Where the collector frees a tls.Conn that was
 * never closed, another one may get its address: then the connection begins anew. Global, as above.
 */
__noinline int is_new_socket(__u64 conn, __s32 fd, __u64 start_ns)
{
	struct task_struct *task = (struct task_struct *)bpf_get_current_task();
	struct tcp_sock *sk = (struct tcp_sock *)sock_of_file(file_of_fd(task, fd));
	struct connection_key key = { .tgid = bpf_get_current_pid_tgid() >> 32, .ssl = conn };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct go_socket *before = bpf_map_lookup_elem(&go_sockets, &key);
	struct go_socket now = { .socket = (__u64)sk };

	/* after the end of a socket what came before it can still be read */
	if (!sk || state_of_sock((struct sock *)sk) == TCP_CLOSE)
		return 0;
	struct tls_socket *known = get_tls_socket((__u64)sk, start_ns);

	if (!known)
		return 0;
	now.seen_ns = known->seen_ns; /* the kernel uses addresses again, too */
	bool same = before && before->socket == now.socket && before->seen_ns == now.seen_ns;

	if (same && connection && connection->socket == now.socket)
		return 0;
	if (!same)
		bpf_map_update_elem(&go_sockets, &key, &now, BPF_ANY);
	if (connection && (before ? !same : connection->socket != now.socket))
		bpf_map_delete_elem(&connections, &key);
	if (known->fd < 0)
		known->fd = fd;
	/* where nothing has gone through it, the handshake is to come: a first Write does it */
	get_connection(key.tgid, conn, bpf_ktime_get_boot_ns(),
		       BPF_CORE_READ(sk, bytes_sent) || BPF_CORE_READ(sk, bytes_received));
	return 1;
}

/* A call of the connection has moved bytes. */
static __always_inline void emit(__u64 pid_tgid, struct frame *frame, __u64 start_ns, __u64 total)
{
	struct thread_state *thread = get_thread(pid_tgid, start_ns);

	if (!thread || !total)
		return;
	__s32 fd = sockets_followed ? fd_of_conn(frame->ssl) : -1;

	if (fd >= 0 && is_new_socket(frame->ssl, fd, start_ns))
		bind_socket(frame->ssl, (__u64)sock_of_file(file_of_fd((void *)bpf_get_current_task(), fd)),
			    BOUND_OBJECT);
	send_payload(thread, frame, pid_tgid, total);
}

/* What is written is shown when the call begins: it stays as it is, but where it returns is not probed. */
SEC("uprobe")
int go_tls_write(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct frame frame = {
		.ssl = GO_ARG1(ctx),
		.buffer = GO_ARG2(ctx),
		.buffer_bytes = GO_ARG3(ctx),
		.entered_ns = bpf_ktime_get_boot_ns(),
		.function = FN_GO_TLS_WRITE,
		.library = library_index(ctx),
	};

	keep_own_stack(ctx);
	count_hit(frame.library, FN_GO_TLS_WRITE);
	if ((__s64)frame.buffer_bytes > 0 && current_matches(pid_tgid, &start_ns))
		emit(pid_tgid, &frame, start_ns, frame.buffer_bytes);
	return 0;
}

SEC("uprobe")
int go_tls_read(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct read_key key = { .tgid = pid_tgid >> 32, .g = GO_G(ctx) };
	struct read read = {
		.conn = GO_ARG1(ctx),
		.buffer = GO_ARG2(ctx),
		.buffer_bytes = GO_ARG3(ctx),
		.library = library_index(ctx),
	};
	struct go_stack stack;

	keep_own_stack(ctx);
	count_hit(read.library, FN_GO_TLS_READ);
	if ((__s64)read.buffer_bytes <= 0 || !current_matches(pid_tgid, &read.start_ns) ||
	    bpf_probe_read_user(&stack, sizeof(stack), (const void *)key.g))
		return 0;
	key.depth = stack.high - ENTRY_SP(ctx);
	if (read.buffer >= stack.low && read.buffer < stack.high) {
		read.on_stack = 1;
		read.buffer = stack.high - read.buffer;
	}
	read.entered_ns = bpf_ktime_get_boot_ns();
	bpf_map_update_elem(&go_reads, &key, &read, BPF_ANY);
	return 0;
}

/*
 * A Read that was waiting when the tracer came, as there is one on each idle connection of net/http: its arguments,
 * which it needs afterwards, are where Go's calling convention has room for them, just above the return address.
 */
static __always_inline bool find_arguments(struct pt_regs *ctx, __u64 pid_tgid, __u64 moved, struct frame *frame,
					   __u64 *start_ns)
{
	__u64 arguments[3]; /* connection, buffer, its length */

	if (!current_matches(pid_tgid, start_ns) ||
	    bpf_probe_read_user(arguments, sizeof(arguments), (const void *)(ENTRY_SP(ctx) + 8)) ||
	    arguments[2] < moved || arguments[2] >= 1ULL << 32 || fd_of_conn(arguments[0]) < 0)
		return false;
	frame->ssl = arguments[0];
	frame->buffer = arguments[1];
	frame->buffer_bytes = arguments[2];
	frame->entered_ns = bpf_ktime_get_boot_ns();
	frame->library = library_index(ctx);
	return true;
}

SEC("uprobe")
int go_tls_read_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct read_key key = { .tgid = pid_tgid >> 32, .g = GO_G(ctx) };
	struct frame frame = { .function = FN_GO_TLS_READ };
	__s64 moved = GO_RESULT(ctx);
	struct go_stack stack;

	keep_own_stack(ctx);
	count_hit(library_index(ctx), FN_GO_TLS_READ_RETURN);
	if (bpf_probe_read_user(&stack, sizeof(stack), (const void *)key.g))
		return 0;
	key.depth = stack.high - ENTRY_SP(ctx); /* the frame is gone: as at the beginning */
	struct read *read = bpf_map_lookup_elem(&go_reads, &key);

	if (read) {
		frame.ssl = read->conn;
		frame.buffer = read->on_stack ? stack.high - read->buffer : read->buffer;
		frame.buffer_bytes = read->buffer_bytes;
		frame.entered_ns = read->entered_ns;
		frame.library = read->library;
		start_ns = read->start_ns;
		bpf_map_delete_elem(&go_reads, &key);
	}
	if (moved <= 0 || (!read && !find_arguments(ctx, pid_tgid, moved, &frame, &start_ns)))
		return 0;
	emit(pid_tgid, &frame, start_ns, (__u64)moved < frame.buffer_bytes ? (__u64)moved : frame.buffer_bytes);
	return 0;
}

SEC("uprobe")
int go_tls_close(struct pt_regs *ctx)
{
	struct connection_key key = { .tgid = bpf_get_current_pid_tgid() >> 32, .ssl = GO_ARG1(ctx) };

	keep_own_stack(ctx);
	connection_over(ctx, FN_GO_TLS_CLOSE, key.ssl);
	bpf_map_delete_elem(&go_sockets, &key);
	return 0;
}
