"""Failures, named after the reaction they need."""


class StoreTrouble(Exception):
    """The store did not do it, or did not say so: fence oneself, wait, do the batch again."""


class Poison(Exception):
    """The store understood and refused the lines: find the bad ones and set them aside."""


class Fenced(Exception):
    """Another consumer has this partition now: drop everything and join anew."""


class Released(Exception):
    """The partition is being given up: drop its batch, whoever gets it will read it again."""


class Misfit(Exception):
    """The store cannot be used as it is (no schema, wrong version): say so and exit."""
