// SPDX-License-Identifier: GPL-2.0-only
/*
 * The first words in a clone: it is woken at another time than it was frozen, and
 * alike to all its siblings. One round trip sets its clock, stirs the host's seed
 * into the kernel's pool, moves its starting point, and tells who it is.
 */
#include "hello.h"
#include "agent.h"
#include "boot.h"
#include "clock.h"
#include "host.h"
#include "peers.h"
#include "port.h"
#include "proc.h"
#include "timers.h"

#include <fcntl.h>
#include <linux/random.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

#define SEED_MAX	512
#define NONCE_MAX	64

static int random_fd;
static int tainted_fd;
static uint8_t nonce[NONCE_MAX];
static size_t nonce_length;

void hello_init(void)
{
	random_fd = open("/dev/urandom", O_RDWR | O_CLOEXEC);
	if (random_fd < 0)
		die("cannot open", "/dev/urandom");
	tainted_fd = open("/proc/sys/kernel/tainted", O_RDONLY | O_CLOEXEC);
	if (tainted_fd < 0)
		die("cannot open", "/proc/sys/kernel/tainted");
}

static int set_clock(uint64_t ns)
{
	const struct timespec t = { .tv_sec = ns / NSEC, .tv_nsec = ns % NSEC };

	return ns && clock_settime(CLOCK_REALTIME, &t) ? errno : 0;
}

static int stir(const uint8_t *seed, uint32_t length)
{
	struct {
		struct rand_pool_info info;
		uint8_t bytes[SEED_MAX];
	} pool = { .info = { .entropy_count = 8 * length, .buf_size = length } };

	if (!length)
		return 0;
	memcpy(pool.info.buf, seed, length);
	if (ioctl(random_fd, RNDADDENTROPY, &pool.info))
		return errno;
	/* ENODATA: the pool was never ready, so there is nothing that would have to be reseeded. */
	return ioctl(random_fd, RNDRESEEDCRNG) && errno != ENODATA ? errno : 0;
}

static size_t read_line(int fd, char *line, size_t size)
{
	ssize_t got = fd < 0 ? 0 : pread(fd, line, size - 1, 0);

	if (got < 0)
		got = 0;
	line[got] = 0;
	return strcspn(line, "\n");
}

/* The file stays open: walking its path again would cost an emulated clone a millisecond. */
static uint64_t tainted(void)
{
	char line[32];

	read_line(tainted_fd, line, sizeof(line));
	return strtoull(line, NULL, 10);
}

void hello_tainted(const struct chunk *request)
{
	const uint64_t bits = tainted();

	host_answer(request->frame.id, &bits, sizeof(bits));
}

/*
 * What does not change between freezing and a clone's first words is asked for
 * once: each file that a clone reads costs it the translation of all that reads.
 */
static struct chunk *prepared;

static uint32_t free_kib(void)
{
	struct sysinfo info;

	return sysinfo(&info) ? 0 : (uint64_t)info.freeram * info.mem_unit >> 10;
}

static struct chunk *describe(void)
{
	static const char clock_source[] =
		"/sys/devices/system/clocksource/clocksource0/current_clocksource";
	const int fd = open(clock_source, O_RDONLY | O_CLOEXEC);
	const struct hello_answer head = {
		.protocol = PROTOCOL,
		.page_size = sysconf(_SC_PAGESIZE),
		.cpus = sysconf(_SC_NPROCESSORS_ONLN),
		.tainted = tainted(),
	};
	struct text text = { 0 };
	struct utsname name;
	char line[64];

	read_line(fd, line, sizeof(line));
	if (fd >= 0)
		close(fd);
	uname(&name);
	text_add(&text, nonce, nonce_length);
	text_add(&text, name.release, strlen(name.release));
	text_add(&text, name.version, strlen(name.version));
	text_add(&text, name.machine, strlen(name.machine));
	text_add(&text, line, strcspn(line, "\n"));
	return chunk_with_text(FRAME_ANSWER, 0, &head, sizeof(head), &text);
}

void hello_answer(const struct chunk *request)
{
	const struct hello *hello = (const void *)request->payload;
	struct hello_answer *head;
	struct chunk *chunk;
	uint64_t until;

	if (request->frame.length < sizeof(*hello) || hello->seed_length > SEED_MAX ||
	    hello->seed_length > request->frame.length - sizeof(*hello)) {
		host_error(request->frame.id, "malformed hello");
		return;
	}
	timers_set();
	chunk = prepared ? prepared : describe();
	prepared = NULL;
	if (!chunk)
		return;
	head = (void *)chunk->payload;
	head->clock_errno = set_clock(hello->wall_clock);
	head->seed_errno = stir(hello->seed, hello->seed_length);
	until = now_ns() + hello->jitter * 1000ull;
	while (hello->jitter && now_ns() < until)
		;
	head->standby = peer_standby();
	head->standby_pid = head->standby == NONE ? 0 : peers[head->standby].pid;
	head->boot_ns = now_raw(CLOCK_BOOTTIME);
	head->free_kib = free_kib();
	chunk->frame.id = request->frame.id;
	host_send(chunk);
}

/* Before freezing; what a clone does first is done once here, so that its pages are there. */
void hello_remember(const struct chunk *request)
{
	struct sample sample;

	if (request->frame.length > NONCE_MAX) {
		host_error(request->frame.id, "the nonce is too long");
		return;
	}
	nonce_length = request->frame.length;
	memcpy(nonce, request->payload, nonce_length);
	timers_remember();
	peers_quiesce();
	free(prepared);
	prepared = describe();
	proc_sample(peers[0].tid, &sample);
	host_answer(request->frame.id, NULL, 0);
}
