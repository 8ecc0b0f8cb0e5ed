"""
How a thread learns that its run is let go.
"""


class Released(BaseException):
    """The run is let go: the thread's work ends here, and is executed again from the top later. Let it pass."""
