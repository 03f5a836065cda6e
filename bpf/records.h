/* SPDX-License-Identifier: MIT */
/*
 * What goes through the ring. libagenttracer/runners/records.py declares the same layouts;
 * `build_bpf.py --check` holds the two against each other. No implicit padding.
 */
#ifndef LAT_RECORDS_H
#define LAT_RECORDS_H

#include "kernel.h"

#define COMM_BYTES 16
#define PATH_BYTES 4096

/* Puts a type into the object's BTF, where the layout check finds it. */
#define KEEP_TYPE(name) const struct name *keep_##name __attribute__((unused))

enum record_kind {
	RECORD_PROCESS = 1,
	RECORD_SSL_DATA = 2,
	RECORD_SSL_HANDSHAKE = 3,
	RECORD_SSL_SENDFILE = 4,
};

/* In front of every record of every program. */
struct record_header {
	__u32 kind;
	__u32 tgid;
	__u64 time_ns;	/* CLOCK_BOOTTIME */
	__u64 start_ns; /* boot time at which the process started: with tgid, its identity */
	__u32 tid;
	__u32 reserved;
};

enum process_flags {
	PROCESS_EXE_TRUNCATED = 1,
};

/* Sent before the first other record of a process, and again after an exec. */
struct process_record {
	struct record_header header;
	__u64 parent_start_ns;
	__u64 exec_count; /* task_struct.self_exec_id */
	__u64 cgroup_id;
	__u32 ppid;
	__u32 uid;
	__u8 comm[COMM_BYTES]; /* of the thread group's leader */
	__u32 flags;
	__u32 exe_bytes;
	__u8 exe[PATH_BYTES]; /* path components, the last one first, each ended by NUL */
};

enum ssl_function {
	FN_SSL_READ = 0,
	FN_SSL_WRITE = 1,
	FN_SSL_READ_EX = 2,
	FN_SSL_WRITE_EX = 3,
	FN_SSL_WRITE_EX2 = 4,
	FN_SSL_DO_HANDSHAKE = 5,
	FN_SSL_CONNECT = 6,
	FN_SSL_ACCEPT = 7,
	FN_SSL_NEW = 8,
	FN_SSL_CLEAR = 9,
	FN_SSL_SENDFILE = 10,
	FN_COUNT = 16,
};

enum ssl_flags {
	SSL_WRITTEN = 1,     /* direction: written by the process; else read */
	SSL_JOINED_LATE = 2, /* the connection was first seen after it had begun */
	SSL_READ_FAULT = 4,  /* the payload could not be read from the process */
	SSL_SPLIT = 8,	     /* the call moved more bytes than this record stands for */
};

/* What all records of a connection begin with. */
struct ssl_common {
	struct record_header header;
	__u64 ssl;	     /* SSL*, an address in the process */
	__u64 generation_ns; /* when this use of that address was first seen: makes it unique */
	__u64 latency_ns;    /* time spent in the call */
	__u16 function;	     /* enum ssl_function */
	__u16 flags;	     /* enum ssl_flags */
	__u32 library;	     /* attach cookie: index of the library */
};

struct ssl_data_record {
	struct ssl_common common;
	__u64 offset;	    /* bytes of this connection and direction before this record */
	__u64 call_bytes;   /* bytes that the whole call moved */
	__u64 call_offset;  /* bytes of the call before this record */
	__u32 index;	    /* records of this connection and direction before this one */
	__u32 data_bytes;   /* bytes that this record stands for */
	__u8 payload[];	    /* as many; nothing of use after a fault */
};

struct ssl_handshake_record {
	struct ssl_common common;
	__s32 return_value;
	__u32 calls;	      /* handshake calls on this connection so far, this one included */
	__u64 handshake_ns;   /* since the first of them began */
};

/* Bytes that go from a file to the peer inside the kernel: seen, but not readable. */
struct ssl_sendfile_record {
	struct ssl_common common;
	__u64 offset;	   /* as in ssl_data_record */
	__u64 sent_bytes;
	__u64 file_offset;
	__s32 fd;
	__u32 index;
};

#endif
