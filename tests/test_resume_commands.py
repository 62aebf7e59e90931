"""What the command line says about runs that are, or are not, to go on."""

import json
import re
import shutil
import signal
import sys

import pytest

from idm_ray.progress import Progress
from tests.interrupting import ROOT, Started, iteration
from tests.making_runs import TINY, as_words, command, pixels, run, write_pictures

OPTIONS = {**TINY, "iterations": 4, "checkpoint_interval": 1}


def condense(folder, *words, **options):
    """Condense into a folder, or go on with the run that it holds."""
    given = as_words(**{**OPTIONS, **options})
    return command("condense", "--out", folder, "--resume", "auto", *given, *words)


def refusal(outcome):
    """The one line with which a command is refused."""
    assert outcome.status == 2, outcome.err
    (line,) = [line for line in outcome.err.splitlines() if line.startswith("idm-ray: ")]
    assert "Traceback" not in outcome.err
    return line.removeprefix("idm-ray: ")


def interrupt(folder, at=2, **options):
    """Leave a run that is not complete."""

    def stop(event):
        if isinstance(event, Progress) and event.iteration == at:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(folder, listener=stop, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    return pixels(run(tmp_path_factory.mktemp("undisturbed") / "run", **OPTIONS).folder).tobytes()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "run"


# --- auto ---


def test_auto_starts_goes_on_and_tells_of_a_complete_run(folder, undisturbed):
    outcome = condense(folder)
    assert outcome.status == 0, outcome.err
    assert f"writing to {folder}" in outcome.err
    assert pixels(folder).tobytes() == undisturbed

    shutil.rmtree(folder)
    interrupt(folder)
    outcome = condense(folder)
    assert outcome.status == 0, outcome.err
    assert outcome.err.splitlines()[0] == f"resuming the run in {folder}"
    assert "going on from iteration 2 of 4" in outcome.err
    assert pixels(folder).tobytes() == undisturbed

    outcome = condense(folder)
    assert outcome.status == 0
    assert outcome.err.splitlines()[0] == f"the run in {folder} is complete"
    assert "4 iterations in " in outcome.out
    assert not (folder / "checkpoints").exists()


def test_auto_refuses_other_settings_and_names_the_difference(folder):
    interrupt(folder)
    before = (folder / "metrics.jsonl").read_bytes()
    line = refusal(condense(folder, lambda_reg=0.1))
    assert line == (
        f"the run in {folder} has other settings: lambda_reg 0.5 there, 0.1 now; go on with those "
        "that it has, or choose another --out"
    )
    assert (folder / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("auto", [True, False], ids=["auto", "resume"])
def test_other_images_are_refused(tmp_path, folder, auto):
    pictures = write_pictures(tmp_path / "pictures", {"a": 14, "b": 14})
    options = {"data": str(pictures), "limit_per_class": 10}
    interrupt(folder, **options)
    (pictures / "a" / "000.png").write_bytes((pictures / "b" / "000.png").read_bytes())
    outcome = condense(folder, **options) if auto else command("resume", folder)
    line = refusal(outcome)
    assert line.startswith("expected the images that the run began with (fingerprint ")
    assert f"found others in {pictures} (" in line


def test_auto_needs_a_folder_and_does_not_overwrite(folder):
    words = as_words(**OPTIONS)
    line = refusal(command("condense", "--resume", "auto", *words))
    assert line == "--resume auto needs --out: the folder of the run that is to go on"
    interrupt(folder)
    assert "expected --resume auto or --overwrite, got both" in refusal(
        condense(folder, "--overwrite")
    )
    assert (folder / "checkpoints").exists()


@pytest.mark.parametrize("words", [("resume",), ("condense", *as_words(**OPTIONS), "--out")])
def test_one_process_at_a_time_works_on_a_run(folder, words, undisturbed):
    """The first is stopped, not ended: it still has the run."""
    given = as_words(**{**OPTIONS, "iterations": 400})
    with Started(folder, "condense", "--out", folder, *given) as started:
        assert started.until(lambda: iteration(folder) >= 2), started.err
        started.process.send_signal(signal.SIGSTOP)
        auto = ("--resume", "auto") if words[0] == "condense" else ()
        line = refusal(command(*words, folder, *auto, *(("--iterations", "400") * bool(auto))))
        assert line == f"another process is writing to {folder}: wait for its end, or stop it"


# --- resume DIR ---


def test_what_holds_no_run_is_not_resumed(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    found = {"empty": "one without config.yaml", "file": "a file", "missing": "none"}
    for name, what in found.items():
        line = refusal(command("resume", tmp_path / name))
        assert line == (
            f"expected the folder of a run at {tmp_path / name}, found {what}; name what --out was "
            "when the run began"
        )
    assert {path.name for path in tmp_path.iterdir()} == {"empty", "file"}


def test_resume_takes_no_option_that_changes_the_numbers(folder):
    interrupt(folder)
    assert "--lambda-reg" in refusal(command("resume", folder, "--lambda-reg", "0.1")).lower()


def test_damage_is_told_and_what_is_whole_is_used(folder, undisturbed):
    interrupt(folder, at=3)
    newest = json.loads(sorted((folder / "checkpoints").glob("commit-*"))[-1].read_text())
    name = newest["groups"][0]["file"]["name"]
    content = bytearray((folder / "checkpoints" / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "checkpoints" / name).write_bytes(content)
    outcome = command("resume", folder)
    assert outcome.status == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert told[0].startswith(f"warning: a checkpoint cannot be used: {folder}/checkpoints/{name}")
    # One may have been passed over while the one before it was still being written.
    (used,) = told[1:]
    assert re.fullmatch("warning: an earlier one is used, of iteration [12]", used)
    assert pixels(folder).tobytes() == undisturbed


def test_without_a_whole_checkpoint_the_run_starts_again(folder, undisturbed):
    interrupt(folder, at=3)
    for marker in (folder / "checkpoints").glob("commit-*"):
        marker.write_bytes(marker.read_bytes()[:-10])
    outcome = command("resume", folder)
    assert outcome.status == 0, outcome.err
    told = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert len(told) == 3
    assert told[-1] == ("warning: no checkpoint can be used: the run starts again from iteration 0")
    assert pixels(folder).tobytes() == undisturbed


# --- Pipelines ---


def test_a_pipeline_goes_on_after_sigterm(folder):
    quick = {"iterations": 30, "train_steps": 1, "queue_init": 1, "batch_real": 4, "batch_train": 4}
    words = as_words(**quick, local=True, device="cpu", threads=1, repeats=0, checkpoint_interval=2)
    script = (sys.executable, ROOT / "pipelines" / "cifar10.py")
    whole = folder.with_name("whole")

    def rehearse(out):
        rehearsal = ("--smoke", "--resume", "auto", "--out", out, *words)
        return Started(out, *rehearsal, program=script)

    with rehearse(whole) as started:
        assert started.end().status == 0, started.err
    with rehearse(folder) as started:
        assert started.until(lambda: iteration(folder) >= 9), started.err
        assert started.tell(signal.SIGTERM).status == 143, started.err
    with rehearse(folder) as started:
        ended = started.end()
    assert ended.status == 0, ended.err
    assert f"resuming the run in {folder}" in ended.err
    assert pixels(folder).tobytes() == pixels(whole).tobytes()
