// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: kernel.ums_disabled.
 */
#include <linux/capability.h>
#include <linux/init.h>
#include <linux/sysctl.h>

#include "ums.h"

/* 0: everyone may use it; 1: only CAP_SYS_ADMIN; 2: nobody */
static int ums_disabled __read_mostly;

/* May the caller begin to use it? What it has, it keeps. */
bool ums_allowed(void)
{
	switch (READ_ONCE(ums_disabled)) {
	case 0:
		return true;
	case 1:
		return capable(CAP_SYS_ADMIN);
	default:
		return false;
	}
}

static struct ctl_table ums_sysctls[] = {
	{
		.procname	= "ums_disabled",
		.data		= &ums_disabled,
		.maxlen		= sizeof(ums_disabled),
		.mode		= 0644,
		.proc_handler	= proc_dointvec_minmax,
		.extra1		= SYSCTL_ZERO,
		.extra2		= SYSCTL_TWO,
	},
};

static int __init ums_sysctl_init(void)
{
	register_sysctl_init("kernel", ums_sysctls);
	return 0;
}
late_initcall(ums_sysctl_init);
