"""``client_asyncio.py URL CA``: asyncio streams, whose TLS runs over memory BIOs.

Standard input is the body (none: GET); prints the response as received, head included.
"""

import asyncio
import ssl
import sys
from urllib.parse import urlsplit


async def main() -> None:
    url, ca = urlsplit(sys.argv[1]), sys.argv[2]
    body = sys.stdin.buffer.read()
    context = ssl.create_default_context(cafile=ca)
    reader, writer = await asyncio.open_connection(url.hostname, url.port, ssl=context)
    writer.write(
        f"{'POST' if body else 'GET'} {url.path} HTTP/1.1\r\nHost: {url.netloc}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    )
    writer.write(body)
    await writer.drain()
    sys.stdout.buffer.write(await reader.read())
    writer.close()


asyncio.run(main())
