/* SPDX-License-Identifier: GPL-2.0 */
#ifndef _ASM_X86_UMS_H
#define _ASM_X86_UMS_H

#include <asm/fsgsbase.h>
#include <asm/ptrace.h>

struct fpstate;

/* User registers on their way from one thread to another; see kernel/ums/handoff.c. */
struct arch_ums_context {
	struct pt_regs		regs;
	struct fpstate		*fpstate;
	u32			pkru;
	bool			compat;		/* regs are those of a call by a 32-bit entry */
	/* of the exception for which a signal goes with them */
	unsigned long		cr2;
	unsigned long		trap_nr;
	unsigned long		error_code;
	unsigned long		dr6;
};

/* Of the context that is live on this CPU. Where UMS_FEATURE_USER_SWITCH is there. */
static __always_inline unsigned long arch_ums_thread_pointer(void)
{
	return rdfsbase();
}

#endif /* _ASM_X86_UMS_H */
