/* SPDX-License-Identifier: MIT */
/* Blocks while it is loaded, inside the loader's lock: reads a byte from the descriptor that the environment names. */
#include <stdlib.h>
#include <unistd.h>

__attribute__((visibility("default"))) int blocking_constructor_byte;

__attribute__((constructor)) static void wait_for_byte(void)
{
	const char *fd = getenv("BLOCKING_CONSTRUCTOR_FD");
	char c = 0;

	if (fd && read(atoi(fd), &c, 1) == 1)
		blocking_constructor_byte = c;
}
