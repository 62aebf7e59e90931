"""A real S3 server on loopback, and a proxy before it that fails on command."""

import contextlib
import http.client
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Ends with its standard input, so that a killed test session leaves no server behind.
_SERVER = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def serve_s3() -> Iterator[int]:
    """Run an S3 server in a process group of its own and yield its port."""
    with subprocess.Popen(
        [sys.executable, "-c", _SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,  # a line for each request
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@dataclass
class Proxy:
    """Hands requests on to the server, counts them, and fails those it is told to.

    A trouble is a status to answer instead of the server, "stall" (no answer until the end),
    "cut" (the connection closed without an answer) or "halve" (the answer broken off).
    """

    server_port: int
    requests: list[tuple[str, str]] = field(default_factory=list)
    """Method and path of all requests, those that failed too."""
    bytes_sent: int = 0
    """Of bodies, to clients."""
    watch: Callable[[str], None] = lambda method: None
    """Called with the method of each request before it is served."""
    _trouble: int | str = ""
    _methods: tuple[str, ...] = ()
    _after: int = 0
    _times: float = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _ended: threading.Event = field(default_factory=threading.Event)

    @contextlib.contextmanager
    def running(self) -> Iterator[str]:
        """Serve in threads of this process and yield the endpoint."""
        with _Server(("127.0.0.1", 0), _Handler) as server:
            server.proxy = self
            thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
            thread.start()
            try:
                yield f"http://127.0.0.1:{server.server_address[1]}"
            finally:
                self._ended.set()
                server.shutdown()
                thread.join()

    def fail(
        self, trouble: int | str, *, methods: str = "", after: int = 0, times: float = float("inf")
    ) -> None:
        """Have requests fail; with `methods` ("PUT POST"), only such ones.

        So many of them still succeed before (`after`), and so many fail (`times`).
        """
        with self._lock:
            self._trouble, self._methods = trouble, tuple(methods.split())
            self._after, self._times = after, times

    def heal(self) -> None:
        """Hand everything on again."""
        self.fail("", times=0)

    def forget(self) -> None:
        """Count from zero."""
        with self._lock:
            self.requests.clear()
            self.bytes_sent = 0

    def take(self, method: str, path: str) -> int | str:
        """Count a request and return what shall befall it."""
        self.watch(method)
        with self._lock:
            self.requests.append((method, path))
            if self._times < 1 or (self._methods and method not in self._methods):
                return ""
            if self._after:
                self._after -= 1
                return ""
            self._times -= 1
            return self._trouble

    def methods(self) -> list[str]:
        """Return the methods of all requests in their order."""
        with self._lock:
            return [method for method, _ in self.requests]

    def sent(self, count: int) -> None:
        """Count the bytes of an answer."""
        with self._lock:
            self.bytes_sent += count

    def wait_for_end(self) -> None:
        """Return when the proxy ends."""
        self._ended.wait()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    proxy: Proxy

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up while they wait are what is tested."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer waits 40 ms for an acknowledgement
    server: _Server

    def _serve(self) -> None:
        trouble = self.server.proxy.take(self.command, self.path)
        body = self._body()
        if trouble == "stall":
            self.server.proxy.wait_for_end()
        if trouble in {"stall", "cut"}:
            self.close_connection = True
        elif isinstance(trouble, int):
            self._answer(trouble, [], b"")
        else:
            status, headers, content = self._ask(body)
            self._answer(status, headers, content, halve=trouble == "halve")

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815 -- the names that http.server looks for

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        del self.headers["Transfer-Encoding"]
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def _ask(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        server = http.client.HTTPConnection("127.0.0.1", self.server.proxy.server_port)
        with contextlib.closing(server):
            server.request(self.command, self.path, body, dict(self.headers))
            answer = server.getresponse()
            return answer.status, answer.getheaders(), answer.read()

    def _answer(
        self, status: int, headers: list[tuple[str, str]], content: bytes, *, halve: bool = False
    ) -> None:
        self.send_response_only(status)
        length = str(len(content))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value  # of an answer to HEAD, which has no body
            elif name.lower() not in {"transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        sent = content[: len(content) // 2] if halve else content
        self.server.proxy.sent(len(sent))
        self.wfile.write(sent)
        self.close_connection = halve

    def log_message(self, format: str, *args: object) -> None:
        """Nothing on standard error."""


@dataclass(frozen=True)
class Store:
    """A fresh bucket behind a proxy."""

    bucket: str
    """Its URI."""
    proxy: Proxy


def make_bucket(port: int) -> str:
    """Make a bucket directly at the server and return its URI."""
    name = f"bucket-{secrets.token_hex(4)}"
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port)) as server:
        server.request("PUT", f"/{name}")
        assert server.getresponse().status == 200
    return f"s3://{name}"
