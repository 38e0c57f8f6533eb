// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: kernel.ums_disabled.
 */
#include <linux/capability.h>
#include <linux/init.h>
#include <linux/sysctl.h>
#include <linux/user_namespace.h>

#include "ums.h"

/* 0: everyone may use it; 1: only CAP_SYS_ADMIN; 2: nobody */
static int ums_disabled __read_mostly;

static bool ums_allows(bool (*privileged)(void))
{
	switch (READ_ONCE(ums_disabled)) {
	case 0:
		return true;
	case 1:
		return privileged();
	default:
		return false;
	}
}

static bool ums_use_privilege(void)
{
	return capable(CAP_SYS_ADMIN);
}

static bool ums_have_privilege(void)
{
	return ns_capable_noaudit(&init_user_ns, CAP_SYS_ADMIN);
}

/* May the caller begin to use it? What it has, it keeps. */
bool ums_allowed(void)
{
	return ums_allows(ums_use_privilege);
}

/* The same for somebody who only asks, which is nothing to be audited. */
bool ums_would_allow(void)
{
	return ums_allows(ums_have_privilege);
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
