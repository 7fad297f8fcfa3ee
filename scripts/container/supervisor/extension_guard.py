"""Keep a broken extension from ending the worker: record it, and start the WebUI without it."""

from collections.abc import Callable
from functools import partial
from typing import Final

from scripts.container.settings import Settings
from scripts.container.supervisor.call_queue import CallQueue
from scripts.container.supervisor.state_recorder import StateRecorder
from scripts.container.webui.extensions.extension_faults import ExtensionFault, ExtensionFaults
from scripts.container.webui.extensions.extension_set import log_broken
from scripts.container.webui.preparation import PreparedWebui

_ANSWERS: Final = "answers"  # phase that ends a start, as far as extensions can end the WebUI


class ExtensionGuard:
    """Hold what starts the WebUI, without the extensions that have ended it.

    Args:
        settings: of the worker.
        recorder: of the worker's state.
        calls: those of the supervisor's thread.
        refuse: called with a reason where nothing may be served, because an extension is broken.
    """

    def __init__(
        self,
        settings: Settings,
        recorder: StateRecorder,
        calls: CallQueue,
        refuse: Callable[[str], None],
    ) -> None:
        self._settings, self._recorder = settings, recorder
        self._calls, self._refuse = calls, refuse
        self.webui = PreparedWebui()
        self._faults: ExtensionFaults | None = None

    def use(self, webui: PreparedWebui) -> None:
        """Start the WebUI so from now on."""
        self.webui = webui
        self._recorder.update(extensions=webui.extensions.states)
        if webui.extensions.broken and self._settings.preflight == "strict":
            self._refuse(f"broken extensions: {', '.join(sorted(webui.extensions.broken))}")

    def watch(self) -> Callable[[str], None]:
        """Return what reads the output of a new process, line by line."""
        on_fault = partial(self._calls.put, self.on_fault)
        self._faults = self.webui.watch(self._settings, on_fault)
        return self._faults.read_line

    def on_fault(self, fault: ExtensionFault) -> None:
        """Record an extension that failed, and that the WebUI goes on without."""
        changed = self.webui.with_broken(fault)
        if changed != self.webui:  # each start of the WebUI may report it again
            log_broken(fault, "the WebUI goes on without this part of it", level="warning")
            self.use(changed)

    def leave_culprit_out(self, exit_code: int) -> bool:
        """Leave out the extension that ended the WebUI before it answered; False where none did.

        The next start cannot end in the same way, so it is no use of RESTARTS.
        """
        if self._faults is None or _ANSWERS in self._recorder.state.seconds:
            return False
        fault = self._faults.find_culprit(exit_code)
        if not fault or fault.extension in self.webui.extensions.left_out:
            return False
        log_broken(fault, "it is left out: the WebUI starts again without it")
        self.use(self.webui.without(self._settings, fault))
        return True
