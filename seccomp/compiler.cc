// SPDX-License-Identifier: Apache-2.0
/*
 * Compiles the collected annotations (helper/gen/annotations.inc) with libseccomp into one filter a profile.
 *
 *   seccomp-compiler OUTPUT-DIRECTORY
 *
 * writes there PROFILE.bpf (a struct sock_filter array), PROFILE.pfc (libseccomp's readable form), rules.json (the
 * rules with numbers resolved) and names.json (what the architecture's system calls are called). A rule that libseccomp refuses, or a call that the architecture does not know, ends it.
 *
 * Default action: kill the process, also for another architecture's calls and for numbers of the x32 ABI.
 *
 * Arguments are compared with all 64 bits, although the kernel looks at 32 of an `int`: a register with anything in its
 * high half is not what the annotated code passes. A negative int may be extended with zeros or with ones, depending on the
 * compiler of the caller; the kernel reads both alike and both are let through, nothing else is.
 */
#include <fcntl.h>
#include <seccomp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <type_traits>
#include <vector>

#include "headers.h"

namespace {

constexpr unsigned PROFILE_SETUP = 1, PROFILE_HOST = 2, PROFILE_NETNS = 4, PROFILE_CONTROLLER = 8, PROFILE_RESOLVER = 16,
                   PROFILE_SANDBOX = 32;
constexpr struct {
  const char *name;
  unsigned bit;
} PROFILES[] = {
    {"setup", PROFILE_SETUP}, {"sandbox", PROFILE_SANDBOX}, {"host", PROFILE_HOST}, {"netns", PROFILE_NETNS}, {"controller", PROFILE_CONTROLLER},
    {"resolver", PROFILE_RESOLVER}};

struct Constant {
  uint64_t bits;
  bool negativeInt;
};
struct Term {
  unsigned arg;
  Constant mask;
  Constant value;
};
struct Rule {
  unsigned annotation; /* index in annotations.json */
  unsigned profiles;
  const char *arch; /* "" any */
  std::vector<const char *> names;
  int error; /* 0: allow */
  std::vector<Term> terms;
};

constexpr Constant ALL_BITS = {UINT64_MAX, false};

/* Converted as a call in C would: a signed constant keeps its sign, an unsigned one gets zeros. */
template <class T>
constexpr Constant constant(T value) {
  auto promoted = +value;
  bool negativeInt = false;
  if constexpr (std::is_signed_v<decltype(promoted)>) negativeInt = sizeof promoted == sizeof(int) && promoted < 0;
  return {static_cast<uint64_t>(promoted), negativeInt};
}

const std::vector<Rule> RULES = {
#include "annotations.inc"
};

[[noreturn]] void die(const char *what, const char *detail, int error) {
  fprintf(stderr, "seccomp-compiler: %s %s%s%s\n", what, detail, error != 0 ? ": " : "",
          error != 0 ? strerror(error) : "");
  exit(1);
}

bool isForArchitecture(const char *arch) {
  static const struct {
    const char *name;
    uint32_t token;
  } TOKENS[] = {{"x86_64", SCMP_ARCH_X86_64},   {"i686", SCMP_ARCH_X86},        {"aarch64", SCMP_ARCH_AARCH64},
                {"armv7l", SCMP_ARCH_ARM},      {"ppc64le", SCMP_ARCH_PPC64LE}, {"riscv64", SCMP_ARCH_RISCV64},
                {"s390x", SCMP_ARCH_S390X}};
  if (*arch == '\0') return true;
  for (const auto &row : TOKENS)
    if (strcmp(row.name, arch) == 0) return row.token == seccomp_arch_native();
  die("unknown architecture", arch, 0);
}

struct Call {
  const char *name;
  int number;
};

/* libseccomp gives names that other architectures have a negative pseudo number. */
Call resolve(const Rule &rule) {
  for (const char *name : rule.names) {
    int number = seccomp_syscall_resolve_name(name);
    if (number >= 0) return {name, number};
  }
  die("no such system call on this architecture:", rule.names[0], 0);
}

/* A negative int stands for both of its 64-bit forms: each doubles the combinations. */
std::vector<std::vector<Term>> bothExtensions(const std::vector<Term> &terms) {
  std::vector<std::vector<Term>> out = {{}};
  for (const Term &term : terms) {
    size_t before = out.size();
    bool two = term.value.negativeInt && term.mask.bits == UINT64_MAX;
    for (size_t i = 0; i < before; i++) {
      if (two) {
        std::vector<Term> zeros = out[i];
        zeros.push_back({term.arg, term.mask, {term.value.bits & UINT32_MAX, false}});
        out.push_back(zeros);
      }
      out[i].push_back(term);
    }
  }
  return out;
}

std::vector<scmp_arg_cmp> comparators(const std::vector<Term> &terms) {
  std::vector<scmp_arg_cmp> out;
  for (const Term &term : terms) {
    if (term.mask.bits == UINT64_MAX) {
      out.push_back(SCMP_CMP64(term.arg, SCMP_CMP_EQ, term.value.bits));
      continue;
    }
    if ((term.value.bits & ~term.mask.bits) != 0) die("a masked value has bits outside its mask", "", 0);
    out.push_back(SCMP_CMP64(term.arg, SCMP_CMP_MASKED_EQ, term.mask.bits, term.value.bits));
  }
  return out;
}

/* An unconditional rule swallows the conditional ones of its call; libseccomp must not see two actions for one call. */
bool isSwallowed(const Rule &rule, const Call &call, unsigned profile) {
  if (rule.terms.empty()) return false;
  for (const Rule &other : RULES) {
    if ((other.profiles & profile) == 0 || !other.terms.empty() || !isForArchitecture(other.arch)) continue;
    if (resolve(other).number != call.number) continue;
    if (other.error != rule.error) die("allowed and refused by different annotations:", call.name, 0);
    return true;
  }
  return false;
}

void printRule(FILE *json, bool first, const char *profile, const Rule &rule, const Call &call,
               const std::vector<Term> &terms) {
  fprintf(json, "%s\n{\"profile\": \"%s\", \"annotation\": %u, \"name\": \"%s\", \"number\": %d, \"errno\": %d, \"args\": [",
          first ? "" : ",", profile, rule.annotation, call.name, call.number, rule.error);
  for (size_t i = 0; i < terms.size(); i++)
    fprintf(json, "%s{\"arg\": %u, \"mask\": \"%" PRIu64 "\", \"value\": \"%" PRIu64 "\"}", i == 0 ? "" : ", ",
            terms[i].arg, terms[i].mask.bits, terms[i].value.bits);
  fputs("]}", json);
}

/* { "arch": AUDIT_ARCH_*, "names": [name of call 0, of call 1, …; "" where there is none] } */
void printNames(const std::string &path) {
  constexpr int NUMBER_MAX = 1023;
  FILE *json = fopen(path.c_str(), "we");
  if (json == nullptr) die("cannot create", path.c_str(), errno);
  fprintf(json, "{\"arch\": %" PRIu32 ", \"names\": [", seccomp_arch_native());
  for (int number = 0; number <= NUMBER_MAX; number++) {
    char *name = seccomp_syscall_resolve_num_arch(seccomp_arch_native(), number);
    fprintf(json, "%s\"%s\"", number == 0 ? "" : ", ", name == nullptr ? "" : name);
    free(name);
  }
  fputs("]}\n", json);
  if (fclose(json) != 0) die("cannot write", path.c_str(), errno);
}

void addRule(scmp_filter_ctx filter, const Rule &rule, const Call &call, const std::vector<Term> &terms) {
  uint32_t action = rule.error == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO(static_cast<uint16_t>(rule.error));
  auto compare = comparators(terms);
  int result = seccomp_rule_add_exact_array(filter, action, call.number, static_cast<unsigned>(compare.size()),
                                            compare.data());
  /* The same rule twice, from two annotations, is no contradiction. */
  if (result != 0 && result != -EEXIST) die("libseccomp refuses a rule for", call.name, -result);
}

void exportTo(const std::string &path, int (*write)(scmp_filter_ctx, int), scmp_filter_ctx filter) {
  int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  if (fd < 0) die("cannot create", path.c_str(), errno);
  int result = write(filter, fd);
  if (result != 0) die("cannot write", path.c_str(), -result);
  close(fd);
}

scmp_filter_ctx newFilter() {
  /* Kill-process needs level 3; without this the *building* machine's kernel would decide. */
  if (seccomp_api_set(3) != 0) die("libseccomp is too old for", "SCMP_ACT_KILL_PROCESS (2.4 has it)", 0);
  scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
  if (filter == nullptr) die("libseccomp gives", "no filter", ENOMEM);
  if (seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) != 0 ||
      seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) != 0)
    die("libseccomp refuses", "an attribute", 0);
  return filter;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc != 2) die("usage:", "seccomp-compiler OUTPUT-DIRECTORY", 0);
  std::string directory = argv[1];
  if (mkdir(argv[1], 0755) != 0 && errno != EEXIST) die("cannot create", argv[1], errno);
  printNames(directory + "/names.json");
  FILE *json = fopen((directory + "/rules.json").c_str(), "we");
  if (json == nullptr) die("cannot create rules.json in", argv[1], errno);
  fputc('[', json);
  bool first = true;
  for (const auto &profile : PROFILES) {
    scmp_filter_ctx filter = newFilter();
    for (const Rule &rule : RULES) {
      if ((rule.profiles & profile.bit) == 0 || !isForArchitecture(rule.arch)) continue;
      Call call = resolve(rule);
      if (isSwallowed(rule, call, profile.bit)) continue;
      for (const auto &terms : bothExtensions(rule.terms)) {
        addRule(filter, rule, call, terms);
        printRule(json, first, profile.name, rule, call, terms);
        first = false;
      }
    }
    exportTo(directory + "/" + profile.name + ".bpf", seccomp_export_bpf, filter);
    exportTo(directory + "/" + profile.name + ".pfc", seccomp_export_pfc, filter);
    seccomp_release(filter);
  }
  fputs("\n]\n", json);
  if (fclose(json) != 0) die("cannot write rules.json in", argv[1], errno);
  return 0;
}
