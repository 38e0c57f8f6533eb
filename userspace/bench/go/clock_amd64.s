// SPDX-License-Identifier: MIT

#include "textflag.h"

// func now() uint64
TEXT ·now(SB), NOSPLIT, $0-8
	RDTSC
	SHLQ $32, DX
	ORQ  DX, AX
	MOVQ AX, ret+0(FP)
	RET
