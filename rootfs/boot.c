// SPDX-License-Identifier: GPL-2.0-only
/*
 * What init does before there is a supervisor: file systems, the modules that the
 * port needs, the port.
 */
#include "boot.h"
#include "agent.h"
#include "clock.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define PORT_NAME	"chanlab.agent"
#define PORT_PATIENCE	(30 * NSEC)
#define MODULES_DIR	"/lab/modules/"
#define MODULES_LIST	"/lab/modules.list"

static int console = 2;

static void say(const char *what, const char *which)
{
	char line[256];
	int length = snprintf(line, sizeof(line), "chanlab agent: %s %s\n", what, which);

	if (length > (int)sizeof(line) - 1)
		length = sizeof(line) - 1;
	if (write(console, line, length) < 0)
		return;	/* there is nobody else to tell */
}

/* The end of PID 1 is a panic: the host sees it at once, with our line above it. */
void die(const char *what, const char *which)
{
	say(what, which);
	_exit(1);
}

static void mount_all(void)
{
	static const struct {
		const char *type;
		const char *where;
		const char *options;
		bool must;
	} mounts[] = {
		{ "proc", "/proc", NULL, true },
		{ "sysfs", "/sys", NULL, true },
		{ "devtmpfs", "/dev", "mode=0755", true },
		{ "tmpfs", "/tmp", "mode=1777", true },
		{ "devpts", "/dev/pts", "gid=5,mode=620,ptmxmode=666", false },
		{ "tmpfs", "/dev/shm", "mode=1777", false },
		{ "debugfs", "/sys/kernel/debug", NULL, false },
		{ "tracefs", "/sys/kernel/tracing", NULL, false },
		{ "configfs", "/sys/kernel/config", NULL, false },
	};
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(mounts); i++) {
		mkdir(mounts[i].where, 0755);
		if (mount(mounts[i].type, mounts[i].where, mounts[i].type, 0, mounts[i].options) &&
		    mounts[i].must)
			die("cannot mount", mounts[i].where);
	}
}

/* Actors have nothing but /dev/null there; the console is the kernel's. */
static void quiet_stdio(void)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	const int kept = open("/dev/console", O_WRONLY | O_CLOEXEC | O_NOCTTY);
	int i;

	if (null < 0)
		die("cannot open", "/dev/null");
	if (kept >= 0)
		console = kept;
	for (i = 0; i <= 2; i++)
		if (dup2(null, i) < 0)
			die("cannot use", "/dev/null");
	if (null > 2)
		close(null);
}

void write_file(const char *path, const char *text)
{
	const int fd = open(path, O_WRONLY | O_CLOEXEC);

	if (fd < 0)
		return;
	if (write(fd, text, strlen(text)) < 0)
		say("cannot write", path);
	close(fd);
}

static void load(const char *name)
{
	char path[512];
	int fd;

	snprintf(path, sizeof(path), "%s%s", name[0] == '/' ? "" : MODULES_DIR, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		say("no such module:", path);
		return;
	}
	if (syscall(__NR_finit_module, fd, "", 0) && errno != EEXIST) {
		say("cannot load", path);
		say("because", strerror(errno));
	}
	close(fd);
}

static void load_modules(void)
{
	FILE *list = fopen(MODULES_LIST, "re");
	char name[256];

	if (!list)
		return;	/* everything is built in */
	while (fgets(name, sizeof(name), list)) {
		name[strcspn(name, "\r\n")] = 0;
		if (name[0])
			load(name);
	}
	fclose(list);
}

/* Its node, when there is a port of our name by now. */
static bool find_port(char *path, size_t size)
{
	static const char class[] = "/sys/class/virtio-ports";
	DIR *dir = opendir(class);
	struct dirent *entry;
	bool found = false;

	if (!dir)
		return false;
	while (!found && (entry = readdir(dir))) {
		char file[512], name[64] = "";
		FILE *stream;

		snprintf(file, sizeof(file), "%s/%s/name", class, entry->d_name);
		stream = fopen(file, "re");
		if (!stream)
			continue;
		if (fgets(name, sizeof(name), stream)) {
			name[strcspn(name, "\n")] = 0;
			found = !strcmp(name, PORT_NAME);
		}
		fclose(stream);
		if (found)
			snprintf(path, size, "/dev/%s", entry->d_name);
	}
	closedir(dir);
	return found;
}

int open_port(void)
{
	const uint64_t deadline = now_ns() + PORT_PATIENCE;
	char path[512];

	while (now_ns() < deadline) {
		if (find_port(path, sizeof(path))) {
			const int fd = open(path, O_RDWR | O_CLOEXEC | O_NONBLOCK);

			if (fd >= 0)
				return fd;
		}
		usleep(2000);
	}
	die("no virtio port named", PORT_NAME);
}

void boot(void)
{
	/* Actors' control descriptors are just below this, which is also the usual value. */
	const struct rlimit files = { .rlim_cur = 1024, .rlim_max = 4096 };

	mount_all();
	quiet_stdio();
	setrlimit(RLIMIT_NOFILE, &files);
	/* The console shows everything from here on. */
	write_file("/proc/sys/kernel/printk", "8 4 1 7");
	/* No clone lives so long that the counters of its CPUs would have to be added up meanwhile. */
	write_file("/proc/sys/vm/stat_interval", "3600");
	setpriority(PRIO_PROCESS, 0, -10);
	load_modules();
}
