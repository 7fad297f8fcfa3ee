"""Imports what the real samplers import."""

from __future__ import annotations

import torchdiffeq
import torchsde

SOLVERS = (torchdiffeq.odeint, torchsde.sdeint)
