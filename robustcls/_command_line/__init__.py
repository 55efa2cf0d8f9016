"""What the command lines of both packages share: parsers, flags, exits, a quiet TensorFlow."""

from robustcls._command_line.modules import import_named_modules
from robustcls._command_line.naming import naming_flags
from robustcls._command_line.parser import (
    CommandParser,
    Runners,
    add_distribution_arguments,
    add_function_commands,
    add_run_arguments,
    add_skipping_argument,
    add_tracker_argument,
    command_parser,
    first_line,
    function_parser,
    list_names,
    new_parser,
)
from robustcls._command_line.running import (
    epoch_verbosity,
    import_tensorflow,
    run_command,
    with_underscores,
)
from robustcls._command_line.spreading import Spreading, add_spreading_arguments, take_spreading
from robustcls._command_line.stopping import resumable

__all__ = [
    "CommandParser",
    "Runners",
    "Spreading",
    "add_distribution_arguments",
    "add_function_commands",
    "add_run_arguments",
    "add_skipping_argument",
    "add_spreading_arguments",
    "add_tracker_argument",
    "command_parser",
    "epoch_verbosity",
    "first_line",
    "function_parser",
    "import_named_modules",
    "import_tensorflow",
    "list_names",
    "naming_flags",
    "new_parser",
    "resumable",
    "run_command",
    "take_spreading",
    "with_underscores",
]
