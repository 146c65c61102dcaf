"""The fault experiments: `make faults` breaks real processes and holds every answered open against
the table in ClickHouse.

**To add an experiment**, write a module `eNN_what_breaks.py` here, NN being its number, with

- a docstring whose first line says what breaks, and the rest what must hold;
- `def run(trial: Trial) -> None`, which starts a line (`trial.line()`) and a load on it
  (`line.load()`), breaks something, says so (`trial.fault(shown)`: `shown` is what proves that it
  happened), holds what it promises (`trial.hold(condition, "what is wrong otherwise")`,
  `trial.recovered(seconds, at_most)`), and ends with `trial.settle(line)`, which drains the line
  and compares table and answers.

Its lengths go into `sizes.SIZES`, once for each form, and it takes them from `trial.size(name)`.
What an experiment starts by `trial.line()` or hands to `trial.keep()` is ended by the trial; the
broker and the engine are started again after it if it has left them dead. It is then found by its
name: by the command, by `make faults ONLY=NN` and by tests/faults/test_experiments.py.
"""
