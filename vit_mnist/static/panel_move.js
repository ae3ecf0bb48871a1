// Panel: the drawing moved, turned and grown; and along the whole range of a slider, where the answer tips.

import { h } from "./dom.js";
import { percent } from "./words.js";
import { begin, drawGrid, drawImage } from "./canvas.js";
import { shares } from "./model.js";
import { asImage, mostOf } from "./tokens.js";
import { classBars } from "./bars.js";
import { drawCurve, stretches } from "./curve.js";
import { slices } from "./slices.js";
import { isStill, LIMITS, STILL, transformImage } from "./transform.js";

const signed = (x) => (x > 0 ? `+${x}` : `${x}`.replace("-", "−"));
const pixelsOf = (x) => `${signed(x)} pixels`;
const SLIDERS = {
  // step: of the slider; each: of the curve; say: the value in words
  across: { label: "Move across", step: 1, each: 1, say: pixelsOf },
  down: { label: "Move down", step: 1, each: 1, say: pixelsOf },
  turn: { label: "Turn", step: 5, each: 15, say: (x) => `${signed(x)}°` },
  grow: { label: "Grow", step: 0.05, each: 0.05, say: (x) => `${x.toFixed(2)} times` },
};
function placesOf(name) {
  const [from, to] = LIMITS[name],
    { each } = SLIDERS[name];
  return Array.from({ length: Math.round((to - from) / each) + 1 }, (_, i) => +(from + i * each).toFixed(2));
}

export function movePanel(host) {
  const { model } = host,
    { classes } = model,
    work = slices();
  let shown = null,
    name = "turn",
    asked = null,
    known = [];
  const canvas = h("canvas", { role: "img", "aria-label": "The drawing as the model sees it" });
  const bars = classBars(classes, "Probability of each class, before and after");
  const said = h("p", { class: "panel-said", "aria-live": "polite" }),
    tips = h("p", { class: "panel-quiet", "data-move": "tips" });
  const curve = h("canvas", { class: "panel-curve", role: "img" }),
    title = h("h4");
  const back = h("button", { "data-move": "back", onclick: () => host.set({ move: STILL }) }, "As it was drawn");
  const rows = Object.entries(SLIDERS).map(([key, { label, step, say }]) => {
    const input = h("input", {
      type: "range",
      min: LIMITS[key][0],
      max: LIMITS[key][1],
      step,
      "aria-label": label,
      "data-move": key,
      onfocus: () => watch(key),
      oninput: (e) => {
        watch(key);
        host.set({ move: { ...shown.state.move, [key]: +(+e.target.value).toFixed(2) } });
      },
    });
    return { key, input, text: h("output"), label, say };
  });

  function watch(key) {
    // whose curve is shown: that of the slider used last
    if (key === name) return;
    name = key;
    if (shown) show(shown);
  }

  // The answer along the range of the slider, the other three where they are.
  function sweep(view) {
    const places = placesOf(name),
      { off, empty, move } = view.state,
      drawn = view.drawn ?? view.pixels;
    const words = JSON.stringify([name, { ...move, [name]: 0 }, off, empty, [...drawn]]);
    if (words !== asked) {
      asked = words;
      known = [];
      work.start(
        places.length,
        (i) => {
          const { logits } = host.forward(transformImage(drawn, { ...move, [name]: places[i] }), { off, empty });
          known.push(shares(logits));
        },
        () => draw(places),
      );
    }
    draw(places);
  }
  function draw(places) {
    const { say } = SLIDERS[name],
      value = shown.state.move[name];
    const now = places.findIndex((place) => Math.abs(place - value) <= SLIDERS[name].each / 2);
    drawCurve(curve, {
      known,
      count: places.length,
      now,
      classes,
      ticks: [0, (places.length - 1) / 2, places.length - 1].map((i) => [i, say(places[i])]),
    });
    if (known.length < places.length) return void (tips.textContent = "Computing…");
    const parts = stretches(known.map(mostOf)),
      range = ({ from, to }) => (from === to ? say(places[from]) : `${say(places[from])} to ${say(places[to])}`);
    tips.textContent =
      parts.length === 1
        ? `All along, the answer is ${classes[parts[0].said]}.`
        : `The answer tips ${parts.length - 1} ${parts.length > 2 ? "times" : "time"}: ` +
          `${parts.map((part) => `${range(part)} is ${classes[part.said]}`).join("; ")}.`;
    curve.setAttribute("aria-label", tips.textContent);
  }

  function show(view) {
    shown = view;
    const { pixels, result, state } = view,
      still = isStill(state.move);
    for (const { key, input, text, say } of rows) {
      input.value = state.move[key];
      input.setAttribute("aria-valuetext", (text.textContent = say(state.move[key])));
    }
    title.textContent = `${SLIDERS[name].label}: where the answer tips`;
    back.disabled = still;
    const image = asImage(model, pixels ?? new Uint8Array(784)),
      { c, pixel } = begin(canvas, image, 0, 336);
    drawImage(c, image, 0);
    drawGrid(c, image, 0, [model.rows, model.columns], pixel);
    bars.show(result && shares(result.logits));
    title.hidden = curve.hidden = tips.hidden = !result;
    if (!result) {
      work.stop();
      asked = null;
      return void (said.textContent = "Nothing is drawn yet, so there is nothing to move.");
    }
    const probs = shares(result.logits),
      first = mostOf(probs);
    said.textContent = `${still ? "As it was drawn" : "Moved so"}, the answer is ${classes[first]}, ` +
      `${percent(probs[first])}.`;
    sweep(view);
  }

  return {
    name: "move",
    title: "Move, turn, grow",
    about: "Move the drawing by the sliders; the curve shows the answer along the whole range of the one used last.",
    node: h(
      "div",
      { class: "panel" },
      said,
      h(
        "div",
        { class: "move-parts" },
        h(
          "section",
          {},
          ...rows.map(({ input, text, label }) => h("label", { class: "move-row" }, h("span", {}, label), input, text)),
          back,
          title,
          curve,
          tips,
        ),
        h("div", { class: "move-seen" }, canvas),
        bars.node,
      ),
    ),
    show,
  };
}
