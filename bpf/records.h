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
	RECORD_FORK = 5,
	RECORD_EXEC = 6,
	RECORD_EXEC_ARGS = 7,
	RECORD_EXIT = 8,
	RECORD_SIGNAL = 9,
	RECORD_SHELL_LINE = 10,
	RECORD_FILE = 11,
	RECORD_FILE_CLOSE = 12,
	RECORD_NET = 13,
	RECORD_DNS = 14, /* only to count what is lost: a RECORD_NET that is one */
	RECORD_PATHS = 15,
	RECORD_SSL_CLOSE = 16,
	RECORD_TLS_SOCKET = 17,
	RECORD_SSL_SOCKET = 18,
	RECORD_SOCKET_OVER = 19,
	RECORD_SOCKET_TALKS = 20,
	LOST_CALLS = 64,	 /* for files and sockets the system call is counted */
	LOST_KINDS = 128,
};

/* In front of every record of every program. */
struct record_header {
	__u32 kind;
	__u32 tgid;
	__u64 time_ns;	/* CLOCK_BOOTTIME */
	__u64 start_ns; /* boot time at which the process started: with tgid, its identity */
	__u32 tid;
	__u32 uid; /* real user id */
};

enum process_flags {
	PROCESS_EXE_TRUNCATED = 1,
	PROCESS_CWD_TRUNCATED = 2,
	PROCESS_EXE_DELETED = 4,
	PROCESS_EXE_ANONYMOUS = 8, /* its path is only a name */
	PROCESS_COMPAT = 16,	   /* 32-bit */
};

/*
 * RECORD_PROCESS: sent before the first other record of a process that nothing else has told of.
 * RECORD_EXEC: a process became another program; its arguments come before, in RECORD_EXEC_ARGS.
 */
struct process_record {
	struct record_header header;
	__u64 parent_start_ns;
	__u64 exec_count; /* task_struct.self_exec_id */
	__u64 cgroup_id;
	__u32 ppid;
	__u32 gid;
	__u32 namespace_pid;
	__u32 flags;
	__u8 comm[COMM_BYTES]; /* of the thread group's leader */
	__u32 args_bytes;
	__u32 exe_bytes;
	__u32 cwd_bytes;
	__u32 text_bytes;
	__u8 text[]; /* exe and cwd as path components, the last one first, each ended by NUL; file name */
};

/* A part of the arguments of the exec that follows. */
struct exec_args_record {
	struct record_header header;
	__u64 exec_count; /* of which exec: that of process_record */
	__u32 offset;
	__u32 data_bytes;
	__u8 payload[];
};

struct fork_record {
	struct record_header header; /* of the process that forked */
	__u64 child_start_ns;
	__u64 parent_start_ns; /* CLONE_PARENT makes another one the parent */
	__u32 child_tgid;
	__u32 ppid;
};

struct exit_record {
	struct record_header header;
	__u64 user_ns;	  /* as the kernel counted ticks … */
	__u64 system_ns;
	__u64 runtime_ns; /* … and as the scheduler measured their sum */
	__u64 max_rss_pages;
	__u32 status; /* as for waitpid() */
	__u32 reserved;
};

struct signal_record {
	struct record_header header;
	__s32 target;
	__s32 signal;
	__s32 result;
	__u32 call; /* enum call */
};

struct shell_line_record {
	struct record_header header;
	__u32 flags; /* 1: truncated */
	__u32 data_bytes;
	__u8 payload[];
};

/* System calls, under the same number on every architecture. */
enum call {
	CALL_NONE = 0,
	CALL_OPEN = 1,
	CALL_OPENAT = 2,
	CALL_OPENAT2 = 3,
	CALL_CREAT = 4,
	CALL_UNLINK = 5,
	CALL_UNLINKAT = 6,
	CALL_RENAME = 7,
	CALL_RENAMEAT = 8,
	CALL_RENAMEAT2 = 9,
	CALL_MKDIR = 10,
	CALL_MKDIRAT = 11,
	CALL_RMDIR = 12,
	CALL_LINK = 13,
	CALL_LINKAT = 14,
	CALL_SYMLINK = 15,
	CALL_SYMLINKAT = 16,
	CALL_CHMOD = 17,
	CALL_FCHMOD = 18,
	CALL_FCHMODAT = 19,
	CALL_FCHMODAT2 = 20,
	CALL_CHOWN = 21,
	CALL_FCHOWN = 22,
	CALL_LCHOWN = 23,
	CALL_FCHOWNAT = 24,
	CALL_TRUNCATE = 25,
	CALL_FTRUNCATE = 26,
	CALL_CONNECT = 30,
	CALL_ACCEPT = 31,
	CALL_ACCEPT4 = 32,
	CALL_BIND = 33,
	CALL_LISTEN = 34,
	CALL_SENDTO = 35,
	CALL_SENDMSG = 36,
	CALL_SENDMMSG = 37,
	CALL_CLOSE = 38,
	CALL_KILL = 50,
	CALL_TKILL = 51,
	CALL_TGKILL = 52,
	CALL_PIDFD_SEND_SIGNAL = 53,
	CALL_RT_SIGQUEUEINFO = 54,
	CALL_RT_TGSIGQUEUEINFO = 55,
	CALL_READ = 60, /* and whatever else reads */
	CALL_WRITE = 61,
};

enum file_flags {
	FILE_RESOLVED = 1,   /* the path is that of the opened file */
	FILE_ANONYMOUS = 2,  /* it is only a name */
	FILE_TRUNCATED = 4,
	FILE_UNREADABLE = 8, /* a name could not be read from the process */
	FILE_DIR_KNOWN = 16,
	FILE_NEW_DIR_KNOWN = 32,
	FILE_CUT = 64, /* the beginning of a path is missing: it is too deep */
	FILE_NEW_CUT = 128,
};

/* A call on a file by name or descriptor, when it returned. */
struct file_record {
	struct record_header header;
	__u64 resolved_ns; /* time of the paths_record that came before it and belongs to it; 0: none */
	__u64 flags;  /* of open, rename; the new length of truncate */
	__u32 mode;   /* permission bits; uid of chown */
	__u32 gid;
	__s32 result;
	__s32 fd;
	__u16 call;	  /* enum call */
	__u16 file_flags; /* enum file_flags */
	__u32 name_bytes;
	__u32 dir_bytes;
	__u32 new_name_bytes;
	__u32 new_dir_bytes;
	__u32 text_bytes;
	__u8 text[]; /* name as given, then the directory that it is relative to; the same for the new name */
};

/* What the kernel found under the names of a call on files, while it runs; the call's own record follows. */
struct paths_record {
	struct record_header header;
	__u32 file_flags; /* FILE_CUT, FILE_NEW_CUT */
	__u32 path_bytes;
	__u32 new_path_bytes;
	__u32 text_bytes;
	__u8 text[]; /* path components, the last one first; the same for the new path */
};

struct file_close_record {
	struct record_header header;
	__u64 bytes_read;
	__u64 bytes_written;
	__s32 fd;
	__u32 file_flags;
	__u32 reserved;
	__u32 text_bytes;
	__u8 text[]; /* path components, the last one first */
};

#define ADDRESS_BYTES 110 /* sun_path is the longest: 108 */

enum net_flags {
	NET_LATE = 1,	      /* the outcome of a connect that was in progress */
	NET_BYTES_KNOWN = 2,
};

struct net_record {
	struct record_header header;
	__u64 bytes_sent;
	__u64 bytes_received;
	__s32 result;
	__s32 fd;
	__u16 call; /* enum call */
	__u16 flags;
	__u16 family;
	__u16 type;
	__u16 protocol;
	__u16 local_port;
	__u16 remote_port;
	__u16 local_bytes;  /* of local_address: 0 if there is none */
	__u16 remote_bytes;
	__u16 reserved;
	__u32 data_bytes; /* sent by this call */
	__u32 payload_bytes;
	__u8 local_address[ADDRESS_BYTES];
	__u8 remote_address[ADDRESS_BYTES];
	__u8 payload[]; /* a DNS question */
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
	FN_SSL_FREE = 11,
	FN_GNUTLS_RECORD_SEND = 16,
	FN_GNUTLS_RECORD_SEND2 = 17,
	FN_GNUTLS_RECORD_SEND_EARLY_DATA = 18,
	FN_GNUTLS_RECORD_RECV = 19,
	FN_GNUTLS_RECORD_RECV_SEQ = 20,
	FN_GNUTLS_RECORD_RECV_EARLY_DATA = 21,
	FN_GNUTLS_RECORD_RECV_PACKET = 22,
	FN_GNUTLS_HANDSHAKE = 23,
	FN_GNUTLS_INIT = 24,
	FN_GNUTLS_DEINIT = 25,
	FN_GNUTLS_RECORD_UNCORK = 26,
	FN_PR_READ = 28,
	FN_PR_WRITE = 29,
	FN_PR_RECV = 30,
	FN_PR_SEND = 31,
	FN_PR_CLOSE = 32,
	FN_SSL_IMPORTFD = 33,
	FN_GO_TLS_WRITE = 36,
	FN_GO_TLS_READ = 37,
	FN_GO_TLS_READ_RETURN = 38,
	FN_GO_TLS_CLOSE = 39,
	FN_AEAD_SEAL = 44,
	FN_AEAD_SEAL_SCATTER = 45,
	FN_AEAD_OPEN = 46,
	FN_AEAD_OPEN_GATHER = 47,
	FN_RING_SEAL = 48,
	FN_RING_OPEN = 49,
	FN_COUNT = 64,
};

enum ssl_flags {
	SSL_WRITTEN = 1,     /* direction: written by the process; else read */
	SSL_JOINED_LATE = 2, /* the connection was first seen after it had begun */
	SSL_READ_FAULT = 4,  /* the payload could not be read from the process */
	SSL_SPLIT = 8,	     /* the call moved more bytes than this record stands for */
};

#define LIBRARY_ENDLESS (1U << 31) /* no probe tells that a connection is over: its socket does */

/* What all records of a connection begin with. */
struct ssl_common {
	struct record_header header;
	__u64 ssl;	     /* SSL*, an address in the process */
	__u64 generation_ns; /* when this use of that address was first seen: makes it unique */
	__u64 latency_ns;    /* time spent in the call */
	__u16 function;	     /* enum ssl_function */
	__u16 flags;	     /* enum ssl_flags */
	__u32 library;	     /* attach cookie: index of the library; LIBRARY_ENDLESS */
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

/* A connection is over; what it carried, records that were lost included. */
struct ssl_close_record {
	struct ssl_common common;
	__u64 read_bytes;
	__u64 written_bytes;
	__u32 read_records;
	__u32 written_records;
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

/* A socket that may carry TLS: a ClientHello was sent through it, it goes to port 443, or a connection uses it. */
struct tls_socket_record {
	struct record_header header;
	__u64 socket;	 /* struct sock *: with socket_ns, its identity */
	__u64 socket_ns; /* when it was first seen */
	__s32 fd;	 /* -1: not known */
	__u16 family;
	__u16 protocol;
	__u16 local_port;
	__u16 remote_port;
	__u8 local_address[16];
	__u8 remote_address[16];
	__u32 data_bytes;
	__u8 payload[]; /* the beginning of the ClientHello, if there was one */
};

/*
 * RECORD_SOCKET_OVER: a socket that the reader knows is closed, on both sides. RECORD_SOCKET_TALKS: more has
 * been sent through it than a handshake sends.
 */
struct socket_over_record {
	struct record_header header; /* of the process that used it */
	__u64 socket;
	__u64 socket_ns;
};

/* A connection goes through this socket. */
struct ssl_socket_record {
	struct ssl_common common;
	__u64 socket;
	__u64 socket_ns;
	__u32 binding; /* enum binding of bpf/tls_state.h */
	__u32 reserved;
};

#endif
