"""Supervise the worker's processes: start them, restart them within limits, end them all.

The main thread runs one call at a time from a queue (the `on_…` methods); other threads and signal
handlers only put calls there. The WebUI is started first, everything slow afterwards, beside it.
"""

import os
import signal
import threading
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from scripts.common.active_time import active_time
from scripts.common.diagnostics.error import UserError
from scripts.container.log import log, log_crash
from scripts.container.settings import Settings
from scripts.container.status import state
from scripts.container.status.log_findings import serve_findings
from scripts.container.supervisor import exit_reason, process
from scripts.container.supervisor.call_queue import CallQueue
from scripts.container.supervisor.children import start_child
from scripts.container.supervisor.extension_guard import ExtensionGuard
from scripts.container.supervisor.process import ChildProcess
from scripts.container.supervisor.shutdown import (
    KILL_TIME,
    ExitCode,
    kill_all,
    let_jobs_end,
    own_pids,
)
from scripts.container.supervisor.state_recorder import StateRecorder
from scripts.container.webui.preparation import PreparedWebui, prepare_webui
from scripts.container.webui.read_ahead import start_reading
from scripts.container.webui.readiness import monitor

_LATE_REPORT: Final = 2.0  # seconds for the monitor, which knows more, to say why it is not ready


class Supervisor:
    """Supervisor of one worker, from its start to its exit code.

    Args:
        settings: the environment, parsed.
        env: environment that all processes share.
        started_at: monotonic time of the worker's start.
    """

    def __init__(self, settings: Settings, env: Mapping[str, str], started_at: float) -> None:
        self._settings, self._env, self._started_at = settings, env, started_at
        self._calls = CallQueue()
        self._processes: dict[str, ChildProcess] = {}
        self._restart_policies = {
            name: exit_reason.RestartPolicy(settings.restarts, settings.restart_pause)
            for name in ("webui", "handler")
        }
        self._recorder = StateRecorder(settings.worker_dir, state.State(supervisor=os.getpid()))
        self._oom_kills = exit_reason.count_oom_kills()
        self._ready_since, self._has_served = 0.0, False
        already = time.monotonic() - started_at
        self._ready_deadline = active_time() + settings.ready_timeout - already
        self._guard = ExtensionGuard(settings, self._recorder, self._calls, self._refuse)
        self._needs_preflight = settings.preflight == "strict"
        self._exit_code: ExitCode | None = None

    def run(self) -> int:
        """Serve until stopped or unable to go on; return the exit code."""
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
            signal.signal(signum, lambda number, _: self._calls.put(self.on_signal, number))
        signal.signal(signal.SIGCHLD, lambda *_: self._calls.put(self.on_child_signal))
        threading.excepthook = self._report_thread_crash
        process.become_subreaper()
        try:
            self._set_phase("starting", pip_cache=self._env["PIP_CACHE_DIR"])
            if self._settings.is_load_balancer:
                self._start("handler")  # it answers RunPod while the WebUI starts
            seconds = self._ready_deadline - active_time() + _LATE_REPORT
            self._calls.put_later(max(seconds, 0.0), self.on_ready_deadline)
            threading.Thread(target=self._prepare, name="preparation", daemon=True).start()
            while self._exit_code is None:
                self._calls.run_next()
            self._set_phase("draining")
            return let_jobs_end(self._processes, self._settings, self._exit_code)
        finally:
            kill_all(self._processes)
            self._set_phase("stopped")

    def on_signal(self, signum: int) -> None:
        """Stop the worker, or replace the WebUI at the handler's request (SIGUSR1)."""
        if signum == signal.SIGUSR1:
            self._replace_webui("the handler asked for it")
        else:
            log("asked-to-stop", signal=signal.Signals(signum).name)
            self._exit_code = ExitCode.STOPPED

    def on_child_signal(self) -> None:
        """Reap orphans (SIGCHLD); threads wait for the supervisor's own children."""
        process.reap_orphans(own_pids(self._processes))

    def on_preparing(self, reason: str) -> None:
        """Record what the start is waiting for."""
        self._set_phase("starting", reason=reason)

    def on_models_ready(self, webui: PreparedWebui) -> None:
        """Start everything, the WebUI first."""
        self._set_phase("starting", reason="")
        self._guard.use(webui)
        self._start("webui")
        start_reading(self._settings, webui.checkpoint)
        serve_findings(self._settings.worker_dir, lambda: self._processes["webui"].read_findings())
        if self._settings.preflight != "off":
            self._start("preflight")
        from scripts.container.status import http_server

        http_server.serve(self._settings)

    def on_no_models(self, error: str) -> None:
        """Give up: a model could not be fetched, or the checkpoint is not there."""
        log("no-models", level="error", reason=error)
        self._exit_code = ExitCode.FAILED

    def on_api_up(self, webui: ChildProcess) -> None:
        """Record that the API answers, and start the handler."""
        if self._is_running(webui):
            self._record_phase("answers")
            self._set_phase("loading")
            # Its imports would delay the WebUI's; loading a checkpoint takes longer than they do.
            if self._settings.is_serverless and "handler" not in self._processes:
                self._start("handler")

    def on_warmed_up(self, webui: ChildProcess) -> None:
        """Record that the first image was drawn."""
        if self._is_running(webui):
            self._record_phase("drawn")
            self._become_ready()

    def on_unhealthy(self, webui: ChildProcess, reason: str, code: str) -> None:
        """Replace a WebUI that cannot draw or answers no more."""
        if self._is_running(webui):
            self._replace_webui(reason, code)

    def on_wrong_options(self, breaks_api: bool) -> None:
        """Refuse to serve with an option that breaks the API, in strict mode with any wrong one."""
        if breaks_api or self._settings.preflight == "strict":
            self._refuse("the WebUI's options are wrong")
            self._exit_code = ExitCode.FAILED if breaks_api else ExitCode.REFUSED

    def on_ready_deadline(self) -> None:
        """Give up a worker that was not ready once within READY_TIMEOUT."""
        if not self._has_served:
            now = self._recorder.state
            phase = now.phase if "webui" in self._processes else "models are prepared"
            self._give_up_late(now.reason or phase)

    def on_thread_crash(self, name: str, error: BaseException) -> None:
        """End the worker: nobody does any longer what the thread did."""
        log_crash(name, error)
        self._exit_code = ExitCode.FAILED

    def on_process_exit(self, child: ChildProcess) -> None:
        """Act on the end of a process: restart it within limits, or end the worker."""
        if self._processes.get(child.name) is not child:
            return  # it has been replaced meanwhile
        child.kill_group()  # what it started
        if child.name == "webui":
            process.kill_orphans(own_pids(self._processes), time.monotonic() + KILL_TIME)
        if child.name == "preflight":
            self._on_preflight_exit(child.returncode)
        elif child.name == "handler" and child.returncode == 0:
            log("handler-done")  # the SDK wants a fresh worker
            self._exit_code = ExitCode.STOPPED
        elif child.name == "webui" and self._guard.leave_culprit_out(child.returncode):
            self._start("webui")
        else:
            self._restart(child)

    def _report_thread_crash(self, crash: threading.ExceptHookArgs) -> None:
        """Queue the end of the worker; called in the thread that an exception has ended."""
        name = crash.thread.name if crash.thread else "thread"
        self._calls.put(self.on_thread_crash, name, crash.exc_value or crash.exc_type())

    def _is_running(self, child: ChildProcess) -> bool:
        return self._processes.get(child.name) is child and not child.ended.is_set()

    def _prepare(self) -> None:
        """Prepare models, options and the WebUI's command; runs in a thread."""
        try:
            on_progress = partial(self._calls.put, self.on_preparing)
            webui = prepare_webui(self._settings, self._env, self._ready_deadline, on_progress)
        except Exception as error:  # whatever it is: the main thread waits for an answer
            if not isinstance(error, (UserError, OSError)):
                log_crash("preparation", error)
            self._calls.put(self.on_no_models, str(error))
        else:
            self._calls.put(self.on_models_ready, webui)

    def _start(self, name: str) -> None:
        if self._exit_code is not None:
            return
        settings, on_exit = self._settings, partial(self._calls.put, self.on_process_exit)
        try:
            child = start_child(name, settings, self._env, self._guard, on_exit)
        except OSError as error:
            log("start-failed", level="error", child=name, reason=str(error))
            self._exit_code = ExitCode.FAILED
            return
        self._processes[name] = child
        if name == "webui":
            self._record_phase("started")
            self._set_phase("starting", server=child.pid)
            log("webui-started", pid=child.pid, port=settings.webui_port, host=settings.webui_host)
            monitor(
                settings,
                child.ended,
                self._guard.webui.options,
                active_time() + settings.ready_timeout
                if self._has_served
                else self._ready_deadline,
                on_api_up=partial(self._calls.put, self.on_api_up, child),
                on_warmed_up=partial(self._calls.put, self.on_warmed_up, child),
                on_unhealthy=partial(self._calls.put, self.on_unhealthy, child),
                on_wrong_options=partial(self._calls.put, self.on_wrong_options),
            )

    def _replace_webui(self, reason: str, code: str = "") -> None:
        """Kill the WebUI; its exit is then handled like any other."""
        webui = self._processes.get("webui")
        cause = exit_reason.find_cause(webui, serving=bool(self._ready_since)) if webui else None
        fields = exit_reason.cause_fields(cause)
        log("webui-unusable", level="error", reason=reason, code=code, **fields)
        self._recorder.update(reason=f"{reason}: {cause.text}" if cause else reason)
        if webui:
            webui.is_replaced = True
            webui.send_signal(signal.SIGKILL)

    def _on_preflight_exit(self, exit_code: int) -> None:
        """Refuse to serve after a failed preflight if it is strict."""
        if exit_code and self._settings.preflight == "strict":
            self._refuse("preflight found what makes serving pointless")
        else:
            self._needs_preflight = False
            self._become_ready()

    def _restart(self, child: ChildProcess) -> None:
        """Log why a process exited and schedule its restart, unless it has had enough of them."""
        before, self._oom_kills = self._oom_kills, exit_reason.count_oom_kills()
        reason = exit_reason.find_exit_reason(
            child, oom_killed=self._oom_kills > before, serving=bool(self._ready_since)
        )
        log(f"{child.name}-died", level="error", **reason.log_fields())
        policy, now = self._restart_policies[child.name], time.monotonic()
        pause = policy.next_pause(child.started_at, self._ready_since, now)
        if not self._has_served and active_time() >= self._ready_deadline:
            self._give_up_late(self._recorder.state.reason or reason.status)
            return
        if pause is None or reason.is_final:
            restarts = 0 if reason.is_final else self._settings.restarts
            log("gave-up", level="error", child=child.name, restarts=restarts)
            self._exit_code = ExitCode.GAVE_UP
            return
        if child.name == "webui":
            self._ready_since = 0.0
            last = self._recorder.state
            why = last.reason or reason.status
            self._set_phase("restarting", server=0, restarts=last.restarts + 1, reason=why)
        log("restarting", level="warning", child=child.name, pause=pause)
        self._calls.put_later(pause, self._start, child.name)

    def _refuse(self, reason: str) -> None:
        log("refused", level="error", reason=reason)
        self._exit_code = ExitCode.REFUSED

    def _give_up_late(self, reason: str) -> None:
        limit = f"not ready {self._settings.ready_timeout:g} s after the start"
        log("gave-up", level="error", reason=f"{limit}: {reason}", code="not-ready")
        self._exit_code = ExitCode.GAVE_UP

    def _become_ready(self) -> None:
        """Set the phase `ready` once an image was drawn and a strict preflight has passed."""
        if (
            self._needs_preflight
            or "drawn" not in self._recorder.state.seconds
            or self._ready_since
        ):
            return
        self._ready_since, self._has_served = time.monotonic(), True
        self._set_phase("ready", reason="")
        phases = {f"{name}_after": at for name, at in self._recorder.state.seconds.items()}
        log("ready", level="info", **phases)

    def _record_phase(self, name: str) -> None:
        """Record the time at which a phase of the start was reached."""
        is_first = self._recorder.state.restarts == 0
        since = self._started_at if is_first else self._processes["webui"].started_at
        self._recorder.record_phase(name, since)

    def _set_phase(self, phase: str, **changes: Any) -> None:  # noqa: ANN401 - fields of State
        """Write the state with a new phase, and with changes of other fields."""
        self._recorder.update(phase=phase, **changes)
