// The page: cards in a grid, sorted and filtered; each draws itself when it comes near the window.

const THUMB_PIXELS = 200;

const data = JSON.parse(document.getElementById("data").textContent);
const colours = bytes(data.colours), cover = bytes(data.cover);
const at = (id) => document.getElementById(id);
const decimal = (value) => value === null ? "not a number" : value.toFixed(3);
const collator = new Intl.Collator(undefined, { numeric: true });

for (const picture of data.pictures) {
  picture.scene = `data:image/jpeg;base64,${picture.scene}`;
  for (const map of picture.maps) map.cells = bytes(map.cells);
}

const draw = (canvas, map, size, kind) => kind === "heatmap"
  ? paint(canvas, map.cells, map.grid, ...size, colours)
  : paint(canvas, map.cells, map.grid, ...size, cover, data.outlines);

// One entry a picture: `map` is the one of the class that the page shows.
const entries = data.pictures.map((picture, position) => ({ picture, position, map: picture.maps[0], card: null }));
let shown = entries;

const card = (entry) => {
  const [width, height] = fit(entry.picture.size, 100);
  const image = element("img", { alt: "", decoding: "async" }), canvas = element("canvas");
  const frame = element("span", {}, image, canvas);
  Object.assign(frame.style, { width: `${width}%`, height: `${height}%` });
  const label = element("b"), score = element("b"), name = element("span", { title: entry.picture.name }, element("bdi", {}, entry.picture.name.split(/[\\/]/).at(-1)));
  const peak = element("span");
  const caption = element("span", { className: "caption" }, label, score, name, peak);
  const button = element("button", { type: "button", className: "card", tabIndex: -1 }, element("span", { className: "thumb" }, frame), caption);
  button.addEventListener("click", () => opened.open(entry));
  return { item: element("li", {}, button), button, image, canvas, label, score, peak };
};

const caption = ({ map, card }) => {
  card.label.replaceChildren(element("bdi", { title: map.label }, map.label));
  card.score.textContent = decimal(map.score);
  card.peak.textContent = map.empty ? "empty" : `peak ${short(map.peak)}`;
  card.peak.className = map.empty ? "none" : "";
};

const byItem = new Map();
const near = new IntersectionObserver((seen) => {
  for (const { target } of seen.filter(({ isIntersecting }) => isIntersecting)) {
    const { card, picture, map } = byItem.get(target);
    near.unobserve(target);
    card.image.src = picture.scene;
    draw(card.canvas, map, fit(picture.size, THUMB_PIXELS), "overlay");
  }
}, { rootMargin: "500px" });

const watch = () => {
  near.disconnect();
  for (const { card } of entries) near.observe(card.item);
};

const number = (id) => at(id).value === "" ? null : Number(at(id).value);
const within = (value, low, high) =>
  (low === null && high === null) || (value !== null && (low === null || value >= low) && (high === null || value <= high));

const passes = () => {
  const words = at("words").value.toLocaleLowerCase(), label = at("label").value;
  const score = [number("score-from"), number("score-to")], peak = [number("peak-from"), number("peak-to")];
  return ({ picture, map }) =>
    (label === "" || map.index === Number(label)) &&
    within(map.score, ...score) && within(map.peak, ...peak) &&
    (words === "" || picture.name.toLocaleLowerCase().includes(words) || map.label.toLocaleLowerCase().includes(words));
};

const inOrder = (wanted) => {
  const text = { name: ({ picture }) => picture.name, label: ({ map }) => map.label }[wanted];
  if (text) return (one, other) => collator.compare(text(one), text(other)) || one.position - other.position;
  if (wanted === "given") return (one, other) => one.position - other.position;
  const descending = wanted.startsWith("-"), key = descending ? wanted.slice(1) : wanted;
  const value = ({ map }) => map[key] ?? (descending ? -Infinity : Infinity);
  return (one, other) => (descending ? -1 : 1) * Math.sign(value(one) - value(other)) || one.position - other.position;
};

let drawing = 0;
const apply = () => {
  shown = entries.filter(passes()).sort(inOrder(at("sort").value));
  at("cards").replaceChildren(...shown.map(({ card }) => card.item));
  at("nothing").hidden = shown.length > 0;
  at("count").textContent = `${shown.length} of ${plural(entries.length, "image")}`;
  reach(shown[0]);
  cancelAnimationFrame(drawing);
  drawing = requestAnimationFrame(summarize);
};

const summarize = () => {
  const values = (list, key) => list.map(({ map }) => map[key]).filter((value) => value !== null);
  const [scores, peaks] = [values(entries, "score"), values(entries, "peak")];
  histogram(at("scores"), "Scores", scores, values(shown, "score"), unit(scores));
  histogram(at("peaks"), "Peaks", peaks, values(shown, "peak"), range(peaks));
  scatter(at("scatter"), shown, unit(scores), range(peaks), (entry) => opened.open(entry));
  means(at("means").querySelector(".means"), shown, data.aspect, colours);
};

// The labels of the class shown, each with its number of images.
const offerLabels = () => {
  const counts = new Map();
  for (const { map } of entries) counts.set(map.index, { label: map.label, count: (counts.get(map.index)?.count ?? 0) + 1 });
  const sorted = [...counts].sort(([, one], [, other]) => collator.compare(one.label, other.label));
  at("label").replaceChildren(new Option("all", ""), ...sorted.map(([index, { label, count }]) => new Option(`${label} (${count})`, index)));
};

const showRank = (rank) => {
  for (const entry of entries) {
    entry.map = entry.picture.maps[Math.min(rank, entry.picture.maps.length - 1)];
    caption(entry);
  }
  offerLabels();
  watch();
  apply();
};

// The grid is one stop of the tab key; arrows go from card to card.
let reached = null;
const reach = (entry) => {
  if (reached) reached.card.button.tabIndex = -1;
  reached = entry;
  if (entry) entry.card.button.tabIndex = 0;
};

const columns = () => getComputedStyle(at("cards")).gridTemplateColumns.split(" ").length;

const walk = (event) => {
  const from = shown.findIndex(({ card }) => card.button === event.target);
  const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns(), ArrowDown: columns(), Home: -from, End: shown.length - 1 - from };
  const to = shown[from + steps[event.key]];
  if (from < 0 || !to || event.altKey || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  reach(to);
  to.card.button.focus();
};

const setOpacity = (percent) => {
  document.documentElement.style.setProperty("--alpha", percent / 100);
  for (const slider of [at("alpha"), at("opened-alpha")]) {
    slider.value = percent;
    slider.nextElementSibling.value = `${percent} %`;
  }
};

const tellFailures = () => {
  at("failures").hidden = data.failures.length === 0;
  at("failures").querySelector("summary").textContent = `${plural(data.failures.length, "image")} failed`;
  at("failures").querySelector("tbody").replaceChildren(...data.failures.map(({ name, message }) =>
    element("tr", {}, element("td", {}, element("bdi", {}, name)), element("td", {}, element("bdi", {}, message)))));
};

const opened = new Opened(document.querySelector("dialog"), {
  draw,
  neighbours: () => shown,
  closed: (entry) => {
    if (!entry.card.item.isConnected) return;
    reach(entry);
    entry.card.button.focus();
  },
});

for (const entry of entries) {
  entry.card = card(entry);
  byItem.set(entry.card.item, entry);
}
tellFailures();
const [first, last, ...ends] = data.scale;
const ramp = Array.from({ length: 256 }, (_, index) => first + (last - first) * index / 255);
paint(document.querySelector(".scale canvas"), ramp, [1, 256], 256, 1, colours);
document.querySelectorAll(".scale span").forEach((word, index) => { word.textContent = ends[index]; });
document.querySelector(".empty").textContent = data.empty;
document.body.classList.toggle("grey", data.grey);
for (const slider of [at("alpha"), at("opened-alpha")]) slider.addEventListener("input", () => setOpacity(slider.value));
setOpacity(Math.round(100 * data.alpha));

const most = Math.max(1, ...data.pictures.map(({ maps }) => maps.length));
at("ranks").hidden = most === 1;
at("rank").append(...Array.from({ length: most }, (_, rank) => new Option(rank === 0 ? "best" : `number ${rank + 1}`, rank)));
at("rank").addEventListener("change", () => showRank(Number(at("rank").value)));

const controls = at("controls");
controls.addEventListener("submit", (event) => event.preventDefault());
// Not on "change": a click on a card takes the focus from a field, and a card that moves meanwhile is not clicked.
at("filters").addEventListener("input", (event) => { if (event.target.id !== "rank") apply(); });
// The form's fields are empty only after this event.
controls.addEventListener("reset", () => setTimeout(() => { setOpacity(Math.round(100 * data.alpha)); showRank(0); }));
at("cards").addEventListener("keydown", walk);

const wide = matchMedia("(min-width: 800px)");
const unfold = () => { at("filters").open = wide.matches; };
wide.addEventListener("change", unfold);
unfold();
showRank(0);
