/* SPDX-License-Identifier: MIT */
/*
 * The system calls alone, from C: no library, and the scheduler is the upcall entry point itself. Each upcall starts it
 * anew on an empty stack, so what it must remember is in global variables. The workers print with write(2) and the
 * scheduler with nothing: it must not share stdio's locks with them.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <ums/ums.h>

enum { WORKERS = 4, ROUNDS = 3 };

static struct ums_list list;
static unsigned int left = WORKERS, blocks, yields, preemptions;
static char stack[64 * 1024] __attribute__((aligned(16)));

static void die(const char *what, long error)
{
	fprintf(stderr, "raw: %s: %s\n", what, strerror((int)-error));
	exit(1);
}

static void *work(void *arg)
{
	struct ums_worker_args args = {0, (uintptr_t)arg};
	struct timespec nap = {0, 1000000};
	char line[80];
	long id = ums_worker_enter(list.fd, &args, sizeof(args));

	if (id < 0)
		die("ums_worker_enter", id);
	for (int i = 0; i < ROUNDS; i++) {
		int n = snprintf(line, sizeof(line), "worker %d, thread %d, round %d\n", (int)(intptr_t)arg, gettid(), i);

		if (write(STDOUT_FILENO, line, (size_t)n) != n)
			break;
		nanosleep(&nap, NULL);
		ums_yield((__u64)i, 0);
	}
	return NULL;
}

/* Every upcall comes here, and nobody returns from here. */
static void entry(__u64 reason, __u64 worker, __u64 detail, __u64 unspecified, __u64 arg)
{
	static const char end[] = "all workers have ended\n";
	__u64 next = 0;
	long ret;

	(void)detail, (void)unspecified, (void)arg;
	switch (reason) {
	case UMS_UPCALL_BLOCKED:
		blocks++;
		break;
	case UMS_UPCALL_PREEMPTED:
		preemptions++;
		break;
	case UMS_UPCALL_YIELDED:
		yields++;
		next = worker; /* ours until we execute it */
		break;
	case UMS_UPCALL_EXITED:
		left--;
		break;
	}
	while (!next && left && !(next = ums_list_pop(&list)))
		ums_wait(list.fd, NULL, 0);
	if (next) {
		ret = ums_execute(next, 0, 0);
		_exit(ret ? 2 : 3); /* only an error comes back */
	}

	/* An ordinary thread again, on this stack. */
	if (ums_scheduler_exit(0) || write(STDOUT_FILENO, end, sizeof(end) - 1) < 0)
		_exit(2);
	_exit(yields == WORKERS * ROUNDS ? 0 : 1);
}

int main(void)
{
	struct ums_scheduler_args args = {0};
	struct ums_abi abi;
	pthread_t thread;
	long ret;

	ret = ums_probe(&abi);
	if (ret)
		die("user-mode scheduling", ret);
	ret = ums_list_open(&list, WORKERS);
	if (ret)
		die("completion list", ret);
	for (int i = 0; i < WORKERS; i++) {
		ret = pthread_create(&thread, NULL, work, (void *)(intptr_t)i);
		if (ret)
			die("pthread_create", -ret);
		pthread_detach(thread);
	}

	args.entry = (uintptr_t)entry;
	args.stack = (uintptr_t)stack;
	args.stack_size = sizeof(stack);
	ret = ums_scheduler_enter(&args, sizeof(args));
	die("ums_scheduler_enter", ret);
}
