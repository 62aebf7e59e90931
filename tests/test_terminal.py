import dataclasses
import io
from pathlib import Path

import pytest
from rich.console import Console

from idm_ray.bench.compare import Comparison, Result
from idm_ray.estimation.costs import Prediction
from idm_ray.estimation.estimate import Estimate, Outlook
from idm_ray.estimation.timing import Timing
from idm_ray.evaluation import Evaluation
from idm_ray.execution import Finished, Standing, Started
from idm_ray.plan import EvaluationJob
from idm_ray.progress import Announcement, Committed, Evaluated, Progress
from idm_ray.tables.costs import bench_table, estimate_table, orchestration_table
from idm_ray.tables.sets import evaluation_table
from idm_ray.terminal import Terminal, cost, result_table, standing_table
from tests.searches.making import trial


def result(mean, std=0.0, repeats=1, epochs=1000):
    return {
        "mean": mean,
        "std": std,
        "repeats": repeats,
        "epochs": epochs,
        "protocol": "paper",
    }


SUMMARY = {
    "method": "idm",
    "source": "digits",
    "num_classes": 10,
    "ipc": 2,
    "ratio": 20 / 1438,
    "iterations": 1000,
    "seconds": 250.0,
    "seconds_per_iteration": 0.25,
    "peak_rss_bytes": 1_540_000_000,
    "device": "cpu",
    "precision": "float32",
    "evaluation": result(0.9123, 0.0149, 5, 200),
    "start": result(0.5, 0.02, 3, 200),
    "random": None,
    "whole": result(0.987, epochs=40),
}


def shown(*events, **settings):
    """What a terminal prints for some events."""
    console = Console(file=io.StringIO(), width=100, highlight=False, soft_wrap=True, **settings)
    terminal = Terminal(console)
    for event in events:
        terminal(event)
    terminal.close()
    return console.file.getvalue()


def printed(table, width=100):
    console = Console(file=io.StringIO(), width=width, soft_wrap=True)
    console.print(table)
    return console.file.getvalue()


def rows(text):
    """The cells of each row of a printed table."""
    return [
        [cell.strip() for cell in line.strip("│").split("│")]
        for line in text.splitlines()
        if line.startswith("│")
    ]


def progress(iteration, **queue):
    losses = {"matching_loss": 12.3456, "regularization": 0.5}
    return Progress(iteration=iteration, losses=losses, queue=queue, waiting=0.0)


def evaluated(accuracy, subject="condensed", iteration=3):
    job = EvaluationJob(subject=subject, repeat=0, iteration=iteration)
    return Evaluated(job=job, accuracy=accuracy)


def test_announcements_are_printed_as_they_are():
    assert shown(Announcement("convnet-3 in float32")) == "convnet-3 in float32\n"


def test_a_warning_says_so_and_is_yellow_where_there_are_colours():
    warning = Announcement("method dm does not use --partition: ignored", warning=True)
    assert shown(warning) == "warning: method dm does not use --partition: ignored\n"
    coloured = shown(warning, force_terminal=True, color_system="standard")
    assert coloured.startswith("\x1b[33mwarning: ")


@pytest.mark.parametrize("text", ["classes [a], [/b] and [bold]", "[red]", "a\\[b]", "runs/[x]/y"])
def test_brackets_in_a_text_are_shown(text):
    assert shown(Announcement(text)) == f"{text}\n"
    assert shown(Announcement(text, warning=True)) == f"warning: {text}\n"


def test_a_long_line_is_not_cut_or_wrapped():
    assert shown(Announcement("word " * 60)).count("\n") == 1


def test_without_a_terminal_the_last_step_is_a_plain_line():
    text = shown(
        Started("condense", 3),
        *(progress(i, matched_accuracy=0.456, matched_age=10) for i in (1, 2, 3)),
    )
    (line,) = text.splitlines()
    assert line.startswith("condense 3/3  0.00 s each, 0 s left  ")
    assert line.endswith("matching loss 12.35, regularization 0.5, matched networks 46 %")
    assert "\x1b" not in text


def test_the_size_of_a_checkpoint_is_told_once():
    commits = [
        Committed(number=n, iteration=20 * n, bytes=12_700_000, written_bytes=1, seconds=0.1)
        for n in (1, 2)
    ]
    assert shown(*commits) == "checkpoint of iteration 20: 12.7 MB\n"


def test_each_part_of_a_run_counts_anew():
    text = shown(
        Started("condense", 1), progress(1), Started("evaluate", 2), *[evaluated(0.75)] * 2
    )
    assert [line.split("  ")[0] for line in text.splitlines()] == ["condense 1/1", "evaluate 2/2"]
    assert text.splitlines()[1].endswith("condensed 75.0 %")


def test_the_rate_of_a_run_that_goes_on_is_that_of_what_is_new(monkeypatch):
    seconds = iter([100.0, 104.0])
    monkeypatch.setattr("idm_ray.terminal.time.monotonic", lambda: next(seconds))
    monkeypatch.setattr("idm_ray.terminal.LINE_EVERY_S", 1.0)
    text = shown(Started("condense", 20, 10), progress(12))
    assert text.startswith("condense 12/20  2.00 s each, 16 s left  ")


def test_what_was_done_before_a_run_resumed_counts_as_done_but_not_as_time():
    text = shown(Started("condense", 1000, 998), progress(999), progress(1000))
    (line,) = text.splitlines()
    assert line.startswith("condense 1000/1000  0.00 s each, 0 s left  ")
    assert "evaluate 2/2" in shown(Started("evaluate", 2, 1), evaluated(0.5))
    bar = shown(Started("condense", 4, 3), force_terminal=True)
    assert "3/4" in bar


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_what_cannot_be_shown_ends_no_run():
    with open("/dev/full", "wb", buffering=0) as full, io.TextIOWrapper(full) as text:
        text.reconfigure(write_through=True)
        terminal = Terminal(Console(file=text))
        for event in (Announcement("a line"), Started("condense", 1), progress(1)):
            terminal(event)
        terminal.close()


def test_an_evaluation_in_between_is_a_line_of_its_own():
    text = shown(Started("condense", 9), evaluated(0.1234, iteration=3))
    assert text == "iteration 3: condensed 12.3 %\n"


def test_on_a_terminal_there_is_a_bar():
    text = shown(
        Started("condense", 4),
        progress(2),
        evaluated(0.5),
        progress(4),
        Started("evaluate", 1),
        evaluated(0.75),
        force_terminal=True,
    )
    assert "4/4" in text
    assert "matching loss 12.35" in text
    assert "iteration 3: condensed 50.0 %" in text
    assert "condensed 75.0 %" in text


def test_a_part_without_steps_shows_nothing():
    assert shown(Started("evaluate", 0), force_terminal=True) == ""


def test_the_end_shows_the_table_and_the_folder():
    text = shown(Finished(Path("runs/[a]"), SUMMARY))
    assert "91.2 ± 1.5" in text
    assert text.endswith("condensed set and gallery in runs/[a]\n")


def test_accuracies_stand_beside_their_number_and_their_epochs():
    text = printed(result_table(SUMMARY))
    assert rows(text) == [
        ["IDM", "91.2 ± 1.5", "paper", "5", "200"],
        ["its own start", "50.0 ± 2.0", "paper", "3", "200"],
        ["whole data", "98.7", "paper", "1", "40"],
    ]
    header = next(line for line in text.splitlines() if line.startswith("┃"))
    assert [cell.strip() for cell in header.strip("┃").split("┃")] == [
        "trained on",
        "test accuracy, %",
        "protocol",
        "networks",
        "epochs",
    ]


def test_the_table_says_whose_accuracy_it_is():
    of_validation = result(0.5) | {"split": "validation"}
    text = printed(result_table(SUMMARY | {"evaluation": of_validation}))
    assert "validation accuracy, %" in text
    assert "test accuracy" not in text
    networks = {"convnet-3": of_validation}
    found = Evaluation(file="a.parquet", data="digits", networks=networks)
    assert "validation accuracy, %" in printed(evaluation_table(found))


def test_the_table_says_what_was_kept_and_what_it_cost():
    lines = printed(result_table(SUMMARY)).splitlines()
    title = "digits: 2 per class, 20 images, 1.39 % of the training images"
    assert lines[0].strip() == title
    assert cost(SUMMARY) == "1000 iterations in 4 min 10 s (0.25 s each), 1.5 GB, float32 on cpu"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (3599.4, "59 min 59 s"),
        (3599.6, "1 h 0 min"),
        (100_000, "27 h 46 min"),
    ],
)
def test_durations_are_in_the_units_of_a_clock(seconds, words):
    assert f"1000 iterations in {words} (" in cost(SUMMARY | {"seconds": seconds})


def test_an_evaluation_has_a_row_for_each_network():
    networks = {"convnet-3": result(0.5, 0.01, 5), "convnet-4": result(0.25, 0.02, 3, 300)}
    text = printed(evaluation_table(Evaluation(file="a.parquet", data="digits", networks=networks)))
    assert text.splitlines()[0].strip() == "a.parquet tested on digits"
    assert rows(text) == [
        ["convnet-3", "50.0 ± 1.0", "paper", "5", "1000"],
        ["convnet-4", "25.0 ± 2.0", "paper", "3", "300"],
    ]


def test_orchestration_is_shown_in_milliseconds_even_on_a_narrow_terminal():
    case = {"actors": 8, "classes": 1000, "iterations_per_call": 4}
    seconds = {"seconds": 0.0123, "driver_s": 0.004, "queue_s": 0.005, "actor_s": 0.0006}
    text = printed(
        orchestration_table([{"case": case, "snapshot_bytes": 9_400_000, **seconds}]), 80
    )
    assert ["8", "1000", "4", "9.4", "12.30", "4.00", "5.00", "0.60"] in rows(text)


@pytest.mark.parametrize("name", ["[a]", "x[bold]y", "x[/a]"])
def test_brackets_in_names_are_shown_in_tables(name):
    assert printed(result_table(SUMMARY | {"source": name})).lstrip().startswith(f"{name}: 2 per")
    found = Evaluation(file=f"runs/{name}/c.parquet", data=name, networks={})
    assert f"{name}/c.parquet tested on {name}" in printed(evaluation_table(found))


def one_side(seconds, precision, compiled):
    return Result(
        seconds=seconds,
        rounds_s=(seconds,) * 3,
        cpu_s=2 * seconds,
        parts={"real": seconds / 4, "training": seconds / 2},
        images_per_s=8080 / seconds,
        training_images_per_s=5120 / seconds,
        tflop_per_s=1.86 / seconds,
        peak_share=0.25,
        peak_memory_bytes=1_540_000_000,
        precision=precision,
        compiled=compiled,
    )


def comparison(ratio, void=None):
    return Comparison(
        setting="cifar10-ipc10",
        ratio=ratio,
        void=void,
        ratios=(7.5, 8.0, 8.5),
        ours=one_side(2.0, "bfloat16", True),
        published=one_side(16.0, "float32", False),
        bare_training_images_per_s=321.0,
        warm_up_s=12.34,
        work_tflop=1.86,
        matmul_tflop_per_s={"float32": 0.5, "bfloat16": 3.0},
        context={"rounds": 3, "machine": "a processor", "cores": 2, "threads": 1},
    )


def test_a_comparison_shows_both_sides_part_by_part():
    text = printed(bench_table(comparison(8.0)), width=160)
    title = "cifar10-ipc10: 8.00 times as fast as published (3 rounds, 7.50 to 8.50)"
    assert text.splitlines()[0].strip() == title
    assert rows(text) == [
        ["seconds", "2.000", "16.000"],
        ["CPU seconds", "4.000", "32.000"],
        ["real", "0.500", "4.000"],
        ["training", "1.000", "8.000"],
        ["images/s", "4040", "505"],
        ["training images/s", "2560", "320"],
        ["TFLOP/s", "0.930", "0.116"],
        ["of the peak", "25 %", "25 %"],
        ["peak memory, GB", "1.54", "1.54"],
        ["arithmetic", "bfloat16, compiled", "float32"],
    ]
    caption = " ".join(text.split("└")[1].split()[1:])
    for words in (
        "321 images/s",
        "warm-up: 12.3 s",
        "bfloat16 3.00 TFLOP/s",
        "a processor, 2 cores",
    ):
        assert words in caption


def test_a_void_ratio_is_not_shown():
    text = printed(bench_table(comparison(None, void="too slow")), width=160)
    assert text.splitlines()[0].strip() == "cifar10-ipc10: the ratio is void: too slow"


def test_an_estimate_has_a_column_for_each_hardware():
    parts = Prediction(
        iteration_s=0.51234,
        matching_s=0.5,
        training_s=0.25,
        bottleneck="matching",
        pretrain_s=90.0,
        first_s=61.2,
        condense_s=7200.0,
        evaluate_first_s=0.0,
        evaluate_s=130.0,
        process_bytes={"class actor": 1_500_000_000},
        condense_bytes=2_000_000_000,
        gpu_bytes=0,
    )
    here = Outlook(where="[2] cores", basis="measured", start_s=3.0, total_s=7400, prediction=parts)
    on_gpus = dataclasses.replace(
        parts, process_bytes={"driver": 10**6}, condense_bytes=None, gpu_bytes=3 * 10**9
    )
    scaled = dataclasses.replace(here, where="4 GPUs", basis="arithmetic", prediction=on_gpus)
    sizes = ("source", "cache", "condense_read", "evaluate_read", "checkpoint")
    estimate = Estimate(
        source="[a]",
        method="idm",
        ipc=1,
        iterations=100,
        network="convnet-3",
        device="cpu",
        precision="float32",
        compile=False,
        threads=1,
        flops={"pretrain": 5e12, "condense": 1.86e15, "evaluate": 2e12},
        data_bytes=dict.fromkeys(sizes, 184_320_000),
        here=here,
        scaled=scaled,
        timings={
            "matching": Timing(each_s=1.0, error=0.034, samples=9),
            "training": Timing(each_s=1.0, error=None, samples=1),
        },
        probe_s=20.0,
        cpu_share=1.0,
    )
    text = printed(estimate_table(estimate))
    assert text.lstrip().startswith("[a], idm: 1 per class, 100 iterations, convnet-3 in float32")
    found = {name: cells for name, *cells in rows(text)}
    assert found["time to finish"] == ["2 h 3 min", "2 h 3 min"]
    assert found["pretraining, unless kept"] == ["1 min 30 s"] * 2
    assert found["condensing"] == ["2 h 0 min", "2 h 0 min"]
    assert found["evaluation"] == ["2 min 10 s", "2 min 10 s"]
    assert found["first iterations, compilation"] == ["1 min 1 s", "1 min 1 s"]
    assert found["an iteration"] == ["0.512 s", "0.512 s"]
    assert found["memory, all that condense"] == ["2.0 GB", "-"]
    assert found["one class actor"] == ["1.5 GB", "-"]
    assert found["one driver"] == ["-", "1.0 MB"]
    assert found["fullest GPU"] == ["-", "3.0 GB"]
    assert found["arithmetic, pretraining"] == ["5 TFLOP"] * 2
    assert found["arithmetic, condensing"] == ["1.86 PFLOP"] * 2
    assert found["arithmetic, evaluation"] == ["2 TFLOP"] * 2
    assert found["matching, measured to"] == ["± 3.4 % (9 samples)"] * 2
    assert "training, measured to" not in found
    assert found["one full checkpoint"] == ["184.3 MB"] * 2
    header = [line for line in text.splitlines() if line.startswith("┃")]
    assert "[2] cores" in header[0]
    assert "arithmetic" in header[1]


# --- Trials of a search ---


def under_way(label, **changes):
    return trial(label, status="running", accuracies=(), iterations=0, seconds=0.0, **changes)


def test_without_a_terminal_a_trial_is_a_line_when_it_ends_and_told_once():
    first, second = trial("0.5", 0), trial("0.5", 1, accuracies=(0.7,))
    text = shown(
        Standing(trials=(under_way("0.5"),), total=2),
        Standing(trials=(first, under_way("0.5", seed=1)), total=2),
        Standing(trials=(first, second), total=2),
        Standing(trials=(first, second), total=2),
    )
    assert text.splitlines() == [
        "1/2  lambda_reg 0.5, seed 0: 85.0 %, done",
        "2/2  lambda_reg 0.5, seed 1: 70.0 %, done",
    ]


def test_a_trial_that_was_stopped_says_where_and_one_that_failed_why():
    stopped = trial("1", status="stopped", iterations=13)
    failed = trial("2", status="failed", accuracies=(), cause="no [red] memory")
    cut_off = trial("3", status="stopped", accuracies=(), iterations=0)
    text = shown(Standing(trials=(stopped, failed, cut_off), total=None))
    assert text.splitlines() == [
        "trial  lambda_reg 1, seed 0: 85.0 %, stopped at iteration 13",
        "trial  lambda_reg 2, seed 0: failed: no [red] memory",
        "trial  lambda_reg 3, seed 0: - %, stopped at iteration 0",
    ]


def test_a_table_of_trials_shows_those_that_ended_and_those_under_way():
    standing = Standing(
        trials=(under_way("[a]"), trial("0.5"), trial("1", status="failed", accuracies=())),
        total=None,
    )
    table = standing_table(standing, rows=10)
    assert table.title == "2 of ? trials ended, 1 under way"
    assert rows(printed(table)) == [
        ["lambda_reg 0.5", "0", "done", "40", "85.0", "12 s"],
        ["lambda_reg 1", "0", "failed", "40", "", "12 s"],
        ["lambda_reg [a]", "0", "running", "", "", ""],
    ]


@pytest.mark.parametrize(("room", "labels"), [(3, ["1", "2", "9"]), (2, ["2", "9"]), (1, ["9"])])
def test_where_there_is_little_room_the_oldest_trials_that_ended_make_place(room, labels):
    trials = (*(trial(str(number)) for number in range(3)), under_way("9"))
    table = standing_table(Standing(trials=trials, total=9), rows=room)
    assert table.title == "3 of 9 trials ended, 1 under way"
    assert [row[0] for row in rows(printed(table))] == [f"lambda_reg {x}" for x in labels]


def test_on_a_terminal_there_is_a_table_that_goes_away():
    text = shown(
        Standing(trials=(under_way("0.5"),), total=2),
        Standing(trials=(trial("0.5"), trial("0.5", 1)), total=2),
        Announcement("the end"),
        force_terminal=True,
    )
    assert "2 of 2 trials ended, 0 under way" in text
    assert "the end" in text
