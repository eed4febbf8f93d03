// SPDX-License-Identifier: GPL-2.0-only
/*
 * What has a name in the kernel: the entries of directories in which modules make
 * some, the lines of files that list what is registered, the families of generic
 * netlink, threads. Told as strings, each with its NUL: a place, what is there, an
 * empty one.
 *
 * A clone asks for it after its modules have gone, so it shall cost little: nothing is
 * walked or looked up, the directories stay open from the first time on.
 */
#include "names.h"
#include "agent.h"
#include "reply.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/netlink.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/sysinfo.h>

#define NOT_OPEN	0
#define FAMILIES	"generic netlink"
#define THREADS		"kernel threads"
#define MEMORY		"memory"

/*
 * A cache of objects that is like another is that one under a second name, a link, which the
 * kernel leaves there when the cache is destroyed.
 */
#define ALIASES		"/sys/kernel/slab"

struct listed {
	const char *path;
	bool wide;	/* looked at when all is: it takes long, or few modules have a name there */
};

static const struct listed directories[] = {
	{ "/dev", false },
	{ "/dev/input", false },
	{ "/proc", false },
	{ "/proc/bus", false },
	{ "/proc/driver", false },
	{ "/proc/fs", false },
	{ "/proc/net", false },
	{ "/proc/sys", false },
	{ "/proc/sys/debug", false },
	{ "/proc/sys/dev", false },
	{ "/proc/sys/fs", true },
	{ "/proc/sys/kernel", true },
	{ "/proc/sys/net", false },
	{ "/proc/sys/net/core", true },
	{ "/proc/sys/net/ipv4", true },
	{ "/proc/sys/vm", true },
	{ "/proc/tty/driver", false },
	{ "/sys", false },
	{ "/sys/block", false },
	{ "/sys/bus", false },
	{ "/sys/bus/pci/drivers", true },
	{ "/sys/bus/platform/devices", true },
	{ "/sys/bus/platform/drivers", true },
	{ "/sys/bus/virtio/drivers", true },
	{ "/sys/class", false },
	{ "/sys/class/input", false },
	{ "/sys/class/misc", true },
	{ "/sys/class/net", false },
	{ "/sys/class/tty", true },
	{ "/sys/class/uio", false },
	{ "/sys/dev/block", true },
	{ "/sys/dev/char", true },
	{ "/sys/devices", false },
	{ "/sys/devices/platform", false },
	{ "/sys/devices/virtual", false },
	{ "/sys/firmware", false },
	{ "/sys/fs", false },
	{ "/sys/kernel", false },
	{ "/sys/kernel/config", false },
	{ "/sys/kernel/debug", false },
	{ ALIASES, true },
	{ "/sys/kernel/tracing", true },
	{ "/sys/kernel/tracing/events", true },
	{ "/sys/kernel/tracing/instances", true },
};

static const struct listed files[] = {
	{ "/proc/devices", false },
	{ "/proc/filesystems", false },
	{ "/proc/interrupts", true },
	{ "/proc/iomem", true },
	{ "/proc/ioports", true },
	{ "/proc/misc", false },
	{ "/proc/net/netlink", true },
	{ "/proc/net/protocols", true },
	{ "/proc/net/ptype", true },
	{ "/proc/tty/drivers", true },
	{ "/proc/tty/ldiscs", true },
};

static struct {
	int directories[ARRAY_SIZE(directories)];
	int files[ARRAY_SIZE(files)];
	int families;
	int load;
} fds;	/* each NOT_OPEN, or negative when it cannot be */

/* What getdents64(2) gives; libc's struct dirent differs where off_t has 32 bits. */
struct entry {
	uint64_t ino;
	int64_t next;
	uint16_t size;
	uint8_t type;
	char name[];
} __attribute__((packed));

struct list {
	char *at;
	char *end;
};

static void add(struct list *list, const char *text, size_t length)
{
	if (length + 2 > (size_t)(list->end - list->at))
		return;		/* room is kept for the empty one that ends it all */
	memcpy(list->at, text, length);
	list->at[length] = 0;
	list->at += length + 1;
}

static bool open_once(int *fd, const char *path, int flags)
{
	if (*fd == NOT_OPEN)
		*fd = raw4(__NR_openat, AT_FDCWD, path, O_RDONLY | O_CLOEXEC | flags, 0);
	return *fd >= 0;
}

/* Processes stand behind all else in /proc, and come and go. */
static bool is_number(const char *name)
{
	return *name >= '1' && *name <= '9' && !name[strspn(name, "0123456789")];
}

static void add_directory(struct list *list, int fd, const char *path)
{
	const bool processes = !strcmp(path, "/proc"), aliases = !strcmp(path, ALIASES);
	static char buffer[4096] __attribute__((aligned(8)));
	/* Each process that does not fit any more is none that the kernel makes an inode for. */
	const size_t size = processes ? 512 : sizeof(buffer);
	long got, at;

	raw3(__NR_lseek, fd, 0, SEEK_SET);
	while ((got = raw3(__NR_getdents64, fd, buffer, size)) > 0) {
		for (at = 0; at < got; at += ((struct entry *)(buffer + at))->size) {
			const struct entry *entry = (const void *)(buffer + at);

			if (processes && is_number(entry->name))
				return;
			if (aliases && entry->type == DT_LNK)
				continue;
			if (entry->name[0] != '.' ||
			    (strcmp(entry->name, ".") && strcmp(entry->name, "..")))
				add(list, entry->name, strlen(entry->name));
		}
	}
}

static void add_file(struct list *list, int fd)
{
	char *const begin = list->at;
	char *at, *to;
	long got;

	raw3(__NR_lseek, fd, 0, SEEK_SET);
	while (list->end - list->at > 4096 && (got = raw3(__NR_read, fd, list->at, 4096)) > 0)
		list->at += got;
	/* Without empty lines: an empty string ends the place. */
	for (at = to = begin; at < list->at; at++)
		if (*at != '\n')
			*to++ = *at;
		else if (to > begin && to[-1])
			*to++ = 0;
	if (to > begin && to[-1])
		*to++ = 0;
	list->at = to;
}

static void add_family(struct list *list, const struct nlmsghdr *message)
{
	const struct nlattr *attr = (const void *)((const char *)message + NLMSG_HDRLEN + GENL_HDRLEN);
	const char *const end = (const char *)message + message->nlmsg_len;

	while ((const char *)(attr + 1) <= end && attr->nla_len >= sizeof(*attr)) {
		if (attr->nla_type == CTRL_ATTR_FAMILY_NAME) {
			const char *name = (const char *)(attr + 1);

			add(list, name, strnlen(name, attr->nla_len - sizeof(*attr)));
			return;
		}
		attr = (const void *)((const char *)attr + NLA_ALIGN(attr->nla_len));
	}
}

static void add_families(struct list *list)
{
	static char buffer[16384] __attribute__((aligned(8)));
	const struct {
		struct nlmsghdr head;
		struct genlmsghdr what;
	} ask = {
		.head = {
			.nlmsg_len = sizeof(ask),
			.nlmsg_type = GENL_ID_CTRL,
			.nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP,
		},
		.what = { .cmd = CTRL_CMD_GETFAMILY, .version = 1 },
	};
	long got;

	if (fds.families == NOT_OPEN)
		fds.families = raw3(__NR_socket, AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC);
	if (fds.families < 0 ||
	    raw6(__NR_sendto, fds.families, (long)&ask, sizeof(ask), 0, 0, 0) < 0)
		return;
	while ((got = raw6(__NR_recvfrom, fds.families, (long)buffer, sizeof(buffer), 0, 0, 0)) > 0) {
		const struct nlmsghdr *message = (const void *)buffer;

		for (; NLMSG_OK(message, got); message = NLMSG_NEXT(message, got)) {
			if (message->nlmsg_type != GENL_ID_CTRL)
				return;	/* done, or an error */
			add_family(list, message);
		}
	}
}

/*
 * Up to where /proc/PID/stat has a thread's flags. One that has gone meanwhile is none.
 */
static void add_thread(struct list *list, uint32_t pid)
{
	char stat[160], text[24] = "/proc/", *at = text + 6;
	uint32_t power = 1;
	long fd, got;

	while (pid / power > 9)
		power *= 10;
	for (; power; power /= 10)
		*at++ = '0' + pid / power % 10;
	memcpy(at, "/stat", 6);
	fd = raw4(__NR_openat, AT_FDCWD, text, O_RDONLY | O_CLOEXEC, 0);
	if (fd < 0)
		return;
	got = raw3(__NR_read, fd, stat, sizeof(stat));
	raw1(__NR_close, fd);
	if (got > 0)
		add(list, stat, got);
}

static uint32_t last_pid(void)
{
	char text[80];
	long got, at;
	uint32_t pid = 0;

	raw3(__NR_lseek, fds.load, 0, SEEK_SET);
	got = raw3(__NR_read, fds.load, text, sizeof(text));
	for (at = got; at > 0 && text[at - 1] != ' '; at--)
		;	/* proc_loadavg(5): the last of its words */
	for (; at < got && text[at] >= '0' && text[at] <= '9'; at++)
		pid = pid * 10 + (text[at] - '0');
	return pid;
}

/*
 * What has got its number after they were first listed, and is still there: that costs far
 * less than to go through all children of kthreadd.
 */
static void add_threads(struct list *list)
{
	static uint32_t known;
	const uint32_t last = last_pid();
	uint32_t pid;

	if (!known)
		known = last;
	for (pid = known + 1; pid <= last; pid++)
		add_thread(list, pid);
}

static void add_memory(struct list *list)
{
	char text[24], *at = text + sizeof(text);
	struct sysinfo info;
	uint64_t kib;

	if (raw1(__NR_sysinfo, &info))
		return;
	kib = (uint64_t)info.freeram * info.mem_unit >> 10;
	do {
		*--at = '0' + kib % 10;
	} while (kib /= 10);
	add(list, at, text + sizeof(text) - at);
}

static void begin(struct list *list, const char *place)
{
	add(list, place, strlen(place));
}

static void end(struct list *list)
{
	*list->at++ = 0;
}

/* `wide`: all of them. */
void names_list(struct run *run, bool wide)
{
	char *const to = run_data(run);
	/* So much is kept that each place can be ended. */
	struct list list = { to, to + NAMES_MAX - 64 };
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(directories); i++) {
		const char *path = directories[i].path;

		if ((directories[i].wide && !wide) ||
		    !open_once(&fds.directories[i], path, O_DIRECTORY))
			continue;
		begin(&list, path);
		add_directory(&list, fds.directories[i], path);
		end(&list);
	}
	for (i = 0; i < ARRAY_SIZE(files); i++) {
		if ((files[i].wide && !wide) || !open_once(&fds.files[i], files[i].path, 0))
			continue;
		begin(&list, files[i].path);
		add_file(&list, fds.files[i]);
		end(&list);
	}
	if (wide) {
		begin(&list, FAMILIES);
		add_families(&list);
		end(&list);
	}
	if (open_once(&fds.load, "/proc/loadavg", 0)) {
		begin(&list, THREADS);
		add_threads(&list);
		end(&list);
	}
	begin(&list, MEMORY);
	add_memory(&list);
	end(&list);
	run_result(run, list.at - to, 1);
	run_data_end(run, list.at - to);
}
