"""A small course on the digits, in this process, for the tests of continual learning."""

from idm_ray.continual.course import Course
from idm_ray.continual.learning import learn
from tests.making_runs import TINY

COURSE = Course(steps=2, orders=2, methods=("dm", "idm"))
OPTIONS = {**TINY, "iterations": 1, "ipc": 2, "eval_epochs": 2, "repeats": 2}


def learn_small(folder, course=COURSE, listener=lambda event: None, **options):
    """Learn into a folder with tiny settings."""
    return learn(course, out=folder, listener=listener, **{**OPTIONS, **options})


def memories(folder):
    """The files of all memories, with their content and when they were written."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.glob("memories/*/*/condensed.parquet"))
    }
