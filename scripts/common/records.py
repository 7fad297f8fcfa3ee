"""Base of the records that reports hold."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A frozen record, written and read as JSON."""

    model_config = ConfigDict(frozen=True)
