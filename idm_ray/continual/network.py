"""A network of continual learning: trained on the memories so far, tested on the classes so far."""

import dataclasses
import time
from dataclasses import dataclass

from idm_ray.algorithm.evaluate import accuracy
from idm_ray.continual.course import NetworkJob
from idm_ray.continual.memories import Memories
from idm_ray.examining import train_network
from idm_ray.plan import EvaluationJob, Plan
from idm_ray.real_images import RealImages
from idm_ray.workers import prepare_process


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """How good a network is.

    Attributes:
        accuracy: on the images of all classes so far, a fraction.
        seconds: that training and testing it took.
    """

    accuracy: float
    seconds: float


def train_and_test(plan: Plan, job: NetworkJob, memories: Memories) -> Score:
    """Train a fresh network with an output for every class; test it on those that have come.

    Outputs of classes that have not come yet compete, too. Networks of one order and repeat start
    alike at every step and for every method, so that their differences are paired.

    Args:
        plan: of the whole data.
        job: which.
        memories: of its method and order.

    Source: Sec. 5.6: from scratch, on the memory alone.
    """
    began = time.perf_counter()
    prepare_process(plan.numerics)
    plan = dataclasses.replace(plan, config=plan.config.replace(seed=job.order))
    training = EvaluationJob(
        subject="condensed", repeat=job.repeat, iteration=plan.config.condense.iterations
    )
    forward = train_network(plan, training, memories.union(job.step, plan.numerics.device))
    with RealImages(plan) as real:
        found = accuracy(forward, real.test_batches(memories.seen(job.step)))
    return Score(accuracy=found, seconds=time.perf_counter() - began)
