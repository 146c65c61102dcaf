"""How a command fails, and how text of strangers becomes harmless on a terminal."""


class Failure(Exception):
    """It did not work; the message says why, on one line. Exit code 1."""


class UsageError(Exception):
    """It was asked wrongly; the message says what to do. Exit code 2."""


def harmless(text: str) -> str:
    """Text without anything that a terminal would obey or hide: \\x1b stands for ESC."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in text
    )


def one_line(text: str) -> str:
    """A message on one harmless line."""
    return harmless(" ".join(text.split()))
