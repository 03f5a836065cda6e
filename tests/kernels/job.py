"""Prepares the guests' job from the wheel in dist/, and runs it on the kernels of matrix.txt.

Arguments are passed on to run.py, for instance: --kernel 5.10
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
# What the guests' root image can use: Debian 12 with CPython 3.11.
GUEST_PYTHON = "3.11"
GUEST_GLIBC = 36


def install(wheel: Path, folder: Path) -> None:
    """Installs the wheel and what it needs for the guests' Python, whichever one runs this."""
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    command += ["--target", str(folder), "--python-version", GUEST_PYTHON, "--only-binary", ":all:"]
    for policy in ("manylinux2014", *(f"manylinux_2_{minor}" for minor in range(17, GUEST_GLIBC + 1))):
        command += ["--platform", f"{policy}_x86_64"]
    subprocess.run([*command, str(wheel)], check=True)


def main() -> int:
    job = ROOT / "build" / "kernel-job"
    shutil.rmtree(job, ignore_errors=True)
    job.mkdir(parents=True)
    (wheel,) = (ROOT / "dist").glob("*_x86_64.whl")
    install(wheel, job / "site")
    shutil.copytree(ROOT / "tests" / "workloads", job / "tests" / "workloads")
    int80 = ROOT / "tests" / "workloads" / "int80.c"
    subprocess.run(["gcc", "-O2", "-static", "-o", str(job / "int80"), str(int80)], check=True)
    for module in HERE.glob("in_guest*.py"):
        shutil.copy(module, job)
    (job / "run.sh").write_text("PYTHONPATH=site exec python3 in_guest.py\n")
    command = [sys.executable, str(HERE / "run.py"), "--job", str(job), *sys.argv[1:]]
    return subprocess.run(command, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
