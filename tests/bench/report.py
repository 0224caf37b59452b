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


def times(figure, ours, cell):
    found = judge.ratio(figure, ours, cell)
    return f"{found:.2f}x" if found else "-"


def words(figure, cell, ours):
    """`ours`: the cells that it is compared with."""
    if cell.refused:
        return "-"
    text = number(figure, cell.median)
    if (within := spread(figure, cell)):
        text += f" ({within})"
    if ours and not any(cell is own for own in ours):
        text += f" **{' / '.join(times(figure, own, cell) for own in ours)}**"
    return text


def own(systems):
    """What peers are compared with: the first system, and all others that are Starling."""
    return [system.name for system in systems if system is systems[0] or system.name.startswith("starling")]


def markdown(figures, systems, runs):
    """One line per figure, one column per system; ratios say how many times better each of our own is."""
    table = cells(figures, runs)
    lines = ["| median (lowest to highest) | " + " | ".join(system.title for system in systems) + " |",
             "|---|" + "---|" * len(systems),
             "| an acknowledgement means | " + " | ".join(system.promise for system in systems) + " |"]
    for figure in figures:
        ours = [table[figure, name] for name in own(systems)]
        row = [words(figure, table[figure, system.name], ours) for system in systems]
        lines.append(f"| {figure.title} | " + " | ".join(row) + " |")
    return "\n".join(lines)


def text(figures, systems, runs):
    table = cells(figures, runs)
    lines = []
    for figure in figures:
        ours = [table[figure, name] for name in own(systems)]
        lines.append(figure.title)
        for system in systems:
            cell = table[figure, system.name]
            shown = words(figure, cell, ours).replace("**", "")
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
