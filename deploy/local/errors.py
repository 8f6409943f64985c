"""What stops a stack and needs no stack trace to be understood."""


class StackError(Exception):
    """The message says what is wrong, to the person who gave the command."""
