"""A process beside the driver that writes and reads checkpoints: they never go through the driver.

It imports little, so that it is there quickly.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from idm_ray.algorithm.state import (
    GroupState,
    ModelVersion,
    Pretrained,
    QueueState,
    VersionKey,
)
from idm_ray.checkpoints.commit import Commit, StoredFile, StoredGroup
from idm_ray.checkpoints.folder import CheckpointFolder

# Files that are written or read at once.
AT_ONCE = 4


class _Keeper:
    """A `CheckpointFolder`, call by call; keeps nothing in memory."""

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder

    def write_groups(
        self, states: Mapping[int, GroupState], unchanged: Mapping[int, int]
    ) -> dict[int, StoredGroup]:
        """Write groups, but for those that are still at these iterations."""
        new = {n: state for n, state in states.items() if unchanged.get(n) != state.iteration}
        return self._folder.write_groups(new)

    def write_models(
        self, versions: Mapping[VersionKey, ModelVersion]
    ) -> dict[VersionKey, StoredFile]:
        return self._folder.write_models(versions)

    def write_pretrained(self, *networks: Pretrained) -> tuple[StoredFile, ...]:
        return self._folder.write_pretrained(networks)

    def publish(self, commit: Commit) -> str:
        return self._folder.publish(commit)

    # Reading gives two results: the driver looks at the second only, to learn whether it went well.

    def read_groups(
        self, commit: Commit, numbers: Sequence[int]
    ) -> tuple[dict[int, GroupState], None]:
        return {number: self._folder.read_group(commit.groups[number]) for number in numbers}, None

    def read_queue(
        self, commit: Commit
    ) -> tuple[tuple[QueueState, dict[VersionKey, ModelVersion]], None]:
        versions = {key: self._folder.read_model(file) for key, file in commit.versions.items()}
        return (commit.queue, versions), None

    def read_pretrained(self, file: StoredFile) -> tuple[Pretrained, None]:
        return self._folder.read_pretrained(file), None


# Whatever it was doing can be done again.
_remote: Any = ray.remote
_KeeperActor: Any = _remote(
    num_cpus=0, max_restarts=-1, max_task_retries=-1, max_concurrency=AT_ONCE
)(_Keeper)


def beside_the_driver(remote: Any) -> Any:
    """A remote class or function that runs on the driver's node, whose disks hold the run."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return remote.options(num_cpus=0, scheduling_strategy=here)


class Keeper:
    """The driver's side of the process, which is there as soon as it is called.

    Args:
        folder: of the checkpoints.
    """

    def __init__(self, folder: CheckpointFolder) -> None:
        self._folder = folder
        self.process = self._start()
        """Handle of the actor."""

    def start_over(self) -> None:
        """End it in the middle of whatever it writes, which must not appear later, and begin."""
        self.end()
        self.process = self._start()

    def end(self) -> None:
        """End it."""
        ray.kill(self.process)

    def _start(self) -> Any:
        return beside_the_driver(_KeeperActor).remote(self._folder)
