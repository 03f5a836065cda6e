/*
 * A 32-bit program without libc (gcc -m32 -nostdlib -static): opens /etc/passwd twice, by open and by openat,
 * makes and removes a folder, and exits with 7; with 1 if the files could not be opened.
 */
#define NR_EXIT 1
#define NR_OPEN 5
#define NR_MKDIR 39
#define NR_RMDIR 40
#define NR_OPENAT 295
#define AT_FDCWD -100

static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

void _start(void)
{
	static const char path[] = "/etc/passwd", folder[] = "compat-folder";
	long one = call(NR_OPEN, (long)path, 0, 0);
	long two = call(NR_OPENAT, AT_FDCWD, (long)path, 0);
	long made = call(NR_MKDIR, (long)folder, 0700, 0);
	long removed = call(NR_RMDIR, (long)folder, 0, 0);

	call(NR_EXIT, one < 0 || two < 0 || made || removed ? 1 : 7, 0, 0);
	for (;;)
		;
}
