/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How fast the addon's sums are: `checksum LENGTH MS` prints one line of JSON, octets/ns of each way of summing, as the best
 * of many short runs of MS together. Linked with helper/addon/checksum.cc; no boundary to JavaScript is crossed.
 */
#include "../../helper/addon/checksum.h"

#include <time.h>

#include <cstdio>
#include <cstdlib>
#include <vector>

using Sum = uint16_t (*)(const uint8_t *, size_t, uint32_t);

static double nowNs() {
  timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) * 1e9 + static_cast<double>(t.tv_nsec);
}

static double octetsPerNs(Sum sum, const std::vector<uint8_t> &data, double ns) {
  const int calls = static_cast<int>(1 + 65536 / data.size());
  volatile uint32_t result = 0;
  double best = 0;
  for (double end = nowNs() + ns; nowNs() < end;) {
    double from = nowNs();
    /* Each begins with the one before: none can be left out or done at the same time. */
    for (int i = 0; i < calls; i++) result = sum(data.data(), data.size(), result);
    double speed = calls * static_cast<double>(data.size()) / (nowNs() - from);
    if (speed > best) best = speed;
  }
  return best;
}

int main(int argc, char **argv) {
  if (argc != 3) {
    std::fprintf(stderr, "checksum: see the first lines of test/bench/checksum.cc\n");
    return 2;
  }
  std::vector<uint8_t> data(static_cast<size_t>(std::atoi(argv[1])));
  for (size_t i = 0; i < data.size(); i++) data[i] = static_cast<uint8_t>(i * 31 + 7);
  double ns = std::atof(argv[2]) * 1e6;
  std::printf("{\"portable\": %f", octetsPerNs(checksumPortable, data, ns));
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) std::printf(", \"avx2\": %f", octetsPerNs(checksumAvx2, data, ns));
#endif
  std::printf("}\n");
}
