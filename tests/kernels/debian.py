"""Debian's packages: what the host lacks, where its mirrors are, and the kernels to test."""

from __future__ import annotations

import fnmatch
import os
import re
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
LISTS_MAX_AGE = 86400  # seconds until package lists are fetched again


class Problem(Exception):
    """Something needed could not be had or done; the text is for the user."""


def call(command: Sequence[str | Path], cwd: Path | None = None) -> str:
    """Runs a command and returns its output; if it fails, Problem has the end of what it said."""
    done = subprocess.run(
        command,
        check=False,
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
    )
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()[-8:]
        raise Problem("\n  ".join([f"{command[0]} exited with {done.returncode}:", *said]))
    return done.stdout


def provide_host_packages(needs: Mapping[str, str]) -> None:
    """Installs what is missing where that is possible, else says what it is.

    needs: the package of each program (by name) or file (by absolute path).
    """

    def missing() -> list[str]:
        # which() accepts absolute paths, but only of executables.
        return sorted({needs[n] for n in needs if not (shutil.which(n) or Path("/", n).is_file())})

    packages = missing()
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print("installing", *packages, flush=True)
        call(["apt-get", "update"])
        install = "apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends"
        call(["env", "DEBIAN_FRONTEND=noninteractive", *install.split(), *packages])
        packages = missing()
    if packages:
        raise Problem(f"please install {' '.join(packages)}")


def mirrors() -> dict[str, str]:
    """The Debian mirrors that this host's apt uses, by label: Debian, Debian-Security."""
    query = ["apt-get", "indextargets", "--format", "$(REPO_URI) $(LABEL)", "Origin: Debian"]
    listing = call(query)
    if not listing and os.geteuid() == 0:
        # Origin and label come from the package lists, which container images are shipped without.
        call(["apt-get", "update"])
        listing = call(query)
    found: dict[str, str] = {}
    for line in listing.splitlines():
        uri, _, label = line.partition(" ")
        found.setdefault(label, uri)
    if "Debian" not in found:
        raise Problem("this host's apt knows no Debian mirror (or needs 'apt-get update')")
    return found


def source_lines(suite: str, arch: str) -> list[str]:
    """The lines of a sources.list for a suite and its security updates."""
    sites = mirrors()
    options = f"[arch={arch} signed-by={KEYRING}]"
    lines = [f"deb {options} {sites['Debian']} {suite} main"]
    if "-" not in suite and "Debian-Security" in sites:  # a backports suite has none
        lines.append(f"deb {options} {sites['Debian-Security']} {suite}-security main")
    return lines


class PrivateApt:
    """apt for one suite and architecture, that leaves the host's sources and lists alone."""

    def __init__(self, folder: Path, suite: str, arch: str) -> None:
        self.sources = folder / "sources.list"
        self.suite, self.arch = suite, arch
        for part in ("lists/partial", "cache/archives/partial"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        settings = {
            "Dir::Etc::SourceList": self.sources,
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State": folder,
            "Dir::State::Lists": folder / "lists",
            "Dir::State::Status": "/dev/null",
            "Dir::Cache": folder / "cache",
            "Dir::Cache::PkgCache": "pkgcache.bin",  # container images switch it off
            "APT::Architecture": arch,
            "APT::Architectures": arch,
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            # The lists of a suite without updates have run out. They are signed all the same.
            "Acquire::Check-Valid-Until": "false",
            "Acquire::Languages": "none",
        }
        self.options = [f"-o{key}={value}" for key, value in settings.items()]

    def update(self) -> None:
        """Fetches the package lists if they are old; the sources file's time says when it was."""
        if self.sources.exists() and time.time() - self.sources.stat().st_mtime < LISTS_MAX_AGE:
            return
        self.sources.write_text("\n".join(source_lines(self.suite, self.arch)) + "\n")
        try:
            call(["apt-get", *self.options, "update"])
        except BaseException:
            self.sources.unlink()
            raise

    def names(self, prefix: str) -> list[str]:
        """Package names; some may be only mentioned by other packages."""
        return call(["apt-cache", *self.options, "pkgnames", prefix]).split()

    def download(self, package: str, into: Path) -> Path:
        call(["apt-get", *self.options, "download", package], cwd=into)
        return next(into.glob(f"{package}_*.deb"))


def newest_first(globs: str, releases: list[str]) -> list[str]:
    """The releases that the first alternative with a match matches."""

    def version(release: str) -> list[int]:
        return [int(number) for number in re.findall(r"\d+", release)]

    for glob in globs.split("|"):
        if matches := fnmatch.filter(releases, glob):
            return sorted(matches, key=version, reverse=True)
    return []


def unpack_kernel(package: Path, image: Path) -> None:
    """Takes the kernel out of a package; nothing else of it is needed."""
    command = ["dpkg-deb", "--fsys-tarfile", str(package)]
    partial = image.with_suffix(".partial")
    with (
        # It complains when the pipe is closed on it after the kernel.
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as unpacker,
        tarfile.open(fileobj=unpacker.stdout, mode="r|") as archive,
    ):
        for member in archive:
            content = archive.extractfile(member) if "/vmlinuz" in member.name else None
            if content is not None:
                with partial.open("wb") as file:
                    shutil.copyfileobj(content, file)
                partial.rename(image)
                return
    raise Problem(f"{package.name} has no kernel in it")


def get_kernel(suite: str, arch: str, globs: str, cache: Path) -> tuple[str, Path]:
    """Release and image of the newest matching kernel that can be had."""
    apt = PrivateApt(cache / "apt" / f"{suite}-{arch}", suite, arch)
    apt.update()
    releases = [name.removeprefix("linux-image-") for name in apt.names("linux-image-")]
    binaries = apt.names("linux-binary-")
    matching = newest_first(globs, releases)
    reasons = []
    # The second newest is tried too, since a mirror may lack a package that its lists have.
    for release in matching[:2]:
        image = cache / "images" / f"vmlinuz-{release}"
        if image.exists():
            return release, image
        image.parent.mkdir(exist_ok=True)
        # From 7.x on a package of its own has the kernel, and linux-image only depends on it.
        package = f"linux-binary-{release}"
        if package not in binaries:
            package = f"linux-image-{release}"
        try:
            with tempfile.TemporaryDirectory(dir=cache) as folder:
                unpack_kernel(apt.download(package, Path(folder)), image)
            return release, image
        except Problem as problem:
            reasons.append(str(problem))
    raise Problem("\n  ".join(reasons) or "the suite has no such kernel")
