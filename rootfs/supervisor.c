// SPDX-License-Identifier: GPL-2.0-only
/*
 * PID 1's poll loop. Nothing called from here may block
 * in a module under test: such calls are the actors'.
 */
#include "supervisor.h"
#include "agent.h"
#include "boot.h"
#include "clock.h"
#include "hello.h"
#include "host.h"
#include "peers.h"
#include "port.h"
#include "upcalls.h"
#include "waits.h"
#include "watch.h"

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

static struct {
	int signals;
	struct inbox in;
	uint64_t port_again;	/* nobody is at the other end: not before this time */
	bool quiet;		/* about to be frozen: nothing is said unasked */
	bool noise;		/* told once, until a good frame comes */
} me;

/* Takes the request over. */
static void serve(struct chunk *request)
{
	if (request->frame.type == FRAME_HELLO)
		host.life = request->frame.life;
	if (request->frame.life != host.life) {
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
		waits_request(request);
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
		switch (inbox_read(&me.in, host.port, &chunk)) {
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
	poll_add(polled, there ? host.port : -1, POLLIN | (host.out.first ? POLLOUT : 0), NONE);
	poll_add(polled, me.signals, POLLIN, NONE);
	poll_add(polled, me.quiet || host.out.bytes >= BACKLOG_MAX ? -1 : host.kmsg, POLLIN, NONE);
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
		host_messages();
		queue_flush(&host.out, host.port);
	}
	if (polled->fds[3].revents)
		helper_accept();
	if (polled->fds[0].revents & POLLOUT)
		queue_flush(&host.out, host.port);
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
	queue_init(&host.out);
	hello_init();
	watch_init();
	open_signals();
	host.kmsg = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	if (host.kmsg < 0)
		die("cannot open", "/dev/kmsg");
	host.port = open_port();
	upcalls_init();
	peers_init();
	/* What was printed while booting is on the console; here it begins with the scenario. */
	lseek(host.kmsg, 0, SEEK_END);
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
