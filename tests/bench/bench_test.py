#!/usr/bin/env python3
"""What the benchmark must refuse, shown to it: made-up results, and runs against a broker that loses messages."""
import copy
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree

import instructions
import judge
import plots
import report
import scenarios
import systems

BROKER = pathlib.Path(__file__).with_name("broker.py")

GOOD = {"scenario": "pairs", "users": 200, "rate": 0, "in_flight": 16, "payload": 100, "seconds": 3.0,
        "deliveries_per_s": 30000.0, "end_to_end_us": {"p50": 900, "p99": 2500}, "lag_us": {"p99": 300},
        "lost": 0, "altered": 0, "errors": {}, "cores": 2, "own_busy_percent": 50, "others_cpu_percent": 1,
        "nodes": [{"busiest_thread_percent": 60, "wanted_percent": 80}]}


def changed(**fields):
    return {**copy.deepcopy(GOOD), **fields}


class Judge(unittest.TestCase):
    def only(self, result, word, paced=False, seconds=3):
        faults = judge.faults(result, paced, seconds)
        self.assertEqual(len(faults), 1, faults)
        self.assertIn(word, faults[0])

    def test_takes_a_good_result(self):
        self.assertEqual(judge.faults(GOOD, True, 3), [])

    def test_refuses_lost_messages(self):
        self.only(changed(lost=1), "lost: 1")

    def test_refuses_altered_messages(self):
        self.only(changed(altered=2), "altered: 2")

    def test_refuses_errors_and_names_them(self):
        self.only(changed(errors={"overloaded": 3}), "errors: 3 x overloaded")
        self.only(changed(reconnects=1), "connections broke")

    def test_refuses_a_scenario_that_did_not_come_to_its_end(self):
        self.only(changed(failed="storing: nothing happened any more"), "storing")

    def test_refuses_logins_of_a_few(self):
        self.only(changed(users=1000, logins=5000, users_who_came=32), "only 32 of 1000 users")
        self.assertEqual(judge.faults(changed(users=1000, logins=900, users_who_came=900), False, 3), [])

    def test_refuses_memory_that_was_given_back(self):
        self.only(changed(node_bytes_per_connection=-5260.0), "given back")

    def test_refuses_a_part_of_the_measured_time(self):
        self.only(changed(seconds=1.0), "1.0 s instead of 3 s")

    def test_refuses_a_busy_client_while_the_server_had_time(self):
        self.only(changed(own_busy_percent=97), "the client was the bottleneck")

    def test_judges_storing_and_draining_each_by_itself(self):
        idle, busy = dict(GOOD), changed(own_busy_percent=97)
        self.assertEqual(judge.faults(changed(storing=idle), False), [])
        for result, words in ((changed(storing=busy), "while storing"), (busy | {"storing": idle}, "while draining")):
            self.assertEqual([words in fault for fault in judge.faults(result, False)], [True])
        self.assertEqual(judge.preliminary([(changed(storing=changed(others_cpu_percent=120)), [])]), 120)

    def test_takes_a_busy_client_of_a_server_at_its_limit(self):
        for node in ({"busiest_thread_percent": 95, "wanted_percent": 95},
                     {"busiest_thread_percent": 40, "wanted_percent": 110}):
            self.assertEqual(judge.faults(changed(own_busy_percent=97, nodes=[node]), False, 3), [])

    def test_refuses_a_client_that_sends_late_where_latency_counts(self):
        late = changed(lag_us={"p99": 6000}, end_to_end_us={"p50": 900, "p99": 8000})
        self.only(late, "late by 6.0 ms", paced=True)
        self.assertEqual(judge.faults(late, False, 3), [])

    def test_sees_that_two_results_are_of_other_definitions(self):
        self.assertEqual(judge.differences(GOOD, changed(payload=10)), ["payload: 100 and 10"])
        self.assertEqual(judge.differences(GOOD, GOOD), [])

    def test_refuses_results_of_other_definitions(self):
        runs = {"ours": {"pairs": [(GOOD, [])]}, "theirs": {"pairs": [(GOOD, []), (changed(rate=5), [])]}}
        for _ in range(2):  # Once is enough.
            judge.refuse_other_definitions(runs, "ours")
        self.assertEqual([reasons for _, reasons in runs["theirs"]["pairs"]], [[], ["another definition: rate: 0 and 5"]])
        self.assertEqual(runs["ours"]["pairs"][0][1], [])

    def test_calls_figures_of_a_busy_machine_preliminary(self):
        busy = changed(others_cpu_percent=120)
        self.assertIsNone(judge.preliminary([(GOOD, []), (GOOD, []), (busy, [])]))
        self.assertEqual(judge.preliminary([(GOOD, []), (busy, []), (busy, [])]), 120)
        self.assertEqual(judge.preliminary([(busy, [])]), 120)


class Report(unittest.TestCase):
    figure = scenarios.Figure("pairs", "delivered", ("deliveries_per_s",), "/s")
    latency = scenarios.Figure("pairs", "p99", ("end_to_end_us", "p99"), "ms", True)

    def cells(self, figure, ours, theirs):
        runs = {"ours": {"pairs": ours}, "theirs": {"pairs": theirs}}
        table = report.cells([figure], runs)
        return table[figure, "ours"], table[figure, "theirs"]

    def test_one_refused_repetition_refuses_the_figure(self):
        ours, theirs = self.cells(self.figure, [(GOOD, [])] * 2, [(GOOD, []), (changed(lost=1), ["lost: 1"])])
        self.assertIsNone(theirs.median)
        self.assertIsNone(judge.ratio(self.figure, ours, theirs))
        self.assertEqual(report.words(self.figure, theirs, [ours]), "-")

    def test_ratios_say_how_many_times_better_we_are(self):
        ours, theirs = self.cells(self.figure, [(GOOD, [])], [(changed(deliveries_per_s=10000.0), [])])
        self.assertAlmostEqual(judge.ratio(self.figure, ours, theirs), 3)
        slower = changed(end_to_end_us={"p50": 1, "p99": 5000})
        ours, theirs = self.cells(self.latency, [(GOOD, [])], [(slower, [])])
        self.assertAlmostEqual(judge.ratio(self.latency, ours, theirs), 2)

    def test_ratios_of_all_that_is_ours(self):
        kinds = [type("Kind", (), {"name": name, "title": name, "promise": ""}) for name in ("starling3", "starling1", "peer")]
        runs = {kind.name: {"pairs": [(changed(deliveries_per_s=value), [])]}
                for kind, value in zip(kinds, (30000.0, 40000.0, 20000.0))}
        self.assertIn("| 30,000 | 40,000 | 20,000 **1.50x / 2.00x** |", report.markdown([self.figure], kinds, runs))

    def test_the_median_and_the_spread_of_repetitions(self):
        taken = [(changed(deliveries_per_s=value), []) for value in (30.0, 10.0, 20.0)]
        ours, _ = self.cells(self.figure, taken, taken)
        self.assertEqual((ours.median, ours.spread), (20.0, (10.0, 30.0)))

    def test_plots_are_well_formed(self):
        svg = plots.plot("a < b", "x", "y", [("one, p50", [(1, 2.5), (100, 40)], False), ("two", [], True)])
        self.assertIn("polyline", svg)
        xml.etree.ElementTree.fromstring(svg)
        self.assertIsNone(plots.plot("nothing", "x", "y", [("one", [], False)]))


class Instructions(unittest.TestCase):
    def test_more_than_the_tolerance_is_a_failure(self):
        lines, worse = instructions.compare({"hlc": 1000}, {"hlc": 1051})
        self.assertTrue(worse)
        self.assertIn("MORE", lines[0])
        self.assertFalse(instructions.compare({"hlc": 1000}, {"hlc": 1049})[1])

    def test_of_other_libraries_more_is_tolerated_but_not_anything(self):
        wide = instructions.TOLERANCE_OTHER_LIBRARIES
        self.assertEqual([instructions.compare({"a": 1000}, {"a": now}, wide)[1] for now in (1200, 1300)], [False, True])

    def test_fewer_are_only_said(self):
        lines, worse = instructions.compare({"hlc": 1000}, {"hlc": 900})
        self.assertFalse(worse)
        self.assertIn("--record", lines[0])

    def test_what_is_not_recorded_or_gone_is_a_failure(self):
        self.assertTrue(instructions.compare({}, {"new": 1})[1])
        self.assertTrue(instructions.compare({"old": 1}, {})[1])


class Load(unittest.TestCase):
    """mqtt_load itself, against a broker of ours."""

    def load(self, words, broker=()):
        server = subprocess.Popen([sys.executable, str(BROKER), *broker], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        try:
            port = server.stdout.readline().strip()
            done = subprocess.run([os.environ["MQTT_LOAD"], *words, "--server", f"127.0.0.1:{port}", "--pid",
                                   str(server.pid), "--warm-up", "0.2", "--duration", "1", "--patience", "3"],
                                  capture_output=True, text=True, timeout=60)
            self.assertTrue(done.stdout, done.stderr)
            return json.loads(done.stdout)
        finally:
            server.stdin.close()
            server.wait(10)
            server.stdout.close()

    def test_counts_every_delivery(self):
        result = self.load(["pairs", "--users", "10", "--in-flight", "2"])
        self.assertGreater(result["delivered"], 0)
        self.assertEqual((result["lost"], result["altered"], result["errors"]), (0, 0, {}))
        self.assertEqual(result["delivered"], result["acked"])
        group = self.load(["group", "--users", "10", "--posters", "2", "--rate", "100"])
        self.assertEqual(group["delivered"], group["acked"] * 10)

    def test_a_run_with_loss_is_refused(self):
        faults = judge.faults(self.load(["pairs", "--users", "10", "--rate", "200"], ["--lose", "20"]), False)
        self.assertTrue(any("lost" in fault for fault in faults), faults)

    def test_a_run_with_altered_bytes_is_refused(self):
        faults = judge.faults(self.load(["pairs", "--users", "10", "--rate", "200"], ["--alter", "20"]), False)
        self.assertTrue(any("altered" in fault for fault in faults), faults)

    def test_a_client_that_burns_its_time_is_refused(self):
        faults = judge.faults(self.load(["pairs", "--users", "10", "--in-flight", "2", "--client-burn", "20000"]), False)
        self.assertTrue(any("the client was the bottleneck" in fault for fault in faults), faults)


class Own(unittest.TestCase):
    """starling bench itself, against a node of ours."""

    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="starling-bench-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        cls.cluster("up", "1")
        cls.addClassCleanup(cls.cluster, "down", "--wipe")

    @classmethod
    def cluster(cls, *words):
        subprocess.run([str(systems.ROOT / "scripts/cluster"), "--dir", f"{cls.folder}/c", *words], check=True,
                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)

    def load(self, *words, code=0, duration=1):
        done = subprocess.run([os.environ["STARLING"], "bench", *map(str, words), "--cluster", f"{self.folder}/c", "--json",
                               "--warm-up", "0.2", "--duration", str(duration), "--patience", "3"],
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, code, done.stderr)
        return json.loads(done.stdout)

    def test_all_that_was_written_is_counted_where_it_arrives(self):
        for words in (["--in-flight", 2], ["--rate", 200]):
            pairs = self.load("pairs", "--users", 10, *words)
            self.assertGreater(pairs["acked"], 0)
            self.assertEqual((pairs["delivered"], pairs["lost"], pairs["errors"]), (pairs["acked"], 0, {}))
        group = self.load("group", "--users", 10, "--posters", 2, "--rate", 100)
        self.assertGreater(group["acked"], 0)
        self.assertEqual((group["delivered"], group["lost"]), (10 * group["acked"], 0))
        offline = self.load("offline", "--users", 10, "--messages", 5, "--writers", 2)
        self.assertEqual((offline["stored"], offline["delivered"], offline["lost"]), (50, 50, 0))
        self.assertEqual(len(offline["storing"]["nodes"]), len(offline["nodes"]))
        crowd = self.load("crowd", "--users", 50, "--online", 10, "--rate", 50, "--session", 1)
        self.assertGreater(crowd["came"], 0)
        self.assertEqual((crowd["delivered"], crowd["lost"], crowd["errors"]), (crowd["acked"], 0, {}))

    def test_a_burst_is_served_to_the_last_message(self):
        burst = self.load("pairs", "--users", 10, "--rate", 100, "--burst", 10, "--burst-for", 1, duration=3)
        self.assertEqual((burst["delivered"], burst["lost"], burst["errors"]), (burst["acked"], 0, {}))
        self.assertGreater(max(row["acked"] for row in burst["series"]), 500)
        self.assertIn("recovered_s", burst)   # -1: not within these seconds. What counts as recovered: tests/node/series_test.cc.

    def test_a_long_run_tells_of_its_stores_row_by_row(self):
        done = subprocess.run([sys.executable, str(BROKER.with_name("long_run.py")), "--nodes", "1", "--users", "10", "--rate", "200",
                               "--duration", "4", "--every", "2", "--patience", "3", "--json"], env=os.environ,
                              stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
        result = json.loads(done.stdout)
        self.assertEqual(done.returncode, 1 if result["refused"] else 0, done.stderr)
        self.assertEqual((result["lost"], result["errors"]), (0, {}))
        self.assertGreaterEqual(len(result["series"]), 2)
        self.assertTrue(all({"level0_files", "debt_bytes", "pace_s"} <= row.keys() for row in result["series"][:2]), result["series"])
        self.assertGreater(result["written_bytes"], 0)
        self.assertGreaterEqual(result["write_amplification"], 1)

    def test_all_of_the_users_connect(self):
        self.assertEqual(self.load("idle", "--users", 50)["connections"], 50)
        logins = self.load("connect", "--users", 20, "--in-flight", 2)
        self.assertGreater(logins["logins"], 20)
        self.assertEqual(logins["users_who_came"], 20)

    def test_a_client_that_burns_its_time_is_refused(self):
        burnt = self.load("pairs", "--users", 10, "--in-flight", 2, "--client-burn", 20000)
        self.assertTrue(any("the client was the bottleneck" in fault for fault in judge.faults(burnt, False)), burnt)


if __name__ == "__main__":
    unittest.main()
