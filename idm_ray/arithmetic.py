"""Which arithmetic all processes of a run share: precision, compiling, convolutions."""

from collections.abc import Sequence

from idm_ray.algorithm.numerics import Numerics
from idm_ray.config import MachineConfig
from idm_ray.errors import UserError
from idm_ray.machine import Capabilities

# Below so many pixels through networks in a whole run, compiling takes longer than it saves. CPU:
# 4 seconds of a C++ compiler, measured; GPU: half a minute of torch's, estimated.
MIN_PIXELS_TO_COMPILE = {"cpu": 2e6, "cuda": 4e9}

_FEWER_FIRST = ("none", "first", "all")


def compiling_pays(machine: MachineConfig, pixels: float, device: str = "cpu") -> bool:
    """Whether networks are to be compiled, if they can be.

    Args:
        machine: what was asked for.
        pixels: through networks; see `condensing_work`.
        device: cpu or cuda.
    """
    if machine.compile == "auto":
        return pixels >= MIN_PIXELS_TO_COMPILE[device]
    return machine.compile == "on"


def choose_numerics(
    machine: MachineConfig, found: Sequence[Capabilities], *, threads: int, pixels: float
) -> Numerics:
    """The arithmetic that all processes of a run can share.

    Args:
        machine: what was asked for, settled.
        found: of every process that will compute.
        threads: of each.
        pixels: through networks; see `condensing_work`.

    Raises:
        UserError: the processes would compute on different devices.
    """
    devices = sorted({c.device for c in found})
    if len(devices) > 1:
        raise UserError(
            "some actors have a GPU and some have none, so their numbers would differ; use "
            "--device cpu, or --gpus-per-actor so that each gets one"
        )
    precision = machine.precision
    if precision == "auto":
        precision = "bfloat16" if all(c.bfloat16 for c in found) else "float32"
    device = found[0].device
    obstacles = [c.obstacle for c in found if c.obstacle]
    if machine.compile == "on" and obstacles:
        raise UserError(f"compile on needs a compiler, but {obstacles[0]}; use --compile off")
    return Numerics(
        device=device,
        precision=precision,
        compile=compiling_pays(machine, pixels, device) and not obstacles,
        own_convolutions=min((c.own_convolutions for c in found), key=_FEWER_FIRST.index),
        images_per_pass=int(machine.images_per_pass),
        threads=threads,
    )


def check_numerics(numerics: Numerics, found: Sequence[Capabilities]) -> None:
    """Refuse an arithmetic that processes cannot do: that of a run that began elsewhere.

    Raises:
        UserError: names what is missing.
    """
    for process in found:
        if process.device != numerics.device:
            raise UserError(
                f"the run began on {numerics.device}, and would go on on {process.device}, whose "
                f"numbers differ; resume where {numerics.device} can be used"
            )
        if numerics.compile and process.obstacle:
            raise UserError(
                f"the run began with compiled networks, whose numbers differ in the last bits; "
                f"expected a compiler here, too, but {process.obstacle}"
            )
        if _FEWER_FIRST.index(process.own_convolutions) < _FEWER_FIRST.index(
            numerics.own_convolutions
        ):
            raise UserError(
                "the run began with convolutions of idm_ray's own, which this processor "
                f"({process.name}) cannot do; resume on one like that it began on"
            )


def compiling_notes(
    machine: MachineConfig, found: Sequence[Capabilities], *, pixels: float
) -> tuple[str, ...]:
    """A line for a run that would gain by compiling and cannot."""
    obstacles = [c.obstacle for c in found if c.obstacle]
    if not obstacles or not compiling_pays(machine, pixels, found[0].device):
        return ()
    return (f"networks are not compiled, which is several times slower: {obstacles[0]}",)
