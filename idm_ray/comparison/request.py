"""What a comparison is asked for: which sets, and which networks are trained on them."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from idm_ray.checks import refuse_unknown, wrong
from idm_ray.config import (
    METHODS,
    PROTOCOLS,
    CondenseConfig,
    DataConfig,
    EvalConfig,
    MachineConfig,
    QueueConfig,
    option_names,
)
from idm_ray.errors import UserError
from idm_ray.methods.catalog import find_method

WHOLE: Final = "whole"
"""Beside the methods: all real images, on which one network is trained."""

WHOLE_EPOCHS: Final = 30
"""Of that network by default."""

DECIDED: Final = (
    *("method", "ipc", "seed", "network", "val_fraction"),
    *(field.name for field in dataclasses.fields(EvalConfig)),
)
"""Options of a run that a comparison has its own for."""

SHARED: Final = tuple(name for name in option_names() if name not in DECIDED)
"""Options of a run that all sets of a comparison share."""

_ALL: Final = "all"
"""Stands for every method in an override."""
_COUNTS: Final = ("seeds", "repeats")
"""What an override may set beside options of runs."""
_OF_TRAINING: Final = ("lr_net", "batch_train")
_OVERRIDABLE: Final = (
    *(
        field.name
        for part in (CondenseConfig, QueueConfig)
        for field in dataclasses.fields(part)
        if field.name in SHARED and field.name not in _OF_TRAINING
    ),
    *_COUNTS,
)
"""What may be different for one method: images, arithmetic and the training of the networks that
the sets are evaluated by are the same for all."""


@dataclass(frozen=True, kw_only=True, slots=True)
class SetRequest:
    """A condensed set to make.

    Attributes:
        method: of `METHODS`.
        ipc: images per class.
        network: to condense with; auto: the recipe's.
        seed: of the run.
        repeats: networks to train on it; None: as the protocol has it.
        options: more of the run, as far as the method has them.
    """

    method: str
    ipc: int
    network: str
    seed: int
    repeats: int | None
    options: Mapping[str, Any]

    def run_options(self) -> dict[str, Any]:
        """Options of the run that makes it, which evaluates nothing."""
        own = {name: getattr(self, name) for name in ("method", "ipc", "seed")}
        network = {} if self.network == "auto" else {"network": self.network}
        return {**self.options, **own, **network, "repeats": 0, "baselines": "off"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Request:
    """A comparison, as it is asked for.

    Attributes:
        methods: rows of the table; `WHOLE` may be among them.
        ipcs: images per class.
        seeds: runs of each method, with consecutive seeds from 0.
        condense_networks: to condense with.
        networks: to train on every set; none: the one that it was condensed with.
        protocol: how they are trained.
        repeats: of them for each set; None: as the protocol has it.
        eval_epochs: of each; None: as the protocol has it.
        whole_epochs: of the network that is trained on all real images.
        options: of all runs, by flat names.
        overrides: other options for one method, by its name, or for one cell, by METHOD:IPC; `all`
            is every method, and `seeds` and `repeats` may be among the options.
    """

    methods: tuple[str, ...]
    ipcs: tuple[int, ...] = (1,)
    seeds: int = 1
    condense_networks: tuple[str, ...] = ("auto",)
    networks: tuple[str, ...] = ()
    protocol: str = "paper"
    repeats: int | None = None
    eval_epochs: int | None = None
    whole_epochs: int = WHOLE_EPOCHS
    options: Mapping[str, Any] = field(default_factory=dict)
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check names and numbers; options are checked where they are resolved.

        Raises:
            UserError: an unknown name, with the nearest, or a wrong number.
        """
        for name in (*self.methods, *self.condense_networks, *self.networks, self.protocol):
            if not isinstance(name, str):
                raise wrong("a name", name, "text")
        refuse_unknown(self.methods, (*METHODS, WHOLE), what="method")
        refuse_unknown([self.protocol], PROTOCOLS, what="protocol")
        for name in ("methods", "ipcs", "condense_networks"):
            if not getattr(self, name):
                raise wrong(name, "none", "one or more, with commas between them")
        for ipc in self.ipcs:
            _check_count("ipc", ipc)
        for name in ("seeds", "whole_epochs"):
            _check_count(name, getattr(self, name))
        for name in ("repeats", "eval_epochs"):
            if getattr(self, name) is not None:
                _check_count(name, getattr(self, name))
        refuse_unknown(self.options, SHARED)
        for key, options in self.overrides.items():
            self._check_override(key, options)

    def _check_override(self, key: str, options: Mapping[str, Any]) -> None:
        method, colon, ipc = key.partition(":")
        refuse_unknown([method], (*METHODS, _ALL), what="method")
        if method not in (*self.methods, _ALL):
            raise UserError(
                f"override {key} must be for a method of this comparison, "
                f"{', '.join(self.methods)}; leave it out, or add the method"
            )
        if colon and not (ipc.isdecimal() and int(ipc) in self.ipcs):
            found = ", ".join(map(str, self.ipcs))
            raise UserError(
                f"override {key} must be for images per class of this comparison, {found}; "
                f"write {method} for all of them"
            )
        refuse_unknown(options, _OVERRIDABLE)
        unused = [name for name in options if name in _unused(method)]
        if unused:
            raise UserError(
                f"override {key} sets {unused[0]}, which method {method} does not have; leave it "
                "out"
            )
        for name in _COUNTS:
            _check_count(f"{key}.{name}", options.get(name, 1))

    @property
    def has_whole(self) -> bool:
        """Whether a network is trained on all real images, too."""
        return WHOLE in self.methods

    def sets(self) -> Iterator[SetRequest]:
        """The sets to make: method by method, so that a table fills row by row."""
        for method in self.methods:
            if method == WHOLE:
                continue
            for ipc in self.ipcs:
                given = self._given(method, ipc)
                seeds = given.pop("seeds", self.seeds)
                repeats = given.pop("repeats", self.repeats)
                needs_network = find_method(method).needs_network
                for network in self.condense_networks if needs_network else ("auto",):
                    for seed in range(seeds):
                        yield SetRequest(
                            method=method,
                            ipc=ipc,
                            network=network,
                            seed=seed,
                            repeats=repeats,
                            options=given,
                        )

    def evaluation(self, repeats: int | None = None) -> dict[str, Any]:
        """Options of `idm_ray.evaluate` for a set.

        Args:
            repeats: networks to train on it; None: as the protocol has it.
        """
        told = {"repeats": repeats, "eval_epochs": self.eval_epochs}
        given = {name: value for name, value in told.items() if value is not None}
        where = {f.name for part in (DataConfig, MachineConfig) for f in dataclasses.fields(part)}
        shared = {n: v for n, v in self.options.items() if n in where and n != "data"}
        return {**shared, **PROTOCOLS[self.protocol], **given, "protocol": self.protocol}

    def _given(self, method: str, ipc: int) -> dict[str, Any]:
        """Options for a method's runs that it has, the more special ones over the others."""
        given = dict(self.options)
        for key in (_ALL, method, f"{_ALL}:{ipc}", f"{method}:{ipc}"):
            given |= self.overrides.get(key, {})
        return {name: value for name, value in given.items() if name not in _unused(method)}


def _check_count(name: str, value: Any) -> None:
    if type(value) is not int or value < 1:
        raise wrong(name, value, "a whole number of at least 1")


def _unused(method: str) -> tuple[str, ...]:
    return () if method == _ALL else find_method(method).unused


def parse_overrides(
    written: Sequence[str], convert: Callable[[str, str], Any]
) -> dict[str, dict[str, Any]]:
    """Read overrides such as idm:10.iterations=300.

    Args:
        written: METHOD.OPTION=VALUE or METHOD:IPC.OPTION=VALUE.
        convert: option and text -> value.

    Raises:
        UserError: something else is written.
    """
    found: dict[str, dict[str, Any]] = {}
    for text in written:
        key, dot, rest = text.partition(".")
        option, equals, value = rest.partition("=")
        if not (key and dot and option and equals):
            raise UserError(
                "override must be METHOD.OPTION=VALUE or METHOD:IPC.OPTION=VALUE, such as "
                f"idm:10.iterations=300, got {text!r}"
            )
        option = option.strip().replace("-", "_")
        refuse_unknown([option], _OVERRIDABLE)
        is_count = option in _COUNTS and value.strip().isdecimal()
        found.setdefault(key.strip(), {})[option] = (
            int(value) if is_count else _converted(key, option, value.strip(), convert)
        )
    return found


def _converted(key: str, option: str, text: str, convert: Callable[[str, str], Any]) -> Any:
    if option in _COUNTS:
        raise wrong(f"{key}.{option}", text, "a whole number of at least 1")
    return convert(option, text)
