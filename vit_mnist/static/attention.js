// The explorer on a page and in a notebook: <vit-attention>, and the widget that ties it to a Python object.
//
// On any page the element finds its data inside it and needs no kernel and no network. In a notebook a widget of the
// same name has the kernel behind it. What you read is what runs; Python only joins the files into one script.

import { connect } from "./connect.js";
import { VitAttention } from "./element.js";
import { define, initializeFor } from "./meet.js";

define("vit-attention", VitAttention);

// Where the widget itself is shown: in another widget, and in Colab and VS Code.
function render({ model, el }) {
  const element = document.createElement("vit-attention");
  el.append(element);
  return connect(element, model);
}

export default { initialize: initializeFor("vit-attention"), render };
