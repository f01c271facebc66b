"""How far two heatmaps lie apart, by plain loops over cells."""

import math

import numpy as np


def pearson_by_hand(first, second):
    a, b = first.ravel().tolist(), second.ravel().tolist()
    means = math.fsum(a) / len(a), math.fsum(b) / len(b)
    products = [(x - means[0]) * (y - means[1]) for x, y in zip(a, b, strict=True)]
    spreads = [math.fsum((x - mean) ** 2 for x in values) for values, mean in ((a, means[0]), (b, means[1]))]
    return math.fsum(products) / math.sqrt(spreads[0] * spreads[1])


def hottest_by_hand(heatmap):
    cells = [(float(value), place) for place, value in np.ndenumerate(heatmap)]
    coldest = sorted((value for value, _ in cells), reverse=True)[max(1, round(len(cells) / 5)) - 1]
    return {place for value, place in cells if value >= coldest and value > 0}


def iou_by_hand(first, second):
    one, other = hottest_by_hand(first), hottest_by_hand(second)
    return len(one & other) / len(one | other) if one | other else 1.0


def shift_by_hand(first, second, size):
    centres = []
    for heatmap in (first, second):
        mass = x = y = 0.0
        for row, values in enumerate(heatmap.tolist()):
            for column, value in enumerate(values):
                mass += value
                y += value * (row + 0.5) * size[0] / len(heatmap)
                x += value * (column + 0.5) * size[1] / len(values)
        centres.append((y / mass, x / mass) if mass else None)
    if None in centres:
        return 0.0 if centres == [None, None] else 1.0
    return math.dist(*centres) / math.hypot(*size)


def enlarged_by_hand(heatmap, grid):
    def places(cells, length, index):
        centre = min(max((index + 0.5) * cells / length - 0.5, 0.0), cells - 1.0)
        low = int(centre)
        return low, min(low + 1, cells - 1), centre - low

    enlarged = np.empty(grid)
    for row in range(grid[0]):
        top, bottom, down = places(heatmap.shape[0], grid[0], row)
        for column in range(grid[1]):
            left, right, along = places(heatmap.shape[1], grid[1], column)
            upper = heatmap[top, left] * (1 - along) + heatmap[top, right] * along
            lower = heatmap[bottom, left] * (1 - along) + heatmap[bottom, right] * along
            enlarged[row, column] = upper * (1 - down) + lower * down
    return enlarged
