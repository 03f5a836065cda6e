"""``client_httpx.py URL CA REPEAT``: httpx, one connection.

Standard input is the body (none: GET); prints the response bodies.
"""

import ssl
import sys

import httpx

url, ca, repeat = sys.argv[1], sys.argv[2], int(sys.argv[3])
body = sys.stdin.buffer.read()
kind = "application/json" if body.startswith(b"{") else "application/octet-stream"
headers = {"Content-Type": kind} if body else {}
context = ssl.create_default_context(cafile=ca)
with httpx.Client(verify=context, trust_env=False, timeout=30) as client:
    for _ in range(repeat):
        response = client.request("POST" if body else "GET", url, content=body or None, headers=headers)
        sys.stdout.buffer.write(response.content)
