// SPDX-License-Identifier: GPL-2.0-only
/*
 * Signals of an actor. A recorded one leaves its siginfo in a ring that the whole
 * process shares. SIGSEGV and SIGBUS always have our handler, because an actor's
 * own loads and stores may fault, and what else code can do has it once some was
 * called; for every other cause it acts as the scenario wants it to.
 */
#include "signals.h"
#include "agent.h"
#include "guard.h"

#include <string.h>

#ifdef ARCH_RESTORER_CODE
ARCH_RESTORER_CODE;
extern void lab_restorer(void) __attribute__((visibility("hidden")));
#endif

static struct {
	uint32_t head;		/* next to write */
	uint32_t tail;		/* next to take */
	struct {
		uint32_t ready;	/* head + 1 when it was written */
		uint8_t info[sizeof(siginfo_t)];
	} entries[RING];
} ring;

static const int traps[] = { SIGILL, SIGFPE, SIGTRAP };
static bool traps_caught;
static uint8_t fault_how[5];	/* SIGSEGV, SIGBUS, and those */

static uint8_t *how_of(int signo)
{
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(traps); i++)
		if (traps[i] == signo)
			return &fault_how[2 + i];
	return signo == SIGSEGV ? &fault_how[0] : signo == SIGBUS ? &fault_how[1] : NULL;
}

/* Whether the handler is ours, whatever it is to do. */
static bool caught(int signo)
{
	return signo == SIGSEGV || signo == SIGBUS || (how_of(signo) && READ(traps_caught));
}

static void record(int signo, siginfo_t *info, void *context)
{
	uint32_t at = __atomic_fetch_add(&ring.head, 1, __ATOMIC_RELAXED);

	(void)signo;
	(void)context;
	memcpy(ring.entries[at % RING].info, info, sizeof(*info));
	WRITE(ring.entries[at % RING].ready, at + 1);
}

static long set_handler(int signo, void (*handler)(int, siginfo_t *, void *), uint64_t flags)
{
	struct raw_sigaction action = { .handler = handler, .flags = flags };

	/* One handler at a time, so that the ring has them in the order of their delivery. */
	if (handler == record)
		memset(action.mask, 0xff, sizeof(action.mask));
#ifdef ARCH_RESTORER_CODE
	action.flags |= ARCH_RESTORER;
	action.restorer = lab_restorer;
#endif
	return raw4(__NR_rt_sigaction, signo, &action, NULL, 8);
}

static void on_fault(int signo, siginfo_t *info, void *context)
{
	uint8_t how = *how_of(signo);

	/* It does not come again: what made it is done. */
	const bool once = info->si_code <= 0 || signo == SIGTRAP;

	if (guard_fault(signo, info))
		return;
	if (how == HOW_RECORD) {
		record(signo, info, context);
		if (once)
			return;
	} else if (how == HOW_IGNORE && info->si_code <= 0) {
		return;
	}
	/* A real fault comes again at once; one that was sent must be sent again. */
	set_handler(signo, (void *)SIG_DFL, 0);
	if (once)
		raw4(__NR_rt_tgsigqueueinfo, raw0(__NR_getpid), raw0(__NR_gettid), signo, info);
}

void signals_init(void)
{
	guard_init();
	set_handler(SIGSEGV, on_fault, SA_SIGINFO | SA_ONSTACK);
	set_handler(SIGBUS, on_fault, SA_SIGINFO | SA_ONSTACK);
}

/* A new process has none of its parent's. */
void signals_forget(void)
{
	memset(&ring, 0, sizeof(ring));
	guard_init();
}

/* Before code is called. Not from the beginning: each would be a call more in every guest. */
void signals_catch_traps(void)
{
	unsigned int i;

	if (READ(traps_caught))
		return;
	for (i = 0; i < ARRAY_SIZE(traps); i++)
		set_handler(traps[i], on_fault, SA_SIGINFO | SA_ONSTACK);
	WRITE(traps_caught, true);
}

long signals_stack(void *stack, size_t size)
{
	stack_t alternate = { .ss_sp = stack, .ss_size = size };

	return raw2(__NR_sigaltstack, &alternate, NULL);
}

long signals_set(int signo, uint32_t how, uint64_t flags)
{
	uint8_t *fault = how_of(signo);

	if (fault)
		*fault = how;
	if (caught(signo))
		return 0;
	switch (how) {
	case HOW_RECORD:
		return set_handler(signo, record, flags | SA_SIGINFO);
	case HOW_IGNORE:
		return set_handler(signo, (void *)SIG_IGN, flags);
	default:
		return set_handler(signo, (void *)SIG_DFL, flags);
	}
}

/* F_SETSIG may name any signal; the kernel keeps POLL_* where the signal has no codes of its own. */
static bool is_poll(const siginfo_t *info)
{
	switch (info->si_signo) {
	case SIGILL:
	case SIGFPE:
	case SIGSEGV:
	case SIGBUS:
	case SIGTRAP:
	case SIGCHLD:
	case SIGSYS:
		return info->si_code == SI_SIGIO;
	default:
		return info->si_code == SI_SIGIO ||
		       (info->si_code >= POLL_IN && info->si_code <= POLL_HUP);
	}
}

/* At most RING of them, oldest first; older ones than the ring holds are lost. */
uint32_t signals_take(struct signal_record *records)
{
	uint32_t head = READ(ring.head);
	uint32_t count = 0;

	if (head - ring.tail > RING)
		ring.tail = head - RING;
	for (; ring.tail != head; ring.tail++) {
		const uint32_t at = ring.tail % RING;
		struct signal_record *to = &records[count];
		siginfo_t info;

		/* Another thread's handler is just writing it; it will be there next time. */
		if (READ(ring.entries[at].ready) != ring.tail + 1)
			break;
		memcpy(&info, ring.entries[at].info, sizeof(info));
		memset(to, 0, sizeof(*to));
		to->signo = info.si_signo;
		to->code = info.si_code;
		if (is_poll(&info)) {
			to->fd = info.si_fd;
			to->band = info.si_band;
		} else {
			to->pid = info.si_pid;
			to->uid = info.si_uid;
			to->value = info.si_value.sival_int;
		}
		memcpy(to->raw, &info, sizeof(info) < sizeof(to->raw) ? sizeof(info) : sizeof(to->raw));
		count++;
	}
	return count;
}
