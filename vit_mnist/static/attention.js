// <vit-attention>: what a Vision Transformer attends to, to be explored by hand.
//
// One file, two hosts. On any page the element finds its data in a JSON script inside it and needs no kernel and no
// network. In a notebook the same element is tied to the Python object (at the end).
// There is no build step: what you read is what runs.

const CIVIDIS = "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838";
const PURPLE_ORANGE = "2d004b 451871 5f3a91 7b6aa8 9990bf b7b1d5 cfcfe5 e4e5f0 f7f7f6 fce8cd fed59f fdbc6b ee9b39 d97b12 bd6109 9e4c07 7f3b08";

const STYLE = `
  /* The host page decides about text colour and background: everything here is mixed from them, so light and dark both work. */
  :host { display: block; container-type: inline-size; font: 14px/1.45 system-ui, sans-serif; max-width: 860px;
    --line: color-mix(in srgb, currentColor 22%, transparent); --soft: color-mix(in srgb, currentColor 9%, transparent);
    --quiet: color-mix(in srgb, currentColor 72%, transparent); --accent: #3b82f6; }
  :host([hidden]), [hidden] { display: none !important; }
  * { box-sizing: border-box; }
  .root { display: grid; gap: 12px; padding: 4px; }
  .title { font-weight: 600; overflow-wrap: anywhere; }
  .note { padding: 6px 10px; border-left: 3px solid var(--accent); background: var(--soft); }
  .strip { display: flex; gap: 6px; overflow-x: auto; padding: 3px; }
  .columns { display: grid; gap: 14px; }
  .stage { display: grid; grid-template-columns: 1fr 1fr; gap: 10px; align-items: start; }
  .wide .stage { grid-template-columns: 1fr; }
  figure { margin: 0; display: grid; gap: 4px; min-width: 0; }
  figcaption, .quiet { color: var(--quiet); font-size: 12.5px; }
  canvas { display: block; width: 100%; border-radius: 3px; }
  button canvas { margin: 0 auto; }
  .thumb canvas { image-rendering: pixelated; }
  .stage canvas { cursor: crosshair; touch-action: manipulation; }
  .label { min-height: 2.9em; }
  .waiting canvas { opacity: .45; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: 6px;
    padding: 3px 9px; min-height: 28px; cursor: pointer; }
  button:hover { background: var(--soft); }
  button[aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
  button:disabled, input:disabled { opacity: .4; cursor: default; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  .thumb { padding: 2px; flex: none; width: 50px; min-height: 0; font-size: 11px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .chips { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
  .controls { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: 6px 10px; align-items: center; }
  .controls output { min-width: 8ch; font-variant-numeric: tabular-nums; }
  input[type=range] { width: 100%; min-width: 0; margin: 0; min-height: 24px; accent-color: var(--accent); }
  .many { display: grid; grid-template-columns: repeat(auto-fill, minmax(68px, 1fr)); gap: 8px; align-items: end; }
  .wide .many { grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); }
  .many button { padding: 3px; display: block; width: 100%; font-size: 11.5px; line-height: 1.3; min-height: 0; }
  .many .switch { margin-top: 3px; border: 0; color: var(--quiet); min-height: 24px; }
  .many .off canvas { opacity: .15; }
  .bars { display: grid; gap: 2px; }
  .bar { display: grid; grid-template-columns: minmax(2ch, auto) 1fr 6ch; gap: 8px; align-items: center; text-align: left;
    border-color: transparent; padding: 0 6px; min-height: 24px; font-variant-numeric: tabular-nums; }
  .bar span:first-child { max-width: 9ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .bar span:last-child { text-align: right; }
  .bar.said { font-weight: 700; }
  .track { position: relative; height: 12px; background: var(--soft); border-radius: 2px; }
  .fill { height: 100%; background: var(--accent); border-radius: 2px; }
  .ghost { position: absolute; top: -3px; bottom: -3px; width: 2px; background: currentColor; }
  .legend { display: flex; align-items: center; gap: 6px; }
  .legend i { flex: 1; height: 8px; border-radius: 2px; max-width: 160px; }
  @container (min-width: 640px) { .columns { grid-template-columns: minmax(0, 5fr) minmax(0, 3fr); } }
`;

// ---- numbers and colours

const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)}\u00a0%`; // no line break before the sign
const number = (value) => (value === 0 ? "0" : Math.abs(value) >= 0.01 ? value.toFixed(2) : value.toExponential(0));
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const plain = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(); // its own memory, so that floats align
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const open = (image) => ({ shape: [...image.side, 1], drawing: true, ...image, pixels: bytes(image.pixels) }); // older data: digits
const key = ({ image, step, off }) => JSON.stringify([image, step, [...off].sort((a, b) => a[0] - b[0] || a[1] - b[1])]);

function palette(text) {
  const stops = text.split(" ").map((hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16)));
  const at = (t) => {
    const x = Math.min(Math.max(t, 0), 1) * (stops.length - 1), i = Math.min(Math.floor(x), stops.length - 2);
    return `rgb(${stops[i].map((v, j) => Math.round(v + (stops[i + 1][j] - v) * (x - i))).join(" ")})`;
  };
  at.css = `linear-gradient(to right, ${text.split(" ").map((hex) => "#" + hex).join(", ")})`;
  return at;
}
const sequential = palette(CIVIDIS), diverging = palette(PURPLE_ORANGE);

// Attention starts at nothing; what can be negative (a gradient, say) is drawn about the middle of a diverging palette.
function scaleOf(values) {
  const high = Math.max(...values, 0), low = Math.min(...values, 0);
  if (low >= -1e-12) return { low: 0, high, colour: (v) => sequential(high ? v / high : 0), css: sequential.css };
  const most = Math.max(high, -low);
  return { low: -most, high: most, colour: (v) => diverging(0.5 + (0.5 * v) / most), css: diverging.css };
}

// ---- drawing; every picture covers the image and the `pad` pixels the model adds around it

// The border between ink and paper, along pixel edges: it stays visible over any colour.
function outline(image) {
  const [h, w] = image.side, ink = (y, x) => y >= 0 && x >= 0 && y < h && x < w && image.pixels[y * w + x] > 127, path = new Path2D();
  for (let y = 0; y <= h; y++)
    for (let x = 0; x <= w; x++) {
      if (ink(y, x) !== ink(y - 1, x)) path.moveTo(x, y), path.lineTo(x + 1, y);
      if (ink(y, x) !== ink(y, x - 1)) path.moveTo(x, y), path.lineTo(x, y + 1);
    }
  return path;
}

function begin(canvas, image, pad, width) {
  const [h, w] = image.side, unit = width / (w + 2 * pad);
  canvas.width = width;
  canvas.height = Math.round(unit * (h + 2 * pad));
  const tall = canvas.height / (1.5 * width);
  canvas.style.width = tall > 1 ? `${100 / tall}%` : "";
  const c = canvas.getContext("2d");
  c.setTransform(unit, 0, 0, unit, pad * unit, pad * unit);
  return { c, pixel: 1 / unit };
}

function cellBox(image, pad, grid, [row, column]) {
  const height = (image.side[0] + 2 * pad) / grid[0], width = (image.side[1] + 2 * pad) / grid[1];
  return [column * width - pad, row * height - pad, width, height];
}

// A photograph on a canvas of its own size.
function photograph({ shape: [h, w, channels], pixels }) {
  const canvas = document.createElement("canvas");
  canvas.width = w;
  canvas.height = h;
  const c = canvas.getContext("2d"), filled = c.createImageData(w, h);
  for (let i = 0; i < h * w; i++)
    for (let j = 0; j < 4; j++) filled.data[4 * i + j] = j === 3 ? 255 : pixels[channels === 3 ? 3 * i + j : i];
  c.putImageData(filled, 0, 0);
  return canvas;
}

// A digit dark on white; a photograph as it is, gray or in its colours.
function drawImage(c, image, pad) {
  const [h, w] = image.side;
  c.fillStyle = "#fff";
  c.fillRect(-pad, -pad, w + 2 * pad, h + 2 * pad);
  if (!image.drawing) {
    image.canvas ??= photograph(image);
    c.imageSmoothingEnabled = Math.max(h, w) > 64; // of fewer pixels each is seen
    c.imageSmoothingQuality = "high";
    return c.drawImage(image.canvas, 0, 0, w, h);
  }
  for (let y = 0; y < h; y++)
    for (let x = 0; x < w; x++) {
      const gray = 255 - image.pixels[y * w + x];
      if (gray < 255) (c.fillStyle = `rgb(${gray} ${gray} ${gray})`), c.fillRect(x, y, 1.02, 1.02);
    }
}

// Over a digit a map is drawn cell by cell with the digit's outline, over a photograph smoothly, so that it shines through.
function drawMap(c, image, pad, grid, values, scale, whole) {
  if (!image.drawing) return drawImage(c, image, whole), drawSmooth(c, image, pad, grid, values, scale);
  for (let i = 0; i < values.length; i++) {
    const [x, y, w, h] = cellBox(image, pad, grid, [Math.floor(i / grid[1]), i % grid[1]]);
    c.fillStyle = scale.colour(values[i]);
    c.fillRect(x, y, w * 1.005, h * 1.005); // a hair too large, or the background shows between cells
  }
  image.outline ??= outline(image);
  for (const [colour, width] of [["rgb(0 0 0 / .55)", 0.5], ["#fff", 0.22]]) (c.strokeStyle = colour), (c.lineWidth = width), c.stroke(image.outline);
}

function drawSmooth(c, image, pad, grid, values, scale) {
  const cells = document.createElement("canvas"), small = cells.getContext("2d"), [h, w] = image.side;
  [cells.height, cells.width] = grid;
  values.forEach((value, i) => ((small.fillStyle = scale.colour(value)), small.fillRect(i % grid[1], Math.floor(i / grid[1]), 1, 1)));
  c.globalAlpha = 0.6;
  c.imageSmoothingEnabled = true;
  c.imageSmoothingQuality = "low"; // bilinear
  c.drawImage(cells, -pad, -pad, w + 2 * pad, h + 2 * pad);
  c.globalAlpha = 1;
}

function drawGrid(c, image, pad, grid, pixel) {
  if (cellBox(image, pad, grid, [0, 0])[2] < 18 * pixel) return; // the lines would hide the image
  c.strokeStyle = "rgb(59 130 246 / .45)";
  c.lineWidth = pixel * 2;
  for (let i = 0; i < grid[0] * grid[1]; i++) c.strokeRect(...cellBox(image, pad, grid, [Math.floor(i / grid[1]), i % grid[1]]));
}

function drawRing(c, image, pad, grid, cell, pixel) {
  const [x, y, w, h] = cellBox(image, pad, grid, cell);
  for (const [colour, width] of [["#fff", 9], ["#c2410c", 5]]) (c.strokeStyle = colour), (c.lineWidth = width * pixel), c.strokeRect(x, y, w, h);
}

// ---- a small way to write elements; text is always text, never markup

function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}

// ---- the element

class VitAttention extends HTMLElement {
  #data = null; #state = null; #results = new Map(); #preview = null; #pointed = null; #timer = null; #parts = {}; #leave = null;

  connectedCallback() {
    const script = this.querySelector(':scope > script[type="application/json"]');
    if (!this.#data && script) this.data = JSON.parse(script.textContent);
    this.meet();
  }
  disconnectedCallback() {
    this.#stop();
    this.#leave?.();
    this.#leave = null;
  }
  meet() { // its widget, where there is one
    const model = widgets.get(this.dataset.widget);
    if (model) this.#leave ??= connect(this, model);
  }

  // Everything there is to show, as Python's `explorer_data` makes it.
  set data(data) {
    this.#data = { ...data, images: data.images.map(open) };
    this.#results = new Map();
    for (const result of data.results ?? []) this.#keep(result, bytes(result.attention));
    const start = { image: 0, layer: data.layers.length - 1, head: null, query: "cls", method: data.methods[0]?.name, target: null, step: null, off: [] };
    this.#state = this.#fit({ ...start, ...data.state });
    this.#build();
    this.#update();
  }

  // Where the explorer stands: image, layer, head (null: mean of all), query ("cls", "mean" or [row, column]), method,
  // target (null: what the model says), step of training (null: the end), off ([layer, head] switched off).
  get state() { return structuredClone(this.#state); }
  set(changes, tell = true) {
    const before = this.#state;
    this.#state = this.#fit({ ...before, ...changes });
    const changed = Object.fromEntries(Object.entries(this.#state).filter(([name, value]) => !same(value, before[name])));
    if (tell && Object.keys(changed).length) this.dispatchEvent(new CustomEvent("vit-change", { detail: changed }));
    this.#update();
  }

  // What the kernel has computed since: all of an image, one `row` (a patch by head) or a map `more`; or why it could not.
  addResult(result, view) {
    const known = this.#results.get(key(result));
    if (result.row) known?.rows.set(JSON.stringify([result.layer, result.query]), this.#row(result.layer, plain(view)));
    else if (result.more) known?.more.set(JSON.stringify([result.method, result.target]), result.more.values[0]);
    else this.#keep(result, plain(view));
    this.#update();
  }
  #row(layer, data) {
    const { heads } = this.#data.layers[layer];
    return { scales: new Float32Array(data.buffer, 0, heads), codes: new Uint8Array(data.buffer, 4 * heads) };
  }
  setImage(index, image) {
    for (const known of [...this.#results.keys()]) if (JSON.parse(known)[0] === index) this.#results.delete(known);
    this.#data.images[index] = open(image);
    this.#label(index);
  }
  fail(message) { if (!this.#results.has(key(this.#state))) this.#parts.label.textContent = message; }

  // What one query attends to: a number for each place of the layer's key grid, row by row; null where it is not known.
  read(where = {}) {
    const s = { ...this.#state, ...where }, result = this.#results.get(key(s)), layer = this.#data.layers[s.layer];
    if (!result || !layer?.keys) return null;
    const cells = layer.keys[0] * layer.keys[1], place = Array.isArray(s.query), names = layer.names.length;
    const patches = !layer.queries ? 0 : layer.block ? 1 : layer.queries[0] * layer.queries[1]; // in blocks: their mean, here
    let [{ codes, scales }, blocks] = result.layers[s.layer], rows = names + patches;
    let asked = s.query === "mean" ? [...Array(rows).keys()].slice(names) : [place ? names + s.query[0] * layer.queries[1] + s.query[1] : layer.names.indexOf(s.query)];
    if (place && layer.block) {
      const row = result.rows.get(JSON.stringify([s.layer, s.query]));
      if (!row) return s.head === null ? this.#readBlock(layer, blocks, s.query) : null;
      ({ codes, scales } = row), (rows = 1), (asked = [0]);
    }
    const heads = s.head === null ? [...Array(layer.heads).keys()] : [s.head], values = new Float32Array(cells);
    for (const head of heads)
      for (const row of asked) {
        const at = head * rows + row, share = scales[at] / 255 / heads.length / asked.length;
        for (let i = 0; i < cells; i++) values[i] += codes[at * cells + i] * share;
      }
    return values;
  }

  // The mean over heads, over blocks of patches.
  #readBlock({ block, queries, keys }, { codes, scales }, [row, column]) {
    const cell = (grid, r, c) => Math.floor(r / block) * Math.ceil(grid[1] / block) + Math.floor(c / block);
    const at = cell(queries, row, column), count = codes.length / scales.length;
    return Float32Array.from({ length: keys[0] * keys[1] }, (_, i) => (codes[at * count + cell(keys, Math.floor(i / keys[1]), i % keys[1])] * scales[at]) / 255);
  }

  // Is a patch known as the mean over heads alone?
  #onlyMean(s) {
    const result = this.#results.get(key(s));
    return s.method === "attention" && Array.isArray(s.query) && Boolean(this.#data.layers[s.layer]?.block && result && !result.rows.has(JSON.stringify([s.layer, s.query])));
  }

  // The map on show, with its grid: of a query and a head, or of a method and a target.
  map(where = {}) {
    const s = { ...this.#state, ...where }, result = this.#results.get(key(s)), method = result?.maps[s.method];
    if (s.method === "attention") return { values: this.read(s), grid: this.#data.layers[s.layer]?.keys, pad: this.#data.pad };
    if (!method) return { values: null };
    const pad = this.#data.pad; // where the model adds a border to the image, a method's map is on the image alone
    const target = s.target ?? this.#said(s), at = method.classes ? method.classes.indexOf(target) : method.values.length > 1 ? target : 0;
    const values = method.values[at] ?? result.more.get(JSON.stringify([s.method, target])) ?? null;
    return { values, grid: method.grid, pad: pad ? 0 : pad };
  }
  get probs() { return this.#results.get(key(this.#state))?.probs ?? null; }

  // -- keeping the state possible

  #keep(result, data) {
    const sizes = this.#data.layers.map((layer) => (layer.keys ? this.#sizes(layer) : [])); // for each layer [rows, cells] of what is stored
    let floats = 0, codes = 4 * sizes.flat().reduce((sum, [rows]) => sum + rows, 0); // all scales first, then all codes
    const layers = sizes.map((parts) => parts.map(([rows, cells]) => {
      const part = { scales: new Float32Array(data.buffer, floats, rows), codes: new Uint8Array(data.buffer, codes, rows * cells) };
      floats += 4 * rows; codes += rows * cells;
      return part;
    }));
    this.#results.set(key(result), { probs: result.probs, shown: result.shown ?? [...(result.probs ?? []).keys()], maps: result.maps, layers, rows: new Map(), more: new Map() });
  }
  #sizes({ heads, names, queries, keys, block }) {
    const count = (grid, side) => (grid ? Math.ceil(grid[0] / side) * Math.ceil(grid[1] / side) : 0);
    if (!block) return [[heads * (names.length + count(queries, 1)), count(keys, 1)]];
    return [[heads * (names.length + 1), count(keys, 1)], [count(queries, block), count(keys, block)]];
  }

  #said(s) { const probs = this.#results.get(key(s))?.probs; return probs ? probs.indexOf(Math.max(...probs)) : null; }

  #fit(s) {
    const { images, layers } = this.#data, clamp = (v, n) => Math.min(Math.max(v, 0), Math.max(n - 1, 0));
    const layer = layers[(s.layer = clamp(s.layer, layers.length))], old = layers[this.#state?.layer]?.queries;
    s.image = clamp(s.image, images.length);
    if (!layer?.keys) return s;
    if (s.head !== null) s.head = clamp(s.head, layer.heads);
    if (Array.isArray(s.query) && layer.queries) {
      // The same place on another layer's grid; Python moves its attribute by the same rule.
      const moved = old && this.#state.layer !== s.layer && same(s.query, this.#state.query);
      s.query = s.query.map((v, i) => clamp(moved ? Math.floor((v * layer.queries[i]) / old[i]) : v, layer.queries[i]));
    } else if (s.query !== "mean" && !layer.names.includes(s.query)) s.query = layer.names[0] ?? "mean";
    if (s.query === "mean" && !layer.queries) s.query = layer.names[0];
    return s;
  }

  // -- building once for each set of data

  #build() {
    this.shadowRoot ?? this.attachShadow({ mode: "open" });
    // Keys that mean something here mean something else to a notebook.
    this.setAttribute("data-lm-suppress-shortcuts", "true");
    const d = this.#data, p = (this.#parts = {}), live = d.live;
    const range = (name, label, count, set) => h("input", { type: "range", min: 0, max: count - 1, step: 1, "aria-label": label, "data-control": name, oninput: (e) => (this.#stop(), set(+e.target.value)) });
    const heads = Math.max(1, ...d.layers.map((layer) => layer.heads));
    p.thumbs = d.images.map((_, i) => h("button", { class: "thumb", onclick: () => this.set({ image: i, target: null }) }, h("canvas", { "aria-hidden": "true" }), h("span")));
    d.images.forEach((_, i) => this.#label(i));
    const stage = (name, label, tab) => h("canvas", { "data-control": name, tabindex: tab ? 0 : null, role: tab ? "application" : "img", "aria-label": label,
      onpointermove: (e) => this.#point(name, e), onpointerleave: () => this.#point(name, null), onclick: (e) => this.#click(e) });
    p.digit = stage("query", "Query. Arrow keys move it over the patches, square brackets change the layer.", true);
    p.heat = stage("map", "Map");
    p.names = h("div", { class: "chips", role: "group", "aria-label": "Query without a place" });
    p.label = h("div", { class: "label", "aria-live": "polite", "data-control": "label" });
    p.legend = [h("span"), h("i"), h("span")];
    p.layer = range("layer", "Layer", d.layers.length, (layer) => this.set({ layer }));
    p.head = range("head", "Head", heads + 1, (head) => this.set({ head: head ? head - 1 : null }));
    p.step = range("step", "Training step", d.steps.length + 1, (i) => this.set({ step: d.steps[i] ?? null }));
    for (const name of ["layer", "head", "step"]) p[name + "Text"] = h("output");
    p.play = h("button", { "aria-label": "Play through the layers", title: "Play through the layers", onclick: () => (this.#timer ? this.#stop() : this.#play()) }, "▶");
    p.methods = d.methods.map((m) => h("button", { title: m.about, onclick: () => this.set({ method: m.name }) }, m.title));
    p.many = h("div", { class: "many", role: "group", "aria-label": "Small maps" });
    p.manyTitle = h("figcaption");
    p.bars = h("div", { class: "bars", role: "group", "aria-label": "Prediction; choose a class to explain" });
    p.barsTitle = h("figcaption", { "data-control": "prediction" });
    p.copied = h("span", { class: "quiet", role: "status" });
    const row = (label, control, text) => [h("span", {}, label), control, text];
    const deep = d.layers.length > 0;
    this.shadowRoot.replaceChildren(h("style", {}, STYLE), (p.root = h("div", { class: "root", role: "group", "aria-label": d.title, onkeydown: (e) => this.#key(e) },
      h("div", { class: "title" }, d.title),
      ...(d.note ? [h("div", { class: "note" }, d.note)] : []),
      ...(d.images.length > 1 ? [h("div", { class: "strip", role: "group", "aria-label": "Image" }, ...p.thumbs)] : []),
      h("div", { class: "columns" },
        (p.left = h("div", { class: "root", style: "padding: 0; align-content: start" },
          h("div", { class: "stage" }, h("figure", {}, (p.digitTitle = h("figcaption")), p.digit), (p.heatBox = h("figure", {}, (p.heatTitle = h("figcaption")), p.heat, h("div", { class: "legend quiet" }, ...p.legend)))),
          p.label, ...(deep ? [p.names] : []),
          ...(d.methods.length > 1 ? [h("div", { class: "chips", role: "group", "aria-label": "Method" }, ...p.methods)] : []),
          h("div", { class: "controls" },
            ...(deep ? [...row("Layer", p.layer, h("span", { class: "chips" }, p.layerText, p.play)), ...row("Head", p.head, p.headText)] : []),
            ...(d.steps.length ? row("Training", p.step, p.stepText) : [])),
          ...(d.left_out && !live ? [h("div", { class: "note", "data-control": "left-out" }, d.left_out)] : []))),
        h("div", { class: "root", style: "padding: 0; align-content: start" }, h("figure", {}, p.barsTitle, p.bars), h("figure", {}, p.manyTitle, p.many),
          h("div", { class: "chips" }, h("button", { onclick: () => this.#copy() }, "Copy as PNG"),
            (p.allOn = h("button", { hidden: true, onclick: () => this.set({ off: [] }) }, "All heads on")), p.copied))))));
    p.allOn.hidden = !live;
  }

  #label(index) {
    const thumb = this.#parts.thumbs[index], image = this.#data.images[index], [canvas, text] = thumb.children;
    drawImage(begin(canvas, image, 0, 56).c, image, 0);
    text.textContent = thumb.title = image.title;
    thumb.setAttribute("aria-label", `Image ${index}: ${image.title}`);
  }

  // -- showing the state

  #update() {
    if (!this.#parts.digit) return;
    const d = this.#data, p = this.#parts, s = { ...this.#state, query: this.#preview ?? this.#state.query };
    const image = d.images[s.image], layer = d.layers[s.layer];
    if (!image) return;
    p.root.classList.toggle("wide", image.side[1] > 2 * image.side[0]);
    const blank = image.drawing && !image.pixels.some(Boolean), known = !blank && this.#results.has(key(s)); // no ink, nothing to predict
    if (!blank && d.live) this.#ask(s, known);
    const means = this.#onlyMean(s);
    if (means && !d.live) s.head = null; // the page holds no more
    p.left.classList.toggle("waiting", !known);
    p.thumbs.forEach((thumb, i) => thumb.setAttribute("aria-pressed", i === s.image));
    p.methods.forEach((button, i) => button.setAttribute("aria-pressed", d.methods[i].name === s.method));
    p.layer.value = s.layer; p.layer.setAttribute("aria-valuetext", `layer ${s.layer}`); p.layerText.textContent = `${s.layer} (0–${d.layers.length - 1})`;
    p.head.max = layer?.heads ?? 0; p.head.value = s.head === null ? 0 : s.head + 1; p.headText.textContent = s.head === null ? "mean of all" : `head ${s.head}`;
    p.head.setAttribute("aria-valuetext", p.headText.textContent);
    const at = s.step === null ? d.steps.length : d.steps.indexOf(s.step);
    p.step.value = at; p.stepText.textContent = s.step === null ? "trained" : `step ${s.step}`; p.step.setAttribute("aria-valuetext", p.stepText.textContent);
    const raw = s.method === "attention";
    for (const part of [p.layer, p.head, p.play]) part.disabled = !raw || (part === p.head && means && !d.live);
    this.#drawDigit(image, layer, s, raw);
    this.#drawHeat(image, s);
    for (const part of [p.many, p.manyTitle]) part.hidden = blank;
    for (const part of [p.bars, p.barsTitle]) part.hidden = blank || (known && !this.probs);
    p.heatBox.hidden ||= blank;
    this.#showNames(layer, s, raw);
    if (known && this.probs) this.#showBars(s);
    if (known) this.#showMany(image, layer, s, raw, means);
    p.label.textContent = blank ? "Nothing is drawn yet." : known ? this.#words(layer, s, raw) : d.live ? "The kernel computes…" : "Not stored in this page.";
  }

  // Asks for what is not known yet: all of an image; of a large model one patch by head, or the map of one class more.
  #ask(s, known) {
    const need = { image: s.image, step: s.step, off: s.off }, ask = (more) => this.dispatchEvent(new CustomEvent("vit-need", { detail: { ...need, ...more } }));
    if (!known) ask();
    else if (this.#onlyMean(s)) ask({ layer: s.layer, query: s.query });
    else if (s.method !== "attention" && s.target !== null && this.#results.get(key(s)).maps[s.method] && !this.map(s).values) ask({ method: s.method, target: s.target });
  }

  #drawDigit(image, layer, s, raw) {
    const p = this.#parts, { c, pixel } = begin(p.digit, image, this.#data.pad, 560);
    drawImage(c, image, this.#data.pad);
    if (raw && layer?.queries) drawGrid(c, image, this.#data.pad, layer.queries, pixel);
    if (raw && Array.isArray(s.query) && layer.queries) drawRing(c, image, this.#data.pad, layer.queries, s.query, pixel);
    p.digitTitle.textContent = raw && layer ? `Query: ${this.#who(s.query)}` : image.title;
  }

  #drawHeat(image, s) {
    const p = this.#parts, { values, grid, pad } = this.map(s), method = this.#data.methods.find((m) => m.name === s.method);
    p.heatBox.hidden = !method;
    if (!method) return;
    p.heatTitle.textContent = s.method === "attention" ? "attends to" : method.title;
    const { c, pixel } = begin(p.heat, image, this.#data.pad, 560);
    if (!values) return;
    const scale = scaleOf(values);
    drawMap(c, image, pad, grid, values, scale, this.#data.pad);
    if (s.method === "attention" && Array.isArray(s.query)) drawRing(c, image, this.#data.pad, this.#data.layers[s.layer].queries, s.query, pixel);
    const say = s.method === "attention" ? percent : number;
    p.legend[0].textContent = say(scale.low); p.legend[1].style.background = scale.css; p.legend[2].textContent = say(scale.high);
    p.heat.setAttribute("aria-label", `Map: ${this.#words(this.#data.layers[s.layer], s, s.method === "attention")}`);
  }

  #showNames(layer, s, raw) {
    const names = layer ? [...layer.names, ...(layer.queries ? ["mean"] : [])] : [], p = this.#parts;
    if (!same(p.namesShown, names)) {
      p.namesShown = names;
      p.names.replaceChildren(h("span", { class: "quiet" }, layer?.queries ? "Click a patch, or:" : "Query:"),
        ...names.map((name) => h("button", { "data-query": name, onclick: () => this.set({ query: name }) }, this.#who(name))));
    }
    for (const button of p.names.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", raw && button.dataset.query === s.query);
      button.disabled = !raw;
    }
  }

  #showBars(s) {
    const p = this.#parts, d = this.#data, { probs, shown } = this.#results.get(key(s)), said = this.#said(s), label = d.images[s.image].label;
    const whole = s.off.length ? this.#results.get(key({ ...s, off: [] }))?.probs : null, explains = d.methods.find((m) => m.name === s.method)?.targets;
    const one = probs.length === 1, right = one ? label === Number(probs[0] >= 0.5) : label === said; // one output tells two classes apart
    p.barsTitle.textContent = (one ? `Prediction: ${percent(probs[0])} (the output's sigmoid)` : `Prediction: ${d.classes[said]}, ${percent(probs[said])}`)
      + (label === null ? "" : right ? " (right)" : ` (wrong: it is ${one ? label : d.classes[label]})`)
      + (whole ? "; lines: all heads on" : explains && !one ? "; choose the class to explain" : "") + (shown.length < probs.length ? `; the most likely of ${probs.length} classes` : "");
    if (!same(p.barsShown, shown)) {
      p.barsShown = shown;
      p.bars.replaceChildren(...shown.map((i) => h("button", { class: "bar", "data-class": i, onclick: () => this.set({ target: this.#state.target === i ? null : i }) },
        h("span", { title: d.classes[i] }, d.classes[i]), h("span", { class: "track" }, h("div", { class: "fill" }), h("div", { class: "ghost" })), h("span"))));
    }
    shown.forEach((i, position) => {
      const bar = p.bars.children[position], [fill, ghost] = bar.children[1].children, share = probs[i];
      fill.style.width = `${100 * share}%`;
      ghost.hidden = !whole; if (whole) ghost.style.left = `calc(${100 * whole[i]}% - 1px)`;
      bar.children[2].textContent = percent(share);
      bar.classList.toggle("said", i === said);
      bar.setAttribute("aria-pressed", Boolean(explains) && i === (s.target ?? said));
      bar.setAttribute("aria-label", `${d.classes[i]}: ${percent(share)}`);
    });
  }

  // Small multiples: the heads of the layer, or the classes of a method that explains one class at a time.
  #showMany(image, layer, s, raw, means) {
    const p = this.#parts, d = this.#data, method = d.methods.find((m) => m.name === s.method), { shown } = this.#results.get(key(s));
    const heads = means && !d.live ? [] : [...Array(layer?.heads ?? 0).keys()], all = raw ? heads : method?.targets ? shown : [];
    const kind = JSON.stringify([raw, all, s.layer]);
    p.manyTitle.textContent = raw && means && !d.live ? "Heads of single patches are not stored in this page." : !all.length ? "" : raw ? `All heads of layer ${s.layer}` : `${method.title} for each class`;
    if (p.manyKind !== kind) {
      p.manyKind = kind;
      p.many.replaceChildren(...all.map((i) => h("div", {},
        h("button", { "data-many": i, onclick: () => this.set(raw ? { head: this.#state.head === i ? null : i } : { target: i }) }, h("canvas", { "aria-hidden": "true" }), h("span")),
        ...(raw && d.live ? [h("button", { class: "switch", "data-switch": i, onclick: () => this.#toggle(i) })] : []))));
    }
    [...p.many.children].forEach((box, position) => {
      const i = all[position];
      const [button, knob] = box.children, [canvas, text] = button.children, off = s.off.some(([l, n]) => l === s.layer && n === i);
      const { values, grid, pad } = this.map(raw ? { ...s, head: i } : { ...s, target: i }), { c, pixel } = begin(canvas, image, d.pad, 140);
      if (values) drawMap(c, image, pad, grid, values, scaleOf(values), d.pad);
      if (values && raw && Array.isArray(s.query)) drawRing(c, image, d.pad, layer.queries, s.query, pixel * 0.7);
      const most = !values ? "" : raw ? percent(Math.max(...values)) : number(Math.max(...values));
      text.textContent = raw ? `${i}: ${most}` : d.classes[i];
      button.setAttribute("aria-label", raw ? `Head ${i}, at most ${most}` : `Class ${d.classes[i]}`);
      button.setAttribute("aria-pressed", i === (raw ? s.head : s.target ?? this.#said(s)));
      box.classList.toggle("off", off);
      if (knob) (knob.textContent = off ? "switch on" : "switch off"), knob.setAttribute("aria-label", `Switch head ${i} of layer ${s.layer} ${off ? "on" : "off"}`);
    });
    p.allOn.hidden = !d.live || !s.off.length;
  }

  #who(query) { return Array.isArray(query) ? `patch (${query.join(", ")})` : query === "cls" ? "class token" : query === "mean" ? "patch mean" : query; }

  #words(layer, s, raw) {
    const { values, grid } = this.map(s), method = this.#data.methods.find((m) => m.name === s.method);
    if (layer?.note && raw) return layer.note;
    if (!values) return this.#data.live ? "The kernel computes…" : "Not stored in this page.";
    const result = this.#results.get(key(s)), side = raw ? this.#onlyMean(s) && layer.block : result.maps[s.method].block;
    const coarse = side > 1 ? ` Means over blocks of ${side} × ${side} ${raw ? "patches" : "pixels"}.` : "";
    const shown = this.#pointed?.every((v, i) => v < grid[i]) ? this.#pointed : null;
    const at = shown ? shown[0] * grid[1] + shown[1] : values.indexOf(values.reduce((a, b) => Math.max(a, b)));
    const place = `row ${Math.floor(at / grid[1])}, column ${at % grid[1]}`;
    if (!raw) return `${method.title}${method.targets ? ` for ${this.#data.classes[s.target ?? this.#said(s)]}` : ""}: ${shown ? "" : "most at "}${place} (${number(values[at])}). ${method.about}${coarse}`;
    const rest = 1 - values.reduce((a, b) => a + b, 0), more = layer.rest && rest > 0.005 ? `; ${percent(rest)} to tokens without a place` : "";
    return `Layer ${s.layer}, ${s.head === null ? "mean of all heads" : `head ${s.head}`}: ${this.#who(s.query)} attends ${shown ? "to" : "most to"} ${place} (${percent(values[at])})${more}.${coarse}`;
  }

  // -- mouse, pen, finger, keys

  #cell(event, grid, pad) {
    const box = event.currentTarget.getBoundingClientRect(), { side } = this.#data.images[this.#state.image], whole = this.#data.pad;
    return [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width].map((t, i) => {
      const pixel = t * (side[i] + 2 * whole) - whole; // on the image, which a grid may exceed
      return Math.min(Math.max(Math.floor(((pixel + pad) / (side[i] + 2 * pad)) * grid[i]), 0), grid[i] - 1);
    });
  }

  // Over the digit a mouse tries a query without choosing it; over the map it reads a value.
  #point(name, event) {
    const raw = this.#state.method === "attention", layer = this.#data.layers[this.#state.layer];
    const { grid, pad } = name === "map" ? this.map() : { grid: raw && layer?.queries, pad: this.#data.pad };
    const cell = event && grid && event.pointerType !== "touch" ? this.#cell(event, grid, pad) : null;
    const before = [this.#preview, this.#pointed];
    if (name === "query") this.#preview = cell; else this.#pointed = cell;
    if (!same(before, [this.#preview, this.#pointed])) this.#update();
  }

  #click(event) {
    const layer = this.#data.layers[this.#state.layer];
    if (this.#state.method !== "attention" || !layer?.queries) return;
    this.#preview = null;
    this.set({ query: this.#cell(event, layer.queries, this.#data.pad) });
  }

  #key(event) {
    const s = this.#state, layer = this.#data.layers[s.layer], move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || s.method !== "attention") return;
    if (event.key === "[" || event.key === "]") this.#stop(), this.set({ layer: s.layer + (event.key === "]" ? 1 : -1) });
    else if (move && event.target === this.#parts.digit && layer?.queries) {
      this.#preview = null;
      this.set({ query: Array.isArray(s.query) ? s.query.map((v, i) => v + move[i]) : layer.queries.map((n) => Math.floor(n / 2)) });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #toggle(head) {
    const { off, layer } = this.#state, here = ([l, n]) => l === layer && n === head;
    this.set({ off: off.some(here) ? off.filter((pair) => !here(pair)) : [...off, [layer, head]] });
  }

  #play() {
    const last = this.#data.layers.length - 1;
    if (this.#state.layer === last) this.set({ layer: 0 });
    this.#timer = setInterval(() => { this.set({ layer: this.#state.layer + 1 }); if (this.#state.layer === last) this.#stop(); }, 700);
    this.#parts.play.textContent = "❚❚";
    this.#parts.play.setAttribute("aria-label", "Stop");
  }
  #stop() {
    if (!this.#timer) return;
    clearInterval(this.#timer);
    this.#timer = null;
    this.#parts.play.textContent = "▶";
    this.#parts.play.setAttribute("aria-label", "Play through the layers");
  }

  // -- the view as a picture

  picture() {
    const p = this.#parts, d = this.#data, canvas = h("canvas"), c = canvas.getContext("2d"), many = [...p.many.querySelectorAll("canvas")];
    const label = p.label.textContent.split(" ").reduce((lines, word) => ((lines.at(-1) + word).length > 78 ? [...lines, word + " "] : [...lines.slice(0, -1), lines.at(-1) + word + " "]), [""]);
    const text = (words, x, y, font = "24px system-ui, sans-serif") => ((c.font = font), c.fillText(words, x, y));
    canvas.width = 1480; canvas.height = 760 + 170 * Math.ceil(many.length / 8);
    c.fillStyle = "#fff"; c.fillRect(0, 0, canvas.width, canvas.height); c.fillStyle = "#111";
    text(d.title, 40, 56, "600 30px system-ui, sans-serif");
    text(p.digitTitle.textContent, 40, 104); text(p.heatTitle.textContent, 560, 104); text(p.barsTitle.textContent.split(";")[0], 1080, 104);
    const fit = (from, x, y, side) => { const scale = side / Math.max(from.width, from.height); c.drawImage(from, x, y, scale * from.width, scale * from.height); };
    fit(p.digit, 40, 120, 480);
    if (!p.heatBox.hidden) fit(p.heat, 560, 120, 480);
    [...p.bars.children].slice(0, 14).forEach((bar, i) => {
      c.fillStyle = "#111"; text(bar.children[0].textContent.slice(0, 9), 1080, 146 + 34 * i); text(bar.children[2].textContent, 1360, 146 + 34 * i);
      c.fillStyle = "#3b82f6"; c.fillRect(1180, 130 + 34 * i, 1.7 * parseFloat(bar.children[1].firstChild.style.width), 18);
    });
    c.fillStyle = "#111";
    label.forEach((line, i) => text(line, 40, 646 + 32 * i));
    many.forEach((small, i) => { const x = 40 + 176 * (i % 8), y = 730 + 170 * Math.floor(i / 8); fit(small, x, y, 130); text(small.nextSibling.textContent, x, y + 152, "18px system-ui, sans-serif"); });
    return canvas;
  }

  async #copy() {
    const blob = await new Promise((done) => this.picture().toBlob(done, "image/png"));
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
      this.#parts.copied.textContent = "Copied.";
    } catch { // no clipboard here, or not allowed: a file then
      const link = h("a", { href: URL.createObjectURL(blob), download: "attention.png" });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      this.#parts.copied.textContent = "Saved as attention.png.";
    }
  }
}

// Widgets of running kernels, by name. A notebook's output holds the element alone, with all it needs to be read without
// a kernel; element and widget meet here, whichever of them comes first.
const widgets = (globalThis.vitWidgets ??= new Map());

// Two outputs of one page bring this file twice; an element can be defined once.
if (!customElements.get("vit-attention")) customElements.define("vit-attention", VitAttention);

// ---- the widget: the same element, with the kernel behind it

const SHARED = ["image", "layer", "head", "query", "method", "target", "step", "off"];

export function connect(element, model) {
  const state = () => Object.fromEntries(SHARED.map((name) => [name, model.get(name)]));
  const asked = new Set(); // an answer may be on its way while the user moves on
  const words = (need) => JSON.stringify([key(need), need.layer, need.query, need.method, need.target]);
  const onData = () => (asked.clear(), (element.data = { ...model.get("_data"), state: state() }));
  const onState = () => element.set(state(), false);
  const onMessage = ({ result, replaced, index, problem }, buffers) => {
    if (replaced) element.setImage(index, replaced);
    if (problem) element.fail(problem);
    if (!result) return;
    asked.delete(words(result));
    element.addResult(result, buffers[0]);
  };
  const onNeed = ({ detail }) => {
    if (asked.has(words(detail))) return;
    asked.add(words(detail));
    model.send({ need: detail });
  };
  const onChange = ({ detail }) => {
    for (const [name, value] of Object.entries(detail)) model.set(name, value);
    model.save_changes();
  };
  const end = new AbortController();
  element.addEventListener("vit-need", onNeed, end);
  element.addEventListener("vit-change", onChange, end);
  model.on("msg:custom", onMessage);
  model.on("change:_data", onData);
  for (const name of SHARED) model.on(`change:${name}`, onState);
  onData();
  return () => {
    end.abort();
    model.off("msg:custom", onMessage);
    model.off("change:_data", onData);
    for (const name of SHARED) model.off(`change:${name}`, onState);
  };
}

function initialize({ model }) {
  const name = model.get("_name");
  widgets.set(name, model);
  for (const element of document.querySelectorAll(`vit-attention[data-widget="${name}"]`)) element.meet();
  return () => widgets.delete(name);
}

// Where the widget itself is shown: in another widget, and in Colab and VS Code.
function render({ model, el }) {
  const element = document.createElement("vit-attention");
  el.append(element);
  return connect(element, model);
}

export default { initialize, render };
