"""Why a connection ended, when nobody broke the protocol."""

from mako.errors import Error


class ConnectionLost(Error):
    """The connection ended or is of no more use: dial again. The message says why in one line."""


class Refused(ConnectionLost):
    """The two must not talk, by the hello of one of them. Correct what the message names."""
