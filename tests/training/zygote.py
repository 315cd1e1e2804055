"""A process that has imported everything, and forks one that trains for each line it reads.

Lines are JSON {"folder", "images", "changes"}; it answers with the child's process id, and when that ends with its exit code.
The forked process starts in milliseconds; torch has started no threads before it.
"""

import json
import os
import sys
import traceback
from pathlib import Path

import sklearn.datasets  # noqa: F401  # Imported once, before any fork.
import torch
from small import opened

import carrara.evaluation.pictures  # noqa: F401


def work(folder: str, images: int, changes: list[str]) -> None:
    run = opened(Path(folder), images, changes)
    with Path(folder + ".starts").open("a") as file:
        file.write(f"{run.learner.images}\n")
    for _ in run.train():
        pass


def main() -> None:
    torch.set_num_threads(1)
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            try:
                work(**json.loads(line))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
