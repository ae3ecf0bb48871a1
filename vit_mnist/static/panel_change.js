// Panel: what the answer is without some heads, without a whole layer, without some patches.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { begin, drawGrid, drawImage } from "./canvas.js";
import { shares } from "./model.js";
import { asImage, mostOf, queryOf, tokenName } from "./tokens.js";
import { classBars } from "./bars.js";
import { board } from "./board.js";
import { isOff } from "./state.js";

export function changePanel(host) {
  const { model } = host,
    { depth, heads, patches, rows, columns, classes } = model;
  let state = { off: [], empty: [] };
  const place = (i) => [Math.floor(i / heads), i % heads];
  const headBoard = board({
    rows: depth,
    columns: heads,
    label: "Heads: a row for each layer",
    text: (i) => String(i % heads),
    name: (i) => `Layer ${place(i)[0]}, head ${place(i)[1]}`,
    press: (i) => {
      const [layer, head] = place(i);
      host.set({
        off: isOff({ off: state.off, layer }, head)
          ? state.off.filter(([l, one]) => l !== layer || one !== head)
          : [...state.off, [layer, head]],
      });
    },
  });
  const layerBoard = board({
    rows: depth,
    columns: 1,
    label: "Whole layers",
    text: (layer) => `layer ${layer}`,
    name: (layer) => `All heads of layer ${layer}`,
    press: (layer) => {
      const others = state.off.filter(([l]) => l !== layer),
        all = Array.from({ length: heads }, (_, head) => [layer, head]);
      host.set({ off: state.off.length - others.length === heads ? others : [...others, ...all] });
    },
  });
  const patchBoard = board({
    rows,
    columns,
    label: "Patches of the drawing",
    name: (i) => tokenName(model, model.cls + i).replace("p", "P"),
    press: (i) =>
      host.set({
        empty: state.empty.includes(i)
          ? state.empty.filter((one) => one !== i)
          : [...state.empty, i].sort((a, b) => a - b),
      }),
  });
  const canvas = h("canvas", { "aria-hidden": "true" }),
    bars = classBars(classes, "Probability of each class, before and after");
  const said = h("p", { class: "panel-said", "aria-live": "polite" });
  const allOn = h("button", { "data-change": "heads", onclick: () => host.set({ off: [] }) }, "All heads on");
  const allFull = h("button", { "data-change": "patches", onclick: () => host.set({ empty: [] }) }, "All patches back");
  const part = (title, ...inside) => h("section", {}, h("h4", {}, title), ...inside);
  const boards = h(
    "div",
    { class: "change-parts" },
    part("Heads", h("div", { class: "change-heads" }, layerBoard.node, headBoard.node), allOn),
    part(
      "Patches",
      h(
        "div",
        { class: "change-patches", style: `aspect-ratio: ${model.width} / ${model.height}` },
        canvas,
        patchBoard.node,
      ),
      allFull,
    ),
    part("Before and after", bars.node),
  );

  return {
    name: "change",
    title: "Switch off, empty",
    about: "Press a head or a layer to switch it off and a patch to empty it; lines in the bars show what was before.",
    node: h("div", { class: "panel" }, said, boards),
    show({ pixels, result, whole, state: stands }) {
      state = stands;
      const { off, empty } = state,
        changed = off.length + empty.length > 0;
      headBoard.show((i) => !isOff({ off, layer: place(i)[0] }, place(i)[1]));
      layerBoard.show((layer) => off.filter(([l]) => l === layer).length < heads);
      patchBoard.show((i) => !empty.includes(i));
      allOn.disabled = !off.length;
      allFull.disabled = !empty.length;
      bars.show(result && shares(result.logits), result && changed ? shares(whole.logits) : null);
      const image = asImage(model, pixels ?? new Uint8Array(model.width * model.height)),
        { c, pixel } = begin(canvas, image, 0, 336);
      drawImage(c, image, 0);
      drawGrid(c, image, 0, [rows, columns], pixel);
      if (!result) return void (said.textContent = "Nothing is drawn yet, so there is nothing to change.");
      const after = shares(result.logits),
        before = shares(whole.logits),
        first = mostOf(after),
        old = mostOf(before);
      const parts = [
        off.length && `${off.length} of ${depth * heads} heads off`,
        empty.length && `${empty.length} of ${patches} patches empty`,
      ].filter(Boolean);
      said.textContent = !changed
        ? `Nothing is off: the answer is ${classes[first]}, ${percent(after[first])}.`
        : `With ${parts.join(" and ")} the answer is ${first === old ? "still " : ""}${classes[first]}, ` +
          `${percent(after[first])}; ` +
          (first === old
            ? `before it had ${percent(before[old])}.`
            : `before it was ${classes[old]}, ${percent(before[old])}.`);
    },
  };
}
