"""What is measured, with the same words for every system, and which figures count."""
import dataclasses


@dataclasses.dataclass(frozen=True)
class Scenario:
    name: str
    words: tuple          # For `starling bench` and for mqtt_load.
    paced: bool = False   # Sends by a schedule: latencies count.


@dataclasses.dataclass(frozen=True)
class Figure:
    """A line of the table: one number of a scenario's result."""
    scenario: str
    title: str
    path: tuple
    unit: str
    less_is_better: bool = False

    def of(self, result):
        value = result
        for key in self.path:
            value = value[key]
        return float(value) / 1000 if self.unit == "ms" else float(value)


def scenarios(quick):
    group, away, idle = ("200", "200", "1000") if quick else ("1000", "1000", "3000")
    messages = "50" if quick else "100"
    return [
        # First, on a fresh system: what ends leaves memory behind that connections would use again.
        Scenario("idle", ("idle", "--users", idle)),
        Scenario("pairs", ("pairs", "--users", "200", "--in-flight", "16")),
        Scenario("pairs-2000", ("pairs", "--users", "200", "--rate", "2000"), paced=True),
        Scenario("offline", ("offline", "--users", away, "--messages", messages, "--writers", "10",
                             "--in-flight", "100")),
        Scenario("group", ("group", "--users", group, "--posters", "10", "--in-flight", "16")),
        Scenario("group-10", ("group", "--users", group, "--posters", "10", "--rate", "10"), paced=True),
        Scenario("connect", ("connect", "--users", away, "--in-flight", "32")),
    ]


def figures(quick):
    group = "200" if quick else "1,000"
    return [
        Figure("pairs", "user to user at saturation (200 users in pairs, 16 in flight each), delivered/s",
               ("deliveries_per_s",), "/s"),
        Figure("pairs-2000", "end to end at 2,000/s, p50", ("end_to_end_us", "p50"), "ms", True),
        Figure("pairs-2000", "end to end at 2,000/s, p99", ("end_to_end_us", "p99"), "ms", True),
        Figure("offline", f"store for {group} offline users, msg/s", ("stored_per_s",), "/s"),
        Figure("offline", "drain on reconnect, msg/s", ("drained_per_s",), "/s"),
        Figure("group", f"one group of {group} online at saturation, deliveries/s", ("deliveries_per_s",), "/s"),
        Figure("group-10", f"10 posts/s to {group} online, p50 of all deliveries", ("end_to_end_us", "p50"), "ms", True),
        Figure("group-10", f"10 posts/s to {group} online, p99 of all deliveries", ("end_to_end_us", "p99"), "ms", True),
        Figure("idle", "idle connection, memory of the nodes", ("node_bytes_per_connection",), "B", True),
        Figure("connect", "new connections/s", ("logins_per_s",), "/s"),
    ]


# For the plots.
RATES = (500, 1000, 2000, 4000, 8000, 16000)
IN_FLIGHT = (1, 2, 4, 8, 16, 32)
CONNECTIONS = (500, 1000, 2000, 4000)


def sweeps():
    return {
        # First, for the reason above.
        "connections": [(n, Scenario(f"{n} connections", ("idle", "--users", str(n)))) for n in CONNECTIONS],
        "rate": [(rate, Scenario(f"rate {rate}", ("pairs", "--users", "200", "--rate", str(rate)), paced=True))
                 for rate in RATES],
        "in-flight": [(n, Scenario(f"in flight {n}", ("pairs", "--users", "200", "--in-flight", str(n))))
                      for n in IN_FLIGHT],
    }
