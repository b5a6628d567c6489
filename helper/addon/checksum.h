// SPDX-License-Identifier: Apache-2.0
/*
 * Ones' complement sums (RFC 1071). All give the sum of the big-endian 16-bit words of a range, an odd last byte
 * being the high half of its word, folded to 16 bits and not inverted; `initial` is added first.
 */
#pragma once
#include <cstddef>
#include <cstdint>

uint16_t checksumPortable(const uint8_t *data, size_t len, uint32_t initial);
#if defined(__x86_64__)
uint16_t checksumAvx2(const uint8_t *data, size_t len, uint32_t initial);
#endif
/* The fastest of them that this CPU runs. */
uint16_t checksum(const uint8_t *data, size_t len, uint32_t initial);
