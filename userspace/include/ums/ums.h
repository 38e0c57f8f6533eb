/* SPDX-License-Identifier: MIT */
/*
 * User-mode scheduling from C: the system calls, and what a program does itself
 * with the pages of a completion list. Needs no library: all functions are
 * inline. libums.so has them as ordinary functions too, for other languages.
 *
 * In the manner of liburing, a function returns a negative error number when it
 * fails, and never touches errno. Documentation/userspace-api/ums.rst says what
 * each system call does and when it fails.
 */
#ifndef UMS_UMS_H
#define UMS_UMS_H

#if !defined(__x86_64__) || defined(__ILP32__)
#error "user-mode scheduling exists for x86-64 only"
#endif

#include <errno.h>
#include <stddef.h>
#include <linux/time_types.h>

/*
 * The kernel's <linux/ums.h>, brought along since the C library's kernel
 * headers do not have it. Whichever was included first is used.
 */
#if !defined(_UAPI_LINUX_UMS_H) && !defined(_LINUX_UMS_H)
#include <ums/linux_ums.h>
#define _LINUX_UMS_H
#endif

/* For a C library which does not know the numbers. */
#ifndef __NR_ums_create
#define __NR_ums_create			548
#define __NR_ums_worker_enter		549
#define __NR_ums_detach			550
#define __NR_ums_scheduler_enter	551
#define __NR_ums_scheduler_exit		552
#define __NR_ums_execute		553
#define __NR_ums_yield			554
#define __NR_ums_wait			555
#define __NR_ums_preempt		556
#define __NR_ums_query			557
#define __NR_ums_set			558
#endif

#ifdef __cplusplus
extern "C" {
#endif

#ifndef UMS_INLINE
#define UMS_INLINE static inline
#endif

/* A system call. Does not go through syscall(3), which sets errno. */
static inline long ums_syscall4(long nr, long a, long b, long c, long d)
{
	register long r10 __asm__("r10") = d;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
			 : "rcx", "r11", "memory");
	return ret;
}

static inline long ums_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ volatile("syscall"
			 : "=a"(ret)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return ret;
}

/* Make a completion list. Returns its file descriptor. */
UMS_INLINE int ums_create(struct ums_create_args *args, size_t size)
{
	return (int)ums_syscall4(__NR_ums_create, (long)args, (long)size, 0, 0);
}

/*
 * Make the calling thread a worker. Returns its id when a scheduler has executed
 * it for the first time.
 */
UMS_INLINE long ums_worker_enter(int list_fd, const struct ums_worker_args *args, size_t size)
{
	return ums_syscall4(__NR_ums_worker_enter, list_fd, (long)args, (long)size, 0);
}

/* Make the calling worker an ordinary thread again. */
UMS_INLINE int ums_detach(unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_detach, (long)flags, 0, 0, 0);
}

/*
 * Make the calling thread a scheduler. Returns only when that failed; otherwise
 * the thread goes on in args->entry, with UMS_UPCALL_STARTUP.
 */
UMS_INLINE int ums_scheduler_enter(const struct ums_scheduler_args *args, size_t size)
{
	return (int)ums_syscall4(__NR_ums_scheduler_enter, (long)args, (long)size, 0, 0);
}

/* Make the calling scheduler an ordinary thread again. */
UMS_INLINE int ums_scheduler_exit(unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_scheduler_exit, (long)flags, 0, 0, 0);
}

/*
 * Run @worker on the calling scheduler, for at most @slice_ns nanoseconds if
 * that is not 0. Returns only when that failed; otherwise the scheduler goes on
 * with its next upcall.
 */
UMS_INLINE int ums_execute(__u64 worker, __u64 slice_ns, unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_execute, (long)worker, (long)slice_ns, (long)flags, 0);
}

/* Give the processor back to the scheduler, with @arg. */
UMS_INLINE int ums_yield(__u64 arg, unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_yield, (long)arg, (long)flags, 0, 0);
}

/* Sleep until the list is non-empty. @timeout may be NULL: for ever. */
UMS_INLINE int ums_wait(int list_fd, const struct __kernel_timespec *timeout, unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_wait, list_fd, (long)timeout, (long)flags, 0);
}

/* Stop a running worker and put it on its list. */
UMS_INLINE int ums_preempt(__u64 worker, unsigned int flags)
{
	return (int)ums_syscall4(__NR_ums_preempt, (long)worker, (long)flags, 0, 0);
}

UMS_INLINE int ums_query(unsigned int which, __u64 id, void *info, size_t size)
{
	return (int)ums_syscall4(__NR_ums_query, (long)which, (long)id, (long)info, (long)size);
}

UMS_INLINE int ums_set(unsigned int which, __u64 id, __u64 value)
{
	return (int)ums_syscall4(__NR_ums_set, (long)which, (long)id, (long)value, 0);
}

/*
 * Ask what this kernel offers. Returns 0 when UMS can be used; -EPERM when the
 * kernel has it but refuses it to the caller (sysctl kernel.ums_disabled; *@abi
 * is valid); -ENOSYS when it has none (*@abi is all zero).
 */
UMS_INLINE int ums_probe(struct ums_abi *abi)
{
	struct ums_abi none = {0, 0, 0, 0, 0};
	int ret;

	*abi = none;
	ret = ums_query(UMS_QUERY_ABI, 0, abi, sizeof(*abi));
	/* What an unrelated system call of that number might leave is no answer. */
	if (ret || !abi->version) {
		*abi = none;
		return -ENOSYS;
	}
	return abi->disabled ? -EPERM : 0;
}

/* A completion list and its pages. Filled in by ums_list_open(). */
struct ums_list {
	int fd;
	struct ums_list_header *header;
	__u64 *ring;
	struct ums_slot *slots;
	size_t size; /* of the pages */
};

/* Make a completion list for @max_workers and map its pages. */
UMS_INLINE int ums_list_open(struct ums_list *list, unsigned int max_workers)
{
	struct ums_create_args args = {0, max_workers, 0, 0, 0, 0};
	long fd, pages;

	fd = ums_create(&args, sizeof(args));
	if (fd < 0)
		return (int)fd;

	/* mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) */
	pages = ums_syscall6(9, 0, (long)args.mmap_size, 0x1 | 0x2, 0x01, fd, 0);
	if (pages < 0 && pages > -4096) {
		ums_syscall4(3 /* close */, fd, 0, 0, 0);
		return (int)pages;
	}
	list->fd = (int)fd;
	list->header = (struct ums_list_header *)pages;
	list->ring = (__u64 *)((char *)pages + args.ring_offset);
	list->slots = (struct ums_slot *)((char *)pages + args.slots_offset);
	list->size = (size_t)args.mmap_size;
	return 0;
}

/* Unmap and close. The list's workers become ordinary threads. */
UMS_INLINE void ums_list_close(struct ums_list *list)
{
	ums_syscall4(3 /* close */, list->fd, 0, 0, 0);
	ums_syscall4(11 /* munmap */, (long)list->header, (long)list->size, 0, 0);
	list->fd = -1;
	list->header = NULL;
}

/*
 * Take up to @max workers from the list, the longest published first. Returns
 * how many ids it has put into @ids; 0: the list is empty. Any number of threads
 * may do so at the same time, without a lock or a system call.
 */
UMS_INLINE unsigned int ums_list_pop_many(const struct ums_list *list, __u64 *ids, unsigned int max)
{
	struct ums_list_header *header = list->header;
	__u64 mask = header->ring_mask;
	__u64 head = __atomic_load_n(&header->head, __ATOMIC_ACQUIRE);
	__u64 n, i;

	do {
		/* Pairs with the kernel's release: the ids up to tail are there. */
		n = __atomic_load_n(&header->tail, __ATOMIC_ACQUIRE) - head;
		if (n > max)
			n = max;
		for (i = 0; i < n; i++)
			ids[i] = __atomic_load_n(&list->ring[(head + i) & mask], __ATOMIC_RELAXED);
		if (!n)
			return 0;
		/*
		 * A place is written again only after its id was taken, so what
		 * was read is right if head is still the same: positions have 64
		 * bits and do not come back.
		 */
	} while (!__atomic_compare_exchange_n(&header->head, &head, head + n, 0, __ATOMIC_ACQ_REL,
					      __ATOMIC_ACQUIRE));
	return (unsigned int)n;
}

/* Take the longest published worker. Returns its id, or 0: the list is empty. */
UMS_INLINE __u64 ums_list_pop(const struct ums_list *list)
{
	__u64 id;

	/* An attempt that failed has left an id there which somebody else took. */
	return ums_list_pop_many(list, &id, 1) ? id : 0;
}

/* The slot of a worker of this list. */
UMS_INLINE struct ums_slot *ums_list_slot(const struct ums_list *list, __u64 id)
{
	return &list->slots[UMS_ID_SLOT(id)];
}

/*
 * A region in which the calling worker's blocking makes no upcall, and in which
 * it is not preempted: its scheduler sleeps until it comes back. @slot is the
 * caller's own. Regions nest. No system call, unless a preemption was waiting
 * for the end of the outermost one.
 */
UMS_INLINE void ums_no_upcall_enter(struct ums_slot *slot)
{
	__atomic_store_n(&slot->no_upcall, slot->no_upcall + 1, __ATOMIC_RELAXED);
	/* The kernel reads the word in this thread: only the compiler must not move it. */
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

UMS_INLINE void ums_no_upcall_leave(struct ums_slot *slot)
{
	__u32 depth = slot->no_upcall - 1;

	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	__atomic_store_n(&slot->no_upcall, depth, __ATOMIC_RELAXED);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (!depth && (__atomic_load_n(&slot->attention, __ATOMIC_RELAXED) & UMS_ATTN_PREEMPT))
		ums_preempt(slot->id, 0);
}

#ifdef __cplusplus
}
#endif

#endif /* UMS_UMS_H */
