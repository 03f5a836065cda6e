"""Runtimes that bring their own TLS and translate it while they run: there is nothing in a file to probe."""

from __future__ import annotations

from .base import NotReachable
from .elf import Image

__all__ = ["locate"]

_PROXY = "send its traffic through a proxy that ends TLS"
_JAVA = NotReachable(
    "java",
    "Java's own TLS (JSSE) is translated to machine code at run time",
    f"{_PROXY}, or run it with -Djavax.net.debug=all, which prints what is sent and received",
)
_ERLANG = NotReachable("erlang", "Erlang's own TLS is translated to machine code at run time", _PROXY)


def locate(image: Image) -> NotReachable | None:
    """Java's virtual machine or the program that starts it, and Erlang's: why they cannot be probed.

    Raises:
        LibraryError: an image that cannot be believed.
    """
    if image.soname == "libjvm.so" or (image.is_executable and "libjli.so" in image.needed):
        return _JAVA
    names = image.symbols(("JNI_CreateJavaVM", "enif_make_atom", "erl_drv_mutex_create"))
    if "JNI_CreateJavaVM" in names:
        return _JAVA
    # modules in C bring neither of these: they get them from the virtual machine
    return _ERLANG if image.is_executable and len(names) == 2 else None
