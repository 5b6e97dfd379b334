"""Counts the lines of its channel, and never forgets the count."""

from wit_world.exports import Lifecycle as Contract
from wit_world.exports.lifecycle import Health, HealthStatus, Next_Again, Next_Exit, Next_Wait
from wit_world.imports import channel, log, metric, state
from wit_world.imports.types import Outcome

# Most messages that one slice takes, and where the count lies in `state`, in decimal.
MESSAGES_MAX = 100
KEY = "lines"


class Lifecycle(Contract):
    """The interface that a daemon exports; there is one instance of it. `Err` that is raised is the error of a result."""

    def __init__(self):
        self.lines = 0

    def init(self):
        kept = state.get(KEY)
        self.lines = 0 if kept is None else int(kept)
        log.write(log.Level.INFO, f"going on from line {self.lines}")

    # One slice. Either all of it counts, what was received and what was written too, or nothing does.
    def run(self, wake):
        messages = channel.receive("lines", MESSAGES_MAX)
        # A line that is longer than a message may be comes in parts, and is one line all the same.
        begins = (channel.Part.WHOLE, channel.Part.FIRST)
        self.lines += sum(message.part in begins for message in messages)
        if messages:
            state.set(KEY, str(self.lines).encode())
            metric.gauge_set("lines", float(self.lines))
        return Next_Again() if len(messages) == MESSAGES_MAX else Next_Wait()

    def shutdown(self, deadline):
        return Next_Exit(Outcome(0, ""))

    def health_check(self):
        return Health(HealthStatus.HEALTHY, "", [])

    def metrics(self):
        return []
