// The summary: histograms and a scatter plot in SVG, mean heatmaps on canvases. Text goes in as text, never as markup.

const element = (name, properties = {}, ...children) => {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
};

const svg = (name, attributes, ...children) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
};

const PLOT = { width: 360, height: 150, left: 34, right: 8, top: 8, bottom: 22 };
const MEANS = 40;

const short = (value) => value === null ? "not a number" : String(Number(value.toPrecision(3)));
const plural = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

// The ends of an axis: 0..1 holds every probability; other values get their own range, zero included.
const range = (values) => values.reduce(([low, high], value) => [Math.min(low, value), Math.max(high, value)], [0, 0]);
const unit = (values) => {
  const [low, high] = range(values);
  return low >= 0 && high <= 1 ? [0, 1] : [low, high];
};

const frame = (figure, words, low, high, top, ...marks) => {
  const { width, height, left, right, bottom } = PLOT, base = height - bottom;
  figure.querySelector("svg")?.remove();
  figure.append(svg("svg", { viewBox: `0 0 ${width} ${height}`, role: "img", "aria-label": words },
    svg("line", { x1: left, x2: width - right, y1: base, y2: base }),
    ...marks,
    svg("text", { x: left, y: height - 6 }, short(low)),
    svg("text", { x: width - right, y: height - 6, "text-anchor": "end" }, short(high)),
    svg("text", { x: left - 6, y: PLOT.top + 9, "text-anchor": "end" }, top),
    svg("text", { x: left - 6, y: base, "text-anchor": "end" }, "0")));
};

// How many of all images, and of those shown, have a value in each of 20 equal parts of the range.
const histogram = (figure, what, all, shown, [low, high]) => {
  const BINS = 20, { width, height, left, right, top, bottom } = PLOT;
  const step = (width - left - right) / BINS, span = high - low || 1;
  const bin = (value) => Math.min(BINS - 1, Math.floor((value - low) / span * BINS));
  const count = (values) => values.reduce((counts, value) => (counts[bin(value)]++, counts), Array(BINS).fill(0));
  const totals = count(all), visible = count(shown), most = Math.max(1, ...totals);
  const bar = (kind, number, index) => svg("rect", {
    class: kind, x: left + index * step + 1, width: step - 2, rx: 1.5,
    y: height - bottom - (height - top - bottom) * number / most, height: (height - top - bottom) * number / most,
  }, svg("title", {}, `${short(low + index * span / BINS)}–${short(low + (index + 1) * span / BINS)}: ${visible[index]} of ${totals[index]}`));
  const sorted = shown.toSorted((one, other) => one - other);
  const words = sorted.length ? `from ${short(sorted[0])} to ${short(sorted.at(-1))}` : "none";
  frame(figure, `${what} of ${plural(shown.length, "image")}: ${words}`, low, high, String(most),
    ...totals.map((number, index) => bar("all", number, index)),
    ...visible.map((number, index) => bar("shown", number, index)));
};

const scatter = (figure, entries, [left, right], [low, high], open) => {
  const { width, height, bottom, top } = PLOT;
  const across = (score) => PLOT.left + (width - PLOT.left - PLOT.right) * (score - left) / (right - left || 1);
  const up = (peak) => height - bottom - (height - bottom - top) * (peak - low) / (high - low || 1);
  const points = entries.filter(({ map }) => map.score !== null && map.peak !== null).map((entry) => {
    const { map, picture } = entry, words = `${picture.name}: ${map.label}, score ${short(map.score)}, peak ${short(map.peak)}`;
    const point = svg("circle", { cx: across(map.score), cy: up(map.peak), r: 3.2 }, svg("title", {}, words));
    point.addEventListener("click", () => open(entry));
    return point;
  });
  frame(figure, `Peak against score of ${plural(points.length, "image")}`, left, right, short(high), ...points);
};

// Where a class's heatmaps lie on average, each map with the same weight; the classes of most images first.
const means = (holder, entries, aspect, colours) => {
  const sums = new Map();
  for (const { map } of entries) {
    const key = `${map.index} ${map.grid}`;
    if (!sums.has(key)) sums.set(key, { label: map.label, grid: map.grid, count: 0, cells: new Float64Array(map.cells.length) });
    const sum = sums.get(key);
    sum.count++;
    map.cells.forEach((value, index) => { sum.cells[index] += value; });
  }
  const classes = [...sums.values()].sort((one, other) => other.count - one.count);
  holder.replaceChildren(...classes.slice(0, MEANS).map(({ label, grid, count, cells }) => {
    const canvas = element("canvas", { role: "img", ariaLabel: `mean heatmap of ${label}` });
    paint(canvas, cells.map((sum) => sum / count), grid, ...fit([aspect, 1], 104), colours);
    return element("div", {}, canvas, element("span", { title: label }, element("bdi", {}, label)), element("small", {}, plural(count, "image")));
  }));
  if (classes.length > MEANS) holder.append(element("span", { className: "many" }, `and ${classes.length - MEANS} more`));
};
