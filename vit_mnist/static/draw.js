// <vit-pad>: a square to draw a digit in with mouse, pen, finger or keys.
//
// The element knows nothing of models. It tells its host of every change ("vit-drawing") and of a wish to keep the
// drawing ("vit-keep"); the host may be the widget at the end of this file or any page with a model of its own. Inside
// a <vit-attention>, with slot="paper", it stands beside the prediction.

import { h } from "./dom.js";
import { define, initializeFor, widgets } from "./meet.js";

const SIDE = 140; // pixels of the drawing handed on: five for each of MNIST's 28
const PEN = 13; // width of the stroke, in those pixels: about that of MNIST's digits

const STYLE = `
  :host { display: block; font: 14px/1.45 system-ui, sans-serif; max-width: max(240px, 62vh);
    --line: color-mix(in srgb, currentColor 22%, transparent); --accent: #3b82f6; }
  * { box-sizing: border-box; }
  [hidden] { display: none !important; }
  canvas { display: block; width: 100%; aspect-ratio: 1; border: 1px solid var(--line); border-radius: 6px;
    cursor: crosshair; touch-action: none; background: #fff; }
  .row { display: flex; flex-wrap: wrap; gap: 6px; margin: 6px 0; align-items: center; }
  button { font: inherit; color: inherit; background: transparent; border: 1px solid var(--line); border-radius: 6px;
    padding: 3px 9px; min-height: 28px; cursor: pointer; }
  button:disabled { border-style: dashed; color: color-mix(in srgb, currentColor 72%, transparent); cursor: default; }
  :focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
  @media print { .row, p { display: none; } }
  @media (forced-colors: active) { button:disabled { color: GrayText; border-color: GrayText; opacity: 1; } }
  p { margin: 0; font-size: 12.5px; color: color-mix(in srgb, currentColor 72%, transparent); }
`;

export class VitPad extends HTMLElement {
  #strokes = []; #drawing = null; #pointer = null; #cursor = null; #queued = false; #keeps = false;
  #canvas; #buttons = {}; #leave = null;

  connectedCallback() {
    this.dispatchEvent(new CustomEvent("vit-connected"));
    if (!this.shadowRoot) this.#build();
    this.meet();
  }
  disconnectedCallback() {
    this.#leave?.();
    this.#leave = null;
  }
  leave() { // its kernel has ended: paper that nobody reads is not shown
    this.disconnectedCallback();
    this.removeAttribute("slot");
  }
  meet() { // its widget, where there is one: only then is the paper seen, beside the explorer that it stands in
    const model = widgets.get(this.dataset.widget);
    if (!model) return;
    this.slot = "paper";
    this.#leave ??= connect(this, model);
  }

  #build() {
    this.setAttribute("data-lm-suppress-shortcuts", "true"); // a notebook must not take the keys
    const button = (name, label, press) =>
      (this.#buttons[name] = h("button", { "data-control": name, onclick: press }, label));
    this.#canvas = h("canvas", { width: 4 * SIDE, height: 4 * SIDE, tabindex: 0, role: "application",
      "data-control": "paper",
      "aria-label": "Drawing of a digit. Arrow keys move the pen, space puts it down or lifts it." });
    const keep = () => this.dispatchEvent(new CustomEvent("vit-keep"));
    this.attachShadow({ mode: "open" }).append(h("style", {}, STYLE), this.#canvas,
      h("div", { class: "row", role: "group", "aria-label": "Drawing" },
        button("undo", "Undo", () => this.undo()), button("clear", "Clear", () => this.clear()),
        button("keep", "Keep as example", keep), h("slot", { name: "row" })),
      h("p", {}, "Draw a digit. By keyboard: arrows move the pen, space puts it down or lifts it."));
    this.#canvas.addEventListener("pointerdown", (e) => this.#down(e));
    this.#canvas.addEventListener("pointermove", (e) => this.#move(e));
    for (const name of ["pointerup", "pointercancel"]) this.#canvas.addEventListener(name, (e) => this.#up(e));
    this.#canvas.addEventListener("keydown", (e) => this.#key(e));
    this.#show();
  }

  get strokes() { return structuredClone(this.#strokes); }
  set strokes(strokes) {
    this.#strokes = structuredClone(strokes);
    this.#drawing = null;
    this.#changed();
  }

  // Whether a host keeps drawings, when it is told that one shall be kept.
  get keeps() { return this.#keeps; }
  set keeps(keeps) {
    this.#keeps = keeps;
    if (this.shadowRoot) this.#show();
  }

  undo() { this.#strokes.pop(); this.#changed(); }
  clear() { this.#strokes = []; this.#changed(); }

  // Ink from 0 (paper) to 255, row by row.
  pixels() {
    const canvas = document.createElement("canvas");
    canvas.width = canvas.height = SIDE;
    this.#paint(canvas.getContext("2d", { willReadFrequently: true }), SIDE);
    const rgba = canvas.getContext("2d").getImageData(0, 0, SIDE, SIDE).data;
    return Uint8Array.from({ length: SIDE * SIDE }, (_, i) => 255 - rgba[4 * i]);
  }
  get side() { return SIDE; }

  // Points lie between 0 and 1; all coordinates of a fast pen are taken, not one a frame.
  #at(event) {
    const box = this.#canvas.getBoundingClientRect();
    return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
  }
  #down(event) {
    if (event.button || this.#drawing) return; // a second finger draws nothing
    this.#pointer = event.pointerId;
    this.#canvas.setPointerCapture(event.pointerId);
    this.#strokes.push((this.#drawing = [this.#at(event)]));
    this.#changed();
  }
  #move(event) {
    if (!this.#drawing || event.pointerId !== this.#pointer) return;
    const all = event.getCoalescedEvents?.() ?? [];
    for (const e of all.length ? all : [event]) this.#drawing.push(this.#at(e));
    this.#changed();
  }
  #up(event) { if (event.pointerId === this.#pointer) this.#drawing = null; }

  #key(event) {
    if (event.key.toLowerCase() === "z" && (event.ctrlKey || event.metaKey)) {
      this.undo();
      event.preventDefault();
      return event.stopPropagation();
    }
    const move = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (event.key !== " " && !move) return;
    this.#cursor ??= { at: [0.5, 0.3], stroke: null };
    if (event.key === " ") {
      this.#cursor.stroke = this.#cursor.stroke ? null : [[...this.#cursor.at]];
      if (this.#cursor.stroke) this.#strokes.push(this.#cursor.stroke);
    } else {
      this.#cursor.at = this.#cursor.at.map((v, i) => Math.min(Math.max(v + move[i] * 0.05, 0.05), 0.95));
      this.#cursor.stroke?.push([...this.#cursor.at]);
    }
    this.#changed();
    event.preventDefault();
    event.stopPropagation();
  }

  // However fast the pen, the host hears of it once a frame.
  #changed() {
    if (this.#cursor && !this.#strokes.includes(this.#cursor.stroke)) this.#cursor.stroke = null; // it was undone
    if (!this.#strokes.includes(this.#drawing)) this.#drawing = null;
    this.#show();
    if (this.#queued) return;
    this.#queued = true;
    requestAnimationFrame(() => { this.#queued = false; this.dispatchEvent(new CustomEvent("vit-drawing")); });
  }

  #paint(c, side) {
    c.setTransform(side, 0, 0, side, 0, 0);
    c.fillStyle = "#fff"; c.fillRect(0, 0, 1, 1);
    c.strokeStyle = "#000"; c.lineWidth = PEN / SIDE; c.lineCap = c.lineJoin = "round";
    for (const stroke of this.#strokes) {
      c.beginPath();
      c.moveTo(...stroke[0]);
      for (const point of stroke.slice(1)) c.lineTo(...point);
      const [x, y] = stroke[0], dot = stroke.every((point) => point[0] === x && point[1] === y);
      if (dot) c.lineTo(x + 1e-4, y); // a line of no length is not drawn
      c.stroke();
    }
  }
  #show() {
    const c = this.#canvas.getContext("2d");
    this.#paint(c, 4 * SIDE);
    if (this.#cursor && this.shadowRoot.activeElement === this.#canvas) {
      c.strokeStyle = this.#cursor.stroke ? "#c2410c" : "#3b82f6"; c.lineWidth = 0.01;
      c.beginPath(); c.arc(...this.#cursor.at, 0.035, 0, 7); c.stroke();
    }
    for (const button of Object.values(this.#buttons)) button.disabled = !this.#strokes.length;
    this.#buttons.keep.hidden = !this.keeps;
  }
}

define("vit-pad", VitPad);

// ---- the widget: every drawing goes to the kernel, one at a time, or a slow kernel would fall ever further behind

export function connect(pad, model) {
  pad.keeps = true;
  const end = new AbortController();
  let busy = false, again = false;
  const send = () => {
    if (busy) { again = true; return; }
    busy = true; again = false;
    model.send({ drawing: pad.side, empty: !pad.strokes.length }, undefined, [pad.pixels().buffer]);
  };
  const onMessage = ({ seen }) => {
    if (!seen) return;
    busy = false;
    if (again) send();
  };
  pad.addEventListener("vit-drawing", send, end);
  pad.addEventListener("vit-keep", () => model.send({ keep: true }), end);
  model.on("msg:custom", onMessage);
  return () => {
    end.abort();
    model.off("msg:custom", onMessage);
  };
}

function render({ model, el }) {
  const pad = document.createElement("vit-pad");
  // The paper moves into the explorer beside it as soon as that is on the page; they may come in any order.
  const settle = () => {
    const explorer = el.parentElement?.querySelector("vit-attention");
    if (!explorer) return;
    watch.disconnect();
    pad.slot = "paper";
    explorer.append(pad);
  };
  const watch = new MutationObserver(settle);
  pad.addEventListener("vit-connected", () => {
    if (el.parentElement) watch.observe(el.parentElement, { childList: true, subtree: true });
    settle();
  }, { once: true });
  el.append(pad);
  const leave = connect(pad, model);
  return () => {
    watch.disconnect();
    pad.remove();
    leave();
  };
}

export default { initialize: initializeFor("vit-pad"), render };
