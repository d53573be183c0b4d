"""Print what a start costs in processor time: `python benchmarks/startup.py`. The import of torch stands beside it."""

import resource
import subprocess
import sys

ROUNDS = 5
STARTS = {
    "python -c pass": ["-c", "pass"],
    "import nbedge": ["-c", "import nbedge"],
    "nbedge --help": ["-m", "nbedge", "--help"],
    "import torch": ["-c", "import torch"],
}


def cpu_ms(arguments: list[str]) -> float:
    """Return user and system time of one `python ARGUMENTS`, in ms."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], stdout=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) * 1000


def main() -> None:
    """Measure every start in turn, a few times, and print the smallest."""
    times = [{name: cpu_ms(arguments) for name, arguments in STARTS.items()} for _ in range(ROUNDS)]
    for name in STARTS:
        print(f"{name:16}{min(found[name] for found in times):8.0f} ms CPU")


if __name__ == "__main__":
    main()
