# SPDX-License-Identifier: Apache-2.0
"""Multicast and broadcast programs for tests; each datagram that comes is a line of JSON.

  group.py listen ADDRESS PORT INTERFACE       join (a group) or bind; answer "ask…" by unicast
  group.py send ADDRESS PORT INTERFACE TTL SOURCE_PORT TEXT ANSWERS   send once, take so many answers
"""
import json
import socket
import struct
import sys

# Python 3.11 does not name it: linux/in.h
IP_RECVTTL = 12


def open_socket(v6, port, shared):
    s = socket.socket(socket.AF_INET6 if v6 else socket.AF_INET, socket.SOCK_DGRAM)
    if shared:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
    else:
        s.setsockopt(socket.IPPROTO_IP, IP_RECVTTL, 1)
    s.bind(("", port))
    return s


def receive(s):
    data, control, _, source = s.recvmsg(2048, 256)
    hops = [struct.unpack("i", value[:4])[0] for _, _, value in control]
    print(json.dumps({"from": source[0].split("%")[0], "port": source[1], "ttl": hops[0], "text": data.decode()}), flush=True)
    return data, source


mode, address, port, interface = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
v6 = ":" in address
index = socket.if_nametoindex(interface)
group = address.startswith(("ff", "22", "23"))
if mode == "listen":
    s = open_socket(v6, port, True)
    if group and v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, socket.inet_pton(socket.AF_INET6, address) + struct.pack("@I", index))
    elif group:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, socket.inet_aton(address) + bytes(4) + struct.pack("@i", index))
    print("listening", flush=True)
    while True:
        data, source = receive(s)
        if data.startswith(b"ask"):
            s.sendto(b"answer to " + data, source)
else:
    ttl, source_port, text, answers = int(sys.argv[5]), int(sys.argv[6]), sys.argv[7], int(sys.argv[8])
    s = open_socket(v6, source_port, source_port != 0)
    s.settimeout(5)
    if v6:
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, ttl)
        s.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, ttl)
    else:
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, bytes(8) + struct.pack("@i", index))
        s.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        s.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
    s.sendto(text.encode(), (address, port))
    for _ in range(answers):
        receive(s)
