// SPDX-License-Identifier: MIT
//
// Two threads take turns by a mutex and a condition variable each.

#include "pair.hpp"

#include <pthread.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed[2] = {PTHREAD_COND_INITIALIZER, PTHREAD_COND_INITIALIZER};
static int turn;

// Called by @me: wait until it is its turn, then make it the other's.
static void take_turn(int me)
{
	pthread_mutex_lock(&lock);
	while (turn != me)
		pthread_cond_wait(&changed[me], &lock);
	turn = 1 - me;
	pthread_cond_signal(&changed[1 - me]);
	pthread_mutex_unlock(&lock);
}

int main()
{
	// A woken thread sometimes preempts the one that still holds the mutex, and sometimes
	// not: windows are as long as may be, so that each has its share of both.
	bench::pair("condvar_hop_plain", 50, [] { take_turn(0); }, [] { take_turn(1); });
}
