// <vit-attention>: what a Vision Transformer attends to, to be explored by hand.
//
// The element shows a state of its data (state.js), and asks a source (sources.js) for what belongs to it. On any page
// it finds its data in a JSON script inside it; in a notebook it is tied to the Python object (attention.js).

import { withAxes } from "./axes.js";
import { begin, drawGrid, drawImage, drawMap, drawRing } from "./canvas.js";
import { extent, scaleOf } from "./colours.js";
import { connect } from "./connect.js";
import { h } from "./dom.js";
import { help } from "./help.js";
import { kinds, widgets } from "./meet.js";
import { copyPicture, drawPicture } from "./picture.js";
import { fromText } from "./sources.js";
import { fit, isOff, isPlace, same, start } from "./state.js";
import { STYLE } from "./style.js";
import { NO_SHEET, capital, describe, number, percent, who } from "./words.js";

// An image as it is drawn; older data has digits alone.
function open(image) {
  const pixels = typeof image.pixels === "string" ? fromText(image.pixels) : image.pixels;
  return { shape: [...image.side, 1], drawing: true, ...image, pixels };
}

export class VitAttention extends HTMLElement {
  #data = null; #state = null; #source = null; #parts = {};
  #preview = null; #pointed = null; #timer = null; #shared = null; #width = 0; #leave = null;
  #watch = new ResizeObserver(([{ contentRect: { width } }]) => { // lines are drawn in pixels of the page
    if (width !== this.#width) (this.#width = width), requestAnimationFrame(() => this.#update());
  });

  connectedCallback() {
    this.begin();
    this.#watch.observe(this);
    this.meet();
  }
  disconnectedCallback() {
    this.#stop();
    this.#watch.disconnect();
    this.#leave?.();
    this.#leave = null;
  }
  begin(again = false) { // with the data inside it, once there is the kind of source that they name
    if (this.#data && !again) return; // a second copy of this code changes nothing on show
    const script = this.querySelector(':scope > script[type="application/json"]');
    if (!script) return;
    try {
      const data = JSON.parse(script.textContent), make = kinds.get(data.source ?? "stored");
      if (make) this.show(data, make(data));
    } catch (error) { // beside the still picture, where there is one
      if (this.shadowRoot) throw error;
      const unread = error instanceof SyntaxError;
      this.prepend(h("p", { role: "alert" }, unread ? "The page is damaged: its data can't be read." : error.message));
    }
  }
  meet() { // its widget, where there is one
    const model = widgets.get(this.dataset.widget);
    if (model) this.#leave ??= connect(this, model);
  }
  leave() { // its kernel has ended: what the page itself holds is shown again
    this.#stop();
    this.#leave?.();
    this.#leave = null;
    this.begin(true);
  }

  // Everything there is to show, as Python's `explorer_data` makes it, and where results come from.
  show(data, source) {
    this.#data = { ...data, images: data.images.map(open) };
    this.#source = source;
    source.data = this.#data;
    source.onchange = () => this.#update();
    this.#state = fit(start(data), this.#state, this.#data);
    this.#build();
    this.#update();
  }

  get state() { return structuredClone(this.#state); }
  set(changes, tell = true) {
    const before = this.#state;
    this.#state = fit({ ...before, ...changes }, before, this.#data);
    const changed = Object.entries(this.#state).filter(([name, value]) => !same(value, before[name]));
    if (changed.length) this.#parts.copied.replaceChildren(); // said of another view
    const detail = Object.fromEntries(changed);
    if (tell && changed.length) this.dispatchEvent(new CustomEvent("vit-change", { detail }));
    this.#update();
  }

  setImage(index, image) {
    this.#parts.copied.replaceChildren(); // said of what was there before
    this.#source.forget(index);
    this.#data.images[index] = open(image);
    this.#label(index);
  }
  fail(message) { // in the place of what is missing; and where nothing is missing, it is said, too
    if (!this.#source.get(this.#state)) this.#parts.label.textContent = capital(message);
    this.#parts.copied.replaceChildren(capital(message));
  }

  read(where = {}) { // what one query attends to; null where it is not known
    const s = { ...this.#state, ...where };
    return this.#source.get(s)?.read(s) ?? null;
  }
  map(where = {}) { // the map on show
    const s = { ...this.#state, ...where };
    return this.#source.get(s)?.map(s) ?? { values: null };
  }
  get probs() { return this.#source.get(this.#state)?.probs ?? null; }

  // The colours of a map: its own, or those of all layers and heads, or of all classes.
  #scale(values, s, result) {
    if (!s.same_scale) return scaleOf(values);
    return (this.#shared ??= scaleOf(result.all(s).reduce((range, each) => extent(each, range), [0, 0])));
  }

  // -- building once for each set of data

  #build() {
    this.shadowRoot ?? this.attachShadow({ mode: "open" });
    // Keys that mean something here mean something else to a notebook.
    this.setAttribute("data-lm-suppress-shortcuts", "true");
    const d = this.#data, p = (this.#parts = {}), deep = d.layers.length > 0;
    const range = (name, label, count, set) => {
      const oninput = (e) => (this.#stop(), set(+e.target.value));
      const ends = { min: 0, max: count - 1, step: 1 };
      return h("input", { type: "range", ...ends, "aria-label": label, "data-control": name, oninput });
    };
    const heads = Math.max(1, ...d.layers.map((layer) => layer.heads));
    const choose = (image) => this.set({ image, target: null });
    p.thumbs = d.images.map((_, i) => h("button", { class: "thumb", onclick: () => choose(i) },
      h("canvas", { "aria-hidden": "true" }), h("span")));
    d.images.forEach((_, i) => this.#label(i));
    const stage = (name, label, tab) => h("canvas", { "data-control": name, "aria-label": label,
      tabindex: tab ? 0 : null, role: tab ? "application" : "img", onclick: (e) => this.#click(e),
      onpointermove: (e) => this.#point(name, e), onpointerleave: () => this.#point(name, null) });
    p.digit = stage("query", "Query. Arrow keys move it over the patches, square brackets change the layer.", true);
    p.heat = stage("map", "Map");
    p.badge = h("div", { class: "badge", "data-control": "head-off" });
    p.digitAxes = withAxes("query", p.digit);
    p.heatAxes = withAxes("map", p.heat, p.badge);
    p.names = h("div", { class: "chips", role: "group", "aria-label": "Query without a place" });
    p.label = h("div", { class: "label", "aria-live": "polite", "data-control": "label" });
    p.scale = h("i");
    p.ends = [h("span"), h("span"), h("span")];
    p.unit = h("div", { class: "two", "data-control": "unit" });
    p.legend = h("div", { class: "legend quiet", "data-control": "scale" },
      p.scale, h("div", { class: "numbers" }, ...p.ends), p.unit);
    p.sameScale = h("input", { type: "checkbox", "aria-label": "Same scale", "data-control": "same-scale",
      onchange: (e) => this.set({ same_scale: e.target.checked }) });
    p.layer = range("layer", "Layer", d.layers.length, (layer) => this.set({ layer }));
    p.head = range("head", "Head", heads + 1, (head) => this.set({ head: head ? head - 1 : null }));
    p.step = range("step", "Training step", d.steps.length + 1, (i) => this.set({ step: d.steps[i] ?? null }));
    for (const name of ["layer", "head", "step"]) p[name + "Text"] = h("output");
    const play = { "aria-label": "Play through the layers", title: "Play through the layers" };
    p.play = h("button", { ...play, onclick: () => (this.#timer ? this.#stop() : this.#play()) }, "▶");
    p.methods = d.methods.map((m) =>
      h("button", { title: capital(m.about), onclick: () => this.set({ method: m.name }) }, m.title));
    p.many = h("div", { class: "many", role: "group", "aria-label": "Small maps" });
    p.manyTitle = h("figcaption", { style: "min-height: 1.45em" });
    p.offText = h("div", { "data-control": "off" });
    p.allOn = h("button", { hidden: true, onclick: () => this.set({ off: [] }) }, "All heads on");
    p.bars = h("div", { class: "bars", role: "group", "aria-label": "Prediction; choose a class to explain" });
    p.barsTitle = h("div");
    p.barsHint = h("div");
    p.copied = h("div", { class: "copied quiet", role: "status" });
    p.help = help(d);
    this.#arrange(d, p, deep);
  }

  #arrange(d, p, deep) {
    const figure = (area, ...parts) => h("figure", { style: `grid-area: ${area}; align-content: start` }, ...parts);
    const row = (label, control, text) => [h("span", {}, label), control, text];
    for (const name of ["layer", "head"]) p[name].dataset.part = name;
    const strip = h("div", { class: "strip", role: "group", "aria-label": "Image" }, ...p.thumbs);
    p.stage = h("div", { class: "stage" },
      h("figure", { "data-part": "query" }, (p.digitTitle = h("figcaption")), p.digitAxes.node),
      (p.heatBox = h("figure", { "data-part": "map" }, (p.heatTitle = h("figcaption")), p.heatAxes.node, p.legend)));
    const methods = h("div", { class: "chips", role: "group", "aria-label": "Method" });
    if (d.methods.length > 1) methods.append(...p.methods);
    const scale = { class: "check", title: "Colour all layers and heads, or all classes, by one scale" };
    p.ways = h("div", { class: "between" }, methods, h("label", scale, p.sameScale, "Same scale"));
    p.controls = h("div", { class: "controls" });
    if (deep) {
      p.controls.append(...row("Layer", p.layer, h("span", { class: "chips" }, p.layerText, p.play)));
      p.controls.append(...row("Head", p.head, p.headText));
    }
    if (d.steps.length) p.controls.append(...row("Training", p.step, p.stepText));
    p.left = h("div", { class: "root", style: "grid-area: left; padding: 0; align-content: start" },
      p.stage, p.label, ...(deep ? [p.names] : []), p.ways, p.controls,
      ...(d.left_out && !d.live ? [h("div", { class: "note", "data-control": "left-out" }, d.left_out)] : []));
    const prediction = { class: "two", "data-control": "prediction" };
    const bars = figure("bars", h("figcaption", prediction, p.barsTitle, p.barsHint), p.bars);
    bars.dataset.part = "bars";
    const off = d.live || this.#state.off.length ? [h("div", { class: "between quiet" }, p.offText, p.allOn)] : [];
    p.manyBox = figure("many", p.manyTitle, ...off, h("div", { class: "stack" }, ...this.#room(), p.many));

    // What a host puts into the place for paper stands beside the bars, before all else.
    const put = () => Boolean(this.querySelector(":scope > [slot=paper]")), paper = put();
    p.slot = h("slot", { name: "paper", onslotchange: () => put() !== paper && (this.#build(), this.#update()) });
    const area = h("div", { style: "grid-area: paper" }), columns = [p.left, bars, p.manyBox];
    const images = d.images.length > 1 ? [strip] : [];
    if (paper) p.left.prepend(...images);
    const main = paper ? [area, bars, p.left, p.manyBox] : [...columns, p.slot];
    if (paper) area.append(p.slot);
    const kind = `root${paper ? " paper" : ""}${d.source ? " live" : ""}`;
    const name = { class: kind, role: "group", "aria-label": d.title };
    p.root = h("div", { ...name, onkeydown: (e) => this.#key(e) },
      h("div", { class: "top" }, h("div", { class: "title" }, d.title), p.help.button,
        h("button", { onclick: () => this.#copy() }, "Copy as PNG")),
      p.help.text, p.copied, ...(d.note ? [h("div", { class: "note" }, d.note)] : []),
      ...(paper ? [] : images), h("div", { class: "columns" }, ...main));
    this.shadowRoot.replaceChildren(h("style", {}, STYLE), p.root);
  }

  // Unseen boxes as large as the small maps of all heads, and of all classes.
  #room() {
    const d = this.#data, [tall, wide] = d.images[0]?.side ?? [1, 1], classes = d.few ? 6 : d.classes.length;
    const shape = { style: `margin: 0 auto; aspect-ratio: ${Math.max(wide / tall, 2 / 3)}` };
    const box = (knob) => h("div", {}, h("button", { disabled: "" }, h("div", shape), h("span")),
      ...(knob ? [h("button", { class: "switch", disabled: "" })] : []));
    const boxes = (count, knob) =>
      h("div", { class: "many unseen", "aria-hidden": "true" }, ...Array.from({ length: count }, () => box(knob)));
    const heads = Math.max(0, ...d.layers.map((layer) => layer.heads)), targets = d.methods.some((m) => m.targets);
    return [boxes(heads, d.live), ...(targets ? [boxes(classes, false)] : [])];
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
    const blank = image.drawing && !image.pixels.some(Boolean); // no ink, nothing to predict
    const result = blank ? null : this.#source.get(s);
    if (!blank) this.#source.ask(s);
    const means = Boolean(result?.isMean(s));
    if (means && !d.live) s.head = null; // the page holds no more
    p.left.classList.toggle("waiting", !result);
    this.#showControls(s, layer, means);
    const raw = s.method === "attention", empty = blank && !(d.live && layer?.queries); // not even a grid to show
    for (const part of [p.stage, p.ways, p.names, p.controls, p.manyBox]) part.hidden = empty;
    this.#drawDigit(image, layer, s, raw);
    this.#drawHeat(image, s, result);
    for (const part of [p.many, p.manyTitle, p.bars]) part.classList.toggle("unseen", blank);
    p.bars.hidden = Boolean(result) && !result.probs;
    p.heatBox.classList.toggle("unseen", blank);
    this.#showNames(layer, s, raw);
    if (blank) {
      if (!empty && !d.few) this.#buildBars([...d.classes.keys()]); // the room that they will take
      p.barsTitle.textContent = d.live ? "The prediction appears here." : NO_SHEET;
      p.barsHint.textContent = "";
    } else if (result && !result.probs) p.barsTitle.textContent = p.barsHint.textContent = "";
    if (result?.probs) this.#showBars(s, result);
    if (result) this.#showMany(image, layer, s, result, means);
    this.#showOff(s);
    p.label.textContent = blank ? "Nothing is drawn yet."
      : (result && describe(d, s, result, this.#pointed)) || this.#source.waiting;
  }

  #showControls(s, layer, means) {
    const d = this.#data, p = this.#parts, raw = s.method === "attention";
    p.thumbs.forEach((thumb, i) => thumb.setAttribute("aria-pressed", i === s.image));
    p.methods.forEach((button, i) => button.setAttribute("aria-pressed", d.methods[i].name === s.method));
    p.sameScale.checked = s.same_scale;
    p.layer.value = s.layer;
    p.layer.setAttribute("aria-valuetext", `layer ${s.layer}`);
    p.layerText.textContent = `${s.layer} (0–${d.layers.length - 1})`;
    p.head.max = layer?.heads ?? 0;
    p.head.value = s.head === null ? 0 : s.head + 1;
    p.headText.textContent = s.head === null ? "mean of all" : `head ${s.head}`;
    p.head.setAttribute("aria-valuetext", p.headText.textContent);
    p.step.value = s.step === null ? d.steps.length : d.steps.indexOf(s.step);
    p.stepText.textContent = s.step === null ? "trained" : `step ${s.step}`;
    p.step.setAttribute("aria-valuetext", p.stepText.textContent);
    for (const part of [p.layer, p.head, p.play]) part.disabled = !raw || (part === p.head && means && !d.live);
  }

  #drawDigit(image, layer, s, raw) {
    const p = this.#parts, { pad } = this.#data, { c, pixel } = begin(p.digit, image, pad, 560);
    const grid = raw && layer?.queries;
    drawImage(c, image, pad);
    if (grid) drawGrid(c, image, pad, grid, pixel);
    if (grid && isPlace(s.query)) drawRing(c, image, pad, grid, s.query, pixel);
    p.digitAxes.number(image, pad, grid || null, pad);
    p.digitTitle.textContent = p.digitTitle.title = raw && layer ? `Query: ${who(s.query)}` : `Image: ${image.title}`;
  }

  #drawHeat(image, s, result) {
    const p = this.#parts, d = this.#data, method = d.methods.find((m) => m.name === s.method);
    p.heatBox.hidden = !method;
    if (!method) return;
    const raw = s.method === "attention", off = raw && isOff(s, s.head), layer = d.layers[s.layer];
    p.heatTitle.textContent = p.heatTitle.title = raw ? "Attends to" : method.title;
    p.heatAxes.frame.classList.toggle("off", off);
    p.badge.hidden = !off;
    p.badge.textContent = `Head ${s.head} is off`;
    const { c, pixel } = begin(p.heat, image, d.pad, 560), { values, grid, pad } = result?.map(s) ?? {};
    if (!values) return;
    const scale = this.#scale(values, s, result), say = method.share ? percent : number;
    drawMap(c, image, pad, grid, values, scale, d.pad);
    if (raw && isPlace(s.query)) drawRing(c, image, d.pad, layer.queries, s.query, pixel);
    p.heatAxes.number(image, pad, grid, d.pad);
    p.scale.style.background = scale.css;
    [scale.low, (scale.low + scale.high) / 2, scale.high].forEach((v, i) => (p.ends[i].textContent = say(v)));
    const uniform = raw && layer?.uniform ? `uniform: ${percent(layer.uniform)}` : "";
    p.unit.textContent = [method.unit, uniform].filter(Boolean).join("; ");
    p.heat.setAttribute("aria-label", `Map: ${describe(d, s, result, this.#pointed)}`);
  }

  #showNames(layer, s, raw) {
    const names = layer ? [...layer.names, ...(layer.queries ? ["mean"] : [])] : [], p = this.#parts;
    if (!same(p.namesShown, names)) {
      p.namesShown = names;
      const choose = (query) => this.set({ query }), words = layer?.queries ? "Click a patch, or:" : "Query:";
      p.names.replaceChildren(h("span", { class: "quiet" }, words), ...names.map((name) =>
        h("button", { "data-query": name, onclick: () => choose(name) }, capital(who(name)))));
    }
    for (const button of p.names.querySelectorAll("button")) {
      button.setAttribute("aria-pressed", raw && button.dataset.query === s.query);
      button.disabled = !raw;
    }
  }

  #showBars(s, { probs, shown, said }) {
    const p = this.#parts, d = this.#data, { label } = d.images[s.image], one = probs.length === 1;
    const whole = s.off.length ? this.#source.get({ ...s, off: [] })?.probs : null;
    const right = one ? label === Number(probs[0] >= 0.5) : label === said; // one output tells two classes apart
    const explains = d.methods.find((m) => m.name === s.method)?.targets, way = this.#explainer();
    const other = way && `choose a class to see its ${way.title.toLowerCase()}`;
    const hint = explains ? "choose the class to explain" : other;
    const truth = label === null ? "" : right ? " (right)" : ` (wrong: it is ${one ? label : d.classes[label]})`;
    const answer = one ? `${percent(probs[0])} (the output's sigmoid)` : `${d.classes[said]}, ${percent(probs[said])}`;
    p.barsTitle.textContent = `Prediction: ${answer}${truth}`;
    const few = shown.length < probs.length ? `the most likely of ${probs.length} classes` : "";
    p.barsHint.textContent = capital([whole ? "lines: all heads on" : one ? "" : hint, few].filter(Boolean).join("; "));
    this.#buildBars(shown);
    shown.forEach((i, position) => {
      const bar = p.bars.children[position], [fill, ghost] = bar.children[1].children, share = probs[i];
      fill.style.width = `${100 * share}%`;
      ghost.hidden = !whole;
      if (whole) ghost.style.left = `calc(${100 * whole[i]}% - 1px)`;
      bar.children[2].textContent = percent(share);
      bar.classList.toggle("said", i === said);
      if (!way) return;
      bar.setAttribute("aria-pressed", Boolean(explains) && i === (s.target ?? said));
      bar.setAttribute("aria-label", `${d.classes[i]}: ${percent(share)}`);
    });
  }

  #buildBars(shown) {
    const p = this.#parts, d = this.#data, tag = this.#explainer() ? "button" : "div";
    if (same(p.barsShown, shown)) return;
    p.barsShown = shown;
    const track = () => h("span", { class: "track" }, h("div", { class: "fill" }), h("div", { class: "ghost" }));
    p.bars.replaceChildren(...shown.map((i) =>
      h(tag, { class: "bar", "data-class": i, onclick: () => this.#explain(i) },
        h("span", { title: d.classes[i] }, d.classes[i]), track(), h("span"))));
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
  #showMany(image, layer, s, result, means) {
    const p = this.#parts, d = this.#data, method = d.methods.find((m) => m.name === s.method);
    const raw = s.method === "attention", missing = raw && means && !d.live;
    const heads = missing ? [] : [...Array(layer?.heads ?? 0).keys()];
    const all = raw ? heads : method?.targets ? result.shown : [], kind = JSON.stringify([raw, all, s.layer]);
    const title = !all.length ? "" : raw ? `All heads of layer ${s.layer}` : `${method.title} for each class`;
    p.manyTitle.textContent = missing ? "Heads of single patches are not stored in this page." : title;
    if (p.manyKind !== kind) {
      p.manyKind = kind;
      const press = (i) => this.set(raw ? { head: this.#state.head === i ? null : i } : { target: i });
      const knob = (i) => h("button", { class: "switch", "data-switch": i, onclick: () => this.#toggle(i) });
      p.many.replaceChildren(...all.map((i) => h("div", {},
        h("button", { "data-many": i, onclick: () => press(i) }, h("canvas", { "aria-hidden": "true" }), h("span")),
        ...(raw && d.live ? [knob(i)] : []))));
    }
    [...p.many.children].forEach((box, position) => {
      const [button, knob] = box.children, [canvas, text] = button.children;
      const i = all[position], off = raw && isOff(s, i);
      const { values, grid, pad } = result.map({ ...s, [raw ? "head" : "target"]: i });
      const { c, pixel } = begin(canvas, image, d.pad, 140);
      if (values) drawMap(c, image, pad, grid, values, this.#scale(values, s, result), d.pad);
      if (values && raw && isPlace(s.query)) drawRing(c, image, d.pad, layer.queries, s.query, pixel * 0.7);
      const most = !values ? "" : (method?.share ? percent : number)(extent(values)[1]);
      const name = raw ? `Head ${i}` : d.classes[i];
      text.textContent = `${name}: ${off ? "off" : most}`;
      const silent = off ? ", switched off" : "";
      button.setAttribute("aria-label", raw ? `Head ${i}, at most ${most}${silent}` : `Class ${name}, at most ${most}`);
      button.setAttribute("aria-pressed", i === (raw ? s.head : s.target ?? result.said));
      box.classList.toggle("off", off);
      if (!knob) return;
      knob.textContent = off ? "Switch on" : "Switch off";
      knob.setAttribute("aria-label", `Switch head ${i} of layer ${s.layer} ${off ? "on" : "off"}`);
    });
  }

  // Heads off count in all layers; those of other layers are not seen among the small maps.
  #showOff({ off, layer }) {
    const p = this.#parts, here = off.filter(([l]) => l === layer).length;
    p.offText.textContent = off.length ? `${off.length} ${off.length > 1 ? "heads" : "head"} off (${here} here)` : "";
    p.offText.title = off.map(([l, head]) => `Layer ${l}, head ${head}`).join("; ");
    p.allOn.hidden = !this.#data.live || !off.length;
  }

  // -- mouse, pen, finger, keys

  #cell(event, grid, pad) {
    const box = event.currentTarget.getBoundingClientRect(), { side } = this.#data.images[this.#state.image];
    const whole = this.#data.pad, down = (event.clientY - box.top) / box.height;
    return [down, (event.clientX - box.left) / box.width].map((t, i) => {
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
    const s = this.#state, layer = this.#data.layers[s.layer];
    const move = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.ctrlKey || event.metaKey || event.altKey || s.method !== "attention") return;
    if (event.key === "[" || event.key === "]") {
      this.#stop();
      this.set({ layer: s.layer + (event.key === "]" ? 1 : -1) });
    } else if (move && event.target === this.#parts.digit && layer?.queries) {
      this.#preview = null;
      const middle = layer.queries.map((n) => Math.floor(n / 2));
      this.set({ query: isPlace(s.query) ? s.query.map((v, i) => v + move[i]) : middle });
    } else return;
    event.preventDefault();
    event.stopPropagation();
  }

  #toggle(head) {
    const { off, layer } = this.#state, others = off.filter(([l, n]) => l !== layer || n !== head);
    this.set({ off: isOff(this.#state, head) ? others : [...off, [layer, head]] });
  }

  #play() {
    const last = this.#data.layers.length - 1;
    if (this.#state.layer === last) this.set({ layer: 0 });
    this.#timer = setInterval(() => {
      this.set({ layer: this.#state.layer + 1 });
      if (this.#state.layer === last) this.#stop();
    }, 700);
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
    const p = this.#parts, small = [...p.many.querySelectorAll("canvas")];
    const seen = !p.heatBox.hidden && !p.heatBox.classList.contains("unseen");
    const bars = [...p.bars.children].map(({ children: [name, track, words] }) =>
      [name.textContent, parseFloat(track.firstChild.style.width), words.textContent]);
    return drawPicture({
      title: this.#data.title, label: p.label.textContent,
      left: p.digitTitle.textContent, middle: p.heatTitle.textContent, right: p.barsTitle.textContent,
      digit: p.digit, heat: seen ? p.heat : null, bars,
      many: small.map((canvas) => [canvas, canvas.nextSibling.textContent]),
    });
  }

  async #copy() {
    const { copied, label } = this.#parts;
    copied.replaceChildren(...(await copyPicture(this.picture(), `${this.#data.title}: ${label.textContent}`)));
  }
}
