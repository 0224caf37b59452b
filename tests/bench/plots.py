"""Line plots as SVG, without anything but the standard library."""
import html
import math

WIDTH, HEIGHT = 720, 420
LEFT, RIGHT, TOP, BOTTOM = 76, 200, 40, 56
COLOURS = ("#0b6e4f", "#72b01d", "#1f77b4", "#d1495b", "#8d6a9f", "#edae49")
NICE = (1, 2, 5)


def ticks(low, high):
    """Round numbers of a logarithmic axis, both ends covered."""
    out = []
    for power in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1):
        out += [nice * 10.0 ** power for nice in NICE]
    first = max(i for i, tick in enumerate(out) if tick <= low)
    last = min(i for i, tick in enumerate(out) if tick >= high)
    return out[first:max(last, first + 1) + 1]


def short(value):
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g}{unit}"
    return f"{value:g}"


class Axis:
    def __init__(self, values, begin, end):
        self.ticks = ticks(min(values), max(values))
        low, high = math.log10(self.ticks[0]), math.log10(self.ticks[-1])
        self.at = lambda value: begin + (math.log10(value) - low) / (high - low) * (end - begin)


def plot(title, x_title, y_title, lines):
    """`lines`: [(name, [(x, y), ...], dashed)]; both axes logarithmic. A name's colour is the same dashed or not."""
    points = [point for _, line, _ in lines for point in line if point[0] > 0 and point[1] > 0]
    if not points:
        return None
    x = Axis([point[0] for point in points], LEFT, WIDTH - RIGHT)
    y = Axis([point[1] for point in points], HEIGHT - BOTTOM, TOP)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" '
           f'viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{html.escape(title)}</text>']
    for tick in x.ticks:
        out.append(f'<line x1="{x.at(tick):.1f}" y1="{TOP}" x2="{x.at(tick):.1f}" y2="{HEIGHT - BOTTOM}" stroke="#ddd"/>')
        out.append(f'<text x="{x.at(tick):.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{short(tick)}</text>')
    for tick in y.ticks:
        out.append(f'<line x1="{LEFT}" y1="{y.at(tick):.1f}" x2="{WIDTH - RIGHT}" y2="{y.at(tick):.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y.at(tick) + 4:.1f}" text-anchor="end">{short(tick)}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    out.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{html.escape(x_title)}</text>')
    out.append(f'<text x="18" y="{middle}" text-anchor="middle" transform="rotate(-90 18 {middle})">{html.escape(y_title)}</text>')
    colours = {}
    for name, _, _ in lines:
        colours.setdefault(name.split(",")[0], COLOURS[len(colours) % len(COLOURS)])
    for row, (name, line, dashed) in enumerate(lines):
        colour = colours[name.split(",")[0]]
        dash = ' stroke-dasharray="5 4"' if dashed else ""
        line = [point for point in sorted(line) if point[0] > 0 and point[1] > 0]
        path = " ".join(f"{x.at(px):.1f},{y.at(py):.1f}" for px, py in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dash}/>')
        out += [f'<circle cx="{x.at(px):.1f}" cy="{y.at(py):.1f}" r="3" fill="{colour}"/>' for px, py in line]
        at = TOP + 8 + row * 20
        out.append(f'<line x1="{WIDTH - RIGHT + 12}" y1="{at}" x2="{WIDTH - RIGHT + 40}" y2="{at}" stroke="{colour}" '
                   f'stroke-width="2"{dash}/>')
        out.append(f'<text x="{WIDTH - RIGHT + 46}" y="{at + 4}">{html.escape(name)}</text>')
    return "\n".join(out + ["</svg>", ""])
