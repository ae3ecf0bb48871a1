// Panel: the same drawing through training. The weights of some steps lie beside those of the page, and are unpacked
// only when they are asked for.
//
// `data.snapshots` is what `snapshots_of` of the Python package makes of a run: { note, steps: [{ step, weights }] },
// each `weights` a safetensors file in half precision, packed and written in base64; or { src }, where a JSON file of
// the same site holds all that.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { scaleOf } from "./colours.js";
import { begin, drawMap } from "./canvas.js";
import { shares } from "./model.js";
import { asImage, attentionOf, mostOf } from "./tokens.js";
import { classBars } from "./bars.js";
import { drawCurve, stretches } from "./curve.js";
import { slices } from "./slices.js";
import { ViT } from "./vit.js";

// The lower bytes of all numbers come first, then the upper ones: like beside like, which gzip packs better.
async function unpack(text) {
  const packed = new Blob([Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0))]);
  const halves = new Uint8Array(
    await new Response(packed.stream().pipeThrough(new DecompressionStream("gzip"))).arrayBuffer(),
  );
  const middle = Math.ceil(halves.length / 2);
  return halves.map((_, i) => halves[i % 2 ? middle + (i - 1) / 2 : i / 2]);
}

async function loadSnapshots({ note, steps, src }, tell) {
  if (src) {
    const answer = await fetch(src);
    if (!answer.ok) throw new Error(`the file ${src} is not there`);
    ({ note, steps } = await answer.json());
  }
  const found = [];
  for (const { step, weights } of steps) {
    found.push({ step, model: new ViT(await unpack(weights)) });
    tell(found.length, steps.length);
  }
  return { note, found };
}

export function trainingPanel(host) {
  const { data } = host,
    { classes } = host.model,
    snapshots = data?.snapshots,
    work = slices();
  let found = null,
    loading = false,
    failed = false,
    shown = null,
    asked = null,
    known = [];
  const said = h("p", { class: "panel-said", "aria-live": "polite" });
  const load = h("button", { "data-training": "load", onclick: () => start() }, "Load the steps of training");
  const slider = h("input", {
    type: "range",
    min: 0,
    max: 0,
    step: 1,
    "aria-label": "Step of training",
    "data-training": "step",
    oninput: (e) => host.set({ step: found[+e.target.value].step }),
  });
  const text = h("output"),
    curve = h("canvas", { class: "panel-curve", role: "img" }),
    tips = h("p", { class: "panel-quiet", "data-training": "tips" });
  const bars = classBars(classes, "Probability of each class at this step, before and after the rest of training");
  const map = h("canvas", { role: "img" }),
    mapTitle = h("figcaption");
  const parts = h(
    "div",
    { class: "move-parts", hidden: "" },
    h("section", {}, h("label", { class: "move-row" }, h("span", {}, "Step"), slider, text), curve, tips),
    h("figure", { class: "move-seen" }, mapTitle, map),
    bars.node,
  );
  const note = h("p", { class: "panel-quiet" }, "");

  async function start() {
    if (found || loading) return;
    loading = true;
    load.disabled = true;
    try {
      const loaded = await loadSnapshots(snapshots, (done, all) => {
        said.textContent = `Unpacking: ${done} of ${all} steps…`;
      });
      found = loaded.found;
      note.textContent = loaded.note;
      slider.max = found.length - 1;
      load.hidden = true;
    } catch (error) {
      said.textContent = `The steps of training can't be loaded here: ${error.message.replace(/\.$/, "")}.`;
      load.disabled = false;
      failed = true;
    }
    loading = false;
    if (found && shown) show(shown);
  }

  function draw() {
    const at = place();
    drawCurve(curve, {
      known,
      count: found.length,
      now: at,
      classes,
      ticks: [0, Math.floor(found.length / 2), found.length - 1].map((i) => [i, `step ${found[i].step}`]),
    });
    if (known.length < found.length) return void (tips.textContent = "Computing…");
    const runs = stretches(known.map(mostOf));
    const last = runs.pop();
    const stepAt = (i) => found[i].step;
    const when = ({ from, to }) => (from === to ? `at ${stepAt(from)}` : `from ${stepAt(from)} to ${stepAt(to)}`);
    const before = runs.map((run) => `${classes[run.said]} ${when(run)}`).join(", ");
    tips.textContent = before
      ? `From step ${found[last.from].step} on, the answer is ${classes[last.said]}; before that it was ${before}.`
      : `From the first of these steps on, the answer is ${classes[last.said]}.`;
    curve.setAttribute("aria-label", tips.textContent);
  }
  function place() {
    // of the step on show; the last where none is asked for
    const at = found.findIndex(({ step }) => step === shown.state.step);
    return at < 0 ? found.length - 1 : at;
  }

  function show(view) {
    shown = view;
    const { pixels, result, state } = view;
    load.hidden = !snapshots || Boolean(found);
    parts.hidden = !found || !result;
    if (!snapshots)
      return void (said.textContent = "This page holds the trained weights alone; draw_page(model, path, run=…) takes steps of its training along.");
    if (!found) {
      if (!loading && !failed) said.textContent = "The weights of some steps of training are unpacked when you ask.";
      if (state.step !== null && !failed) start(); // the link asked
      return;
    }
    if (!result) {
      work.stop();
      asked = null;
      return void (said.textContent = "Nothing is drawn yet, so there is nothing to follow.");
    }
    const { off, empty } = state,
      at = place(),
      { step, model } = found[at],
      seen = host.forward(pixels, { off, empty, model });
    const probs = shares(seen.logits),
      first = mostOf(probs);
    slider.value = at;
    slider.setAttribute("aria-valuetext", (text.textContent = `step ${step}`));
    bars.show(probs);
    said.textContent = `At step ${step} the answer is ${classes[first]}, ${percent(probs[first])}.`;
    const layer = Math.min(state.layer, model.depth - 1),
      head = state.head !== null && state.head < model.heads ? state.head : null;
    const values = attentionOf(model, seen, { ...state, layer, head }),
      image = asImage(model, pixels);
    drawMap(begin(map, image, 0, 336).c, image, 0, [model.rows, model.columns], values, scaleOf(values), 0);
    mapTitle.textContent = `Layer ${layer}, ${head === null ? "mean of all heads" : `head ${head}`}, at step ${step}`;
    map.setAttribute("aria-label", `Attention: ${mapTitle.textContent}`);
    const words = JSON.stringify([[...pixels], off, empty]);
    if (words !== asked) {
      asked = words;
      known = [];
      work.start(
        found.length,
        (i) => known.push(shares(host.forward(pixels, { off, empty, model: found[i].model }).logits)),
        draw,
      );
    }
    draw();
  }

  return {
    name: "training",
    title: "Through training",
    about: "The same drawing at some steps of training: when was it learned, and what was looked at?",
    node: h("div", { class: "panel" }, said, load, parts, note),
    show,
  };
}
