"""The commands of `robustcls`, by topic: what each takes, calls and prints."""
