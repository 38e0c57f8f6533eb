/* SPDX-License-Identifier: MIT */
/* The functions of <ums/ums.h> as symbols of the library, for languages that cannot use a C header. */
#define UMS_INLINE __attribute__((visibility("default")))
#include <ums/ums.h>
