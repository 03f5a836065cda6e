"""``client_nonblocking.py URL CA``: a non-blocking TLS socket and select().

Standard input is the body (none: GET); prints the response as received, head included,
and on standard error how often a write had to be tried again.
"""

import select
import socket
import ssl
import sys
from urllib.parse import urlsplit

url, ca = urlsplit(sys.argv[1]), sys.argv[2]
body = sys.stdin.buffer.read()
head = (
    f"{'POST' if body else 'GET'} {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n"
    f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
).encode()
retries = 0

context = ssl.create_default_context(cafile=ca)
plain = socket.create_connection((url.hostname or "", url.port or 443))
plain.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)  # so that a large body does not fit
tls = context.wrap_socket(plain, server_hostname=url.hostname, do_handshake_on_connect=False)
tls.setblocking(False)


def wait(error: ssl.SSLError) -> None:
    reading = isinstance(error, ssl.SSLWantReadError)
    select.select([tls] if reading else [], [] if reading else [tls], [], 30)


while True:
    try:
        tls.do_handshake()
        break
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
        wait(error)

for part in (head, body):
    rest = memoryview(part)
    while rest:
        try:
            rest = rest[tls.send(rest) :]
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            retries += 1
            wait(error)

while True:
    try:
        data = tls.recv(65536)
    except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
        wait(error)
        continue
    if not data:
        break
    sys.stdout.buffer.write(data)
tls.close()
print(f"{retries} retries", file=sys.stderr)
