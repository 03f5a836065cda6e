"""``client_http.py URL CA REPEAT``: http.client, one connection.

Standard input is the body (none: GET); prints the response bodies.
"""

import http.client
import ssl
import sys
from urllib.parse import urlsplit

url, ca, repeat = urlsplit(sys.argv[1]), sys.argv[2], int(sys.argv[3])
body = sys.stdin.buffer.read()
kind = "application/json" if body.startswith(b"{") else "application/octet-stream"
headers = {"Content-Type": kind} if body else {}
context = ssl.create_default_context(cafile=ca)
connection = http.client.HTTPSConnection(url.hostname or "", url.port, context=context, timeout=30)
for _ in range(repeat):
    connection.request("POST" if body else "GET", url.path, body or None, headers)
    sys.stdout.buffer.write(connection.getresponse().read())
connection.close()
