/*
 * A 32-bit program without libc (gcc -m32 -nostdlib -static): opens its first argument twice, by open and by
 * openat; makes a symbolic link named by its second, reads and removes it. Exits with 7, or 1 if something
 * failed. Of its calls some have numbers that are those of other calls on files in 64-bit programs.
 */
#define NR_EXIT 1
#define NR_OPEN 5
#define NR_UNLINK 10
#define NR_SYMLINK 83  /* mkdir */
#define NR_READLINK 85 /* creat */
#define NR_OPENAT 295
#define AT_FDCWD -100

static long call(long number, long a, long b, long c)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "a"(number), "b"(a), "c"(b), "d"(c) : "memory");
	return result;
}

/* The stack as the kernel gives it: how many arguments, the program's name, the arguments. */
__attribute__((noreturn, used)) static void run(long *stack)
{
	long path = stack[2], link = stack[3];
	char text[16];
	int failed = stack[0] != 3;

	failed |= call(NR_OPEN, path, 0, 0) < 0;
	failed |= call(NR_OPENAT, AT_FDCWD, path, 0) < 0;
	failed |= call(NR_SYMLINK, path, link, 0) != 0;
	failed |= call(NR_READLINK, link, (long)text, sizeof(text)) <= 0;
	failed |= call(NR_UNLINK, link, 0, 0) != 0;
	call(NR_EXIT, failed ? 1 : 7, 0, 0);
	for (;;)
		;
}

__asm__(".globl _start\n_start:\n\tmov %esp, %eax\n\tand $-16, %esp\n\tsub $12, %esp\n\tpush %eax\n\tcall run\n");
