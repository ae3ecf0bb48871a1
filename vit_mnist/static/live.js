// An explorer that computes by itself, with a pad to draw on: <vit-attention> whose data hold the model, and a
// <vit-pad data-page> inside it, whose drawing is the image of that number.

import { VitAttention } from "./element.js";
import { prepareDigit } from "./digits.js";
import { VitPad } from "./draw.js";
import { addKind, define } from "./meet.js";
import { ModelSource } from "./model.js";

addKind("model", (data) => new ModelSource(data));
define("vit-attention", VitAttention);
define("vit-pad", VitPad);

const BLANK = new Uint8Array(784);

// Show what is drawn, made like the digits of MNIST.
function showDrawing(explorer, pad) {
  const image = Number(pad.dataset.page), step = pad.strokes.length ? prepareDigit(pad.pixels(), pad.side) : null;
  explorer.setImage(image, { title: "drawing", label: null, side: [28, 28], pixels: step?.pixels ?? BLANK });
  explorer.set({ image });
}

for (const pad of document.querySelectorAll("vit-attention > vit-pad[data-page]")) {
  pad.addEventListener("vit-drawing", () => showDrawing(pad.parentNode, pad));
}
