/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The hand-over protocol between workers, schedulers and wakers, for spin. Two
 * schedulers take from one completion list and execute two workers.
 * scripts/tests/model runs it in several configurations, and with each of the
 * mistakes BREAK_*, which have to be found.
 *
 * Inlines have the names of the functions that they mirror: in kernel/ums/, or,
 * of try_to_wake_up(), __schedule() and sched_hand_over(), in
 * kernel/sched/core.c with patches/0001. So have labels in the comment behind.
 *
 * What is one step here
 *
 *   A section under ums_worker::lock, ums_list::lock or pi_lock is one step
 *   where nobody can tell it from several: nobody looks at what it writes
 *   without the lock, or there is no order in which that could be seen half
 *   done. ums_execute() is different: a worker that is executed before it has
 *   parked looks at ums_worker::sched without the lock, when it sleeps.
 *
 *   A wake-up is a step of its own, after the section that decides on it: by
 *   then the task may sleep somewhere else. Each thread has a processor for
 *   itself; what threads do that share one is among that. The runqueue, and so
 *   the short way of sched_hand_over(), is not there: it does nothing that a
 *   wake-up and schedule() would not.
 *
 *   Memory is sequentially consistent but for the stores that the barriers in
 *   ums_sleeps_elsewhere() and ums_worker_sleeping() are for: to
 *   ums_worker::sched in ums_execute(), and to the state of a task by
 *   __set_current_state(). Others may see these as late as after the next
 *   barrier, or release of a lock, of the thread that stores. To take a lock
 *   is no barrier.
 *
 * What has to hold
 *
 *   Assertions: a worker is in user mode only while exactly one scheduler runs
 *   it; each execution gets exactly one event; a worker is published only after
 *   the event of its block; it is on the ring once at most; what was taken from
 *   the ring, or has yielded, can be executed.
 *
 *   No invalid end state: at the end all threads have ended. All runs are
 *   finite, so this is how a lost worker or a lost wake-up shows. But where
 *   somebody else makes up for it later, it would not. Therefore
 *     - worker 0 may stay in user mode until worker 1 has ended (STAY), which
 *       leaves it one scheduler only;
 *     - a sleep may end by a signal alone (SIGNALS), and a scheduler may leave a
 *       worker unexecuted until it has taken its signal (PATIENT);
 *     - a worker that sleeps where it is not for UMS to publish it (STOPS) is
 *       woken only when no scheduler waits for it, as by somebody who would
 *       have to be executed first; one that sleeps without an upcall
 *       (SILENT), only when its scheduler has taken its signal.
 *
 * Configuration, by -D
 *
 *   STARTED	each scheduler runs a worker at the beginning; else the workers
 *		have just called ums_worker_enter()
 *   ROUNDS, ROUNDS1	how often worker 0, and 1, sleeps or yields before it exits
 *   DO_BLOCK	they sleep, holdable;
 *   NOT_HOLDABLE	or not;
 *   NO_BARRIER	or holdable in a place that uses __set_current_state()
 *   SIGNALS	some sleeps end by a signal only;
 *   BY_SIGNAL	all of them do
 *   SILENT	they sleep with no_upcall set, and the schedulers get signals
 *   DO_YIELD	they yield;
 *   DO_PUBLISH	they yield with UMS_YIELD_PUBLISH
 *   EXTRA	how many signals come at any time;
 *   SPURIOUS	or wake-ups without a reason;
 *   PREEMPT	or calls of ums_preempt()
 *   STOPS	how often a worker sleeps as it takes a signal
 *   RUDE	how often a scheduler executes a worker that it does not have
 *   CLOSE	the list is closed at any time
 *   STAY, PATIENT	see above
 */
#ifndef ROUNDS
#define ROUNDS		1
#endif
#ifndef ROUNDS1
#define ROUNDS1		ROUNDS
#endif
#ifndef EXTRA
#define EXTRA		0
#endif
#ifndef STOPS
#define STOPS		0
#endif
#ifndef RUDE
#define RUDE		0
#endif

/* task_struct::__state */
#define T_RUNNING	0
#define T_INT		1	/* TASK_INTERRUPTIBLE, perhaps freezable */
#define T_HOLDABLE	2	/* the same with TASK_HOLDABLE */
#define T_HELD		3	/* TASK_HELD */
#define T_STOPPED	4	/* what no signal ends, as a stop by a debugger */
#define T_KILLABLE	5	/* of a scheduler; in SILENT also of a worker */

#define IS_INT(state)	(state == T_INT || state == T_HOLDABLE)

/* ums_worker::state */
#define BLOCKED		0
#define READY		1
#define RUNNING		2
#define EXITED		3	/* or NONE: detached */

/* enum ums_reason */
#define R_BLOCKED	1
#define R_YIELDED	2
#define R_PUBLISHED	3	/* preempted, or yielded and published */
#define R_EXITED	4	/* or detached */

/* ums_worker::position; else one more than the place */
#define POS_NONE	0
#define POS_PUBLISHING	255

/* What a worker waits for */
#define EVENT		1
#define SIGNAL		2

/* Both kinds of threads are numbered from 0; where there may be none, from 1. */

/* A worker, its struct ums_worker and its task_struct */
typedef worker_t {
	bit lock;
	byte sched;		/* who runs it; 0: NULL */
	byte state;
	byte position;
	bit preempt;
	bit parked;
	bit held;
	bit no_upcall;		/* of its slot */

	byte task;		/* __state */
	bit saved;		/* saved_state: it is not TASK_RUNNING */
	bit tif_ums;
	bit sigpending;		/* TIF_SIGPENDING or TIF_NOTIFY_SIGNAL */
	bit irq;		/* an interrupt on its processor may wake it now */

	byte late_task;		/* __state as it will be seen by others; 0: is */
	byte late_sched;	/* @sched as it will be seen by others; 0: is */

	byte want;		/* EVENT, SIGNAL; 0: does not wait */
	bit event;		/* it has come */

	/* For the assertions: */
	bit user;		/* in user mode */
	bit on_ring;
	bit told;		/* its block has got its event */
};
worker_t W[2];

/* A scheduler, its struct ums_scheduler and its task_struct */
typedef sched_t {
	bit posted;
	byte reason;
	byte who;		/* of the event; the worker that has yielded */
	byte task;		/* __state */
	bit sigpending;
	bit waiting;		/* on ums_list::waiters */

	bit owed;		/* for the assertions: an event has yet to come */
};
sched_t S[2];

/* The completion list */
byte ring[2];
byte head, tail;
bit closed;

byte left = 2;			/* workers that have not ended */
byte extra = EXTRA;
byte stops = STOPS;
byte rude = RUDE;

/* --- memory order */

/* A barrier or release of the worker's thread; of the scheduler that executes it */
inline worker_barrier(w)
{
	if
	:: W[w].late_task -> W[w].task = W[w].late_task; W[w].late_task = 0
	:: else
	fi
}
inline sched_barrier(w)
{
	if
	:: W[w].late_sched -> W[w].sched = W[w].late_sched; W[w].late_sched = 0
	:: else
	fi
}

/* Somebody else is about to look: the store may be seen by now. */
inline look_at_task(w)
{
	if
	:: W[w].late_task -> W[w].task = W[w].late_task; W[w].late_task = 0
	:: true
	fi
}
inline look_at_sched(w)
{
	if
	:: W[w].late_sched -> W[w].sched = W[w].late_sched; W[w].late_sched = 0
	:: true
	fi
}

/* current always sees its own. */
#define OWN_STATE(w)	(W[w].late_task -> W[w].late_task : W[w].task)

/* --- wake-ups */

/* try_to_wake_up(TASK_NORMAL) of a scheduler, from 1; 0: of nobody */
inline wake_sched(s)
{
	if
	:: s -> S[s - 1].task = T_RUNNING
	:: else
	fi
}

/*
 * try_to_wake_up(TASK_INTERRUPTIBLE) of a worker: the section under pi_lock.
 * @woken: ums_waking() was true, so ums_worker_woken() has to follow.
 */
inline ttwu(w, woken)
{
	look_at_task(w);
	if
	:: IS_INT(W[w].task) -> W[w].task = T_RUNNING
	:: W[w].task == T_HELD && W[w].saved ->
		W[w].saved = 0;
		W[w].task = T_INT;
		woken = 1
	/* By an interrupt of the worker itself: p == current. */
	:: W[w].task == T_HELD && W[w].saved && W[w].irq ->
		W[w].saved = 0;
		W[w].task = T_RUNNING
	:: !IS_INT(W[w].task) && !(W[w].task == T_HELD && W[w].saved)
	fi
}

/* --- what workers, schedulers and wakers call */

/* ums_set_event(), of scheduler @s from 1 */
inline ums_set_event(s, why, w)
{
	assert(S[s - 1].owed && !S[s - 1].posted);
	S[s - 1].owed = 0;
	S[s - 1].reason = why;
	S[s - 1].who = (why == R_YIELDED -> w : 0);
	S[s - 1].posted = 1
}

/* ums_worker_cut(), under the worker's lock. @s: the scheduler from 1, or 0 */
inline ums_worker_cut(w, s)
{
	assert(!W[w].user);
	s = W[w].sched;
	W[w].sched = 0;
	W[w].preempt = 0
}

/* ums_worker_block(), under the worker's lock. @s: as above */
inline ums_worker_block(w, s)
{
	ums_worker_cut(w, s);
	if
	:: s ->
		W[w].state = BLOCKED;
		W[w].tif_ums = 1;
		W[w].told = 1;
		ums_set_event(s, R_BLOCKED, w)
	:: else
	fi
}

/* ums_worker_ready(), under the worker's lock */
inline ums_worker_ready(w, pos)
{
	W[w].position = pos;
	W[w].state = READY
}

/*
 * ums_list_put_on_ring(). @next: a waiter taken from the list, from 1, or 0. The
 * kernel takes the one that has waited longest, this any.
 */
inline ums_list_put_on_ring(w, next)
{
	assert(W[w].state == READY && W[w].position == POS_PUBLISHING);
	assert(!W[w].on_ring && tail - head < 2);
	ring[tail % 2] = w;
#ifndef BREAK_POSITION_ORDER
	W[w].position = tail + 1;
#endif
	tail++;
	W[w].on_ring = 1;
	if
	:: S[0].waiting -> S[0].waiting = 0; next = 1
	:: S[1].waiting -> S[1].waiting = 0; next = 2
	:: else -> next = 0
	fi
}

/* ums_worker_woken(): publish, or have it go on? */
#ifdef BREAK_HELD_RECHECK
#define IS_WOKEN(w)	W[w].held
#else
#define IS_WOKEN(w)	(W[w].held && W[w].task != T_HELD)
#endif
#ifdef BREAK_SIGNAL
#define HAS_TO_GO_ON(w)	closed
#elif defined(BREAK_CLOSED)
#define HAS_TO_GO_ON(w)	W[w].sigpending
#else
#define HAS_TO_GO_ON(w)	(W[w].sigpending || closed)
#endif

/*
 * What follows ttwu() of a worker: ums_worker_woken(), and the wake-ups that come
 * of it, of which one may lead there again. @wake, @next: local variables, 0
 * before and after; @woken is 0 after.
 */
inline ums_worker_woken(w, woken, wake, next)
{
	do
	:: atomic {
		woken && !W[w].lock ->
		woken = 0;
		if
		:: IS_WOKEN(w) ->
			W[w].held = 0;
			if
			:: HAS_TO_GO_ON(w) -> wake = 1
			:: else ->
				assert(W[w].state == BLOCKED && W[w].told);
				W[w].parked = 1;
				ums_worker_ready(w, POS_PUBLISHING);
				ums_list_put_on_ring(w, next)
#ifdef BREAK_POSITION_ORDER
				;W[w].position = tail
#endif
			fi
		:: else
		fi
	   }
	:: atomic { wake -> wake = 0; ttwu(w, woken) }
	:: atomic { next -> wake_sched(next); next = 0 }
	:: !woken && !wake && !next -> break
	od
}

/* --- a worker's thread */

/*
 * The inlines of this section belong to proctype worker: they use its local
 * variables, and most of them end with a jump to the label of its next step.
 */

/*
 * __schedule(): the barrier after it has taken the lock of the runqueue, and the
 * look at signals in try_to_block_task(). Who sleeps waits at the next label
 * until its state is TASK_RUNNING.
 */
inline __schedule(w)
{
	worker_barrier(w);
	W[w].irq = 0;
	if
	:: IS_INT(W[w].task) && W[w].sigpending -> W[w].task = T_RUNNING
	:: else
	fi;
	if
	:: W[w].want -> goto SLEEP
	:: else -> goto STOPPED
	fi
}

/*
 * ums_worker_sleeping(): the first part. It looks at the state for BLOCKED, and
 * not for READY, since the worker may be executed between the two looks.
 */
inline ums_worker_sleeping(w)
{
	look_at_sched(w);
	s = W[w].sched;
	if
	:: s -> ums_worker_has_sched(w)
#ifdef BREAK_READY_CHECK
	:: !s && W[w].state != READY -> goto SCHEDULE
	:: !s && W[w].state == READY -> goto LOOK_AGAIN
#else
	:: !s && W[w].state == BLOCKED -> goto SCHEDULE
	:: !s && W[w].state != BLOCKED -> goto LOOK_AGAIN
#endif
	fi
}

/* ums_worker_sleeping(): the second part, without the lock; scheduler @s runs it */
inline ums_worker_has_sched(w)
{
	if
	/* It runs; or signal_pending_state(): __schedule() will see to it. */
	:: OWN_STATE(w) == T_RUNNING || (IS_INT(OWN_STATE(w)) && W[w].sigpending) ->
		s = 0;
		__schedule(w)
	:: else ->
		if
		:: W[w].no_upcall -> s = 0; goto SILENTLY
		:: else -> goto BLOCK
		fi
	fi
}

/*
 * ums_worker_hold() up to the end of the section under pi_lock. A wake-up that
 * comes after ums_worker_block() and before this is as one that comes before
 * both: it has set the state to TASK_RUNNING.
 */
inline ums_worker_hold(w)
{
	worker_barrier(w);
	hold = 1;		/* it is in this function: in_sleep */
	if
#ifdef BREAK_HOLD_WOKEN
	:: !W[w].sigpending ->
#elif defined(BREAK_HOLD_SIGNAL)
	:: W[w].task != T_RUNNING ->
#else
	:: W[w].task != T_RUNNING && !W[w].sigpending ->
#endif
		W[w].saved = 1;
		W[w].task = T_HELD;
		W[w].held = 1
	:: else
	fi
}

/*
 * ums_worker_park(): what it does each time it has got the lock, up to where it
 * releases it. @next: who has yet to be woken, from 1, or 0.
 */
inline ums_worker_park(w)
{
	if
	:: W[w].sched -> goto UNPARKED
	:: !W[w].sched && closed -> quit = 1; goto UNPARKED
	:: else ->
		if
		:: W[w].state != READY ->
			assert(W[w].told && !next);
			ums_worker_ready(w, POS_PUBLISHING);
			goto PUBLISH
		:: else ->
			if
			:: !next && W[w].sigpending -> W[w].tif_ums = 1; goto LOOP
			:: else -> ums_worker_sleep(w)
			fi
		fi
	fi
}

/* ums_worker_sleep() up to where it releases the lock */
inline ums_worker_sleep(w)
{
	W[w].parked = 1;
	W[w].task = T_INT;
	goto PARKED
}

proctype worker(bit w)
{
	byte s, next;
	bit hold, ti, stay, quit;
	byte rounds = (w -> ROUNDS1 : ROUNDS);

LOOP:	/*
	 * exit_to_user_mode_loop(). User mode begins when no flag is set, with
	 * interrupts off: who sets one afterwards kicks the processor.
	 */
	atomic {
		if
		:: W[w].tif_ums || W[w].sigpending ->
			ti = W[w].tif_ums;
			if
			:: W[w].sigpending ->
				/* arch_do_signal_or_restart() */
				W[w].sigpending = 0;
				if
				:: true
				:: stops ->
					stops--;
					W[w].late_task = T_STOPPED;
					ums_worker_sleeping(w)
				fi
			:: else
			fi;
			if
			:: ti -> goto USER_EXIT
			:: else -> goto LOOP
			fi
		:: else ->
			/* Exactly one scheduler runs it, and waits. */
			assert(W[w].state == RUNNING && !W[w].on_ring);
			assert(W[w].sched && S[W[w].sched - 1].owed);
			W[w].user = 1;
#ifdef STAY
			if
			:: true
			:: !w -> stay = 1
			fi
#endif
		fi
	}

	/* In user mode */
	atomic {
		if
		/* An interrupt: kick_process(), a signal */
		:: W[w].tif_ums || W[w].sigpending ->
			W[w].user = 0;
			stay = 0;
			goto LOOP
		:: !stay || W[1].state == EXITED ->
			W[w].user = 0;
			stay = 0;
			if
			:: !rounds -> goto EXIT
#ifdef DO_BLOCK
			:: rounds ->
				rounds--;
				if
#ifndef BY_SIGNAL
				:: W[w].want = EVENT
#endif
#ifdef SIGNALS
				:: W[w].want = SIGNAL
#endif
				fi;
#ifdef SILENT
				W[w].no_upcall = 1;
#endif
				goto SLEEP
#endif
#if defined(DO_YIELD) || defined(DO_PUBLISH)
			:: rounds -> rounds--; goto YIELD
#endif
			fi
		fi
	}

SLEEP:	/*
	 * A system call that waits: first, and each time that it has slept. That is
	 * also the end of ums_worker_hold().
	 */
	atomic {
		W[w].task == T_RUNNING && !(hold && W[w].lock) ->
		if
		:: hold -> hold = 0; W[w].irq = 0; W[w].held = 0; W[w].parked = 0
		:: else
		fi;
		assert(!W[w].held && !W[w].parked);
		if
		:: W[w].event || (W[w].sigpending && !W[w].no_upcall) ->
			W[w].want = 0;
			W[w].event = 0;
			W[w].no_upcall = 0;
			goto LOOP
		:: else ->
			/*
			 * Sets its state, and looks at what it waits for afterwards, or
			 * under a lock of who makes that come, so that one step will do.
			 */
			if
#ifdef SILENT
			:: W[w].late_task = T_KILLABLE
#else
			:: W[w].task = T_HOLDABLE
#endif
#ifdef NOT_HOLDABLE
			:: W[w].task = T_INT
#endif
#ifdef NO_BARRIER
			:: W[w].late_task = T_HOLDABLE
#endif
			fi;
			ums_worker_sleeping(w)
		fi
	}

LOOK_AGAIN: /* ums_worker_sleeping(): published, and perhaps executed just now */
	atomic {
		worker_barrier(w);
		look_at_sched(w);
		s = W[w].sched;
		if
		:: s -> ums_worker_has_sched(w)
		:: else -> __schedule(w)
		fi
	}

SCHEDULE: /* ums_worker_sleeping() has returned false. */
	atomic { __schedule(w) }

SILENTLY: /* ums_worker_sleeps_silently() */
	atomic {
#ifndef BREAK_SILENT_BARRIER
		worker_barrier(w);
#endif
		if
		:: W[w].preempt
		:: else -> goto SCHEDULE
		fi
	}
	atomic { !W[w].lock -> s = W[w].sched }
	atomic { wake_sched(s); s = 0; __schedule(w) }

BLOCK:	/* ums_worker_sleeping(): the section under the worker's lock */
	atomic {
		!W[w].lock ->
#ifdef BREAK_CUT
		W[w].sched = s;
#endif
		ums_worker_block(w, s);
		if
		/* Woken since, it may have been holdable or not: there is no difference. */
		:: s && (OWN_STATE(w) == T_HOLDABLE || OWN_STATE(w) == T_RUNNING) ->
			ums_worker_hold(w)
		:: s && OWN_STATE(w) != T_HOLDABLE && OWN_STATE(w) != T_RUNNING
		:: !s -> __schedule(w)
		fi;
		worker_barrier(w)
	}
	/* sched_hand_over(), which enables interrupts at the end */
	atomic {
		wake_sched(s);
		s = 0;
		W[w].irq = 1
	}
	atomic { __schedule(w) }

STOPPED: /* It is continued by somebody who needs the scheduler; see above. */
	atomic {
		W[w].task == T_RUNNING || (W[w].task == T_STOPPED && !W[w].sched) ->
		W[w].task = T_RUNNING;
		if
		:: ti
		:: else -> goto LOOP
		fi
	}

USER_EXIT: /* ums_exit_to_user_mode(). Who sets the flag has the lock. */
	atomic {
		!W[w].lock ->
		ti = 0;
		W[w].tif_ums = 0;
		if
		:: W[w].sched && W[w].preempt ->
			/* ums_worker_preempt() */
			ums_worker_cut(w, s);
			ums_worker_ready(w, POS_PUBLISHING)
		:: else -> ums_worker_park(w)
		fi
	}

PUBLISH: /* ums_worker_publish(), which has released the lock */
	atomic { ums_list_put_on_ring(w, next) }
#ifdef BREAK_POSITION_ORDER
	W[w].position = tail;
#endif
	if
	:: s ->
		/* ums_post() */
		atomic { ums_set_event(s, R_PUBLISHED, w) }
		atomic { wake_sched(s); s = 0 }
	:: else
	fi;
	atomic {
		!W[w].lock ->
#ifdef BREAK_PARK_CHECK
		ums_worker_sleep(w)
#else
		ums_worker_park(w)
#endif
	}

PARKED:	/* ums_worker_sleep(): sched_hand_over(), schedule(), and the lock */
	atomic {
		wake_sched(next);
		next = 0;
		if
		:: W[w].sigpending -> W[w].task = T_RUNNING
		:: else
		fi
	}
	atomic {
		W[w].task == T_RUNNING && !W[w].lock ->
		W[w].parked = 0;
		ums_worker_park(w)
	}

UNPARKED: /* the end of ums_worker_park() */
	atomic {
		wake_sched(next);
		next = 0;
		if
		:: quit -> goto EXIT
		:: else -> goto LOOP
		fi
	}

#if defined(DO_YIELD) || defined(DO_PUBLISH)
YIELD:	/* sys_ums_yield(), without and with UMS_YIELD_PUBLISH */
	atomic {
		!W[w].lock ->
		ums_worker_cut(w, s);
		assert(s);
		if
#ifdef DO_YIELD
		:: true ->
			ums_worker_ready(w, POS_NONE);
			ums_set_event(s, R_YIELDED, w);
			next = s;
			s = 0;
			ums_worker_park(w)
#endif
#ifdef DO_PUBLISH
		:: true ->
			ums_worker_ready(w, POS_PUBLISHING);
			goto PUBLISH
#endif
		fi
	}
#endif

EXIT:	/* ums_worker_exit(): it ends, or is detached because its list is closed. */
	atomic {
		!W[w].lock ->
		ums_worker_cut(w, s);
		W[w].state = EXITED;
		if
		:: s -> ums_set_event(s, R_EXITED, w)
		:: else
		fi
	}
	atomic {
		wake_sched(s);
		s = 0;
		left--
	}
}

/* --- a scheduler's thread */

/* ums_may_execute(): what it looks at in a worker that is READY */
#ifdef BREAK_POSITION
#define WAS_TAKEN(w)	true
#else
#define WAS_TAKEN(w)	(W[w].position == POS_NONE || \
			 (W[w].position != POS_PUBLISHING && head >= W[w].position))
#endif

/* It executes at once whom it takes from the list, and who has yielded to it. */
proctype scheduler(bit i)
{
	byte s, next, h;
	bit w, parked, woken, wake, killable;

#ifdef STARTED
	w = i;
	goto WAIT_EVENT;
#endif
TAKE:	/* In user mode: looks at the list */
	atomic {
		if
		:: head != tail -> h = head; w = ring[h % 2]
		:: head == tail -> goto WAIT
		:: rude ->
			rude--;
			if
			:: w = 0
			:: w = 1
			fi;
			goto EXECUTE
		fi
	}
	/* The compare-exchange */
	atomic {
		if
		:: head == h -> head++; ring[h % 2] = 0; h = 0; W[w].on_ring = 0
		:: else -> h = 0; w = 0; goto TAKE
		fi
	}

EXECUTE: /* sys_ums_execute(): ums_worker_find() */
	atomic {
#ifdef PATIENT
		!W[w].sigpending ->
#endif
		if
		:: closed -> w = 0; goto TAKE
		:: else
		fi
	}
	/* ums_start_worker(): ums_may_execute(), and the link */
	atomic {
		!W[w].lock ->
		if
		:: W[w].state == READY && WAS_TAKEN(w) ->
			W[w].lock = 1;
			assert(!S[i].owed && !W[w].user);
			S[i].posted = 0;
			S[i].owed = 1;
			W[w].told = 0;
			W[w].late_sched = i + 1;
			W[w].position = POS_NONE;	/* of no meaning until it is READY */
			W[w].state = RUNNING
		:: else ->
			assert(closed || RUDE);
			w = 0;
			goto TAKE
		fi
	}
	atomic {
		if
		:: W[w].parked ->
			parked = 1;
			/* With a signal pending it will not sleep. */
			S[i].task = (S[i].sigpending -> T_RUNNING : T_INT)
		:: else ->
			/* ums_sleeps_elsewhere() */
#ifndef BREAK_BARRIER
			sched_barrier(w);
#endif
			look_at_task(w);
			if
			:: W[w].task != T_RUNNING ->
				sched_barrier(w);
				ums_worker_block(w, s);
				s = 0
			:: else
			fi
		fi;
#ifdef BREAK_BARRIER
	}
	atomic {
#endif
		sched_barrier(w);
		W[w].lock = 0;
		if
		:: parked -> parked = 0
		:: else -> goto WAIT_EVENT
		fi
	}
	/* sched_hand_over(). Whom it wakes may sleep somewhere else by now. */
	atomic { ttwu(w, woken) }
	ums_worker_woken(w, woken, wake, next);

WAIT_EVENT: /* ums_wait_event(), and the upcall */
	atomic {
		S[i].task == T_RUNNING ->
		if
		:: S[i].posted ->
			assert(!S[i].owed);
			S[i].posted = 0;
			S[i].sigpending = 0;
			killable = 0;
			w = S[i].who;
			S[i].who = 0;
			if
			:: S[i].reason == R_YIELDED -> S[i].reason = 0; goto EXECUTE
			:: else -> S[i].reason = 0; goto TAKE
			fi
		:: else ->
#ifdef BREAK_WAIT_EVENT
			skip
	   	fi
	}
	atomic {
		if
		:: true ->
#endif
			S[i].task = (killable -> T_KILLABLE : T_INT);
			if
			:: S[i].sigpending
			:: else -> goto WAIT_EVENT
			fi
		fi
	}
#ifdef SILENT
	/* ums_stop_worker() */
	atomic {
		!W[w].lock ->
		look_at_task(w);
		if
		:: W[w].sched == i + 1 ->
			W[w].preempt = 1;
			W[w].tif_ums = 1;
			if
			:: W[w].no_upcall && W[w].task != T_RUNNING ->
				/* -ERESTARTNOINTR: takes the signal and is here again. */
				S[i].sigpending = 0;
				S[i].task = T_RUNNING;
				killable = 0;
				goto WAIT_EVENT
			:: else
			fi
		:: else
		fi;
		if
		:: killable
		:: else -> killable = 1; S[i].task = T_RUNNING
		fi;
		goto WAIT_EVENT
	}
#endif

WAIT:	/* ums_list_wait(). When all is over it ends as well. */
	atomic {
		S[i].task == T_RUNNING || !left ->
		S[i].waiting = 0;
		if
		:: closed || !left -> S[i].task = T_RUNNING; goto END
		:: else ->
			if
			:: head != tail -> goto TAKE
			:: else ->
#ifdef BREAK_WAITER
				skip
			fi
		fi
	}
	atomic {
		if
		:: true ->
			if
			:: true ->
#endif
				S[i].waiting = 1;
				S[i].task = T_INT;
				goto WAIT
			fi
		fi
	}
END:	skip
}

/* --- others */

/* What workers wait for comes at any time; but see above. */
#ifdef SILENT
#define MAY_COME(w)	(W[w].task == T_RUNNING || \
			 (!S[0].sigpending && !S[1].sigpending))
#else
#define MAY_COME(w)	!(W[w].parked && W[w].sched)
#endif

/* Makes that come which workers wait for. */
proctype waker()
{
	byte next;
	bit w, woken, wake;

	do
	:: atomic {
		if
		:: W[0].want == EVENT && !W[0].event && MAY_COME(0)
		:: W[1].want == EVENT && !W[1].event && MAY_COME(1) -> w = 1
		fi;
		W[w].event = 1
	   }
	   atomic {
#if defined(NO_BARRIER) || defined(SILENT)
		/* It has the lock under which the worker has looked. */
		worker_barrier(w);
#endif
#ifdef SILENT
		if
		:: W[w].task == T_KILLABLE -> W[w].task = T_RUNNING
		:: else
		fi
#else
		ttwu(w, woken)
#endif
	   }
	   ums_worker_woken(w, woken, wake, next);
	   w = 0
	:: !left -> break
	od
}

/* Sends signals, wakes without a reason, preempts. */
proctype other()
{
	byte next;
	bit w, woken, wake;

	do
	:: atomic {
		if
		:: W[0].want == SIGNAL && !W[0].sigpending
		:: W[1].want == SIGNAL && !W[1].sigpending -> w = 1
		fi;
		W[w].sigpending = 1
	   }
	   goto WAKE
	:: atomic {
		extra ->
		extra--;
		if
		:: true
		:: w = 1
		fi;
		if
#ifdef SILENT
		/* To a scheduler that runs a worker; TASK_INTERRUPTIBLE */
		:: S[w].owed ->
			S[w].sigpending = 1;
			if
			:: S[w].task == T_INT -> S[w].task = T_RUNNING
			:: else
			fi
		:: !S[w].owed
		fi;
		w = 0;
		goto NEXT
#else
		:: W[w].state == EXITED -> w = 0; goto NEXT
		:: W[w].state != EXITED -> W[w].sigpending = 1
#ifdef SPURIOUS
		:: W[w].state != EXITED
		:: wake_sched(w + 1); w = 0; goto NEXT
#endif
#ifdef PREEMPT
		/* sys_ums_preempt(), ums_worker_ask(); a time slice does the same. */
		:: W[w].sched && !W[w].lock ->
			W[w].preempt = 1;
			W[w].tif_ums = 1;
			w = 0;
			goto NEXT
#endif
		fi
#endif
	   }
WAKE:	   atomic { ttwu(w, woken) }
	   ums_worker_woken(w, woken, wake, next);
	   w = 0;
NEXT:	   skip
	:: !left -> break
	od
}

/* ums_list_shutdown() */
proctype closer()
{
	byte next;
	bit woken;

	closed = 1;
	do
	:: atomic { S[0].waiting -> S[0].waiting = 0; next = 1 }
		atomic { wake_sched(next); next = 0 }
	:: atomic { S[1].waiting -> S[1].waiting = 0; next = 2 }
		atomic { wake_sched(next); next = 0 }
	:: !S[0].waiting && !S[1].waiting -> break
	od;
	/* Wakes under the lock, since that of a parked worker leads to no other. */
	atomic {
		!W[0].lock ->
		if
		:: W[0].parked -> ttwu(0, woken); assert(!woken)
		:: else
		fi
	}
	atomic {
		!W[1].lock ->
		if
		:: W[1].parked -> ttwu(1, woken); assert(!woken)
		:: else
		fi
	}
}

/* sys_ums_worker_enter() */
inline enter(w)
{
	W[w].position = POS_PUBLISHING;
	W[w].tif_ums = 1;
	W[w].told = 1
}

/* Worker @w is run by the scheduler of that number. */
inline start(w)
{
	W[w].state = RUNNING;
	W[w].sched = w + 1;
	S[w].owed = 1
}

init {
	atomic {
#ifdef STARTED
		start(0);
		start(1);
#else
		enter(0);
		enter(1);
#endif
		run worker(0);
		run worker(1);
		run scheduler(0);
		run scheduler(1);
#if defined(DO_BLOCK) && !defined(BY_SIGNAL)
		run waker();
#endif
#if defined(SIGNALS) || EXTRA
		run other();
#endif
#ifdef CLOSE
		run closer()
#endif
	}
}
