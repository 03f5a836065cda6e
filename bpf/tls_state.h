/* SPDX-License-Identifier: MIT */
/*
 * What the programs of all TLS libraries share: the calls that a thread is in, and what is known of each
 * connection and socket. The maps become one for all objects of a tracer.
 */
#ifndef LAT_TLS_STATE_H
#define LAT_TLS_STATE_H

#include "stack.h"
#include "tracking.h"

#define MAX_DEPTH 4	     /* calls of one thread inside one another (TLS in TLS); a power of two */
#define MAX_THREADS 16384
#define MAX_CONNECTIONS 16384
#define MAX_SOCKETS 16384
#define MAX_LIBRARIES 256

/* A call in progress, known by the stack pointer at its entry. */
struct frame {
	__u64 sp;
	__u64 ssl;
	__u64 buffer;	   /* SSL_sendfile: the file descriptor */
	__u64 buffer_bytes;
	__u64 moved_bytes; /* where an _ex function stores how much it moved; SSL_sendfile: file offset */
	__u64 entered_ns;
	__u64 socket;	   /* struct sock * that was used inside the call */
	__u32 function;
	__u32 library;
};

/* A payload on its way into the ring, record by record. */
struct transfer {
	struct frame frame;
	__u64 now_ns;
	__u64 generation_ns;
	__u64 offset; /* of the call's first byte in the connection's stream */
	__u64 total;
	__u64 done;
	__u32 flags;
	__u32 reserved;
};

struct thread_state {
	__u64 start_ns; /* of the process */
	__u64 written_ssl;     /* wrote outside a socket call: the thread's next send may be its */
	__u64 written_bytes;
	__u64 received_socket; /* struct sock * of the thread's last receive … */
	__u64 received_ssl;    /* … and which connection has read since */
	__u32 depth;
	__u16 written_mixed;  /* another connection wrote too: nobody can say whose the next send is */
	__u16 received_mixed; /* several sockets have received since the last read */
	struct frame frames[MAX_DEPTH];
	struct transfer transfer;
};

/* How a connection's socket is known; a stronger one overrides a weaker one. */
enum binding {
	BOUND_NOT = 0,
	BOUND_RECEIVED = 1, /* the thread received from it just before the call */
	BOUND_SENT = 2,	    /* … sent through it just after the call */
	BOUND_INSIDE = 3,   /* … used it during the call */
	BOUND_OBJECT = 4,   /* the connection's object names its descriptor */
};

struct connection_key {
	__u32 tgid;
	__u32 reserved;
	__u64 ssl;
};

struct connection {
	__u64 generation_ns;
	__u64 read_bytes;
	__u64 written_bytes;
	__u32 read_records;
	__u32 written_records;
	__u32 joined_late;
	__u32 handshake_calls;
	__u64 handshake_began_ns;
	__u64 socket;	/* struct sock *, 0: not known */
	__u32 function;	/* of its last call */
	__u16 binding;	/* enum binding; what it was, after the socket has closed */
	__u8 over;	/* its end was seen: what comes now is another one */
	__u8 born;	/* its beginning was seen: the address of its object tells no other connection */
};

enum socket_flags {
	SOCKET_TLS = 1,	      /* what was sent looks like TLS */
	SOCKET_HELLO = 2,     /* … and began with a ClientHello */
	SOCKET_ANNOUNCED = 4, /* the reader has its record */
	SOCKET_CLOSING = 8,
	SOCKET_BOUND = 16,    /* a connection is known to go through it */
	SOCKET_TALKS = 32,    /* more was sent than a handshake sends */
};

struct tls_socket {
	__u64 seen_ns; /* first: makes the address of the socket unique */
	__u64 start_ns; /* of the process that used it first */
	__u64 ssl;	/* the connection that goes through it, if that is one */
	__u32 tgid;
	__s32 fd;
	__u32 flags;
	__u32 looks; /* how often it was looked at what is sent */
	__u64 sent_bytes; /* after the ClientHello, until it talks */
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_THREADS);
	__type(key, __u64); /* pid_tgid */
	__type(value, struct thread_state);
} threads SEC(".maps");

/* LRU: processes end without freeing their connections. One that returns after eviction joins late. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_CONNECTIONS);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, MAX_SOCKETS);
	__type(key, __u64); /* struct sock * */
	__type(value, struct tls_socket);
} tls_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, MAX_LIBRARIES * FN_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} probe_hits SEC(".maps");

static __always_inline __u32 library_index(void *ctx)
{
	/* Linux 5.15; before that the reader knows the library only if there is a single one */
	if (bpf_core_enum_value_exists(enum bpf_func_id___probe, BPF_FUNC_get_attach_cookie___probe))
		return (__u32)bpf_get_attach_cookie(ctx);
	return 0;
}

static __always_inline void count_hit(__u32 library, __u32 function)
{
	__u32 index = (library & (MAX_LIBRARIES - 1)) * FN_COUNT + function;
	__u64 *hits = bpf_map_lookup_elem(&probe_hits, &index);

	if (hits)
		__sync_fetch_and_add(hits, 1);
}

static __always_inline struct thread_state *get_thread(__u64 pid_tgid, __u64 start_ns)
{
	struct thread_state *thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	struct ring_control *control;

	if (thread)
		return thread;
	/* too large for the stack; the transfer is written before it is read */
	static const struct thread_state zero;
	if (bpf_map_update_elem(&threads, &pid_tgid, &zero, BPF_ANY)) {
		control = get_ring_control();
		if (control)
			count_loss(control, LOSS_MAP_FULL, 0);
		return NULL;
	}
	thread = bpf_map_lookup_elem(&threads, &pid_tgid);
	if (thread)
		thread->start_ns = start_ns;
	return thread;
}

/* The mask only tells the verifier what the callers know already. */
static __always_inline struct frame *frame_at(struct thread_state *thread, __u32 index)
{
	asm volatile("" : "+r"(index));
	return &thread->frames[index & (MAX_DEPTH - 1)];
}

/* Not on the stack of the programs, which is short. */
static const struct connection no_connection;

static __always_inline struct connection *get_connection(__u32 tgid, __u64 ssl, __u64 now_ns, bool joined_late)
{
	struct connection_key key = { .tgid = tgid, .ssl = ssl };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);

	if (connection && !connection->over)
		return connection;
	bpf_map_update_elem(&connections, &key, &no_connection, BPF_ANY);
	connection = bpf_map_lookup_elem(&connections, &key);
	if (connection) {
		connection->generation_ns = now_ns;
		connection->joined_late = joined_late;
	}
	return connection;
}

/* The connection of this object begins now, whatever was known of its address. */
static __always_inline void new_generation(__u64 pid_tgid, __u64 ssl)
{
	struct connection_key key = { .tgid = pid_tgid >> 32, .ssl = ssl };
	struct connection *connection;

	bpf_map_update_elem(&connections, &key, &no_connection, BPF_ANY);
	connection = bpf_map_lookup_elem(&connections, &key);
	if (connection) {
		connection->generation_ns = bpf_ktime_get_boot_ns();
		connection->born = 1;
	}
}

#endif
