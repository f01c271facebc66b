"""Every classifier: cases that export, run in a Session and are held against float64.

A case says how to build a network and how to cut it by hand; `zoo.case.check` proves it. Each module of this package
that has `CASES` adds to the table that `make coverage-table` prints.
"""

import importlib
import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from zoo.case import Case


def all_cases() -> "dict[str, Case]":
    """Return the cases of every module of this package, by their names, in the modules' alphabetical order."""
    modules = (importlib.import_module(f"zoo.{module.name}") for module in pkgutil.iter_modules(__path__))
    cases = [case for module in modules for case in getattr(module, "CASES", ())]
    named = {case.name: case for case in cases}
    if len(named) != len(cases):
        raise ValueError("Two cases of the zoo have one name; the table would lose one of them.")
    return named
