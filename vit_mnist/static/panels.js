// The panels of the page, in the order of their tabs.

import { layersPanel } from "./panel_layers.js";
import { apartPanel } from "./panel_apart.js";
import { changePanel } from "./panel_change.js";
import { movePanel } from "./panel_move.js";
import { whyPanel } from "./panel_why.js";
import { trainingPanel } from "./panel_training.js";

export const PANELS = [layersPanel, apartPanel, changePanel, movePanel, whyPanel, trainingPanel];
export const PANEL_NAMES = ["layers", "apart", "change", "move", "why", "training"];
