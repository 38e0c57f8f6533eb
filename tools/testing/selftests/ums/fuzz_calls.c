// SPDX-License-Identifier: GPL-2.0
/*
 * Fuzzer: the calls of user-mode scheduling. Each can be made as it is meant,
 * for without that nothing deep would be reached, or with arguments of which any
 * may be wrong.
 */
#include "fuzz.h"

#include <limits.h>
#include <sys/mman.h>

#define RNG	(&t->rng)

const char * const call_names[CALLS] = {
	"ums_create", "ums_worker_enter", "ums_detach", "ums_scheduler_enter",
	"ums_scheduler_exit", "ums_execute", "ums_yield", "ums_wait", "ums_preempt",
	"ums_query", "ums_set",
};

/* The errors that Documentation/userspace-api/ums.rst has for each call. */
static const unsigned char documented[CALLS][12] = {
	{ EPERM, EINVAL, E2BIG, EFAULT, ENOSPC, EMFILE, ENFILE, ENOMEM },
	{ EPERM, EBADF, EINVAL, E2BIG, EFAULT, EXDEV, EBUSY, ENOSPC, ENOMEM,
	  EEXIST, EOPNOTSUPP },
	{ EINVAL, EPERM },
	{ EPERM, EINVAL, E2BIG, EFAULT, EBUSY, ENOMEM, EEXIST, EOPNOTSUPP },
	{ EINVAL, EPERM },
	{ EINVAL, EPERM, ESRCH, ESTALE, EBUSY, EAGAIN, EEXIST, EACCES },
	{ EINVAL, EPERM },
	{ EBADF, EINVAL, EXDEV, EFAULT, ETIMEDOUT, EINTR, EOWNERDEAD },
	{ EINVAL, ESRCH, ESTALE, EAGAIN, EACCES },
	{ EINVAL, E2BIG, EFAULT, ESRCH, ESTALE, EACCES },
	{ EINVAL, ESRCH, ESTALE, EACCES },
};

static bool right(unsigned int call, long ret)
{
	unsigned int i;

	switch (call + NR_UMS_CREATE) {
	case NR_UMS_CREATE:
		if (ret >= 0)
			return ret < FD_LIMIT;
		break;
	case NR_UMS_WORKER_ENTER:
		if (ret >= 0)
			return ret > 0 && UMS_ID_SERIAL((__u64)ret);
		break;
	case NR_UMS_SCHEDULER_ENTER:
	case NR_UMS_EXECUTE:
		/* After success, they do not return. */
		break;
	default:
		if (!ret)
			return true;
	}
	for (i = 0; i < sizeof(documented[call]) && documented[call][i]; i++)
		if (ret == -documented[call][i])
			return true;
	return false;
}

#define CALL_(nr, a, b, c, d, ...)					\
	call(nr, (long)(a), (long)(b), (long)(c), (long)(d))
#define CALL(...)	CALL_(__VA_ARGS__, 0, 0, 0, 0)

static long call(int nr, long a, long b, long c, long d)
{
	long ret = sys6(nr, a, b, c, d, 0, 0);
	unsigned int i = nr - NR_UMS_CREATE;

	/* Its pointer was wrong, and a tracer had it go on with another signal. */
	if (ret == -ENOSYS && p.can_switch)
		return ret;
	if (!right(i, ret))
		wrong(call_names[i], ret, a, b);
	else
		__atomic_fetch_add(&sh->result[i][ret < 0 ? -ret : 0], 1, __ATOMIC_RELAXED);
	return ret;
}

/* ---- arguments */

struct flist *pick_list(struct thread *t)
{
	unsigned int i, start = rnd_below(RNG, MAX_LISTS);
	struct flist *l;

	/* One of this process, if there is any. */
	for (i = 0; i < MAX_LISTS; i++) {
		l = &p.lists[(start + i) % MAX_LISTS];
		if (LOAD(l->fd) >= 0 && !l->foreign && l->mapped)
			return l;
	}
	return &p.lists[start];
}

static int pick_fd(struct thread *t)
{
	switch (rnd_below(RNG, 20)) {
	case 0:
		return -1;
	case 1:
		return rnd(RNG);
	case 2:
		return rnd_below(RNG, FD_LIMIT);
	case 3:
		return p.pipe[0];
	case 4:
		return p.epoll;
	case 5:
		return FD_EXE;
	case 6:
	case 7:
	case 8:
		/* Maybe of another process, or closed. */
		return p.lists[rnd_below(RNG, MAX_LISTS)].fd;
	default:
		return pick_list(t)->fd;
	}
}

/* Some thread of this process. */
int pick_tid(struct thread *t)
{
	int tid = LOAD(thread_of(rnd_below(RNG, p.threads))->tid);

	return tid > 1 ? tid : SYS(SYS_gettid);
}

void note_id(struct thread *t, __u64 id)
{
	STORE(p.ids[rnd_below(RNG, MAX_IDS)], id);
}

__u64 pick_id(struct thread *t)
{
	__u64 id = LOAD(p.ids[rnd_below(RNG, MAX_IDS)]);
	struct flist *l = pick_list(t);
	struct ums_slot *slot;

	if (one_in(RNG, 4)) {
		slot = slot_at(l, rnd_below(RNG, l->max_workers ? l->max_workers : 1));
		if (slot)
			id = LOAD(slot->id);
	}
	if (one_in(RNG, 8))
		id = t->id;
	switch (rnd_below(RNG, 32)) {
	case 0:
		return id ^ 1ULL << rnd_below(RNG, 64);
	case 1:
		return id ^ rnd(RNG);
	case 2:
		/* A serial number from before or after. */
		return id + ((__u64)rnd_below(RNG, 5) << 32) - (2ULL << 32);
	case 3:
		return id & ~0ULL >> rnd_below(RNG, 64);
	case 4:
		return rnd(RNG);
	case 5:
		return rnd_below(RNG, 4);
	default:
		return id;
	}
}

static unsigned int pick_flags(struct thread *t, unsigned int known)
{
	switch (rnd_below(RNG, 8)) {
	case 0:
		return 1U << rnd_below(RNG, 32);
	case 1:
		return rnd(RNG);
	default:
		return rnd(RNG) & known;
	}
}

static size_t pick_size(struct thread *t, size_t size)
{
	switch (rnd_below(RNG, 16)) {
	case 0:
		return rnd_below(RNG, 2 * PAGE + 1);
	case 1:
		return size - 1;
	case 2:
		return size + 1 + rnd_below(RNG, 64);
	case 3:
		return PAGE + rnd_below(RNG, 2);
	case 4:
		return rnd(RNG) >> rnd_below(RNG, 64);
	default:
		return size;
	}
}

/*
 * Where the kernel may well write: nothing that the threads' own code relies
 * on is at any of these.
 */
void *pick_address(struct thread *t)
{
	static const __u64 odd[] = {
		0, 1, 8, 0xffff888000000000, 0xffffffff81000000, 0xffffffffff600000,
		0x0000800000000000, 0x00007ffffffff000, 0x00007fffffffffff,
		0x8000000000000000, ~0ULL, -4096ULL,
	};

	switch (rnd_below(RNG, 12)) {
	case 0:
		return (void *)odd[rnd_below(RNG, sizeof(odd) / sizeof(odd[0]))];
	case 1:
		return (void *)rnd(RNG);
	case 2:
		/* Misaligned. */
		return scratch(t) + rnd_below(RNG, PAGE / 2);
	case 3:
		/* Into a page that is not there. */
		return scratch(t) + PAGE - 1 - rnd_below(RNG, 160);
	case 4:
		return p.zoo + (Z_UFFD + rnd_below(RNG, Z_FAULT - Z_UFFD)) * PAGE;
	case 5:
		return p.zoo + rnd_below(RNG, ZOO * PAGE);
	case 6:
		return p.zoo + rnd_below(RNG, ZOO) * PAGE;
	case 7:
		return window(pick_list(t)) + rnd_below(RNG, WINDOW);
	default:
		return scratch(t);
	}
}

/* Something in it is not as it was meant. */
static void mutate(struct thread *t, void *args, size_t size)
{
	__u64 *word = (__u64 *)args + rnd_below(RNG, size / 8);

	switch (rnd_below(RNG, 6)) {
	case 0:
		*word ^= 1ULL << rnd_below(RNG, 64);
		break;
	case 1:
		*word = rnd(RNG);
		break;
	case 2:
		*word = rnd_below(RNG, 3) - 1ULL;
		break;
	case 3:
		*word = (__u64)pick_address(t);
		break;
	case 4:
		*(__u32 *)word = 1U << rnd_below(RNG, 32);
		break;
	default:
		/* Behind it, where a later version might have something. */
		((char *)args)[size + rnd_below(RNG, 64)] = 1;
	}
}

/* The arguments of a call, in a place that may be wrong and not quite as given. */
static void *put(struct thread *t, const void *args, size_t size, bool valid)
{
	char *at = scratch(t);

	if (!valid) {
		if (one_in(RNG, 4))
			return pick_address(t);
		if (one_in(RNG, 4))
			at += PAGE - size;
	}
	memset(scratch(t), 0, 512);
	memcpy(at, args, size);
	if (!valid && one_in(RNG, 2) && at == scratch(t))
		mutate(t, at, size);
	return at;
}

/* ---- lists */

/* Its pages, where pages of lists belong. */
bool list_map(struct flist *l)
{
	size_t slots = l->slots_offset + (size_t)l->max_workers * sizeof(struct ums_slot);
	size_t size = (slots + PAGE - 1) & ~(PAGE - 1);
	long at;

	if (size > WINDOW)
		size = WINDOW;
	at = SYS(SYS_mmap, window(l), size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		 l->fd, 0);
	if (at < 0) {
		count(at == -EXDEV ? N_FOREIGN : N_MMAP_REFUSED);
		return false;
	}
	count(N_MMAP);
	STORE(l->mapped, true);
	return true;
}

void list_forget(struct flist *l)
{
	STORE(l->mapped, false);
	SYS(SYS_mmap, window(l), WINDOW, PROT_NONE,
	    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
}

/* Remembers a list; -1: there is no place for it. */
int list_keep(struct thread *t, int fd, __u32 max_workers, bool foreign)
{
	unsigned int i, start = rnd_below(RNG, MAX_LISTS);
	struct flist *l;
	int none;

	for (i = 0; i < MAX_LISTS; i++) {
		l = &p.lists[(start + i) % MAX_LISTS];
		none = -1;
		if (__atomic_compare_exchange_n(&l->fd, &none, -2, false,
						__ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
			break;
	}
	if (i == MAX_LISTS)
		return -1;

	list_forget(l);
	l->max_workers = max_workers;
	for (l->ring_mask = 0; l->ring_mask + 1 < max_workers; l->ring_mask = 2 * l->ring_mask + 1)
		;
	l->slots_offset = (sizeof(struct ums_list_header) + (l->ring_mask + 1) * 8 + 63) & ~63U;
	l->foreign = foreign;
	l->scribble = one_in(RNG, 3);
	STORE(l->fd, fd);
	return l - p.lists;
}

void act_close(struct thread *t)
{
	struct flist *l = &p.lists[rnd_below(RNG, MAX_LISTS)];
	int fd = LOAD(l->fd);

	if (fd < 0 || !__atomic_compare_exchange_n(&l->fd, &fd, -2, false, __ATOMIC_ACQ_REL,
						   __ATOMIC_ACQUIRE))
		return;
	STORE(l->mapped, false);
	/* What others may still read and write there, they read and write. */
	if (one_in(RNG, 2))
		list_forget(l);
	if (!SYS(SYS_close, fd))
		count(N_CLOSE);
	STORE(l->fd, -1);
}

/* 170 MB: once in a process, in one process at a time, and most often not for long. */
void call_create_big(struct thread *t)
{
	struct ums_create_args *args = (struct ums_create_args *)scratch(t);
	long fd;

	if (p.slot || p.depth || p.big)
		return;
	p.big = true;
	memset(args, 0, sizeof(*args));
	args->max_workers = UMS_MAX_WORKERS;
	fd = CALL(NR_UMS_CREATE, args, sizeof(*args));
	if (fd < 0)
		return;
	count(N_BIG);
	if (!one_in(RNG, 4) || list_keep(t, fd, UMS_MAX_WORKERS, false) < 0)
		SYS(SYS_close, fd);
}

void call_create(struct thread *t, bool valid)
{
	struct ums_create_args args = {}, *at;
	int i = -1;
	__u32 max;
	long fd;

	max = one_in(RNG, 4) ? rnd_log(RNG, 1, 4096) : 1 + rnd_below(RNG, 48);
	args.max_workers = max;
	if (!valid && one_in(RNG, 8))
		args.max_workers = one_in(RNG, 2) ? 0 : UMS_MAX_WORKERS + 1 + rnd(RNG) % (1U << 31);
	at = put(t, &args, sizeof(args), valid);
	/* It does not become a large one by chance. */
	if ((char *)at == scratch(t) && at->max_workers > 4096 &&
	    at->max_workers <= UMS_MAX_WORKERS)
		at->max_workers = max;
	fd = CALL(NR_UMS_CREATE, at, valid ? sizeof(args) : pick_size(t, sizeof(args)));
	if (fd < 0)
		return;
	max = (char *)at == scratch(t) ? LOAD(at->max_workers) : 0;
	/* One of unknown size is not kept. */
	if (max && max <= UMS_MAX_WORKERS && !t->child)
		i = list_keep(t, fd, max, false);
	if (i < 0)
		SYS(SYS_close, fd);
	else if (valid || !one_in(RNG, 8))
		list_map(&p.lists[i]);
}

/* As the document says it is to be done. */
__u64 take(struct thread *t, struct flist *l)
{
	struct ums_list_header *head = header(l);
	__u64 h, tail, id;

	h = LOAD(head->head);
	do {
		tail = LOAD(head->tail);
		/* Nonsense: whatever is there is an id, but not for ever. */
		if (tail - h > l->ring_mask + 1ULL && one_in(RNG, 4))
			STORE(head->head, tail);
		if (h == tail || (h & l->ring_mask) >= (WINDOW - sizeof(*head)) / 8)
			return 0;
		id = __atomic_load_n(&ring(l)[h & l->ring_mask], __ATOMIC_RELAXED);
	} while (!__atomic_compare_exchange_n(&head->head, &h, h + 1, false,
					      __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE));
	if (id)
		count(N_TAKEN);
	return id;
}

__u64 take_any(struct thread *t)
{
	unsigned int i, start = rnd_below(RNG, MAX_LISTS);
	struct flist *l;
	__u64 id;

	for (i = 0; i < MAX_LISTS; i++) {
		l = &p.lists[(start + i) % MAX_LISTS];
		id = LOAD(l->mapped) ? take(t, l) : 0;
		if (id)
			return id;
	}
	return 0;
}

/*
 * Finds again workers that nobody knows of, since somebody has written nonsense
 * to the list or has left with them.
 */
__u64 rescue(struct thread *t)
{
	struct flist *l = pick_list(t);
	struct ums_slot *slot;
	__u32 i, start;
	__u64 id = 0;

	if (!LOAD(l->mapped) || !l->max_workers)
		return 0;
	STORE(header(l)->head, LOAD(header(l)->tail));
	start = rnd_below(RNG, l->max_workers);
	for (i = 0; i < l->max_workers && i < 64; i++) {
		slot = slot_at(l, (start + i) % l->max_workers);
		if (!slot || LOAD(slot->state) != UMS_STATE_READY)
			continue;
		if (id)
			note_id(t, id);
		id = LOAD(slot->id);
	}
	return id;
}

/* ---- calls */

static void entered(struct thread *t, long ret)
{
	/* Others can have taken its role meanwhile: see resync(). */
	if (ret > 0) {
		t->role = UMS_ROLE_WORKER;
		t->id = ret;
		note_id(t, ret);
	} else if (ret == -EBUSY) {
		resync(t);
	}
}

void call_worker_enter(struct thread *t, bool valid)
{
	/* Those that share the thread pointer of the first thread do not get the flag. */
	struct ums_worker_args args = {
		.flags = one_in(RNG, t->pointer ? 2 : 16) ? UMS_WORKER_USER_SWITCH : 0,
		.user_data = rnd(RNG),
	};
	int fd = valid ? pick_list(t)->fd : pick_fd(t);
	long ret;

	ret = CALL(NR_UMS_WORKER_ENTER, fd, put(t, &args, sizeof(args), valid),
		   valid ? sizeof(args) : pick_size(t, sizeof(args)));
	entered(t, ret);
	/* Without a list there is nothing to do but wait for a new one. */
	if (ret == -EBADF && valid)
		SYS(SYS_sched_yield);
}

static void call_detach(struct thread *t, bool valid)
{
	long ret = CALL(NR_UMS_DETACH, valid ? 0 : pick_flags(t, 0));

	if (!ret || ret == -EPERM)
		resync(t);
}

void call_scheduler_enter(struct thread *t, bool valid)
{
	struct ums_scheduler_args args = {
		.flags = one_in(RNG, t->pointer ? 2 : 16) ? UMS_SCHEDULER_USER_SWITCH : 0,
		.entry = (unsigned long)upcall,
		.stack = (unsigned long)t + UPCALL_AT,
		.stack_size = UPCALL_SIZE,
		.arg = (unsigned long)t,
		.startup = rnd(RNG),
	};

	if (!valid && one_in(RNG, 4)) {
		/* Pages that cannot be written, or take a while. */
		args.stack = (unsigned long)p.zoo + rnd_below(RNG, ZOO) * PAGE;
		args.stack_size = PAGE;
	}
	/* A misaligned one is no error. */
	if (one_in(RNG, 8))
		args.stack_size -= rnd_below(RNG, 64);
	if (CALL(NR_UMS_SCHEDULER_ENTER, put(t, &args, sizeof(args), valid),
		 valid ? sizeof(args) : pick_size(t, sizeof(args))) == -EBUSY)
		resync(t);
}

static void call_scheduler_exit(struct thread *t, bool valid)
{
	long ret = CALL(NR_UMS_SCHEDULER_EXIT, valid ? 0 : pick_flags(t, 0));

	if (!ret || ret == -EPERM)
		resync(t);
}

static __u64 pick_slice(struct thread *t)
{
	static const __u64 odd[] = { 1, 1000, LLONG_MAX, 1ULL << 63, ~0ULL };

	switch (rnd_below(RNG, 8)) {
	case 0:
		return odd[rnd_below(RNG, sizeof(odd) / sizeof(odd[0]))];
	case 1:
	case 2:
	case 3:
		return rnd_log(RNG, 4000, 2 * MSEC);
	default:
		return 0;
	}
}

void call_execute(struct thread *t, __u64 id, bool valid)
{
	long ret = CALL(NR_UMS_EXECUTE, id, pick_slice(t), valid ? 0 : pick_flags(t, 0));

	if (ret == -EPERM)
		resync(t);
}

void call_yield(struct thread *t, bool valid)
{
	unsigned int flags = valid ? one_in(RNG, 2) : pick_flags(t, UMS_YIELD_PUBLISH);

	if (CALL(NR_UMS_YIELD, rnd(RNG), flags) == -EPERM)
		resync(t);
}

void call_wait(struct thread *t, bool valid)
{
	__u64 ns = rnd_log(RNG, 1000, 2 * MSEC);
	struct __kernel_timespec ts = {};
	unsigned int flags = 0;
	void *at = NULL;

	if (one_in(RNG, 4)) {
		flags = UMS_WAIT_ABSTIME;
		ns += now_ns() - MSEC / 4;
	}
	ts.tv_sec = ns / NSEC;
	ts.tv_nsec = ns % NSEC;
	if (!valid) {
		flags = pick_flags(t, UMS_WAIT_ABSTIME);
		if (one_in(RNG, 8))
			ts.tv_nsec = one_in(RNG, 2) ? NSEC : rnd(RNG);
		if (one_in(RNG, 8))
			ts.tv_sec = rnd(RNG) >> rnd_below(RNG, 64);
	}
	/* For ever: to the next signal, worker or end of the list. */
	if (!one_in(RNG, 32) || t->plan == PLAN_SPAWNER)
		at = put(t, &ts, sizeof(ts), valid);
	CALL(NR_UMS_WAIT, valid ? pick_list(t)->fd : pick_fd(t), at, flags);
}

/* A worker that runs, if one is found soon; else any. */
static __u64 pick_running(struct thread *t)
{
	struct flist *l = pick_list(t);
	struct ums_slot *slot;
	__u32 i, start;

	if (!l->max_workers)
		return pick_id(t);
	start = rnd_below(RNG, l->max_workers);
	for (i = 0; i < l->max_workers && i < 32; i++) {
		slot = slot_at(l, (start + i) % l->max_workers);
		if (slot && LOAD(slot->state) == UMS_STATE_RUNNING)
			return LOAD(slot->id);
	}
	return pick_id(t);
}

static void call_preempt(struct thread *t, bool valid)
{
	CALL(NR_UMS_PREEMPT, one_in(RNG, 2) ? pick_running(t) : pick_id(t),
	     valid ? 0 : pick_flags(t, 0));
}

static void call_query(struct thread *t, bool valid)
{
	static const size_t sizes[] = { sizeof(struct ums_abi), sizeof(struct ums_info),
					sizeof(struct ums_info) };
	unsigned int which = rnd_below(RNG, 3);
	size_t size = sizes[which];
	__u64 id = 0;

	if (which == UMS_QUERY_WORKER)
		id = pick_id(t);
	else if (which == UMS_QUERY_THREAD)
		id = one_in(RNG, 4) ? 0 : pick_tid(t);
	if (!valid) {
		size = pick_size(t, size);
		if (one_in(RNG, 8))
			which = rnd(RNG) >> rnd_below(RNG, 64);
		if (one_in(RNG, 8))
			id = one_in(RNG, 2) ? rnd(RNG) : rnd_below(RNG, 65536);
	}
	CALL(NR_UMS_QUERY, which, id, valid ? scratch(t) : pick_address(t), size);
}

static void call_set(struct thread *t, bool valid)
{
	CALL(NR_UMS_SET, valid ? UMS_SET_USER_DATA : rnd_below(RNG, 3), pick_id(t), rnd(RNG));
}

/* Anything as an argument of any call. */
static long pick_anything(struct thread *t)
{
	switch (rnd_below(RNG, 8)) {
	case 0:
		return (long)pick_address(t);
	case 1:
	case 2:
		return pick_id(t);
	case 3:
	case 4:
		return pick_fd(t);
	case 5:
		return rnd(RNG);
	default:
		return rnd_below(RNG, 200);
	}
}

static void call_anything(struct thread *t)
{
	int nr = NR_UMS_CREATE + rnd_below(RNG, CALLS);
	long a = pick_anything(t), ret;

	/* One that it cannot do without is not to become a worker by chance. */
	if (t->plan == PLAN_SPAWNER)
		return;
	/* A number of workers that is not under control. */
	if (nr == NR_UMS_CREATE)
		a = (long)pick_address(t) | 1UL << 47;
	ret = CALL(nr, a, pick_anything(t), pick_anything(t), pick_anything(t));
	if (nr == NR_UMS_WORKER_ENTER)
		entered(t, ret);
	else if (nr == NR_UMS_DETACH || nr == NR_UMS_SCHEDULER_EXIT)
		resync(t);
}

void call_random(struct thread *t)
{
	bool valid = one_in(RNG, 2);

	switch (rnd_below(RNG, 32)) {
	case 0:
		call_create(t, valid);
		break;
	case 1:
	case 2:
	case 3:
		call_worker_enter(t, valid);
		break;
	case 4:
		call_detach(t, valid);
		break;
	case 5:
	case 6:
		call_scheduler_enter(t, valid);
		break;
	case 7:
		call_scheduler_exit(t, valid);
		break;
	case 8:
	case 9:
	case 10:
	case 11:
	case 12:
		call_execute(t, pick_id(t), valid);
		break;
	case 13:
	case 14:
	case 15:
		call_yield(t, valid);
		break;
	case 16:
	case 17:
	case 18:
		call_wait(t, valid);
		break;
	case 19:
	case 20:
	case 21:
	case 22:
		call_preempt(t, valid);
		break;
	case 23:
	case 24:
	case 25:
		call_query(t, valid);
		break;
	case 26:
	case 27:
		call_set(t, valid);
		break;
	default:
		call_anything(t);
	}
}
