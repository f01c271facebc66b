// The opened picture: image, heatmap or overlay, its classes, and the way to its neighbours.

const OPENED_PIXELS = 640;

class Opened {
  // `draw(canvas, map, size, kind)` paints a map as the overlay's layer, or alone where `kind` is "heatmap",
  // `neighbours()` gives the entries in the order they are shown,
  // `closed(entry)` is called with the last one opened.
  constructor(dialog, { draw, neighbours, closed }) {
    Object.assign(this, { dialog, draw, neighbours });
    this.find = (selector) => dialog.querySelector(selector);
    this.find("#previous").addEventListener("click", () => this.step(-1));
    this.find("#next").addEventListener("click", () => this.step(1));
    this.find("#close").addEventListener("click", () => dialog.close());
    dialog.addEventListener("click", (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener("close", () => closed(this.entry));
    dialog.addEventListener("keydown", (event) => this.pressed(event));
    for (const radio of dialog.querySelectorAll("[name=view]")) radio.addEventListener("change", () => this.view(radio.value));
  }

  open(entry) {
    this.entry = entry;
    const { picture, map } = entry, entries = this.neighbours(), position = entries.indexOf(entry);
    this.find(".stage").style.setProperty("--wide", picture.size[0] / picture.size[1]);
    const image = this.find(".stage img");
    image.src = picture.scene;
    image.alt = picture.name;
    this.find(".file bdi").textContent = picture.name;
    this.find("#position").textContent = position < 0 ? "" : `${position + 1} of ${entries.length}`;
    this.find("#previous").disabled = position <= 0;
    this.find("#next").disabled = position < 0 || position === entries.length - 1;
    this.explain(map);
    if (!this.dialog.open) {
      this.dialog.showModal();
      // Asked for by `autofocus`, Chromium would complain of it where the page is used before it is first drawn.
      this.find("#close").focus();
    }
    this.find(".sheet").scrollIntoView({ block: "start" });
  }

  // Show one class's heatmap of the opened picture.
  explain(map) {
    this.map = map;
    const { picture } = this.entry;
    this.find("#opened").replaceChildren(element("bdi", {}, map.label), element("span", {}, decimal(map.score)));
    this.find("canvas").ariaLabel = `heatmap of ${map.label}`;
    this.find(".empty").hidden = !map.empty;
    const facts = { "Peak": short(map.peak), "Class index": map.index, "Grid": map.grid.join(" × "), "Size": picture.size.join(" × ") };
    this.find("dl").replaceChildren(...Object.entries(facts).flatMap(([term, fact]) => [element("dt", {}, term), element("dd", {}, String(fact))]));
    this.find("#classes").replaceChildren(...this.rows());
    this.view(this.find("[name=view]:checked").value);
  }

  view(kind) {
    this.dialog.dataset.view = kind;
    this.find("#opened-alpha").disabled = kind !== "overlay";
    this.draw(this.find("canvas"), this.map, fit(this.entry.picture.size, OPENED_PIXELS), kind);
  }

  // The explained classes as buttons, then the other best ones.
  rows() {
    const { maps, top } = this.entry.picture, explained = new Set(maps.map((map) => map.label));
    const row = (name, properties, label, score) => {
      const fill = element("i");
      fill.style.width = `${100 * Math.min(Math.max(score ?? 0, 0), 1)}%`;
      return element(name, { className: "class", ...properties }, element("bdi", {}, label), element("span", { className: "track" }, fill), element("output", {}, decimal(score)));
    };
    const buttons = maps.map((map) => {
      if (maps.length === 1) return row("div", { className: "class chosen" }, map.label, map.score);
      const chosen = String(map === this.map);
      return row("button", { type: "button", ariaPressed: chosen, onclick: () => this.choose(map) }, map.label, map.score);
    });
    return [...buttons, ...top.filter(([label]) => !explained.has(label)).map(([label, score]) => row("div", {}, label, score))];
  }

  choose(map) {
    this.explain(map);
    this.find("[aria-pressed=true]").focus();
  }

  step(by) {
    const entries = this.neighbours(), entry = entries[entries.indexOf(this.entry) + by];
    if (entry && entries.includes(this.entry)) this.open(entry);
    // A button that was just disabled has lost the focus, and the keys with it.
    if (!this.dialog.contains(document.activeElement) || document.activeElement.disabled) this.find("#close").focus();
  }

  pressed(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || event.target.matches("input") || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.step(by);
  }
}
