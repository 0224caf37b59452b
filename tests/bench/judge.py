"""Which results may be compared: none with errors, with lost or altered messages, of another definition, or of a
client that was itself the bottleneck."""
import statistics

CLIENT_BUSY_PERCENT = 90    # Of the time its loop was not asleep.
SERVER_BUSY_PERCENT = 90    # A thread that ran or was ready to for so long is a server at its limit.
LAG_MIN_US = 2000           # Lag of the client below this is nobody's.
LAG_SHARE = 0.5             # Of the latency that is measured.
MEASURED_S_MIN = 0.01
MEASURED_MIN = 0.9          # Of the time that was asked for.
OTHERS_PERCENT = 20         # Of a core, taken by others: the figures are preliminary.

SAME = ("scenario", "payload", "users", "rate", "in_flight")


def faults(result, paced, seconds=None):
    """Why this result is no measurement; empty when it is one."""
    out = []
    if result.get("failed"):
        out.append(result["failed"])
    for name, count in sorted(result.get("errors", {}).items()):
        if count:
            out.append(f"errors: {count} x {name}")
    if result.get("lost"):
        out.append(f"lost: {result['lost']} acknowledged messages did not arrive")
    if result.get("altered"):
        out.append(f"altered: {result['altered']} messages arrived with other bytes")
    if result.get("reconnects"):
        out.append(f"errors: {result['reconnects']} connections broke")
    grown = result.get("node_bytes_per_connection", 1)
    if grown <= 0:
        out.append(f"memory was given back meanwhile: {grown:,.0f} bytes a connection")
    came = result.get("users_who_came")
    if came is not None and came < min(result["users"], result["logins"]):
        out.append(f"only {came} of {result['users']} users came, again and again")
    if seconds and result.get("seconds", 0) < seconds * MEASURED_MIN:
        out.append(f"measured for {result.get('seconds', 0):.1f} s instead of {seconds:g} s")
    return out + client_faults(result, paced)


def phases(result):
    """What was measured in it, one after the other, with the words for it."""
    return ([("", result)] if "storing" not in result else
            [(" while storing", result["storing"]), (" while draining", result)])


def client_faults(result, paced):
    out = []
    if result.get("seconds", 0) < MEASURED_S_MIN:
        return out  # Nothing was measured, and something else says why.
    for when, phase in phases(result):
        busy = phase.get("own_busy_percent", 0)
        if busy > CLIENT_BUSY_PERCENT and not server_busy(phase):
            out.append(f"the client was the bottleneck{when}: busy {busy:.0f} % of the time, "
                       f"the busiest server thread {busiest_thread(phase):.0f} %")
    lag = result.get("lag_us", {}).get("p99", 0)
    latency = result.get("end_to_end_us", {}).get("p99", 0)
    if paced and lag > max(LAG_MIN_US, latency * LAG_SHARE):
        out.append(f"the client was the bottleneck: its sends were late by {lag / 1000:.1f} ms (p99), "
                   f"of {latency / 1000:.1f} ms measured")
    return out


def busiest_thread(result):
    return max((node["busiest_thread_percent"] for node in result.get("nodes", [])), default=0)


def server_busy(result):
    """One thread at its limit, or all of them wanting what the client leaves of the machine."""
    wanted = sum(node["wanted_percent"] for node in result.get("nodes", []))
    left = max(1, result.get("cores", 1) - 1) * SERVER_BUSY_PERCENT
    return busiest_thread(result) >= SERVER_BUSY_PERCENT or wanted >= left


def differences(one, other):
    """In what two results were not the same scenario."""
    return [f"{key}: {one.get(key)} and {other.get(key)}" for key in SAME if one.get(key) != other.get(key)]


def refuse_other_definitions(runs, first):
    """Of {system: {scenario: [(result, reasons), ...]}}: adds the reason to those that differ from the first's."""
    for by_scenario in runs.values():
        for scenario, taken in by_scenario.items():
            ours = [result for result, _ in runs[first].get(scenario, []) if result]
            for result, reasons in taken:
                if ours and result:
                    reasons += [reason for difference in differences(ours[0], result)
                                if (reason := f"another definition: {difference}") not in reasons]


def preliminary(taken):
    """What others took of this machine in half of the runs of a figure or more, when it was too much; else None."""
    taken = [max(phase.get("others_cpu_percent", 0) for _, phase in phases(result)) for result, _ in taken if result]
    others = statistics.median(taken) if taken else 0
    return others if others > OTHERS_PERCENT else None


class Cell:
    """One figure of one system: its runs, or why there is nothing to compare."""

    def __init__(self, figure, results, refused):
        self.refused = refused
        self.values = [] if refused else [figure.of(result) for result in results]

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    @property
    def spread(self):
        return (min(self.values), max(self.values)) if self.values else None


def ratio(figure, ours, theirs):
    """How many times better ours is; None when one of them was refused or there is nothing to divide by."""
    if ours.median is None or theirs.median is None:
        return None
    over, under = (theirs.median, ours.median) if figure.less_is_better else (ours.median, theirs.median)
    return over / under if under > 0 and over > 0 else None
