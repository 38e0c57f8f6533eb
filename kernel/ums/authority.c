// SPDX-License-Identifier: GPL-2.0
/*
 * User-mode scheduling: on which threads of its own process may a thread act?
 *
 * Most often all of them have the same credentials and are under the same seccomp
 * filters. Where they differ, as in a server whose threads act for different users,
 * or which confines some of its threads, the one with less authority must not use
 * the other: not even to decide when it runs, or to learn what it does. The rule is
 * that of ptrace(2), but without its exception for threads of one process.
 *
 * It is about who asks, at the moment when it asks. A thread that is executed may
 * change its credentials the moment after.
 */
#include <linux/cred.h>
#include <linux/ptrace.h>
#include <linux/security.h>

#include "ums.h"

/* Under filters of its own it could use a thread that is not under them. */
static bool ums_evades_filters(struct task_struct *tsk)
{
#ifdef CONFIG_SECCOMP_FILTER
	return !seccomp_includes_mine(tsk);
#else
	return false;
#endif
}

static bool ums_same_ids(const struct cred *cred, const struct cred *other)
{
	return uid_eq(cred->uid, other->euid) && uid_eq(cred->uid, other->suid) &&
	       uid_eq(cred->uid, other->uid) && gid_eq(cred->gid, other->egid) &&
	       gid_eq(cred->gid, other->sgid) && gid_eq(cred->gid, other->gid);
}

/*
 * Credentials or filters differ. With a reference to @tsk, or inside an RCU read
 * section, and with no lock of ours held: security modules are asked.
 */
bool __ums_may_act_on(struct task_struct *tsk)
{
	const struct cred *cred;
	bool ok;

	/* One that exits has put its filters away, and does nothing for anybody. */
	if (tsk == current || READ_ONCE(tsk->flags) & PF_EXITING)
		return true;
	if (ums_evades_filters(tsk))
		return false;

	rcu_read_lock();
	cred = __task_cred(tsk);
	ok = cred == current_cred() || ums_same_ids(current_cred(), cred) ||
	     ns_capable_noaudit(cred->user_ns, CAP_SYS_PTRACE);
	rcu_read_unlock();
	return ok && !security_ptrace_access_check(tsk, PTRACE_MODE_READ_REALCREDS |
							PTRACE_MODE_NOAUDIT);
}
