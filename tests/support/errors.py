"""Catch the error that a call reports to users."""

from __future__ import annotations

from collections.abc import Callable
from typing import ParamSpec

import pytest

from scripts.common.diagnostics.error import UserError

Arguments = ParamSpec("Arguments")


def user_error(
    call: Callable[Arguments, object], *args: Arguments.args, **kwargs: Arguments.kwargs
) -> UserError:
    """Call a function and return the UserError that it raises; fail the test if it raises none."""
    with pytest.raises(UserError) as caught:
        call(*args, **kwargs)
    return caught.value
