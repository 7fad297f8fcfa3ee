"""Keeps the worker's processes: starts them, starts them again within bounds, and ends them all.

One loop in the main thread takes one event at a time from a queue; threads and signal handlers only
put events there. The WebUI is started first and everything slow afterwards, beside it.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final

from scripts.container import paths
from scripts.container.log import log
from scripts.container.settings import CONTAINER_PATH, Settings
from scripts.container.status import state
from scripts.container.supervisor import exit_reason, subreaper
from scripts.container.supervisor.monitor import Answers, Drawn, Unusable, watch
from scripts.container.supervisor.process import Child
from scripts.container.supervisor.restart_policy import Patience, served
from scripts.container.supervisor.volume_fetch import Stocked, stock
from scripts.container.webui import launcher
from scripts.container.webui.environment import common_environment, server_environment
from scripts.container.webui.flags import webui_flags

_POLL: Final = 0.05
_DYING: Final = 2.0  # seconds that the kernel gets to end what was killed


class Exit(IntEnum):
    """Exit codes of the worker. A platform replaces a worker that ends with another than 0."""

    STOPPED = 0
    FAILED = 1
    REFUSED = 3
    GAVE_UP = 4
    CUT_OFF = 5


@dataclass(frozen=True)
class Asked:
    """A signal came."""

    signum: int


@dataclass(frozen=True)
class Ended:
    """A child has ended."""

    child: Child


@dataclass(frozen=True)
class Due:
    """The pause before a restart is over."""

    name: str


class Orphaned:
    """A process that a child had left behind may have ended."""


Event = Asked | Stocked | Ended | Due | Orphaned | Answers | Drawn | Unusable


class Supervisor:
    """The worker's life from start to exit code.

    Args:
        settings: the environment, parsed.
        began: monotonic time at which the worker began.
    """

    def __init__(self, settings: Settings, began: float) -> None:
        self._settings, self._began = settings, began
        self._events: SimpleQueue[Event] = SimpleQueue()
        self._children: dict[str, Child] = {}
        self._patience = {
            name: Patience(settings.restarts, settings.restart_pause)
            for name in ("webui", "handler")
        }
        self._state = state.State(supervisor=os.getpid())
        self._oom_kills = exit_reason.oom_kills()
        self._ready_since = 0.0
        self._must_pass = settings.preflight == "strict"
        self._outcome: Exit | None = None

    def run(self) -> int:
        """Serve until asked to stop or unable to go on; the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(signum, lambda number, _: self._events.put(Asked(number)))
        signal.signal(signal.SIGCHLD, lambda *_: self._events.put(Orphaned()))
        subreaper.adopt()
        try:
            self._env = common_environment(os.environ, self._settings)
            self._state = replace(self._state, pip_cache=self._env["PIP_CACHE_DIR"])
            self._say("starting")
            stock(self._settings.volume_models, self._events.put)
            while self._outcome is None:
                self._take(self._events.get())
            return self._stop(self._outcome)
        finally:
            self._end_all()
            self._say("stopped")

    def _take(self, event: Event) -> None:
        if isinstance(event, Asked):
            self._asked(event.signum)
        elif isinstance(event, Stocked):
            self._begin(event.reason)
        elif isinstance(event, Due):
            self._start(event.name)
        elif isinstance(event, Orphaned):
            subreaper.reap(self._own())
        elif self._children.get(event.child.name) is not event.child:
            return  # about a process that was replaced meanwhile
        elif isinstance(event, Ended):
            self._ended(event.child)
        elif event.child.ended.is_set():
            return  # its end says more
        elif isinstance(event, Answers):
            self._clock("answers")
            self._say("loading")
            # Its imports would take time from the WebUI's; loading a checkpoint takes longer.
            if self._settings.serverless and "handler" not in self._children:
                self._start("handler")
        elif isinstance(event, Drawn):
            self._clock("drawn")
            self._ready()
        else:
            self._replace(event.reason)

    def _begin(self, missing: str) -> None:
        """Start everything, the WebUI first."""
        if missing:
            log("no-models", level="error", reason=missing)
            self._outcome = Exit.FAILED
            return
        self._start("webui")
        if self._settings.preflight != "off":
            self._start("preflight")
        from scripts.container.status import metrics

        metrics.serve(self._settings)

    def _start(self, name: str) -> None:
        words, env, cwd = self._command(name)
        try:
            child = Child(
                name, words, env=env, cwd=cwd, on_exit=lambda child: self._events.put(Ended(child))
            )
        except OSError as error:
            log("start-failed", level="error", child=name, reason=str(error))
            self._outcome = Exit.FAILED
            return
        self._children[name] = child
        if name == "webui":
            self._clock("started")
            self._state = replace(self._state, server=child.pid)
            self._say("starting")
            log("webui-started", pid=child.pid, port=self._settings.port, host=self._settings.host)
            watch(child, self._settings, self._events.put)

    def _command(self, name: str) -> tuple[list[str], dict[str, str], Path]:
        """A child's command line, environment and working folder."""
        settings = self._settings
        if name == "webui":
            flags = webui_flags(settings, paths.models(settings))
            heap = str(settings.worker_dir / "heap.json")
            serves = (settings.host, str(settings.port))
            words = [
                str(settings.webui_python),
                launcher.__file__,
                heap,
                *serves,
                "webui.py",
                *flags,
            ]
            return words, server_environment(self._env, settings), settings.webui_dir
        cwd = CONTAINER_PATH if CONTAINER_PATH.is_dir() else settings.worker_dir
        words = [sys.executable, "-m", "scripts.container", name]
        if name == "preflight":
            # It imports torch beside the WebUI, which must not wait for it.
            words = ["nice", *words, "--log"]
        return words, self._env, cwd

    def _asked(self, signum: int) -> None:
        if signum == signal.SIGUSR1:
            self._replace("the handler asked for it")
        else:
            log("asked-to-stop", signal=signal.Signals(signum).name)
            self._outcome = Exit.STOPPED

    def _replace(self, reason: str) -> None:
        """Kill a WebUI that is of no use; its end is then handled like any other."""
        log("webui-unusable", level="error", reason=reason)
        self._state = replace(self._state, reason=reason)
        if child := self._children.get("webui"):
            child.ask(signal.SIGKILL)

    def _ended(self, child: Child) -> None:
        child.kill()  # what it started
        if child.name == "preflight":
            return self._checked(child)
        if child.name == "handler" and child.code == 0:
            log("handler-done")  # the SDK asked for a fresh worker
            self._outcome = Exit.STOPPED
            return None
        if child.name == "webui":
            subreaper.end(self._own(), time.monotonic() + _DYING)
        before, self._oom_kills = self._oom_kills, exit_reason.oom_kills()
        reason = exit_reason.explain(child, oom=self._oom_kills > before)
        log(f"{child.name}-died", level="error", **reason)
        useful = served(child.started, self._ready_since, time.monotonic())
        pause = self._patience[child.name].next_pause(useful)
        if pause is None:
            log("gave-up", level="error", child=child.name, restarts=self._settings.restarts)
            self._outcome = Exit.GAVE_UP
            return None
        if child.name == "webui":
            self._ready_since = 0.0
            self._state = replace(self._state, server=0, restarts=self._state.restarts + 1)
            self._say("restarting", reason=self._state.reason or reason["how"])
        log("restarting", level="warning", child=child.name, pause=pause)
        timer = threading.Timer(pause, self._events.put, [Due(child.name)])
        timer.daemon = True
        timer.start()
        return None

    def _checked(self, child: Child) -> None:
        """The preflight's verdict: exit code 0 when nothing speaks against serving."""
        if child.code and self._settings.preflight == "strict":
            log("refused", level="error", reason="preflight found what makes serving pointless")
            self._outcome = Exit.REFUSED
            return
        self._must_pass = False
        self._ready()

    def _ready(self) -> None:
        if self._must_pass or "drawn" not in self._state.seconds or self._ready_since:
            return
        self._ready_since = time.monotonic()
        self._say("ready", reason="")
        phases: dict[str, Any] = {f"{key}_after": at for key, at in self._state.seconds.items()}
        log("ready", **phases)

    def _clock(self, name: str) -> None:
        """Note a phase of the start that has been reached."""
        seconds = {} if name == "started" else dict(self._state.seconds)
        begun = self._began if self._state.restarts == 0 else self._children["webui"].started
        seconds[name] = round(max(time.monotonic() - begun, 0.0), 3)
        self._state = replace(self._state, seconds=seconds)

    def _say(self, phase: str, *, reason: str | None = None) -> None:
        kept = self._state.reason if reason is None else reason
        self._state = replace(self._state, phase=phase, reason=kept)
        try:
            state.write_state(self._settings.worker_dir, self._state)
        except OSError as error:  # a full disk must not end a worker that can still draw
            log("state-not-written", level="warning", phase=phase, reason=str(error))

    def _stop(self, outcome: Exit) -> int:
        """Let running jobs end within the deadline; whoever is late is killed."""
        deadline = time.monotonic() + self._settings.stop_timeout
        self._say("draining")
        if handler := self._children.get("handler"):
            handler.ask()
            while not handler.ended.wait(_POLL) and time.monotonic() < deadline:
                # An idle SDK may wait up to 90 s for an answer from RunPod before it ends.
                if not state.read_jobs(self._settings.worker_dir).running:
                    break
        if webui := self._children.get("webui"):
            webui.ask()
            if not webui.ended.wait(max(deadline - time.monotonic(), 0.0)):
                log("cut-off", level="warning", after=self._settings.stop_timeout)
                return Exit.CUT_OFF if outcome == Exit.STOPPED else outcome
        return outcome

    def _end_all(self) -> None:
        """Kill every child, what they started, and what made itself a daemon; all at once."""
        deadline = time.monotonic() + _DYING
        for child in self._children.values():
            child.kill()
        subreaper.end(self._own(), deadline)
        for child in self._children.values():
            child.ended.wait(max(deadline - time.monotonic(), 0.0))

    def _own(self) -> set[int]:
        return {child.pid for child in self._children.values()}
