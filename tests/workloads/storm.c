/*
 * storm PARENTS COUNT [--mixed] --out FILE
 *
 * PARENTS processes fork and exec COUNT / PARENTS times each, one child after another, and wait for it. What
 * they know of each child goes into FILE as JSON lines, at the end, in the order of the workers:
 *
 *   {"parent": PID, "pid": PID, "worker": N, "index": N, "status": WAIT STATUS}
 *
 * A child runs "true wW-I" with up to six further arguments (storm_arguments), by --mixed this program itself
 * as "storm-child wW-I MODE NUMBER", which exits with a number or dies by a signal.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXTRA 6

struct child {
	int pid, status;
};

static const char *const extras[EXTRA] = {
	"", "two\nlines", "\xff\xfe not utf-8 \x80", "tab\tand \"quotes\" and \\", "h\xc3\xa4", "",
};

static void die(const char *what)
{
	perror(what);
	exit(111);
}

static void child_mixed(const char *mode, const char *number)
{
	int value = atoi(number);
	volatile int *volatile nowhere = NULL;

	prctl(PR_SET_DUMPABLE, 0); /* nobody wants the cores */
	if (!strcmp(mode, "exit"))
		_exit(value);
	if (!strcmp(mode, "wait")) /* for the parent's SIGKILL */
		for (;;)
			pause();
	if (!strcmp(mode, "fault"))
		*nowhere = value;
	if (!strcmp(mode, "abort"))
		abort();
	if (!strcmp(mode, "term"))
		raise(SIGTERM);
	_exit(112);
}

static void run_plain(const char *name, int index)
{
	const char *arguments[3 + EXTRA] = {"true", name};

	for (int i = 0; i < index % (EXTRA + 1); i++)
		arguments[2 + i] = extras[i];
	execv("/bin/true", (char *const *)arguments);
	_exit(113);
}

static void run_mixed(const char *self, const char *name, int index)
{
	static const char *const signals[] = {"wait", "fault", "term", "abort"};
	char number[16];
	const char *mode = index % 4 == 3 ? signals[index / 4 % 4] : "exit";

	snprintf(number, sizeof(number), "%d", index % 256);
	execl(self, "storm-child", name, mode, number, (char *)NULL);
	_exit(113);
}

static void work(const char *self, int worker, int count, int mixed, int output)
{
	struct child *children = calloc(count, sizeof(*children));
	FILE *file = fdopen(output, "w");

	if (!children || !file)
		die("storm");
	for (int i = 0; i < count; i++) {
		char name[48];
		int pid;

		snprintf(name, sizeof(name), "w%d-%d", worker, i);
		pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid) {
			if (mixed)
				run_mixed(self, name, i);
			else
				run_plain(name, i);
		}
		if (mixed && i % 4 == 3 && i / 4 % 4 == 0) {
			usleep(20000); /* it has to become the other program first */
			if (kill(pid, SIGKILL))
				die("kill");
		}
		children[i].pid = pid;
		if (waitpid(pid, &children[i].status, 0) != pid)
			die("waitpid");
	}
	for (int i = 0; i < count; i++)
		fprintf(file, "{\"parent\": %d, \"pid\": %d, \"worker\": %d, \"index\": %d, \"status\": %d}\n",
			getpid(), children[i].pid, worker, i, children[i].status);
	if (fclose(file))
		die("write");
	_exit(0);
}

int main(int argc, char **argv)
{
	const char *path = NULL;
	int mixed = 0, failed = 0, parents, count;
	FILE *output;

	if (argc == 4 && !strcmp(argv[0], "storm-child"))
		child_mixed(argv[2], argv[3]);
	for (int i = 3; i < argc; i++) {
		if (!strcmp(argv[i], "--mixed"))
			mixed = 1;
		else if (!strcmp(argv[i], "--out") && i + 1 < argc)
			path = argv[++i];
	}
	if (argc < 5 || !path || (parents = atoi(argv[1])) < 1 || parents > 64 || (count = atoi(argv[2])) < 1) {
		fprintf(stderr, "usage: storm PARENTS COUNT [--mixed] --out FILE\n");
		return 2;
	}
	FILE *parts[64];
	for (int worker = 0; worker < parents; worker++) {
		int pid;

		parts[worker] = tmpfile();
		if (!parts[worker])
			die("tmpfile");
		pid = fork();
		if (pid < 0)
			die("fork");
		if (!pid)
			work("/proc/self/exe", worker, count / parents, mixed, fileno(parts[worker]));
	}
	for (int worker = 0; worker < parents; worker++) {
		int status;

		if (wait(&status) < 0 || status)
			failed = 1;
	}
	output = fopen(path, "w");
	if (!output)
		die(path);
	for (int worker = 0; worker < parents; worker++) {
		char buffer[65536];
		size_t got;

		rewind(parts[worker]);
		while ((got = fread(buffer, 1, sizeof(buffer), parts[worker])))
			fwrite(buffer, 1, got, output);
	}
	if (fclose(output))
		die(path);
	return failed;
}
