"""Size of an installation: mlrec, and each package that it requires, in MB of files on disk.

Run in the environment to measure: `python benchmarks/installed_size.py`, with extras `--extra demo`. Sizes are those
that the packages state for their files (RECORD), without compiled `.pyc` files.
"""

from __future__ import annotations

import argparse
import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

TORCH = ("torch", "torchvision", "triton")
CUDA = re.compile(r"nvidia-|cuda-")


def required(name: str, extras: frozenset[str] = frozenset()) -> dict[str, Distribution]:
    """Installed packages that `name` requires, itself included, by name."""
    found: dict[str, Distribution] = {}
    pending, seen = [(name, extras)], set()
    while pending:
        name, extras = pending.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if (key, extras) in seen:
            continue
        seen.add((key, extras))
        try:
            found[key] = distribution(name)
        except PackageNotFoundError:
            continue
        for line in found[key].requires or ():
            requirement = Requirement(line)
            wanted = ({"extra": extra} for extra in ("", *extras))
            if requirement.marker is None or any(map(requirement.marker.evaluate, wanted)):
                pending.append((requirement.name, frozenset(requirement.extras)))
    return found


def size(package: Distribution) -> float:
    """Size in MB."""
    return sum(file.size or 0 for file in package.files or ()) / 1e6


def group_of(name: str) -> str:
    """Which total a package belongs to."""
    if CUDA.match(name):
        return "CUDA libraries"
    return "torch" if name in TORCH else "all other packages"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--extra", action="append", default=[], help="extra of mlrec to include; repeatable")
    packages = required("mlrec", frozenset(parser.parse_args().extra))
    totals: dict[str, float] = {}
    for name, package in sorted(packages.items(), key=lambda item: -size(item[1])):
        print(f"{size(package):9.1f} MB  {name} {package.version}")
        totals[group_of(name)] = totals.get(group_of(name), 0.0) + size(package)
    print()
    for group, total in totals.items():
        print(f"{total:9.1f} MB  {group}")


if __name__ == "__main__":
    main()
