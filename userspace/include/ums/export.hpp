// SPDX-License-Identifier: MIT
#pragma once

// Marks what libums.so exports; it is built with hidden visibility.
#define UMS_EXPORT __attribute__((visibility("default")))
