/*
 * A 64-bit program that makes 32-bit calls (int 0x80): opens a file, makes and removes a directory, and sends
 * itself signal 0, ROUNDS times; and getpid, which nobody counts. Usage: int80 FILE DIRECTORY ROUNDS
 */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define NR_OPEN 5
#define NR_GETPID 20
#define NR_KILL 37
#define NR_MKDIR 39
#define NR_RMDIR 40

static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80"
			 : "=a"(result)
			 : "a"(number), "b"(a), "c"(b), "d"(c)
			 : "memory", "r8", "r9", "r10", "r11");
	return result;
}

int main(int argc, char **argv)
{
	/* such a call has only the lower half of an address */
	char *low = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);

	if (argc != 4 || low == MAP_FAILED)
		return 2;
	char *file = strcpy(low, argv[1]), *folder = strcpy(low + 4096, argv[2]);

	for (int i = atoi(argv[3]); i > 0; i--) {
		long fd = call(NR_OPEN, (long)file, 0, 0);

		if (fd < 0 || call(NR_MKDIR, (long)folder, 0700, 0) || call(NR_RMDIR, (long)folder, 0, 0) ||
		    call(NR_KILL, call(NR_GETPID, 0, 0, 0), 0, 0))
			return 1;
		close(fd);
	}
	return 0;
}
