# SPDX-License-Identifier: MIT
"""Which headers make up the interface of the kernel. Those that a release lacks are left out there."""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


# The kernel's own (linux-libc-dev), which need nothing of the C library's: they come first, since they
# describe what a raw system call takes.
KERNEL = _words("""
asm/errno.h asm/fcntl.h asm/ioctls.h asm/mman.h asm/poll.h asm/ptrace.h asm/resource.h asm/signal.h
asm/siginfo.h asm/socket.h asm/sockios.h asm/stat.h asm/statfs.h asm/termbits.h asm/termios.h asm/unistd.h
linux/types.h linux/errno.h linux/fcntl.h linux/ioctl.h linux/poll.h linux/eventpoll.h linux/mman.h
linux/signal.h linux/signalfd.h linux/socket.h linux/sockios.h linux/stat.h linux/time.h
linux/time_types.h linux/wait.h linux/sched.h linux/prctl.h linux/ptrace.h linux/capability.h
linux/securebits.h linux/futex.h linux/resource.h linux/personality.h linux/kcmp.h linux/membarrier.h
linux/rseq.h linux/seccomp.h linux/filter.h linux/memfd.h linux/userfaultfd.h linux/mempolicy.h
linux/limits.h linux/close_range.h linux/openat2.h linux/mount.h linux/magic.h linux/fs.h linux/fiemap.h
linux/falloc.h linux/fadvise.h linux/uio.h linux/utime.h linux/xattr.h linux/inotify.h linux/fanotify.h
linux/quota.h linux/timex.h linux/timerfd.h linux/eventfd.h linux/times.h linux/utsname.h linux/landlock.h
linux/pidfd.h linux/ipc.h linux/msg.h linux/sem.h linux/mqueue.h linux/random.h linux/reboot.h
linux/module.h linux/kexec.h linux/aio_abi.h linux/io_uring.h linux/perf_event.h linux/bpf.h
linux/bpf_common.h linux/btf.h linux/keyctl.h linux/sysinfo.h linux/if_alg.h linux/cryptouser.h
linux/posix_types.h linux/nsfs.h linux/pkt_sched.h linux/rtc.h linux/auxvec.h linux/elf.h linux/binfmts.h
linux/userio.h linux/loop.h linux/input-event-codes.h linux/tty.h linux/tty_flags.h linux/serial.h
linux/vt.h linux/kd.h linux/major.h linux/hidraw.h linux/hid.h linux/dma-buf.h linux/dma-heap.h
linux/udmabuf.h linux/sync_file.h linux/ptp_clock.h linux/vm_sockets_diag.h linux/un.h linux/in.h
linux/in6.h linux/ip.h linux/ipv6.h linux/icmpv6.h linux/tcp.h linux/udp.h linux/if_addr.h
linux/if_addrlabel.h linux/if_ether.h linux/if_link.h linux/if_packet.h linux/if_tun.h linux/if_vlan.h
linux/if_bridge.h linux/veth.h linux/net.h linux/net_tstamp.h linux/net_namespace.h linux/neighbour.h
linux/rtnetlink.h linux/netlink.h linux/netlink_diag.h linux/sock_diag.h linux/unix_diag.h
linux/inet_diag.h linux/packet_diag.h linux/genetlink.h linux/connector.h linux/cn_proc.h
linux/taskstats.h linux/devlink.h linux/errqueue.h linux/fib_rules.h linux/lwtunnel.h linux/nexthop.h
linux/gen_stats.h linux/rfkill.h linux/audit.h linux/tls.h linux/uuid.h linux/pkt_cls.h linux/if_xdp.h
linux/handshake.h linux/netdev.h linux/netfilter.h linux/nfs.h linux/sched/types.h
linux/tc_act/tc_mirred.h linux/netfilter/nfnetlink.h linux/netfilter/nfnetlink_conntrack.h
linux/netfilter/nfnetlink_log.h linux/netfilter/nfnetlink_queue.h linux/netfilter/nfnetlink_compat.h
linux/netfilter/nf_conntrack_common.h linux/netfilter/nf_conntrack_tcp.h
linux/netfilter/nf_conntrack_sctp.h linux/netfilter/nf_tables.h linux/netfilter/nf_nat.h
linux/netfilter/x_tables.h linux/netfilter/ipset/ip_set.h linux/nfsd/export.h linux/sunrpc/debug.h
""")

# The kernel's own that include the C library's, and so cannot stand beside those above.
KERNEL_WITH_LIBRARY = _words("""
linux/shm.h linux/fuse.h linux/auto_fs.h linux/input.h linux/uinput.h linux/uhid.h linux/vm_sockets.h
linux/icmp.h linux/if.h linux/if_arp.h linux/if_tunnel.h linux/netdevice.h linux/route.h linux/ethtool.h
linux/ethtool_netlink.h linux/mptcp.h linux/netfilter_ipv4.h linux/netfilter_ipv6.h
linux/netfilter_ipv4/ip_tables.h
""")

# The C library's, for what the kernel's leave to it: AF_*, SOCK_*, MSG_*, struct msghdr, cmsghdr, ucred
# (sys/socket.h), MNT_* (sys/mount.h), EFD_* (sys/eventfd.h; the kernel has it from 6.8), LOCK_* (sys/file.h),
# R_OK, SEEK_* (unistd.h), AT_* (fcntl.h), DT_* (dirent.h), INT_MAX (limits.h), UINT64_MAX (stdint.h).
LIBRARY = _words("""
sys/socket.h netinet/in.h netinet/tcp.h sys/un.h sys/mount.h sys/eventfd.h sys/file.h sys/epoll.h
sys/select.h sys/wait.h sys/times.h sys/time.h unistd.h fcntl.h dirent.h limits.h stdint.h
""")

# What the kernel takes and no header says: what getdents() and getdents64() give, pselect6()'s last argument,
# and on x86 the number that SIGRTMAX stands for.
EXTRA = """
#ifndef _NSIG
#define _NSIG 64
#endif
struct linux_dirent { unsigned long d_ino; unsigned long d_off; unsigned short d_reclen; char d_name[]; };
struct linux_dirent64 {
	__u64 d_ino; __s64 d_off; unsigned short d_reclen; unsigned char d_type; char d_name[];
};
struct pselect6_sigmask { const void *ss; unsigned long ss_len; };
"""

# The kernel's name for what the C library's name means.
ALIASES = {"user_msghdr": "msghdr"}
