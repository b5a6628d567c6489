# SPDX-License-Identifier: Apache-2.0
"""
The lives of TCP connections, as programs see them: both ends of each scenario, in the standard library's sockets.

    tcp-life.py serve ADDRESS              every scenario's server, on BASE + its number; prints "listening"
    tcp-life.py run ADDRESS SCENARIO...    the clients; a line of JSON with what each saw: {"scenario": result}
    tcp-life.py connect ADDRESS PORT       {"error": errno's name or null, "ms": duration}
    tcp-life.py keepAlive ADDRESS          an idle connection with SO_KEEPALIVE, until standard input ends; prints "open"
"""

import errno
import fcntl
import hashlib
import json
import select
import socket
import struct
import sys
import threading
import time

BASE = 7200
NAMES = ["halfClose", "peerHalfClose", "peerReset", "aborted", "answerThenReset", "urgent", "shortLived", "writeAfterClose"]
SIZE = 300_000
CONNECTS = 2000
PORTS = 40


def pattern(n, seed=0):
    return hashlib.shake_128(str(seed).encode()).digest(n)


def name(error):
    return errno.errorcode.get(error.errno, str(error.errno))


def receive_all(s):
    """Everything up to the end: (bytes, None or the error's name)."""
    parts = []
    try:
        while part := s.recv(65536):
            parts.append(part)
    except OSError as error:
        return b"".join(parts), name(error)
    return b"".join(parts), None


def linger_zero(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


class Server:
    """What each scenario's connection is served with; `ended` is told to whoever asks on port BASE + 90."""

    ended = []

    def halfClose(self, s):
        data, _ = receive_all(s)
        s.sendall(data)

    def peerHalfClose(self, s):
        s.sendall(pattern(SIZE))
        s.shutdown(socket.SHUT_WR)
        data, error = receive_all(s)
        self.ended.append(["peerHalfClose", len(data), error])

    def peerReset(self, s):
        s.recv(1)
        linger_zero(s)

    def aborted(self, s):
        s.sendall(b"go")
        data, error = receive_all(s)
        self.ended.append(["aborted", len(data), error])

    def answerThenReset(self, s):
        # Closed with data unread: a reset follows the answer.
        s.recv(1)
        s.sendall(pattern(SIZE))
        while True:
            (unsent,) = struct.unpack("i", fcntl.ioctl(s, 0x5411, b"\0" * 4))
            if unsent == 0:
                return
            time.sleep(0.002)

    def urgent(self, s):
        s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        got = b""
        while len(got) < 7:
            got += s.recv(100)
        s.send(b"uvw")
        s.send(b"X", socket.MSG_OOB)
        s.send(b"yz")
        s.sendall(got)

    def shortLived(self, s):
        s.sendall(b"x")

    def writeAfterClose(self, s):
        s.recv(1)


def serve(address):
    server = Server()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET

    def listen(port, handle):
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(1000)

        def one(s):
            with s:
                try:
                    handle(s)
                except OSError:
                    pass

        def loop():
            while True:
                s, _ = listener.accept()
                threading.Thread(target=one, args=(s,), daemon=True).start()

        threading.Thread(target=loop, daemon=True).start()

    for i, scenario in enumerate(NAMES):
        listen(BASE + i, getattr(server, scenario))

    def tell(s):
        until = time.monotonic() + 10
        wanted = int.from_bytes(s.recv(1), "big")
        while len(server.ended) < wanted and time.monotonic() < until:
            time.sleep(0.005)
        s.sendall(json.dumps(server.ended).encode())
        server.ended.clear()

    listen(BASE + 90, tell)
    print("listening", flush=True)
    threading.Event().wait()


class Client:
    def __init__(self, address):
        self.address = address

    def open(self, scenario, **options):
        return socket.create_connection((self.address, BASE + NAMES.index(scenario)), timeout=20, **options)

    def ended(self, count):
        with socket.create_connection((self.address, BASE + 90), timeout=20) as s:
            s.sendall(bytes([count]))
            return json.loads(receive_all(s)[0])

    def halfClose(self):
        with self.open("halfClose") as s:
            s.sendall(pattern(SIZE))
            s.shutdown(socket.SHUT_WR)
            data, error = receive_all(s)
            return [data == pattern(SIZE), error]

    def peerHalfClose(self):
        with self.open("peerHalfClose") as s:
            data, error = receive_all(s)
            # The other half is open still.
            s.sendall(pattern(SIZE, 1))
            s.shutdown(socket.SHUT_WR)
            return [data == pattern(SIZE), error, self.ended(1)]

    def peerReset(self):
        with self.open("peerReset") as s:
            s.sendall(b"x")
            return list(receive_all(s)[1:])

    def aborted(self):
        """SO_LINGER 0, and closing with data unread: both reset the peer."""
        with self.open("aborted") as s:
            s.sendall(b"abc")
            s.recv(2)
            linger_zero(s)
        first = self.ended(1)
        with self.open("aborted") as s:
            select.select([s], [], [], 20)
        return [first[0][2], self.ended(1)[0][2]]

    def answerThenReset(self):
        with self.open("answerThenReset") as s:
            s.sendall(b"a request, of which only the first byte is read")
            time.sleep(0.3)
            data, error = receive_all(s)
            return [data == pattern(SIZE), error]

    def urgent(self):
        with self.open("urgent") as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
            s.send(b"abc")
            s.send(b"D", socket.MSG_OOB)
            s.send(b"efg")
            return receive_all(s)[0].decode()

    def shortLived(self):
        """One connection after the other from few ports, each bound before it is connected."""
        family = socket.AF_INET6 if ":" in self.address else socket.AF_INET
        failures = {}
        for i in range(CONNECTS):
            with socket.socket(family, socket.SOCK_STREAM) as s:
                s.settimeout(20)
                s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    s.bind(("", 21_000 + i % PORTS))  # below the ephemeral ports, which others of the test may hold
                    s.connect((self.address, BASE + NAMES.index("shortLived")))
                    data, error = receive_all(s)
                    what = error or (None if data == b"x" else repr(data))
                except OSError as error:
                    what = name(error) if error.errno else type(error).__name__
                if what is not None:
                    failures[what] = failures.get(what, 0) + 1
        return failures

    def writeAfterClose(self):
        with self.open("writeAfterClose") as s:
            s.sendall(b"x")
            s.recv(1)  # end of file: the peer is gone altogether
            try:
                for _ in range(1000):
                    s.sendall(b"more")
                    time.sleep(0.005)
            except OSError as error:
                return name(error)


def connect(address, port):
    began = time.monotonic()
    try:
        socket.create_connection((address, port), timeout=20).close()
        error = None
    except OSError as failure:
        error = name(failure) if failure.errno else type(failure).__name__
    print(json.dumps({"error": error, "ms": (time.monotonic() - began) * 1000}))


def keep_alive(address):
    """A connection that says nothing but keep-alives, one a second."""
    with Client(address).open("aborted") as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
        s.recv(2)
        print("open", flush=True)
        sys.stdin.read()


if sys.argv[1] == "serve":
    serve(sys.argv[2])
elif sys.argv[1] == "keepAlive":
    keep_alive(sys.argv[2])
elif sys.argv[1] == "connect":
    connect(sys.argv[2], int(sys.argv[3]))
else:
    client = Client(sys.argv[2])
    print(json.dumps({each: getattr(client, each)() for each in sys.argv[3:] or NAMES}))
