// <vit-attention>: what a Vision Transformer attends to, to be explored by hand.
//
// One file, two hosts. On any page the element finds its data in a JSON script inside it and needs no kernel and no
// network. In a notebook the same element is tied to the Python object (at the end).
// There is no build step: what you read is what runs.

const CIVIDIS = "00224e 002e6a 1a386f 32436d 434e6c 535a6d 61656f 6f7073 7d7c78 8c8878 9b9476 aba072 bcae6c cdbb63 dec958 f0d846 fee838";
const PURPLE_ORANGE = "2d004b 451871 5f3a91 7b6aa8 9990bf b7b1d5 cfcfe5 e4e5f0 f7f7f6 fce8cd fed59f fdbc6b ee9b39 d97b12 bd6109 9e4c07 7f3b08";

// The words of the page, a sentence each. Those of methods are said only where the method is there.
const TERMS = [
  ["Patch", "a small square of the image, one token for the model."],
  ["Class token (CLS)", "a token that belongs to no patch; the model reads its answer from it."],
  ["Query", "the token that looks: press a patch of the left picture, or choose a token below."],
  ["Attention", "the shares that a query takes from all tokens, 100 % together."],
  ["Layer", "a step of the model in which every token attends once; layer 0 comes first."],
  ["Head", "one of several attentions side by side in a layer, each with shares of its own."],
  ["Patch mean", "what all patches attend to on average."],
  ["Tokens without a place", "those that are no patch, such as the class token; what goes to them is missing on the map."],
  ["Uniform", "the share that each token would get if the query took the same from all."],
];
const LOGIT = ["Logit", "the model's number for a class, from which its probability is made: the higher, the more likely."];
const METHOD_TERMS = {
  rollout: "attention multiplied through all layers: from which patches the answer was mixed.",
  relevance: "attention that raises the logit of the chosen class, followed through all layers.",
};
const LEGEND = [
  ["border: 2px solid #fff; outline: 1px solid #777", "White outline: the edge of the digit, drawn over the map.", "drawing"],
  ["scale", "Colour of a map: dark is little, bright is much; the numbers under it say how much."],
  ["diverging", "Where values can be negative: purple is below zero, white is zero, orange is above."],
  ["border: 1px solid #3b82f6", "Blue lines: the patches. The numbers beside them count rows and columns from 0."],
  ["border: 3px solid #c2410c", "Orange frame: the patch that is the query."],
  ["background: linear-gradient(90deg, #3b82f6 60%, transparent 60%)", "Blue bar: the model's probability of a class."],
  ["background: linear-gradient(90deg, transparent 45%, currentColor 45% 55%, transparent 55%)", "Line across a bar: the probability with all heads on."],
];

const NO_SHEET = "The sheet needs Python: in a notebook, run this cell first (Shift + Enter).";

const STYLE = `
  /* The host page decides about text colour and background: everything here is mixed from them, so light and dark both work. */
  :host { display: block; container-type: inline-size; font: 14px/1.45 system-ui, sans-serif; max-width: 960px;
    print-color-adjust: exact; -webkit-print-color-adjust: exact; /* or bars and scales are white on paper */
    --line: color-mix(in srgb, currentColor 22%, transparent); --soft: color-mix(in srgb, currentColor 9%, transparent);
    --quiet: color-mix(in srgb, currentColor 72%, transparent); --accent: #3b82f6; }
  :host([hidden]), [hidden] { display: none !important; }
  * { box-sizing: border-box; }
  .root { display: grid; gap: 12px; padding: 4px; }
  .top { display: flex; flex-wrap: wrap; gap: 6px 10px; align-items: center; }
  .title { font-weight: 600; overflow-wrap: anywhere; flex: 1 1 12ch; }
  .help { padding: 4px 12px 10px; border: 1px solid var(--line); border-radius: 6px; font-size: 13.5px; }
  .help h4 { margin: 8px 0 4px; font-size: 14px; }
  .help dl, .help ul { margin: 0; padding: 0; display: grid; gap: 4px 18px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 34ch), 1fr)); }
  .help dt { display: inline; font-weight: 600; }
  .help dd { display: inline; margin: 0; }
  .help li { display: grid; grid-template-columns: 30px 1fr; gap: 8px; align-items: center; list-style: none; }
  .swatch { height: 14px; border-radius: 2px; }
  .note { padding: 6px 10px; border-left: 3px solid var(--accent); background: var(--soft); }
  .strip { display: flex; gap: 6px; overflow-x: auto; padding: 3px; }
  .columns { display: grid; gap: 14px; grid-template: "left" "bars" "many" / minmax(0, 1fr); }
  .paper .columns { grid-template: "paper" "bars" "left" "many" / minmax(0, 1fr); }
  .stage { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 4px; align-items: start; }
  .wide .stage { grid-template-columns: 1fr; }
  figure { margin: 0; display: grid; gap: 4px; min-width: 0; }
  figcaption, .quiet { color: var(--quiet); font-size: 12.5px; }
  canvas { display: block; width: 100%; border-radius: 3px; }
  button canvas { margin: 0 auto; }
  .thumb canvas { image-rendering: pixelated; width: 46px; }
  .stage canvas { cursor: crosshair; touch-action: manipulation; }
  .stage figcaption { overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .axes { display: grid; grid-template: 14px auto / 11px minmax(0, 1fr); font-size: 10px; line-height: 1; color: var(--quiet); }
  .axes > * { position: relative; }
  .axes span { position: absolute; transform: translate(-50%, -50%); top: 50%; left: 50%; }
  .axes .numbers { grid-column: 2; }
  .axes .numbers + .numbers { grid-column: 1; }
  .badge { position: absolute; top: 50%; left: 50%; transform: translate(-50%, -50%); padding: 4px 8px; border-radius: 4px;
    background: #fff; color: #111; border: 1px solid #111; font-size: 14px; line-height: 1.3; text-align: center; pointer-events: none; }
  .off canvas { opacity: .2; }
  /* Room for the longest text, so that nothing below it moves. */
  .label { min-height: 7.25em; }
  .two { min-height: 2.9em; }
  .waiting canvas { opacity: .45; }
  button, .bar { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: 6px;
    padding: 3px 9px; min-height: 28px; cursor: pointer; }
  button:hover { background: var(--soft); }
  button[aria-pressed=true] { border-color: var(--accent); box-shadow: inset 0 0 0 1px var(--accent); }
  button:disabled, input:disabled { opacity: .4; cursor: default; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  .thumb { padding: 2px; flex: none; min-width: 50px; max-width: 110px; min-height: 0; font-size: 12px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .chips { display: flex; flex-wrap: wrap; gap: 6px; align-items: center; }
  .controls { display: grid; grid-template-columns: auto minmax(0, 1fr) auto; gap: 6px 10px; align-items: center; }
  .controls output { min-width: 8ch; font-variant-numeric: tabular-nums; }
  input[type=range] { width: 100%; min-width: 0; margin: 0; min-height: 24px; accent-color: var(--accent); }
  .between { display: flex; flex-wrap: wrap; justify-content: space-between; align-items: center; gap: 0 8px; min-height: 30px; }
  /* Small maps of one kind lie over unseen boxes of the other kind, so that there is room for both. */
  .stack { display: grid; }
  .stack > * { grid-area: 1 / 1; }
  .many { display: grid; grid-template-columns: repeat(auto-fill, minmax(74px, 1fr)); gap: 8px; align-content: start; }
  .wide .many { grid-template-columns: repeat(auto-fill, minmax(136px, 1fr)); }
  .many button { padding: 3px; display: block; width: 100%; font-size: 12px; line-height: 1.3; min-height: 0; }
  .many button > span { display: block; height: 2.6em; overflow: hidden; }
  .many .switch { margin-top: 4px; padding: 0; font-size: 14px; min-height: 30px; white-space: nowrap; }
  .unseen { visibility: hidden; }
  .bars { display: grid; gap: 2px; }
  .bar { display: grid; grid-template-columns: minmax(2ch, auto) 1fr 6ch; gap: 8px; align-items: center; text-align: left;
    border-color: transparent; padding: 0 6px; min-height: 24px; font-variant-numeric: tabular-nums; }
  div.bar { cursor: default; }
  .bar span:first-child { max-width: 9ch; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
  .bar span:last-child { text-align: right; }
  .bar.said { font-weight: 700; }
  .track { position: relative; height: 12px; background: var(--soft); border-radius: 2px; }
  .fill { height: 100%; background: var(--accent); border-radius: 2px; }
  .ghost { position: absolute; top: -3px; bottom: -3px; width: 2px; background: currentColor; }
  .legend { margin-left: 11px; }
  .legend i { display: block; height: 10px; border-radius: 2px; }
  .legend .numbers { display: flex; justify-content: space-between; }
  .check { display: flex; gap: 6px; align-items: center; min-height: 28px; cursor: pointer; }
  .check input { width: 16px; height: 16px; margin: 0; accent-color: var(--accent); }
  .copied img { display: block; max-width: 100%; border: 1px solid var(--line); }
  .copied:empty { display: none; }
  @container (min-width: 480px) {
    .paper .columns { grid-template: "paper bars" "left left" "many many" / minmax(0, 5fr) minmax(0, 3fr); }
    .stage { gap: 10px; }
    .axes { grid-template: 15px auto / 17px minmax(0, 1fr); font-size: 11px; }
    .legend { margin-left: 17px; }
    .label { min-height: 4.35em; }
  }
  @container (min-width: 640px) {
    .columns { grid-template: "left bars" auto "left many" 1fr / minmax(0, 5fr) minmax(0, 3fr); }
    .paper .columns { grid-template: "paper bars" auto "left many" auto / minmax(0, 5fr) minmax(0, 3fr); }
    .label { min-height: 5.8em; }
  }
  @container (min-width: 840px) { .label { min-height: 4.35em; } }
  @media (forced-colors: active) {
    .fill, .ghost, .legend i, .swatch, .badge { forced-color-adjust: none; }
    .fill { background: Highlight; }
    .ghost { background: CanvasText; }
    .track { border: 1px solid CanvasText; }
    button[aria-pressed=true] { outline: 3px solid Highlight; outline-offset: -1px; }
    button:disabled { color: GrayText; border-color: GrayText; opacity: 1; }
    :focus-visible { outline: 3px dashed Highlight !important; outline-offset: 2px !important; }
  }
`;

// ---- numbers and colours

const percent = (share) => `${(100 * share).toFixed(share >= 0.0995 ? 0 : 1)}\u00a0%`; // no line break before the sign
const number = (value) => (value === 0 ? "0" : Math.abs(value) >= 0.01 ? value.toFixed(2) : value.toExponential(0));
const capital = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const extent = (values, [low, high] = [0, 0]) => [values.reduce((a, b) => Math.min(a, b), low), values.reduce((a, b) => Math.max(a, b), high)];
const bytes = (text) => Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
const plain = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength).slice(); // its own memory, so that floats align
const same = (a, b) => JSON.stringify(a) === JSON.stringify(b);
const open = (image) => ({ shape: [...image.side, 1], drawing: true, ...image, pixels: bytes(image.pixels) }); // older data: digits
const isOff = ({ off, layer }, head) => off.some(([l, n]) => l === layer && n === head);
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
  const [low, high] = extent(values);
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
  return { c, pixel: width / (canvas.clientWidth || width) / unit }; // a pixel of the page, in those of the image
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
  if (cellBox(image, pad, grid, [0, 0])[2] < 8 * pixel) return; // the lines would hide the image
  c.strokeStyle = "rgb(59 130 246 / .75)";
  c.lineWidth = pixel * 1.25;
  for (let i = 0; i < grid[0] * grid[1]; i++) c.strokeRect(...cellBox(image, pad, grid, [Math.floor(i / grid[1]), i % grid[1]]));
}

function drawRing(c, image, pad, grid, cell, pixel) {
  const [x, y, w, h] = cellBox(image, pad, grid, cell);
  for (const [colour, width] of [["#fff", 4], ["#c2410c", 2.4]]) (c.strokeStyle = colour), (c.lineWidth = width * pixel), c.strokeRect(x, y, w, h);
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

const clamp = (v, n) => Math.min(Math.max(v, 0), Math.max(n - 1, 0));

// A query on a layer: the same place on its grid, from a grid `old`, or a name that it has. Python moves its attribute by the same rule.
function queryOn({ queries, names }, query, old) {
  if (Array.isArray(query) && queries) return query.map((v, i) => clamp(Math.floor((v * queries[i]) / (old ?? queries)[i]), queries[i]));
  if (query === "mean" && queries) return query;
  return names.includes(query) ? query : names[0] ?? "mean";
}

class VitAttention extends HTMLElement {
  #data = null; #state = null; #results = new Map(); #preview = null; #pointed = null; #timer = null; #parts = {}; #shared = null; #width = 0; #leave = null;
  #watch = new ResizeObserver(([{ contentRect: { width } }]) => { // lines are drawn in pixels of the page
    if (width !== this.#width) (this.#width = width), requestAnimationFrame(() => this.#update());
  });

  connectedCallback() {
    const script = this.querySelector(':scope > script[type="application/json"]');
    if (!this.#data && script) this.data = JSON.parse(script.textContent);
    this.#watch.observe(this);
    this.meet();
  }
  disconnectedCallback() {
    this.#stop();
    this.#watch.disconnect();
    this.#leave?.();
    this.#leave = null;
  }
  meet() { // its widget, where there is one
    const model = widgets.get(this.dataset.widget);
    if (model) this.#leave ??= connect(this, model);
  }
  leave() { // its kernel has ended: what the page itself holds is shown again
    this.#stop();
    this.#leave?.();
    this.#leave = null;
    const script = this.querySelector(':scope > script[type="application/json"]');
    if (script) this.data = JSON.parse(script.textContent);
  }

  // Everything there is to show, as Python's `explorer_data` makes it.
  set data(data) {
    this.#data = { ...data, images: data.images.map(open) };
    this.#results = new Map();
    for (const result of data.results ?? []) this.#keep(result, bytes(result.attention));
    const start = { image: 0, layer: data.layers.length - 1, head: null, query: "cls", method: data.methods[0]?.name, target: null, step: null, off: [], same_scale: false };
    this.#state = this.#fit({ ...start, ...data.state });
    this.#build();
    this.#update();
  }

  // Where the explorer stands: image, layer, head (null: mean of all), query ("cls", "mean" or [row, column]), method,
  // target (null: what the model says), step of training (null: the end), off ([layer, head] switched off), same_scale.
  get state() { return structuredClone(this.#state); }
  set(changes, tell = true) {
    const before = this.#state;
    this.#state = this.#fit({ ...before, ...changes });
    const changed = Object.fromEntries(Object.entries(this.#state).filter(([name, value]) => !same(value, before[name])));
    if (Object.keys(changed).length) this.#parts.copied.replaceChildren(); // said of another view
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
    this.#parts.copied.replaceChildren(); // said of what was there before
    for (const known of [...this.#results.keys()]) if (JSON.parse(known)[0] === index) this.#results.delete(known);
    this.#data.images[index] = open(image);
    this.#label(index);
  }
  fail(message) { // in the place of what is missing; and where nothing is missing, it is said, too
    if (!this.#results.has(key(this.#state))) this.#parts.label.textContent = capital(message);
    this.#parts.copied.replaceChildren(capital(message));
  }

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

  // The colours of a map: its own, or those of all layers and heads, or of all classes.
  #scale(values, s) {
    if (!s.same_scale) return scaleOf(values);
    return (this.#shared ??= scaleOf(this.#all(s).reduce((range, values) => extent(values, range), [0, 0])));
  }
  #all(s) {
    const result = this.#results.get(key(s)), { layers } = this.#data;
    if (s.method !== "attention") return [...result.maps[s.method].values, ...[...result.more.values()]];
    return layers.flatMap((layer, i) => {
      if (!layer.keys) return [];
      const there = { ...s, layer: i, query: queryOn(layer, s.query, layers[s.layer].queries) };
      const mean = Array.isArray(there.query) && layer.block && !result.rows.has(JSON.stringify([i, there.query]));
      return (mean ? [null] : [null, ...Array(layer.heads).keys()]).map((head) => this.read({ ...there, head })).filter(Boolean);
    });
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
    const { images, layers } = this.#data;
    const layer = layers[(s.layer = clamp(s.layer, layers.length))], old = layers[this.#state?.layer]?.queries;
    s.image = clamp(s.image, images.length);
    if (!layer?.keys) return s;
    if (s.head !== null) s.head = clamp(s.head, layer.heads);
    const moved = old && this.#state.layer !== s.layer && same(s.query, this.#state.query);
    s.query = queryOn(layer, s.query, moved ? old : layer.queries);
    return s;
  }

  // -- building once for each set of data

  #build() {
    this.shadowRoot ?? this.attachShadow({ mode: "open" });
    // Keys that mean something here mean something else to a notebook.
    this.setAttribute("data-lm-suppress-shortcuts", "true");
    const d = this.#data, p = (this.#parts = {}), deep = d.layers.length > 0;
    const range = (name, label, count, set) => h("input", { type: "range", min: 0, max: count - 1, step: 1, "aria-label": label, "data-control": name, oninput: (e) => (this.#stop(), set(+e.target.value)) });
    const heads = Math.max(1, ...d.layers.map((layer) => layer.heads));
    p.thumbs = d.images.map((_, i) => h("button", { class: "thumb", onclick: () => this.set({ image: i, target: null }) }, h("canvas", { "aria-hidden": "true" }), h("span")));
    d.images.forEach((_, i) => this.#label(i));
    const stage = (name, label, tab) => h("canvas", { "data-control": name, tabindex: tab ? 0 : null, role: tab ? "application" : "img", "aria-label": label,
      onpointermove: (e) => this.#point(name, e), onpointerleave: () => this.#point(name, null), onclick: (e) => this.#click(e) });
    p.digit = stage("query", "Query. Arrow keys move it over the patches, square brackets change the layer.", true);
    p.heat = stage("map", "Map");
    p.badge = h("div", { class: "badge", "data-control": "head-off" });
    p.names = h("div", { class: "chips", role: "group", "aria-label": "Query without a place" });
    p.label = h("div", { class: "label", "aria-live": "polite", "data-control": "label" });
    p.scale = h("i");
    p.ends = [h("span"), h("span"), h("span")];
    p.unit = h("div", { class: "two", "data-control": "unit" });
    p.legend = h("div", { class: "legend quiet", "data-control": "scale" }, p.scale, h("div", { class: "numbers" }, ...p.ends), p.unit);
    p.sameScale = h("input", { type: "checkbox", "aria-label": "Same scale", "data-control": "same-scale", onchange: (e) => this.set({ same_scale: e.target.checked }) });
    p.layer = range("layer", "Layer", d.layers.length, (layer) => this.set({ layer }));
    p.head = range("head", "Head", heads + 1, (head) => this.set({ head: head ? head - 1 : null }));
    p.step = range("step", "Training step", d.steps.length + 1, (i) => this.set({ step: d.steps[i] ?? null }));
    for (const name of ["layer", "head", "step"]) p[name + "Text"] = h("output");
    p.play = h("button", { "aria-label": "Play through the layers", title: "Play through the layers", onclick: () => (this.#timer ? this.#stop() : this.#play()) }, "▶");
    p.methods = d.methods.map((m) => h("button", { title: capital(m.about), onclick: () => this.set({ method: m.name }) }, m.title));
    p.many = h("div", { class: "many", role: "group", "aria-label": "Small maps" });
    p.manyTitle = h("figcaption", { style: "min-height: 1.45em" });
    p.offText = h("div", { "data-control": "off" });
    p.allOn = h("button", { hidden: true, onclick: () => this.set({ off: [] }) }, "All heads on");
    p.bars = h("div", { class: "bars", role: "group", "aria-label": "Prediction; choose a class to explain" });
    p.barsTitle = h("div");
    p.barsHint = h("div");
    p.copied = h("div", { class: "copied quiet", role: "status" });
    p.strip = d.images.length > 1 ? [h("div", { class: "strip", role: "group", "aria-label": "Image" }, ...p.thumbs)] : [];
    const row = (label, control, text) => [h("span", {}, label), control, text];
    const figure = (area, ...parts) => h("figure", { style: `grid-area: ${area}; align-content: start` }, ...parts);
    p.left = h("div", { class: "root", style: "grid-area: left; padding: 0; align-content: start" },
      (p.stage = h("div", { class: "stage" }, h("figure", {}, (p.digitTitle = h("figcaption")), this.#axes("query", p.digit)),
        (p.heatBox = h("figure", {}, (p.heatTitle = h("figcaption")), this.#axes("map", p.heat, p.badge), p.legend)))),
      p.label, ...(deep ? [p.names] : []),
      (p.ways = h("div", { class: "between" }, h("div", { class: "chips", role: "group", "aria-label": "Method" }, ...(d.methods.length > 1 ? p.methods : [])),
        h("label", { class: "check", title: "Colour all layers and heads, or all classes, by one scale" }, p.sameScale, "Same scale"))),
      (p.controls = h("div", { class: "controls" },
        ...(deep ? [...row("Layer", p.layer, h("span", { class: "chips" }, p.layerText, p.play)), ...row("Head", p.head, p.headText)] : []),
        ...(d.steps.length ? row("Training", p.step, p.stepText) : []))),
      ...(d.left_out && !d.live ? [h("div", { class: "note", "data-control": "left-out" }, d.left_out)] : []));
    const bars = figure("bars", h("figcaption", { class: "two", "data-control": "prediction" }, p.barsTitle, p.barsHint), p.bars);
    p.manyBox = figure("many", p.manyTitle, ...(d.live || this.#state.off.length ? [h("div", { class: "between quiet" }, p.offText, p.allOn)] : []), h("div", { class: "stack" }, ...this.#room(), p.many));
    // What a host puts into the place for paper stands beside the bars, before all else.
    const put = () => Boolean(this.querySelector(":scope > [slot=paper]")), paper = put();
    p.slot = h("slot", { name: "paper", onslotchange: () => put() !== paper && (this.#build(), this.#update()) });
    const columns = paper ? [h("div", { style: "grid-area: paper" }, p.slot), bars, p.left, p.manyBox] : [p.left, bars, p.manyBox, p.slot];
    if (paper) p.left.prepend(...p.strip);
    this.shadowRoot.replaceChildren(h("style", {}, STYLE), (p.root = h("div", { class: `root${paper ? " paper" : ""}`, role: "group", "aria-label": d.title, onkeydown: (e) => this.#key(e) },
      h("div", { class: "top" }, h("div", { class: "title" }, d.title), ...this.#help(), h("button", { onclick: () => this.#copy() }, "Copy as PNG")),
      p.help, p.copied,
      ...(d.note ? [h("div", { class: "note" }, d.note)] : []),
      ...(paper ? [] : p.strip), h("div", { class: "columns" }, ...columns))));
  }

  // A canvas with the numbers of columns above it and of rows beside it.
  #axes(name, canvas, ...over) {
    const numbers = () => h("div", { class: "numbers", "aria-hidden": "true" });
    const [columns, rows] = (this.#parts[name + "Numbers"] = [numbers(), numbers()]);
    columns.dataset.axis = `${name}-columns`; rows.dataset.axis = `${name}-rows`;
    return h("div", { class: "axes" }, columns, rows, (this.#parts[name + "Frame"] = h("div", {}, canvas, ...over)));
  }

  // Counted from 0, as in Python; where there are many, only some are written.
  #number(name, image, pad, grid) {
    const p = this.#parts, whole = this.#data.pad, shown = JSON.stringify([image.side, pad, grid]), numbers = p[name + "Numbers"];
    if (numbers.shown === shown) return;
    numbers.shown = shown;
    numbers.forEach((strip, i) => {
      const axis = 1 - i, n = grid?.[axis] ?? 0, every = [1, 2, 5, 10, 20, 50, 100].find((k) => n / k <= 8) ?? n;
      const at = (cell) => ((cell + 0.5) * (image.side[axis] + 2 * pad)) / n - pad; // in pixels of the image
      strip.replaceChildren(...Array.from({ length: Math.ceil(n / every) }, (_, k) => k * every).map((cell) =>
        h("span", { style: `${axis ? "left" : "top"}: ${(100 * (at(cell) + whole)) / (image.side[axis] + 2 * whole)}%` }, String(cell))));
    });
    numbers[0].style.width = p[name === "map" ? "heat" : "digit"].style.width;
  }

  // Unseen boxes as large as the small maps of all heads, and of all classes.
  #room() {
    const d = this.#data, [tall, wide] = d.images[0]?.side ?? [1, 1], classes = Math.max(0, ...[...this.#results.values()].map(({ shown }) => shown.length), d.few ? 6 : d.classes.length);
    const box = (knob) => h("div", {}, h("button", { disabled: "" }, h("div", { style: `margin: 0 auto; aspect-ratio: ${Math.max(wide / tall, 2 / 3)}` }), h("span")), ...(knob ? [h("button", { class: "switch", disabled: "" })] : []));
    const boxes = (count, knob) => h("div", { class: "many unseen", "aria-hidden": "true" }, ...Array.from({ length: count }, () => box(knob)));
    return [boxes(Math.max(0, ...d.layers.map((layer) => layer.heads)), d.live), ...(d.methods.some((m) => m.targets) ? [boxes(classes, false)] : [])];
  }

  // A button, and the words and signs that it explains.
  #help() {
    const d = this.#data, p = this.#parts, deep = d.layers.length > 0, drawing = d.images.some((image) => image.drawing);
    const methods = d.methods.filter((m) => m.name !== "attention").map((m) => [m.title, METHOD_TERMS[m.name] ?? `${m.about}.`]);
    const terms = [...(deep ? TERMS : []), ...methods, LOGIT].map(([word, sentence]) => h("div", {}, h("dt", {}, word), ": ", h("dd", {}, sentence)));
    const ramp = { scale: `background: ${sequential.css}`, diverging: `background: ${diverging.css}` };
    const signs = LEGEND.filter(([, , only]) => !only || drawing).map(([style, sentence]) => h("li", {}, h("span", { class: "swatch", style: ramp[style] ?? style }), sentence));
    const place = "Layers, heads, rows, columns and images are counted from 0, as in Python: explorer.query = (2, 5) is row 2, column 5.";
    const heads = "A head that is switched off hands on nothing: the prediction is the model's without it.";
    p.help = h("section", { class: "help", id: "help", hidden: "", "data-control": "help-text", "aria-label": "Words and signs" },
      h("h4", {}, "Words"), h("dl", {}, ...terms), h("h4", {}, "Signs"), h("ul", {}, ...signs), ...(deep ? [h("p", {}, place, d.live ? ` ${heads}` : "")] : []));
    p.helpButton = h("button", { "data-control": "help", "aria-expanded": "false", "aria-controls": "help", onclick: () => {
      p.help.hidden = !p.help.hidden;
      p.helpButton.setAttribute("aria-expanded", !p.help.hidden);
    } }, "Help");
    return [p.helpButton];
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
    this.#shared = null;
    p.root.classList.toggle("wide", image.side[1] > 2 * image.side[0]);
    const blank = image.drawing && !image.pixels.some(Boolean), known = !blank && this.#results.has(key(s)); // no ink, nothing to predict
    if (!blank && d.live) this.#ask(s, known);
    const means = this.#onlyMean(s);
    if (means && !d.live) s.head = null; // the page holds no more
    p.left.classList.toggle("waiting", !known);
    p.thumbs.forEach((thumb, i) => thumb.setAttribute("aria-pressed", i === s.image));
    p.methods.forEach((button, i) => button.setAttribute("aria-pressed", d.methods[i].name === s.method));
    p.sameScale.checked = s.same_scale;
    p.layer.value = s.layer; p.layer.setAttribute("aria-valuetext", `layer ${s.layer}`); p.layerText.textContent = `${s.layer} (0–${d.layers.length - 1})`;
    p.head.max = layer?.heads ?? 0; p.head.value = s.head === null ? 0 : s.head + 1; p.headText.textContent = s.head === null ? "mean of all" : `head ${s.head}`;
    p.head.setAttribute("aria-valuetext", p.headText.textContent);
    const at = s.step === null ? d.steps.length : d.steps.indexOf(s.step);
    p.step.value = at; p.stepText.textContent = s.step === null ? "trained" : `step ${s.step}`; p.step.setAttribute("aria-valuetext", p.stepText.textContent);
    const raw = s.method === "attention";
    for (const part of [p.layer, p.head, p.play]) part.disabled = !raw || (part === p.head && means && !d.live);
    const empty = blank && !(d.live && layer?.queries); // not even a grid to show, or nobody who draws on it
    for (const part of [p.stage, p.ways, p.names, p.controls, p.manyBox]) part.hidden = empty;
    this.#drawDigit(image, layer, s, raw);
    this.#drawHeat(image, s);
    for (const part of [p.many, p.manyTitle]) part.classList.toggle("unseen", blank);
    p.bars.hidden = known && !this.probs;
    p.bars.classList.toggle("unseen", blank);
    p.heatBox.hidden ||= blank;
    this.#showNames(layer, s, raw);
    if (blank) p.barsTitle.textContent = d.live ? "The prediction appears here." : NO_SHEET, p.barsHint.textContent = "";
    else if (known && !this.probs) p.barsTitle.textContent = p.barsHint.textContent = "";
    if (known && this.probs) this.#showBars(s);
    if (known) this.#showMany(image, layer, s, raw, means);
    this.#showOff(s);
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
    const p = this.#parts, { pad } = this.#data, { c, pixel } = begin(p.digit, image, pad, 560);
    const grid = raw && layer?.queries;
    drawImage(c, image, pad);
    if (grid) drawGrid(c, image, pad, grid, pixel);
    if (grid && Array.isArray(s.query)) drawRing(c, image, pad, grid, s.query, pixel);
    this.#number("query", image, pad, grid || null);
    p.digitTitle.textContent = p.digitTitle.title = raw && layer ? `Query: ${this.#who(s.query)}` : `Image: ${image.title}`;
  }

  #drawHeat(image, s) {
    const p = this.#parts, { values, grid, pad } = this.map(s), method = this.#data.methods.find((m) => m.name === s.method);
    p.heatBox.hidden = !method;
    if (!method) return;
    const raw = s.method === "attention", off = raw && isOff(s, s.head);
    p.heatTitle.textContent = p.heatTitle.title = raw ? "Attends to" : method.title;
    p.mapFrame.classList.toggle("off", off);
    p.badge.hidden = !off;
    p.badge.textContent = `Head ${s.head} is off`;
    const { c, pixel } = begin(p.heat, image, this.#data.pad, 560);
    if (!values) return;
    const scale = this.#scale(values, s);
    drawMap(c, image, pad, grid, values, scale, this.#data.pad);
    if (raw && Array.isArray(s.query)) drawRing(c, image, this.#data.pad, this.#data.layers[s.layer].queries, s.query, pixel);
    this.#number("map", image, pad, grid);
    const say = method.share ? percent : number;
    p.scale.style.background = scale.css;
    [scale.low, (scale.low + scale.high) / 2, scale.high].forEach((value, i) => (p.ends[i].textContent = say(value)));
    const { uniform } = (raw && this.#data.layers[s.layer]) || {};
    p.unit.textContent = [method.unit, uniform ? `uniform: ${percent(uniform)}` : ""].filter(Boolean).join("; ");
    p.heat.setAttribute("aria-label", `Map: ${this.#words(this.#data.layers[s.layer], s, raw)}`);
  }

  #showNames(layer, s, raw) {
    const names = layer ? [...layer.names, ...(layer.queries ? ["mean"] : [])] : [], p = this.#parts;
    if (!same(p.namesShown, names)) {
      p.namesShown = names;
      p.names.replaceChildren(h("span", { class: "quiet" }, layer?.queries ? "Click a patch, or:" : "Query:"),
        ...names.map((name) => h("button", { "data-query": name, onclick: () => this.set({ query: name }) }, capital(this.#who(name)))));
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
    const way = this.#explainer(), hint = explains ? "choose the class to explain" : way && `choose a class to see its ${way.title.toLowerCase()}`;
    p.barsTitle.textContent = (one ? `Prediction: ${percent(probs[0])} (the output's sigmoid)` : `Prediction: ${d.classes[said]}, ${percent(probs[said])}`)
      + (label === null ? "" : right ? " (right)" : ` (wrong: it is ${one ? label : d.classes[label]})`);
    p.barsHint.textContent = capital([whole ? "lines: all heads on" : one ? "" : hint, shown.length < probs.length ? `the most likely of ${probs.length} classes` : ""].filter(Boolean).join("; "));
    if (!same(p.barsShown, shown)) {
      p.barsShown = shown;
      p.bars.replaceChildren(...shown.map((i) => h(way ? "button" : "div", { class: "bar", "data-class": i, onclick: () => this.#explain(i) },
        h("span", { title: d.classes[i] }, d.classes[i]), h("span", { class: "track" }, h("div", { class: "fill" }), h("div", { class: "ghost" })), h("span"))));
    }
    shown.forEach((i, position) => {
      const bar = p.bars.children[position], [fill, ghost] = bar.children[1].children, share = probs[i];
      fill.style.width = `${100 * share}%`;
      ghost.hidden = !whole; if (whole) ghost.style.left = `calc(${100 * whole[i]}% - 1px)`;
      bar.children[2].textContent = percent(share);
      bar.classList.toggle("said", i === said);
      if (way) bar.setAttribute("aria-pressed", Boolean(explains) && i === (s.target ?? said)), bar.setAttribute("aria-label", `${d.classes[i]}: ${percent(share)}`);
    });
  }

  // The method that a class is explained by: the one on show, or the first that can.
  #explainer() {
    const able = this.#data.methods.filter((m) => m.targets);
    return able.find((m) => m.name === this.#state.method) ?? able[0];
  }

  // A class that is asked about is shown, or asked about no more; nothing is remembered that is not seen.
  #explain(target) {
    const s = this.#state, way = this.#explainer();
    if (way) this.set({ method: way.name, target: way.name === s.method && s.target === target ? null : target });
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
      const [button, knob] = box.children, [canvas, text] = button.children, off = raw && isOff(s, i);
      const { values, grid, pad } = this.map(raw ? { ...s, head: i } : { ...s, target: i }), { c, pixel } = begin(canvas, image, d.pad, 140);
      if (values) drawMap(c, image, pad, grid, values, this.#scale(values, s), d.pad);
      if (values && raw && Array.isArray(s.query)) drawRing(c, image, d.pad, layer.queries, s.query, pixel * 0.7);
      const most = !values ? "" : (method?.share ? percent : number)(extent(values)[1]), name = raw ? `Head ${i}` : d.classes[i];
      text.textContent = `${name}: ${off ? "off" : most}`;
      button.setAttribute("aria-label", raw ? `Head ${i}, at most ${most}${off ? ", switched off" : ""}` : `Class ${name}, at most ${most}`);
      button.setAttribute("aria-pressed", i === (raw ? s.head : s.target ?? this.#said(s)));
      box.classList.toggle("off", off);
      if (knob) (knob.textContent = off ? "Switch on" : "Switch off"), knob.setAttribute("aria-label", `Switch head ${i} of layer ${s.layer} ${off ? "on" : "off"}`);
    });
  }

  // Heads off count in all layers; those of other layers are not seen among the small maps.
  #showOff({ off, layer }) {
    const p = this.#parts, here = off.filter(([l]) => l === layer).length;
    p.offText.textContent = off.length ? `${off.length} ${off.length > 1 ? "heads" : "head"} off (${here} here)` : "";
    p.offText.title = off.map(([l, head]) => `Layer ${l}, head ${head}`).join("; ");
    p.allOn.hidden = !this.#data.live || !off.length;
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
    if (!raw) return `${method.title}${method.targets ? ` for ${this.#data.classes[s.target ?? this.#said(s)]}` : ""}: ${shown ? "" : "most at "}${place} (${(method.share ? percent : number)(values[at])}). ${capital(method.about)}.${coarse}`;
    const rest = 1 - values.reduce((a, b) => a + b, 0), more = layer.rest && rest > 0.005 ? `; ${percent(rest)} to tokens without a place` : "";
    const off = s.off.filter(([l]) => l === s.layer).length, all = `mean of all heads${off ? ` (${off} of them off)` : ""}`;
    return `Layer ${s.layer}, ${s.head === null ? all : `head ${s.head}`}: ${this.#who(s.query)} attends ${shown ? "to" : "most to"} ${place} (${percent(values[at])})${more}.${isOff(s, s.head) ? " This head is switched off: the model gets nothing from it." : ""}${coarse}`;
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
    const { off, layer } = this.#state;
    this.set({ off: isOff(this.#state, head) ? off.filter(([l, n]) => l !== layer || n !== head) : [...off, [layer, head]] });
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
    text(p.digitTitle.textContent, 40, 104); text(p.heatTitle.textContent, 560, 104); text(p.barsTitle.textContent, 1080, 104);
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
    const canvas = this.picture(), { copied } = this.#parts, name = "attention.png";
    const blob = await new Promise((done) => canvas.toBlob(done, "image/png"));
    try {
      await navigator.clipboard.write([new ClipboardItem({ "image/png": blob })]);
      copied.replaceChildren("Copied.");
    } catch { // no clipboard here, or not allowed: a file then; and where that may be refused, the picture itself
      if (!mayDownload(window)) {
        copied.replaceChildren("This page may neither copy nor save. Press the picture with the right button, or long with a finger, to keep it.",
          h("img", { src: canvas.toDataURL(), alt: `${this.#data.title}: ${this.#parts.label.textContent}` }));
        return;
      }
      const link = h("a", { href: URL.createObjectURL(blob), download: name });
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 1000);
      copied.replaceChildren(`Saved as ${name}.`);
    }
  }
}

// Is a download known to be allowed? A frame may forbid it, and one of another origin does not say whether it does.
function mayDownload(view) {
  if (view === view.parent) return view.origin !== "null" || view.location.protocol === "file:"; // else a sandbox without a frame
  try {
    const { sandbox } = view.frameElement; // null where the page around may not be seen
    return (!view.frameElement.hasAttribute("sandbox") || sandbox.contains("allow-downloads")) && mayDownload(view.parent);
  } catch {
    return false;
  }
}

// Widgets of running kernels, by name. A notebook's output holds the element alone, with all it needs to be read without
// a kernel; element and widget meet here, whichever of them comes first.
const widgets = (globalThis.vitWidgets ??= new Map());

// Two outputs of one page bring this file twice; an element can be defined once.
if (!customElements.get("vit-attention")) customElements.define("vit-attention", VitAttention);

// ---- the widget: the same element, with the kernel behind it

const SHARED = ["image", "layer", "head", "query", "method", "target", "step", "off", "same_scale"];

export function connect(element, model) {
  const state = () => Object.fromEntries(SHARED.map((name) => [name, model.get(name)]));
  const asked = new Set(); // an answer may be on its way while the user moves on
  const words = (need) => JSON.stringify([key(need), need.layer, need.query, need.method, need.target]);
  const onData = () => (asked.clear(), (element.data = { ...model.get("_data"), state: state() }));
  const onState = () => element.set(state(), false);
  const onMessage = ({ result, replaced, index, problem }, buffers) => {
    if (replaced) { // Python changed it in place: another element that meets this model shall find it, too
      model.get("_data").images[index] = replaced;
      element.setImage(index, replaced);
    }
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
  return () => {
    widgets.delete(name);
    for (const element of document.querySelectorAll(`vit-attention[data-widget="${name}"]`)) element.leave();
  };
}

// Where the widget itself is shown: in another widget, and in Colab and VS Code.
function render({ model, el }) {
  const element = document.createElement("vit-attention");
  el.append(element);
  return connect(element, model);
}

export default { initialize, render };
