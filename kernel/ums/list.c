// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: completion lists. The file, its pages, the slots of
 * the workers, and the ring on which workers are published.
 *
 * The pages are allocated here and charged to the memory cgroup; user space
 * maps and writes them. Nothing that is read back from them is relied on: the
 * kernel keeps its own tail, its own record of each slot (struct ums_entry),
 * and reads the consumers' head only to tell whether somebody may sleep, and
 * whether a worker was taken before it is executed.
 */
#include <linux/anon_inodes.h>
#include <linux/fdtable.h>
#include <linux/file.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/poll.h>
#include <linux/seq_file.h>
#include <linux/slab.h>
#include <linux/syscalls.h>
#include <linux/uaccess.h>
#include <linux/vmalloc.h>

#include "ums.h"

#define CREATE_TRACE_POINTS
#include <trace/events/ums.h>

static const struct file_operations ums_list_fops;

static void ums_list_free(struct ums_list *list)
{
	irq_work_sync(&list->poll_work);
	ums_process_put(list->proc);
	vfree(list->header);
	/* A look-up may still have found either. */
	kvfree_rcu_mightsleep(list->entries);
	kfree_rcu(list, rcu);
}

void ums_list_put(struct ums_list *list)
{
	if (refcount_dec_and_test(&list->refs))
		ums_list_free(list);
}

/**
 * ums_list_from_fd - the open list that a file descriptor names
 * @fd: file descriptor
 *
 * Return: the list with a reference for the caller. -EBADF: not open, or
 * closed; -EINVAL: no completion list; -EXDEV: another process's.
 */
struct ums_list *ums_list_from_fd(int fd)
{
	struct ums_list *list;

	CLASS(fd, f)(fd);

	if (!fd_file(f))
		return ERR_PTR(-EBADF);
	if (fd_file(f)->f_op != &ums_list_fops)
		return ERR_PTR(-EINVAL);

	list = fd_file(f)->private_data;
	if (list->proc != READ_ONCE(current->signal->ums))
		return ERR_PTR(-EXDEV);
	if (READ_ONCE(list->closed))
		return ERR_PTR(-EBADF);

	refcount_inc(&list->refs);
	return list;
}

/*
 * Takes the thread that has waited longest from the waiters. It may leave by
 * itself at any time, so wake it in the RCU read section of this call. Under
 * the list's lock.
 */
static struct task_struct *ums_list_next_waiter(struct ums_list *list)
{
	struct ums_waiter *waiter;

	waiter = list_first_entry_or_null(&list->waiters, struct ums_waiter, node);
	if (!waiter)
		return NULL;

	list_del_init(&waiter->node);
	return waiter->task;
}

static struct task_struct *ums_list_take_waiter(struct ums_list *list)
{
	struct task_struct *task;
	unsigned long flags;

	raw_spin_lock_irqsave(&list->lock, flags);
	task = ums_list_next_waiter(list);
	raw_spin_unlock_irqrestore(&list->lock, flags);
	return task;
}

/* Is there a worker to be taken? By the word of user space. */
bool ums_list_ready(struct ums_list *list)
{
	return READ_ONCE(list->header->head) != READ_ONCE(list->tail);
}

/*
 * Finds a slot for a new worker and gives it its id. From here on it can be
 * found, though not executed.
 */
int ums_list_add(struct ums_list *list, struct ums_worker *worker, u64 user_data)
{
	u32 serial = atomic_inc_return(&list->proc->serial);
	struct ums_entry *entry;
	struct ums_slot *slot;
	unsigned long flags;
	u32 nr;

	serial &= (1U << UMS_ID_SERIAL_BITS) - 1;
	if (!serial)	/* that of a slot never used */
		serial = 1;

	raw_spin_lock_irqsave(&list->lock, flags);
	if (list->closed) {
		raw_spin_unlock_irqrestore(&list->lock, flags);
		return -EBADF;
	}
	nr = list->free_first;
	if (nr != UMS_NO_SLOT) {
		list->free_first = list->entries[nr].next_free;
		if (list->free_first == UMS_NO_SLOT)
			list->free_last = UMS_NO_SLOT;
	} else if (list->fresh < list->max_workers) {
		nr = list->fresh++;
	} else {
		raw_spin_unlock_irqrestore(&list->lock, flags);
		return -ENOSPC;
	}

	slot = &list->slots[nr];
	worker->list = list;
	worker->slot = slot;
	worker->id = (u64)serial << 32 | list->nr << UMS_ID_SLOT_BITS | nr;

	memset(slot, 0, sizeof(*slot));
	WRITE_ONCE(slot->user_data, user_data);
	WRITE_ONCE(slot->tid, task_pid_vnr(current));
	WRITE_ONCE(slot->id, worker->id);

	entry = &list->entries[nr];
	entry->exited = false;
	entry->exit_status = 0;
	WRITE_ONCE(entry->serial, serial);
	rcu_assign_pointer(entry->worker, worker);
	raw_spin_unlock_irqrestore(&list->lock, flags);
	return 0;
}

/*
 * Frees the slot of a worker that has ended, or become an ordinary thread; the
 * caller still has the worker's reference to the list. Whoever found the worker
 * before sees under its lock that it is gone.
 */
void ums_list_remove(struct ums_list *list, u64 id, bool exited, int status)
{
	u32 nr = UMS_ID_SLOT(id);
	struct ums_entry *entry = &list->entries[nr];
	unsigned long flags;

	raw_spin_lock_irqsave(&list->lock, flags);
	RCU_INIT_POINTER(entry->worker, NULL);
	entry->exited = exited;
	entry->exit_status = status;
	entry->next_free = UMS_NO_SLOT;
	if (list->free_last == UMS_NO_SLOT)
		list->free_first = nr;
	else
		list->entries[list->free_last].next_free = nr;
	list->free_last = nr;
	raw_spin_unlock_irqrestore(&list->lock, flags);
}

static void ums_list_wake_pollers(struct irq_work *work)
{
	struct ums_list *list = container_of(work, struct ums_list, poll_work);

	__wake_up(&list->poll, TASK_NORMAL, 1, poll_to_key(EPOLLIN | EPOLLRDNORM));
}

/*
 * As soon as the tail has moved, the worker can be taken and executed. It is on
 * the ring at most once, for it is executed, and so published again, only
 * after it was taken; so the ring, with a place for each slot, has room. A
 * process that writes nonsense to the head may overwrite its own entries.
 *
 * Return: as ums_list_publish().
 */
static struct task_struct *ums_list_put_on_ring(struct ums_worker *worker)
{
	struct ums_list *list = worker->list;
	struct task_struct *task;
	unsigned long flags;
	u64 position;

	ums_delay();
	raw_spin_lock_irqsave(&list->lock, flags);
	position = list->tail;
	WRITE_ONCE(list->ring[position & list->ring_mask], worker->id);
	WRITE_ONCE(worker->position, position + 1);
	WRITE_ONCE(list->tail, position + 1);
	/* Pairs with the load-acquire of the tail by consumers in user space. */
	smp_store_release(&list->header->tail, position + 1);

	task = ums_list_next_waiter(list);
	raw_spin_unlock_irqrestore(&list->lock, flags);

	trace_ums_publish(worker->id, position);
	return task;
}

/**
 * ums_list_publish - put a worker on its list
 * @worker: the calling thread, READY and marked UMS_POS_PUBLISHING
 *
 * Return: a thread from ums_wait(), which the caller has to wake inside the RCU
 * read section in which it called; or NULL.
 */
struct task_struct *ums_list_publish(struct ums_worker *worker)
{
	struct task_struct *task = ums_list_put_on_ring(worker);
	struct ums_list *list = worker->list;

	/*
	 * wq_has_sleeper() has the barrier between the tail and the wait queue
	 * that pairs with the one in poll_wait() and its callers.
	 */
	if (wq_has_sleeper(&list->poll))
		__wake_up_on_current_cpu(&list->poll, TASK_NORMAL,
					 poll_to_key(EPOLLIN | EPOLLRDNORM));
	return task;
}

/* The same from any context, with the worker's lock held, which keeps @list. */
struct task_struct *ums_list_publish_atomic(struct ums_worker *worker)
{
	struct task_struct *task = ums_list_put_on_ring(worker);
	struct ums_list *list = worker->list;

	/* As above. The work is waited for before the list is freed. */
	if (wq_has_sleeper(&list->poll))
		irq_work_queue(&list->poll_work);
	return task;
}

/* There is news for all who wait or poll: the list is closed, or deserted. */
void ums_list_wake_all(struct ums_list *list)
{
	struct task_struct *waiter;

	/*
	 * One by one: any number may wait, and interrupts wait for the lock. As
	 * long as there is news nobody comes to wait again.
	 */
	do {
		rcu_read_lock();
		waiter = ums_list_take_waiter(list);
		if (waiter)
			wake_up_process(waiter);
		rcu_read_unlock();
	} while (waiter && (READ_ONCE(list->closed) || READ_ONCE(list->proc->deserted)));

	__wake_up(&list->poll, TASK_NORMAL, 0,
		  poll_to_key(EPOLLIN | EPOLLHUP | EPOLLERR));
}

/**
 * ums_list_shutdown - no worker will be published here any more
 * @list: the list; the caller has a reference
 *
 * Waiters get an error, parked workers become ordinary threads, others do when
 * they would next be parked.
 */
void ums_list_shutdown(struct ums_list *list)
{
	struct ums_worker *worker;
	unsigned long flags;
	u32 nr, fresh;

	raw_spin_lock_irqsave(&list->lock, flags);
	if (list->closed) {
		raw_spin_unlock_irqrestore(&list->lock, flags);
		return;
	}
	WRITE_ONCE(list->closed, true);
	WRITE_ONCE(list->header->closed, 1);
	fresh = list->fresh;
	raw_spin_unlock_irqrestore(&list->lock, flags);

	xa_erase(&list->proc->lists, list->nr);
	ums_list_wake_all(list);

	/* A worker looks at @closed under its lock before it parks. */
	for (nr = 0; nr < fresh; nr++) {
		rcu_read_lock();
		worker = rcu_dereference(list->entries[nr].worker);
		if (worker) {
			raw_spin_lock_irqsave(&worker->lock, flags);
			/* READY, so this does not come to ums_worker_woken(). */
			if (worker->parked)
				wake_up_process(worker->task);
			raw_spin_unlock_irqrestore(&worker->lock, flags);
		}
		rcu_read_unlock();
		cond_resched();
	}
}

static __poll_t ums_list_poll(struct file *file, poll_table *wait)
{
	struct ums_list *list = file->private_data;
	__poll_t mask = 0;

	poll_wait(file, &list->poll, wait);

	if (READ_ONCE(list->closed))
		return EPOLLHUP | EPOLLERR;
	if (ums_list_ready(list))
		mask |= EPOLLIN | EPOLLRDNORM;
	if (READ_ONCE(list->proc->deserted))
		mask |= EPOLLERR;
	return mask;
}

static int ums_list_mmap(struct file *file, struct vm_area_struct *vma)
{
	struct ums_list *list = file->private_data;

	if (list->proc != READ_ONCE(current->signal->ums))
		return -EXDEV;
	if (vma->vm_flags & VM_EXEC)
		return -EPERM;
	if (vma->vm_pgoff || !(vma->vm_flags & VM_SHARED))
		return -EINVAL;

	/* A child has no use for it; its parent's workers are not its own. */
	vm_flags_mod(vma, VM_DONTCOPY, VM_MAYEXEC);
	return remap_vmalloc_range(vma, list->header, 0);
}

static int ums_same_file(const void *file, struct file *other, unsigned int fd)
{
	return file == other;
}

/* Is the last descriptor of @file in this table being closed? */
static bool ums_last_descriptor(struct file *file, fl_owner_t id)
{
	/* The thread ends, has let go of its table, and is the last that had it. */
	if (!current->files)
		return true;
	return current->files == id && !iterate_fd(current->files, 0, ums_same_file, file);
}

/*
 * Called for each close(). The list is closed with the last descriptor in the
 * table in which it was created, no matter who else has one (waiters, a
 * mapping, another process), since nobody else could use it.
 */
static int ums_list_flush(struct file *file, fl_owner_t id)
{
	struct ums_list *list = file->private_data;

	if (id == list->files && list->proc == READ_ONCE(current->signal->ums) &&
	    ums_last_descriptor(file, id))
		ums_list_shutdown(list);
	return 0;
}

static int ums_list_release(struct inode *inode, struct file *file)
{
	struct ums_list *list = file->private_data;

	ums_list_shutdown(list);
	ums_list_put(list);
	return 0;
}

#ifdef CONFIG_PROC_FS
static void ums_list_show_fdinfo(struct seq_file *m, struct file *file)
{
	struct ums_list *list = file->private_data;

	seq_printf(m, "ums-list:\t%u\n", list->nr);
	seq_printf(m, "ums-max-workers:\t%u\n", list->max_workers);
	seq_printf(m, "ums-published:\t%llu\n", READ_ONCE(list->tail));
	seq_printf(m, "ums-closed:\t%d\n", READ_ONCE(list->closed));
}
#endif

static const struct file_operations ums_list_fops = {
	.owner		= THIS_MODULE,
	.poll		= ums_list_poll,
	.mmap		= ums_list_mmap,
	.flush		= ums_list_flush,
	.release	= ums_list_release,
	.llseek		= noop_llseek,
#ifdef CONFIG_PROC_FS
	.show_fdinfo	= ums_list_show_fdinfo,
#endif
};

/* The shared pages, zeroed: header, ring, slots, each on its own cache line. */
static int ums_list_alloc_pages(struct ums_list *list,
				struct ums_create_args *args)
{
	u32 places = roundup_pow_of_two(list->max_workers);
	size_t ring, slots, size;
	void *pages;

	ring = sizeof(struct ums_list_header);
	slots = ALIGN(ring + places * sizeof(u64), L1_CACHE_BYTES);
	size = PAGE_ALIGN(slots + list->max_workers * sizeof(struct ums_slot));

	/* vmalloc_user(), but charged to the memory cgroup */
	pages = __vmalloc_node_range(size, SHMLBA, VMALLOC_START, VMALLOC_END,
				     GFP_KERNEL_ACCOUNT | __GFP_ZERO | __GFP_NOWARN,
				     PAGE_KERNEL, VM_USERMAP, NUMA_NO_NODE,
				     __builtin_return_address(0));
	if (!pages)
		return -ENOMEM;

	list->header = pages;
	list->ring = pages + ring;
	list->slots = pages + slots;
	list->size = size;
	list->ring_mask = places - 1;

	list->header->ring_mask = list->ring_mask;
	list->header->max_workers = list->max_workers;

	args->mmap_size = size;
	args->ring_offset = ring;
	args->slots_offset = slots;
	return 0;
}

static struct ums_list *ums_list_alloc(struct ums_create_args *args)
{
	struct ums_list *list;
	int err;

	list = kzalloc(sizeof(*list), GFP_KERNEL_ACCOUNT);
	if (!list)
		return ERR_PTR(-ENOMEM);

	refcount_set(&list->refs, 1);
	raw_spin_lock_init(&list->lock);
	init_waitqueue_head(&list->poll);
	init_irq_work(&list->poll_work, ums_list_wake_pollers);
	INIT_LIST_HEAD(&list->waiters);
	list->files = current->files;
	list->max_workers = args->max_workers;
	list->free_first = UMS_NO_SLOT;
	list->free_last = UMS_NO_SLOT;

	list->entries = kvcalloc(list->max_workers, sizeof(*list->entries),
				 GFP_KERNEL_ACCOUNT | __GFP_NOWARN);
	if (!list->entries) {
		err = -ENOMEM;
		goto free_list;
	}

	err = ums_list_alloc_pages(list, args);
	if (err)
		goto free_entries;

	list->proc = ums_process_get();
	if (!list->proc) {
		err = -ENOMEM;
		goto free_pages;
	}

	/* In turn, so that an old id does not soon meet a new list. */
	err = xa_alloc_cyclic(&list->proc->lists, &list->nr, list,
			      XA_LIMIT(0, UMS_MAX_LISTS - 1),
			      &list->proc->next_nr, GFP_KERNEL_ACCOUNT);
	if (err < 0) {
		if (err == -EBUSY)
			err = -ENOSPC;
		goto put_proc;
	}

	/* Pairs with the barrier in ums_process_leave(): @lists against @deserted. */
	smp_mb();

	list->header->list_nr = list->nr;
	args->list_nr = list->nr;
	return list;

put_proc:
	ums_process_put(list->proc);
free_pages:
	vfree(list->header);
free_entries:
	kvfree(list->entries);
free_list:
	kfree(list);
	return ERR_PTR(err);
}

/**
 * sys_ums_create - create a completion list
 * @uargs: struct ums_create_args, read and written
 * @size: its size in the program that calls
 *
 * The list belongs to the calling process; a child does not inherit the use of
 * it. See Documentation/userspace-api/ums.rst for its pages.
 *
 * Return:
 * * a file descriptor, close-on-exec;
 * * %-EPERM: kernel.ums_disabled refuses the caller;
 * * %-EINVAL: @size is smaller than UMS_CREATE_ARGS_SIZE_VER0, a flag is
 *   unknown, or max_workers is 0 or more than UMS_MAX_WORKERS;
 * * %-E2BIG: @size is larger than a page, or what lies behind the fields that
 *   this kernel knows is not 0;
 * * %-EFAULT: @uargs cannot be read or written;
 * * %-ENOSPC: the process has UMS_MAX_LISTS lists;
 * * %-EMFILE, %-ENFILE, %-ENOMEM.
 */
SYSCALL_DEFINE2(ums_create, struct ums_create_args __user *, uargs, size_t, size)
{
	struct ums_create_args args;
	struct ums_list *list;
	struct file *file;
	int fd, err;

	BUILD_BUG_ON(sizeof(args) != UMS_CREATE_ARGS_SIZE_VER0);
	BUILD_BUG_ON(sizeof(struct ums_slot) != 128);
	BUILD_BUG_ON(offsetof(struct ums_slot, user_data) != 64);
	BUILD_BUG_ON(sizeof(struct ums_list_header) != 128);
	BUILD_BUG_ON(offsetof(struct ums_list_header, head) != 64);

	if (size < UMS_CREATE_ARGS_SIZE_VER0)
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	err = copy_struct_from_user(&args, sizeof(args), uargs, size);
	if (err)
		return err;
	if (args.flags || !args.max_workers || args.max_workers > UMS_MAX_WORKERS)
		return -EINVAL;
	if (!ums_allowed())
		return -EPERM;

	fd = get_unused_fd_flags(O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return fd;

	list = ums_list_alloc(&args);
	if (IS_ERR(list)) {
		err = PTR_ERR(list);
		goto put_fd;
	}

	file = anon_inode_getfile("[ums]", &ums_list_fops, list,
				  O_RDWR | O_CLOEXEC);
	if (IS_ERR(file)) {
		ums_list_shutdown(list);
		ums_list_put(list);
		err = PTR_ERR(file);
		goto put_fd;
	}

	if (copy_to_user(uargs, &args, sizeof(args))) {
		fput(file);
		err = -EFAULT;
		goto put_fd;
	}

	fd_install(fd, file);
	return fd;

put_fd:
	put_unused_fd(fd);
	return err;
}
