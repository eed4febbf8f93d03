/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * All that the agent must know of an architecture: how a system call is made
 * with nothing of libc in between, so that its result is the kernel's own.
 */
#ifndef LAB_ARCH_H
#define LAB_ARCH_H

/*
 * Where nothing is ever mapped: above mmap_min_addr's usual 64 KiB, so that a
 * kernel that follows it is not reported as a NULL dereference, and far below all
 * that the kernel would choose. A hole in the arena would not do: another thread's
 * next mapping may fill it. Where programs begin at 64 KiB, it is below them.
 */
#if defined(__riscv) || defined(__arm__)
#define ARCH_NOWHERE 0xc000ul
#else
#define ARCH_NOWHERE 0x20000ul
#endif

#define RAW_ARGS long a, long b, long c, long d, long e, long f

#if defined(__x86_64__)

static inline long raw6(long nr, RAW_ARGS)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* The only one where the kernel insists on a restorer of ours. */
#define ARCH_RESTORER 0x04000000
#define ARCH_RESTORER_CODE \
	__asm__(".text\n.type lab_restorer,@function\nlab_restorer:\n" \
		"	mov $15,%eax\n	syscall\n.size lab_restorer,.-lab_restorer\n")

#elif defined(__i386__)

static inline long raw6(long nr, RAW_ARGS)
{
	long ret;

	/* ebp may be the frame pointer, which no asm may name as clobbered. */
	__asm__ volatile("pushl %7\n	pushl %%ebp\n	movl 4(%%esp), %%ebp\n"
			 "	int $0x80\n	popl %%ebp\n	addl $4, %%esp"
			 : "=a"(ret)
			 : "a"(nr), "b"(a), "c"(b), "d"(c), "S"(d), "D"(e), "g"(f)
			 : "memory", "cc");
	return ret;
}

#elif defined(__aarch64__)

static inline long raw6(long nr, RAW_ARGS)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc 0"
			 : "+r"(x0)
			 : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			 : "memory", "cc");
	return x0;
}

#elif defined(__riscv)

#define ARCH_SIGACTION_WITHOUT_RESTORER

static inline long raw6(long nr, RAW_ARGS)
{
	register long a7 __asm__("a7") = nr;
	register long a0 __asm__("a0") = a;
	register long a1 __asm__("a1") = b;
	register long a2 __asm__("a2") = c;
	register long a3 __asm__("a3") = d;
	register long a4 __asm__("a4") = e;
	register long a5 __asm__("a5") = f;

	__asm__ volatile("ecall"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
			 : "memory");
	return a0;
}

#elif defined(__loongarch64)

#define ARCH_SIGACTION_WITHOUT_RESTORER
/* QEMU 10.0 restores the registers of a CPU's timer, but does not set it. */
#define ARCH_TIMERS_ARE_LOST

static inline long raw6(long nr, RAW_ARGS)
{
	register long a7 __asm__("$a7") = nr;
	register long a0 __asm__("$a0") = a;
	register long a1 __asm__("$a1") = b;
	register long a2 __asm__("$a2") = c;
	register long a3 __asm__("$a3") = d;
	register long a4 __asm__("$a4") = e;
	register long a5 __asm__("$a5") = f;

	__asm__ volatile("syscall 0"
			 : "+r"(a0)
			 : "r"(a7), "r"(a1), "r"(a2), "r"(a3), "r"(a4), "r"(a5)
			 : "$t0", "$t1", "$t2", "$t3", "$t4", "$t5", "$t6", "$t7", "$t8", "memory");
	return a0;
}

#elif defined(__s390x__)

#define ARCH_CLONE_STACK_FIRST
#define ARCH_MMAP_TAKES_A_STRUCT

static inline long raw6(long nr, RAW_ARGS)
{
	register long r1 __asm__("1") = nr;
	register long r2 __asm__("2") = a;
	register long r3 __asm__("3") = b;
	register long r4 __asm__("4") = c;
	register long r5 __asm__("5") = d;
	register long r6 __asm__("6") = e;
	register long r7 __asm__("7") = f;

	__asm__ volatile("svc 0"
			 : "+d"(r2)
			 : "d"(r1), "d"(r3), "d"(r4), "d"(r5), "d"(r6), "d"(r7)
			 : "memory", "cc");
	return r2;
}

#elif defined(__arm__)

/* /proc/PID/syscall has 0 before 5.15 (4e57a4ddf6b0): the kernel kept a call's number for tracers alone. */
#define ARCH_CALL_MAY_BE_UNKNOWN

static inline long raw6(long nr, RAW_ARGS)
{
	register long r0 __asm__("r0") = a;
	register long r1 __asm__("r1") = b;
	register long r2 __asm__("r2") = c;
	register long r3 __asm__("r3") = d;
	register long r4 __asm__("r4") = e;
	register long r5 __asm__("r5") = f;

	/* r7 may be the frame pointer, which no asm may name as clobbered. */
	__asm__ volatile("push {r7}\n	mov r7, %1\n	swi 0\n	pop {r7}"
			 : "+r"(r0)
			 : "r"(nr), "r"(r1), "r"(r2), "r"(r3), "r"(r4), "r"(r5)
			 : "memory", "cc");
	return r0;
}

#elif defined(__powerpc64__)

static inline long raw6(long nr, RAW_ARGS)
{
	register long r0 __asm__("r0") = nr;
	register long r3 __asm__("r3") = a;
	register long r4 __asm__("r4") = b;
	register long r5 __asm__("r5") = c;
	register long r6 __asm__("r6") = d;
	register long r7 __asm__("r7") = e;
	register long r8 __asm__("r8") = f;

	/* Failure is told by the summary overflow bit, the number is positive. */
	__asm__ volatile("sc\n	bns+ 1f\n	neg %1, %1\n1:"
			 : "+r"(r0), "+r"(r3), "+r"(r4), "+r"(r5), "+r"(r6), "+r"(r7), "+r"(r8)
			 :
			 : "memory", "cr0", "ctr", "xer", "r9", "r10", "r11", "r12");
	return r3;
}

#else
#error "say here how this architecture makes a system call"
#endif

#define raw0(nr) raw6(nr, 0, 0, 0, 0, 0, 0)
#define raw1(nr, a) raw6(nr, (long)(a), 0, 0, 0, 0, 0)
#define raw2(nr, a, b) raw6(nr, (long)(a), (long)(b), 0, 0, 0, 0)
#define raw3(nr, a, b, c) raw6(nr, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define raw4(nr, a, b, c, d) raw6(nr, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)
#define raw5(nr, a, b, c, d, e) \
	raw6(nr, (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), 0)

/* A fork: same stack, its own copy of memory; parent_tid is written before the child runs. */
static inline long raw_fork(unsigned long flags, void *parent_tid)
{
#ifdef ARCH_CLONE_STACK_FIRST
	return raw3(__NR_clone, 0, flags, parent_tid);
#else
	return raw3(__NR_clone, flags, 0, parent_tid);
#endif
}

/* Anonymous memory of our own, wherever the kernel likes. */
static inline long raw_mmap(size_t size, int prot, int flags)
{
#if defined(ARCH_MMAP_TAKES_A_STRUCT)
	const long arguments[] = { 0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0 };

	return raw1(__NR_mmap, arguments);
#elif defined(__NR_mmap2)
	return raw6(__NR_mmap2, 0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
#else
	return raw6(__NR_mmap, 0, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
#endif
}

/* What was written is code from now on. Only for powerpc the compiler thinks that nothing is to be done. */
static inline void raw_clear_cache(uint8_t *begin, uint8_t *end)
{
#if defined(__powerpc64__)
	uint8_t *at;

	for (at = begin; at < end; at += 32)
		__asm__ volatile("dcbst 0, %0" : : "r"(at) : "memory");
	__asm__ volatile("sync" : : : "memory");
	for (at = begin; at < end; at += 32)
		__asm__ volatile("icbi 0, %0" : : "r"(at) : "memory");
	__asm__ volatile("sync\n	isync" : : : "memory");
#else
	__builtin___clear_cache((char *)begin, (char *)end);
#endif
}

/* Where the calls of the plain names still take ids of 16 bits. */
#ifdef __NR_setresuid32
#define RAW_SETGROUPS __NR_setgroups32
#define RAW_SETRESGID __NR_setresgid32
#define RAW_SETRESUID __NR_setresuid32
#else
#define RAW_SETGROUPS __NR_setgroups
#define RAW_SETRESGID __NR_setresgid
#define RAW_SETRESUID __NR_setresuid
#endif

/* What rt_sigaction takes: not libc's structure. */
struct raw_sigaction {
	void (*handler)(int signo, siginfo_t *info, void *context);
	unsigned long flags;
#ifndef ARCH_SIGACTION_WITHOUT_RESTORER
	void (*restorer)(void);
#endif
	unsigned long mask[8 / sizeof(long)];
};

#endif
