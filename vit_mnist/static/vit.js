// A Vision Transformer in one file: the forward pass of vit-pytorch's plain `ViT`, without a library.
//
// A digit is cut into patches, each patch becomes a token (a row of numbers), tokens look at each other in several
// layers, and one of them names the digit. Every table of numbers is one flat Float32Array, row after row. A shape is
// written in brackets: [tokens, dim] has a row of `dim` numbers for each token.

// ---- 1. Products
// Nearly all the work is this: out[i, j] = the sum over k of a[i, k] b[j, k]. A linear layer is such a product (b has a
// row for each output), and so are queries with keys. Two rows of a meet four of b at once, because a number that has
// been fetched is then used several times. Past the end, the last row is computed again, which changes nothing.

export function product(out, a, b, rows, columns, inner, bias = null, stride = columns) {
  for (let j = 0; j < columns; j += 4) {
    const last = columns - 1, j1 = Math.min(j + 1, last), j2 = Math.min(j + 2, last), j3 = Math.min(j + 3, last);
    const b0 = j * inner, b1 = j1 * inner, b2 = j2 * inner, b3 = j3 * inner;
    const c0 = bias ? bias[j] : 0, c1 = bias ? bias[j1] : 0, c2 = bias ? bias[j2] : 0, c3 = bias ? bias[j3] : 0;
    for (let i = 0; i < rows; i += 2) {
      const next = Math.min(i + 1, rows - 1), a0 = i * inner, a1 = next * inner, s = i * stride, t = next * stride;
      let s0 = c0, s1 = c1, s2 = c2, s3 = c3, t0 = c0, t1 = c1, t2 = c2, t3 = c3;
      for (let k = 0; k < inner; k++) {
        const x = a[a0 + k], y = a[a1 + k], w0 = b[b0 + k], w1 = b[b1 + k], w2 = b[b2 + k], w3 = b[b3 + k];
        s0 += x * w0; s1 += x * w1; s2 += x * w2; s3 += x * w3;
        t0 += y * w0; t1 += y * w1; t2 += y * w2; t3 += y * w3;
      }
      out[s + j] = s0; out[s + j1] = s1; out[s + j2] = s2; out[s + j3] = s3;
      out[t + j] = t0; out[t + j1] = t1; out[t + j2] = t2; out[t + j3] = t3;
    }
  }
}

// ---- 2. Rows
// Three things happen to a row by itself. A LayerNorm shifts and stretches it to mean 0 and variance 1, then by what
// it has learned. The softmax makes shares of scores: none below 0, together 1. GELU, x times the share of a normal
// distribution that lies below x, bends the feed-forward network (erf by Abramowitz and Stegun, 7.1.26).

export function layerNorm(out, x, rows, dim, { weight, bias }) {
  for (let i = 0, at = 0; i < rows; i++, at += dim) {
    let mean = 0, variance = 0;
    for (let k = 0; k < dim; k++) mean += x[at + k];
    mean /= dim;
    for (let k = 0; k < dim; k++) variance += (x[at + k] - mean) * (x[at + k] - mean);
    const scale = 1 / Math.sqrt(variance / dim + 1e-5);
    for (let k = 0; k < dim; k++) out[at + k] = (x[at + k] - mean) * scale * weight[k] + bias[k];
  }
}

export function softmax(x, rows, columns, scale = 1) {
  for (let i = 0, at = 0; i < rows; i++, at += columns) {
    let most = -Infinity, sum = 0;
    for (let k = 0; k < columns; k++) most = Math.max(most, scale * x[at + k]);
    for (let k = 0; k < columns; k++) sum += x[at + k] = Math.exp(scale * x[at + k] - most);
    for (let k = 0; k < columns; k++) x[at + k] /= sum;
  }
  return x;
}

function gelu(x) {
  for (let i = 0; i < x.length; i++) {
    const z = Math.abs(x[i]) * Math.SQRT1_2, t = 1 / (1 + 0.3275911 * z);
    const rest = ((((1.061405429 * t - 1.453152027) * t + 1.421413741) * t - 0.284496736) * t + 0.254829592) * t;
    const erf = 1 - rest * Math.exp(-z * z);
    x[i] *= 0.5 * (1 + (x[i] < 0 ? -erf : erf));
  }
}

// ---- 3. Weights
// A safetensors file is 8 bytes that say how long the header is, the header (JSON: for each tensor its type, its shape
// and where it lies), then all numbers. float16 has 1 bit of sign, 5 of exponent and 10 of fraction.

function fromHalf(bits) {
  const sign = bits >> 15 ? -1 : 1, exponent = (bits >> 10) & 31, fraction = bits & 1023;
  if (exponent === 31) return fraction ? NaN : sign * Infinity;
  return sign * (exponent ? 2 ** (exponent - 25) * (1024 + fraction) : 2 ** -24 * fraction);
}

export function readSafetensors(bytes) {
  const damaged = (why) => new Error(`The weights are damaged: ${why}.`);
  const size = bytes.length < 8 ? NaN : Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  if (!(8 + size <= bytes.length)) throw damaged("the file ends before its header does");
  const start = 8 + size, tensors = new Map();
  let header = null;
  try { header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, start))); } catch { /* said in the next line */ }
  if (typeof header !== "object" || header === null) throw damaged("their header can't be read");
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, data_offsets } = entry ?? {}, width = { F32: 4, F16: 2 }[dtype];
    if (!width) throw new Error(`The weights can't be read: ${name} is neither float32 nor float16.`);
    if (!Array.isArray(shape) || !Array.isArray(data_offsets)) throw damaged(`where ${name} lies is not said`);
    const [from, to] = data_offsets.map((offset) => start + offset);
    if (!(from >= start && to <= bytes.length)) throw damaged(`the file ends before ${name} does`);
    if (to - from !== width * shape.reduce((a, b) => a * b, 1)) throw damaged(`${name} is not of its shape`);
    const own = bytes.slice(from, to).buffer; // a copy, because numbers of 4 bytes begin at multiples of 4
    const values = width === 4 ? new Float32Array(own) : Float32Array.from(new Uint16Array(own), fromHalf);
    if (!values.every(Number.isFinite)) throw damaged(`${name} holds what is no number`);
    tensors.set(name, { shape, values });
  }
  return { tensors, metadata: header.__metadata__ ?? {} };
}

// ---- 4. The model
// `save_model` of the Python package writes how the model was built beside its weights. Each tensor is fetched by
// vit-pytorch's name for it, and must have the shape that follows from that.

const pair = (size) => (Array.isArray(size) ? size : [size, size]);

export class ViT {
  constructor(bytes) { // Uint8Array: the content of the file
    const { tensors, metadata } = readSafetensors(bytes);
    let spec = null;
    try { spec = JSON.parse(metadata.vit_mnist); } catch { /* said in the next line */ }
    const normalised = Number.isFinite(spec?.mean) && spec.std > 0;
    if (!spec?.args || !normalised || !Array.isArray(spec.classes)) throw new Error("The weights don't say what model they are of: write them with save_model.");
    if (spec.name !== "vit") throw new Error(`This page computes the model vit, not ${spec.name}.`);
    const { image_size, patch_size, num_classes, dim, depth, heads, mlp_dim } = spec.args;
    const { channels = 3, dim_head = 64, pool = "cls" } = spec.args; // vit-pytorch's defaults
    const [height, width] = pair(image_size), [patchHeight, patchWidth] = pair(patch_size);
    const rows = height / patchHeight, columns = width / patchWidth, patches = rows * columns;
    const sizes = [height, width, rows, columns, channels, num_classes, dim, depth, heads, dim_head, mlp_dim];
    if (!sizes.every((n) => Number.isInteger(n) && n > 0)) throw new Error("The weights name sizes that no model has.");
    const cls = pool === "cls" ? 1 : 0, pixels = channels * patchHeight * patchWidth, inner = heads * dim_head;
    Object.assign(this, { channels, height, width, patchHeight, patchWidth, rows, columns, patches, pixels, cls });
    Object.assign(this, { tokens: cls + patches, dim, depth, heads, dim_head, mlp_dim, num_classes });
    Object.assign(this, { classes: spec.classes, mean: spec.mean, std: spec.std });

    const take = (name, ...shape) => {
      const tensor = tensors.get(name), fits = tensor && String(tensor.shape) === String(shape);
      if (!fits) throw new Error(`The weights don't fit their model: ${name} must be [${shape.join(", ")}].`);
      tensors.delete(name);
      return tensor.values;
    };
    const norm = (name, n) => ({ weight: take(`${name}.weight`, n), bias: take(`${name}.bias`, n) });
    const linear = (name, n, m) => ({ weight: take(`${name}.weight`, n, m), bias: take(`${name}.bias`, n) });
    const embedding = "to_patch_embedding", mixes = heads > 1 || dim_head !== dim; // else heads are not mixed
    this.normPixels = norm(`${embedding}.1`, pixels);
    this.project = linear(`${embedding}.2`, dim, pixels);
    this.normPatches = norm(`${embedding}.3`, dim);
    this.classToken = take("cls_token", cls, dim);
    this.positions = take("pos_embedding", this.tokens, dim);
    this.layers = [];
    for (let i = 0; i < depth; i++) {
      const attend = `transformer.layers.${i}.0`, feedForward = `transformer.layers.${i}.1.net`;
      this.layers.push({
        norm1: norm(`${attend}.norm`, dim), qkv: take(`${attend}.to_qkv.weight`, 3 * inner, dim),
        out: mixes ? linear(`${attend}.to_out.0`, dim, inner) : null,
        norm2: norm(`${feedForward}.0`, dim), widen: linear(`${feedForward}.1`, mlp_dim, dim),
        narrow: linear(`${feedForward}.4`, dim, mlp_dim),
      });
    }
    this.norm = norm("transformer.norm", dim);
    this.classifier = linear("mlp_head", num_classes, dim);
    if (tensors.size) throw new Error(`The weights don't fit their model: it has no ${[...tensors.keys()][0]}.`);
    const buffer = (...shape) => new Float32Array(shape.reduce((a, b) => a * b)), n = this.tokens;
    this.cut = buffer(patches, pixels); // made once: what every image is computed in
    this.normed = buffer(n, dim); this.change = buffer(n, dim); this.wide = buffer(n, mlp_dim);
    this.mixed = buffer(n, inner); this.turned = buffer(dim_head, n);
  }

  // ---- 5. From pixels to tokens
  // Bytes are normalised as in training, floats count as normalised. A patch's pixels lie row by row, the channels of
  // a pixel side by side. An emptied patch has one shade, as where Python hides patches (occlusion); whether it is 0 or
  // black makes no difference, because a LayerNorm follows.

  embed(image, patches) {
    const { channels, height, width, patchHeight, patchWidth, columns, pixels, dim, cls, cut } = this;
    if (image.length !== channels * height * width) throw new Error(`An image has ${channels * height * width} numbers.`);
    const [scale, shift] = image instanceof Float32Array ? [1, 0] : [1 / (255 * this.std), this.mean / this.std];
    for (let c = 0, from = 0; c < channels; c++) for (let y = 0; y < height; y++) for (let x = 0; x < width; x++, from++) {
      const patch = Math.floor(y / patchHeight) * columns + Math.floor(x / patchWidth);
      const place = ((y % patchHeight) * patchWidth + (x % patchWidth)) * channels + c;
      const kept = !patches || patches[patch];
      cut[patch * pixels + place] = kept ? image[from] * scale - shift : 0;
    }
    const tokens = new Float32Array(this.tokens * dim), placed = tokens.subarray(cls * dim);
    layerNorm(cut, cut, this.patches, pixels, this.normPixels);
    product(placed, cut, this.project.weight, this.patches, dim, pixels, this.project.bias);
    layerNorm(placed, placed, this.patches, dim, this.normPatches);
    tokens.set(this.classToken);
    for (let i = 0; i < tokens.length; i++) tokens[i] += this.positions[i];
    return tokens;
  }

  // ---- 6. One layer
  // attention = softmax(queries keys' / sqrt(dim_head)); each token gets the mean of all values, weighted by its row.
  // A head's share in the result is multiplied by its number in `on`: 1 leaves it, 0 switches it off.

  attend(layer, x, on) {
    const { tokens: n, dim, heads, dim_head: d, mixed, turned, normed } = this, inner = heads * d;
    const [queries, keys, values] = [0, 1, 2].map(() => new Float32Array(heads * n * d));
    const attention = new Float32Array(heads * n * n);
    layerNorm(normed, x, n, dim, layer.norm1);
    for (let head = 0; head < heads; head++) {
      const own = (table, size) => table.subarray(head * size, (head + 1) * size);
      const [q, k, v] = [queries, keys, values].map((table) => own(table, n * d)), shares = own(attention, n * n);
      [q, k, v].forEach((part, i) => product(part, normed, own(layer.qkv.subarray(i * inner * dim), d * dim), n, d, dim));
      product(shares, q, k, n, n, d);
      softmax(shares, n, n, 1 / Math.sqrt(d));
      const kept = on ? on[head] : 1;
      for (let i = 0; i < n; i++) for (let j = 0; j < d; j++) turned[j * n + i] = kept * v[i * d + j];
      product(mixed.subarray(head * d), shares, turned, n, d, n, null, inner);
    }
    return { attention, queries, keys, values };
  }

  run(layer, x, on) { // what attention and the feed-forward network say is added to what was there
    const { tokens: n, dim, mlp_dim, mixed, normed, change, wide } = this, tokens = x.slice();
    const seen = this.attend(layer, x, on);
    if (layer.out) product(change, mixed, layer.out.weight, n, dim, mixed.length / n, layer.out.bias);
    else change.set(mixed);
    for (let i = 0; i < tokens.length; i++) tokens[i] += change[i];
    layerNorm(normed, tokens, n, dim, layer.norm2);
    product(wide, normed, layer.widen.weight, n, mlp_dim, dim, layer.widen.bias);
    gelu(wide);
    product(change, wide, layer.narrow.weight, n, dim, mlp_dim, layer.narrow.bias);
    for (let i = 0; i < tokens.length; i++) tokens[i] += change[i];
    return { ...seen, tokens };
  }

  // ---- 7. From tokens to an answer
  // The class token, or the mean of all tokens, is normed and read by a linear layer: a logit for each class. Read from
  // the tokens of an earlier layer, the same layer says what the model would answer if it ended there.

  read(tokens) {
    const { tokens: n, dim, normed, cls } = this, logits = new Float32Array(this.num_classes);
    layerNorm(normed, tokens, n, dim, this.norm);
    const said = Float32Array.from({ length: dim }, (_, k) => {
      if (cls) return normed[k];
      let sum = 0;
      for (let i = 0; i < n; i++) sum += normed[i * dim + k];
      return sum / n;
    });
    product(logits, said, this.classifier.weight, 1, this.num_classes, dim, this.classifier.bias);
    return logits;
  }

  forward(image, { heads = null, patches = null } = {}) { // heads: [layer][head], patches: [patch]; 0 is off
    const steps = [{ tokens: this.embed(image, patches) }];
    for (const [i, layer] of this.layers.entries()) steps.push(this.run(layer, steps[i].tokens, heads?.[i]));
    const answers = steps.map((step) => this.read(step.tokens)), layers = steps.slice(1);
    return {
      logits: answers.at(-1), // [classes]
      answers, // [depth + 1] of logits: of the embedded patches, then after each layer
      tokens: steps.map((step) => step.tokens), // [depth + 1] of [tokens, dim]
      attention: layers.map((step) => step.attention), // [depth] of [heads, tokens, tokens]
      queries: layers.map((step) => step.queries), // [depth] of [heads, tokens, dim_head], like keys and values
      keys: layers.map((step) => step.keys), values: layers.map((step) => step.values),
    };
  }
}
