from concurrent.futures import ThreadPoolExecutor

import pytest

from idm_ray import interruption


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    """Nothing is held and nothing noted, neither before nor after a test."""
    monkeypatch.setattr(interruption, "_held", False)
    monkeypatch.setattr(interruption, "_noted", None)


def test_an_end_comes_at_once_where_nothing_is_held():
    interruption.check()
    with pytest.raises(SystemExit):
        interruption.end(SystemExit(143))
    interruption.check()


def test_an_end_that_is_held_comes_at_the_next_check_and_once():
    interruption.hold()
    reason = SystemExit(143)
    interruption.end(reason)
    with pytest.raises(SystemExit) as raised:
        interruption.check()
    assert raised.value is reason
    interruption.check()


def test_an_end_that_is_held_comes_while_it_sleeps():
    interruption.hold()
    interruption.end(SystemExit(143))
    with pytest.raises(SystemExit):
        interruption.sleep(3600)
    interruption.sleep(0.001)


def test_other_threads_sleep_whatever_is_held():
    interruption.hold()
    interruption.end(SystemExit(143))
    with ThreadPoolExecutor(1) as other:
        other.submit(interruption.sleep, 0.001).result()
    with pytest.raises(SystemExit):
        interruption.check()


def test_who_asks_twice_gets_it_now():
    interruption.hold()
    interruption.end(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        interruption.end(KeyboardInterrupt())


@pytest.mark.parametrize("reason", [KeyboardInterrupt(), SystemExit(143)])
def test_what_an_end_breaks_does_not_hide_it(reason):
    def entered():
        try:
            raise reason
        finally:
            [].pop()

    with pytest.raises(type(reason)) as raised, interruption.undisguised():
        entered()
    assert raised.value is reason


def test_an_error_that_no_end_caused_stays():
    def chained():
        try:
            {}["a"]
        except KeyError:
            raise ValueError("b") from None

    with pytest.raises(ValueError, match="b"), interruption.undisguised():
        chained()


@pytest.mark.parametrize(
    ("told", "seconds"), [(None, 10), ("90", 90), ("2.5", 2.5), ("0", 10), ("nan", 10), ("x", 10)]
)
def test_a_process_has_as_long_as_ray_is_told_that_it_has(monkeypatch, told, seconds):
    monkeypatch.delenv("RAY_JOB_STOP_WAIT_TIME_S", raising=False)
    if told is not None:
        monkeypatch.setenv("RAY_JOB_STOP_WAIT_TIME_S", told)
    assert interruption.patience_s() == seconds
