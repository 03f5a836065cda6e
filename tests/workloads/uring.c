/*
 * uring FOLDER ROUNDS [sqpoll|async]
 *
 * By io_uring, one after another, ROUNDS times: creates FOLDER/made (IORING_OP_OPENAT), closes it (CLOSE),
 * renames it to FOLDER/moved (RENAMEAT) and removes that (UNLINKAT); and one UNLINKAT at the end that fails.
 * With sqpoll a thread of the kernel submits, with async one of its workers does the work. No other call of
 * this program names a file in FOLDER. The status is 0 if every result was the expected one.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define ENTRIES 8

struct ring {
	int fd;
	unsigned flags; /* of each request */
	unsigned enter;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask;
	struct io_uring_sqe *sqes;
	struct io_uring_cqe *cqes;
};

static void die(const char *what)
{
	perror(what);
	exit(111);
}

static char *map(int fd, size_t bytes, off_t what)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, what);

	if (at == MAP_FAILED)
		die("mmap");
	return at;
}

static void open_ring(struct ring *ring, const char *how)
{
	struct io_uring_params params = {0};
	char *sq, *cq;

	memset(ring, 0, sizeof(*ring));
	ring->enter = IORING_ENTER_GETEVENTS;
	if (!strcmp(how, "sqpoll")) {
		params.flags = IORING_SETUP_SQPOLL;
		params.sq_thread_idle = 1000;
		ring->enter |= IORING_ENTER_SQ_WAKEUP;
	} else if (!strcmp(how, "async")) {
		ring->flags = IOSQE_ASYNC;
	}
	ring->fd = syscall(__NR_io_uring_setup, ENTRIES, &params);
	if (ring->fd < 0)
		die("io_uring_setup");
	sq = map(ring->fd, params.sq_off.array + params.sq_entries * sizeof(unsigned), IORING_OFF_SQ_RING);
	cq = map(ring->fd, params.cq_off.cqes + params.cq_entries * sizeof(*ring->cqes), IORING_OFF_CQ_RING);
	ring->sqes = (void *)map(ring->fd, params.sq_entries * sizeof(*ring->sqes), IORING_OFF_SQES);
	ring->sq_tail = (void *)(sq + params.sq_off.tail);
	ring->sq_mask = (void *)(sq + params.sq_off.ring_mask);
	ring->sq_array = (void *)(sq + params.sq_off.array);
	ring->cq_head = (void *)(cq + params.cq_off.head);
	ring->cq_tail = (void *)(cq + params.cq_off.tail);
	ring->cq_mask = (void *)(cq + params.cq_off.ring_mask);
	ring->cqes = (void *)(cq + params.cq_off.cqes);
}

/* Submits a request and waits for its result. */
static int call(struct ring *ring, const struct io_uring_sqe *request)
{
	unsigned tail = *ring->sq_tail, head = *ring->cq_head, slot = tail & *ring->sq_mask;
	int result;

	ring->sqes[slot] = *request;
	ring->sqes[slot].flags = ring->flags;
	ring->sq_array[slot] = slot;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_SEQ_CST);
	if (syscall(__NR_io_uring_enter, ring->fd, 1, 1, ring->enter, NULL, 0) < 0)
		die("io_uring_enter");
	while (__atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE) == head)
		if (syscall(__NR_io_uring_enter, ring->fd, 0, 1, ring->enter, NULL, 0) < 0 && errno != EINTR)
			die("io_uring_enter");
	result = ring->cqes[head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	return result;
}

static void expect(const char *what, int result, int wanted)
{
	if (result == wanted)
		return;
	fprintf(stderr, "%s: %d\n", what, result);
	exit(112);
}

int main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : "";
	int rounds = argc > 2 ? atoi(argv[2]) : 0;
	char made[4096], moved[4096];
	struct ring ring;

	if (rounds < 1) {
		fprintf(stderr, "usage: uring FOLDER ROUNDS [sqpoll|async]\n");
		return 2;
	}
	snprintf(made, sizeof(made), "%s/made", folder);
	snprintf(moved, sizeof(moved), "%s/moved", folder);
	open_ring(&ring, argc > 3 ? argv[3] : "");
	for (int i = 0; i < rounds; i++) {
		struct io_uring_sqe make = {
			.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .addr = (uintptr_t)made, .len = 0600,
			.open_flags = O_CREAT | O_EXCL | O_RDWR,
		};
		struct io_uring_sqe close_it = {.opcode = IORING_OP_CLOSE};
		struct io_uring_sqe move = {
			.opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD, .addr = (uintptr_t)made,
			.len = (unsigned)AT_FDCWD, .addr2 = (uintptr_t)moved,
		};
		struct io_uring_sqe delete_it = {
			.opcode = IORING_OP_UNLINKAT, .fd = AT_FDCWD, .addr = (uintptr_t)moved,
		};
		int fd = call(&ring, &make);

		if (fd < 0)
			expect("openat", fd, 0);
		close_it.fd = fd;
		expect("close", call(&ring, &close_it), 0);
		expect("renameat", call(&ring, &move), 0);
		expect("unlinkat", call(&ring, &delete_it), 0);
		if (i == rounds - 1)
			expect("unlinkat", call(&ring, &delete_it), -ENOENT);
	}
	return 0;
}
