// A link that holds the drawing and the state, a picture of a panel, and how it is printed.
//
// The link's fragment, the part after #, never leaves the browser. It can be read:
// v=1&d=...&layer=3&query=2.5&panel=why
// What comes in a link is anybody's: nothing of it is believed unchecked.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { begin, drawImage } from "./canvas.js";
import { shares } from "./model.js";
import { asImage, mostOf } from "./tokens.js";
import { LIMITS, STILL } from "./transform.js";
import { PANEL_NAMES } from "./panels.js";
import { stepsFor } from "./walk.js";

const LONGEST = 2000; // characters of a link's fragment
const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"; // 64 that need no escape
const UNIT = 512; // the pad's side, as drawings are written

// ---- 1. Strokes as text
// A stroke is the first point and then steps. Each number is written by five bits a letter; the sixth bit says that
// more follow. Points that lie on the way between their neighbours are left out, more of them where there are many.

function writeNumber(x) {
  let rest = x < 0 ? -2 * x - 1 : 2 * x,
    text = "";
  for (; rest > 31; rest = Math.floor(rest / 32)) text += DIGITS[32 + (rest % 32)];
  return text + DIGITS[rest];
}

function readNumbers(text) {
  // null for what is none
  const numbers = [];
  let value = 0,
    size = 1;
  for (const letter of text) {
    const digit = DIGITS.indexOf(letter);
    if (digit < 0 || size > 32 ** 3) return null;
    value += size * (digit % 32);
    size *= 32;
    if (digit > 31) continue;
    numbers.push(value % 2 ? -(value + 1) / 2 : value / 2);
    [value, size] = [0, 1];
  }
  return size === 1 ? numbers : null;
}

// Points of a stroke that lie further than a distance from the line between what is kept (Douglas and Peucker).
export function simplify(points, distance) {
  if (points.length < 3) return points;
  const [x0, y0] = points[0],
    [x1, y1] = points.at(-1),
    dx = x1 - x0,
    dy = y1 - y0,
    long = dx * dx + dy * dy;
  const away = points.map(([x, y]) => {
    const along = long ? Math.min(Math.max(((x - x0) * dx + (y - y0) * dy) / long, 0), 1) : 0;
    return Math.hypot(x - x0 - along * dx, y - y0 - along * dy);
  });
  const far = mostOf(away);
  if (away[far] <= distance) return [points[0], points.at(-1)];
  return [...simplify(points.slice(0, far + 1), distance), ...simplify(points.slice(far), distance).slice(1)];
}

function writeStrokes(strokes, room) {
  for (let distance = 1 / 400; ; distance *= 1.5) {
    const texts = strokes.map((stroke) => {
      const near = (x) => Math.min(Math.max(x, -1), 2); // a pen may leave the sheet, but not for another page
      const whole = simplify(stroke, distance).map((point) => point.map((x) => Math.round(UNIT * near(x))));
      return whole
        .map(([x, y], i) => writeNumber(x - (whole[i - 1]?.[0] ?? 0)) + writeNumber(y - (whole[i - 1]?.[1] ?? 0)))
        .join("");
    });
    while (distance > 0.1 && texts.join(".").length > room) texts.pop(); // thousands of strokes: the first ones
    if (texts.join(".").length <= room) return texts.join(".");
  }
}

function readStrokes(text) {
  if (!text) return [];
  const strokes = text.split(".").map((part) => {
    const numbers = readNumbers(part),
      points = [];
    if (!numbers?.length || numbers.length % 2) return null;
    for (let i = 0, x = 0, y = 0; i < numbers.length; i += 2)
      points.push([(x += numbers[i]) / UNIT, (y += numbers[i + 1]) / UNIT]);
    return points.every((point) => point.every((x) => x >= -1 && x <= 2)) ? points : null;
  });
  return strokes.includes(null) ? null : strokes;
}

// ---- 2. The state as text
// Each field is written by one function and read by another, which returns undefined for what it can't be.

const whole = (text) => (/^\d{1,6}$/.test(text) ? +text : undefined);
const decimal = (text) => (/^-?\d{1,3}(\.\d{1,2})?$/.test(text) ? +text : undefined);
const list = (read, long) => (text) => {
  const found = text ? text.split("_").map(read) : [];
  return found.length <= long && !found.includes(undefined) ? found : undefined;
};
const pair = (text) => {
  const found = text.split(".").map(whole);
  return found.length === 2 && !found.includes(undefined) ? found : undefined;
};
const one = { write: String, read: whole };
const word = { write: String, read: (text) => (PANEL_NAMES.includes(text) ? text : undefined) };
const FIELDS = {
  layer: one,
  head: one,
  target: one,
  other: one,
  step: one,
  walk: one,
  panel: word,
  method: { write: String, read: (text) => (["attention", "rollout"].includes(text) ? text : undefined) },
  query: {
    write: (query) => (Array.isArray(query) ? query.join(".") : query),
    read: (text) => (["cls", "mean"].includes(text) ? text : pair(text)),
  },
  off: { write: (off) => off.map((each) => each.join(".")).join("_"), read: list(pair, 400) },
  empty: { write: (empty) => empty.join("_"), read: list(whole, 400) },
  move: {
    write: (move) =>
      Object.keys(STILL)
        .map((name) => move[name])
        .join("_"),
    read: (text) => {
      const values = list(decimal, 4)(text);
      return values?.length === 4
        ? Object.fromEntries(Object.keys(STILL).map((name, i) => [name, values[i]]))
        : undefined;
    },
  },
};

export function encode(strokes, state) {
  // strokes: lists of points [x, y], from 0 to 1 across the pad
  const usual = (name, value) =>
    value === null ||
    value === undefined ||
    value.length === 0 ||
    (name === "move" && Object.keys(STILL).every((key) => value[key] === STILL[key]));
  const parts = Object.entries(FIELDS)
    .filter(([name]) => !usual(name, state[name]))
    .map(([name, { write }]) => `&${name}=${write(state[name])}`)
    .join("");
  const drawing = writeStrokes(strokes, Math.max(0, LONGEST - parts.length - 6));
  return `v=1${drawing && `&d=${drawing}`}${parts}`;
}

// What a link says, or null where any of it is damaged. Fields that it does not name are not there.
export function decode(text) {
  if (typeof text !== "string" || text.length > 2 * LONGEST) return null;
  const found = new Map(
    text
      .replace(/^#/, "")
      .split("&")
      .map((part) => [part.slice(0, part.indexOf("=")), part.slice(part.indexOf("=") + 1)]),
  );
  if (found.get("v") !== "1") return null;
  const strokes = readStrokes(found.get("d")),
    state = {};
  for (const [name, { read }] of Object.entries(FIELDS)) {
    if (!found.has(name)) continue;
    state[name] = read(found.get(name));
    if (state[name] === undefined) return null;
  }
  return strokes && { strokes, state };
}

// A state that this model can be in, whatever was asked for.
export function fitState(state, model) {
  const clamp = (x, count) => Math.min(Math.max(Math.trunc(x), 0), count - 1),
    { depth, heads, rows, columns, patches } = model;
  const there = (value, count) =>
    value === null || value === undefined || value >= count ? null : clamp(value, count);
  const query = Array.isArray(state.query)
    ? [clamp(state.query[0], rows), clamp(state.query[1], columns)]
    : state.query === "mean" || !model.cls
      ? "mean"
      : "cls";
  const move = Object.fromEntries(
    Object.entries(STILL).map(([name, still]) => {
      const [from, to] = LIMITS[name],
        value = state.move?.[name] ?? still;
      return [name, Math.min(Math.max(value, from), to)];
    }),
  );
  const off = (state.off ?? []).filter(([layer, head]) => layer < depth && head < heads);
  return {
    ...state,
    query,
    move,
    layer: clamp(state.layer ?? depth - 1, depth),
    head: there(state.head, heads),
    target: there(state.target, model.num_classes),
    other: there(state.other, model.num_classes),
    off: off.filter(([layer, head], i) => off.findIndex(([l, one]) => l === layer && one === head) === i),
    empty: [...new Set(state.empty ?? [])].filter((patch) => patch < patches).sort((a, b) => a - b),
    step: state.step ?? null,
    panel: state.panel ?? PANEL_NAMES[0],
    method: state.method ?? "attention",
    walk: there(state.walk, stepsFor(model).length),
  };
}

// ---- 3. A picture of a panel
// The image, the answer, the panel's sentence, and whatever pictures and tables it shows now: dark on white.

export function panelPicture(panel, model, { pixels, result }) {
  const paper = h("canvas", { width: 1480, height: 5200 }),
    c = paper.getContext("2d"),
    wide = paper.width - 80;
  let y = 64;
  c.fillStyle = "#fff";
  c.fillRect(0, 0, paper.width, paper.height);
  c.fillStyle = "#111";
  const write = (text, x, at, font = "24px") => {
    c.font = `${font} system-ui, sans-serif`;
    c.fillText(text, x, at);
  };
  write(panel.title, 40, y, "600 34px");
  const words = (text) => {
    c.font = "24px system-ui, sans-serif";
    let line = "";
    for (const next of [...text.split(" "), null]) {
      if (next !== null && c.measureText(line + next).width < wide) {
        line += `${next} `;
        continue;
      }
      write(line, 40, (y += 36));
      line = `${next} `;
    }
  };
  if (result) {
    const image = h("canvas"),
      probs = shares(result.logits);
    drawImage(begin(image, asImage(model, pixels), 0, 280).c, asImage(model, pixels), 0);
    c.drawImage(image, 40, y + 30);
    probs.forEach((share, i) => {
      const at = y + 50 + 27 * i;
      write(model.classes[i], 380, at, i === mostOf(probs) ? "700 22px" : "22px");
      write(percent(share), 1000, at, "22px");
      c.fillStyle = "#3b82f6";
      c.fillRect(440, at - 16, 540 * share, 18);
      c.fillStyle = "#111";
    });
    y += Math.max(30 + image.height, 50 + 27 * probs.length);
  }
  const seen = (node) => node.getClientRects().length > 0;
  for (const said of panel.node.querySelectorAll(".panel-said, [data-move=tips], [data-training=tips]"))
    if (seen(said)) words(said.textContent);
  let x = 40,
    tall = 0;
  for (const small of panel.node.querySelectorAll("canvas")) {
    if (!seen(small)) continue;
    const width = small.width > 600 ? 700 : 340,
      height = (width * small.height) / small.width;
    if (x + width > paper.width - 40) [x, y, tall] = [40, y + tall + 20, 0];
    c.drawImage(small, x, y + 24, width, height);
    [x, tall] = [x + width + 20, Math.max(tall, height)];
  }
  y += tall + 24;
  for (const table of panel.node.querySelectorAll(".panel-numbers, .layers-table"))
    if (seen(table)) y = drawTable(c, table, y + 44);
  const cut = h("canvas", { width: paper.width, height: Math.min(y + 40, paper.height) });
  cut.getContext("2d").drawImage(paper, 0, 0);
  return cut;
}

function drawTable(c, table, top) {
  const rows = [...table.rows],
    step = Math.min(1400 / rows[0].cells.length, 240);
  rows.forEach((row, i) =>
    [...row.cells].forEach((cell, j) => {
      const y = top + 32 * i,
        x = 40 + step * j;
      c.fillStyle = getComputedStyle(cell).backgroundColor;
      c.fillRect(x, y - 23, step, 31);
      c.fillStyle = "#111";
      c.font = `${cell.tagName === "TH" || row.className ? 700 : 400} 21px system-ui, sans-serif`;
      c.fillText(cell.textContent, x + 4, y);
    }),
  );
  return top + 32 * rows.length;
}
