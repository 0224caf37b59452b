"""The table, as text and as markdown."""
import judge


def number(figure, value):
    if value is None:
        return ""
    if figure.unit == "ms":
        return f"{value:.2f} ms" if value < 10 else f"{value:.0f} ms"
    if figure.unit == "B":
        return f"{value / 1000:.2f} KB"
    return f"{value:,.0f}"


def spread(figure, cell):
    if len(cell.values) < 2:
        return ""
    low, high = cell.spread
    return f"{number(figure, low)} to {number(figure, high)}"


def cells(figures, runs):
    """{(figure, system): Cell} from runs: {system: {scenario: [(result, reasons), ...]}}."""
    out = {}
    for figure in figures:
        for system, by_scenario in runs.items():
            taken = by_scenario.get(figure.scenario, [])
            refused = [reason for _, reasons in taken for reason in reasons]
            if not taken:
                refused = ["not run"]
            out[figure, system] = judge.Cell(figure, [result for result, _ in taken], refused)
    return out


def words(figure, cell, ours):
    if cell.refused:
        return "-"
    text = number(figure, cell.median)
    if (within := spread(figure, cell)):
        text += f" ({within})"
    if ours is not None and ours is not cell and (times := judge.ratio(figure, ours, cell)):
        text += f" **{times:.2f}x**"
    return text


def markdown(figures, systems, runs):
    """One line per figure, one column per system; ratios say how many times better the first system is."""
    table = cells(figures, runs)
    first = systems[0].name
    lines = ["| median (lowest to highest) | " + " | ".join(system.title for system in systems) + " |",
             "|---|" + "---|" * len(systems),
             "| an acknowledgement means | " + " | ".join(system.promise for system in systems) + " |"]
    for figure in figures:
        row = [words(figure, table[figure, system.name], table[figure, first]) for system in systems]
        lines.append(f"| {figure.title} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def text(figures, systems, runs):
    table = cells(figures, runs)
    first = systems[0].name
    lines = []
    for figure in figures:
        lines.append(figure.title)
        for system in systems:
            cell = table[figure, system.name]
            shown = words(figure, cell, table[figure, first]).replace("**", "")
            lines.append(f"    {system.title:<48} {shown}")
    return "\n".join(lines)


def refusals(runs):
    """[(system, scenario, reason)], each once."""
    seen = {}
    for system, by_scenario in runs.items():
        for scenario, taken in by_scenario.items():
            for _, reasons in taken:
                for reason in reasons:
                    seen[system, scenario, reason] = True
    return list(seen)
