"""The guests: their root image, and one run of a job in one of them."""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from debian import KEYRING, Problem, call, source_lines

INIT = Path(__file__).resolve().with_name("guest-init.sh")
ROOT_SUITE = "bookworm"
ROOT_PACKAGES = [
    "busybox-static",
    "ca-certificates",
    "curl",
    "iproute2",
    "libssl3",
    "mount",
    "openssl",
    "procps",
    "python3",
]
ROOT_SIZE_MIB = 1024  # the image is sparse
DISK_ID = 0x6A6F6221  # any number will do: it makes the PARTUUID of the root partition
MIB = 1 << 20
MEMORY_MIB = 1024

# Named one by one: what later versions of mke2fs add by themselves, 5.10 could not mount.
EXT4_FEATURES = "none,has_journal,ext_attr,dir_index,filetype,extent,sparse_super,large_file"
MKE2FS = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", EXT4_FEATURES, "-i", "4096"]

# The Debian package of each program and file that the host needs for any guest.
HOST_NEEDS = {
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    str(KEYRING): "debian-archive-keyring",
}


@dataclass(frozen=True)
class Arch:
    """What differs between architectures."""

    qemu: str
    qemu_package: str
    machine: list[str]  # QEMU's options for machine and CPU
    console: str  # the kernel's name of the serial port
    # mmdebstrap's options. For an architecture that the host cannot run: --variant=extract,
    # and a hook for what the packages' own scripts would have done.
    bootstrap: list[str]


ARCHES = {
    "amd64": Arch(
        qemu="qemu-system-x86_64",
        qemu_package="qemu-system-x86",
        machine=["-machine", "q35", "-cpu", "max"],
        console="ttyS0",
        bootstrap=["--variant=essential"],
    ),
}


def root_image(arch: str, cache: Path) -> Path:
    """The guests' root disk, built if there is none or its recipe has changed."""
    recipe = [ROOT_SUITE, *ROOT_PACKAGES, *ARCHES[arch].bootstrap, *MKE2FS, INIT.read_text()]
    digest = hashlib.sha256("\n".join(recipe).encode()).hexdigest()[:12]
    image = cache / f"root-{arch}-{digest}.ext4"
    if image.exists():
        return image
    if os.geteuid() != 0:
        raise Problem("only root can build the guests' root image")
    for old in cache.glob(f"root-{arch}-*"):
        old.unlink()
    print(f"building the root image for {arch}", flush=True)
    partial = image.with_suffix(".partial")
    write_partition_table(partial)
    with tempfile.TemporaryDirectory(dir=cache) as folder:
        call(
            [
                "mmdebstrap",
                "--mode=root",
                f"--architectures={arch}",
                *ARCHES[arch].bootstrap,
                f"--include={','.join(ROOT_PACKAGES)}",
                *(f"--dpkgopt=path-exclude=/usr/share/{d}/*" for d in ("doc", "locale", "man")),
                f'--customize-hook=install {shlex.quote(str(INIT))} "$1/init" && mkdir "$1/job"',
                ROOT_SUITE,
                f"{folder}/root",
                *source_lines(ROOT_SUITE, arch),
            ]
        )
        size = f"{ROOT_SIZE_MIB - 1}M"
        call([*MKE2FS, "-E", f"offset={MIB}", "-d", f"{folder}/root", partial, size])
    partial.rename(image)
    return image


def write_partition_table(disk: Path) -> None:
    """One partition from 1 MiB on: without an initramfs, a kernel finds its root by PARTUUID."""
    first, end = MIB // 512, ROOT_SIZE_MIB * MIB // 512
    entry = struct.pack("<4xB3xII", 0x83, first, end - first)
    with disk.open("wb") as file:
        file.truncate(ROOT_SIZE_MIB * MIB)
        file.write(struct.pack("<440xIxx16s48xH", DISK_ID, entry, 0xAA55))


def make_job_disk(job: Path, disk: Path) -> None:
    used = sum(max(path.lstat().st_size, 4096) for path in job.rglob("*"))
    size_mib = used * 5 // 4 // MIB + 64  # leaves room for the results
    call([*MKE2FS, "-L", "job", "-d", job, disk, f"{size_mib}M"])


@dataclass(frozen=True)
class Guest:
    """A kernel with what it is to run."""

    arch: str
    kernel: Path
    root: Path
    job: Path
    folder: Path  # for the results; emptied first

    @property
    def console(self) -> Path:
        """The log of what kernel and job say."""
        return self.folder / "console.log"

    def run(self, time_limit: float) -> str:
        """Runs the job once; returns what went wrong, "" if nothing did."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        disk = self.folder / "job.ext4"
        make_job_disk(self.job, disk)
        try:
            emulator = self.emulate(disk, time_limit)
            # After a panic or at the time limit, what is newest is only in the journal.
            subprocess.run(["e2fsck", "-p", disk], check=False, capture_output=True)
            call(["debugfs", "-R", "rdump /results .", disk.name], cwd=self.folder)
            status = call(["debugfs", "-R", "cat /exit-status", disk.name], cwd=self.folder).strip()
        finally:
            disk.unlink()
        if emulator.returncode in (124, 137):
            return f"over the time limit of {time_limit:g} s"
        if emulator.returncode != 0:
            return f"QEMU exited with {emulator.returncode}: {emulator.stderr.strip()}"
        if not status:
            return "the guest ended before the job did"
        return "" if status == "0" else f"run.sh exited with {status}"

    def emulate(self, disk: Path, time_limit: float) -> subprocess.CompletedProcess[str]:
        """Boots the kernel and waits for the guest's end."""
        arch = ARCHES[self.arch]
        parameters = [
            f"console={arch.console}",
            "loglevel=4",
            f"root=PARTUUID={DISK_ID:08x}-01",
            "rw",
            "rootwait",
            "init=/init",
            "panic=-1",  # restart at once, which is QEMU's end by -no-reboot
            "mitigations=off",  # they would cost time and protect nothing
            "random.trust_cpu=on",  # else 5.10 waits long for its first random numbers
        ]
        command: list[str | Path] = [
            # A process of its own, so that no guest outlives its time if this one is killed.
            *("timeout", "--foreground", "--kill-after=5", str(time_limit)),
            *(arch.qemu, *arch.machine, "-accel", "tcg", "-smp", "1", "-m", str(MEMORY_MIB)),
            *("-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"),
            *("-serial", f"file:{self.console}"),
            *("-kernel", self.kernel, "-append", " ".join(parameters)),
            # All guests share the root image: what one writes there is thrown away.
            *("-drive", f"file={self.root},format=raw,if=none,id=root,snapshot=on"),
            *("-device", "nvme,drive=root,serial=root"),
            *("-drive", f"file={disk},format=raw,if=none,id=job,cache=unsafe"),
            *("-device", "nvme,drive=job,serial=job"),
        ]
        return subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace"
        )
