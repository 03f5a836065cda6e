"""The clients: how each is installed, started, and what is expected of it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import install
from .install import PROGRAMS, Unavailable

__all__ = ["CLIENTS", "Client", "Run"]

CODEX = "@openai/codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex"
CLAUDE = "@anthropic-ai/claude-code/bin/claude.exe"
QUESTION = '{"model": "test", "stream": true, "messages": [{"role": "user", "content": "hello [long]"}]}'
_CODEX_CONFIG = """\
model = "test"
model_provider = "local"
[model_providers.local]
name = "local"
base_url = "{url}/v1"
env_key = "LOCAL_KEY"
wire_api = "responses"
"""


@dataclass(frozen=True)
class Run:
    """Where one run of a client takes place.

    Attributes:
        url: the server's.
        ca: the certificate that its own is signed with.
        home: an empty folder, the client's HOME and working directory.
    """

    url: str
    ca: Path
    home: Path

    @property
    def port(self) -> str:
        return self.url.rpartition(":")[2]


def _unchanged(output: bytes) -> bytes:
    return output


def _response_only(output: bytes) -> bytes:
    """From the response's head on, and without its date."""
    return re.sub(rb"(?im)^date:.*\n", b"", output[max(0, output.find(b"HTTP/1.1 ")) :])


@dataclass(frozen=True)
class Client:
    """A client.

    Attributes:
        stack: its TLS stack.
        program: installs it if need be and gives its program's path.
        arguments: those after the program; may put files into the run's HOME.
        version: arguments after which the program prints its version.
        image: the file with its TLS stack, if it is not the program.
        env: more for its environment, on top of `environment` in `run`.
        stdin: what it reads; its standard input stays open until the connection has ended.
        compared: what of its output is the same in each run.
        says: what its output has to contain.
        unreachable: what the tracer has to say, if its plaintext can't be captured.
        slow: left out unless it is named, or --all is given.
    """

    name: str
    stack: str
    program: Callable[[], Path]
    arguments: Callable[[Run], list[str]]
    version: tuple[str, ...] = ("--version",)
    image: Callable[[Path], Path] | None = None
    env: Callable[[Run], dict[str, str]] = field(default=lambda run: {})
    stdin: bytes = b""
    compared: Callable[[bytes], bytes] = _unchanged
    says: bytes = b""
    unreachable: str = ""
    slow: bool = False


def linked(name: str) -> Callable[[Path], Path]:
    """The shared library of this name that a program, or its Python's `_ssl`, is linked with."""

    def find(program: Path) -> Path:
        target = str(program)
        if "python" in program.name:
            code = "import _ssl; print(_ssl.__file__)"
            target = subprocess.run([program, "-c", code], capture_output=True, text=True, check=True).stdout
        listed = subprocess.run(["ldd", target.strip()], capture_output=True, text=True, check=True).stdout
        for line in listed.splitlines():
            if line.strip().startswith(name) and "=>" in line:
                return Path(line.split("=>")[1].split()[0]).resolve()
        raise Unavailable(f"{program} is not linked with {name}")

    return find


def in_package(pattern: str) -> Callable[[Path], Path]:
    """A file of a Python package, by a pattern below site-packages."""

    def find(program: Path) -> Path:
        return next(program.parents[1].glob(f"lib/python3*/site-packages/{pattern}"))

    return find


def _body_file(run: Run, size: int = 3_000_000) -> str:
    path = run.home / "body"
    path.write_bytes(bytes(at * 7 % 251 for at in range(251)) * (size // 251))
    return str(path)


# --- command-line programs ------------------------------------------------------------------------


def _curl(*options: str) -> Callable[[Run], list[str]]:
    def arguments(run: Run) -> list[str]:
        common = ["--silent", "--show-error", *options, "--cacert", str(run.ca)]
        get = [*common, f"{run.url}/bytes/1000", f"{run.url}/bytes/3000000"]
        post = [*common, "--data-binary", f"@{_body_file(run)}", f"{run.url}/digest"]
        header = ["--header", "Content-Type: application/json", "--data", QUESTION]
        return [
            "--disable",
            *get,
            "--next",
            *post,
            "--next",
            *common,
            *header,
            f"{run.url}/v1/chat/completions",
        ]

    return arguments


def _wget(run: Run) -> list[str]:
    options = ["--no-config", "--quiet", "--tries=1", "--output-document=-", f"--ca-certificate={run.ca}"]
    return [*options, f"{run.url}/bytes/1000", f"{run.url}/bytes/3000000"]


def _wget_post(run: Run) -> list[str]:
    return [*_wget(run)[:-2], f"--post-file={_body_file(run)}", f"{run.url}/digest"]


_LINES = b"a line of text, as long as it is\r\n" * 3000
_REQUEST = (
    b"POST /digest HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b" % (len(_LINES), _LINES)
    + b"GET /bytes/300000 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
)


def _gnutls_cli(run: Run) -> list[str]:
    return [f"--x509cafile={run.ca}", "--port", run.port, "localhost"]


def _tstclnt(run: Run) -> list[str]:
    database = f"sql:{run.home}/nss"
    (run.home / "nss").mkdir(exist_ok=True)
    for command in (["-N", "--empty-password"], ["-A", "-n", "ca", "-t", "C,,", "-i", str(run.ca)]):
        subprocess.run(["certutil", *command, "-d", database], check=True, capture_output=True)
    return ["-h", "localhost", "-p", run.port, "-d", database]


def _system(program: str, package: str) -> Callable[[], Path]:
    return lambda: install.apt(package, program)


COMMANDS = [
    *(
        Client(name, "openssl", _system("curl", "curl"), _curl(*options), image=linked("libssl.so"))
        for name, *options in [
            ("curl", "--http1.1"), ("curl-http2", "--http2"), ("curl-ipv6", "--http1.1", "--ipv6"),
        ]
    ),
    Client("wget", "gnutls", _system("wget", "wget"), _wget, image=linked("libgnutls.so")),
    Client("wget-post", "gnutls", _system("wget", "wget"), _wget_post, image=linked("libgnutls.so")),
    Client(
        "gnutls-cli", "gnutls", _system("gnutls-cli", "gnutls-bin"), _gnutls_cli,
        image=linked("libgnutls.so"), stdin=_REQUEST, compared=_response_only,
    ),
    Client(
        "tstclnt", "nss", _system("tstclnt", "libnss3-tools"), _tstclnt, image=linked("libssl3.so"),
        version=(), stdin=_REQUEST, compared=_response_only,
    ),
]  # fmt: skip

# --- Python ---------------------------------------------------------------------------------------


def _python() -> Path:
    return install.venv() / "python"


def _stack(stack: str, *more: str) -> Callable[[Run], list[str]]:
    return lambda run: [str(PROGRAMS / "python_client.py"), stack, run.url, *more]


def _version_of(package: str) -> tuple[str, ...]:
    return ("-c", f"from importlib.metadata import version; print(version({package!r}))")


PYTHON = [
    Client("urllib", "openssl", _python, _stack("urllib"), image=linked("libssl.so")),
    *(
        Client(name, "openssl", _python, _stack(name), _version_of(package), image=linked("libssl.so"))
        for name, package in [
            ("requests", "requests"), ("aiohttp", "aiohttp"), ("httpx", "httpx"), ("httpx-http2", "httpx"),
            ("async-httpx", "httpx"), ("openai", "openai"), ("anthropic", "anthropic"),
        ]
    ),
    Client(
        "curl_cffi", "boringssl", _python, _stack("curl_cffi"), _version_of("curl_cffi"),
        image=in_package("curl_cffi/_wrapper*.so"),
    ),
    Client(
        "grpcio", "boringssl", _python, _stack("grpc"), _version_of("grpcio"),
        image=in_package("grpc/_cython/cygrpc*.so"),
    ),
    Client(
        "httpr", "ring", _python, _stack("httpr"), _version_of("httpr"), image=in_package("httpr/httpr*.so")
    ),
    Client(
        "primp", "aws-lc", _python, _stack("primp"), _version_of("primp"), image=in_package("primp/primp*.so")
    ),
]  # fmt: skip

# --- JavaScript -----------------------------------------------------------------------------------


def _node(major: int) -> Callable[[], Path]:
    return lambda: install.npm(f"node-{major}", f"node@{major}", "node/bin/node")


def _bun() -> Path:
    return install.npm("bun", "bun@latest", "bun/bin/bun.exe")


def _bun_1_1() -> Path:
    return install.npm("bun-1.1", "bun@1.1", "bun/bin/bun.exe")


def _deno() -> Path:
    return install.npm("deno", "deno@latest", "deno/deno")


def _exchange(kind: str, *more: str, before: tuple[str, ...] = ()) -> Callable[[Run], list[str]]:
    return lambda run: [*before, str(PROGRAMS / "exchange.mjs"), kind, run.url, *more]


_DENO = ("run", "--allow-all", "--quiet")

JAVASCRIPT = [
    *(
        Client(f"node-{major}-{kind}", "openssl", _node(major), _exchange(kind))
        for major in (20, 22, 24)
        for kind in ("fetch", "https", "http2")
    ),
    # Bun 1.1 does not get 3 MB through its own http2.
    *(Client(f"bun-1.1-{kind}", "boringssl", _bun_1_1, _exchange(kind)) for kind in ("fetch", "https")),
    *(Client(f"bun-{kind}", "boringssl", _bun, _exchange(kind)) for kind in ("fetch", "https", "http2")),
    *(
        Client(f"deno-{kind}", "aws-lc", _deno, _exchange(kind, before=_DENO))
        for kind in ("fetch", "https", "http2")
    ),
]

# --- agents and tools -----------------------------------------------------------------------------


def _claude(run: Run) -> list[str]:
    return ["-p", "say hello", "--model", "test"]


def _claude_env(run: Run) -> dict[str, str]:
    quiet = dict.fromkeys(["CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "DISABLE_AUTOUPDATER"], "1")
    return {**quiet, "ANTHROPIC_BASE_URL": run.url, "ANTHROPIC_API_KEY": "x"}


def _codex(run: Run) -> list[str]:
    (run.home / ".codex").mkdir(exist_ok=True)
    (run.home / ".codex" / "config.toml").write_text(_CODEX_CONFIG.format(url=run.url))
    return ["exec", "--skip-git-repo-check", "say hello"]


def _codex_custom(run: Run) -> dict[str, str]:
    return {"LOCAL_KEY": "x", "SSL_CERT_FILE": "", "CODEX_CA_CERTIFICATE": str(run.ca)}


def _codex_system(run: Run) -> dict[str, str]:
    """As if the authority were one of the system's."""
    folder = run.home / "certificates"
    folder.mkdir(exist_ok=True)
    shutil.copy(run.ca, folder)
    subprocess.run(["openssl", "rehash", folder], check=True)
    return {"LOCAL_KEY": "x", "SSL_CERT_FILE": "", "SSL_CERT_DIR": str(folder)}


def _uv(run: Run) -> list[str]:
    options = ["--quiet", "--no-cache", "--no-config", "--target", str(run.home / "target")]
    return [
        "pip",
        "install",
        "--python",
        sys.executable,
        *options,
        "--default-index",
        f"{run.url}/simple/",
        "truth",
    ]


def _agent(folder: str, package: str, program: str) -> Callable[[], Path]:
    return lambda: install.npm(folder, f"{package}@latest", program)


_CLAUDE_CODE = _agent("claude-code", "@anthropic-ai/claude-code", CLAUDE)
_CODEX_CLI = _agent("codex", "@openai/codex", CODEX)

AGENTS = [
    Client("claude-code", "boringssl", _CLAUDE_CODE, _claude, env=_claude_env),
    Client("codex-system-ca", "openssl", _CODEX_CLI, _codex, env=_codex_system),
    Client("codex-custom-ca", "aws-lc", _CODEX_CLI, _codex, env=_codex_custom),
    Client("uv", "aws-lc", lambda: install.venv() / "uv", _uv),
]

# --- Go, Java -------------------------------------------------------------------------------------


def _go(build: str, *options: str) -> Client:
    name = "-".join(["go", build, *(option.lstrip("-") for option in options)])
    return Client(
        name, "go", lambda: install.go_program(build), lambda run: [*options, run.url], version=("-version",)
    )


def _go_load(name: str, connections: int, requests: int, *, slow: bool = False) -> Client:
    options = ["-connections", str(connections), "-requests", str(requests)]
    return Client(
        name, "go", lambda: install.go_program("stripped"), lambda run: [*options, run.url],
        version=("-version",), says=b"right answers: %d\n" % requests, slow=slow,
    )  # fmt: skip


GO = [
    *(_go(build) for build in install.GO_BUILDS),
    _go("plain", "-http2"),
    _go_load("go-1000-goroutines", 1000, 1000),
    _go_load("go-load", 200, 10_000, slow=True),
]

JAVA = Client(
    "java", "java", _system("java", "default-jdk-headless"),
    lambda run: [str(PROGRAMS / "Client.java"), str(run.ca), run.url], unreachable="Java's own TLS",
)  # fmt: skip

# --- many connections at the same time ------------------------------------------------------------

_ALL_50 = b"right answers: 50"

FIFTY = [
    *(
        Client(
            f"{name}-50", "openssl", _python, _stack(name, "--connections", "50"), _version_of(package),
            image=linked("libssl.so"), says=_ALL_50,
        )
        for name, package in [("aiohttp", "aiohttp"), ("async-httpx", "httpx"), ("httpx", "httpx")]
    ),
    Client(
        "httpr-50", "ring", _python, _stack("httpr", "--connections", "50"), _version_of("httpr"),
        image=in_package("httpr/httpr*.so"), says=_ALL_50,
    ),
    Client(
        "primp-50", "aws-lc", _python, _stack("primp", "--connections", "50"), _version_of("primp"),
        image=in_package("primp/primp*.so"), says=_ALL_50,
    ),
    *(
        Client(f"node-22-{kind}-50", "openssl", _node(22), _exchange(kind, "50"), says=_ALL_50)
        for kind in ("fetch", "https")
    ),
    Client("bun-fetch-50", "boringssl", _bun, _exchange("fetch", "50"), says=_ALL_50),
    Client("deno-https-50", "aws-lc", _deno, _exchange("https", "50", before=_DENO), says=_ALL_50),
    _go_load("go-50", 50, 50),
]  # fmt: skip

CLIENTS: dict[str, Client] = {
    client.name: client for client in [*COMMANDS, *PYTHON, *JAVASCRIPT, *AGENTS, *GO, JAVA, *FIFTY]
}
