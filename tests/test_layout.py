from dataclasses import replace

import pytest

from idm_ray.algorithm.numerics import Numerics
from idm_ray.arithmetic import (
    MIN_PIXELS_TO_COMPILE,
    check_numerics,
    choose_numerics,
    compiling_notes,
)
from idm_ray.config import MachineConfig, RunConfig
from idm_ray.errors import UserError
from idm_ray.layout import (
    Share,
    check_memory,
    condensing_work,
    crew_of,
    crew_of_one,
    cut_groups,
    deal,
    evaluation_work,
    lay_out,
    settle,
)
from idm_ray.machine import Capabilities


def laid_out(num_groups=5, cpus=2, gpus=0, **machine):
    return lay_out(
        MachineConfig(**machine),
        num_groups=num_groups,
        cpus=cpus,
        gpus=gpus,
        cpus_of_a_node=cpus,
    )


def config(**options):
    return RunConfig.from_flat(options)


# --- Groups ---


def test_groups_are_consecutive_classes_and_the_last_may_be_smaller():
    assert cut_groups(10, 4) == ((0, 1, 2, 3), (4, 5, 6, 7), (8, 9))
    assert cut_groups(4, 4) == ((0, 1, 2, 3),)
    assert cut_groups(3, 1) == ((0,), (1,), (2,))


@pytest.mark.parametrize("num_classes", [1, 2, 10, 37, 100])
@pytest.mark.parametrize("size", [1, 3, 10])
def test_every_class_is_in_one_group(num_classes, size):
    groups = cut_groups(num_classes, size)
    assert [c for group in groups for c in group] == list(range(num_classes))
    assert {len(group) for group in groups[:-1]} <= {size}


@pytest.mark.parametrize(
    ("options", "image_shape", "num_classes", "size"),
    [
        ({}, (1, 8, 8), 10, 2),
        ({}, (3, 32, 32), 3, 1),
        ({}, (3, 32, 32), 100, 20),
        ({"ipc": 10}, (3, 32, 32), 100, 12),  # 40 tiles of a class, 512 at once
        ({"ipc": 50}, (3, 32, 32), 100, 2),
        ({"ipc": 50, "partition": 1}, (3, 32, 32), 100, 10),
        ({"ipc": 50}, (3, 224, 224), 100, 1),
    ],
)
def test_groups_are_a_fifth_of_the_classes_or_what_fits_memory(
    options, image_shape, num_classes, size
):
    settled = settle(config(**options), image_shape, num_classes)
    assert settled.condense.classes_per_group == size


def test_small_passes_make_small_groups():
    settled = settle(config(ipc=10, images_per_pass=80), (3, 32, 32), 100)
    assert settled.condense.classes_per_group == 2
    assert settled.machine.images_per_pass == 80


@pytest.mark.parametrize(("side", "images"), [(32, 512), (64, 128), (224, 10), (4096, 1)])
def test_as_many_images_at_once_as_memory_likes(side, images):
    settled = settle(config(network="convnet-3"), (3, side, side), 10)
    assert settled.machine.images_per_pass == images


# --- Settling ---


def test_settling_fills_in_the_network_and_the_groups_and_nothing_else():
    settled = settle(config(ipc=1, seed=4), (1, 8, 8), 10)
    expected = {"network": "convnet-2", "classes_per_group": 2, "images_per_pass": 8192}
    assert settled == config(ipc=1, seed=4, **expected)
    assert settle(settled, (1, 8, 8), 10) == settled


def test_settling_keeps_what_was_asked_for_and_cuts_groups_to_the_classes():
    settled = settle(config(network="convnet-1", classes_per_group=64), (3, 32, 32), 10)
    assert settled.condense.network == "convnet-1"
    assert settled.condense.classes_per_group == 10


def test_groups_do_not_depend_on_the_machine():
    machine = {"actors": 7, "threads": 3, "device": "cpu"}
    settled = settle(config(**machine), (3, 32, 32), 10)
    assert settled == settle(config(), (3, 32, 32), 10).replace(**machine)


def test_a_network_that_is_too_deep_is_a_user_s_error():
    with pytest.raises(UserError, match=r"convnet-4 would reduce 8x8 .* use convnet-3 at most"):
        settle(config(network="convnet-4"), (1, 8, 8), 10)


def test_a_partition_that_is_too_fine_is_a_user_s_error():
    with pytest.raises(UserError, match="got 5 for images of 8 pixels; use partition <= 4"):
        settle(config(partition=5), (1, 32, 8), 10)


# --- Actors ---


def test_on_one_cpu_everything_shares_it():
    layout = laid_out(cpus=1)
    assert (layout.actors, layout.cpus_per_actor, layout.threads) == (1, 1.0, 1)
    assert layout.gpus_per_actor == 0
    assert layout.assignment == ((0, 1, 2, 3, 4),)


def test_one_cpu_is_left_to_the_queue():
    assert [laid_out(cpus=n).actors for n in (2, 3, 4, 6)] == [1, 2, 3, 5]


def test_there_are_no_more_actors_than_groups_and_nothing_is_said_where_none_were_asked_for():
    layout = laid_out(num_groups=3, cpus=64)
    assert (layout.actors, layout.cpus_per_actor, layout.threads) == (3, 1.0, 16)
    assert layout.notes == ()


def test_actors_that_were_asked_for_are_cut_to_the_groups_and_it_is_said():
    layout = laid_out(num_groups=3, cpus=64, actors=8)
    assert layout.actors == 3
    (note,) = layout.notes
    assert note.startswith("8 actors asked for, but there are 3 groups of classes: using 3")
    assert "--classes-per-group" in note
    assert laid_out(num_groups=3, actors=3).notes == ()


def test_any_number_of_actors_fits_the_cpus():
    for cpus in (1, 2, 3, 7, 16):
        for actors in range(1, 20):
            layout = laid_out(num_groups=20, cpus=cpus, actors=actors)
            assert layout.actors == actors
            assert 0 < layout.cpus_per_actor <= 1
            assert layout.actors * layout.cpus_per_actor <= cpus
            assert layout.threads >= 1
            # Ray counts resources in ten-thousandths.
            assert layout.cpus_per_actor == round(layout.cpus_per_actor, 4)


def test_cores_are_shared_among_the_actors_and_the_queue():
    assert laid_out(cpus=16, actors=3).threads == 4
    assert laid_out(cpus=2, actors=4).threads == 1


def test_what_is_asked_for_is_taken():
    layout = laid_out(cpus=8, gpus=2, actors=2, threads=5, cpus_per_actor=3.0, gpus_per_actor=0.2)
    assert (layout.threads, layout.cpus_per_actor, layout.gpus_per_actor) == (5, 3.0, 0.2)


def test_one_gpu_is_shared_by_an_actor_and_the_queue():
    layout = laid_out(cpus=16, gpus=1)
    assert (layout.actors, layout.gpus_per_actor) == (1, 0.5)


def test_with_several_gpus_each_process_has_one():
    layout = laid_out(cpus=16, gpus=4)
    assert (layout.actors, layout.gpus_per_actor) == (3, 1.0)


def test_gpus_that_do_not_suffice_are_shared():
    layout = laid_out(cpus=16, gpus=1, actors=4)
    assert (layout.actors, layout.gpus_per_actor) == (4, 0.2)


def test_gpus_that_are_not_wanted_are_not_used():
    layout = laid_out(cpus=4, gpus=2, gpus_per_actor=0)
    assert (layout.actors, layout.gpus_per_actor) == (3, 0)


@pytest.mark.parametrize("num_groups", [1, 5, 7, 20])
@pytest.mark.parametrize("actors", [1, 2, 3, 5])
def test_every_group_is_given_to_one_actor_in_nearly_equal_shares(num_groups, actors):
    assignment = laid_out(num_groups=num_groups, actors=actors).assignment
    assert sorted(g for groups in assignment for g in groups) == list(range(num_groups))
    sizes = [len(groups) for groups in assignment]
    assert max(sizes) - min(sizes) <= 1
    assert min(sizes) >= 1


# --- Crews ---


def test_the_actors_of_a_crew_have_the_classes_of_their_groups():
    crew = crew_of(laid_out(num_groups=4, cpus=3), cut_groups(10, 3), cpus=3, gpus=0)
    # Groups 0 and 2, groups 1 and 3, the last of which is a single class.
    assert crew.shares == (Share(classes=6), Share(classes=4), Share(queue=True))
    assert (crew.at_once, crew.evaluations, crew.gpus, crew.driver) == (3, 3, 0, 1)


def test_threads_take_processors_from_each_other():
    layout = laid_out(num_groups=4, cpus=8, actors=3, threads=4)
    crew = crew_of(layout, cut_groups(4, 1), cpus=6, gpus=0)
    assert (crew.at_once, crew.evaluations) == (1.5, 1)
    assert crew_of(layout, cut_groups(4, 1), cpus=1, gpus=0).at_once == 1


def test_processes_that_share_a_gpu_take_turns():
    crew = crew_of(laid_out(cpus=16, gpus=1, actors=4), cut_groups(5, 1), cpus=16, gpus=1)
    assert (crew.at_once, crew.gpus) == (1, 1)
    crew = crew_of(laid_out(cpus=16, gpus=4), cut_groups(5, 1), cpus=16, gpus=4)
    assert (len(crew.shares), crew.at_once, crew.gpus) == (4, 4, 4)


def test_one_process_is_a_crew_too():
    crew = crew_of_one(10, gpus=1)
    assert crew.shares == (Share(classes=10, queue=True),)
    assert (crew.at_once, crew.evaluations, crew.gpus, crew.driver) == (1, 1, 1, 0)


# --- Arithmetic ---


def process(device="cpu", *, bfloat16=True, obstacle="", own="none"):
    return Capabilities(
        device=device, name="x", bfloat16=bfloat16, obstacle=obstacle, own_convolutions=own
    )


LONG, SHORT = MIN_PIXELS_TO_COMPILE["cpu"], MIN_PIXELS_TO_COMPILE["cpu"] - 1


def chosen(*found, pixels=LONG, **machine):
    machine = MachineConfig(images_per_pass=20, **machine)
    return choose_numerics(machine, found, threads=3, pixels=pixels)


def test_a_long_run_on_able_hardware_is_compiled_and_in_bfloat16():
    expected = Numerics(
        device="cpu", precision="bfloat16", compile=True, images_per_pass=20, threads=3
    )
    assert chosen(process(), process()) == expected
    assert chosen(process("cuda")).device == "cuda"


def test_all_processes_must_be_able_to_multiply_bfloat16():
    assert chosen(process(), process(bfloat16=False)).precision == "float32"
    assert chosen(process(bfloat16=False), precision="bfloat16").precision == "bfloat16"
    assert chosen(process(), precision="float32").precision == "float32"


def test_a_short_run_is_not_compiled_unless_asked_for():
    assert not chosen(process(), pixels=SHORT).compile
    assert chosen(process(), pixels=SHORT, compile="on").compile
    assert not chosen(process(), compile="off").compile


def test_without_a_compiler_everywhere_nothing_is_compiled_and_the_user_is_told_why():
    found = process(), process(obstacle="no C++ compiler was found")
    assert not chosen(*found).compile
    (note,) = compiling_notes(MachineConfig(), found, pixels=LONG)
    assert note.endswith(": no C++ compiler was found")
    assert compiling_notes(MachineConfig(compile="off"), found, pixels=LONG) == ()
    assert compiling_notes(MachineConfig(), found, pixels=SHORT) == ()
    assert compiling_notes(MachineConfig(), found[:1], pixels=LONG) == ()


def test_asking_for_what_cannot_be_compiled_is_refused():
    found = process(), process(obstacle="no C++ compiler was found")
    with pytest.raises(UserError, match=r"compile on needs .*no C\+\+ compiler .* --compile off"):
        chosen(*found, compile="on")


def test_a_short_run_on_a_gpu_is_one_that_is_long_on_a_cpu():
    assert not chosen(process("cuda"), pixels=LONG).compile
    assert chosen(process("cuda"), pixels=MIN_PIXELS_TO_COMPILE["cuda"]).compile


@pytest.mark.parametrize(
    ("of_each", "expected"),
    [(("all", "all"), "all"), (("all", "first"), "first"), (("none", "all", "first"), "none")],
)
def test_all_processes_use_the_convolutions_that_all_of_them_have(of_each, expected):
    assert chosen(*(process(own=own) for own in of_each)).own_convolutions == expected


def test_processes_on_different_devices_are_refused():
    with pytest.raises(UserError, match="--device cpu, or --gpus-per-actor"):
        chosen(process("cuda"), process("cpu"))


# --- Work ---

DM = {"method": "dm", "lambda_reg": 0.0, "queue_size": 0, "repeats": 0}


def test_matching_counts_the_real_images_of_each_class_up_to_the_batch():
    options = {**DM, "iterations": 7, "batch_real": 30}
    tiles = 3 * 3 * 2**2  # of three classes, forward and backward, two by two
    matched = 7 * (30 + 20 + 30 + tiles) * 8 * 6
    assert condensing_work(config(**options), (1, 8, 6), (100, 20, 30)) == matched
    twice = config(**options, num_matched_models=2)
    assert condensing_work(twice, (1, 8, 6), (100, 20, 30)) == 2 * matched


def test_training_in_the_queue_counts_three_times_for_its_backward_pass():
    options = {**DM, "iterations": 60, "lambda_reg": 0.5}
    queue = {"num_trained_models": 2, "train_steps": 10, "batch_train": 16, "train_interval": 4}
    with_queue = config(**options | queue | {"queue_size": 10})
    without = config(**DM | {"iterations": 60})
    difference = condensing_work(with_queue, (1, 8, 8), (5, 5)) - condensing_work(
        without, (1, 8, 8), (5, 5)
    )
    assert difference == 60 / 4 * 2 * 10 * 16 * 3 * 64


def test_pretraining_counts_like_training_in_the_queue():
    options = {**DM, "pretrained": 3, "batch_train": 16}
    none = condensing_work(config(**DM), (1, 8, 8), (5, 40))
    asked = condensing_work(config(**options, pretrain_steps=7), (1, 8, 8), (5, 40))
    epoch = condensing_work(config(**options), (1, 8, 8), (5, 40))
    assert asked - none == 3 * 7 * 16 * 3 * 64
    assert epoch - none == 3 * 3 * 16 * 3 * 64


def test_a_model_cannot_be_bound_to_more_classes_than_there_are():
    assert settle(config(pretrained_classes=7), (1, 8, 8), 7).queue.pretrained_classes == 7
    with pytest.raises(UserError) as raised:
        settle(config(pretrained_classes=8), (1, 8, 8), 7)
    expected = "pretrained_classes must be at most 7, the classes of the data, got 8"
    assert str(raised.value) == expected


def test_evaluation_does_not_decide_about_the_arithmetic_of_the_images():
    none, many = (
        condensing_work(config(**DM | {"repeats": n}), (1, 8, 8), (5, 5)) for n in (0, 100)
    )
    assert none == many


def test_the_work_of_evaluation_is_that_of_training_its_networks():
    options = DM | {"ipc": 3, "partition": 2, "repeats": 4, "eval_epochs": 50}
    found = evaluation_work(config(**options), (1, 8, 6), 7)
    assert found == 4 * 50 * (7 * 3 * 2**2) * 3 * 8 * 6


# --- What once went wrong ---


@pytest.mark.parametrize(("actors", "gpus"), [(2, 2), (3, 2), (4, 2), (5, 3), (1, 1), (7, 8)])
def test_shares_of_gpus_fit_on_single_gpus(actors, gpus):
    layout = laid_out(num_groups=9, cpus=16, gpus=gpus, actors=actors)
    assert int(1 / layout.gpus_per_actor) * gpus >= actors + 1


@pytest.mark.parametrize("num_classes", range(1, 40))
def test_there_are_at_least_five_groups_where_there_are_five_classes(num_classes):
    size = settle(config(), (1, 8, 8), num_classes).condense.classes_per_group
    assert len(cut_groups(num_classes, size)) >= min(5, num_classes)


def test_threads_are_shared_out_within_the_smallest_node():
    machine = MachineConfig()
    layout = lay_out(machine, num_groups=5, cpus=256, gpus=0, cpus_of_a_node=32)
    assert (layout.actors, layout.threads) == (5, 5)


def test_groups_are_dealt_again_to_fewer_actors_and_all_else_stays():
    before = lay_out(MachineConfig(), num_groups=5, cpus=4, gpus=0, cpus_of_a_node=4)
    after = deal(before, 2, 5)
    assert before.actors == 3
    assert (after.actors, after.assignment) == (2, ((0, 2, 4), (1, 3)))
    assert after.threads == before.threads
    assert after.cpus_per_actor == before.cpus_per_actor
    assert deal(before, 9, 5).actors == 5


CPU = Capabilities(device="cpu", name="a processor", bfloat16=True, obstacle="")


@pytest.mark.parametrize(
    ("numerics", "found", "told"),
    [
        ({"device": "cuda"}, {}, "the run began on cuda, and would go on on cpu"),
        ({"compile": True}, {"obstacle": "there is no compiler"}, "but there is no compiler"),
        (
            {"compile": True, "own_convolutions": "all"},
            {"own_convolutions": "first"},
            "convolutions of idm_ray's own, which this processor",
        ),
    ],
    ids=str,
)
def test_an_arithmetic_that_is_not_to_be_had_here_is_refused(numerics, found, told):
    with pytest.raises(UserError, match=told):
        check_numerics(Numerics(**numerics), [CPU, replace(CPU, **found)])


def test_an_arithmetic_that_is_to_be_had_here_is_not():
    able = replace(CPU, own_convolutions="all")
    check_numerics(Numerics(), [CPU])
    check_numerics(Numerics(compile=True, own_convolutions="first"), [able])
    check_numerics(Numerics(), [replace(CPU, obstacle="there is no compiler")])


def test_more_images_than_fit_into_memory_are_refused():
    config = RunConfig.from_flat({"ipc": 1000, "local": True})
    check_memory(config, (3, 32, 32), 10, memory_bytes=2**30)
    with pytest.raises(UserError, match=r"^ipc 1000 takes 10 GB here for 100 classes of 3x32x32"):
        check_memory(config, (3, 32, 32), 100, memory_bytes=2**30)
    # On a cluster this machine only collects them.
    check_memory(config.replace(local=False), (3, 32, 32), 85, memory_bytes=2**30)
    with pytest.raises(UserError, match="use fewer images per class, or smaller ones"):
        check_memory(config.replace(local=False), (3, 32, 32), 100, memory_bytes=2**30)
