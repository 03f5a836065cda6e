/*
 * calls KIND COUNT [FOLDER]: makes a system call so often, and prints the CPU time of each, nanoseconds:
 *
 *   getppid      nothing at all: what is left is what a call costs as such
 *   open         opens and closes FOLDER/file
 *   rename       renames FOLDER/file and back
 *   stat         a call on a file that is not traced
 *   kill         signal 0 to itself
 *   sendto       a datagram of 32 bytes to itself, over loopback
 *   connect      TCP over loopback: connects, accepts, closes both
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static char name[4096], other[4096];
static int here, waiting;
static struct sockaddr_in place = {.sin_family = AF_INET};

static void check(int failed, const char *what)
{
	if (failed) {
		perror(what);
		exit(111);
	}
}

static void one_getppid(void)
{
	syscall(SYS_getppid);
}

static void one_open(void)
{
	int fd = open(name, O_RDONLY);

	check(fd < 0 || close(fd), name);
}

static void one_rename(void)
{
	check(rename(name, other) || rename(other, name), name);
}

static void one_stat(void)
{
	struct stat status;

	check(stat(name, &status), name);
}

static void one_kill(void)
{
	check(kill(getpid(), 0), "kill");
}

static void one_sendto(void)
{
	char data[32] = "";

	check(sendto(here, data, sizeof(data), 0, (void *)&place, sizeof(place)) != sizeof(data), "sendto");
	check(recv(here, data, sizeof(data), 0) != sizeof(data), "recv");
}

static void one_connect(void)
{
	int to = socket(AF_INET, SOCK_STREAM, 0), from;
	struct linger linger = {1, 0}; /* or the ports run out */

	check(connect(to, (void *)&place, sizeof(place)), "connect");
	from = accept(waiting, NULL, NULL);
	check(from < 0, "accept");
	setsockopt(to, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
	check(close(to) || close(from), "close");
}

static const struct {
	const char *kind;
	void (*run)(void);
} kinds[] = {
	{"getppid", one_getppid}, {"open", one_open},	  {"rename", one_rename},   {"stat", one_stat},
	{"kill", one_kill},	  {"sendto", one_sendto}, {"connect", one_connect},
};

static long long cpu_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return now.tv_sec * 1000000000LL + now.tv_nsec;
}

int main(int argc, char **argv)
{
	void (*run)(void) = NULL;
	socklen_t size = sizeof(place);
	long count = argc > 2 ? atol(argv[2]) : 0;
	long long began;

	for (size_t i = 0; argc > 2 && i < sizeof(kinds) / sizeof(kinds[0]); i++)
		if (!strcmp(argv[1], kinds[i].kind))
			run = kinds[i].run;
	if (!run || count < 1) {
		fprintf(stderr, "usage: calls KIND COUNT [FOLDER]\n");
		return 2;
	}
	snprintf(name, sizeof(name), "%s/file", argc > 3 ? argv[3] : ".");
	snprintf(other, sizeof(other), "%s/other", argc > 3 ? argv[3] : ".");
	place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	here = socket(AF_INET, !strcmp(argv[1], "connect") ? SOCK_STREAM : SOCK_DGRAM, 0);
	check(bind(here, (void *)&place, size) || getsockname(here, (void *)&place, &size), "bind");
	if (!strcmp(argv[1], "connect"))
		check(listen(waiting = here, 8), "listen");
	for (long i = 0; i < count / 10 + 1; i++)
		run(); /* warm */
	began = cpu_ns();
	for (long i = 0; i < count; i++)
		run();
	printf("%.1f\n", (double)(cpu_ns() - began) / count);
	return 0;
}
