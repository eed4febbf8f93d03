// SPDX-License-Identifier: GPL-2.0-only
/*
 * The actors and helpers, as the supervisor sees them: channels, births, deaths.
 */
#include "peers.h"
#include "agent.h"
#include "actor.h"
#include "boot.h"
#include "host.h"
#include "port.h"
#include "proc.h"
#include "seat.h"
#include "signals.h"
#include "waits.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLANKS 5	/* actors forked before freezing, so that spawning is quick in a clone */
#define STANDBY 1	/* the blank that is all that most scenarios want */
#define STANDBY_NAME "main"
#define CHANNEL_SIZE (1 << 20)

struct peer peers[ACTORS];

static void move_fd(int from, int to)
{
	if (dup3(from, to, O_CLOEXEC) < 0)
		die("cannot place a descriptor", strerror(errno));
	close(from);
}

/*
 * Two pipes: a clone translates less than half as much for a request and its reply as
 * with a socket. Everybody has all their ends, so that no writer is ever told that
 * nobody reads.
 */
static void make_channel(uint32_t number)
{
	int requests[2], replies[2];

	if (pipe2(requests, O_CLOEXEC) || pipe2(replies, O_CLOEXEC))
		die("no channel for an actor", strerror(errno));
	/* Big frames in few pieces, where there will be some. */
	if (number <= BLANKS) {
		fcntl(requests[1], F_SETPIPE_SZ, CHANNEL_SIZE);
		fcntl(replies[1], F_SETPIPE_SZ, CHANNEL_SIZE);
	}
	fcntl(requests[1], F_SETFL, O_NONBLOCK);
	/* Who reads does not leave its time either. */
	fcntl(replies[0], F_SETFL, O_NONBLOCK | O_NOATIME);
	fcntl(requests[0], F_SETFL, O_NOATIME);
	peers[number].to = requests[1];
	peers[number].from = replies[0];
	move_fd(requests[0], FD_CHANNEL + 2 * number);
	move_fd(replies[1], FD_CHANNEL + 2 * number + 1);
}

static void make_mailboxes(void)
{
	const struct timeval patience = { .tv_sec = 5 };
	int i, pair[2];

	for (i = 0; i < MAILBOXES; i++) {
		if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair))
			die("no mailbox", strerror(errno));
		setsockopt(pair[1], SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
		move_fd(pair[0], FD_MAIL + 2 * i);
		move_fd(pair[1], FD_MAIL + 2 * i + 1);
	}
}

static void make_shared(void)
{
	int fd = memfd_create("lab", MFD_CLOEXEC);
	void *at;

	if (fd < 0 || ftruncate(fd, sizeof(*shared)))
		die("no shared memory", strerror(errno));
	at = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		die("no shared memory", strerror(errno));
	shared = at;
	move_fd(fd, FD_SHARED);
}

static void close_ours(void)
{
	int fd;

	/* close_range is 5.9's; the loop is for what is older. */
	if (raw3(__NR_close_range, FD_LOW, FD_CHANNEL - 1, 0))
		for (fd = FD_LOW; fd < FD_CHANNEL; fd++)
			raw1(__NR_close, fd);
}

static bool spared;	/* we are, when memory is short, and all that we fork from now on */

/* A new process that waits on its channel to be told who it is. */
static bool fork_blank(uint32_t number)
{
	struct peer *peer = &peers[number];
	long pid = raw_fork(SIGCHLD, NULL);

	if (pid < 0)
		return false;
	if (!pid) {
		struct actor me;

		close_ours();
		signals_init();
		actor_begin(&me, number);
		actor_settle(&me, number ? STANDBY_NAME : "lab", spared);
		actor_serve(&me);
	}
	shared->slots[number].exiting = 0;
	peer->state = PEER_BLANK;
	peer->used = true;
	peer->pid = peer->tid = pid;
	return true;
}

static bool push(uint32_t number, struct chunk *chunk)
{
	if (!chunk)
		return false;
	queue_add(&peers[number].out, chunk);
	/* What does not fit now goes when the poll loop says so; a dead end is told by SIGCHLD. */
	queue_flush(&peers[number].out, peers[number].to);
	return true;
}

/*
 * A program like those that are to come, by the way that they will come: its pages,
 * and the pipes', are there then.
 */
static void rehearse(uint32_t number)
{
	const struct {
		struct submit submit;
		struct program program;
		struct buffer buffer;
		struct op op;
		struct op_call call;
		struct argument argument;
		struct op fetch;
		struct op_fetch what;
	} rehearsal = {
		.submit = { .number = number },
		.program = { .buffers = 1, .ops = 2 },
		.buffer = { .kind = BUFFER_PLAIN, .size = 8 },
		.op = { OP_CALL, sizeof(rehearsal.call) + sizeof(rehearsal.argument) },
		.call = { .nr = __NR_getpid, .times = 1, .low = INT64_MIN, .high = INT64_MAX },
		.argument = { .kind = ARGUMENT_BUFFER },
		.fetch = { OP_FETCH, sizeof(rehearsal.what) },
		.what = { .clip = NONE, .size = 8 },
	};
	struct chunk *chunk = chunk_new(FRAME_SUBMIT, REHEARSAL, sizeof(rehearsal));

	if (!chunk)
		die("no memory", "");
	memcpy(chunk->payload, &rehearsal, sizeof(rehearsal));
	push(number, chunk);
}

void peers_init(void)
{
	uint32_t i;

	make_shared();
	for (i = 0; i < ACTORS; i++) {
		queue_init(&peers[i].out);
		make_channel(i);
	}
	make_mailboxes();
	/*
	 * The lab's own comes last. Blanks are never spared, and so need not say that they do
	 * not want to be: what they have in /proc would have to go with them, in each clone.
	 */
	for (i = BLANKS + 1; i-- > 0;) {
		if (!i) {
			write_file("/proc/self/oom_score_adj", "-1000");
			spared = true;
		}
		if (!fork_blank(i))
			die("cannot fork the first actors", strerror(errno));
		rehearse(i);
	}
	peers[0].state = PEER_LIVE;
}

/* Before freezing: what the blanks said by themselves is of no interest to a clone. */
void peers_quiesce(void)
{
	uint32_t i;

	for (i = 0; i < ACTORS; i++)
		if (peers[i].state == PEER_BLANK)
			peer_read(i);
}

/* The actor that a hello offers, NONE when it is somebody. */
uint32_t peer_standby(void)
{
	return peers[STANDBY].state == PEER_BLANK ? STANDBY : NONE;
}

/* The host has taken the one that is ready, and tells us by speaking of it. */
static bool take_standby(uint32_t number)
{
	if (number != peer_standby())
		return false;
	peers[number].state = PEER_LIVE;
	return true;
}

/* The child of an actor's fork is known by what its parent left in its slot. */
static bool adopt(uint32_t number)
{
	struct peer *peer = &peers[number];
	const uint32_t pid = READ(shared->slots[number].pid);

	if (peer->state != PEER_FREE || !pid)
		return false;
	peer->state = PEER_LIVE;
	peer->used = true;
	peer->pid = peer->tid = pid;
	/* A helper's child is not ours, no SIGCHLD tells of its end; looking does no harm to others. */
	peer->helper = true;
	return true;
}

bool peer_alive(uint32_t number)
{
	return number < ACTORS &&
	       (peers[number].state == PEER_LIVE || take_standby(number) || adopt(number));
}

uint32_t peer_of_program(uint32_t program)
{
	uint32_t i;

	for (i = 0; i < ACTORS && program; i++)
		if (peers[i].program == program)
			return i;
	return NONE;
}

bool peers_idle_lab(void)
{
	return peers[0].state == PEER_LIVE && !peers[0].program;
}

/*
 * Is, or was, anybody here who has no session that we know? A fork's child may have
 * one of its own. (A helper has the kernel's: helpers_came() tells.)
 */
bool peers_strangers(void)
{
	uint32_t i;

	for (i = 1; i < ACTORS; i++)
		if (peers[i].helper || (!peers[i].pid && READ(shared->slots[i].pid)))
			return true;
	return false;
}

/* Births */

uint32_t peer_free_number(bool blank)
{
	uint32_t i;

	for (i = 1; i < ACTORS && blank; i++)
		if (peers[i].state == PEER_BLANK && i != STANDBY)
			return i;
	for (i = 1; i < ACTORS; i++)
		if (peers[i].state == PEER_FREE && !peers[i].used && !shared->slots[i].pid)
			return i;
	return NONE;
}

/* Through the channel of an idle actor of the process; the answer comes from the thread itself. */
static const char *spawn_thread(const struct chunk *request, const struct setup *setup)
{
	const uint32_t parent = setup->thread_of;
	const uint32_t number = peer_free_number(false);
	struct chunk *chunk;

	if (!peer_alive(parent))
		return "no such actor to be a thread of";
	if (peers[parent].program)
		return "the actor that should start the thread is busy";
	if (number == NONE)
		return "all actor numbers are taken";
	chunk = chunk_new(FRAME_THREAD, request->frame.id, sizeof(*setup) + 8);
	if (!chunk)
		return "out of memory";
	memcpy(chunk->payload, setup, sizeof(*setup));
	memset(chunk->payload + sizeof(*setup), 0, 8);
	memcpy(chunk->payload + sizeof(*setup), &number, sizeof(number));
	peers[number].state = PEER_LIVE;
	peers[number].used = true;
	peers[number].threads = peers[parent].threads = true;
	peers[number].helper = peers[parent].helper;
	peers[number].pid = peers[parent].pid;
	peers[number].tid = 0;	/* not known yet */
	peers[number].spawn = request->frame.id;
	push(parent, chunk);
	return NULL;
}

static const char *spawn_process(const struct chunk *request, const struct setup *setup)
{
	const uint32_t number = peer_free_number(true);
	struct chunk *chunk;

	if (number == NONE)
		return "all actor numbers are taken";
	chunk = chunk_new(FRAME_SETUP, request->frame.id, sizeof(*setup));
	if (!chunk)
		return "out of memory";
	memcpy(chunk->payload, setup, sizeof(*setup));
	if (peers[number].state != PEER_BLANK && !fork_blank(number)) {
		free(chunk);
		return "cannot fork";
	}
	peers[number].state = PEER_LIVE;
	peers[number].spawn = request->frame.id;
	push(number, chunk);
	return NULL;
}

void peer_spawn(const struct chunk *request)
{
	struct setup setup;
	const char *trouble;

	if (request->frame.length != sizeof(setup)) {
		host_error(request->frame.id, "malformed spawn");
		return;
	}
	memcpy(&setup, request->payload, sizeof(setup));
	setup.name[sizeof(setup.name) - 1] = 0;
	if (setup.thread_of == NONE)
		trouble = spawn_process(request, &setup);
	else
		trouble = spawn_thread(request, &setup);
	if (trouble)
		host_error(request->frame.id, trouble);
}

/* Takes the request over. */
void peer_submit(struct chunk *request)
{
	struct submit submit;
	uint32_t number;

	if (request->frame.length < sizeof(submit) + sizeof(struct program)) {
		host_error(request->frame.id, "malformed program");
		free(request);
		return;
	}
	memcpy(&submit, request->payload, sizeof(submit));
	number = submit.number;
	if (!peer_alive(number) || peers[number].spawn) {
		host_error(request->frame.id, "no such actor, or it is dead");
		free(request);
		return;
	}
	if (peers[number].program) {
		host_error(request->frame.id, "the actor is busy");
		free(request);
		return;
	}
	peers[number].program = request->frame.id;
	push(number, request);
}

/* Deaths */

static void tell_end(uint32_t program, int status)
{
	struct chunk *chunk = chunk_new(FRAME_DONE, program, sizeof(struct reply));

	if (chunk) {
		const struct reply reply = { .exited = 1, .status = status };

		memcpy(chunk->payload, &reply, sizeof(reply));
		host_send(chunk);
	}
	waits_program_ended(program);
}

void peer_died(uint32_t number, int status)
{
	struct peer *peer = &peers[number];
	const struct exit_notice notice = {
		.number = number, .status = status, .pid = peer->pid,
	};
	const uint32_t program = peer->program;
	const uint32_t spawn = peer->spawn;
	struct chunk *chunk;

	/* What it could still say comes first. */
	peer_read(number);
	inbox_drop(&peer->inbox);
	queue_drop(&peer->out);
	peer->state = PEER_FREE;
	peer->spawn = 0;
	if (spawn && peers[number].pid)
		host_error(spawn, "the new actor died while it was set up");
	shared->slots[number].pid = 0;
	chunk = chunk_new(FRAME_EXIT, 0, sizeof(notice));
	if (chunk) {
		memcpy(chunk->payload, &notice, sizeof(notice));
		host_send(chunk);
	}
	if (program && peer->program == program) {
		peer->program = 0;
		tell_end(program, status);
	}
}

static void process_died(uint32_t pid, int status)
{
	uint32_t i;

	for (i = 0; i < ACTORS; i++)
		if (peers[i].state == PEER_FREE && shared->slots[i].pid == pid)
			adopt(i);
	for (i = 0; i < ACTORS; i++)
		if (peers[i].state != PEER_FREE && peers[i].pid == pid)
			peer_died(i, status);
	waits_somebody_died();
}

/* SIGCHLD: every process that is gone, ours or an orphan that came to us. */
void peers_collect(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		process_died(pid, status);
}

/*
 * A thread that is gone (killed by an oops, say) makes no SIGCHLD while others of
 * its process live, and the child of a helper has another parent: look.
 */
bool peers_need_tick(void)
{
	uint32_t i;

	for (i = 0; i < ACTORS; i++)
		if (peers[i].state == PEER_LIVE && (peers[i].threads || peers[i].helper) &&
		    (peers[i].program || peers[i].spawn))
			return true;
	return false;
}

void peers_tick(void)
{
	uint32_t i;

	for (i = 0; i < ACTORS; i++) {
		const struct slot *slot = &shared->slots[i];
		struct peer *peer = &peers[i];
		int code = 0;
		char state;

		if (peer->state != PEER_LIVE || !(peer->threads || peer->helper) || !peer->tid)
			continue;
		state = proc_state(peer->tid, &code);
		if (state && state != 'Z' && state != 'X')
			continue;
		if (READ(slot->exiting))
			code = slot->status;
		else if (!state)
			code = UNKNOWN_STATUS;
		peer_died(i, code);
	}
}

/* What was written to a channel and nobody has read. */
static void drain(uint32_t number)
{
	char buffer[4096];
	int left = 0;

	/* Our end for reading waits when there is nothing. */
	while (!ioctl(FD_CHANNEL + 2 * number, FIONREAD, &left) && left > 0)
		if (read(FD_CHANNEL + 2 * number, buffer, left < 4096 ? left : 4096) <= 0)
			return;
}

/* After a reap that has left nobody: the numbers of the dead may be others', and meetings be held anew. */
void peers_forget(void)
{
	uint32_t i;

	for (i = 1; i < ACTORS; i++) {
		struct peer *peer = &peers[i];

		if (peer->state != PEER_FREE || !peer->used)
			continue;
		drain(i);
		peer_read(i);
		inbox_drop(&peer->inbox);
		memset(&shared->slots[i], 0, sizeof(shared->slots[i]));
		peer->used = peer->helper = peer->threads = false;
		peer->pid = peer->tid = peer->program = peer->spawn = 0;
	}
	memset(shared->barriers, 0, sizeof(shared->barriers));
}

static void setup_done(const struct chunk *chunk)
{
	struct setup_answer answer;
	uint32_t i;

	if (chunk->frame.length != sizeof(answer) || !chunk->frame.id)
		return;
	memcpy(&answer, chunk->payload, sizeof(answer));
	for (i = 0; i < ACTORS; i++)
		if (peers[i].spawn == chunk->frame.id)
			break;
	if (i == ACTORS)
		return;
	peers[i].spawn = 0;
	if (answer.number == i)
		peers[i].tid = answer.tid;
	else
		peers[i].state = PEER_FREE;	/* the thread was never made; its parent says so */
	host_answer(chunk->frame.id, &answer, sizeof(answer));
}

void peer_read(uint32_t number)
{
	struct peer *peer = &peers[number];
	struct chunk *chunk;

	for (;;) {
		switch (inbox_read(&peer->inbox, peer->from, &chunk)) {
		case INBOX_FRAME:
			break;
		case INBOX_NO_MEMORY:
			if (chunk->frame.type == FRAME_DONE && chunk->frame.id == peer->program) {
				peer->program = 0;
				host_error(chunk->frame.id, "out of memory for the reply");
				waits_program_ended(chunk->frame.id);
			}
			free(chunk);
			continue;
		case INBOX_NOISE:
			continue;
		default:
			return;
		}
		if (chunk->frame.type == FRAME_SETUP_DONE) {
			setup_done(chunk);
		} else if (chunk->frame.type == FRAME_DONE && chunk->frame.id == peer->program) {
			const uint32_t program = peer->program;

			peer->program = 0;
			host_send(chunk);
			waits_program_ended(program);
			continue;
		}
		free(chunk);
	}
}
