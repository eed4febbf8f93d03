/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The bytes between the host and the agent; lab/guest/layouts.py says the same in
 * Python, and tests/test_layouts.py compares the two: all numbers, names, structs.
 * Native byte order; everything is a multiple of 8 bytes long and lies where each
 * compiler would put it, so that a structure can be used where it lies.
 */
#ifndef LAB_WIRE_H
#define LAB_WIRE_H

#include <stdint.h>

#define PROTOCOL	6
#define MAGIC		0x43484c42u
#define MAX_FRAME	(32u << 20)
#define MAX_BUFFERS	1024
#define MAX_OPERATIONS	4096
#define MAX_ARGUMENTS	6
#define ACTORS		96
#define NONE		0xffffffffu

enum frame_type {
	FRAME_HELLO = 1,
	FRAME_QUIESCE,
	FRAME_SPAWN,
	FRAME_SUBMIT,
	FRAME_FINISH,
	FRAME_BLOCKED,
	FRAME_STAYS,
	FRAME_UPCALL,
	FRAME_REAP,
	FRAME_STATE,
	FRAME_TAINTED,
	/* between supervisor, actors and helpers only */
	FRAME_SETUP = 32,
	FRAME_THREAD,
	FRAME_SETUP_DONE,
	FRAME_REPORT,
	FRAME_CLAIM,
	/* to the host */
	FRAME_READY = 64,
	FRAME_MESSAGES,
	FRAME_EXIT,
	FRAME_DONE,
	FRAME_ANSWER,
	FRAME_ERROR,
};

struct frame {
	uint32_t magic;
	uint32_t type;
	uint32_t length;	/* of the payload that follows */
	uint32_t id;
	uint32_t life;		/* of the guest, between host and supervisor: a hello tells it */
	uint32_t reserved;
};

/* Programs */

struct submit {			/* then a program */
	uint32_t number;	/* whose it is */
	uint32_t reserved;
};

enum buffer_kind {
	BUFFER_PLAIN,
	BUFFER_UNMAPPED,
	BUFFER_READONLY,
	BUFFER_PARTIAL,
	BUFFER_CODE,		/* may be executed, not written */
	BUFFER_KEPT,		/* all of a program stay, until OP_LET_GO of one or their process's end */
};

enum op_code {
	OP_CALL = 1,
	OP_FETCH,
	OP_LOAD,
	OP_STORE,
	OP_SIGACTION,
	OP_SIGNALS,
	OP_BARRIER,
	OP_FORK,
	OP_SEND_FD,
	OP_RECEIVE_FD,
	OP_EXIT,
	OP_READ_FILE,
	OP_SETTLE,
	OP_BECOME,
	OP_INVOKE,
	OP_LOOP,
	OP_WANT,
	OP_PEEK,
	OP_POKE,
	OP_ADDRESS,
	OP_LET_GO,
	OP_NAMES,
};

enum argument_kind {
	ARGUMENT_NUMBER,
	ARGUMENT_BUFFER,	/* address of buffer index, plus value */
	ARGUMENT_RESULT,	/* result of call index, plus value */
};

enum trouble {
	TROUBLE_MALFORMED = 1,
	TROUBLE_MEMORY,
	TROUBLE_BARRIER,
	TROUBLE_REFUSED,
	TROUBLE_TOO_LARGE,
};

#define OWN_CALL	(1ull << 32)	/* the number is one of these */

enum own_call {			/* operations.c has their numbers */
	OWN_INIT_MODULE,
	OWN_DELETE_MODULE,
	OWN_OPENAT,
	OWN_LSEEK,
	OWN_WRITE,
	OWN_CLOSE,
	OWN_READ,
	OWN_EVENTFD2,
	OWN_SCHED_SETAFFINITY,
	OWN_UMOUNT2,
	OWN_UNLINKAT,
	OWN_GETDENTS64,
	OWN_MEMBARRIER,
};

enum signal_how {
	HOW_DEFAULT,
	HOW_IGNORE,
	HOW_RECORD,
};

struct program {
	uint32_t buffers;
	uint32_t pointers;
	uint32_t ops;
	uint32_t reserved;
};

struct buffer {
	uint32_t kind;
	uint32_t reserved;
	uint64_t size;
	uint64_t used;		/* bytes of data that follow, padded to 8 */
};

struct pointer {
	uint32_t where;
	uint32_t to;
	uint64_t offset;
	uint64_t to_offset;
};

struct op {
	uint32_t code;
	uint32_t length;	/* of the body that follows */
};

struct argument {
	uint32_t kind;
	uint32_t index;
	uint64_t value;
};

struct op_call {
	uint64_t nr;
	uint64_t times;
	int64_t low;
	int64_t high;
	struct argument args[];
};

struct op_invoke {		/* a call of what is code at the address */
	struct argument address;
	uint64_t times;
	int64_t low;
	int64_t high;
	struct argument args[];
};

/*
 * The operations that follow, again and again, until one does not come out as wanted:
 * a result outside its bounds, a fault, other bytes. Its result: how many of them
 * did in the last round, and how many rounds did.
 */
struct op_loop {
	uint32_t ops;
	uint32_t reserved;
	uint64_t times;
};

struct op_want {		/* its result: so many bytes are as wanted; completed is 1: all */
	struct argument address;
	uint32_t clip;		/* a call that must have given just this size, or NONE */
	uint32_t reserved;
	uint64_t size;
	uint8_t data[];
};

struct op_poke {		/* of 1, 2, 4 or 8 bytes */
	struct argument address;
	struct argument value;
	uint64_t size;
};

struct op_fetch {
	uint32_t buffer;
	uint32_t clip;
	uint64_t offset;
	uint64_t size;
};

struct op_access {		/* load, store; peek: of 1, 2, 4 or 8 bytes */
	struct argument address;
	uint64_t size;
	uint8_t data[];		/* of a store */
};

struct op_sigaction {
	uint32_t signum;
	uint32_t how;		/* enum signal_how */
	uint64_t flags;
};

struct op_barrier {
	uint32_t ident;
	uint32_t parties;
	uint64_t patience;	/* nanoseconds */
};

struct op_pair {		/* fork: child; receive_fd: ident; read_file, become: buffer */
	uint32_t value;
	uint32_t reserved;
};

struct op_exit {
	uint64_t status;
};

struct op_send_fd {
	struct argument fd;
	uint32_t ident;
	uint32_t reserved;
};

/* Replies */

struct reply {
	uint32_t trouble;
	uint32_t op;		/* at which there was trouble, or the fault */
	int64_t detail;
	uint32_t calls;
	uint32_t data;
	uint32_t signals;
	uint32_t exited;
	int32_t status;
	uint32_t fault_signal;
	int32_t fault_code;
	uint32_t fault_during;
	uint64_t fault_address;
};

struct call_result {
	int64_t value;
	uint64_t completed;
};

struct signal_record {
	int32_t signo;
	int32_t code;
	int32_t pid;
	uint32_t uid;
	int64_t value;
	int32_t fd;
	uint32_t reserved;
	int64_t band;
	uint8_t raw[128];
};

/* Requests and answers */

struct hello {
	uint64_t wall_clock;	/* ns; 0 leaves the clock alone */
	uint32_t jitter;	/* us */
	uint32_t seed_length;
	uint8_t seed[];
};

struct hello_answer {		/* then padded strings: nonce, release, version, machine, clock source */
	uint32_t protocol;
	uint32_t page_size;
	uint32_t cpus;
	int32_t clock_errno;
	int32_t seed_errno;
	uint32_t standby;	/* the number of an actor that is there already, or NONE */
	uint64_t tainted;
	uint64_t boot_ns;
	uint32_t standby_pid;
	uint32_t free_kib;	/* of memory */
};

struct setup {
	uint32_t flags;
	uint32_t uid;
	uint32_t gid;
	uint32_t thread_of;	/* an actor's number, or NONE */
	uint64_t caps;
	uint64_t sigmask;	/* bit n-1 is signal n */
	char name[16];
};

#define SETUP_CAPS	1	/* exactly these capabilities, whatever the uid */

enum setup_step {		/* what each is: lab/guest/agent.py */
	STEP_START,
	STEP_BOUNDS,
	STEP_GROUPS,
	STEP_GID,
	STEP_UID,
	STEP_CAPS,
	STEP_SIGMASK,
	STEP_STACK,
	STEP_CLONE,
};

struct setup_answer {
	int64_t status;		/* 0 or -errno */
	uint32_t step;		/* enum setup_step: the one that failed */
	uint32_t number;
	uint32_t pid;
	uint32_t tid;
	uint64_t start_ns;	/* CLOCK_BOOTTIME */
};

struct wait_request {		/* finish, blocked, stays, upcall (program unused), reap (the same) */
	uint32_t program;
	uint32_t reserved;
	uint64_t patience;	/* ns; all ones: for ever */
};

enum wait_outcome {
	WAIT_YES,		/* ended; asleep; stayed so; came */
	WAIT_ENDED,		/* the program ended, so it is not asleep any more */
	WAIT_NO,		/* not in time; awake */
};

struct wait_answer {		/* blocked and stays add one padded string: wchan */
	uint32_t outcome;
	uint32_t state;		/* the letter in /proc/TID/stat */
	int64_t nr;
};

struct upcall_answer {		/* then padded: argv, environment (both NUL-ended strings), cwd, fds */
	uint32_t outcome;
	uint32_t number;
	uint32_t pid;
	uint32_t uid;
	uint32_t gid;
	uint32_t ppid;
};

struct leftover {		/* then padded: name, stat, wchan, stack */
	uint32_t number;	/* or NONE */
	uint32_t pid;
};

struct exit_notice {
	uint32_t number;
	int32_t status;		/* as wait4 gives it; -1 where nobody can know */
	uint32_t pid;
	uint32_t reserved;
};

#define UNKNOWN_STATUS	(-1)

struct ready {
	uint32_t protocol;
	uint32_t max_frame;
	uint32_t actors;
	uint32_t reserved;
};

#endif
