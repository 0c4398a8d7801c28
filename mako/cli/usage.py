"""What is wrong with a command line, in one sentence that says what to do."""

import click


def sentence_of(error: click.UsageError) -> str:
    """What is wrong and what to do, in one sentence."""
    help_command = f"see {error.ctx.command_path if error.ctx else 'mako'} --help"
    if isinstance(error, click.NoSuchOption):
        near = f"did you mean {' or '.join(error.possibilities)}?" if error.possibilities else ""
        return f"there is no option {error.option_name}; {near or help_command}"
    if isinstance(error, click.MissingParameter):
        return f"{_name_of(error.param) if error.param else 'a value'} is missing; {help_command}"
    if isinstance(error, click.BadParameter) and error.param is not None:
        return f"{_name_of(error.param)}: {_uncapitalized(error.message).rstrip('.')}"
    return f"{_uncapitalized(error.format_message()).rstrip('.')}; {help_command}"


def _name_of(parameter: click.Parameter) -> str:
    """The longest spelling of an option."""
    return max(parameter.opts, key=len)


def _uncapitalized(text: str) -> str:
    return text[:1].lower() + text[1:]
