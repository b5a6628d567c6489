// SPDX-License-Identifier: Apache-2.0
/*
 * Sums are made of words in the CPU's own byte order, 32 bits at a time into 64-bit accumulators, and turned into
 * network order at the end: RFC 1071 §2 (B), byte order independence, and (C), parallel summation.
 */
#include "checksum.h"

#include <endian.h>

#include <cstring>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

/* To 16 bits, carries added at the low end. */
static uint16_t fold(uint64_t sum) {
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffffffff) + (sum >> 32);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return static_cast<uint16_t>(sum);
}

static uint16_t finish(uint64_t sum, uint32_t initial) { return fold(uint64_t{be16toh(fold(sum))} + initial); }

/* At most 2^31 bytes: 2^29 words of 32 bits do not overflow 64. */
static uint64_t sumWords(const uint8_t *data, size_t len) {
  uint64_t sum = 0;
  for (; len >= 4; data += 4, len -= 4) {
    uint32_t word;
    std::memcpy(&word, data, 4);
    sum += word;
  }
  uint32_t rest = 0;
  std::memcpy(&rest, data, len);
  return sum + rest;
}

uint16_t checksumPortable(const uint8_t *data, size_t len, uint32_t initial) {
  return finish(sumWords(data, len), initial);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) static inline __m256i addWords(__m256i sum, const uint8_t *data) {
  __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(data));
  __m256i low = _mm256_and_si256(bytes, _mm256_set1_epi64x(0xffffffff));
  return _mm256_add_epi64(sum, _mm256_add_epi64(low, _mm256_srli_epi64(bytes, 32)));
}

__attribute__((target("avx2"))) uint16_t checksumAvx2(const uint8_t *data, size_t len, uint32_t initial) {
  /* Four accumulators: the loads, not the chain of additions, set the pace. */
  __m256i a = _mm256_setzero_si256();
  __m256i b = a;
  __m256i c = a;
  __m256i d = a;
  for (; len >= 128; data += 128, len -= 128) {
    a = addWords(a, data);
    b = addWords(b, data + 32);
    c = addWords(c, data + 64);
    d = addWords(d, data + 96);
  }
  for (; len >= 32; data += 32, len -= 32) a = addWords(a, data);
  alignas(32) uint64_t lanes[4];
  __m256i all = _mm256_add_epi64(_mm256_add_epi64(a, b), _mm256_add_epi64(c, d));
  _mm256_store_si256(reinterpret_cast<__m256i *>(lanes), all);
  /* Each lane is below 2^62 for any length that an int32 can say: their sum with the rest fits. */
  return finish(lanes[0] + lanes[1] + lanes[2] + lanes[3] + sumWords(data, len), initial);
}

uint16_t checksum(const uint8_t *data, size_t len, uint32_t initial) {
  static const bool avx2 = __builtin_cpu_supports("avx2") != 0;
  return avx2 ? checksumAvx2(data, len, initial) : checksumPortable(data, len, initial);
}
#else
uint16_t checksum(const uint8_t *data, size_t len, uint32_t initial) { return checksumPortable(data, len, initial); }
#endif
