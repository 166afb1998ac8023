"use strict";
// Draws a card into an element laid out as in page.html. What comes from outside is set as text, never as markup.

const SHEET = 1024, COLUMNS = 32; // thumbnails of a sprite sheet, and of a line of it, as page.py makes them
const PER_PAGE = 24, REAL = "real", KINDS = ["true", "predicted"];

const builder = (create) => (tag, attributes = {}, ...children) => {
  const node = create(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
};
const html = builder((tag) => document.createElement(tag));
const svg = builder((tag) => document.createElementNS("http://www.w3.org/2000/svg", tag));

/** A value as a reader sees it; `name` is its column. */
function shown(name, value) {
  if (value === null || value === undefined || value === "") return "not measured";
  if (typeof value !== "number") return String(value);
  const count = /^(m|images|neuron)\b/.test(name);
  const digits = count ? (Number.isInteger(value) ? 0 : 1) : /^accuracy/.test(name) ? 1 : 4;
  return value.toFixed(digits).replace("-", "−");
}

function table(label, heads, rows) {
  const cell = (value, column) => {
    const kind = typeof value === "number" ? "number" : value === null ? "number missing" : "";
    return html(column ? "td" : "th", column ? { class: kind } : { scope: "row" }, shown(heads[column], value));
  };
  const numeric = (column) => column > 0 && rows.some((row) => typeof row[column] === "number");
  const head = heads.map((name, column) => html("th", { scope: "col", class: numeric(column) ? "number" : "" }, name));
  const body = rows.map((row) => html("tr", {}, ...row.map(cell)));
  return html("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": label },
    html("table", {}, html("thead", {}, html("tr", {}, ...head)), html("tbody", {}, ...body)));
}

const rowsOf = (columns) => {
  const names = Object.keys(columns);
  return names.length ? columns[names[0]].map((_, i) => names.map((name) => columns[name][i])) : [];
};

function fill(select, entries, chosen) {
  select.replaceChildren(...entries.map(([value, text]) => html("option", { value }, text)));
  select.value = chosen;
}

/** The range of an axis that holds these numbers, and zero. */
function span(values) {
  const known = values.filter((value) => value !== null);
  const low = known.reduce((a, b) => Math.min(a, b), 0), high = known.reduce((a, b) => Math.max(a, b), 0);
  const edge = 0.04 * (high - low) || 0.5;
  return [low && low - edge, high + edge];
}

const place = (value, [low, high]) => `${((100 * (value - low)) / (high - low)).toFixed(3)}%`;

function ticks([low, high]) {
  const rough = (high - low) / 5, power = 10 ** Math.floor(Math.log10(rough));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= rough);
  const digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const first = Math.ceil(low / step - 1e-9), count = Math.floor(high / step + 1e-9) - first + 1;
  return Array.from({ length: count }, (_, i) => [(first + i) * step, ((first + i) * step).toFixed(digits)]);
}

function axis(domain, label) {
  const marks = ticks(domain).map(([value, text]) => svg("text", { x: place(value, domain), y: 12 }, text));
  return svg("svg", { class: "axis", height: 32, "aria-hidden": "true" }, ...marks, svg("text", { x: "50%", y: 28 }, label));
}

const grid = (domain, height) =>
  ticks(domain).map(([value]) => svg("line", { class: "grid", x1: place(value, domain), x2: place(value, domain), y1: 0, y2: height }));

/** A circle for real images, a square for others; filled by true labels, hollow by predicted ones. */
function symbol({ set, kind }, x, y) {
  const style = `mark ${set === REAL ? "real" : "other"} ${kind}`;
  const shape = set === REAL ? svg("circle", { r: 4, class: style }) : svg("rect", { x: -3.5, y: -3.5, width: 7, height: 7, class: style });
  return svg("svg", { x, y, overflow: "visible" }, shape);
}

/** One line a mark: its interval, its symbol, and a tick at its chance level. */
function strip(marks, domain) {
  const line = 11, told = marks.map(({ set, kind, value, low, high, chance }) =>
    `${set}, ${kind} labels: U ${shown("U", value)}` +
    (low === null ? "" : ` (${shown("U", low)} to ${shown("U", high)})`) +
    (chance === null ? "" : `, chance ${shown("U", chance)}`));
  const picture = svg("svg", { class: "strip", role: "img", height: line * marks.length + 4 }, svg("title", {}, told.join("\n")));
  picture.append(...grid(domain, line * marks.length + 4));
  marks.forEach((mark, i) => {
    const y = line * (i + 0.5) + 2, at = (value) => place(value, domain);
    if (mark.chance !== null) picture.append(svg("line", { class: "chance", x1: at(mark.chance), x2: at(mark.chance), y1: y - 5, y2: y + 5 }));
    if (mark.low !== null) picture.append(svg("line", { class: `interval ${mark.set === REAL ? "real" : "other"}`, x1: at(mark.low), x2: at(mark.high), y1: y, y2: y }));
    if (mark.value !== null) picture.append(symbol(mark, at(mark.value), y));
  });
  return picture;
}

function neuronCard(root, card) {
  const { neurons, layers, tops, pictures } = card;
  const part = (name) => root.querySelector(`[data-part="${name}"]`);
  const names = [...new Set([...layers.layer, ...neurons.layer])];
  const sets = [...new Set(layers.set)].filter((set) => set !== REAL);
  const state = {
    layer: names.at(-1) ?? "", compare: sets.includes("FGSM") ? "FGSM" : sets[0], kind: "true", words: "", sort: "U", down: true, page: 0,
  };
  let order = [], open = -1;

  const place_of = new Map(layers.layer.map((layer, i) => [JSON.stringify([layer, layers.set[i], layers.labels[i]]), i]));
  const ofLayer = (layer, set, kind, column) => layers[column]?.[place_of.get(JSON.stringify([layer, set, kind]))] ?? null;
  // A set's columns may have a short name: "U noise" for the set "sign noise, same size".
  const shorts = Object.keys(neurons).filter((name) => name.startsWith("m ")).map((name) => name.slice(2));
  const short = (set) => shorts.find((name) => name === set) ?? shorts.find((name) => set.includes(name)) ?? set;
  const column = (what, set, kind = "true") => [what, ...(set === REAL ? [] : [short(set)]), ...(kind === "true" ? [] : [kind])].join(" ");
  const ofNeuron = (i, ...how) => neurons[column(...how)]?.[i] ?? null;
  const compared = () => [REAL, state.compare].filter(Boolean);
  const pairs = () => compared().flatMap((set) => KINDS.map((kind) => ({ set, kind })));
  const title = (i) => `${neurons.layer[i]}/${neurons.neuron[i]}`;
  const link = (i) => `#${encodeURIComponent(neurons.layer[i])}/${neurons.neuron[i]}`;

  const layerMarks = (layer) => pairs().map(({ set, kind }) => {
    const [value, low, high, chance] = ["U", "U low", "U high", "U chance"].map((name) => ofLayer(layer, set, kind, name));
    return { set, kind, value, low, high, chance };
  });
  const neuronMarks = (i) => pairs().map(({ set, kind }) => {
    const own = set === REAL && kind === "true";
    const [low, high] = ["U low", "U high"].map((name) => (own ? neurons[name]?.[i] ?? null : null));
    return { set, kind, value: ofNeuron(i, "U", set, kind), low, high, chance: ofLayer(neurons.layer[i], set, kind, "U chance") };
  });

  function drawLayers() {
    const all = names.map(layerMarks), domain = span(all.flat().flatMap(({ value, low, high, chance }) => [value, low, high, chance]));
    const key = (mark, text) => html("li", {}, svg("svg", { width: 16, height: 12, "aria-hidden": "true" }, mark), text);
    part("legend").replaceChildren(
      ...pairs().map((pair) => key(symbol(pair, 8, 6), `${pair.set}, ${pair.kind} labels`)),
      key(svg("line", { class: "interval", x1: 1, x2: 15, y1: 6, y2: 6 }), "interval of 95 %"),
      key(svg("line", { class: "chance", x1: 8, x2: 8, y1: 1, y2: 11 }), "chance"));
    part("layers").replaceChildren(...names.map((layer, i) => {
      const button = html("button", { type: "button", class: "layer", "aria-pressed": layer === state.layer }, html("span", {}, layer), strip(all[i], domain));
      button.addEventListener("click", () => choose(layer === state.layer ? "" : layer));
      return button;
    }), html("div", { class: "layer" }, html("span"), axis(domain, "U, mean over neurons")));
  }

  function drawSpread() {
    const chosen = neurons.layer.map((_, i) => i).filter((i) => !state.layer || neurons.layer[i] === state.layer);
    const found = compared().map((set) => ({
      set, values: chosen.map((i) => ofNeuron(i, "U", set, state.kind)).filter((value) => value !== null),
      chance: ofLayer(state.layer || names.at(-1), set, state.kind, "U chance"),
    }));
    const domain = span(found.flatMap(({ values, chance }) => [...values, chance])), bins = 40, height = 90;
    for (const one of found) {
      one.counts = Array(bins).fill(0);
      for (const value of one.values) one.counts[Math.min(bins - 1, Math.floor((bins * (value - domain[0])) / (domain[1] - domain[0])))]++;
    }
    const most = Math.max(1, ...found.flatMap(({ counts }) => counts));
    part("spread-of").textContent = ` in ${state.layer || "all layers"}`;
    part("spread").replaceChildren(...found.map(({ set, values, chance, counts }) => {
      const median = values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)];
      const told = `${set}: ${values.length} of ${chosen.length} neurons measured, median U ${shown("U", median)}, chance ${shown("U", chance)}`;
      const bars = counts.map((count, i) => svg("rect", {
        class: `bar ${set === REAL ? "real" : "other"}`, x: `${(100 * i) / bins}%`, width: `${90 / bins}%`, y: height - (height * count) / most, height: (height * count) / most,
      }));
      const picture = svg("svg", { role: "img", class: "histogram", height }, svg("title", {}, told), ...grid(domain, height), ...bars);
      picture.append(svg("text", { class: "most", x: "100%", y: 11 }, `top of the picture: ${most} neurons`));
      if (chance !== null) picture.append(svg("line", { class: "chance", x1: place(chance, domain), x2: place(chance, domain), y1: 0, y2: height }));
      return html("figure", {}, html("figcaption", {}, told), picture);
    }), axis(domain, `U of a neuron, by ${state.kind} labels`));
  }

  /** A thumbnail with what it is in words; its caption is the class that the network predicts. */
  function picture(set, index, whole) {
    const [tile, file, truth, predicted] = pictures[set][index];
    const thumb = html("span", { class: tile === null ? "thumb" : `thumb sheet${Math.floor(tile / SHEET)}`, role: "img", "aria-label": `${file || `image ${index}`}, ${set}` });
    thumb.style.setProperty("--column", (tile ?? 0) % COLUMNS);
    thumb.style.setProperty("--line-of-sheet", Math.floor(((tile ?? 0) % SHEET) / COLUMNS));
    const said = html("span", { class: predicted === truth ? "" : "wrong" }, predicted === truth ? predicted : `✗ ${predicted}`);
    const lines = whole ? [html("span", { class: "file" }, file), html("span", {}, `true: ${truth}`), html("span", { class: said.className }, `predicted: ${predicted}`)] : [said];
    return html("figure", { title: `${file}\ntrue: ${truth}\npredicted: ${predicted}` }, thumb, html("figcaption", {}, ...lines));
  }

  const gallery = (i, whole) => Object.keys(tops).flatMap((set) => {
    const found = tops[set][i].filter((index) => index >= 0).slice(0, whole ? undefined : 5);
    const head = `strongest, ${set}` + (whole ? "" : "; predicted as");
    return [html("p", { class: "of" }, head), html("div", { class: "pictures" }, ...(found.length ? found.map((index) => picture(set, index, whole)) : ["none fires"]))];
  });

  const numbers = (i, shownSets) => table(`Numbers of ${title(i)}`, ["set", "U, true labels", "U, predicted", "m"],
    shownSets.map((set) => [set, ...KINDS.map((kind) => ofNeuron(i, "U", set, kind)), ofNeuron(i, "m", set)]));

  const numeric = Object.keys(neurons).filter((name) => name !== "layer" && neurons[name].every((value) => value === null || typeof value === "number"));
  const textual = Object.keys(neurons).filter((name) => name !== "layer" && !numeric.includes(name));
  const minus = (one, other) => [`${one} − ${other}`, (i) => (neurons[one][i] === null || neurons[other][i] === null ? null : neurons[one][i] - neurons[other][i])];
  const differences = [["U", "U chance"], ...sets.flatMap((set) => KINDS.map((kind) => [column("U", REAL, kind), column("U", set, kind)]))];
  const sorts = new Map([
    ...numeric.map((name) => [name, (i) => neurons[name][i]]),
    ...differences.filter((names) => names.every((name) => name in neurons)).map((names) => minus(...names)),
  ]);
  const text = neurons.layer.map((_, i) => [title(i), ...textual.map((name) => neurons[name][i] ?? "")].join("\n").toLowerCase());

  function drawNeurons() {
    const value = sorts.get(state.sort) ?? (() => null), sign = state.down ? -1 : 1;
    const wanted = state.words.toLowerCase().split(/\s+/).filter(Boolean);
    const fits = (i) => wanted.every((word) => (/^\d+$/.test(word) ? String(neurons.neuron[i]) === word : text[i].includes(word)));
    const keys = neurons.layer.map((_, i) => value(i));
    order = neurons.layer.map((_, i) => i).filter((i) => (!state.layer || neurons.layer[i] === state.layer) && fits(i));
    order.sort((a, b) => (keys[a] === null) - (keys[b] === null) || sign * (keys[a] - keys[b]) || a - b);
    const pages = Math.max(1, Math.ceil(order.length / PER_PAGE));
    state.page = Math.min(Math.max(state.page, 0), pages - 1);
    const first = state.page * PER_PAGE, here = order.slice(first, first + PER_PAGE);
    const domain = span(here.flatMap(neuronMarks).flatMap(({ value: u, low, high, chance }) => [u, low, high, chance]));
    part("cards").replaceChildren(...here.map((i) => html("li", {},
      html("h3", {}, html("a", { href: link(i) }, title(i))), ...(/^U( predicted)?$|^m$/.test(state.sort) ? [] : [html("p", { class: "key" }, `${state.sort}: ${shown(state.sort, keys[i])}`)]),
      strip(neuronMarks(i), domain), numbers(i, compared()), ...textual.filter((name) => !name.startsWith("top ")).map((name) => html("p", { class: "classes" }, neurons[name][i] ?? "")), ...gallery(i, false))));
    part("status").textContent = order.length ? `${first + 1} to ${first + here.length} of ${order.length} neurons` : "No neuron fits.";
    for (const name of ["previous", "previous-below"]) part(name).disabled = state.page === 0;
    for (const name of ["next", "next-below"]) part(name).disabled = state.page === pages - 1;
    part("direction").textContent = state.down ? "largest first" : "smallest first";
  }

  function show(i) {
    if (!order.includes(i)) choose(neurons.layer[i], "");
    open = i;
    const rest = numeric.filter((name) => !/^(neuron|m|U)$|^m |^U .*predicted$/.test(name) && !sets.some((set) => name === column("U", set)));
    part("neuron").replaceChildren(html("h2", {}, title(i)), strip(neuronMarks(i), span(neuronMarks(i).flatMap(({ value, low, high, chance }) => [value, low, high, chance]))),
      numbers(i, [REAL, ...sets]),
      html("dl", { class: "facts" }, ...[...rest, ...textual].filter((name) => !name.startsWith("top ")).flatMap((name) => [html("dt", {}, name), html("dd", {}, shown(name, neurons[name][i]))])),
      ...gallery(i, true));
    part("before").disabled = order.indexOf(i) <= 0;
    part("after").disabled = order.indexOf(i) === order.length - 1;
    if (!part("dialog").open) part("dialog").showModal();
    part("dialog").scrollTop = 0;
  }

  function follow() {
    let wanted = location.hash.slice(1);
    try { wanted = decodeURIComponent(wanted); } catch { /* no encoding of ours: it names no neuron */ }
    const i = neurons.layer.findIndex((_, at) => title(at) === wanted);
    if (i >= 0) return show(i);
    part("dialog").close();
    if (wanted) part("status").textContent = `There is no neuron ${wanted}.`;
  }

  function choose(layer, words = state.words) {
    Object.assign(state, { layer, words, page: 0 });
    part("layer").value = layer;
    part("search").value = words;
    part("layers").querySelectorAll("button").forEach((button, i) => button.setAttribute("aria-pressed", names[i] === layer));
    drawSpread();
    drawNeurons();
  }

  const turn = (by) => { state.page += by; drawNeurons(); };
  const step = (by) => {
    const i = order[order.indexOf(open) + by];
    history.replaceState(null, "", link(i));
    show(i);
  };
  const on = (name, event, action) => part(name).addEventListener(event, action);

  part("title").textContent = card.title;
  part("reading").textContent = card.reading;
  part("facts").append(...card.facts.flatMap(([term, what]) => [html("dt", {}, term), html("dd", {}, what)]));
  part("accuracy").append(table("Accuracy", ["set", "images", "accuracy, %", "low", "high"], rowsOf(card.accuracy)));
  part("layer-table").append(table("Layers", Object.keys(layers), rowsOf(layers)));
  fill(part("compare"), sets.map((set) => [set, set]), state.compare);
  part("compare-label").hidden = !sets.length;
  fill(part("layer"), [["", "all"], ...names.map((name) => [name, name])], state.layer);
  fill(part("sort"), [...sorts.keys()].map((name) => [name, name]), state.sort);
  on("compare", "change", ({ target }) => { state.compare = target.value; drawLayers(); drawSpread(); drawNeurons(); });
  on("labels", "change", ({ target }) => { state.kind = target.value; drawSpread(); });
  on("layer", "change", ({ target }) => choose(target.value));
  on("search", "input", ({ target }) => { state.words = target.value; state.page = 0; drawNeurons(); });
  on("sort", "change", ({ target }) => { state.sort = target.value; state.page = 0; drawNeurons(); });
  on("direction", "click", () => { state.down = !state.down; state.page = 0; drawNeurons(); });
  for (const [name, by] of [["previous", -1], ["next", 1]]) {
    on(name, "click", () => turn(by));
    on(`${name}-below`, "click", () => { turn(by); part("status").scrollIntoView(); });
  }
  on("before", "click", () => step(-1));
  on("after", "click", () => step(1));
  on("dialog", "close", () => history.replaceState(null, "", location.href.split("#")[0]));
  addEventListener("hashchange", follow);
  drawLayers();
  drawSpread();
  drawNeurons();
  follow();
}

neuronCard(document.querySelector(".neuron-card"), JSON.parse(document.getElementById("neuron-card-data").textContent));
