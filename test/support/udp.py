# SPDX-License-Identifier: Apache-2.0
"""UDP programs for tests, with the header fields that Node does not show; each datagram that comes is a line of JSON.

  udp.py serve ADDRESS PORT TTL TOS                     echo with these
  udp.py ask ADDRESS PORT SOURCE_PORT TTL TOS SIZE…     one question of each size, and its echo
  udp.py hold ADDRESS PORT SOURCE_PORT                  a question for each line of standard input, until answered
  udp.py many ADDRESS PORT COUNT ROUNDS                 a question from each of COUNT sockets, up to 4 times until answered
  udp.py burst ADDRESS PORT COUNT                       a question from each of COUNT sockets at once, again until answered
  udp.py fan ADDRESS PORT COUNT                         a datagram from each of COUNT ports, that waits for nothing
  udp.py feed ADDRESS PORT                              to whoever sent the first one: a datagram for each SIZE:TOS of a line of input
  udp.py take ADDRESS PORT COUNT                        one question, then COUNT datagrams as "feed" makes them
  udp.py scan ADDRESS FIRST LAST                        a datagram to each port, from one port
"""
import json
import select
import socket
import sys
import time

# Python 3.11 does not name it: linux/in.h
IP_RECVTTL = 12
mode, address, *numbers = sys.argv[1:]
numbers = [int(n) for n in numbers]
v6 = ":" in address


def open_socket(port, ttl, tos, own=""):
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(3)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVTCLASS, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_TCLASS, tos)
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_RECVTOS, 1)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, tos)
    if own:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind(socket.getaddrinfo(own, port, type=socket.SOCK_DGRAM)[0][4] if "%" in own else (own, port))
    return s


def receive(s):
    data, control, _, source = s.recvmsg(65536, 256)
    ttl = tos = -1
    for _, kind, value in control:
        if kind in (socket.IP_TTL, socket.IPV6_HOPLIMIT):
            ttl = value[0]
        else:
            tos = value[0]
    text = data.decode("latin1") if len(data) < 100 else ""
    print(json.dumps({"from": source[0], "port": source[1], "ttl": ttl, "tos": tos, "size": len(data), "text": text}), flush=True)
    return data, source


def payload(size, seed=0):
    return bytes(i * 7 + seed & 255 for i in range(size))


if mode == "serve":
    port, ttl, tos = numbers
    s = open_socket(port, ttl, tos, address)
    s.settimeout(None)
    print("listening", flush=True)
    while True:
        data, source = receive(s)
        s.sendto(data, source)
elif mode == "ask":
    port, source_port, ttl, tos, *sizes = numbers
    s = open_socket(source_port, ttl, tos)
    for size in sizes:
        s.sendto(payload(size), (address, port))
        data, _ = receive(s)
        if data != payload(size):
            sys.exit(f"the echo of {size} bytes differs")
elif mode == "hold":
    port, source_port = numbers
    s = open_socket(source_port, 64, 0)
    print("ready", flush=True)
    s.settimeout(0.5)
    for line in sys.stdin:
        question = line.strip().encode()
        for attempt in range(8):
            s.sendto(question, (address, port))
            try:
                while receive(s)[0] != question:
                    pass
                break
            except TimeoutError:
                pass  # lost: an interface under a scan has no room for it
elif mode == "many":
    port, count, rounds = numbers
    sockets = [open_socket(0, 64, 0) for _ in range(count)]
    lost = again = 0
    for r in range(rounds):
        for i, s in enumerate(sockets):
            question = f"{r} {i}".encode()
            s.settimeout(0.5)
            for attempt in range(4):
                s.sendto(question, (address, port))
                try:
                    while s.recv(2048) != question:
                        pass
                    break
                except TimeoutError:
                    again += 1
            else:
                lost += 1
    print(json.dumps({"lost": lost, "again": again}))
elif mode == "burst":
    port, count = numbers
    waiting = {open_socket(0, 64, 0): f"{i} ".encode() * 100 for i in range(count)}
    again = 0
    for attempt in range(20):
        for s, question in waiting.items():
            s.sendto(question, (address, port))
        deadline = time.monotonic() + 0.3
        while waiting:
            ready, _, _ = select.select(list(waiting), [], [], max(deadline - time.monotonic(), 0))
            if not ready:
                break
            for s in ready:
                data, source = s.recvfrom(65536)
                if data != waiting[s] or source[:2] != (address, port):
                    sys.exit(f"an answer to somebody else, {data[:10]!r} from {source}")
                del waiting[s]
        if not waiting:
            break
        again += len(waiting)
    print(json.dumps({"lost": len(waiting), "again": again}))
elif mode == "feed":
    s = open_socket(numbers[0], 64, 0, address)
    s.settimeout(None)
    print("listening", flush=True)
    _, peer = receive(s)
    option = (socket.IPPROTO_IPV6, socket.IPV6_TCLASS) if v6 else (socket.IPPROTO_IP, socket.IP_TOS)
    for i, each in enumerate(sys.stdin.readline().split()):
        size, tos = map(int, each.split(":"))
        s.setsockopt(*option, tos)
        s.sendto(payload(size, i), peer)
    print("sent", flush=True)
elif mode == "take":
    port, count = numbers
    s = open_socket(0, 64, 0)
    s.sendto(b"here", (address, port))
    print("asked", flush=True)
    s.settimeout(10)
    for i in range(count):
        data, _ = receive(s)
        if data != payload(len(data), i):
            sys.exit(f"datagram {i} of {len(data)} bytes differs")
elif mode == "fan":
    port, count = numbers
    for i in range(count):
        with open_socket(0, 64, 0) as s:
            s.sendto(b"fan", (address, port))
    print(json.dumps({"sent": count}))
else:
    first, last = numbers
    s = open_socket(0, 64, 0)
    for port in range(first, last + 1):
        try:
            s.sendto(b"scan", (address, port))
        except OSError:
            pass
    print(json.dumps({"sent": last - first + 1}))
