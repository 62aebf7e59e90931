"""Running the examples in a docstring."""

import doctest

import torch

import idm_ray


def complaints(named):
    """What the examples in the docstring of something public show that does not hold."""
    names = {"idm_ray": idm_ray, "torch": torch}
    (found,) = doctest.DocTestFinder(recurse=False).find(named, globs=names)
    assert found.examples, named
    told = []
    doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE).run(found, out=told.append)
    return "".join(told)
