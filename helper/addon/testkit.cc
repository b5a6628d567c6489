// SPDX-License-Identifier: Apache-2.0
/*
 * For tests only, never installed: what Node cannot give them, as raw descriptors. Sockets of any kind, descriptors
 * over SCM_RIGHTS, taps, network namespaces (of the calling thread). Failures throw an Error with `errno` and `code`.
 * test/support/testkit.ts is the typed face.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_packet.h>
#include <linux/if_tun.h>
#include <napi.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <string>
#include <vector>

#include "../../shared/abi.h"
#include "checksum.h"

using Info = const Napi::CallbackInfo &;

static int check(Napi::Env env, long result, const char *what) {
  if (result >= 0) return static_cast<int>(result);
  int error = errno;
  Napi::Error thrown = Napi::Error::New(env, std::string(what) + ": " + strerror(error));
  thrown.Set("errno", Napi::Number::New(env, error));
  thrown.Set("code", Napi::String::New(env, strerrorname_np(error)));
  throw thrown;
}

static int integer(Info info, size_t i) { return info[i].ToNumber().Int32Value(); }
static std::string text(Info info, size_t i) { return info[i].ToString().Utf8Value(); }
static Napi::Value number(Info info, double value) { return Napi::Number::New(info.Env(), value); }
static Napi::Value done(Info info) { return info.Env().Undefined(); }

static Napi::Value pair(Info info, const int (&fds)[2]) {
  Napi::Array out = Napi::Array::New(info.Env(), 2);
  out.Set(0u, fds[0]);
  out.Set(1u, fds[1]);
  return out;
}

struct Address {
  sockaddr_storage storage = {};
  socklen_t len = 0;
  sockaddr *get() { return reinterpret_cast<sockaddr *>(&storage); }
};

/* Numeric address and port; IPv6 is told by its colon. */
static Address addressOf(Info info, size_t i) {
  Address out;
  std::string address = text(info, i);
  auto port = htons(static_cast<uint16_t>(integer(info, i + 1)));
  auto *v4 = reinterpret_cast<sockaddr_in *>(&out.storage);
  auto *v6 = reinterpret_cast<sockaddr_in6 *>(&out.storage);
  bool six = address.find(':') != std::string::npos;
  out.storage.ss_family = six ? AF_INET6 : AF_INET;
  out.len = six ? sizeof *v6 : sizeof *v4;
  (six ? v6->sin6_port : v4->sin_port) = port;
  void *bytes = six ? static_cast<void *>(&v6->sin6_addr) : &v4->sin_addr;
  if (inet_pton(out.storage.ss_family, address.c_str(), bytes) != 1) {
    throw Napi::TypeError::New(info.Env(), "no numeric address: " + address);
  }
  return out;
}

/* ---- sockets ---- */

static Napi::Value makeSocket(Info info) {
  int type = integer(info, 1) | SOCK_CLOEXEC;
  return number(info, check(info.Env(), socket(integer(info, 0), type, integer(info, 2)), "socket"));
}
static Napi::Value makeSocketpair(Info info) {
  int fds[2];
  check(info.Env(), socketpair(AF_UNIX, integer(info, 0) | SOCK_CLOEXEC, 0, fds), "socketpair");
  return pair(info, fds);
}
static Napi::Value makePipe(Info info) {
  int fds[2];
  check(info.Env(), pipe2(fds, O_CLOEXEC | O_NONBLOCK), "pipe2");
  return pair(info, fds);
}
static Napi::Value bindTo(Info info) {
  Address own = addressOf(info, 1);
  check(info.Env(), bind(integer(info, 0), own.get(), own.len), "bind");
  return done(info);
}
static Napi::Value connectTo(Info info) {
  Address peer = addressOf(info, 1);
  int result = connect(integer(info, 0), peer.get(), peer.len);
  if (result < 0 && errno == EINPROGRESS) return done(info);
  check(info.Env(), result, "connect");
  return done(info);
}
static Napi::Value listenOn(Info info) {
  check(info.Env(), listen(integer(info, 0), integer(info, 1)), "listen");
  return done(info);
}
static Napi::Value acceptFrom(Info info) {
  return number(info, check(info.Env(), accept4(integer(info, 0), nullptr, nullptr, SOCK_CLOEXEC), "accept"));
}
static Napi::Value portOf(Info info) {
  sockaddr_storage own = {};
  socklen_t len = sizeof own;
  check(info.Env(), getsockname(integer(info, 0), reinterpret_cast<sockaddr *>(&own), &len), "getsockname");
  /* The port lies at the same place in both families. */
  return number(info, ntohs(reinterpret_cast<sockaddr_in *>(&own)->sin_port));
}
static Napi::Value setInt(Info info) {
  int value = integer(info, 3);
  int result = setsockopt(integer(info, 0), integer(info, 1), integer(info, 2), &value, sizeof value);
  check(info.Env(), result, "setsockopt");
  return done(info);
}
static Napi::Value getInt(Info info) {
  int value = 0;
  socklen_t len = sizeof value;
  check(info.Env(), getsockopt(integer(info, 0), integer(info, 1), integer(info, 2), &value, &len), "getsockopt");
  return number(info, value);
}

/* ---- bytes and descriptors ---- */

static Napi::Value sendBytes(Info info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  ssize_t sent = send(integer(info, 0), bytes.Data(), bytes.ByteLength(), MSG_NOSIGNAL | MSG_DONTWAIT);
  return number(info, check(info.Env(), sent, "send"));
}
static Napi::Value sendTo(Info info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  Address peer = addressOf(info, 2);
  ssize_t sent = sendto(integer(info, 0), bytes.Data(), bytes.ByteLength(), 0, peer.get(), peer.len);
  return number(info, check(info.Env(), sent, "sendto"));
}
static Napi::Value recvBytes(Info info) {
  std::vector<uint8_t> buffer(static_cast<size_t>(integer(info, 1)));
  int got = check(info.Env(), recv(integer(info, 0), buffer.data(), buffer.size(), integer(info, 2)), "recv");
  auto out = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(got));
  if (got > 0) memcpy(out.Data(), buffer.data(), static_cast<size_t>(got));
  return out;
}
static Napi::Value readBytes(Info info) {
  std::vector<uint8_t> buffer(static_cast<size_t>(integer(info, 1)));
  int got = check(info.Env(), read(integer(info, 0), buffer.data(), buffer.size()), "read");
  auto out = Napi::Uint8Array::New(info.Env(), static_cast<size_t>(got));
  if (got > 0) memcpy(out.Data(), buffer.data(), static_cast<size_t>(got));
  return out;
}
static Napi::Value writeBytes(Info info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  return number(info, check(info.Env(), write(integer(info, 0), bytes.Data(), bytes.ByteLength()), "write"));
}
static Napi::Value sendFds(Info info) {
  auto bytes = info[1].As<Napi::Uint8Array>();
  auto list = info[2].As<Napi::Array>();
  std::vector<int> fds;
  for (uint32_t i = 0; i < list.Length(); i++) fds.push_back(list.Get(i).ToNumber().Int32Value());
  size_t size = fds.size() * sizeof(int);
  std::vector<uint8_t> control(CMSG_SPACE(size));
  iovec data = {bytes.Data(), bytes.ByteLength()};
  msghdr message = {};
  message.msg_iov = &data;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    cmsghdr *item = CMSG_FIRSTHDR(&message);
    item->cmsg_level = SOL_SOCKET;
    item->cmsg_type = SCM_RIGHTS;
    item->cmsg_len = CMSG_LEN(size);
    memcpy(CMSG_DATA(item), fds.data(), size);
  }
  return number(info, check(info.Env(), sendmsg(integer(info, 0), &message, MSG_NOSIGNAL), "sendmsg"));
}
static Napi::Value closeOne(Info info) {
  check(info.Env(), close(integer(info, 0)), "close");
  return done(info);
}
static Napi::Value nonBlocking(Info info) {
  int fd = integer(info, 0);
  int flags = check(info.Env(), fcntl(fd, F_GETFL), "fcntl");
  bool on = info[1].ToBoolean();
  check(info.Env(), fcntl(fd, F_SETFL, on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK), "fcntl");
  return done(info);
}
static Napi::Value isCloexec(Info info) {
  int flags = check(info.Env(), fcntl(integer(info, 0), F_GETFD), "fcntl");
  return Napi::Boolean::New(info.Env(), (flags & FD_CLOEXEC) != 0);
}
static Napi::Value pollOne(Info info) {
  pollfd one = {integer(info, 0), static_cast<short>(integer(info, 1)), 0};
  check(info.Env(), poll(&one, 1, integer(info, 2)), "poll");
  return number(info, one.revents);
}

static Napi::Value descriptorLimit(Info info) {
  rlimit limit;
  check(info.Env(), getrlimit(RLIMIT_NOFILE, &limit), "getrlimit");
  double before = static_cast<double>(limit.rlim_cur);
  limit.rlim_cur = static_cast<rlim_t>(integer(info, 0));
  check(info.Env(), setrlimit(RLIMIT_NOFILE, &limit), "setrlimit");
  return number(info, before);
}

/* ---- interfaces and namespaces ---- */

static ifreq named(const std::string &name) {
  ifreq request = {};
  name.copy(request.ifr_name, IFNAMSIZ - 1);
  return request;
}

/* An ioctl on an interface needs a socket of any kind. */
static void configure(Info info, unsigned long operation, ifreq &request, const char *what) {
  int fd = check(info.Env(), socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), "socket");
  int result = ioctl(fd, operation, &request);
  int error = errno;
  close(fd);
  errno = error;
  check(info.Env(), result, what);
}

static Napi::Value openTap(Info info) {
  ifreq request = named(text(info, 0));
  int headerBytes = integer(info, 1);
  int fd = check(info.Env(), open("/dev/net/tun", O_RDWR | O_CLOEXEC | O_NONBLOCK), "/dev/net/tun");
  request.ifr_flags = static_cast<short>(IFF_TAP | IFF_NO_PI | (headerBytes > 0 ? IFF_VNET_HDR : 0));
  bool made = ioctl(fd, TUNSETIFF, &request) == 0 &&
              (headerBytes == 0 || ioctl(fd, TUNSETVNETHDRSZ, &headerBytes) == 0) &&
              ioctl(fd, TUNSETOFFLOAD, static_cast<unsigned long>(integer(info, 2))) == 0;
  int error = errno;
  if (!made) close(fd);
  errno = error;
  check(info.Env(), made ? 0 : -1, "tap");
  return number(info, fd);
}
static Napi::Value linkUp(Info info) {
  ifreq request = named(text(info, 0));
  configure(info, SIOCGIFFLAGS, request, "SIOCGIFFLAGS");
  request.ifr_flags |= IFF_UP;
  configure(info, SIOCSIFFLAGS, request, "SIOCSIFFLAGS");
  return done(info);
}
static Napi::Value linkMtu(Info info) {
  ifreq request = named(text(info, 0));
  request.ifr_mtu = integer(info, 1);
  configure(info, SIOCSIFMTU, request, "SIOCSIFMTU");
  return done(info);
}
static Napi::Value address4(Info info) {
  ifreq request = named(text(info, 0));
  auto *own = reinterpret_cast<sockaddr_in *>(&request.ifr_addr);
  own->sin_family = AF_INET;
  if (inet_pton(AF_INET, text(info, 1).c_str(), &own->sin_addr) != 1) {
    throw Napi::TypeError::New(info.Env(), "no IPv4 address");
  }
  configure(info, SIOCSIFADDR, request, "SIOCSIFADDR");
  own->sin_addr.s_addr = htonl(static_cast<uint32_t>(~uint64_t{0} << (32 - integer(info, 2))));
  configure(info, SIOCSIFNETMASK, request, "SIOCSIFNETMASK");
  return done(info);
}
static Napi::Value packetSocket(Info info) {
  sockaddr_ll own = {};
  own.sll_family = AF_PACKET;
  own.sll_protocol = htons(ETH_P_ALL);
  own.sll_ifindex = static_cast<int>(if_nametoindex(text(info, 0).c_str()));
  if (own.sll_ifindex == 0) check(info.Env(), -1, "if_nametoindex");
  int fd = check(info.Env(), socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, htons(ETH_P_ALL)), "socket");
  check(info.Env(), bind(fd, reinterpret_cast<sockaddr *>(&own), sizeof own), "bind");
  return number(info, fd);
}
static Napi::Value unshareNet(Info info) {
  check(info.Env(), unshare(CLONE_NEWNET), "unshare");
  return done(info);
}
static Napi::Value enterNet(Info info) {
  int fd = check(info.Env(), open(text(info, 0).c_str(), O_RDONLY | O_CLOEXEC), "open");
  int result = setns(fd, CLONE_NEWNET);
  int error = errno;
  close(fd);
  errno = error;
  check(info.Env(), result, "setns");
  return done(info);
}

/* Any of the calls that a sealed controller must not make: -errno or the result, where it is not killed. */
static Napi::Value rawSyscall(Info info) {
  long a[6] = {};
  for (size_t i = 0; i < 6 && i + 1 < info.Length(); i++) a[i] = static_cast<long>(info[i + 1].ToNumber().Int64Value());
  long result = syscall(integer(info, 0), a[0], a[1], a[2], a[3], a[4], a[5]);
  return number(info, static_cast<double>(result < 0 ? -errno : result));
}

/* ---- what abi.h and the checksum say ---- */

static Napi::Value sockopts(Info info) {
  Napi::Object out = Napi::Object::New(info.Env());
  const struct {
    const char *name;
    int level;
    int option;
  } rows[] = {
#define ROW(level, option) {#option, level, option},
      SOCKOPTS(ROW)
#undef ROW
  };
  for (const auto &row : rows) {
    Napi::Object pairOf = Napi::Object::New(info.Env());
    pairOf.Set("level", row.level);
    pairOf.Set("option", row.option);
    out.Set(row.name, pairOf);
  }
  return out;
}
template <uint16_t (*sum)(const uint8_t *, size_t, uint32_t)> static Napi::Value sumOf(Info info) {
  auto bytes = info[0].As<Napi::Uint8Array>();
  return number(info, sum(bytes.Data(), bytes.ByteLength(), info[1].ToNumber().Uint32Value()));
}

static Napi::Object init(Napi::Env env, Napi::Object exports) {
  const struct {
    const char *name;
    Napi::Value (*call)(Info);
  } table[] = {
      {"socket", makeSocket},       {"socketpair", makeSocketpair}, {"pipe", makePipe},
      {"bind", bindTo},             {"connect", connectTo},         {"listen", listenOn},
      {"accept", acceptFrom},       {"port", portOf},               {"setInt", setInt},
      {"getInt", getInt},           {"send", sendBytes},            {"sendTo", sendTo},
      {"recv", recvBytes},          {"read", readBytes},            {"write", writeBytes},
      {"sendFds", sendFds},         {"close", closeOne},            {"nonBlocking", nonBlocking},
      {"isCloexec", isCloexec},     {"poll", pollOne},              {"openTap", openTap},
      {"linkUp", linkUp},           {"linkMtu", linkMtu},           {"address4", address4},
      {"packetSocket", packetSocket}, {"unshareNet", unshareNet},   {"enterNet", enterNet},
      {"syscall", rawSyscall},      {"sockopts", sockopts},         {"descriptorLimit", descriptorLimit},
      {"checksumPortable", sumOf<checksumPortable>},
  };
  for (const auto &row : table) exports.Set(row.name, Napi::Function::New(env, row.call, row.name));
#if defined(__x86_64__)
  if (__builtin_cpu_supports("avx2")) exports.Set("checksumAvx2", Napi::Function::New(env, sumOf<checksumAvx2>));
#endif
  return exports;
}

NODE_API_MODULE(testkit, init)
