// Panel: why 7 and not 1. One patch after the other is emptied, and what each class loses by it is measured.
//
// 1 + 49 forward passes: occlusion, as `explain(model, images, method="occlusion")` computes it in Python.

import { h } from "./dom.js";
import { diverging } from "./colours.js";
import { begin, drawMap } from "./canvas.js";
import { asImage, mostOf, queryOf } from "./tokens.js";
import { slices } from "./slices.js";

const logit = (x) => `${x < 0 ? "−" : "+"}${Math.abs(x).toFixed(1)}`;

// The two that are compared: those asked for; else the answer, and the strongest of the others.
export function compared(logits, target, other) {
  const ranked = Array.from(logits, (x, i) => i).sort((a, b) => logits[b] - logits[a]);
  const first = target ?? ranked.find((i) => i !== other);
  return [first, other !== null && other !== first ? other : ranked.find((i) => i !== first)];
}

// What a class loses when a patch is emptied, a number for each patch.
export function lossOf(whole, without, target) {
  return Float32Array.from(without, (logits) => whole[target] - logits[target]);
}

export function whyPanel(host) {
  const { model, data } = host,
    { classes, patches, rows, columns } = model,
    work = slices();
  let asked = null,
    shown = null,
    without = [];
  const choice = (name, label) => {
    const select = h(
      "select",
      { "data-why": name, onchange: (e) => host.set({ [name]: +e.target.value }) },
      ...classes.map((text, i) => h("option", { value: i }, text)),
    );
    return { select, node: h("label", { class: "panel-choice" }, label, select) };
  };
  const target = choice("target", "Why"),
    other = choice("other", "and not");
  const maps = ["first", "second", "difference"].map((key) => ({
    canvas: h("canvas", { role: "img" }),
    title: h("figcaption"),
    key,
  }));
  const figures = h(
    "div",
    { class: "why-maps" },
    ...maps.map(({ canvas, title, key }) => h("figure", { "data-why-map": key }, title, canvas)),
  );
  const ends = [h("span"), h("span"), h("span")];
  const scale = h(
    "div",
    { class: "why-scale panel-quiet" },
    h("i", { style: `background: ${diverging.css}` }),
    h("div", {}, ...ends),
  );
  const said = h("p", { class: "panel-said", "aria-live": "polite" }),
    progress = h("p", { class: "panel-quiet" });
  const trust = h(
    "section",
    { class: "why-trust" },
    h("h4", {}, "How far to trust it"),
    ...trustWords(data?.faithfulness).map((words) => h("p", {}, words)),
  );

  function draw() {
    const { whole } = asked,
      pair = compared(whole, shown.state.target, shown.state.other),
      [first, second] = pair.map((i) => classes[i]);
    const [one, two] = pair.map((i) => lossOf(whole, without, i)),
      difference = one.map((x, i) => x - two[i]);
    const most = Math.max(1e-9, ...[one, two, difference].flatMap((values) => Array.from(values, Math.abs)));
    const colours = { colour: (v) => diverging(0.5 + (0.5 * v) / most) };
    const titles = [`What ${first} loses`, `What ${second} loses`, `The lead of ${first} over ${second}`];
    const image = asImage(model, shown.pixels),
      left = Array(patches - without.length).fill(0);
    [one, two, difference].forEach((values, i) => {
      const { canvas, title } = maps[i];
      title.textContent = titles[i];
      drawMap(begin(canvas, image, 0, 280).c, image, 0, [rows, columns], [...values, ...left], colours, 0);
      canvas.setAttribute("aria-label", `${titles[i]} when a patch is emptied, by patch`);
    });
    ends.forEach((end, i) => {
      end.textContent = [`−${most.toFixed(1)}`, "logit", `+${most.toFixed(1)}`][i];
    });
    const done = without.length === patches;
    progress.textContent = done ? "" : `${without.length} of ${patches} patches…`;
    if (!done) return;
    const at = mostOf(difference),
      lead = whole[pair[0]] - whole[pair[1]],
      less = mostOf(difference.map((x) => -x));
    const where = (i) => `patch (${queryOf(model, model.cls + i).join(", ")})`;
    said.textContent =
      difference[at] <= 0
        ? `No patch speaks for ${first} rather than ${second}.`
        : `For ${first} rather than ${second} speaks most ${where(at)}: without it the lead of ${first}, ` +
          `${logit(lead)} logits, changes by ${logit(-difference[at])}.` +
          (difference[less] < 0
            ? ` Against it speaks most ${where(less)}: without it the lead changes by ${logit(-difference[less])}.`
            : "");
  }

  return {
    name: "why",
    get without() {
      return without; // logits without each patch, as far as they are computed
    },
    title: "Why this and not that",
    about: "One patch after the other is emptied: which of them does one class need more than the other?",
    node: h(
      "div",
      { class: "panel" },
      h("div", { class: "panel-choices" }, target.node, other.node),
      said,
      figures,
      scale,
      progress,
      trust,
    ),
    show(view) {
      shown = view;
      const {
        pixels,
        result,
        state: { target: one, other: two, off, empty },
      } = view;
      figures.hidden = scale.hidden = !result;
      if (!result) {
        work.stop();
        asked = null;
        progress.textContent = "";
        return void (said.textContent = "Nothing is drawn yet, so there is nothing to ask about.");
      }
      const pair = compared(result.logits, one, two);
      [target, other].forEach(({ select }, i) => {
        select.value = pair[i];
      });
      const words = JSON.stringify([[...pixels], off, empty]);
      if (asked?.words === words) return draw();
      asked = { words, whole: result.logits };
      without = [];
      said.textContent = "Computing…";
      work.start(patches, (i) => without.push(host.forward(pixels, { off, empty: [...empty, i] }).logits), draw);
    },
  };
}

// The measured faithfulness of the method: `faithfulness_facts` of the Python package, from its stored scores.
export function trustWords(facts) {
  if (!facts) return ["Nobody has measured how faithful these maps are."];
  const { between, chance, deletion, insertion, discrimination, images, models } = facts;
  const decimal = (x, digits) => x.toFixed(digits).replace(/^-(?=[0.]+$)/, "");
  const figure = ({ mean, low, high }, digits = 2) =>
    `${decimal(mean, digits)} (95\u00a0%: ${decimal(low, digits)} to ${decimal(high, digits)})`;
  return [
    `Measured on ${images.toLocaleString("en")} test images with ${models} trained models of the preset ` +
    `${facts.preset}: when patches are emptied in the order of such maps, ` +
      `the probability of the answer is on average ${figure(deletion)} on the way; when they are put back in that ` +
      `order, ${figure(insertion)}. ` +
      `Emptying the least important first, not the most important, keeps ${figure(between)} more; of maps made by ` +
      `chance, ${figure(chance)}.`,
    `Two classes, on ${facts.pairs} of these images: hiding what speaks for the second, and not what speaks for the ` +
    `first, leaves the first a lead larger by ${figure(discrimination, 1)} logits. ` +
      "Maps that are the same for both classes get 0.",
    "An emptied patch is black, which to the model is paper without ink. That is an image it may never have seen, " +
    "and other fills give other maps.",
  ];
}
