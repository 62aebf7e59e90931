"""A group of classes that are condensed together: the unit that is given to workers.

Groups are cut by the configuration, never by the number of workers, and share nothing but what is
matched: a run's images are the same wherever its groups are.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor

from idm_ray.algorithm.matcher import Matcher
from idm_ray.algorithm.model_server import Snapshot
from idm_ray.algorithm.sgd import per_class_step_, sgd_step_
from idm_ray.algorithm.spans import span
from idm_ray.algorithm.state import FloatArray, GroupState
from idm_ray.config import CondenseConfig
from idm_ray.errors import NonFiniteLossError
from idm_ray.pace import iterations_remembered

# Where groups meet, none is more than an iteration ahead of what all have finished; one more, for
# who asks late.
_WHOLE_KEPT: Final = 3


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupReport:
    """Losses of a group over some iterations.

    Attributes:
        classes: labels of the group's classes, I.
        first_iteration: of the T that are reported.
        matching: (T, I) float64, matching loss of each class, summed over rounds.
        regularization: (T, I) float64, weighted class-aware regularization.
    """

    classes: tuple[int, ...]
    first_iteration: int
    matching: np.ndarray[Any, np.dtype[np.float64]]
    regularization: np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Moment:
    """A `GroupState` on the device; tensors are never changed in place once they are in it.

    In the middle of an iteration, `rounds` of it are done, whose losses are `so_far` in all.
    """

    iteration: int
    images: Tensor
    velocity: Tensor
    rounds: int = 0
    so_far: Tensor | None = None
    copies: Mapping[int, Tensor] = field(default_factory=dict)
    losses: tuple[Tensor, ...] = ()


class ClassGroup:
    """Synthetic images of a fixed set of classes, and their optimiser.

    Its state can be taken from another thread while an iteration is under way: it is that of the
    last one that was finished.

    Args:
        config: of the condensation.
        classes: labels of the group's classes, I of them.
        num_classes: classes of the data set, C.
        matcher: of the same classes.
        start: (I, ipc, C, H, W) first synthetic images, normalised, on the network's device.
        rounds: steps of the images in an iteration.
        copy_at: after so many finished iterations, a copy of the images is kept until `forget`.
    """

    def __init__(
        self,
        config: CondenseConfig,
        classes: Sequence[int],
        *,
        num_classes: int,
        matcher: Matcher,
        start: Tensor,
        rounds: int = 1,
        copy_at: Collection[int] = (),
    ) -> None:
        self.classes = tuple(classes)
        self._moment = _Moment(iteration=0, images=start.clone(), velocity=torch.zeros_like(start))
        self._whole: tuple[_Moment, ...] = (self._moment,)
        """The last moments between two iterations, oldest first."""
        self._unreported: tuple[Tensor, ...] = ()
        self._copy_at = frozenset(copy_at)
        self._remembered = iterations_remembered(config.iterations)
        self._config = config
        self._num_classes = num_classes
        self._matcher = matcher
        self._rounds = rounds
        self._device = start.device

    @property
    def iteration(self) -> int:
        """The next iteration that is not finished, counting from 0."""
        return self._moment.iteration

    @property
    def images(self) -> Tensor:
        """(I, ipc, C, H, W): the synthetic images as they are, not to be changed."""
        return self._moment.images

    def run(self, first_iteration: int, sequence: Sequence[Sequence[Snapshot]]) -> GroupReport:
        """Some iterations of one round; those that are already finished are passed over.

        Args:
            first_iteration: number of the first one in `sequence`, at most the group's next one.
            sequence: the networks to match in each.

        Returns:
            Losses of the iterations that were run; the first time after `restore`, of those before
            them, too, as far as they are remembered.

        Raises:
            NonFiniteLossError: a loss became NaN or infinite.
        """
        assert first_iteration <= self.iteration, "no iteration is left out"
        first, sequence = self.iteration, sequence[self.iteration - first_iteration :]
        losses = [loss for snapshots in sequence for loss in self._step(snapshots)]
        return self._report(first, losses, sequence)

    def run_round(self, iteration: int, round_: int, snapshots: Sequence[Snapshot]) -> GroupReport:
        """One round of an iteration, unless that is already finished.

        Args:
            iteration: at most the group's next one.
            round_: the next one of the iteration, counting from 0.
            snapshots: the networks to match.

        Returns:
            As `run` does; an iteration is reported with its last round.

        Raises:
            NonFiniteLossError: a loss became NaN or infinite.
        """
        first = self.iteration
        assert iteration <= first, "no iteration is left out"
        if iteration < first:
            return self._report(first, [], [])
        assert round_ == self._moment.rounds, "no round is left out"
        return self._report(first, self._step(snapshots), [snapshots])

    def _report(
        self, first: int, losses: Sequence[Tensor], sequence: Sequence[Sequence[Snapshot]]
    ) -> GroupReport:
        earlier, self._unreported = self._unreported, ()
        # The device is waited for once, here.
        matching, regularization = self._together([*earlier, *losses]).double().cpu().numpy()
        report = GroupReport(
            classes=self.classes,
            first_iteration=first - len(earlier),
            matching=matching,
            regularization=regularization,
        )
        # Those before the sequence were looked at when they were run.
        self._refuse_non_finite(report, sequence, earlier=len(earlier))
        return report

    def _together(self, losses: Sequence[Tensor]) -> Tensor:
        """(2, T, I): losses of some iterations, each (2, I)."""
        return torch.stack([*losses], dim=1) if losses else torch.zeros(2, 0, len(self.classes))

    def state(self, at: int | None = None) -> GroupState | None:
        """What decides the future, as it was between two iterations.

        Args:
            at: the next iteration then; None: after the last finished one.

        Returns:
            None if that moment is still to come or forgotten, which the last one never is.
        """
        whole = self._whole
        found = whole[-1:] if at is None else [moment for moment in whole if moment.iteration == at]
        for moment in found:
            return GroupState(
                iteration=moment.iteration,
                images=moment.images.cpu().numpy(),
                velocity=moment.velocity.cpu().numpy(),
                copies={n: images.cpu().numpy() for n, images in moment.copies.items()},
                losses=self._together(moment.losses).cpu().numpy(),
            )
        return None

    def restore(self, state: GroupState) -> None:
        """Go back, or on, to a state of the same group."""
        self._unreported = self._on_device(state.losses).unbind(1)
        self._moment = _Moment(
            iteration=state.iteration,
            images=self._on_device(state.images),
            velocity=self._on_device(state.velocity),
            copies={n: self._on_device(images) for n, images in state.copies.items()},
            losses=self._unreported,
        )
        self._whole = (self._moment,)

    @property
    def copied(self) -> Collection[int]:
        """After how many iterations there are copies."""
        return self._moment.copies.keys()

    def copy(self, iteration: int) -> FloatArray:
        """(I, ipc, C, H, W): the images as they were after so many iterations."""
        return self._moment.copies[iteration].cpu().numpy()

    def forget(self, iteration: int) -> None:
        """Drop the copy that was made after so many iterations; not while `run` is under way."""

        def without(moment: _Moment) -> _Moment:
            kept = {n: images for n, images in moment.copies.items() if n != iteration}
            return replace(moment, copies=kept)

        self._moment, self._whole = without(self._moment), tuple(map(without, self._whole))

    def _on_device(self, array: FloatArray) -> Tensor:
        # A copy: the array may be a read-only view of shared memory.
        return torch.from_numpy(array.copy()).to(self._device)

    def _step(self, snapshots: Sequence[Snapshot]) -> list[Tensor]:
        """One round; the losses of its iteration, (2, I), if that was the last one (Alg. 1)."""
        moment = self._moment
        step = moment.iteration * self._rounds + moment.rounds
        gradient, losses = self._matcher.gradient(step, moment.images, snapshots)
        if moment.so_far is not None:
            losses = moment.so_far + losses
        images, velocity = self._stepped(gradient)
        if moment.rounds + 1 < self._rounds:
            self._moment = replace(
                moment, images=images, velocity=velocity, rounds=moment.rounds + 1, so_far=losses
            )
            return []
        self._finish(images, velocity, losses)
        return [losses]

    @span("optimiser")
    def _stepped(self, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """New images and velocities; the last ones stay what they were for whoever has them."""
        images, velocity = self._moment.images.clone(), self._moment.velocity.clone()
        step = {"lr": self._config.lr_img, "momentum": self._config.momentum_img}
        if self._config.image_step == "joint":
            sgd_step_(images, gradient, velocity, **step)
        else:
            per_class_step_(images, gradient, velocity, num_classes=self._num_classes, **step)
        return images, velocity

    def _finish(self, images: Tensor, velocity: Tensor, losses: Tensor) -> None:
        """Go on to the moment after the iteration that is under way."""
        done, copies = self._moment.iteration + 1, self._moment.copies
        if done in self._copy_at:
            copies = {**copies, done: images}
        remembered = (*self._moment.losses, losses)
        self._moment = _Moment(
            iteration=done,
            images=images,
            velocity=velocity,
            copies=copies,
            losses=remembered[max(0, len(remembered) - self._remembered) :],
        )
        kept = _WHOLE_KEPT if self._rounds > 1 else 1
        self._whole = (*self._whole, self._moment)[-kept:]

    def _refuse_non_finite(
        self, report: GroupReport, sequence: Sequence[Sequence[Snapshot]], *, earlier: int
    ) -> None:
        bad = ~np.isfinite(report.matching + report.regularization)[earlier:]
        if bad.any():
            t, i = np.argwhere(bad)[0].tolist()
            models = ", ".join(str(snapshot.model) for snapshot in sequence[t])
            lower = "lr_img or lambda_reg" if self._config.lambda_reg else "lr_img"
            raise NonFiniteLossError(
                f"the loss of class {report.classes[i]} is not finite at iteration "
                f"{report.first_iteration + earlier + t}, matched on model {models}; lower {lower}"
                ", or use precision float32"
            )
