"""Counts the lines of its channel, and never forgets the count."""

from wit_world.exports import Lifecycle as Contract
from wit_world.exports.lifecycle import Health, HealthStatus, Next_Again, Next_Exit, Next_Wait
from wit_world.imports import channel, log, metric, state
from wit_world.imports.types import Outcome

# Most messages that one slice takes, and where the count lies in `state`, in decimal.
MESSAGES_MAX = 100
KEY = "lines"

# Not in `self`: componentize-py 0.25 makes an instance of the class for each function of it.
lines = 0


class Lifecycle(Contract):
    """The interface that a daemon exports. An `Err` that is raised is the error of a result."""

    def init(self):
        global lines
        kept = state.get(KEY)
        lines = 0 if kept is None else int(kept)
        log.write(log.Level.INFO, f"going on from line {lines}")

    # One slice. Either all of it counts, what was received and what was written too, or nothing does.
    def run(self, wake):
        global lines
        messages = channel.receive("lines", MESSAGES_MAX)
        # A line that is longer than a message may be comes in parts, and is one line all the same.
        begins = (channel.Part.WHOLE, channel.Part.FIRST)
        lines += sum(message.part in begins for message in messages)
        if messages:
            state.set(KEY, str(lines).encode())
            metric.gauge_set("lines", float(lines))
        return Next_Again() if len(messages) == MESSAGES_MAX else Next_Wait()

    def shutdown(self, deadline):
        return Next_Exit(Outcome(0, ""))

    def health_check(self):
        return Health(HealthStatus.HEALTHY, "", [])

    def metrics(self):
        return []
