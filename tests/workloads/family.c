/*
 * family: a tree of processes, ten generations deep, and what each of them is.
 *
 *   family tree FILE       forks with branches, setsid, orphans and execs from a second thread; for each process
 *                          one JSON line in FILE: {"pid": N, "parent": PARENT WHEN FORKED, "role": NAME}
 *   family thread_exec     a thread that is not the first becomes "family leaf"
 *   family leader_first    the first thread ends at once, another one 200 ms later with status 7
 *   family leaf            nothing
 *   family memfd           becomes "/proc/self/exe"'s copy in a memfd by execveat ("family leaf")
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define GENERATIONS 10

static int truth = -1;

static void die(const char *what)
{
	perror(what);
	exit(111);
}

/* One write to a file that was opened to append: whole lines, whoever else writes. */
static void tell(int pid, int parent, const char *role)
{
	char line[128];
	int length = snprintf(line, sizeof(line), "{\"pid\": %d, \"parent\": %d, \"role\": \"%s\"}\n", pid, parent,
			      role);

	if (write(truth, line, length) != length)
		die("write");
}

static int make_child(const char *role)
{
	int me = getpid(), pid = fork();

	if (pid < 0)
		die("fork");
	if (pid)
		tell(pid, me, role);
	return pid;
}

static void *exec_leaf(void *unused)
{
	(void)unused;
	execl("/proc/self/exe", "family", "leaf", "from-thread", (char *)NULL);
	die("exec");
	return NULL;
}

static void thread_exec(void)
{
	pthread_t thread;

	if (pthread_create(&thread, NULL, exec_leaf, NULL))
		die("pthread_create");
	pause();
}

/* A child that makes an orphan and ends before it: the orphan gets another parent while it lives. */
static void orphan(void)
{
	int ends[2];

	if (pipe(ends))
		die("pipe");
	if (!make_child("middle")) {
		if (!make_child("orphan")) {
			char byte;

			close(ends[1]);
			if (read(ends[0], &byte, 1) != 0) /* until the middle one and the root's child have ended */
				die("read");
			if (!make_child("orphans_child"))
				_exit(0);
			wait(NULL);
			_exit(0);
		}
		_exit(0);
	}
	wait(NULL);
	close(ends[1]);
	close(ends[0]);
}

static void generation(int depth)
{
	int branches = depth % 4 == 1 ? 3 : 1; /* three at the generations 1, 5 and 9 */

	if (depth == GENERATIONS) {
		if (!make_child("exec_leaf")) {
			execl("/proc/self/exe", "family", "leaf", (char *)NULL);
			die("exec");
		}
		if (!make_child("thread_exec"))
			thread_exec();
		while (wait(NULL) > 0)
			;
		return;
	}
	for (int i = 0; i < branches; i++) {
		if (!make_child(depth == 3 ? "session" : "branch")) {
			if (depth == 3 && setsid() < 0)
				die("setsid");
			generation(depth + 1);
			if (depth == 6)
				orphan();
			_exit(0);
		}
	}
	while (wait(NULL) > 0)
		;
}

static void *end_late(void *unused)
{
	(void)unused;
	usleep(200000);
	syscall(SYS_exit_group, 7);
	return NULL;
}

static void memfd(void)
{
	int from = open("/proc/self/exe", O_RDONLY), to = memfd_create("leaf", 0);
	char *arguments[] = {"family", "leaf", "from-memfd", NULL}, *environment[] = {NULL};
	struct stat info;

	if (from < 0 || to < 0 || fstat(from, &info) || sendfile(to, from, NULL, info.st_size) != info.st_size)
		die("memfd");
	syscall(SYS_execveat, to, "", arguments, environment, AT_EMPTY_PATH);
	die("execveat");
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	pthread_t thread;

	if (!strcmp(mode, "leaf"))
		return 0;
	if (!strcmp(mode, "thread_exec"))
		thread_exec();
	if (!strcmp(mode, "memfd"))
		memfd();
	if (!strcmp(mode, "leader_first")) {
		if (pthread_create(&thread, NULL, end_late, NULL))
			die("pthread_create");
		syscall(SYS_exit, 3); /* this thread only */
	}
	if (!strcmp(mode, "tree") && argc == 3) {
		truth = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
		if (truth < 0)
			die(argv[2]);
		tell(getpid(), getppid(), "root");
		generation(1);
		usleep(200000); /* the orphans are nobody's here, but they end soon */
		return 0;
	}
	fprintf(stderr, "usage: family tree FILE | thread_exec | leader_first | leaf | memfd\n");
	return 2;
}
