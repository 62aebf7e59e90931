"""Which networks a run trains and tests, on the way and at its end, and which iterate they select.

Lists and decisions only: runners carry them out.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Final

from idm_ray.config import RunConfig
from idm_ray.methods.catalog import find_method
from idm_ray.plan import EvaluationJob, Subject, TestedOn, copy_at

# A condensed set itself, and what it is compared with under the same protocol.
SUBJECTS: Final[tuple[Subject, ...]] = ("condensed", "start", "random")

# Means of fractions that are equal may differ in their last digits; those of one image more cannot
# be as near as this.
_DIGITS: Final = 12

Jobs = tuple[EvaluationJob, ...]


def marks(config: RunConfig) -> dict[int, Jobs]:
    """Evaluations during the run: after which iteration, and which networks."""
    split: TestedOn = "eval_split" if config.evaluation.select == "last" else "validation"
    repeats = config.evaluation.repeats
    return {at: _jobs("condensed", repeats, at, split) for at in copy_at(config)}


def candidates(config: RunConfig) -> dict[int, Jobs]:
    """Iterates of which one is selected, and the networks by which; none if the last one is it."""
    if config.evaluation.select == "last":
        return {}
    last = config.condense.iterations
    return {
        **marks(config),
        last: _jobs("condensed", config.evaluation.repeats, last, "validation"),
    }


def final_jobs(config: RunConfig, selected: int | None = None) -> Jobs:
    """Networks to train at the end; the longest first, so that they do not finish last.

    Args:
        config: of the run.
        selected: the iterate that is tested beside the last one; None: no other.
    """
    repeats, last = config.evaluation.repeats, config.condense.iterations
    jobs = _jobs("whole", 1 if repeats and config.evaluation.whole_epochs else 0, last)
    subjects = SUBJECTS[:1]
    if config.evaluation.baselines == "on":
        compared = find_method(config.condense.method).compared_with
        subjects = (*subjects, *(subject for subject in SUBJECTS if subject in compared))
    if selected is not None and selected != last:
        jobs += selected_jobs(config, selected)
    return sum((_jobs(subject, repeats, last) for subject in subjects), jobs)


def selected_jobs(config: RunConfig, selected: int) -> Jobs:
    """Networks that say how good an iterate is that was selected."""
    return _jobs("condensed", config.evaluation.repeats, selected)


def all_jobs(config: RunConfig) -> Jobs:
    """Networks to train on the way and at the end; as many as if a copy were selected."""
    iterates = candidates(config)
    on_the_way = iterates or marks(config)
    return sum(on_the_way.values(), ()) + final_jobs(config, min(iterates, default=None))


def possible_jobs(config: RunConfig) -> frozenset[EvaluationJob]:
    """The same for any iterate that may be selected."""
    selected = (selected_jobs(config, iteration) for iteration in candidates(config))
    return frozenset(itertools.chain(all_jobs(config), *selected))


def best_iterate(
    iterates: Mapping[int, Sequence[EvaluationJob]], evaluated: Mapping[EvaluationJob, float]
) -> int | None:
    """The iterate with the best mean accuracy on validation images; the earlier of equal ones.

    The more is evaluated, the better or earlier it is: an iterate that was not the best among some
    is never that among more.

    Args:
        iterates: the networks that say how good each is. Those that do not select have no say.
        evaluated: accuracies so far, fractions.

    Returns:
        The best of those whose networks are all tested; None if there are none.
    """
    found = {
        iteration: round(math.fsum(evaluated[job] for job in jobs) / len(jobs), _DIGITS)
        for iteration, jobs in iterates.items()
        if jobs and all(job.selects and job in evaluated for job in jobs)
    }
    return max(found, key=lambda iteration: (found[iteration], -iteration), default=None)


def _jobs(subject: Subject, repeats: int, iteration: int, split: TestedOn = "eval_split") -> Jobs:
    return tuple(
        EvaluationJob(subject=subject, repeat=repeat, iteration=iteration, split=split)
        for repeat in range(repeats)
    )
