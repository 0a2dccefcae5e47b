"""Pure decisions: no I/O, no clock, no logging; time is an argument."""
