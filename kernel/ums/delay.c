// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: delays that widen races, for tests.
 */
#include <linux/delay.h>
#include <linux/hash.h>
#include <linux/moduleparam.h>
#include <linux/sched/clock.h>

#include "ums.h"

/* At most so long, in microseconds. /sys/module/kernel/parameters/ums_delay_us */
static unsigned int ums_delay_us __read_mostly;
core_param(ums_delay_us, ums_delay_us, uint, 0644);

/* One time in eight, in any context. */
void __ums_delay(void)
{
	unsigned int max = READ_ONCE(ums_delay_us);
	/* Random enough, and to be had with any lock held. */
	u32 random = hash_64(local_clock(), 32);

	if (max && random % 8 == 0)
		udelay((random / 8) % min(max, 1000U) + 1);
}
