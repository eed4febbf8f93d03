// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1's poll loop, and the port to the host. Nothing called from here may block
 * in a module under test: such calls are the actors'.
 */
#include "agent.h"

#include <fcntl.h>
#include <malloc.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#define TICK		(10 * MSEC)
#define NOBODY_THERE	(5 * MSEC)	/* how often to look whether the host has connected */
#define RECORD_MAX	8192		/* of /dev/kmsg, its own limit */
#define BATCH_MAX	(64u << 10)
#define BACKLOG_MAX	(4u << 20)	/* the host reads slower than the kernel prints */

static struct {
	int port;
	int kmsg;
	int signals;
	struct inbox in;
	struct queue out;
	uint64_t port_again;	/* nobody is at the other end: not before this time */
	bool quiet;		/* about to be frozen: nothing is said unasked */
	bool noise;		/* told once, until a good frame comes */
	uint32_t life;		/* a guest that is restored in place has had others */
} me;

static void to_host(struct chunk *chunk)
{
	chunk->frame.life = me.life;
	queue_add(&me.out, chunk);
}

/* What the kernel printed, as it stands in /dev/kmsg, one padded string a record. */
static void send_messages(void)
{
	static char record[RECORD_MAX];
	struct text text = { 0 };
	struct chunk *chunk;
	ssize_t got;

	while (me.out.bytes + text.length < BACKLOG_MAX) {
		got = read(me.kmsg, record, sizeof(record));
		/* EPIPE: some were overwritten; the gap in their numbers tells. */
		if (got < 0 && (errno == EPIPE || errno == EINTR))
			continue;
		if (got > 0)
			text_add(&text, record, got);
		if (text.length && (got <= 0 || text.length >= BATCH_MAX)) {
			chunk = chunk_with_text(FRAME_MESSAGES, 0, NULL, 0, &text);
			if (chunk)
				to_host(chunk);
		}
		if (got <= 0)
			return;
	}
	free(text.bytes);
}

/* Every frame comes after what the kernel said before it. */
void host_send(struct chunk *chunk)
{
	send_messages();
	to_host(chunk);
	queue_flush(&me.out, me.port);
}

void host_answer(uint32_t id, const void *payload, size_t length)
{
	struct chunk *chunk = chunk_new(FRAME_ANSWER, id, length);

	if (!chunk)
		return;
	if (length)
		memcpy(chunk->payload, payload, length);
	host_send(chunk);
}

void host_error(uint32_t id, const char *why)
{
	struct text text = { 0 };
	struct chunk *chunk;

	text_add(&text, why, strlen(why));
	chunk = chunk_with_text(FRAME_ERROR, id, NULL, 0, &text);
	if (chunk)
		host_send(chunk);
}

/* Takes the request over. */
static void serve(struct chunk *request)
{
	if (request->frame.type == FRAME_HELLO)
		me.life = request->frame.life;
	if (request->frame.life != me.life) {
		/* Sent to who was here before, and left over. */
		free(request);
		return;
	}
	me.quiet = false;
	switch (request->frame.type) {
	case FRAME_HELLO:
		hello_answer(request);
		break;
	case FRAME_QUIESCE:
		hello_remember(request);
		me.quiet = true;
		break;
	case FRAME_SPAWN:
		peer_spawn(request);
		break;
	case FRAME_SUBMIT:
		peer_submit(request);
		return;
	case FRAME_FINISH:
	case FRAME_BLOCKED:
	case FRAME_STAYS:
	case FRAME_UPCALL:
	case FRAME_REAP:
		watch_request(request);
		break;
	case FRAME_STATE:
		watch_state(request);
		break;
	case FRAME_TAINTED:
		hello_tainted(request);
		break;
	default:
		host_error(request->frame.id, "a request of a type that this agent does not know");
	}
	free(request);
}

static void read_port(uint64_t now)
{
	struct chunk *chunk;

	for (;;) {
		switch (inbox_read(&me.in, me.port, &chunk)) {
		case INBOX_FRAME:
			me.noise = false;
			serve(chunk);
			break;
		case INBOX_NO_MEMORY:
			host_error(chunk->frame.id, "out of memory for the request");
			free(chunk);
			break;
		case INBOX_NOISE:
			if (!me.noise)
				host_error(0, "what came is not a frame");
			me.noise = true;
			break;
		case INBOX_END:
			me.port_again = now + NOBODY_THERE;
			return;
		default:
			return;
		}
	}
}

static void open_signals(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGCHLD);
	sigprocmask(SIG_BLOCK, &set, NULL);
	me.signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (me.signals < 0)
		die("no signalfd", strerror(errno));
}

/* Descriptors in the order in which their events are handled. */
struct polled {
	struct pollfd fds[5 + 2 * ACTORS + HELPERS];
	uint32_t peer[5 + 2 * ACTORS + HELPERS];
	nfds_t count;
};

static void poll_add(struct polled *polled, int fd, short events, uint32_t peer)
{
	polled->fds[polled->count] = (struct pollfd){ .fd = fd, .events = events };
	polled->peer[polled->count++] = peer;
}

static void prepare(struct polled *polled, uint64_t now)
{
	const bool there = now >= me.port_again;
	uint32_t i;

	polled->count = 0;
	/* A negative descriptor is left out. */
	poll_add(polled, there ? me.port : -1, POLLIN | (me.out.first ? POLLOUT : 0), NONE);
	poll_add(polled, me.signals, POLLIN, NONE);
	poll_add(polled, me.quiet || me.out.bytes >= BACKLOG_MAX ? -1 : me.kmsg, POLLIN, NONE);
	poll_add(polled, upcall_socket, POLLIN, NONE);
	for (i = 0; i < ACTORS; i++) {
		if (peers[i].state != PEER_LIVE)
			continue;
		poll_add(polled, peers[i].from, POLLIN, i);
		if (peers[i].out.first)
			poll_add(polled, peers[i].to, POLLOUT, i);
	}
	for (i = 0; i < HELPERS; i++)
		if (helpers[i].fd >= 0)
			poll_add(polled, helpers[i].fd, POLLIN, ACTORS + i);
}

static void handle(const struct polled *polled, uint64_t now)
{
	struct signalfd_siginfo info;
	nfds_t i;

	/* Replies first: an actor that answered and then died has answered. */
	for (i = 4; i < polled->count; i++) {
		const uint32_t who = polled->peer[i];

		if (!polled->fds[i].revents)
			continue;
		if (who >= ACTORS) {
			helper_read(&helpers[who - ACTORS]);
			continue;
		}
		if (polled->fds[i].revents & POLLOUT)
			queue_flush(&peers[who].out, peers[who].to);
		if (polled->fds[i].revents & ~POLLOUT)
			peer_read(who);
	}
	if (polled->fds[1].revents) {
		while (read(me.signals, &info, sizeof(info)) > 0)
			;
		peers_collect();
	}
	if (polled->fds[2].revents) {
		send_messages();
		queue_flush(&me.out, me.port);
	}
	if (polled->fds[3].revents)
		helper_accept();
	if (polled->fds[0].revents & POLLOUT)
		queue_flush(&me.out, me.port);
	if (polled->fds[0].revents & (POLLIN | POLLHUP | POLLERR))
		read_port(now);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static void loop(void)
{
	static struct polled polled;
	uint64_t tick = 0;

	for (;;) {
		uint64_t now = now_ns();
		uint64_t next = watch_run(now);
		struct timespec patience = { 0 };

		if (peers_need_tick()) {
			if (now >= tick) {
				peers_tick();
				tick = now + TICK;
			}
			next = earlier(next, tick);
		}
		if (now < me.port_again)
			next = earlier(next, me.port_again);
		prepare(&polled, now);
		if (next > now) {
			patience.tv_sec = (next - now) / NSEC;
			patience.tv_nsec = (next - now) % NSEC;
		}
		if (ppoll(polled.fds, polled.count, next == FOREVER ? NULL : &patience, NULL) > 0)
			handle(&polled, now_ns());
	}
}

void supervise(void)
{
	const struct ready ready = { PROTOCOL, MAX_FRAME, ACTORS, 0 };
	struct chunk *chunk;

	/* Memory of big frames is kept for the next one: new pages cost more than they are worth. */
	mallopt(M_MMAP_THRESHOLD, 4 << 20);
	mallopt(M_TRIM_THRESHOLD, 8 << 20);
	queue_init(&me.out);
	hello_init();
	watch_init();
	open_signals();
	me.kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (me.kmsg < 0)
		die("cannot open", "/dev/kmsg");
	me.port = open_port();
	peers_init();
	/* What was printed while booting is on the console; here it begins with the scenario. */
	lseek(me.kmsg, 0, SEEK_END);
	/* Nothing of the supervisor is fetched when it is needed: a clone would translate all that fetches. */
	mlockall(MCL_CURRENT | MCL_FUTURE);
	chunk = chunk_new(FRAME_READY, 0, sizeof(ready));
	if (!chunk)
		die("no memory", "");
	memcpy(chunk->payload, &ready, sizeof(ready));
	host_send(chunk);
	loop();
	die("the loop ended", "");
}
