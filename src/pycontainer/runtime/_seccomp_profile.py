"""Docker's default seccomp profile as data: what a container may ask of the kernel.

Follows moby's `profiles/seccomp` as of 2026. Everything is refused with EPERM but for what stands
here. Names that an ABI does not have are of no effect there.
"""

from __future__ import annotations

__all__ = [
    "ALLOWED",
    "BY_CAPABILITY",
    "BY_KERNEL",
    "BY_MACHINE",
    "FIRST_SOCKET_FAMILIES",
    "NAMESPACE_FLAGS",
    "PERSONALITIES",
    "SOCKET_FAMILIES",
]

_PROCESSES = """
execve execveat exit exit_group fork vfork wait4 waitid waitpid kill tkill tgkill pause
getpid getppid gettid getpgid getpgrp setpgid getsid setsid pidfd_open pidfd_send_signal
prctl seccomp landlock_create_ruleset landlock_add_rule landlock_restrict_self
capget capset rseq set_tid_address set_thread_area get_thread_area restart_syscall
get_robust_list set_robust_list futex futex_time64 futex_waitv futex_wait futex_wake futex_requeue
getpriority setpriority ioprio_get ioprio_set getcpu process_mrelease uretprobe riscv_hwprobe
sched_getaffinity sched_setaffinity sched_getattr sched_setattr sched_getparam sched_setparam
sched_getscheduler sched_setscheduler sched_get_priority_max sched_get_priority_min
sched_rr_get_interval sched_rr_get_interval_time64 sched_yield
getrlimit ugetrlimit setrlimit prlimit64 getrusage times uname sysinfo umask membarrier
"""
_IDENTITIES = """
getuid geteuid getgid getegid getresuid getresgid getgroups
getuid32 geteuid32 getgid32 getegid32 getresuid32 getresgid32 getgroups32
setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
setuid32 setgid32 setreuid32 setregid32 setresuid32 setresgid32 setfsuid32 setfsgid32 setgroups32
"""
_MEMORY = """
brk mmap mmap2 munmap mremap mprotect msync madvise mincore remap_file_pages
mlock mlock2 mlockall munlock munlockall mseal map_shadow_stack
pkey_alloc pkey_free pkey_mprotect memfd_create memfd_secret
"""
_FILES = """
open openat openat2 creat close close_range read readv pread64 preadv preadv2 readahead
write writev pwrite64 pwritev pwritev2 lseek _llseek dup dup2 dup3 pipe pipe2
fcntl fcntl64 flock ioctl select _newselect pselect6 pselect6_time64 poll ppoll ppoll_time64
epoll_create epoll_create1 epoll_ctl epoll_ctl_old epoll_wait epoll_wait_old epoll_pwait epoll_pwait2
eventfd eventfd2 signalfd signalfd4 inotify_init inotify_init1 inotify_add_watch inotify_rm_watch
fanotify_mark name_to_handle_at
io_setup io_destroy io_submit io_cancel io_getevents io_pgetevents io_pgetevents_time64
sendfile sendfile64 splice tee vmsplice copy_file_range cachestat fadvise64 fadvise64_64
truncate truncate64 ftruncate ftruncate64 fallocate sync syncfs fsync fdatasync sync_file_range
stat stat64 lstat lstat64 fstat fstat64 newfstatat fstatat64 statx
statfs statfs64 fstatfs fstatfs64 statmount listmount
access faccessat faccessat2 chmod fchmod fchmodat fchmodat2
chown chown32 lchown lchown32 fchown fchown32 fchownat
utime utimes futimesat utimensat utimensat_time64
link linkat symlink symlinkat readlink readlinkat unlink unlinkat rename renameat renameat2
mkdir mkdirat rmdir mknod mknodat getdents getdents64 getcwd chdir fchdir
getxattr lgetxattr fgetxattr getxattrat setxattr lsetxattr fsetxattr setxattrat
listxattr llistxattr flistxattr listxattrat removexattr lremovexattr fremovexattr removexattrat
"""
_COMMUNICATION = """
socketcall socketpair bind listen accept accept4 connect shutdown
getsockname getpeername getsockopt setsockopt
send sendto sendmsg sendmmsg recv recvfrom recvmsg recvmmsg recvmmsg_time64
ipc msgget msgctl msgsnd msgrcv semget semctl semop semtimedop semtimedop_time64
shmget shmctl shmat shmdt mq_open mq_unlink mq_notify mq_getsetattr
mq_timedsend mq_timedsend_time64 mq_timedreceive mq_timedreceive_time64
"""
_SIGNALS_AND_TIME = """
rt_sigaction rt_sigpending rt_sigprocmask rt_sigqueueinfo rt_tgsigqueueinfo rt_sigreturn
rt_sigsuspend rt_sigtimedwait rt_sigtimedwait_time64 sigaltstack sigprocmask sigreturn
time gettimeofday nanosleep alarm getitimer setitimer adjtimex getrandom
clock_getres clock_getres_time64 clock_gettime clock_gettime64 clock_adjtime clock_adjtime64
clock_nanosleep clock_nanosleep_time64
timer_create timer_delete timer_getoverrun timer_gettime timer_gettime64 timer_settime timer_settime64
timerfd_create timerfd_gettime timerfd_gettime64 timerfd_settime timerfd_settime64
"""
ALLOWED = _PROCESSES + _IDENTITIES + _MEMORY + _FILES + _COMMUNICATION + _SIGNALS_AND_TIME
"""Calls that are allowed whatever their arguments."""

BY_KERNEL = {
    # Before 4.8 a tracer could lead its tracee around the filter.
    (4, 8): "ptrace process_vm_readv process_vm_writev",
}
"""Calls that are allowed from a kernel version on."""

BY_MACHINE = {
    ("amd64", "x32"): "arch_prctl",
    ("amd64", "x32", "x86"): "modify_ldt",
    ("arm", "arm64"): (
        "arm_fadvise64_64 arm_sync_file_range sync_file_range2 breakpoint cacheflush set_tls"
    ),
}
"""Calls that are allowed on machines, by the names that profiles have for these."""

BY_CAPABILITY = {
    "CAP_BPF": "bpf",
    "CAP_DAC_READ_SEARCH": "open_by_handle_at",
    "CAP_PERFMON": "perf_event_open",
    "CAP_SYSLOG": "syslog",
    "CAP_SYS_ADMIN": """
        bpf clone clone3 unshare setns fanotify_init lookup_dcookie perf_event_open syslog
        mount umount umount2 move_mount mount_setattr open_tree fsopen fspick fsconfig fsmount
        quotactl quotactl_fd sethostname setdomainname
        lsm_get_self_attr lsm_set_self_attr lsm_list_modules
    """,
    "CAP_SYS_BOOT": "reboot",
    "CAP_SYS_CHROOT": "chroot",
    "CAP_SYS_MODULE": "init_module finit_module delete_module",
    "CAP_SYS_NICE": "mbind get_mempolicy set_mempolicy set_mempolicy_home_node",
    "CAP_SYS_PACCT": "acct",
    "CAP_SYS_PTRACE": (
        "ptrace kcmp pidfd_getfd process_madvise process_vm_readv process_vm_writev"
    ),
    "CAP_SYS_RAWIO": "iopl ioperm",
    "CAP_SYS_TIME": "settimeofday stime clock_settime clock_settime64",
    "CAP_SYS_TTY_CONFIG": "vhangup",
}
"""Calls that are allowed to whom a capability is given."""

# AF_VSOCK (40) reaches past network namespaces to the hypervisor; AF_ALG (38) is attack surface
# without use in a container; the others left out have no implementation in current kernels.
FIRST_SOCKET_FAMILIES = 12
"""Sockets may be made of all address families below this one,"""
SOCKET_FAMILIES = (
    *(13, 14, 15, 16, 17, 18, 21, 22, 24, 26, 27, 28, 29, 30, 31, 32, 33, 35, 36, 39),
    *(41, 42, 43, 44, 45),
)
"""and of these. It does not bind socketcall(2), see `ALLOWED`: its arguments are in memory."""

PERSONALITIES = (0, 0x0008, 0x20000, 0x20008, 0xFFFFFFFF)
"""PER_LINUX, PER_LINUX32, each alone and with UNAME26, and the query of the present one."""

NAMESPACE_FLAGS = 0x7E020000
"""Flags of clone(2) that make namespaces: mount, cgroup, UTS, IPC, user, PID and network."""
