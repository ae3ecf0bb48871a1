// <vit-page>: draw a digit, and watch a Vision Transformer think.
//
// One element holds the whole page: the paper, the image that the model sees, the explorer whose source is the model
// in the page, and panels that ask it more. The page keeps what they share; every change goes through `set`.

import { begin, drawImage } from "./canvas.js";
import { describeStep, prepareDigit } from "./digits.js";
import { h } from "./dom.js";
import { VitPad } from "./draw.js";
import { VitAttention } from "./element.js";
import { EXAMPLES } from "./examples.js";
import { define } from "./meet.js";
import { ModelSource, shares } from "./model.js";
import { PAGE_STYLE } from "./page_style.js";
import { PANEL_STYLE } from "./panel_style.js";
import { PANELS } from "./panels.js";
import { copyPicture } from "./picture.js";
import { decode, encode, fitState, panelPicture } from "./share.js";
import { same } from "./state.js";
import { mostOf } from "./tokens.js";
import { isStill, transformImage } from "./transform.js";
import { judge } from "./trust.js";
import { walk } from "./walk.js";
import { percent } from "./words.js";

define("vit-attention", VitAttention);
define("vit-pad", VitPad);

const BLANK = new Uint8Array(784);
const NO_INK = "An empty sheet. Asked about it, the model would name some digit all the same: so nothing is predicted.";
const HOW = "Its score of strangeness lies above a threshold chosen on validation images against letters and scribbles.";

class VitPage extends HTMLElement {
  #source = null; #host = null; #state = null; #step = null; #parts = {}; #panels = []; #walk = null; #judge = null;
  #follow = () => this.#open(location.hash);

  connectedCallback() {
    if (!this.shadowRoot) this.#begin();
    window.addEventListener("hashchange", this.#follow);
  }
  disconnectedCallback() { window.removeEventListener("hashchange", this.#follow); }

  // What is wrong with the data is said in the place of the page, above the still picture.
  #begin() {
    let data = null;
    try {
      data = JSON.parse(this.querySelector(':scope > script[type="application/json"]').textContent);
      this.#source = new ModelSource(data);
      const gray = BLANK.map(() => 128); // tried once, so that what is damaged is known before anything is shown
      this.#judge = (answer, pixels) => data.trust && judge(answer, data.trust, pixels);
      this.#judge(this.#source.forward(gray), gray);
    } catch (error) {
      const words = data ? error.message : "The page is damaged: its data can't be read.";
      return this.prepend(h("p", { role: "alert" }, words));
    }
    const { model } = this.#source, set = (changes) => this.set(changes);
    const forward = (pixels, { off = [], empty = [], model: other = model } = {}) =>
      this.#source.forward(pixels, { off, empty, model: other });
    this.#host = { model, data, set, forward };
    this.#panels = PANELS.map((panel) => panel(this.#host));
    this.#walk = walk(this.#host, (part) => this.#outline(part));
    this.#state = fitState({}, model);
    this.#build(data);
    this.#open(location.hash);
  }

  // -- building once

  #build(data) {
    const p = this.#parts;
    // below the paper where the bars are out of sight; who hears the page hears the explorer say it
    p.answer = h("strong", { slot: "row", class: "page-answer", "aria-hidden": "true", "data-control": "answer" });
    p.pad = h("vit-pad", { "data-part": "pad" }, p.answer);
    p.pad.addEventListener("vit-drawing", () => this.#draw());
    const example = (strokes, digit) => h("button", { "data-example": digit, "aria-label": `Example: a ${digit}`,
      onclick: () => (p.pad.strokes = strokes) }, String(digit));
    const examples = h("div", { class: "page-examples", role: "group", "aria-label": "Examples" },
      h("span", {}, "Or take an example:"), ...EXAMPLES.map(example));
    p.seen = h("canvas", { role: "img", "aria-label": "What the model sees: 28 × 28 pixels" });
    p.seenWords = h("p", { "data-control": "seen" });
    const seen = h("div", { class: "page-seen", "data-part": "seen" }, p.seen, p.seenWords);
    p.trust = h("p", { class: "page-trust", role: "status", "data-control": "trust" });
    p.explorer = h("vit-attention", {}, h("div", { slot: "paper" }, p.pad, examples, seen, p.trust));
    p.explorer.show(data, this.#source);
    p.explorer.addEventListener("vit-change", () => this.#update());

    p.said = h("p", { class: "page-said", role: "status" });
    const link = h("button", { "data-control": "link", onclick: () => this.#copyLink() }, "Copy link");
    this.#buildPanels();
    this.attachShadow({ mode: "open" }).append(h("style", {}, PANEL_STYLE, PAGE_STYLE),
      h("div", { class: "page-top" }, h("p", {}, data.about), this.#walk.node, link), p.said,
      p.explorer, p.panels);
    this.setAttribute("data-lm-suppress-shortcuts", "true"); // a notebook must not take the keys
  }

  // Tabs: arrow keys go from one to the next.
  #buildPanels() {
    const p = this.#parts, names = this.#panels.map(({ name }) => name);
    const choose = (panel) => this.set({ panel }), step = { ArrowRight: 1, ArrowLeft: -1 };
    const onkeydown = (event) => {
      if (!step[event.key]) return;
      const at = (names.indexOf(this.#state.panel) + step[event.key] + names.length) % names.length;
      choose(names[at]);
      p.tabs[at].focus();
      event.preventDefault();
    };
    p.tabs = this.#panels.map(({ name, title }) => h("button", { role: "tab", id: `tab-${name}`, "data-tab": name,
      "aria-controls": `panel-${name}`, onclick: () => choose(name) }, title));
    p.bodies = this.#panels.map(({ name, title, about, node }) => h("div", { role: "tabpanel", id: `panel-${name}`,
      "aria-labelledby": `tab-${name}` }, h("h4", { class: "panel-title" }, title), h("p", { class: "panel-about" }, about), node));
    const copy = h("button", { "data-control": "panel-picture", onclick: () => this.#copyPanel() }, "Copy as PNG");
    p.panels = h("section", { class: "page-panels", "data-part": "panels", "aria-label": "Ask the model" },
      h("div", { class: "page-tabs", role: "tablist", "aria-label": "Ask the model", onkeydown }, ...p.tabs),
      ...p.bodies, copy, (p.copied = h("p", { class: "page-said", role: "status" })));
  }

  // -- state

  get state() {
    const { layer, head, query, off, method } = this.#parts.explorer.state;
    return { ...this.#state, layer, head, query, off, method };
  }
  set(changes) {
    const { explorer } = this.#parts, before = this.#state;
    const state = (this.#state = fitState({ ...this.state, ...changes }, this.#host.model));
    const { layer, head, query, off, method } = state;
    if (!same(state.empty, before.empty)) this.#source.empty = state.empty;
    if (!same(state.move, before.move)) this.#place();
    explorer.set({ layer, head, query, off, method }, false);
    this.#update();
  }

  // What panels get: the image after it was moved, and the model's answer to it, whole and with what is taken away.
  get view() {
    const { state } = this, drawn = this.#step?.pixels ?? null, pixels = drawn && this.#moved(drawn, state.move);
    const result = pixels && this.#source.get({ image: 0, step: null, off: state.off }).raw;
    const less = state.off.length || state.empty.length;
    return { drawn, pixels, result, whole: less ? pixels && this.#host.forward(pixels) : result, state };
  }
  #moved(pixels, move) { return isStill(move) ? pixels : transformImage(pixels, move); }

  // The drawing has changed.
  #draw() {
    const { pad } = this.#parts;
    this.#say(); // what was said of another drawing
    this.#step = pad.strokes.length ? prepareDigit(pad.pixels(), pad.side) : null;
    this.#place();
    this.#parts.explorer.set({}, false);
    this.#update();
  }
  #place() {
    const pixels = this.#step ? this.#moved(this.#step.pixels, this.#state.move) : BLANK;
    this.#parts.explorer.setImage(0, { title: "drawing", label: null, side: [28, 28], pixels });
  }

  #update() {
    const p = this.#parts, { view } = this, { panel, move } = view.state, side = [28, 28];
    const image = { side, shape: [28, 28, 1], drawing: true, pixels: view.pixels ?? BLANK };
    drawImage(begin(p.seen, image, 0, 112).c, image, 0);
    p.copied.replaceChildren();
    const moved = isStill(move) ? "" : " Then moved, turned or grown by the sliders below.";
    const words = this.#step && `What the model sees: your drawing, ${describeStep(this.#step)}.${moved}`;
    p.seenWords.textContent = words ?? NO_INK;
    const verdict = view.pixels && this.#judge(view.whole, view.pixels);
    const doubt = !verdict || verdict.trusted ? "" : `Don't trust this answer: ${verdict.reason}. ${HOW}`;
    if (p.trust.textContent !== doubt) p.trust.textContent = doubt;
    p.answer.textContent = view.pixels ? this.#short(view.result, doubt) : "";
    this.#panels.forEach(({ name }, i) => {
      p.tabs[i].setAttribute("aria-selected", name === panel);
      p.tabs[i].tabIndex = name === panel ? 0 : -1;
      p.bodies[i].hidden = name !== panel;
    });
    this.#panels.find(({ name }) => name === panel)?.show(view);
    this.#walk.show(view);
  }

  // The answer in a word, on a phone: `7, 98 %`.
  #short({ logits }, doubt) {
    const probs = shares(logits), said = mostOf(probs);
    return `${this.#host.model.classes[said]}, ${percent(probs[said])}${doubt && ", doubtful"}`;
  }

  // The part that the walk speaks of, here or in the explorer.
  #outline(part) {
    this.classList.toggle("walking", part !== null); // room below for the step, which stands at the bottom
    const roots = [this.shadowRoot, this.#parts.explorer.shadowRoot];
    for (const root of roots) for (const node of root.querySelectorAll("[data-part]")) {
      const told = node.dataset.part === part;
      node.toggleAttribute("data-told", told);
      if (told) node.scrollIntoView({ block: "nearest" });
    }
  }

  // -- links and pictures

  #open(hash) {
    if (!hash.startsWith("#v=")) return this.#update();
    const found = decode(hash);
    if (!found) {
      this.#say("This link is damaged: nothing of it can be shown.");
      return this.#update();
    }
    this.set({ ...fitState({}, this.#host.model), ...found.state }); // what a link does not name is as at the start
    this.#parts.pad.strokes = found.strokes;
    this.#draw();
  }
  async #copyLink() {
    const hash = `#${encode(this.#parts.pad.strokes, this.state)}`, url = new URL(hash, location.href).href;
    history.replaceState(null, "", hash);
    try {
      await navigator.clipboard.writeText(url);
      this.#say("Copied: a link that holds the drawing and what is shown. It is sent nowhere.");
    } catch {
      this.#say("The link now stands in the address of this page: copy it from there.");
    }
  }
  async #copyPanel() {
    const panel = this.#panels.find(({ name }) => name === this.#state.panel);
    const picture = panelPicture(panel, this.#host.model, this.view);
    this.#parts.copied.replaceChildren(...(await copyPicture(picture, panel.title, `${panel.name}.png`)));
  }
  #say(...words) { this.#parts.said.replaceChildren(...words); }
}

define("vit-page", VitPage);
