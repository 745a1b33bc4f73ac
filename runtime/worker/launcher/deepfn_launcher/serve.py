"""The child's main loop: loads the model, answers calls, ends when the parent hangs up.

A process becomes a worker by ``main()``: a new interpreter, or a child that was forked
with the descriptors 0 to 6 and the environment in place. ``main`` is ``wire.adopt()``,
which concerns the process, then ``run(wire)``, which is the conversation, then ``finish``.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import queue
import signal
import sys
import threading
import time
from types import FrameType
from typing import Any, Callable, Dict, List, NoReturn, Optional

from . import answer, failure, jsonable, many, memory, trace
from . import wire as protocol
from .streams import Streams, flush
from .suspend import Tier
from .uploads import Uploads
from .wire import Broken, Frame, Wire
from .words import JSON_TYPE, Canceled, Failure, Model, Setup, Values

#: Loads the model that a Setup describes; raises Failure, or anything.
Load = Callable[[Setup], Model]

#: How long to wait until the caller's leaving is looked at again, in seconds, while an
#: import or a finalizer of the model runs, which must not be interrupted.
_PATIENCE = 0.02


def main() -> NoReturn:
    """Be a worker on the descriptors 3 to 6, and end the process."""
    try:
        wire = protocol.adopt()
    except Broken as exc:
        print(exc, file=sys.stderr)
        finish(2)
    finish(run(wire))


def run(wire: Wire, load: Optional[Load] = None) -> int:
    """Speak with the parent until it hangs up; return the status to end with.

    It is to be called on the main thread, which loads the model and, with one lane, runs
    it. The default of ``load`` is ``load.load``.
    """
    try:
        return _Server(wire, load).run()
    except Broken as exc:
        print(f"deepfn: the parent broke the protocol: {exc}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 0


def finish(status: int) -> NoReturn:
    """End the process: exit handlers and streams, but no wait for the module's threads."""
    import atexit

    try:
        atexit._run_exitfuncs()
    except BaseException:  # they print their traces themselves
        status = status or 1
    flush()
    os._exit(status)


def _status(exc: SystemExit) -> int:
    """Return the status that an interpreter which exits by exc ends with."""
    if exc.code is None:
        return 0
    return exc.code & 0xFF if isinstance(exc.code, int) else 1


def setup_of(told: Dict[str, Any]) -> Setup:
    """Return the Setup of the parent's JSON object; unknown members are left out."""
    known = {name: told[name] for name in Setup.__dataclass_fields__ if name in told}
    return Setup(**{"model": "", **known})


class _Server:
    """The state of run."""

    def __init__(self, wire: Wire, load: Optional[Load]) -> None:
        self._wire = wire
        self._pid = os.getpid()
        self._load = load
        self._model: Any = None
        self._tier: Any = None
        self._streams = Streams()
        self._main = threading.main_thread().ident or 0
        # What the signal handler looks at: whether the model runs on the main thread, and
        # for which call. Only with one lane.
        self._armed = False
        self._id = 0

    def run(self) -> int:
        signal.signal(signal.SIGUSR1, self._on_signal)
        self._wire.hello()
        start = self._wire.next()
        if start is None:
            return 0
        told = self._wire.open(start)
        try:
            info = self._start(setup_of(told))
            # What was imported and loaded stays. The collector need not go through it again,
            # which takes a tenth of a second with a large framework, in the midst of calls.
            gc.freeze()
            memory.keep_freed()
            self._streams.settle()
            self._wire.ready(info)
        except BaseException as exc:
            self._mine()
            failure.report(exc)
            said = self._start_failure(exc)
            del exc
            self._streams.settle()
            self._wire.failed(said)
            return 1
        if self._wire.lanes > 1:
            return self._serve_many()
        while True:
            call = self._wire.next()
            if call is None:
                return 0
            self._call(call, alone=True)

    def _start(self, setup: Setup) -> bytes:
        load = self._load
        if load is None:
            from . import load as loading

            load = loading.load
        self._model = load(setup)
        if setup.warm:
            try:
                self._model.warm()
            except Failure:
                raise
            except BaseException as exc:
                self._mine()
                failure.report(exc)
                said = failure.of(exc, "warm")
                raise Failure(said.code, f"warm: {said.msg}", status=said.status) from None
        about = self._model.describe()
        self._tier = Tier(self._model, setup.suspend)
        about["suspend"] = self._tier.way()
        return jsonable.dumps(about, "describe", "description").encode()

    @staticmethod
    def _start_failure(exc: BaseException) -> Failure:
        if isinstance(exc, SystemExit):
            said = failure.of(exc, "the model").msg
            return Failure("failed", f"Command exited abruptly during initialization: {said}.")
        return failure.of(exc, "loading the model")

    def _mine(self) -> None:
        """End a copy of the process that the model made by fork and did not end itself.

        It must neither answer in the place of its parent nor take the next call.
        """
        if os.getpid() != self._pid:
            flush()
            os._exit(0)

    def _serve_many(self) -> int:
        """Run calls on as many threads as there are lanes."""
        calls: queue.SimpleQueue[Optional[Frame]] = queue.SimpleQueue()

        def work() -> None:
            while True:
                call = calls.get()
                if call is None:
                    return
                try:
                    self._call(call, alone=False)
                except (Broken, OSError) as exc:
                    # Answers cannot be sent any more, and nobody would wait for this thread.
                    print(f"deepfn: {exc}", file=sys.stderr)
                    os._exit(1)

        threads: List[threading.Thread] = []
        for number in range(self._wire.lanes):
            thread = threading.Thread(target=work, name=f"deepfn-{number}", daemon=True)
            thread.start()
            threads.append(thread)
        while True:
            call = self._wire.next()
            if call is None:
                break
            calls.put(call)
        for _ in threads:
            calls.put(None)
        for thread in threads:
            thread.join()
        return 0

    def _call(self, call: Frame, alone: bool) -> None:
        """Run a call and answer it."""
        began = time.perf_counter_ns()
        verb, values = self._wire.request(call)
        store = Uploads()
        length = 0
        said: Optional[Failure] = None
        if alone:
            self._id = call.id
        try:
            # The inner block ends with a disarmed handler, whatever happens: from there on
            # a late signal finds nothing to do, and raises nowhere.
            try:
                self._armed = alone
                self._look(call)
                length = self._answer(call, verb, values, store)
            finally:
                if alone:
                    self._armed = False
        except Canceled:
            said = Failure("canceled", f"{verb} was ended because its caller has left")
        except BaseException as exc:
            self._mine()
            failure.report(exc)
            if alone and verb == "predict" and isinstance(exc, SystemExit) and self._model.exits:
                # No answer: by its end the parent knows that nothing more can be asked here.
                store.close()
                finish(_status(exc))
            said = failure.of(exc, verb)
        store.close()
        self._streams.settle()
        took = time.perf_counter_ns() - began
        if said is None:
            self._wire.result(call, length, took)
        else:
            self._wire.error(call, said, took)

    def _answer(self, call: Frame, verb: str, values: Values, store: Uploads) -> int:
        """Do what the verb says; return the length of the response in the lane."""
        model: Model = self._model
        if verb in ("predict", "train", "predict-many"):
            if self._tier.suspended:
                self._resume(call)
            if values.trace is None:
                told = self._run(call, verb, values, store)
            else:
                with trace.attached(values.trace):
                    told = self._run(call, verb, values, store)
        elif verb == "metadata":
            told = answer.Answer(JSON_TYPE, jsonable.dumps(model.metadata(), verb, verb).encode())
        elif verb in ("suspend", "resume"):
            self._armed = False  # neither is broken off
            told = answer.Answer(JSON_TYPE, b'{"host_bytes": %d}' % self._move(verb))
        elif verb == "parse-train":
            shown = model.shown(model.parse("train", values, store))
            told = answer.Answer(JSON_TYPE, jsonable.dumps(shown, verb, "args").encode())
        else:
            raise Failure("unsupported", f"the launcher knows no verb {verb!r}")
        try:
            return self._wire.put(
                call.lane, told.content_type, told.filename, told.whole, told.data
            )
        finally:
            told.close()

    def _run(self, call: Frame, verb: str, values: Values, store: Uploads) -> answer.Answer:
        """Have the model predict or train."""
        model: Model = self._model
        if verb == "predict-many":
            rows = many.Rows(model, self._wire.limit, lambda: self._look(call), self._mine)
            return rows.predict(values)
        made = model.parse(verb, values, store)
        result = model.run(verb, made)
        if os.getpid() != self._pid:
            self._mine()
        return answer.encode(result, made, model, verb)

    def _move(self, verb: str) -> int:
        """Suspend or resume; return the bytes of the host's memory that the model takes."""
        host = 0
        if verb == "suspend":
            host = self._tier.suspend()
        else:
            self._tier.resume()
        if os.getpid() != self._pid:
            self._mine()
        return host

    def _resume(self, call: Frame) -> None:
        """Bring a model back that is called while it is suspended.

        That is not broken off; who has left meanwhile is noticed afterwards.
        """
        armed, self._armed = self._armed, False
        try:
            self._tier.resume()
        except Failure as exc:
            msg = f"the model is suspended and could not be resumed: {exc.msg}"
            raise Failure("unavailable", msg) from None
        self._armed = armed
        self._look(call)

    def _look(self, call: Frame) -> None:
        """Raise Canceled if the caller has left."""
        if self._wire.canceled(call.lane) == call.id:
            raise Canceled

    def _again(self, number: int) -> None:
        """Send the signal once more, some time later."""
        time.sleep(_PATIENCE)
        signal.pthread_kill(self._main, number)

    def _on_signal(self, number: int, frame: Optional[FrameType]) -> None:
        """End the running call, if it is the one whose caller has left.

        Python runs this between two steps of the main thread. Threads are not interrupted.
        """
        if not self._armed or self._wire.canceled(0) != self._id:
            return
        if _fragile(frame):
            # Not by threading: its locks are not reentrant, and the main thread may hold one
            # of them here. A thread that waits all the time would be there when the model
            # forks, which Python warns of.
            with contextlib.suppress(RuntimeError):  # there are too many threads
                _thread.start_new_thread(self._again, (number,))
            return
        self._armed = False
        raise Canceled


def _fragile(frame: Optional[FrameType]) -> bool:
    """Whether an exception at frame would do lasting harm, or be lost.

    An import that is broken off leaves half a package behind, which makes each later one
    fail; what a finalizer raises is only printed.
    """
    while frame is not None:
        code = frame.f_code
        if code.co_filename.startswith("<frozen importlib") or code.co_name == "__del__":
            return True
        frame = frame.f_back
    return False
