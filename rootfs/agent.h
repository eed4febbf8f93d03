/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The agent of chanlab: the guest's init, its actors and its helper, one static
 * program. Three kinds of processes run it:
 *
 *   supervisor  PID 1. One poll loop; makes no call that could block in a module
 *               under test. (supervisor.c, host.c, port.c, hello.c, peers.c, upcalls.c,
 *               waits.c, watch.c, boot.c)
 *   actor       forked by it, or a thread of such a process. Reads a program from
 *               its channel, runs it, writes the reply. Every system call is raw.
 *               (actor.c, program.c, operations.c, reply.c, memory.c, signals.c,
 *               seat.c)
 *   helper      started by the kernel as /lab/helper; reports how it was started,
 *               then is an actor like the others. (helper.c)
 *
 * Compiled for another word size it is what an actor executes to go on as a process
 * of that size. What two programs share has the same layout in both: no long and no
 * pointer in wire.h, in struct slot and in struct shared. (become.c)
 */
#ifndef LAB_AGENT_H
#define LAB_AGENT_H

#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "arch.h"
#include "wire.h"

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define PADDED(n) (((n) + 7) & ~(size_t)7)
#define READ(x) __atomic_load_n(&(x), __ATOMIC_ACQUIRE)
#define WRITE(x, v) __atomic_store_n(&(x), v, __ATOMIC_RELEASE)
#define NSEC 1000000000ull
#define MSEC 1000000ull
#define FOREVER UINT64_MAX

/*
 * An actor's control descriptors lie high, so that a scenario's first is 3, and
 * below 1024, the usual limit.
 */
#define MAILBOXES	12
#define FD_LOW		3
#define FD_CHANNEL	804			/* + 2 * number: requests; + 1: replies */
#define FD_MAIL		(FD_CHANNEL + 2 * ACTORS)	/* + 2 * box: in; + 1: out */
#define FD_SHARED	(FD_MAIL + 2 * MAILBOXES)
#define FD_HELPER	(FD_SHARED + 1)		/* a helper's connection */
#define FD_SPARE	(FD_HELPER + 1)
#define CONTROL_FDS	(FD_HELPER - FD_CHANNEL)	/* what a helper is given */
#define UPCALL_ADDRESS	"chanlab.upcalls"	/* in the abstract namespace */

#define BARRIERS	64

/* What an actor is doing, for the supervisor to see without asking. */
struct slot {
	uint32_t pid;
	uint32_t tid;
	uint32_t program;	/* the id of the one it runs, 0: none */
	uint32_t sequence;	/* odd while in a system call of the program */
	uint64_t nr;		/* that call's number */
	uint32_t exiting;	/* it ends by its own will, with `status` */
	int32_t status;
} __attribute__((aligned(64)));

_Static_assert(sizeof(struct slot) == 64 && offsetof(struct slot, status) == 28,
	       "programs of two word sizes share it");

struct shared {
	struct slot slots[ACTORS];
	uint32_t barriers[BARRIERS];	/* ident << 16 | how many have come */
};

/* clock.c */
uint64_t now_raw(int clock);
uint64_t now_ns(void);
void sleep_raw(uint64_t ns);

/* seat.c */
extern struct shared *shared;

struct actor {
	uint32_t number;
	struct slot *slot;
	uint8_t *desk;		/* room for ordinary programs, see DESK_* */
	uint8_t *slots;		/* room for their buffers, see memory.c; NULL: none */
};

#define REHEARSAL	NONE	/* no program's id: the supervisor leaves its reply out */
#define DESK_INPUT	(16u << 10)
#define DESK_SIZE	(64u << 10)
#define ALTSTACK_SIZE	(32u << 10)	/* a signal's own, of each thread */

void actor_begin(struct actor *me, uint32_t number);
void actor_exit(struct actor *me, int status, int wait_status) __attribute__((noreturn));
bool channel_read(uint32_t number, void *to, size_t size);
int channel_write(uint32_t number, const void *head, size_t head_size,
		  const void *more, size_t more_size);

/* actor.c */
void actor_settle(struct actor *me, const char *name, bool spared);
void actor_serve(struct actor *me) __attribute__((noreturn));

/* program.c */
#define RUN_REPLIED	0
#define RUN_CHILD	1	/* this is the new process of a fork */
int program_run(struct actor *me, uint32_t id, const uint8_t *bytes, size_t length);

/* memory.c */
struct place {
	uint8_t *address;
	uint64_t size;
	uint64_t mapped;	/* how much of it can be read */
	uint32_t kind;
	const uint8_t *data;
	uint64_t used;
};

struct memory {
	uint8_t *arena;
	size_t size;
	uint8_t *slots;		/* the actor's, if it has them */
	struct place *places;
	uint32_t count;
};

struct fault {
	int signal;
	int code;
	uint64_t address;
};

void memory_measure(struct memory *memory);
uint8_t *memory_slots(void);
int memory_map(struct memory *memory);
int memory_protect(struct memory *memory);
void memory_unmap(struct memory *memory);
bool access_memory(void *to, const void *from, size_t size, struct fault *fault);
void access_init(void);
bool access_fault(int signo, siginfo_t *info);

/* signals.c */
#define HOW_DEFAULT	0
#define HOW_IGNORE	1
#define HOW_RECORD	2
#define RING		256
void signals_init(void);
void signals_forget(void);
long signals_stack(void *stack, size_t size);
long signals_set(int signo, uint32_t how, uint64_t flags);
uint32_t signals_take(struct signal_record *records);

/* helper.c */
int helper(int argc, char **argv, char **envp);

/* become.c */
long become(const char *path);
bool was_actor(void);
bool be_again(struct actor *me, const char *name);

/* boot.c */
void boot(void);
int open_port(void);
void write_file(const char *path, const char *text);
void die(const char *what, const char *which) __attribute__((noreturn));

/* port.c: queues of frames */
struct chunk {
	struct chunk *next;
	size_t done;
	struct frame frame;	/* and its payload */
	uint8_t payload[];
};

struct queue {
	struct chunk *first;
	struct chunk **last;
	size_t bytes;
};

struct inbox {
	struct frame header;
	size_t have;
	struct chunk *chunk;
	bool discard;		/* no memory for this one: read past it */
};

struct chunk *chunk_new(uint32_t type, uint32_t id, size_t length);
void queue_init(struct queue *queue);
void queue_add(struct queue *queue, struct chunk *chunk);
int queue_flush(struct queue *queue, int fd);
void queue_drop(struct queue *queue);
#define INBOX_EMPTY	0	/* nothing whole yet */
#define INBOX_FRAME	1
#define INBOX_END	2
#define INBOX_NOISE	3	/* not a frame */
#define INBOX_NO_MEMORY	4
int inbox_read(struct inbox *inbox, int fd, struct chunk **chunk);
void inbox_drop(struct inbox *inbox);

struct text {			/* padded strings after a structure */
	uint8_t *bytes;
	size_t length;
	size_t room;
};

void text_add(struct text *text, const void *bytes, size_t length);
struct chunk *chunk_with_text(uint32_t type, uint32_t id, const void *head, size_t head_size,
			      struct text *text);

/* supervisor.c */
void supervise(void) __attribute__((noreturn));

/* host.c */
#define BACKLOG_MAX	(4u << 20)	/* the host reads slower than the kernel prints */

extern struct host {
	int port;
	int kmsg;
	uint32_t life;		/* a guest that is restored in place has had others */
	struct queue out;
} host;

void host_messages(void);
void host_send(struct chunk *chunk);
void host_answer(uint32_t id, const void *payload, size_t length);
void host_error(uint32_t id, const char *why);

/* hello.c */
void hello_init(void);
void hello_answer(const struct chunk *request);
void hello_remember(const struct chunk *request);
void hello_tainted(const struct chunk *request);

/* timers.c */
void timers_remember(void);
void timers_set(void);

/* peers.c: actors as the supervisor sees them */
enum peer_state {
	PEER_FREE,
	PEER_BLANK,		/* forked in advance, waiting to be somebody */
	PEER_LIVE,
};

struct peer {
	enum peer_state state;
	int to;			/* the supervisor's ends of its channel */
	int from;
	bool used;		/* the channel has been somebody's */
	bool helper;		/* not our child, or perhaps not */
	bool threads;		/* its process has several actors */
	uint32_t pid;
	uint32_t tid;
	uint32_t program;	/* that has not ended yet */
	uint32_t spawn;		/* the request that waits for its setup */
	struct inbox inbox;
	struct queue out;
};

struct helper {
	int fd;			/* -1: free */
	uint32_t pid;
	uint32_t number;	/* the actor it became, or NONE */
	uint64_t arrival;	/* to ask for them in order */
	struct inbox inbox;
	struct chunk *report;
};

#define HELPERS 32
extern struct peer peers[ACTORS];
extern struct helper helpers[HELPERS];
extern int upcall_socket;

void peers_init(void);
void peers_quiesce(void);
uint32_t peer_free_number(bool blank);
uint32_t peer_standby(void);
void peer_died(uint32_t number, int status);
void peer_spawn(const struct chunk *request);
void peer_submit(struct chunk *request);
void peer_read(uint32_t number);
void peers_collect(void);
void peers_tick(void);
bool peers_need_tick(void);
bool peer_alive(uint32_t number);
uint32_t peer_of_program(uint32_t program);
bool peers_idle_lab(void);
bool peers_strangers(void);

/* upcalls.c: programs that the kernel started, until one of them is somebody */
void upcalls_init(void);
void helper_accept(void);
void helper_read(struct helper *helper);
struct helper *helper_waiting(void);
bool helpers_came(void);
int helper_claim(struct helper *helper);

/* proc.c: small looks into /proc that never block */
struct sample {
	char state;		/* 0: no such task */
	bool in_call;
	int64_t nr;
	uint64_t switches;
};

long proc_read(uint32_t tid, const char *file, char *buffer, size_t size);
void proc_sample(uint32_t tid, struct sample *sample);
char proc_state(uint32_t tid, int *exit_code);
void proc_describe(uint32_t tid, struct text *text);
size_t proc_wchan(uint32_t tid, char *buffer, size_t size);

/* waits.c: what is waited for */
#define WAITS		128

struct wait {
	uint32_t type;		/* 0: free */
	uint32_t id;
	uint32_t program;
	uint64_t patience;
	uint64_t deadline;
	uint64_t next;
	bool sampled;
	unsigned int awake;	/* how often in a row it was seen awake */
	uint32_t sequence;
	struct sample sample;
};

extern struct wait waits[WAITS];

void waits_request(const struct chunk *request);
void waits_program_ended(uint32_t program);
void waits_somebody_died(void);
uint64_t waits_until(uint64_t now, uint64_t patience);

/* watch.c: whether what is waited for has come */
void watch_init(void);
uint64_t watch_run(uint64_t now);	/* returns when to be called again */
void watch_state(const struct chunk *request);

#endif
