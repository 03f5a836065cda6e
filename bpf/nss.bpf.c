// SPDX-License-Identifier: MIT
/*
 * TLS plaintext from NSS, whose connections are NSPR's file descriptors: (fd, buffer, i32 size, …) -> i32.
 * The same functions also read and write files and plain sockets; these are left out.
 */
#include "tls.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define PR_DESC_LAYERED 4
#define PR_MSG_PEEK 2
#define MAX_LAYERS 4
#define IMAGE_BYTES (1ULL << 24) /* no libssl3 is larger */

/* Whether a PRFileDesc carries TLS: 0 or 1; not there: not looked at yet. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct connection_key);
	__type(value, __u8);
} nss_fds SEC(".maps");

/* nspr/prio.h: what every descriptor, and every layer of one, begins with. */
struct pr_file_desc {
	__u64 methods;
	__u64 secret;
	__u64 lower;
};

/* The beginning of struct PRIOMethods. */
struct pr_methods {
	__s32 file_type;
	__u64 close;
	__u64 read;
	__u64 write;
};

/* The beginning of NSS's struct sslSocketStr, the secret of its layer. */
struct ssl_socket {
	__u64 fd;
	__u64 ops; /* a table of NSS's functions */
};

static __always_inline bool is_near(__u64 a, __u64 b)
{
	return a - b + IMAGE_BYTES < 2 * IMAGE_BYTES;
}

/*
 * A descriptor that SSL_ImportFD was not seen to make, as it was made before the tracer came or the process
 * forked. NSS's layer is known by its secret, which points back to the descriptor, and by its two tables of
 * functions, which are of one library. Global: the verifier looks at it once.
 */
__noinline int is_tls_layer(__u64 fd)
{
	struct pr_file_desc layer = {};
	__u64 at = fd;

	for (int i = 0; i < MAX_LAYERS && at; i++) {
		struct pr_methods methods = {};
		struct ssl_socket socket = {};
		__u64 function = 0;

		if (bpf_probe_read_user(&layer, sizeof(layer), (const void *)at) ||
		    bpf_probe_read_user(&methods, sizeof(methods), (const void *)layer.methods))
			return 0;
		/* what lies on top of it exchanges contents with it: the address stays the top's */
		if (methods.file_type == PR_DESC_LAYERED &&
		    !bpf_probe_read_user(&socket, sizeof(socket), (const void *)layer.secret) &&
		    (socket.fd == fd || socket.fd == at) && is_near(socket.ops, layer.methods) &&
		    !bpf_probe_read_user(&function, sizeof(function), (const void *)socket.ops) &&
		    is_near(function, methods.write))
			return 1;
		at = layer.lower;
	}
	return 0;
}

static __always_inline bool is_tls(__u64 pid_tgid, __u64 fd)
{
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = fd };
	__u8 *known = bpf_map_lookup_elem(&nss_fds, &key);
	__u64 start_ns;
	__u8 answer;

	if (known)
		return *known;
	if (!current_matches(pid_tgid, &start_ns))
		return false;
	answer = is_tls_layer(fd);
	bpf_map_update_elem(&nss_fds, &key, &answer, BPF_NOEXIST);
	return answer;
}

static __always_inline int enter_if_tls(struct pt_regs *ctx, __u32 function)
{
	if (is_tls(bpf_get_current_pid_tgid(), ARG1(ctx)))
		return enter(ctx, function, ARG1(ctx), ARG2(ctx), (__u32)ARG3(ctx), 0);
	return 0;
}

SEC("uprobe")
int pr_read(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter_if_tls(ctx, FN_PR_READ);
}

SEC("uprobe")
int pr_write(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter_if_tls(ctx, FN_PR_WRITE);
}

SEC("uprobe")
int pr_recv(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	if (ARG4(ctx) & PR_MSG_PEEK)
		return 0; /* it will be read again */
	return enter_if_tls(ctx, FN_PR_RECV);
}

SEC("uprobe")
int pr_send(struct pt_regs *ctx)
{
	keep_own_stack(ctx);
	return enter_if_tls(ctx, FN_PR_SEND);
}

SEC("uretprobe")
int pr_data_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct thread_state *thread;
	struct frame *frame = finish(ctx, &thread, pid_tgid);
	__s32 moved = RETURN_VALUE(ctx);

	keep_own_stack(ctx);
	if (frame && moved > 0)
		send_payload(thread, frame, pid_tgid,
			     (__u32)moved < frame->buffer_bytes ? (__u32)moved : frame->buffer_bytes);
	return 0;
}

/* The address of a descriptor that has been closed is used again: this is a new connection. */
SEC("uretprobe")
int ssl_importfd_return(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid(), start_ns;
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = RETURN_VALUE(ctx) };
	__u8 answer = 1;

	keep_own_stack(ctx);
	count_hit(library_index(ctx), FN_SSL_IMPORTFD);
	if (!key.ssl || !current_matches(pid_tgid, &start_ns))
		return 0;
	bpf_map_update_elem(&nss_fds, &key, &answer, BPF_ANY);
	new_generation(pid_tgid, key.ssl);
	return 0;
}

SEC("uprobe")
int pr_close(struct pt_regs *ctx)
{
	__u64 pid_tgid = bpf_get_current_pid_tgid();
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ARG1(ctx) };
	__u8 *known = bpf_map_lookup_elem(&nss_fds, &key);

	keep_own_stack(ctx);
	if (known && *known)
		connection_over(ctx, FN_PR_CLOSE, key.ssl);
	if (known)
		bpf_map_delete_elem(&nss_fds, &key);
	return 0;
}
