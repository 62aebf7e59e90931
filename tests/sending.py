"""What arrives in another process, as actors get what they are made of."""

from concurrent.futures import ThreadPoolExecutor
from multiprocessing import Pipe
from multiprocessing.reduction import ForkingPickler


def sent(thing):
    """`thing` as the other end of a pipe receives it."""
    content = ForkingPickler.dumps(thing)  # here, since what cannot be sent is never received
    receiver, sender = Pipe(duplex=False)
    with receiver, sender, ThreadPoolExecutor(1) as pool:
        pool.submit(sender.send_bytes, content)  # a pipe holds little
        return receiver.recv()
