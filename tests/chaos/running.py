"""A run on a cluster that is ended and resumed until it comes to its end."""

from tests.chaos.driving import Driver


def run_to_the_end(folder, words, doer, *, address, log, most):
    """Condense, and resume whenever the driver was ended.

    Args:
        folder: of the run.
        words: options of `condense`.
        doer: does what it does.
        address: of the cluster.
        log: file of what the run says.
        most: commands that may be needed.
    """
    command = ["condense", "--out", folder, *words]
    for _ in range(most):
        with Driver(*command, address=address, log=log) as driver:
            for event in driver.events():
                with open(log, "a") as file:
                    print(f"[{event!s:.200}]", file=file)
                doer.notice(event, driver)
        if driver.process.returncode != -9:
            break
        command = ["resume", folder]
    assert driver.process.returncode == 0, f"it ended with {driver.process.returncode}"
